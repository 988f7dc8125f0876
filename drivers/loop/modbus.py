"""Detectors that speak Modbus RTU: their outputs are discrete inputs, read with function 02.

Over a serial port, an RFC 2217 server, or a serial server in raw mode (socket://; not Modbus/TCP, the frames are RTU).
Written out here because a client library's floor of 8.6 ms a poll is 40 times what the exchange takes.
Frames: Modbus over serial line V1.02, chapter 2.5; function 02: Modbus application protocol V1.1b3, chapter 6.2.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

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

READ_DISCRETE_INPUTS = 0x02
EXCEPTION = 0x80
SHORTEST_ANSWER = 5
ATTEMPTS = 3
"""Times one question is asked before the detector counts as failing: one flipped bit must not end a visit."""
MAX_INPUT = 256
MAX_STALE_BYTES = 512
"""Bytes thrown away before a question; a line that never falls silent is garbage."""
MIN_SILENCE_S = 0.00175
"""Pause before a frame above 19200 baud; below, 3.5 characters."""
_REFUSALS = {1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 6: "busy"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the module's inputs mean, loop by loop; 1 is its first input (10001 in many manuals). Any fault counts."""

    presence: tuple[int, ...]
    fault: tuple[tuple[int, ...], ...]


PROFILES = {"ld120": Inputs(presence=(2,), fault=((1, 5, 6),))}
"""Procon LD120 manual: 10001 fault, 10002 detect, 10005 loop open, 10006 loop short."""


class ModbusSettings(DriverSettings):
    port: Port
    address: int = Field(ge=1, le=255)
    profile: Literal["ld120", "generic"] = "generic"
    presence: tuple[int, ...] = Field((), max_length=2)
    """generic only: one input per loop, in the order of travel; 1 is the module's first."""
    fault: tuple[int, ...] = Field((), max_length=2)
    """generic only: none, one per loop, or one for all loops."""
    presence_when: Literal["on", "off"] = "on"
    """generic only: the input's level while a vehicle is there."""
    fault_when: Literal["on", "off"] = "on"
    baudrate: int = Field(9600, ge=1200, le=256000)
    parity: Parity = "none"
    stopbits: Literal[1, 2] = 1
    poll_ms: float = Field(20, ge=2, le=500)
    answer_timeout_ms: float = Field(200, ge=20, le=1000)

    @model_validator(mode="after")
    def _inputs_fit(self) -> "ModbusSettings":
        if self.profile != "generic":
            if self.model_fields_set & {"presence", "fault", "presence_when", "fault_when"}:
                raise ValueError(f"the profile {self.profile} knows its inputs: leave out presence and fault")
            return self
        inputs = (*self.presence, *self.fault)
        if not self.presence:
            raise ValueError("presence: name one input per loop")
        if len(self.fault) not in (0, 1, len(self.presence)):
            raise ValueError("fault: none, one for all loops, or one per loop")
        if len(set(inputs)) != len(inputs) or not all(1 <= number <= MAX_INPUT for number in inputs):
            raise ValueError(f"inputs: each from 1 to {MAX_INPUT}, and each for one purpose")
        return self

    @property
    def inputs(self) -> Inputs:
        if self.profile != "generic":
            return PROFILES[self.profile]
        each = tuple((number,) for number in self.fault) or ((),)
        return Inputs(self.presence, each if len(each) == len(self.presence) else each * len(self.presence))


