"""FrameDecoder: leased frames in, pictures out, in memory that is wiped.

numpy and OpenCV start threads, so they are imported when the first decoder is made: after the process confined itself.
"""

from typing import TYPE_CHECKING

from drivers.camera.base import MAX_PIXELS, Encoding, FrameInfo
from drivers.camera.jpeg import jpeg_size, scans
from edge.capture import FrameLease
from edge.errors import FrameDamaged, FrameTooLarge, clean
from edge.record import MOST_PX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_SIDE, MOST_SIDE = 64, MOST_PX
"""Height and width of a picture, px: whatever is between them can be read, or at least looked at."""
MAX_SCANS = 50
"""A progressive JPEG has about ten, and a decoder goes through all of a picture for each."""


class FrameDecoder:
    """Decodes into memory it keeps and wipes. Not thread-safe."""

    def __init__(self) -> None:
        import cv2
        import numpy as np

        self._cv2, self._np = cv2, np
        self._picture: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def grey(self, lease: FrameLease) -> "NDArray[np.uint8]":
        """The frame as (height, width) uint8, contiguous; zeroed by the next call and by `wipe`.

        Raises FrameDamaged (truncated, undecodable, sizes that don't add up or that no camera has) and FrameTooLarge
        (over MAX_PIXELS).
        """
        return self._decode(lease, self._cv2.IMREAD_GRAYSCALE)

    def colour(self, lease: FrameLease) -> "NDArray[np.uint8]":
        """As `grey`, but (height, width, 3) BGR where JPEG or BGR24 gives colours."""
        return self._decode(lease, self._cv2.IMREAD_COLOR)

    def wipe(self) -> None:
        """Zero the last picture."""
        self._picture.fill(0)

    def _decode(self, lease: FrameLease, mode: int) -> "NDArray[np.uint8]":
        self.wipe()
        if lease.info.encoding is Encoding.JPEG:
            self._picture = self._from_jpeg(lease.data, mode)
        else:
            self._from_raw(lease.info, lease.data, mode)
        return self._picture

    def _from_jpeg(self, data: memoryview, mode: int) -> "NDArray[np.uint8]":
        width, height = jpeg_size(data)
        _check_size(width, height)
        if scans(data) > MAX_SCANS:
            raise FrameDamaged(f"a JPEG of more than {MAX_SCANS} scans")
        try:
            picture = self._cv2.imdecode(self._np.frombuffer(data, self._np.uint8), mode)
        except self._cv2.error as error:
            raise FrameDamaged(f"a JPEG of {len(data)} bytes is refused: {clean(error)}") from error
        if picture is None:
            raise FrameDamaged(f"a JPEG of {len(data)} bytes could not be decoded")
        return self._np.asarray(picture, self._np.uint8)

    def _from_raw(self, info: FrameInfo, data: memoryview, mode: int) -> None:
        _check_size(info.width, info.height)
        row_bytes = info.width * (3 if info.encoding is Encoding.BGR24 else 1)
        if info.stride < row_bytes or info.stride * info.height > len(data) or not row_bytes * info.height:
            raise FrameDamaged(f"{info.width} x {info.height} {info.encoding} does not fit in {len(data)} bytes")
        rows = self._np.frombuffer(data, self._np.uint8, info.stride * info.height).reshape(info.height, info.stride)
        pixels = rows[:, :row_bytes]  # of I420 this is the Y plane
        shape: tuple[int, ...] = (info.height, info.width)
        if info.encoding is Encoding.BGR24:
            pixels = pixels.reshape(*shape, 3)
            shape = pixels.shape if mode == self._cv2.IMREAD_COLOR else shape
        if self._picture.shape != shape:
            self._picture = self._np.empty(shape, self._np.uint8)
        if pixels.ndim > len(shape):
            self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2GRAY, dst=self._picture)
        else:
            self._np.copyto(self._picture, pixels)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FrameTooLarge(f"a frame of {width} x {height}, at most {MAX_PIXELS} pixels are decoded")
    if not LEAST_SIDE <= min(width, height) <= max(width, height) <= MOST_SIDE:
        raise FrameDamaged(f"a frame of {width} x {height}, sides are {LEAST_SIDE} to {MOST_SIDE}")
