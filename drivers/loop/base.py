"""The port to an inductive loop detector: what every detector on a serial wire must do, and the values it speaks in.

A detector is one small class that can connect, sample and close. Debounce, reconnection and timing are the same for all
of them and live in `drivers.loop.watch`. Threads are the caller's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class LoopSample:
    """The detector's outputs at one moment, undebounced.

    `presence` and `fault` hold one entry per loop, in the order of travel as lane.toml names them (one or two loops).
    A fail-safe detector signals presence while it is at fault: the fault input decides.
    """

    monotonic_ns: int
    presence: tuple[bool, ...]
    fault: tuple[bool, ...]


class LoopEventKind(StrEnum):
    ARRIVE = "arrive"  # presence began on a loop
    LEAVE = "leave"  # presence ended on a loop
    FAULT = "fault"  # the detector reports a fault of a loop
    CLEAR = "clear"  # the fault is over
    LOST = "lost"  # the detector does not answer any more
    RESTORED = "restored"  # it answers: the first event of all, or the first after LOST


@dataclass(frozen=True, slots=True)
class LoopEvent:
    """One debounced change. `monotonic_ns` (CLOCK_MONOTONIC) is when it began, not when it was believed.

    `loop` counts from 0 in the order of travel; it is 0 for LOST and RESTORED, which concern the whole detector.
    `detail` is the error code for LOST, else empty.
    """

    kind: LoopEventKind
    loop: int
    monotonic_ns: int
    detail: str = ""


class LoopDetector(ABC):
    """One detector on one wire. Must override: Settings, loops, poll_interval_s, connect, sample, close.

    Registered by name in the entry-point group `sealane.loop` as a class; built as `cls(cls.Settings(**table))` from
    the table [loop.device] of lane.toml. Passes the contract suite `tests/contract/test_loop_contract.py`.
    """

    Settings: ClassVar[type[Any]]
    """A frozen pydantic model that forbids unknown keys: what [loop.device] may hold."""

    poll_interval_s: float
    """How often the wire is to be sampled."""

    @property
    @abstractmethod
    def loops(self) -> int:
        """How many loops this detector watches: 1 or 2."""

    @abstractmethod
    def connect(self) -> None:
        """Open the wire, exclusively. Raises a LoopError; a retryable one may succeed later."""

    @abstractmethod
    def sample(self) -> LoopSample:
        """Ask for the outputs now; returns within a bound the driver names. Raises a LoopError, after which only
        close() and connect() may follow."""

    @abstractmethod
    def close(self) -> None:
        """Give the wire back. Never raises; may be called at any time, and twice."""