def crc16(frame: bytes) -> bytes:
    """CRC-16/MODBUS (reflected 0x8005, start 0xFFFF), low byte first as on the wire."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def question(address: int, first: int, count: int) -> bytes:
    """Ask for `count` inputs from number `first` (1 is the module's first)."""
    frame = bytes((address, READ_DISCRETE_INPUTS)) + (first - 1).to_bytes(2) + count.to_bytes(2)
    return frame + crc16(frame)


def missing(answer: bytes, count: int) -> int:
    """How many bytes the answer for `count` inputs still lacks, as far as can be told. Raises LoopGarbage."""
    if len(answer) < 2:
        return SHORTEST_ANSWER - len(answer)
    if answer[1] == READ_DISCRETE_INPUTS | EXCEPTION:
        return SHORTEST_ANSWER - len(answer)
    data_bytes = (count + 7) // 8
    if answer[1] != READ_DISCRETE_INPUTS or (len(answer) > 2 and answer[2] != data_bytes):
        raise LoopGarbage(f"{len(answer)} bytes came that are no answer to function 02")
    return SHORTEST_ANSWER + data_bytes - len(answer)


def parse(answer: bytes, address: int, count: int) -> tuple[bool, ...]:
    """The levels of `count` inputs from a whole answer.

    Raises LoopSilent, LoopFrameCut, LoopGarbage, LoopChecksumWrong, LoopForeign, LoopRefused.
    """
    if not answer:
        raise LoopSilent(f"module {address} does not answer")
    lacking = missing(answer, count)
    if lacking > 0:
        raise LoopFrameCut(f"the answer of module {address} broke off after {len(answer)} bytes")
    if lacking < 0:
        raise LoopGarbage(f"{-lacking} bytes came after the answer of module {address}")
    if crc16(answer[:-2]) != answer[-2:]:
        raise LoopChecksumWrong(f"an answer of {len(answer)} bytes has a wrong checksum")
    if answer[0] != address:
        raise LoopForeign(f"module {answer[0]} answered instead of {address}")
    if answer[1] & EXCEPTION:
        raise LoopRefused(f"module {address} refuses: {_REFUSALS.get(answer[2], 'code')} ({answer[2]})")
    return tuple(bool(answer[3 + bit // 8] >> bit % 8 & 1) for bit in range(count))


class ModbusDetector(LoopDetector):
    """Asks for all inputs in one question. A sample takes some 20 ms on a wire at 9600 baud, and at most ATTEMPTS times
    twice answer_timeout_ms when answers fail."""

    Settings: ClassVar[type[ModbusSettings]] = ModbusSettings

    def __init__(self, settings: ModbusSettings) -> None:
        self.poll_interval_s = settings.poll_ms / 1000
        self._settings = settings
        self._inputs = settings.inputs
        numbers = (*self._inputs.presence, *(number for loop in self._inputs.fault for number in loop))
        self._first, self._count = min(numbers), max(numbers) - min(numbers) + 1
        self._question = question(settings.address, self._first, self._count)
        bits_per_character = 10 + (settings.parity != "none") + (settings.stopbits - 1)
        self._silence_s = max(MIN_SILENCE_S, 3.5 * bits_per_character / settings.baudrate)
        self._wire: Wire | None = None

    @property
    def loops(self) -> int:
        return len(self._inputs.presence)

    def connect(self) -> None:
        """Raises what open_wire raises."""
        settings = self._settings
        self._wire = open_wire(
            settings.port,
            timeout_s=settings.answer_timeout_ms / 1000,
            baudrate=settings.baudrate,
            parity=settings.parity,
            stopbits=settings.stopbits,
        )

    def sample(self) -> LoopSample:
        """Raises LoopGone, and what parse raises when ATTEMPTS questions in a row got no good answer."""
        for _ in range(ATTEMPTS - 1):
            with suppress(LoopSilent, LoopFrameCut, LoopGarbage, LoopChecksumWrong, LoopForeign, LoopRefused):
                return self._ask()
        return self._ask()

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            close_wire(wire)

    def _ask(self) -> LoopSample:
        settings, wire, answer = self._settings, self._wire, b""
        if wire is None:
            raise LoopGone(f"{settings.port} is not open")
        with broken_wire_is_gone(settings.port):
            self._wait_for_silence(wire)
            asked_ns = time.monotonic_ns()
            wire.write(self._question)
            while (lacking := missing(answer, self._count)) > 0:
                part = wire.read(lacking)
                answer += part
                if len(part) < lacking:
                    break
            answered_ns = time.monotonic_ns()
        levels = parse(answer, settings.address, self._count)

        def is_on(number: int, when: str) -> bool:
            return levels[number - self._first] == (when == "on")

        return LoopSample(
            (asked_ns + answered_ns) // 2,
            tuple(is_on(number, settings.presence_when) for number in self._inputs.presence),
            tuple(any(is_on(number, settings.fault_when) for number in loop) for loop in self._inputs.fault),
        )

    def _wait_for_silence(self, wire: Wire) -> None:
        """The pause that RTU wants before a frame; what comes in it belongs to no question of ours."""
        stale, silent = 0, False
        while not silent:
            time.sleep(self._silence_s)
            silent = True
            while waiting := wire.in_waiting:
                silent = False
                stale += len(wire.read(waiting))
                if stale > MAX_STALE_BYTES:
                    raise LoopGarbage("the line never falls silent")
