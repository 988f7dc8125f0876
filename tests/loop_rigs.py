"""Ends of a detector's wire for tests: each rig is one detector that can be driven, silenced, cut off and healed.

The far ends are independent of the drivers: pymodbus's server, pyserial's RFC 2217 PortManager, and a plain fake.
"""

import asyncio
import os
import select
import socket
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import serial.rfc2217
from pydantic import BaseModel, ConfigDict
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.loop.base import LoopDetector, LoopSample
from drivers.loop.contact import ContactDetector
from drivers.loop.dcon import DconDetector
from drivers.loop.modbus import ModbusDetector
from edge.errors import LoopGone, LoopPortMissing, LoopSilent

MODULE = 17


def url(scheme: str, address: tuple[str, int]) -> str:
    return f"{scheme}://{address[0]}:{address[1]}"


class Rig(ABC):
    """A two-loop detector at the far end of a wire, and what the driver at this end is built of."""

    driver: type[LoopDetector]

    @property
    @abstractmethod
    def table(self) -> dict[str, Any]:
        """[loop.device] of lane.toml."""

    @abstractmethod
    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        """Set the outputs; they can be read when this returns."""

    @abstractmethod
    def mute(self) -> None:
        """From now on nothing passes, and nothing tells so."""

    @abstractmethod
    def cut(self) -> None:
        """Break the wire; it can't be opened either."""

    @abstractmethod
    def heal(self) -> None:
        """Undo mute() and cut()."""

    @abstractmethod
    def close(self) -> None: ...


class FakeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    rig: "FakeRig"


class FakeDetector(LoopDetector):
    """A detector without a wire."""

    Settings = FakeSettings
    poll_interval_s = 0.001

    def __init__(self, settings: FakeSettings) -> None:
        self._rig = settings.rig
        self._open = False

    @property
    def loops(self) -> int:
        return 2

    def connect(self) -> None:
        if self._rig.is_cut:
            raise LoopPortMissing("the fake wire is cut")
        self._open = True

    def sample(self) -> LoopSample:
        if self._rig.is_cut or not self._open:
            raise LoopGone("the fake wire is not open")
        if self._rig.is_mute:
            raise LoopSilent("the fake detector is mute")
        return LoopSample(time.monotonic_ns(), self._rig.presence, self._rig.fault)

    def close(self) -> None:
        self._open = False


class FakeRig(Rig):
    driver = FakeDetector

    def __init__(self) -> None:
        self.presence, self.fault = (False, False), (False, False)
        self.is_cut = self.is_mute = False

    @property
    def table(self) -> dict[str, Any]:
        return {"rig": self}

    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        self.presence, self.fault = presence, fault

    def mute(self) -> None:
        self.is_mute = True

    def cut(self) -> None:
        self.is_cut = True

    def heal(self) -> None:
        self.is_cut = self.is_mute = False

    def close(self) -> None: ...


class Proxy:
    """A TCP wire in front of `backend`, that can go mute (half-open) or be cut."""

    def __init__(self, backend: tuple[str, int]) -> None:
        self._backend = backend
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.is_mute = self._closed = False
        self._threads = [threading.Thread(target=self._accept, args=(self._listener,))]
        self._threads[0].start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(self._backend)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._pump, args=pair)
                    thread.start()
                    self._threads.append(thread)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if not self.is_mute:
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()
        self._sockets.clear()
        self._threads.clear()

    def heal(self) -> None:
        self.is_mute = False
        if not self._threads:
            self._listener = socket.create_server(self.address)
            self._threads = [threading.Thread(target=self._accept, args=(self._listener,))]
            self._threads[0].start()


class Lines:
    """What PortManager wants of a serial port: four input lines, and settings that it may change."""

    def __init__(self) -> None:
        self.cts = self.dsr = self.cd = self.ri = False
        self.baudrate, self.bytesize, self.parity, self.stopbits = 9600, 8, "N", 1
        self.xonxoff = self.rtscts = self.dtr = self.rts = self.break_condition = False

    def reset_input_buffer(self) -> None: ...

    def reset_output_buffer(self) -> None: ...


class Connection:
    """What PortManager wants of a connection: a write that several threads may call."""

    def __init__(self, client: socket.socket) -> None:
        self._client, self._lock = client, threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._client.sendall(data)


