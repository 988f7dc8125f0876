import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.camera.base import Encoding, FrameInfo
from edge.capture import FrameLease
from edge.errors import FrameDamaged, FrameTooLarge
from edge.frames import LEAST_SIDE, MAX_SCANS, MOST_SIDE, FrameDecoder
from tests.camera_rigs import HEIGHT, WIDTH, encoded, picture


def leased(data: bytes, encoding: Encoding, *, width: int = 0, height: int = 0, stride: int = 0) -> FrameLease:
    info = FrameInfo(1, encoding, len(data), width, height, stride)
    return FrameLease(info, memoryview(data).toreadonly(), lambda: None)


def raw(encoding: Encoding, *, pad: int = 0) -> FrameLease:
    grey = picture()[:, :, :1]
    pixels = picture() if encoding is Encoding.BGR24 else grey
    rows = pixels.reshape(HEIGHT, -1)
    padded = np.pad(rows, ((0, HEIGHT // 2 if encoding is Encoding.I420 else 0), (0, pad)))
    return leased(padded.tobytes(), encoding, width=WIDTH, height=HEIGHT, stride=rows.shape[1] + pad)


@pytest.mark.parametrize(
    "lease",
    [
        raw(Encoding.GRAY8),
        raw(Encoding.GRAY8, pad=24),
        raw(Encoding.BGR24),
        raw(Encoding.BGR24, pad=5),
        raw(Encoding.I420),
        leased(encoded(), Encoding.JPEG),
        leased(encoded() + b"\r\n", Encoding.JPEG),
    ],
    ids=["grey", "grey padded", "bgr", "bgr padded", "i420", "jpeg", "jpeg with a trailer"],
)
def test_every_encoding_decodes_to_the_same_grey_picture(lease: FrameLease) -> None:
    grey = FrameDecoder().grey(lease)
    assert grey.dtype == np.uint8
    assert grey.flags.c_contiguous
    assert grey.shape == (HEIGHT, WIDTH)
    assert np.abs(grey.astype(int) - picture()[:, :, 0]).mean() < 2


@pytest.mark.parametrize("lease", [raw(Encoding.BGR24, pad=5), leased(encoded(), Encoding.JPEG)], ids=["bgr", "jpeg"])
def test_colours_are_kept_where_they_are_asked_for(lease: FrameLease) -> None:
    colour = FrameDecoder().colour(lease)
    assert colour.flags.c_contiguous
    assert np.abs(colour.astype(int) - picture()).mean() < 2


def test_a_picture_without_colours_stays_grey() -> None:
    assert FrameDecoder().colour(raw(Encoding.GRAY8)).shape == (HEIGHT, WIDTH)


def test_the_last_picture_is_zeroed_by_the_next_one_and_by_wipe() -> None:
    decoder = FrameDecoder()
    first = decoder.grey(leased(encoded(), Encoding.JPEG))
    second = decoder.grey(leased(encoded(), Encoding.JPEG))
    assert second.any()
    assert not first.any()
    decoder.wipe()
    assert not second.any()


def test_raw_pictures_of_one_size_share_their_memory() -> None:
    decoder = FrameDecoder()
    assert decoder.grey(raw(Encoding.BGR24)) is decoder.grey(raw(Encoding.GRAY8))


def test_a_failed_decoding_leaves_no_picture() -> None:
    decoder = FrameDecoder()
    before = decoder.grey(raw(Encoding.GRAY8))
    with pytest.raises(FrameDamaged):
        decoder.grey(leased(b"no picture", Encoding.JPEG))
    assert not before.any()


def without_scan() -> bytes:
    data = encoded()
    return data[: data.index(b"\xff\xda")] + b"\xff\xd9"


def claiming(width: int, height: int) -> bytes:
    data = bytearray(encoded())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xd9", encoded()[:-2], encoded()[:500], without_scan()])
def test_a_damaged_jpeg_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(FrameDamaged, match=r"^CAM-03 "):
        FrameDecoder().grey(leased(data, Encoding.JPEG))


def test_a_jpeg_that_claims_a_monstrous_size_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(FrameTooLarge, match=r"65000 x 65000"):
        FrameDecoder().grey(leased(claiming(65000, 65000), Encoding.JPEG))


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (1200, 1), (1, 1200), (LEAST_SIDE - 1, 640), (640, LEAST_SIDE - 1), (MOST_SIDE + 1, LEAST_SIDE)],
)
def test_a_frame_of_sides_that_no_camera_has_is_damaged(width: int, height: int) -> None:
    data = cv2.imencode(".jpg", np.full((height, width), 99, np.uint8))[1].tobytes()
    for lease in (
        leased(data, Encoding.JPEG),
        leased(bytes(width * height), Encoding.GRAY8, width=width, height=height, stride=width),
    ):
        with pytest.raises(FrameDamaged, match=f"a frame of {width} x {height}"):
            FrameDecoder().grey(lease)


def test_a_jpeg_of_more_scans_than_a_picture_needs_is_not_decoded() -> None:
    data = encoded()
    coded = data[data.index(b"\xff\xda") : -2]
    with pytest.raises(FrameDamaged, match="scans"):
        FrameDecoder().grey(leased(data[:-2] + coded * MAX_SCANS + data[-2:], Encoding.JPEG))
    assert FrameDecoder().grey(leased(data, Encoding.JPEG)).any()


def test_what_opencv_itself_refuses_is_a_damaged_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.frames.jpeg_size", lambda data: (WIDTH, HEIGHT))
    with pytest.raises(FrameDamaged, match="is refused"):
        FrameDecoder().grey(leased(claiming(65000, 65000), Encoding.JPEG))


LANE_TOML = """
confine = "off"
lane.id = "gate-7"
loop.driver = "contact"
camera.driver = "files"
broker = {host = "b", ca_file = "a", certificate_file = "c", key_file = "k"}
keys = {signing_key_file = "k", recipient_files = ["r"], collector_files = ["c"]}
state.directory = "state"
"""


def test_on_a_lane_opencv_too_refuses_a_picture_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "lane.toml").write_text(LANE_TOML)
    (tmp_path / "large.jpg").write_bytes(claiming(6000, 5000))
    program = f"""
import sys, types
from pathlib import Path

class Daemon:
    def __init__(self, *given): ...
    def run(self):
        import cv2
        try:
            cv2.imread("{tmp_path}/large.jpg")
        except cv2.error:
            sys.exit(42)

sys.modules["edge.daemon"] = types.SimpleNamespace(Daemon=Daemon)
from edge.commands.run import command
command(Path("{tmp_path}/lane.toml"))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 42


@pytest.mark.parametrize(
    "sizes",
    [{"width": 10, "height": 10, "stride": 9}, {"width": 10, "height": 11, "stride": 10}, {"width": 0, "height": 9}],
)
def test_a_raw_frame_whose_sizes_do_not_add_up_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(FrameDamaged):
        FrameDecoder().grey(leased(bytes(100), Encoding.GRAY8, **sizes))


@pytest.mark.parametrize("module", ["edge.capture", "edge.frames", "drivers.camera.network", "drivers.camera.files"])
def test_importing_it_loads_no_numpy_opencv_or_pyav(module: str) -> None:
    program = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('numpy', 'cv2', 'av')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
