"""FrameDecoder: leased frames in, grey pictures out, in memory that is wiped.

numpy and OpenCV start threads, so they are imported when the first decoder is made: after the process confined itself.
"""

from typing import TYPE_CHECKING

from drivers.camera.base import Encoding, FrameInfo
from edge.capture import FrameLease
from edge.errors import FrameDamaged, FrameTooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 24_000_000
MAX_JPEG_TRAILER = 64
"""Some cameras pad a JPEG after its end; more than this and the end is not its end."""

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def jpeg_size(data: memoryview) -> tuple[int, int]:
    """(width, height) of a whole JPEG, from its header (ISO/IEC 10918-1, B.2.2).

    Raises FrameDamaged when it is not a JPEG, has no frame header, or stops before its end marker: decoders fill a
    truncated picture with grey and say nothing.
    """
    if data[:2] != bytes((0xFF, _SOI)):
        raise FrameDamaged("a frame that should be JPEG does not begin as one")
    if bytes((0xFF, _EOI)) not in bytes(data[max(2, len(data) - 2 - MAX_JPEG_TRAILER) :]):
        raise FrameDamaged(f"a JPEG of {len(data)} bytes stops before its end")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _FRAME_HEADERS and at + 9 <= len(data):
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            if not width * height:
                break
            return width, height
        elif marker == _SOS:
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise FrameDamaged("a JPEG without a frame header")


class FrameDecoder:
    """Decodes into memory it keeps and wipes. Not thread-safe."""

    def __init__(self) -> None:
        import cv2
        import numpy as np

        self._cv2, self._np = cv2, np
        self._picture: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def grey(self, lease: FrameLease) -> "NDArray[np.uint8]":
        """The frame as (height, width) uint8, contiguous; zeroed by the next call and by `wipe`.

        Raises FrameDamaged (truncated, undecodable, sizes that don't add up) and FrameTooLarge (over MAX_PIXELS).
        """
        self.wipe()
        if lease.info.encoding is Encoding.JPEG:
            self._picture = self._from_jpeg(lease.data)
        else:
            self._from_raw(lease.info, lease.data)
        return self._picture

    def wipe(self) -> None:
        """Zero the last picture."""
        self._picture.fill(0)

    def _from_jpeg(self, data: memoryview) -> "NDArray[np.uint8]":
        width, height = jpeg_size(data)
        _check_pixels(width, height)
        picture = self._cv2.imdecode(self._np.frombuffer(data, self._np.uint8), self._cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise FrameDamaged(f"a JPEG of {len(data)} bytes could not be decoded")
        return self._np.asarray(picture, self._np.uint8)

    def _from_raw(self, info: FrameInfo, data: memoryview) -> None:
        _check_pixels(info.width, info.height)
        row_bytes = info.width * (3 if info.encoding is Encoding.BGR24 else 1)
        if info.stride < row_bytes or info.stride * info.height > len(data) or not row_bytes * info.height:
            raise FrameDamaged(f"{info.width} x {info.height} {info.encoding} does not fit in {len(data)} bytes")
        if self._picture.shape != (info.height, info.width):
            self._picture = self._np.empty((info.height, info.width), self._np.uint8)
        rows = self._np.frombuffer(data, self._np.uint8, info.stride * info.height).reshape(info.height, info.stride)
        pixels = rows[:, :row_bytes]  # of I420 this is the Y plane
        if info.encoding is Encoding.BGR24:
            bgr = pixels.reshape(info.height, info.width, 3)
            self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2GRAY, dst=self._picture)
        else:
            self._np.copyto(self._picture, pixels)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FrameTooLarge(f"a frame of {width} x {height}, at most {MAX_PIXELS} pixels are decoded")
