import contextlib
import dataclasses
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import cbor, record
from edge.errors import RecordInvalid, RecordMalformed
from edge.record import (
    Alternative,
    AuditRecord,
    CheckpointRecord,
    ClockQuality,
    Ending,
    GapRecord,
    Instant,
    LaneRecord,
    NoRead,
    PlateReading,
    PlateText,
    Quality,
    ReadRecord,
)
from tests.sealing import AUDIT, CHECKPOINT, EVERY_KIND, GAP, NO_READ, READ

share = st.integers(0, 10_000).map(lambda steps: steps / 10_000)
tenths = st.integers(0, 2000).map(lambda steps: steps / 10)
instant = st.builds(Instant, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
clock = st.builds(ClockQuality, st.booleans(), tenths, st.text("abc .:0", max_size=32))
plate = st.text("ABCXYZ0189", min_size=1, max_size=16).map(PlateText)
frames = st.integers(0, 65_535)
quality = st.builds(Quality, *[st.none() | tenths] * 1, *[st.none() | share] * 2, *[st.none() | tenths] * 3)
seen = st.fixed_dictionaries(
    {
        "confidence": share,
        "chars": st.lists(share, max_size=16).map(tuple),
        "alternatives": st.lists(st.builds(Alternative, plate, share), max_size=8).map(tuple),
        "region": st.sampled_from(["unknown", "DE", "US-CA"]),
        "region_confidence": share,
        "syntax": st.none() | st.just("DE 1956"),
        "frames_seen": frames,
        "frames_used": frames,
        "frames_agreeing": frames,
        "detector_score": share,
        "plates_in_frame": frames,
        "quality": quality,
    }
)
outcome = st.tuples(plate, st.none()) | st.tuples(st.none(), st.sampled_from(NoRead))
reading = st.builds(lambda found, rest: PlateReading(*found, **rest), outcome, seen)
reads = st.builds(
    ReadRecord,
    passage_id=st.binary(min_size=16, max_size=16),
    arrival=instant,
    departure=instant,
    ending=st.sampled_from(Ending),
    restarted=st.booleans(),
    clock=clock,
    reading=reading,
    direction=st.sampled_from(["forward", "reverse", "unknown"]),
    speed_kmh=st.none() | tenths,
    loop_faults=st.lists(st.integers(0, 65_535), max_size=8).map(tuple),
    model_id=st.text("0123456789abcdef", max_size=64),
    software=st.just("0.1.0"),
)
facts = st.tuples(
    st.sampled_from(["down_from", "n"]), st.integers(-(2**63) + 1, 2**63 - 1) | st.text("xyz ", max_size=128)
)
others = (
    st.builds(CheckpointRecord, instant, clock, st.integers(0, 2**63 - 1))
    | st.builds(
        AuditRecord, st.sampled_from(["boot", "clock-step"]), instant, clock, st.lists(facts, max_size=16).map(tuple)
    )
    | st.builds(
        lambda first, count, digest: GapRecord(first, first + count - 1, count, "outbox-full", digest),
        st.integers(1, 2**40),
        st.integers(1, 2**40),
        st.binary(min_size=32, max_size=32),
    )
)


@given(reads | others)
def test_every_record_comes_back_as_it_went_in(said: LaneRecord) -> None:
    data = record.encode(said)
    assert record.decode(record.kind_of(said), data) == said


@given(reads)
def test_no_length_but_a_multiple_of_128_ever_leaves(said: ReadRecord) -> None:
    assert len(record.encode(said)) % 128 == 0


def test_a_visit_without_a_plate_is_as_long_as_one_with() -> None:
    assert len(record.encode(READ)) == len(record.encode(NO_READ)) == 384


@pytest.mark.parametrize("filler", range(257))
def test_padding_is_the_least_that_fills_the_block(filler: int) -> None:
    """Where the padding's own head grows, one length in 128 cannot be reached and goes a block further."""
    facts = (("a", "x" * min(filler, 128)), ("b", "y" * max(0, filler - 128)))
    data = record.encode(dataclasses.replace(AUDIT, facts=facts))
    fields = cbor2.loads(data)
    bare = len(cbor.encode({**fields, 23: b""}))
    assert len(data) - bare <= (152 if bare % 128 == 104 else 127)
    assert record.decode("a", data) == dataclasses.replace(AUDIT, facts=facts)


def test_an_independent_decoder_reads_the_same_values() -> None:
    fields = cbor2.loads(record.encode(READ))
    assert fields[6][0] == "AB12CDE"
    assert fields[6][2] == 9731
    assert fields[1] == [READ.arrival.utc_ns, READ.arrival.monotonic_ns]
    assert set(fields[23]) <= {0}


def test_the_plate_does_not_show_in_the_repr_of_what_was_decoded() -> None:
    assert "AB12CDE" not in repr(record.decode("r", record.encode(READ)))
    assert "A812CDE" not in repr(record.decode("r", record.encode(READ)))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (dataclasses.replace(READ, passage_id=b"short"), "passage_id"),
        (dataclasses.replace(READ, direction="sideways"), "direction"),
        (dataclasses.replace(READ, speed_kmh=-1.0), "speed_kmh"),
        (dataclasses.replace(READ, speed_kmh=float("nan")), "speed_kmh"),
        (dataclasses.replace(READ, arrival=Instant(-1, 0)), "utc_ns"),
        (dataclasses.replace(READ, loop_faults=(1,) * 9), "loop_faults"),
        (dataclasses.replace(READ, reading=PlateReading(PlateText("ab"), None)), "text"),
        (dataclasses.replace(READ, reading=PlateReading(None, None)), "must have a text or the reason"),
        (
            dataclasses.replace(READ, reading=PlateReading(PlateText("A"), NoRead.UNSURE)),
            "must have a text or the reason",
        ),
        (dataclasses.replace(READ, reading=PlateReading(PlateText("A"), None, confidence=1.5)), "confidence"),
        (dataclasses.replace(CHECKPOINT, outbox_depth=-1), "outbox_depth"),
        (dataclasses.replace(GAP, count=4), "must count what it gives up"),
        (dataclasses.replace(AUDIT, event="Not A Word"), "event"),
        (dataclasses.replace(AUDIT, facts=(("k", 2**64),)), "facts"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_name_before_it_is_written(said: LaneRecord, field: str) -> None:
    with pytest.raises(RecordInvalid, match=field):
        record.encode(said)


def test_an_error_names_the_field_and_not_the_plate() -> None:
    with pytest.raises(RecordInvalid) as caught:
        record.encode(dataclasses.replace(READ, reading=PlateReading(PlateText("SECRET1-"), None)))
    assert "SECRET1" not in str(caught.value)


def _changed(said: LaneRecord, **changes: Any) -> bytes:
    """A record's map with entries changed by other hands, padded as it should be."""
    fields = cbor2.loads(record.encode(said))
    fields.update({int(key[1:]): value for key, value in changes.items()})
    fields = {key: value for key, value in fields.items() if value is not None}
    fields[23] = b""
    fields[23] = bytes(-len(cbor.encode(fields)) % 128)
    return cbor.encode(fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"_0": None},
        {"_0": b"short"},
        {"_3": "vanished"},
        {"_4": 1},
        {"_20": 1},
        {"_6": {}},
        {"_1": [1]},
        {"_1": [1, 2, 3]},
    ],
)
def test_a_record_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordMalformed):
        record.decode("r", _changed(READ, **changes))


