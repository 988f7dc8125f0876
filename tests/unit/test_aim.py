"""Aim mode: what a view tells, that its mosaic tells no more, and that a session is bounded and audited."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.camera.base import Camera, Encoding, FrameInfo
from edge.aim.eye import Eye
from edge.aim.gauge import GAUGES
from edge.aim.page import serve
from edge.aim.session import AimSession
from edge.aim.view import CELLS_PER_PLATE, COLUMNS, LEVELS, Measures, View, mosaic, outline, skew_deg
from edge.capture import FrameLease, FrameRing
from edge.errors import AimOff, AimPage, AimPictureRefused, FrameDamaged, ManifestInvalid, OutboxFull

MEASURES = Measures(1, 31.0, 0.5, 0.01, -3.0, 90.0, 500.0, 2.0)


def plate(height_px: int) -> NDArray[np.uint8]:
    """A frame with a plate of that height in its middle, high contrast."""
    frame = np.full((720, 1280), 60, np.uint8)
    width = min(1200, round(height_px * 4.6))
    top, left = 360 - height_px // 2, 640 - width // 2
    frame[top : top + height_px, left : left + width] = 255
    scale = height_px / 36
    cv2.putText(
        frame, "CANARY7", (left + width // 12, top + round(height_px * 0.8)), cv2.FONT_HERSHEY_DUPLEX, scale, 0.0, 3
    )
    return frame


@pytest.mark.parametrize("height_px", [20, 60, 120, 240])
def test_a_character_of_a_found_plate_is_smaller_than_a_cell_of_the_mosaic(height_px: int) -> None:
    cells = mosaic(plate(height_px), (float(height_px),)).cells
    cell_px = 720 / len(cells)
    assert height_px / cell_px <= CELLS_PER_PLATE  # characters are lower than their plate, and half as wide
    assert len(cells[0]) <= COLUMNS


def test_a_plate_that_was_not_found_is_no_finer_than_the_widest_mosaic() -> None:
    assert len(mosaic(plate(240), ()).cells[0]) == COLUMNS


def test_two_frames_that_differ_in_their_characters_only_give_mosaics_that_hardly_differ() -> None:
    there, blank = plate(60), plate(60)
    blank[blank == 0] = 255
    mean = float(there[330:390, 502:778].mean())
    blank[330:390, 502:778] = round(mean)
    a, b = (mosaic(frame, (60.0,)).cells for frame in (there, blank))
    steps = [
        abs(int(x, 16) - int(y, 16)) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True)
    ]
    assert max(steps) <= 2


def test_cells_are_hexadecimal_greys_from_black_to_white() -> None:
    frame = np.zeros((360, 640), np.uint8)
    frame[:, 320:] = 255
    row = mosaic(frame, ()).cells[0]
    assert (row[0], row[-1]) == ("0", f"{LEVELS - 1:x}")


def test_skew_is_positive_where_the_text_rises_to_the_right() -> None:
    rising = np.array([[100, 100], [200, 90], [200, 115], [100, 125]], np.float32)
    assert skew_deg(rising) == pytest.approx(5.7, abs=0.1)
    assert outline(rising, 1000, 500)[0] == (0.1, 0.2)


class Still(Camera):
    """Gives a grey frame every few milliseconds."""

    def open(self) -> None: ...

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo:
        time.sleep(0.005)
        into[:16] = bytes(range(16))
        return FrameInfo(time.monotonic_ns(), Encoding.GRAY8, 16, 4, 4, 4)

    def close(self) -> None: ...


class FakeEye:
    def __init__(self, *, damaged: bool = False) -> None:
        self.damaged = damaged

    def look(self, lease: FrameLease, *, picture: bool) -> View:
        if self.damaged:
            raise FrameDamaged("no")
        picture_cells = mosaic(np.zeros((90, 160), np.uint8), ()) if picture else None
        return View(MEASURES, (), outline(np.zeros((4, 2), np.float32), 4, 4), picture_cells)


def test_the_eye_reads_with_the_models_of_the_lane(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path | None] = []
    monkeypatch.setattr("edge.aim.eye.PlateReader", asked.append)
    Eye(None, tmp_path)
    assert asked == [tmp_path]


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    ring = FrameRing(4, 64)
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            ring.capture(Still(), 0.1)

    thread = threading.Thread(target=feed)
    thread.start()
    yield ring
    stop.set()
    thread.join()
    ring.close()


class Audit:
    def __init__(self, *, room: bool = True) -> None:
        self.said: list[dict[str, int]] = []
        self.room = room

    def __call__(self, *facts: tuple[str, int]) -> bool:
        self.said.append(dict(facts))
        return self.room


def session(
    ring: FrameRing, audit: Audit, *, allowed: bool = False, eye: FakeEye | None = None, s: float = 60
) -> AimSession:
    return AimSession(
        ring,
        lambda: eye or FakeEye(),
        loop=lambda: "empty",
        picture_allowed=lambda: allowed,
        audit=audit,
        duration_s=s,
        period_s=0.01,
    )


def first_view(aim: AimSession) -> dict[str, object]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        view = aim.view()["view"]
        if view is not None:
            assert isinstance(view, dict)
            return view
        time.sleep(0.005)
    raise AssertionError("no view came")


def until_over(aim: AimSession) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            aim.view()
        except AimOff:
            return
        time.sleep(0.005)
    raise AssertionError("the session did not end")


def test_a_session_gives_measures_without_a_picture_and_is_audited_on_and_off(ring: FrameRing) -> None:
    audit = Audit()
    aim = session(ring, audit)
    aim.start(picture=False)
    view = first_view(aim)
    assert view["mosaic"] is None
    aim.stop()
    assert audit.said == [{"on": 1, "picture": 0}, {"on": 0, "picture": 0}]
    with pytest.raises(AimOff):
        aim.view()


def test_a_session_whose_eye_can_not_be_opened_says_why_until_it_is_stopped(ring: FrameRing) -> None:
    def blind() -> FakeEye:
        raise ManifestInvalid("no models")

    audit = Audit()
    aim = AimSession(ring, blind, loop=lambda: "empty", picture_allowed=lambda: False, audit=audit)
    aim.start(picture=False)
    with pytest.raises(ManifestInvalid):
        until_over(aim)
    assert audit.said == [{"on": 1, "picture": 0}, {"on": 0, "picture": 0}]
    aim.stop()
    with pytest.raises(AimOff):
        aim.view()


def test_the_picture_is_refused_unless_the_owner_allows_it(ring: FrameRing) -> None:
    audit = Audit()
    with pytest.raises(AimPictureRefused):
        session(ring, audit).start(picture=True)
    assert audit.said == []


def test_where_the_owner_allows_it_a_view_has_a_mosaic_that_json_can_carry(ring: FrameRing) -> None:
    audit = Audit()
    aim = session(ring, audit, allowed=True)
    aim.start(picture=True)
    assert len(json.loads(json.dumps(first_view(aim)))["mosaic"]["cells"]) >= 6
    aim.stop()
    assert audit.said[0] == {"on": 1, "picture": 1}


def test_a_picture_session_ends_when_the_owner_takes_the_permission_back(ring: FrameRing) -> None:
    audit, allowed = Audit(), [True]
    aim = AimSession(
        ring, FakeEye, loop=lambda: "empty", picture_allowed=lambda: allowed[0], audit=audit, period_s=0.01
    )
    aim.start(picture=True)
    first_view(aim)
    allowed[0] = False
    until_over(aim)
    assert [said["on"] for said in audit.said] == [1, 0]


def test_nobody_aims_while_there_is_no_room_to_write_it_down(ring: FrameRing) -> None:
    aim = session(ring, Audit(room=False))
    with pytest.raises(OutboxFull):
        aim.start(picture=False)
    with pytest.raises(AimOff):
        aim.view()


def test_a_session_is_over_by_itself(ring: FrameRing) -> None:
    audit = Audit()
    aim = session(ring, audit, s=0.05)
    aim.start(picture=False)
    until_over(aim)
    assert [said["on"] for said in audit.said] == [1, 0]


def test_starting_again_ends_the_session_before(ring: FrameRing) -> None:
    audit = Audit()
    aim = session(ring, audit)
    aim.start(picture=False)
    aim.start(picture=False)
    aim.stop()
    assert [said["on"] for said in audit.said] == [1, 0, 1, 0]


def test_a_damaged_frame_leaves_the_session_running(ring: FrameRing) -> None:
    aim = session(ring, Audit(), eye=FakeEye(damaged=True))
    aim.start(picture=False)
    time.sleep(0.1)
    assert aim.view()["view"] is None
    aim.stop()


def fetch(address: str, path: str, host: str | None = None) -> http.client.HTTPResponse:
    url = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=5)
    connection.request("GET", path, headers={"Host": host or url.netloc})
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


@pytest.fixture
def address() -> Iterator[str]:
    with serve(0, lambda: {"left_s": 60, "loop": "empty", "view": None}) as address:
        yield address


@pytest.mark.parametrize("name", ["", "page.js", "page.css", "view"])
def test_the_page_and_its_parts_are_never_stored(address: str, name: str) -> None:
    response = fetch(address, urlsplit(address).path + name)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_a_view_carries_the_gauges_that_the_page_draws(address: str) -> None:
    told = json.loads(fetch(address, urlsplit(address).path + "view").body)  # type: ignore[attr-defined]
    assert [gauge["label"] for gauge in told["gauges"]] == [gauge.label for gauge in GAUGES]


@pytest.mark.parametrize("path", ["/", "/view", "/wrong/view", "/wrong/", "/../etc/passwd"])
def test_without_the_token_there_is_nothing(address: str, path: str) -> None:
    assert fetch(address, path).status == 404


def test_other_files_of_the_package_are_not_served(address: str) -> None:
    assert fetch(address, urlsplit(address).path + "page.py").status == 404
    assert fetch(address, urlsplit(address).path + "../page.py").status == 404


def test_a_foreign_host_name_is_refused(address: str) -> None:
    assert fetch(address, urlsplit(address).path, host="attacker.example").status == 404


def test_a_lost_daemon_shows_as_an_error_on_the_page() -> None:
    def lost() -> dict[str, object]:
        raise AimOff("no aim session runs")

    with serve(0, lost) as address:
        response = fetch(address, urlsplit(address).path + "view")
        assert response.status == 503
        assert "AIM-01" in json.loads(response.body)["error"]  # type: ignore[attr-defined]


def test_a_taken_port_has_a_code(address: str) -> None:
    with pytest.raises(AimPage), serve(urlsplit(address).port or 0, dict):
        pass


def test_every_gauge_shows_a_measure_that_exists_and_knows_good_from_bad() -> None:
    measures = {"plate_height_px": 14.0, "sharpness": 0.5, "clipped_share": 0.08, "skew_deg": -20.0, "brightness": 90.0}
    shown = {
        g.label: (g.text(v), g.good(v))
        for g in GAUGES
        if (v := g.value({**measures, "exposure_us": 500.0})) is not None
    }
    assert shown == {
        "plate height": ("14 px", False),
        "sharpness": ("0.50", True),
        "clipped": ("8 %", False),
        "skew": ("-20 °", False),
        "brightness": ("90 of 255", True),
        "exposure": ("0.50 ms", True),
    }
    assert {g.measure for g in GAUGES} <= set(Measures.__dataclass_fields__)
