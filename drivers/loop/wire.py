"""The serial wire to a detector, at this box or at a serial server: opened exclusively, its errors translated."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Literal
from urllib.parse import urlsplit

import serial
import serial.rfc2217
import serial.urlhandler.protocol_socket
from pydantic import AfterValidator

from edge.errors import LoopError, LoopGone, LoopPortBusy, LoopPortForbidden, LoopPortMissing, clean

WRITE_TIMEOUT_S = 1.0
"""A local port that takes no bytes for this long is broken (a USB adapter that hangs)."""
HALF_OPEN_PROBE_S = 1.0
"""How often a silent RFC 2217 server is asked for a sign of life."""
HALF_OPEN_LIMIT_S = 3.0
"""An RFC 2217 server that gave none for this long is gone, though TCP has not noticed."""

Parity = Literal["none", "even", "odd"]
_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_GET_BAUDRATE = b"\x00\x00\x00\x00"  # RFC 2217, SET-BAUDRATE with 0: every server has to answer, and changes nothing


def _checked(port: str) -> str:
    if port.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        raise ValueError("this name may mean another device after the next start: use its name in /dev/serial/by-id")
    if port.startswith("/"):
        return port
    url = urlsplit(port)
    if url.scheme not in ("rfc2217", "socket") or not url.hostname or not url.port or url.path or url.query:
        raise ValueError("a port is /dev/..., rfc2217://host:port or socket://host:port")
    return port


Port = Annotated[str, AfterValidator(_checked)]
"""/dev/serial/by-id/... (or a fixed port such as /dev/ttyAMA0), rfc2217://host:port or socket://host:port."""


class Rfc2217Port(serial.rfc2217.Serial):
    """pyserial's RFC 2217 client, and when its server was last heard."""

    heard_s = 0.0
    _asked_s = 0.0

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        super()._telnet_process_subnegotiation(suboption)  # type: ignore[misc]  # not in the stubs
        self.heard_s = time.monotonic()

    def check_alive(self) -> None:
        """Ask for a sign of life when it is time to. Raises LoopGone if none came for HALF_OPEN_LIMIT_S."""
        now_s = time.monotonic()
        if now_s - self.heard_s > HALF_OPEN_LIMIT_S:
            raise LoopGone(f"{clean(self.port)}: the serial server gave no sign of life for {HALF_OPEN_LIMIT_S:g} s")
        if now_s - max(self.heard_s, self._asked_s) > HALF_OPEN_PROBE_S:
            self._asked_s = now_s
            self.rfc2217_send_subnegotiation(serial.rfc2217.SET_BAUDRATE, _GET_BAUDRATE)


Wire = serial.Serial | Rfc2217Port | serial.urlhandler.protocol_socket.Serial


def open_wire(
    port: str, *, timeout_s: float, baudrate: int = 9600, parity: Parity = "none", stopbits: Literal[1, 2] = 1
) -> Wire:
    """Open `port` with 8 data bits; a read waits up to timeout_s. DTR and RTS are on: they may feed a dry contact.

    Takes up to about 12 s on a serial server that does not answer. Raises LoopPortMissing, LoopPortForbidden,
    LoopPortBusy.
    """
    wire: Wire
    if port.startswith("rfc2217://"):
        wire = Rfc2217Port()
        wire.port = f"{port}?timeout=1"
    else:
        wire = serial.urlhandler.protocol_socket.Serial() if port.startswith("socket://") else serial.Serial()
        wire.port, wire.write_timeout, wire.exclusive = port, WRITE_TIMEOUT_S, True
    wire.baudrate, wire.parity, wire.stopbits, wire.timeout = baudrate, _PARITY[parity], stopbits, timeout_s
    try:
        wire.open()
    except (OSError, ValueError) as error:
        raise _open_error(port, error) from error
    return wire


def close_wire(wire: Wire) -> None:
    """Give the port back, whatever state it is in."""
    with suppress(OSError):
        wire.close()


def _open_error(port: str, error: Exception) -> LoopError:
    code = getattr(error, "errno", None)
    if code in (errno.EACCES, errno.EPERM):
        return LoopPortForbidden(f"{port}: no permission to open it")
    if code in (errno.EBUSY, errno.EAGAIN):
        return LoopPortBusy(f"{port} is held by another process")
    return LoopPortMissing(f"{port} cannot be opened: {clean(error)}")


@contextmanager
def broken_wire_is_gone(port: str) -> Iterator[None]:
    """What the system or pyserial raise of a broken wire, as LoopGone."""
    try:
        yield
    except (OSError, ValueError) as error:  # SerialException is an OSError; pyserial's RFC 2217 raises ValueError too
        raise LoopGone(f"{port}: {clean(error)}") from error
