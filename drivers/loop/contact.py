"""Any detector with a dry contact, wired to the modem lines of a serial port (here, or on an RFC 2217 serial server).

The contact stands between RTS or DTR, which are on, and an input line. ptys and raw TCP have no modem lines.
"""

import errno
import time
from typing import ClassVar, Literal

import serial
from pydantic import Field, field_validator, model_validator

from drivers.loop.base import LoopDetector, LoopSample
from drivers.loop.wire import HALF_OPEN_LIMIT_S, Port, Rfc2217Port, Wire, broken_wire_is_gone, close_wire, open_wire
from drivers.settings import DriverSettings
from edge.errors import LoopGone, LoopPortUnfit

DISCARD_BYTES = 4096
"""Bytes that may come on the data line are read and dropped, this many a poll."""

Line = Literal["cts", "dsr", "dcd", "ri"]
Contact = Literal["closed", "open"]


class ContactSettings(DriverSettings):
    port: Port
    presence: tuple[Line, ...] = Field(min_length=1, max_length=2)
    """One line per loop, in the order of travel."""
    fault: tuple[Line, ...] = Field((), max_length=2)
    """None, one per loop, or one for all loops."""
    presence_when: Contact = "closed"
    """What the contact does while a vehicle is there; "open" for a relay that is held while the loop is free."""
    fault_when: Contact = "closed"
    poll_hz: float = Field(1000, ge=50, le=2000)

    @field_validator("port")
    @classmethod
    def _has_lines(cls, port: str) -> str:
        if port.startswith("socket://"):
            raise ValueError("raw TCP carries no modem lines: use rfc2217:// and switch the server to RFC 2217")
        return port

    @model_validator(mode="after")
    def _lines_fit(self) -> "ContactSettings":
        lines = (*self.presence, *self.fault)
        if len(set(lines)) != len(lines):
            raise ValueError("a modem line stands for one contact only")
        if len(self.fault) not in (0, 1, len(self.presence)):
            raise ValueError("fault: none, one for all loops, or one per loop")
        return self


class ContactDetector(LoopDetector):
    """Samples the lines; a sample takes some tens of microseconds."""

    Settings: ClassVar[type[ContactSettings]] = ContactSettings

    def __init__(self, settings: ContactSettings) -> None:
        self.poll_interval_s = 1 / settings.poll_hz
        self._settings = settings
        self._wire: Wire | None = None

    @property
    def loops(self) -> int:
        return len(self._settings.presence)

    def connect(self) -> None:
        """Raises what open_wire raises, and LoopPortUnfit if the port tells no modem lines."""
        port = self._settings.port
        self._wire = open_wire(port, timeout_s=0)
        deadline_s = time.monotonic() + HALF_OPEN_LIMIT_S
        while True:
            try:
                self._levels(self._wire)
                return
            except serial.SerialException as error:  # an RFC 2217 server has not told them yet
                if time.monotonic() > deadline_s:
                    self.close()
                    raise LoopPortUnfit(f"{port} does not tell its modem lines") from error
                time.sleep(0.02)
            except OSError as error:
                self.close()
                if error.errno in (errno.ENOTTY, errno.EINVAL):
                    raise LoopPortUnfit(f"{port} has no modem lines") from error
                raise LoopGone(f"{port}: {error.strerror}") from error

    def sample(self) -> LoopSample:
        """Raises LoopGone."""
        port, wire = self._settings.port, self._wire
        if wire is None:
            raise LoopGone(f"{port} is not open")
        with broken_wire_is_gone(port):
            wire.read(DISCARD_BYTES)  # raises once the other end is gone; the lines alone would keep their last level
            if isinstance(wire, Rfc2217Port):
                wire.check_alive()
            levels = self._levels(wire)
        closed = dict(zip((*self._settings.presence, *self._settings.fault), levels, strict=True))
        presence = tuple(closed[line] == (self._settings.presence_when == "closed") for line in self._settings.presence)
        fault = tuple(closed[line] == (self._settings.fault_when == "closed") for line in self._settings.fault)
        if len(fault) != len(presence):
            fault = (any(fault),) * len(presence)
        return LoopSample(time.monotonic_ns(), presence, fault)

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            close_wire(wire)

    def _levels(self, wire: Wire) -> tuple[bool, ...]:
        settings = self._settings
        return tuple(
            wire.cd if line == "dcd" else getattr(wire, line) for line in (*settings.presence, *settings.fault)
        )