@pytest.mark.parametrize("said", EVERY_KIND, ids=lambda said: type(said).__name__)
def test_a_record_is_refused_under_another_kind(said: LaneRecord) -> None:
    data = record.encode(said)
    for kind in {"r", "c", "g", "a", "x"} - {record.kind_of(said)}:
        with pytest.raises(RecordMalformed):
            record.decode(kind, data)


def test_padding_that_is_not_zero_or_too_long_or_absent_is_refused() -> None:
    fields = cbor2.loads(record.encode(NO_READ))
    size = len(fields[23])
    for padding in (b"\x01" * size, bytes(size + 128), None):
        changed = {**fields, 23: padding} if padding is not None else {k: v for k, v in fields.items() if k != 23}
        with pytest.raises(RecordMalformed):
            record.decode("r", cbor.encode(changed))


@given(st.binary(max_size=300))
def test_bytes_from_anywhere_are_refused_with_a_code_and_nothing_else(data: bytes) -> None:
    for kind in "rcga":
        with pytest.raises(RecordMalformed):
            record.decode(kind, data)


@given(st.sampled_from(EVERY_KIND), st.data())
def test_a_record_changed_in_one_bit_is_refused_or_says_something_else(said: LaneRecord, data: st.DataObject) -> None:
    coded = bytearray(record.encode(said))
    bit = data.draw(st.integers(0, 8 * len(coded) - 1))
    coded[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(RecordMalformed):
        assert record.decode(record.kind_of(said), bytes(coded)) != said
