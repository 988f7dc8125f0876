"""The port to a camera: what every camera driver must do, and the values it speaks in.

A camera free-runs; `capture` copies its newest frame into memory that the caller owns (a slot of the frame ring), as it
comes off the wire: encoded if that is what came. Nothing a driver keeps may outlive the next capture or close. Threads
and reconnection are the caller's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

MAX_PIXELS = 24_000_000
"""A larger picture is not decoded."""


class Encoding(StrEnum):
    """How the bytes of a frame are laid out. `stride` bytes a row where it is raw."""

    JPEG = "jpeg"
    GRAY8 = "gray8"  # height x stride
    BGR24 = "bgr24"  # height x stride, stride >= 3 x width
    I420 = "i420"  # height*3/2 rows: Y, then U and V at half resolution, packed (stride == width, both even)


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What is known of one captured frame beside its bytes.

    `captured_ns`: CLOCK_MONOTONIC ns of the exposure, or of the arrival of its packet where the wire tells no more.
    `nbytes`: how many bytes of the buffer it fills. `width`, `height`, `stride`: 0 for JPEG (its header tells).
    `exposure_us`, `gain`: per-frame metadata, None where the camera does not say.
    """

    captured_ns: int
    encoding: Encoding
    nbytes: int
    width: int = 0
    height: int = 0
    stride: int = 0
    exposure_us: float | None = None
    gain: float | None = None


class Camera(ABC):
    """One camera. Must override: Settings, open, capture, close.

    Registered by name in the entry-point group `sealane.camera` as a class; built as `cls(cls.Settings(**table))` from
    the table [camera.device] of lane.toml. Passes the contract suite `tests/contract/test_camera_contract.py`.
    """

    Settings: ClassVar[type[Any]]
    """A frozen pydantic model that forbids unknown keys: what [camera.device] may hold."""

    @abstractmethod
    def open(self) -> None:
        """Start the camera or connect to it. Raises a CameraError; a retryable one may succeed later."""

    @abstractmethod
    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo | None:
        """Wait for the next frame that was not given yet and copy it to the start of `into` (writable, bytes).

        None when `timeout_s` passed without one; a driver that can't leave its wire in the middle of a frame may wait
        as long as its Settings say, and raises CameraSilent then. A frame that is damaged or larger than `into` raises
        a CameraFrameError and is dropped; after any other error only close() and open() may follow."""

    @abstractmethod
    def close(self) -> None:
        """Stop it. Never raises; may be called at any time, and twice."""
