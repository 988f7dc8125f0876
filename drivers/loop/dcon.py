"""Digital input modules that speak DCON, the ASCII protocol of the ADAM-4000 series, in the layout of the ADAM-4050
(also 4055 and 4150): two hex digits of outputs, two of inputs.

`$AA6` CR asks; `!OOII00` CR answers; `?AA` CR refuses; a question with an error in it is met with silence. The
optional checksum is off, as delivered: debounce is what stands between a flipped bit and an event.
Source: Advantech ADAM-4000 Series User's Manual, command $AA6.
"""

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from drivers.loop.asked import AskedDetector, LineSettings
from edge.errors import LoopForeign, LoopFrameCut, LoopGarbage, LoopRefused, LoopSilent

INPUTS = 8
_LENGTH = {ord("!"): 8, ord("?"): 4}
_INPUTS = re.compile(rb"![0-9A-F]{2}([0-9A-F]{2})00\r")
_REFUSAL = re.compile(rb"\?([0-9A-F]{2})\r")


class DconSettings(LineSettings):
    address: int = Field(ge=0, le=255)
    presence: tuple[int, ...] = Field(min_length=1, max_length=2)
    """One input per loop, in the order of travel, by the number printed on the module: 0 is DI0."""
    fault: tuple[int, ...] = Field((), max_length=2)
    """None, one per loop, or one for all loops."""
    presence_when: Literal["low", "high"] = "low"
    """The input's level while a vehicle is there; a contact that closes to ground pulls it low."""
    fault_when: Literal["low", "high"] = "low"

    @model_validator(mode="after")
    def _inputs_fit(self) -> "DconSettings":
        inputs = (*self.presence, *self.fault)
        if len(set(inputs)) != len(inputs) or not all(0 <= number < INPUTS for number in inputs):
            raise ValueError(f"inputs: each from 0 to {INPUTS - 1}, and each for one purpose")
        if len(self.fault) not in (0, 1, len(self.presence)):
            raise ValueError("fault: none, one for all loops, or one per loop")
        return self


def missing(answer: bytes) -> int:
    """How many bytes the answer still lacks, as far as can be told. Raises LoopGarbage."""
    if not answer:
        return min(_LENGTH.values())
    if answer[0] not in _LENGTH:
        raise LoopGarbage("what came does not begin like a DCON answer")
    return _LENGTH[answer[0]] - len(answer)


def parse(answer: bytes, address: int) -> tuple[bool, ...]:
    """Levels of the inputs, DI0 first, from a whole answer.

    Raises LoopSilent, LoopFrameCut, LoopGarbage, LoopRefused, LoopForeign.
    """
    if not answer:
        raise LoopSilent(f"module {address:02X}h does not answer")
    if missing(answer) > 0:
        raise LoopFrameCut(f"the answer of module {address:02X}h broke off after {len(answer)} bytes")
    if refusal := _REFUSAL.fullmatch(answer):
        who = int(refusal[1], 16)
        if who != address:
            raise LoopForeign(f"module {who:02X}h answered instead of {address:02X}h")
        raise LoopRefused(f"module {address:02X}h refuses to tell its inputs")
    inputs = _INPUTS.fullmatch(answer)
    if inputs is None:
        raise LoopGarbage(f"{len(answer)} bytes came that are no answer of an ADAM-4050")
    return tuple(bool(int(inputs[1], 16) >> bit & 1) for bit in range(INPUTS))


class DconDetector(AskedDetector):
    """Asks for all inputs in one question: some 16 ms on a wire at 9600 baud."""

    Settings: ClassVar[type[DconSettings]] = DconSettings

    def __init__(self, settings: DconSettings) -> None:
        super().__init__(settings, b"$%02X6\r" % settings.address)
        self._settings = settings

    @property
    def loops(self) -> int:
        return len(self._settings.presence)

    def missing(self, answer: bytes) -> int:
        return missing(answer)

    def levels(self, answer: bytes) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        settings, levels = self._settings, parse(answer, self._settings.address)
        presence = tuple(levels[number] == (settings.presence_when == "high") for number in settings.presence)
        fault = tuple(levels[number] == (settings.fault_when == "high") for number in settings.fault)
        return presence, fault if len(fault) == len(presence) else (any(fault),) * len(presence)
