"""The two clocks of the box, and how far UTC can be trusted by the kernel's own word.

CLOCK_MONOTONIC orders everything; UTC is what a record says, with its quality beside it. adjtimex(2) tells the quality
and costs 2 us; chronyc only puts a name to the source.
"""

import ctypes
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import clean

MAX_ERROR_MS = 1000.0
"""A clock with a larger error bound does not count as synchronised, whatever its daemon says."""
UNKNOWN_ERROR_MS = 16_000.0
"""The kernel's own cap on its error bound; stands for a bound that it does not tell."""
STEP_NS = 10_000_000
"""UTC may move this much against CLOCK_MONOTONIC before it counts as a step. Slewing moves both clocks alike."""
SOURCE_EVERY_S = 600.0
SOURCE_TIMEOUT_S = 1.0
SOURCE_LENGTH = 32
"""Most characters of its name that a record takes."""

_TIME_ERROR, _STA_UNSYNC = 5, 0x40  # <linux/timex.h>
_NO_SOURCE = ("00000000", "7F7F")  # reference id of a chronyd without one: none, or its own local clock 127.127.x.x


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One moment on both clocks. bound_ms: largest error of utc_ns by the kernel's estimate; source: "" if unknown."""

    utc_ns: int
    monotonic_ns: int
    synchronised: bool
    bound_ms: float
    source: str


class Clock:
    """Reads the clocks; safe to use from several threads."""

    def __init__(
        self,
        *,
        times: Callable[[], tuple[int, int]] | None = None,
        quality: Callable[[], tuple[bool, float]] | None = None,
        source: Callable[[], str] | None = None,
    ) -> None:
        self._times, self._quality = times or read_times, quality or kernel_quality
        self._name, self._source, self._named_s = source or chrony_source, "", -SOURCE_EVERY_S
        self._naming = threading.Lock()
        utc_ns, monotonic_ns = self._times()
        self._offset_ns = utc_ns - monotonic_ns

    def read(self) -> ClockReading:
        """Now. Blocks for at most SOURCE_TIMEOUT_S, once in SOURCE_EVERY_S."""
        utc_ns, monotonic_ns = self._times()
        synchronised, bound_ms = self._quality()
        now_s = monotonic_ns / 1e9
        if now_s - self._named_s >= SOURCE_EVERY_S and self._naming.acquire(blocking=False):
            try:
                self._named_s, self._source = now_s, self._name()
            finally:
                self._naming.release()
        return ClockReading(utc_ns, monotonic_ns, synchronised, bound_ms, self._source if synchronised else "")

    def step_ns(self) -> int:
        """By how much UTC was set forward (or back: negative) since this was last asked; 0 if by less than STEP_NS."""
        utc_ns, monotonic_ns = self._times()
        step_ns = utc_ns - monotonic_ns - self._offset_ns
        if abs(step_ns) < STEP_NS:
            return 0
        self._offset_ns += step_ns
        return step_ns


def read_times() -> tuple[int, int]:
    """UTC ns and CLOCK_MONOTONIC ns of one moment: of three tries the one that was interrupted least."""
    tries = []
    for _ in range(3):
        before_ns, utc_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after_ns - before_ns, utc_ns, (before_ns + after_ns) // 2))
    return min(tries)[1:]


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read; `rest` is room for what the kernel writes behind it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def kernel_quality() -> tuple[bool, float]:
    """Is UTC synchronised, and its error bound in ms. A kernel that does not tell counts as not synchronised."""
    timex = _Timex()
    state = _libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        return False, UNKNOWN_ERROR_MS
    bound_ms = min(timex.maxerror_us / 1000, UNKNOWN_ERROR_MS)
    return state != _TIME_ERROR and not timex.status & _STA_UNSYNC and bound_ms <= MAX_ERROR_MS, bound_ms


def chrony_source() -> str:
    """Name of the source that chronyd follows, "" where there is no chronyd or it follows none."""
    try:
        done = subprocess.run(["chronyc", "-c", "tracking"], capture_output=True, timeout=SOURCE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return parse_tracking(done.stdout) if done.returncode == 0 else ""


def parse_tracking(output: bytes) -> str:
    """The source in the output of `chronyc -c tracking`: reference id in hex, name, and 12 more fields."""
    reference, _, rest = output.decode("ascii", "replace").partition(",")
    name = rest.partition(",")[0]
    return "" if reference.startswith(_NO_SOURCE) or not rest else clean(name, SOURCE_LENGTH)
