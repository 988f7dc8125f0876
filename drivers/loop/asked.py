"""Detectors that speak only when they are asked: one question, one bounded answer, asked again when it fails."""

import time
from abc import abstractmethod
from contextlib import suppress
from typing import ClassVar, Literal

from pydantic import Field

from drivers.loop.base import LoopDetector, LoopSample
from drivers.loop.wire import Parity, Port, Wire, broken_wire_is_gone, close_wire, open_wire
from drivers.settings import DriverSettings
from edge.errors import (
    LoopChecksumWrong,
    LoopForeign,
    LoopFrameCut,
    LoopGarbage,
    LoopGone,
    LoopRefused,
    LoopSilent,
)

ATTEMPTS = 3
"""Times one question is asked before the detector counts as failing: one flipped bit must not end a visit."""
MAX_STALE_BYTES = 512
"""Bytes thrown away before a question, for at most as long as an answer may take; a line that never falls silent is
garbage."""
SILENT_CHARACTERS = 3.5
MIN_SILENCE_S = 0.00175
"""Pause before a question, as Modbus RTU wants it: 3.5 characters, or this above 19200 baud."""


class LineSettings(DriverSettings):
    port: Port
    baudrate: int = Field(9600, ge=1200, le=256000)
    parity: Parity = "none"
    stopbits: Literal[1, 2] = 1
    poll_ms: float = Field(20, ge=2, le=500)
    answer_timeout_ms: float = Field(200, ge=20, le=1000)


class AskedDetector(LoopDetector):
    """Must override: Settings, loops, missing, levels. A sample takes at most some 3 * ATTEMPTS *
    answer_timeout_ms: until the line is silent, and for each half of an answer."""

    Settings: ClassVar[type[LineSettings]]

    def __init__(self, line: LineSettings, question: bytes) -> None:
        self.poll_interval_s = line.poll_ms / 1000
        self._line, self._question = line, question
        bits_per_character = 10 + (line.parity != "none") + (line.stopbits - 1)
        self._silence_s = max(MIN_SILENCE_S, SILENT_CHARACTERS * bits_per_character / line.baudrate)
        self._wire: Wire | None = None

    @abstractmethod
    def missing(self, answer: bytes) -> int:
        """How many bytes `answer` still lacks, as far as can be told from it. Raises LoopGarbage."""

    @abstractmethod
    def levels(self, answer: bytes) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """Presence and fault by loop from what was received. Raises the LoopErrors of a bad answer."""

    def connect(self) -> None:
        """Raises what open_wire raises."""
        line = self._line
        self._wire = open_wire(
            line.port,
            timeout_s=line.answer_timeout_ms / 1000,
            baudrate=line.baudrate,
            parity=line.parity,
            stopbits=line.stopbits,
        )

    def sample(self) -> LoopSample:
        """Raises LoopGone, and what levels() raises when ATTEMPTS questions in a row got no good answer."""
        for _ in range(ATTEMPTS - 1):
            with suppress(LoopSilent, LoopFrameCut, LoopGarbage, LoopChecksumWrong, LoopForeign, LoopRefused):
                return self._ask()
        return self._ask()

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            close_wire(wire)

    def _ask(self) -> LoopSample:
        wire, answer = self._wire, b""
        if wire is None:
            raise LoopGone(f"{self._line.port} is not open")
        with broken_wire_is_gone(self._line.port):
            self._wait_for_silence(wire)
            asked_ns = time.monotonic_ns()
            wire.write(self._question)
            while (lacking := self.missing(answer)) > 0:
                part = wire.read(lacking)
                answer += part
                if len(part) < lacking:
                    break
            answered_ns = time.monotonic_ns()
        presence, fault = self.levels(answer)
        return LoopSample((asked_ns + answered_ns) // 2, presence, fault)

    def _wait_for_silence(self, wire: Wire) -> None:
        """The pause before a question; what comes in it belongs to no question of ours."""
        stale, silent = 0, False
        until_s = time.monotonic() + self._silence_s + self._line.answer_timeout_ms / 1000
        while not silent:
            time.sleep(self._silence_s)
            silent = True
            while waiting := wire.in_waiting:
                silent = False
                stale += len(wire.read(waiting))
                if stale > MAX_STALE_BYTES or time.monotonic() > until_s:
                    raise LoopGarbage("the line never falls silent")