class Rfc2217Server:
    """A serial server for one client at a time; bytes go to `backend` (TCP) if there is one."""

    def __init__(self, lines: Lines, backend: tuple[str, int] | None = None) -> None:
        self._lines, self._backend = lines, backend
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._manager: Any = None
        self._thread = threading.Thread(target=self._serve)
        self._stop = False
        self._thread.start()

    def tell(self) -> None:
        """Notify the client of its lines, if one is there."""
        if self._manager is not None:
            with suppress(OSError):
                self._manager.check_modem_lines()

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop:
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            client = self._listener.accept()[0]
            with client, suppress(OSError):
                self._talk(client)
            self._manager = None

    def _talk(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        backend = socket.create_connection(self._backend) if self._backend else None

        connection = Connection(client)
        manager = self._manager = serial.rfc2217.PortManager(self._lines, connection)
        ends = [client] if backend is None else [client, backend]
        try:
            while not self._stop:
                for end in select.select(ends, [], [], 0.05)[0]:
                    data = end.recv(4096)
                    if not data:
                        return
                    if end is client:
                        data = b"".join(manager.filter(data))
                        if backend is not None:
                            backend.sendall(data)
                    else:
                        connection.write(b"".join(manager.escape(data)))
        finally:
            if backend is not None:
                backend.close()


class ContactRig(Rig):
    """presence on CTS and DSR, fault on DCD and RI, behind an RFC 2217 server."""

    driver = ContactDetector

    def __init__(self) -> None:
        self._lines = Lines()
        self._server = Rfc2217Server(self._lines)
        self._proxy = Proxy(self._server.address)

    @property
    def table(self) -> dict[str, Any]:
        return {"port": url("rfc2217", self._proxy.address), "presence": ["cts", "dsr"], "fault": ["dcd", "ri"]}

    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        (self._lines.cts, self._lines.dsr), (self._lines.cd, self._lines.ri) = presence, fault
        self._server.tell()
        time.sleep(0.05)  # for the notification to arrive

    def set_loop(self, loop: int, level: bool) -> None:
        """Presence of one loop, told at once."""
        setattr(self._lines, ("cts", "dsr")[loop], level)
        self._server.tell()

    def mute(self) -> None:
        self._proxy.is_mute = True

    def cut(self) -> None:
        self._proxy.cut()

    def heal(self) -> None:
        self._proxy.heal()

    def close(self) -> None:
        self._proxy.cut()
        self._server.close()


class Module:
    """pymodbus as a digital input module that speaks RTU over a TCP port; inputs 1-2 presence, 3-4 fault."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._inputs = [False] * 4
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.address: tuple[str, int] = self._server.transport.sockets[0].getsockname()[:2]

    async def _start(self) -> ModbusTcpServer:
        async def answer(function: int, _start: int, _address: int, _count: int, current: Any, _values: Any) -> None:
            if function == 2:
                current[0] = sum(level << bit for bit, level in enumerate(self._inputs))

        unused = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        device = SimDevice(MODULE, (bits, bits, unused, unused), action=answer)
        server = ModbusTcpServer(device, framer=FramerType.RTU, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        return server

    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        self._inputs = [*presence, *fault]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class PtyWire:
    """A serial port `path` (a link, as by-id names are) to `backend`: TCP, or a function of the bytes sent."""

    def __init__(self, path: Path, backend: Callable[[bytes], bytes] | tuple[str, int]) -> None:
        self.path, self._backend = path, backend
        self.is_mute = False
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path.symlink_to(os.ttyname(slave))
        self._slave, self._unplugged = slave, threading.Event()
        self._thread = threading.Thread(target=self._pump)
        self._thread.start()

    def unplug(self) -> None:
        if self._unplugged.is_set():
            return
        self._unplugged.set()
        self._thread.join()
        self.path.unlink()
        os.close(self._slave)
        os.close(self.master)

    def heal(self) -> None:
        self.is_mute = False
        if self._unplugged.is_set():
            self.plug()

    def _pump(self) -> None:
        far = None if callable(self._backend) else socket.create_connection(self._backend)
        ends = [self.master] if far is None else [self.master, far]
        while not self._unplugged.is_set():
            for end in select.select(ends, [], [], 0.02)[0]:
                if end is far:
                    data = far.recv(4096)
                    if not self.is_mute:
                        os.write(self.master, data)
                else:
                    data = os.read(self.master, 4096)
                    if far is not None:
                        far.sendall(data)
                    elif not self.is_mute and callable(self._backend):
                        os.write(self.master, self._backend(data))
        if far is not None:
            far.close()


class ModbusRig(Rig):
    driver = ModbusDetector

    def __init__(self) -> None:
        self.module = Module()

    @property
    @abstractmethod
    def port(self) -> str: ...

    @property
    def table(self) -> dict[str, Any]:
        inputs = {"presence": [1, 2], "fault": [3, 4]}
        return {"port": self.port, "address": MODULE, "answer_timeout_ms": 100, **inputs}

    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        self.module.drive(presence, fault)


class ModbusPtyRig(ModbusRig):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._wire = PtyWire(folder / "usb-port0", self.module.address)

    @property
    def port(self) -> str:
        return str(self._wire.path)

    def mute(self) -> None:
        self._wire.is_mute = True

    def cut(self) -> None:
        self._wire.unplug()

    def heal(self) -> None:
        self._wire.heal()

    def close(self) -> None:
        self._wire.unplug()
        self.module.close()


class DconRig(Rig):
    """An ADAM-4050 at a pty, made after its manual; DI0-1 presence, DI2-3 fault, contacts to ground."""

    driver = DconDetector

    def __init__(self, folder: Path) -> None:
        self._inputs = 0
        self._wire = PtyWire(folder / "usb-port0", self._answer)

    @property
    def table(self) -> dict[str, Any]:
        inputs = {"presence": [0, 1], "fault": [2, 3]}
        return {"port": str(self._wire.path), "address": MODULE, "answer_timeout_ms": 100, **inputs}

    def _answer(self, question: bytes) -> bytes:
        return b"!11%02X00\r" % self._inputs if question == b"$%02X6\r" % MODULE else b""

    def drive(self, presence: tuple[bool, bool], fault: tuple[bool, bool]) -> None:
        self._inputs = sum((not level) << bit for bit, level in enumerate((*presence, *fault)))

    def mute(self) -> None:
        self._wire.is_mute = True

    def cut(self) -> None:
        self._wire.unplug()

    def heal(self) -> None:
        self._wire.heal()

    def close(self) -> None:
        self._wire.unplug()


class ModbusTcpRig(ModbusRig):
    """Behind a serial server in raw mode (socket) or in RFC 2217 mode."""

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self._scheme = scheme
        self._server = Rfc2217Server(Lines(), self.module.address) if scheme == "rfc2217" else None
        self._proxy = Proxy(self._server.address if self._server else self.module.address)

    @property
    def port(self) -> str:
        return url(self._scheme, self._proxy.address)

    def mute(self) -> None:
        self._proxy.is_mute = True

    def cut(self) -> None:
        self._proxy.cut()

    def heal(self) -> None:
        self._proxy.heal()

    def close(self) -> None:
        self._proxy.cut()
        if self._server is not None:
            self._server.close()
        self.module.close()
