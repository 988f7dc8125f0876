"""What the drivers that decode through PyAV share: pictures to grey bytes, and stream time to CLOCK_MONOTONIC."""

from typing import TYPE_CHECKING

from drivers.camera.base import MAX_PIXELS, Encoding, FrameInfo
from edge.errors import FrameDamaged, FrameTooLarge, clean

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

MAX_DRIFT = 1e-3
"""How much faster than ours a camera's clock may run; a camera's quartz is at least ten times better."""


def bound_pixels(video: "VideoCodecContext") -> None:
    """Have the decoder refuse pictures of more than MAX_PIXELS whenever they come. FrameTooLarge if they do now."""
    if video.width * video.height > MAX_PIXELS:
        size = f"{video.width} x {video.height}"
        raise FrameTooLarge(f"a video of {size}, at most {MAX_PIXELS} pixels are decoded")
    video.options = {"max_pixels": str(MAX_PIXELS)}


def copy_grey(frame: "VideoFrame", into: memoryview, captured_ns: int) -> FrameInfo:
    """Copy a decoded picture as GRAY8 of full range (0-255), whatever its pixel format, rows padded as they are.

    Raises FrameDamaged when the decoder had to guess parts of it or it can't be made grey, FrameTooLarge when `into`
    has no room for it.
    """
    from av import FFmpegError

    if frame.is_corrupt:
        raise FrameDamaged("parts of a video picture were lost on the way")
    try:
        plane = frame.reformat(format="gray", threads=1).planes[0]
    except FFmpegError as error:
        raise FrameDamaged(f"a video picture can't be made grey: {clean(error.strerror)}") from None
    nbytes = plane.line_size * plane.height
    if nbytes > len(into):
        size = f"{plane.width} x {plane.height} in {nbytes >> 10} KiB"
        raise FrameTooLarge(f"a picture of {size}, room is {len(into) >> 10} KiB")
    into[:nbytes] = memoryview(plane)[:nbytes]
    return FrameInfo(captured_ns, Encoding.GRAY8, nbytes, plane.width, plane.height, plane.line_size)


class StreamClock:
    """When a picture was taken, from its time stamp in the stream and the arrival of its packet.

    The packet that came quickest so far tells the distance between the two clocks (it takes up to MAX_DRIFT of drift
    back); whatever comes later than that was late on the way, not taken later. A stamp before the last one says that
    the camera set its clock: nothing from before counts then.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self._last_ns: tuple[int, int] | None = None
        """The last picture's time stamp and arrival."""

    def taken_ns(self, stream_ns: int, arrival_ns: int) -> int:
        """CLOCK_MONOTONIC ns at which the picture with `stream_ns` would have arrived without delay: <= arrival_ns."""
        offset_ns = arrival_ns - stream_ns
        if self._last_ns is not None and stream_ns >= self._last_ns[0]:
            drift_ns = int((arrival_ns - self._last_ns[1]) * MAX_DRIFT)
            offset_ns = min(offset_ns, self._offset_ns + drift_ns)
        self._offset_ns, self._last_ns = offset_ns, (stream_ns, arrival_ns)
        return stream_ns + offset_ns
