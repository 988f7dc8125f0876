"""Numbers of a visit become words that name the threshold and what to do."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from edge import explain as explaining
from edge.commands.explain import _from_lines, command
from edge.errors import VisitUnknown
from edge.explain import Visit, explain, from_fields, from_json, to_json, visit_of
from edge.reading import reader
from edge.reading.fuse import VoteSettings
from edge.record import (
    Alternative,
    ClockQuality,
    Ending,
    Instant,
    NoRead,
    PlateReading,
    PlateText,
    Quality,
    ReadRecord,
)

GOOD = Visit(
    arrival_utc_ns=1_764_000_000_000_000_000,
    presence_ms=900,
    ending=Ending.LEFT,
    restarted=False,
    no_read=None,
    confidence=0.98,
    frames_seen=14,
    frames_used=12,
    frames_agreeing=12,
    plates_in_frame=1,
    speed_kmh=None,
    loop_faults=(),
    clock_synchronised=True,
    plate_height_px=32,
    sharpness=0.6,
    clipped_share=0.01,
    brightness=90,
    exposure_us=500,
    gain=2.0,
)


def words(visit: Visit) -> str:
    return "\n".join(f"{finding.found}: {finding.do}" for finding in explain(visit).findings)


def test_a_good_read_has_an_outcome_and_nothing_to_improve() -> None:
    explanation = explain(GOOD)
    assert explanation.outcome == "2025-11-24 16:00:00 UTC: read with confidence 0.98; 12 frames of 12 agreed."
    assert explanation.findings == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"no_read": "too-small", "plate_height_px": 14}, "plate height 14 px (needs 20): zoom in"),
        (
            {"no_read": "blurred", "sharpness": 0.1, "exposure_us": 4000},
            "sharpness 0.10 (needs 0.30) at 1/250 s: shorten the exposure to 1/833 s",
        ),
        ({"sharpness": 0.1, "exposure_us": 500}, "the exposure is short enough: focus"),
        ({"sharpness": 0.1, "exposure_us": None}, "sharpness 0.10 (needs 0.30): focus"),
        (
            {"exposure_us": 1000, "speed_kmh": 90},
            "exposure at 1/1000 s (at most 1/2500 s): shorten the exposure to 1/2500 s",
        ),
        ({"no_read": "bloomed", "clipped_share": 0.08}, "8% of the plate clipped (at most 5%): less infrared"),
        ({"presence_ms": 90}, "loop presence 90 ms (needs 150): raise the detector's sensitivity"),
        ({"no_read": "too-dark", "brightness": 12}, "frame brightness 12 of 255 (needs 35): more infrared light"),
        ({"frames_seen": 3, "no_read": "unsure"}, "only 3 frames (needs 5): raise the camera's frame rate"),
        ({"frames_seen": 3, "frames_agreeing": 3, "confidence": 0.6}, "only 3 frames (needs 5)"),
        ({"frames_seen": 2, "frames_agreeing": 2}, "only 2 frames (needs 5)"),
        ({"frames_seen": 1, "frames_agreeing": 1}, "only 1 frame (needs 5)"),
        ({"no_read": "camera-silent", "frames_seen": 0}, "no frame came: check the camera's power"),
        ({"no_read": "frames-damaged"}, "none of 14 frames could be decoded: check the network"),
        ({"no_read": "no-plate", "plate_height_px": None}, "no plate in 14 frames: check with `sealane aim`"),
        ({"plates_in_frame": 3}, "up to 3 plates in one frame: narrow roi"),
        ({"ending": "gate-time", "presence_ms": 120_000}, "still occupied after 120 s: look for a parked vehicle"),
        ({"ending": "next"}, "the next vehicle came before this one was seen to leave"),
        ({"ending": "fault", "loop_faults": (1,)}, "at fault or silent (loop 2): read the detector's own display"),
        ({"restarted": True}, "under way when the daemon started"),
        ({"clock_synchronised": False}, "the clock was not synchronised: check the time server"),
        ({"confidence": 0.7, "frames_agreeing": 7}, "only 7 of 12 frames agreed"),
        ({"no_read": "occluded"}, "look for dirt"),
    ],
)
def test_each_number_out_of_range_says_what_is_needed_and_what_to_do(change: dict[str, object], said: str) -> None:
    assert said in words(replace(GOOD, **change))  # type: ignore[arg-type]


def test_a_read_that_a_few_frames_settled_needed_no_more_of_them() -> None:
    few = dict.fromkeys(("frames_seen", "frames_used", "frames_agreeing"), explaining.SETTLED_FRAMES)
    assert explain(replace(GOOD, **few)).findings == ()
    assert VoteSettings().settle_frames == explaining.SETTLED_FRAMES
    assert VoteSettings().settle_probability > explaining.CONFIDENCE


def test_a_silent_camera_is_not_blamed_on_its_frame_rate() -> None:
    assert "frame rate" not in words(replace(GOOD, no_read="camera-silent", frames_seen=0))


@pytest.mark.parametrize("reason", list(NoRead))
def test_every_reason_has_words(reason: NoRead) -> None:
    assert explain(replace(GOOD, no_read=str(reason))).outcome.endswith(f"not read, {explaining._REASONS[reason]}.")


def test_what_is_needed_is_more_than_what_the_reader_refuses() -> None:
    assert explaining.PLATE_HEIGHT_PX > reader.TOO_SMALL_PX
    assert explaining.SHARPNESS > reader.BLURRED
    assert explaining.CLIPPED_SHARE < reader.BLOOMED_SHARE
    assert explaining.BRIGHTNESS > reader.TOO_DARK


def test_a_record_becomes_numbers_without_its_plate_and_they_go_through_json_unchanged() -> None:
    record = ReadRecord(
        passage_id=bytes(16),
        arrival=Instant(1_764_000_000_000_000_000, 5_000_000_000),
        departure=Instant(1_764_000_001_200_000_000, 6_200_000_000),
        ending=Ending.LEFT,
        restarted=False,
        clock=ClockQuality(True, 1.0, "gps"),
        reading=PlateReading(
            text=PlateText("CANARY7"),
            no_read=None,
            confidence=0.9,
            chars=(0.9,) * 7,
            alternatives=(Alternative(PlateText("CANARYT"), 0.1),),
            quality=Quality(plate_height_px=24.5),
        ),
        loop_faults=(1,),
    )
    visit = visit_of(record)
    line = json.dumps(to_json(visit))
    assert "CANARY" not in line
    assert from_json(json.loads(line)) == visit
    assert visit.presence_ms == 1200


@given(st.dictionaries(st.sampled_from(sorted(to_json(GOOD))), st.none() | st.text() | st.lists(st.none())) | st.text())
def test_anything_else_is_refused_with_a_code(value: object) -> None:
    with pytest.raises(VisitUnknown):
        from_json(value)


@pytest.mark.parametrize(
    "record", [{}, {"reading": None}, {"reading": {"quality": {}}, "arrival": {}, "departure": {}}]
)
def test_lines_of_another_kind_are_refused_with_a_code(record: dict[str, object]) -> None:
    with pytest.raises(VisitUnknown):
        from_fields(record)


@pytest.mark.parametrize(
    "change",
    [
        {"arrival_utc_ns": 10**30},
        {"arrival_utc_ns": -(10**30)},
        {"frames_seen": 10**4000},
        {"loop_faults": [10**4000]},
        {"confidence": 10**400},
    ],
)
def test_numbers_that_no_record_holds_are_refused_with_a_code(change: dict[str, object]) -> None:
    with pytest.raises(VisitUnknown):
        from_json(to_json(GOOD) | change)


def test_a_presence_that_no_number_holds_is_refused_with_a_code() -> None:
    instants = {"arrival": {"utc_ns": 1, "monotonic_ns": 0}, "departure": {"utc_ns": 1, "monotonic_ns": 10**400}}
    with pytest.raises(VisitUnknown):
        from_fields({"reading": {"quality": {}}, "clock": {"synchronised": True}, **instants})


@pytest.mark.parametrize("line", [b"[" * 60_000, b"1" * 5000, b"\xff\n", b"{}" * 40_000])
def test_a_line_that_is_not_json_is_refused_with_a_code(line: bytes) -> None:
    with pytest.raises(VisitUnknown):
        list(_from_lines(io.BytesIO(line + b"\n")))


TOO_SMALL = {
    "passage_id": "00" * 16,
    "arrival": {"utc_ns": GOOD.arrival_utc_ns, "monotonic_ns": 10},
    "departure": {"utc_ns": GOOD.arrival_utc_ns, "monotonic_ns": 900_000_010},
    "ending": "left",
    "restarted": False,
    "clock": {"synchronised": True, "bound_ms": 1.0, "source": ""},
    "speed_kmh": None,
    "loop_faults": [],
    "reading": {
        **{"text": None, "no_read": "too-small", "confidence": 0.0, "plates_in_frame": 1},
        **{"frames_seen": 9, "frames_used": 9, "frames_agreeing": 0},
        "quality": {
            **{"plate_height_px": 14.0, "sharpness": 0.5, "clipped_share": 0.0, "brightness": 90.0},
            **{"exposure_us": 500.0, "gain": None},
        },
    },
}
RECEIPT = {"event": "receipt", "lane": "north-1"}
CHECKPOINT = {"event": "message", "kind": "c", "record": {"outbox_depth": 0}}
SEALED = {"event": "message", "kind": "r", "record": None}
OPENED = {"event": "message", "kind": "r", "record": TOO_SMALL}


def explained(source: str, *lines: dict[str, object]) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [source], input="\n".join(map(json.dumps, lines)))


def test_lines_of_tail_become_words() -> None:
    result = explained("-", RECEIPT, CHECKPOINT, SEALED, OPENED)
    assert "not read, because the plate was too small" in result.output
    assert "plate height 14 px (needs 20)" in result.output


def test_a_file_of_lines_is_explained_as_what_is_piped_in(tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(json.dumps(OPENED))
    assert explained(str(tmp_path / "records.json")).output == explained("-", OPENED).output


@pytest.mark.parametrize("name", ["none.json", ""])
def test_a_file_that_cannot_be_read_is_refused_with_a_code(tmp_path: Path, name: str) -> None:
    assert isinstance(error := explained(str(tmp_path / name)).exception, VisitUnknown)
    assert str(tmp_path / name) in error.what


def test_reads_that_nobody_opened_are_not_taken_for_no_vehicle() -> None:
    error = explained("-", SEALED, CHECKPOINT, SEALED).exception
    assert str(error) == "CTL-05 none of 2 reads was opened"
    assert "--owner-key" in VisitUnknown.hint
    assert explained("-", RECEIPT, CHECKPOINT).output == "No read is among these lines.\n"
