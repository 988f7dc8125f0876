import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from drivers.camera.base import Encoding
from drivers.camera.files import FilesCamera, _frames
from edge.errors import CameraError, FrameDamaged, FrameTooLarge, PicturesEnded, PicturesMissing
from tests.camera_rigs import encoded, write_video

ROOM = 64 * 1024


def shown(camera: FilesCamera, count: int) -> list[bytes]:
    """The bytes of the next frames."""
    room = memoryview(bytearray(ROOM))
    found: list[bytes] = []
    while len(found) < count:
        info = camera.capture(room, 1)
        if info is not None:
            found.append(bytes(room[: info.nbytes]))
    return found


def opened(path: Path, **settings: object) -> FilesCamera:
    camera = FilesCamera(FilesCamera.Settings.model_validate({"path": path, "fps": 100} | settings))
    camera.open()
    return camera


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, number in (("10.jpg", 1), ("2.JPEG", 2), ("a.jpg", 3)):
        (tmp_path / name).write_bytes(encoded(number))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_photographs_are_shown_in_the_order_of_their_names_over_and_over(folder: Path) -> None:
    assert shown(opened(folder), 4) == [encoded(1), encoded(2), encoded(3), encoded(1)]


def test_a_photograph_can_be_held(folder: Path) -> None:
    assert shown(opened(folder, hold_s=0.03), 4) == [encoded(1)] * 3 + [encoded(2)]


def test_without_loop_the_pictures_end_for_good(folder: Path) -> None:
    camera = opened(folder, loop=False)
    shown(camera, 3)
    with pytest.raises(PicturesEnded) as raised:
        shown(camera, 1)
    assert not raised.value.retryable


def test_a_video_is_decoded_at_its_own_pace_and_begins_again(tmp_path: Path) -> None:
    write_video(tmp_path / "lane.mp4", frames=5, fps=50)
    camera = opened(tmp_path / "lane.mp4", fps=None)
    began = time.monotonic()
    frames = shown(camera, 11)
    assert 0.19 < time.monotonic() - began < 1
    assert frames[0] == frames[5] == frames[10]
    assert frames[0] != frames[1]
    camera.close()


@pytest.mark.parametrize("form", ["avi", "mkv"])
def test_a_video_whose_title_is_not_utf_8_is_shown(tmp_path: Path, form: str) -> None:
    write_video(tmp_path / f"lane.{form}", frames=2, fps=50, title="Lane Cam-ra")
    written = (tmp_path / f"lane.{form}").read_bytes()
    assert b"Cam-ra" in written
    (tmp_path / f"lane.{form}").write_bytes(written.replace(b"Cam-ra", "Caméra".encode("latin-1")))
    camera = opened(tmp_path / f"lane.{form}")
    assert len(shown(camera, 2)) == 2
    camera.close()


class Torn:
    """A video whose file can't be read further than its first frame, nor from the beginning again."""

    def demux(self, video: int) -> Iterator[av.Packet]:
        yield SimpleNamespace(decode=lambda: [av.VideoFrame(160, 96, "gray")])  # type: ignore[misc]
        raise av.error.InvalidDataError(1, "cut")

    def seek(self, to: int) -> None:
        raise av.error.InvalidDataError(1, "cut")


def test_a_video_that_cannot_be_read_further_is_lost_frames_and_no_end() -> None:
    pictures, room = _frames(Torn(), loop=True), memoryview(bytearray(ROOM))  # type: ignore[arg-type]
    assert next(pictures)(room).width == 160
    for _ in range(2):
        with pytest.raises(FrameDamaged):
            next(pictures)(room)


def test_a_video_that_was_cut_before_its_first_frame_is_missing_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv", frames=5, fps=50)
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "lane.mkv").write_bytes(whole[: whole.index(b"\x1f\x43\xb6\x75") + 40])  # in the first cluster
    camera = opened(tmp_path / "lane.mkv")
    with pytest.raises(PicturesMissing):
        shown(camera, 1)


def test_frames_are_paced_and_a_late_one_does_not_make_the_others_hurry(folder: Path) -> None:
    camera = opened(folder, fps=20)
    shown(camera, 1)
    time.sleep(0.3)
    began = time.monotonic()
    shown(camera, 4)
    assert time.monotonic() - began > 0.12


def test_a_photograph_larger_than_its_room_is_refused_by_name_and_the_next_one_shown(folder: Path) -> None:
    (folder / "1.jpg").write_bytes(encoded()[:-2] + bytes(ROOM) + b"\xff\xd9")
    camera = opened(folder)
    with pytest.raises(FrameTooLarge, match=r"1.jpg has 64 KiB, room is 64 KiB"):
        shown(camera, 1)
    assert shown(camera, 1) == [encoded(1)]


def test_a_picture_of_more_pixels_than_are_decoded_takes_no_memory(folder: Path) -> None:
    (folder / "1.png").write_bytes(cv2.imencode(".png", np.zeros((5000, 6000), np.uint8))[1].tobytes())
    camera = opened(folder)
    with pytest.raises(FrameTooLarge, match="a video of 6000 x 5000, at most 24000000 pixels"):
        shown(camera, 1)
    assert shown(camera, 1) == [encoded(1)]


def test_a_video_of_more_pixels_than_are_decoded_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "lane.mp4", frames=2, fps=50)
    monkeypatch.setattr("drivers.camera.video.MAX_PIXELS", 1000)
    with pytest.raises(FrameTooLarge, match="at most 1000 pixels"):
        opened(tmp_path / "lane.mp4")


@pytest.mark.parametrize(
    ("name", "content"),
    [("1.jpg", encoded()[:400]), ("1.png", b"no picture"), ("1.webp", encoded(0, ".webp")[:30]), ("1.jpg", None)],
    ids=["half a jpeg", "no png", "half a webp", "a dead link"],
)
def test_a_damaged_photograph_is_one_lost_frame(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).symlink_to(folder / "gone.jpg")
    else:
        (folder / name).write_bytes(content)
    camera = opened(folder)
    with pytest.raises(FrameDamaged, match=r"^CAM-03 "):
        shown(camera, 1)
    assert shown(camera, 1) == [encoded(1)]


def test_a_decoded_photograph_is_grey_with_its_sizes(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(0, ".png"))
    info = opened(tmp_path).capture(memoryview(bytearray(ROOM)), 1)
    assert info is not None
    assert (info.encoding, info.width, info.height) == (Encoding.GRAY8, 160, 96)
    assert info.nbytes == info.stride * info.height


def test_an_empty_folder_no_file_and_no_video_are_missing_pictures(tmp_path: Path) -> None:
    (tmp_path / "lane.mp4").write_bytes(b"not a video" * 100)
    for path in (tmp_path, tmp_path / "gone", tmp_path / "lane.mp4"):
        with pytest.raises(PicturesMissing, match=r"^CAM-11 "):
            opened(path)


def test_a_playlist_reaches_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(CameraError):
        opened(tmp_path / "list.m3u8")


def test_a_relative_path_is_taken_from_the_folder_of_lane_toml(folder: Path) -> None:
    settings = FilesCamera.Settings.model_validate({"path": "photos"}, context={"base": folder})
    assert settings.path == folder / "photos"


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"hold_s": -1}, {"colour": 1}, {"path": "pho\0tos"}])
def test_settings_have_ranges(folder: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FilesCamera.Settings.model_validate({"path": folder} | wrong)
