"""Photographs or a video from disk in place of a camera, paced as one: for the bench and for proofs.

JPEG files go on as they are; other photographs, and video, are decoded to grey. A picture that does not fit into a
frame of the ring is refused, not made smaller: what is read is what was given.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from drivers.camera.base import Camera, Encoding, FrameInfo
from drivers.camera.jpeg import jpeg_size
from drivers.camera.video import bound_pixels, copy_grey
from drivers.settings import DriverSettings, SettingsPath
from edge.errors import FrameDamaged, FrameTooLarge, PicturesEnded, PicturesMissing, clean

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

DEMUXERS = {".jpg": None, ".jpeg": None, ".png": "png_pipe", ".webp": "webp_pipe"}
"""What counts as a photograph, and FFmpeg's name for what has to be decoded."""

PHOTO_FPS = 10.0

Picture = Callable[[memoryview], FrameInfo]
"""Copies one picture to the start of a buffer. Raises FrameDamaged, FrameTooLarge."""


class FilesSettings(DriverSettings):
    """[camera.device] of pictures from disk."""

    path: SettingsPath
    """A folder of photographs, shown in the order of their names, or one video file."""
    fps: float | None = Field(None, gt=0, le=120)
    """Frames a second. Default: 10 for photographs, its own for a video."""
    hold_s: float = Field(0, ge=0, le=3600)
    """How long a photograph is shown; 0: for one frame."""
    loop: bool = True
    """Begin again after the last picture."""


class FilesCamera(Camera):
    """Shows pictures at the pace of a camera, from the first one on each time it is opened."""

    Settings = FilesSettings

    def __init__(self, settings: FilesSettings) -> None:
        self._settings = settings
        self._video: InputContainer | None = None
        self._pictures: Iterator[Picture] = iter(())
        self._interval_s = 0.0
        self._due = 0.0

    def open(self) -> None:
        settings = self._settings
        if settings.path.is_dir():
            fps = settings.fps or PHOTO_FPS
            self._pictures = _photos(settings.path, max(1, round(settings.hold_s * fps)), settings.loop)
        else:
            self._video, own_fps = _open_video(settings.path)
            fps = settings.fps or own_fps
            self._pictures = _frames(self._video, settings.loop)
        self._interval_s = 1 / fps
        self._due = time.monotonic()

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo | None:
        wait_s = self._due - time.monotonic()
        time.sleep(max(0, min(wait_s, timeout_s)))
        if wait_s > timeout_s:
            return None
        self._due = (
            max(self._due, time.monotonic()) + self._interval_s
        )  # after a late picture the next ones don't hurry
        picture = next(self._pictures, None)
        if picture is None:
            raise PicturesEnded(f"all of {self._settings.path} was shown")
        return picture(into)

    def close(self) -> None:
        video, self._video = self._video, None
        self._pictures = iter(())
        if video is not None:
            video.close()


def _photos(folder: Path, frames_each: int, loop: bool) -> Iterator[Picture]:
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in DEMUXERS)
    if not photos:
        raise PicturesMissing(f"no photograph in {folder}")
    shown = (partial(_copy_photo, photo) for photo in photos for _ in range(frames_each))
    return cycle(shown) if loop else shown


def _copy_photo(photo: Path, into: memoryview) -> FrameInfo:
    import av

    now_ns = time.monotonic_ns()
    demuxer = DEMUXERS[photo.suffix.lower()]
    try:
        with photo.open("rb") as file:
            if demuxer:
                with av.open(file, mode="r", format=demuxer, metadata_errors="replace") as container:
                    bound_pixels(container.streams.video[0].codec_context)
                    return copy_grey(next(container.decode(video=0)), into, now_ns)
            nbytes = file.readinto(into)
            if file.read(1):
                kib = photo.stat().st_size >> 10
                raise FrameTooLarge(f"{clean(photo.name)} has {kib} KiB, room is {len(into) >> 10} KiB")
    except (OSError, StopIteration, av.FFmpegError) as error:
        raise FrameDamaged(f"{clean(photo.name)} can't be read as a photograph") from error
    jpeg_size(into[:nbytes])
    return FrameInfo(now_ns, Encoding.JPEG, nbytes)


def _open_video(path: Path) -> "tuple[InputContainer, float]":
    import av

    try:
        container = av.open(str(path.resolve()), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (OSError, av.FFmpegError) as error:
        raise PicturesMissing(f"{path} is neither a folder of photographs nor a video") from error
    rate = container.streams.video[0].average_rate if container.streams.video else None
    if not rate:
        container.close()
        raise PicturesMissing(f"{path} holds no video with a frame rate")
    bound_pixels(container.streams.video[0].codec_context)
    return container, float(rate)


def _frames(video: "InputContainer", loop: bool) -> Iterator[Picture]:
    for again in chain((False,), repeat(True)):
        given = False
        for picture in _one_showing(video, from_the_beginning=again):
            given = True
            yield picture
        if not given:
            raise PicturesMissing("the video holds no frame")
        if not loop:
            return


def _one_showing(video: "InputContainer", *, from_the_beginning: bool) -> Iterator[Picture]:
    import av

    try:
        if from_the_beginning:
            video.seek(0)
        for packet in video.demux(video=0):
            try:
                for frame in packet.decode():
                    yield partial(_copy_frame, frame)
            except av.FFmpegError:
                yield _damaged
    except av.FFmpegError:
        yield _damaged


def _copy_frame(frame: "VideoFrame", into: memoryview) -> FrameInfo:
    return copy_grey(frame, into, time.monotonic_ns())


def _damaged(into: memoryview) -> FrameInfo:
    raise FrameDamaged("a part of the video can't be decoded")
