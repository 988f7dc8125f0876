"""The wire's far end: a loop detector as a lane box meets it, on modem lines over RFC 2217 or as a Modbus RTU slave.

`Outputs` is the detector's relays; an end carries them. The RFC 2217 side is pyserial's own port manager, the Modbus
side pymodbus's server: neither shares a line with the drivers that are tested against them.
"""

import asyncio
import contextlib
import os
import pty
import select
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import serial.rfc2217

from edge.errors import SimPortTaken
from hw_sim.scenario import Line

START_TIMEOUT_S = 10.0
UNIT = 1
"""The slave's address."""
LD120_FAULT, LD120_DETECT, LD120_OPEN = 0, 1, 4
"""Discrete inputs of the Procon LD120, from 0."""
LD120_TYPE = 34


class Outputs:
    """The detector's relays: one call and one fault a loop. May be switched and read by several threads."""

    def __init__(self, loops: int) -> None:
        self.presence = [False] * loops
        self.fault = [False] * loops
        self.count = 0
        """Vehicles counted on the first loop."""
        self.passing = False
        """The level of this moment gives way to another at once."""
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` is called in the switching thread after each change."""
        self._listeners.append(listener)

    def switch(self, relays: list[bool], loop: int, *levels: bool) -> int:
        """Switch one of `presence` or `fault`, through several levels without a pause; when it began, monotonic ns."""
        with self._lock:
            at_ns = time.monotonic_ns()
            for left, level in zip(reversed(range(len(levels))), levels, strict=True):
                relays[loop], self.passing = level, left > 0
                for listener in self._listeners:
                    listener()
        return at_ns

    def bounce(self, relays: list[bool], loop: int, on: bool, chatter_s: float) -> int:
        """Switch as a contact does: a few times to and fro within `chatter_s`; the moment of the first change.

        It never waits at the level that is not meant: on a busy machine that wait may outlast any debouncing.
        """
        first_ns = self.switch(relays, loop, on)
        for step in (0.35, 0.65) if chatter_s else ():
            time.sleep(chatter_s * step)
            self.switch(relays, loop, not on, on)
        return first_ns


class ContactEnd:
    """A serial server with the relays on its modem lines. One client at a time has the port, as with a real one."""

    def __init__(
        self, outputs: Outputs, host: str, port: int, presence: tuple[Line, ...], fault: tuple[Line, ...]
    ) -> None:
        """Raises SimPortTaken."""
        self._outputs = outputs
        self._lines = _Lines(outputs, presence, fault)
        self._client: tuple[serial.rfc2217.PortManager, _Connection] | None = None
        self._lock = threading.RLock()
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise SimPortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
        outputs.listen(self._notify)
        threading.Thread(target=self._accept, name="rfc2217", daemon=True).start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"rfc2217://{host}:{port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            if self._client is not None:
                self._client[1].close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._client is not None:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                connection = _Connection(client)
                manager = serial.rfc2217.PortManager(cast(Any, self._lines), cast(Any, connection))
                self._client = manager, connection
            threading.Thread(target=self._serve, args=(manager, connection), name="rfc2217-client", daemon=True).start()

    def _serve(self, manager: serial.rfc2217.PortManager, client: "_Connection") -> None:
        """Answer the negotiation; the detector listens to no data."""
        try:
            while received := client.read():
                with self._lock:
                    for _ in manager.filter(received):
                        pass
                    client.flush()
        except OSError:
            pass  # the client is gone, as a pulled plug is
        finally:
            with self._lock:
                self._client = None
                client.close()

    def _notify(self) -> None:
        with self._lock:
            if self._client is not None:
                with contextlib.suppress(OSError):
                    self._client[0].check_modem_lines()
                    if not self._outputs.passing:
                        self._client[1].flush()


class _Connection:
    """What the port manager writes to. A level that passes goes out together with the one after it."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._written = bytearray()

    def read(self) -> bytes:
        return self._client.recv(1024)

    def write(self, data: bytes) -> None:
        self._written += data

    def flush(self) -> None:
        data, self._written = self._written, bytearray()
        self._client.sendall(data)

    def close(self) -> None:
        self._client.close()


class _Lines:
    """The serial port that the port manager believes it has: settings are accepted, modem lines are the relays."""

    def __init__(self, outputs: Outputs, presence: tuple[Line, ...], fault: tuple[Line, ...]) -> None:
        self._outputs = outputs
        self._presence = presence
        self._fault = fault
        self.baudrate, self.bytesize, self.parity, self.stopbits = 9600, 8, "N", 1
        self.xonxoff = self.rtscts = self.break_condition = False
        self.dtr = self.rts = True

    def _level(self, line: Line) -> bool:
        named = (*self._presence[: len(self._outputs.presence)], *self._fault[: len(self._outputs.fault)])
        relays = (*self._outputs.presence, *self._outputs.fault)
        return any(on for name, on in zip(named, relays, strict=True) if name == line)

    @property
    def cts(self) -> bool:
        return self._level("cts")

    @property
    def dsr(self) -> bool:
        return self._level("dsr")

    @property
    def ri(self) -> bool:
        return self._level("ri")

    @property
    def cd(self) -> bool:
        return self._level("dcd")

    def reset_input_buffer(self) -> None: ...

    def reset_output_buffer(self) -> None: ...


class ModbusEnd:
    """A Modbus RTU slave on a pty that `link` names: a Procon LD120 with one loop, or with two loops an input module
    (inputs 1 and 2: presence, 3 and 4: fault)."""

    def __init__(self, outputs: Outputs, link: Path) -> None:
        """Raises SimPortTaken."""
        self._outputs = outputs
        self._link = link
        self._ours, self._boxs_end = _raw_pty()
        self._servers, self._server_end = _raw_pty()
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(os.ttyname(self._boxs_end))
        except OSError as error:
            raise SimPortTaken(f"cannot make {link}: {error.strerror}") from error
        self._running = threading.Event()
        threading.Thread(target=self._cable, name="pty", daemon=True).start()
        threading.Thread(target=lambda: asyncio.run(self._serve()), name="modbus", daemon=True).start()
        if not self._running.wait(START_TIMEOUT_S):
            raise SimPortTaken(f"the Modbus server at {link} does not start")

    @property
    def url(self) -> str:
        return str(self._link)

    def close(self) -> None:
        self._link.unlink(missing_ok=True)

    def _cable(self) -> None:
        """Carry bytes between the two ptys, both ways."""
        other = {self._ours: self._servers, self._servers: self._ours}
        while True:
            for end in select.select(list(other), [], [])[0]:
                os.write(other[end], os.read(end, 1024))

    async def _serve(self) -> None:
        from pymodbus.server import ModbusSerialServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        inputs = SimData(0, values=[False] * 16, datatype=DataType.BITS)
        unused = SimData(0, values=[False] * 16, datatype=DataType.BITS)
        registers = SimData(0, count=16, datatype=DataType.REGISTERS)
        words = SimData(0, count=16, datatype=DataType.REGISTERS)
        device = SimDevice(UNIT, ([unused], [inputs], [registers], [words]), action=self._look)
        server = ModbusSerialServer(device, port=os.ttyname(self._server_end), baudrate=9600)
        await server.serve_forever(background=True)
        self._running.set()
        await asyncio.Event().wait()

    async def _look(
        self, function: int, start: int, address: int, count: int, current: list[int], values: object
    ) -> None:
        """Bring the registers that were asked for up to the relays, before pymodbus answers from them."""
        if function == 2:
            current[0] = self._inputs()
        elif function == 3:
            current[9], current[10] = self._outputs.count >> 16, self._outputs.count & 0xFFFF
        elif function == 4:
            current[0], current[1] = 1 << 8 | LD120_TYPE, self._inputs()

    def _inputs(self) -> int:
        presence, fault = self._outputs.presence, self._outputs.fault
        if len(presence) == 1:
            return fault[0] << LD120_FAULT | presence[0] << LD120_DETECT | fault[0] << LD120_OPEN
        return sum(on << bit for bit, on in enumerate((*presence, *fault)))


End = ContactEnd | ModbusEnd


def _raw_pty() -> tuple[int, int]:
    """Master and slave; the slave stays open here, so that the box may open and close it as it likes."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave
