"""Whatever a decoder says of one damaged packet, it is one lost frame."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import av
import pytest

from drivers.camera.base import FrameInfo
from drivers.camera.files import _frames
from drivers.camera.network import NetworkCamera, NetworkSettings
from drivers.camera.video import copy_grey
from edge.errors import FrameDamaged

ROOM = memoryview(bytearray(64))
SAID = [
    av.error.InvalidDataError(1094995529, "Invalid data"),
    av.error.ArgumentError(22, "Invalid argument"),  # of H.265 with one flipped bit
    av.error.PatchWelcomeError(1163346256, "Not yet implemented"),
    av.error.UnknownError(1313558101, "Unknown error"),
]


def refusing(error: av.FFmpegError) -> Callable[..., Any]:
    def refuse(**_: object) -> None:
        raise error

    return refuse


def over_the_network(error: av.FFmpegError) -> FrameInfo | None:
    camera = NetworkCamera(NetworkSettings(url="rtsp://camera/x"))
    packets: Iterator[Any] = iter([SimpleNamespace(size=9, decode=refusing(error))])
    camera._packets = packets
    return camera.capture(ROOM, 1)


def from_a_file(error: av.FFmpegError) -> FrameInfo:
    video: Any = SimpleNamespace(demux=lambda video: iter([SimpleNamespace(decode=refusing(error))]))
    return next(_frames(video, loop=False))(ROOM)


def made_grey(error: av.FFmpegError) -> FrameInfo:
    frame: Any = SimpleNamespace(is_corrupt=False, reformat=refusing(error))
    return copy_grey(frame, ROOM, 1)


@pytest.mark.parametrize("error", SAID, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [over_the_network, from_a_file, made_grey])
def test_an_error_of_the_decoder_is_one_damaged_frame(
    way: Callable[[av.FFmpegError], FrameInfo | None], error: av.FFmpegError
) -> None:
    with pytest.raises(FrameDamaged, match=r"^CAM-03 "):
        way(error)
