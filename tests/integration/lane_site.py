"""A whole site on this machine: authority, a real mosquitto with the files of docs/broker, lanes, collector, owner."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hw_sim.broker import SAMPLES, mosquitto_conf

from central import certificates
from central.collector import Collector
from central.lanes import KeyDirectory
from central.store import Store
from edge.config import Broker
from edge.mqtt import Acknowledged, Publication, Session
from edge.outbox import Limits, Outbox
from edge.publisher import Publisher
from edge.record import (
    CheckpointRecord,
    ClockQuality,
    Ending,
    Instant,
    LaneRecord,
    PlateReading,
    PlateText,
    ReadRecord,
)
from edge.seal import keys
from edge.seal.envelope import Sealer
from edge.seal.keys import PrivateKey, PublicKey, Purpose
from edge.seal.opener import FileOpener
from edge.seal.signer import FileSigner

CANARY = "XCANARY7"
"""A plate that must never be seen outside of what an owner opens."""
PATIENCE_S = 20.0


def read(plate: str = CANARY, at_ns: int | None = None) -> ReadRecord:
    """A read record of one vehicle."""
    at = Instant(at_ns or time.time_ns(), time.monotonic_ns())
    reading = PlateReading(PlateText(plate), None, 0.99, (0.99,) * len(plate), region="US-CA", region_confidence=0.9)
    return ReadRecord(bytes(16), at, at, Ending.LEFT, False, ClockQuality(True, 1.0), reading)


def checkpoint(depth: int = 0) -> CheckpointRecord:
    return CheckpointRecord(Instant(time.time_ns(), time.monotonic_ns()), ClockQuality(True, 1.0), depth)


def until(what: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """The real broker. `kill` takes its memory away; what it has on disk stays."""

    def __init__(self, directory: Path, tls: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.log = directory / "mosquitto.log"
        directory.mkdir(parents=True)
        self._conf = mosquitto_conf(directory, self.port, tls / "ca.pem", tls / "broker.pem", tls / "broker.key")
        with self._conf.open("a") as conf:
            conf.write("log_type subscribe\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Mosquitto":
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program, "tests/system-packages.sh installs mosquitto"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([program, "-c", self._conf], stderr=log, stdout=log)
        until(self._answers)
        return self

    def allow(self, name: str, *topics: str) -> None:
        """Restart with more in the access list than docs/broker/acl gives."""
        acl = self.directory / "acl"
        more = "".join(f"topic {what}\n" for what in topics)
        acl.write_text(f"{(SAMPLES / 'acl').read_text()}\nuser {name}\n{more}")
        self._conf.write_text(self._conf.read_text().replace(str(SAMPLES / "acl"), str(acl)))
        self.stop()
        self.start()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Relay:
    """A wire to the broker that can be cut: both ends then see the other vanish without a goodbye. `carried` counts
    bytes, and keeps them: what somebody listening on the wire gets."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.carried = bytearray()
        self._ends: list[socket.socket] = []
        self._whole = threading.Event()
        self._whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End the connections that are open now; new ones wait for `mend`."""
        self._whole.clear()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self) -> None:
        self._whole.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
                self._whole.wait()
                far = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                return
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.carried += data
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Lane:
    """A lane box from outbox to broker; `run` is its publisher's thread."""

    name: str
    outbox: Outbox
    publisher: Publisher
    signer: FileSigner

    def append(self, *records: LaneRecord) -> None:
        for record in records:
            self.outbox.append(record)
        self.publisher.wake()

    @contextmanager
    def run(self) -> Iterator["Lane"]:
        stop = threading.Event()
        thread = threading.Thread(target=self.publisher.run, args=(stop, lambda: None))
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            self.publisher.wake()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@dataclass
class Site:
    """Everything that has a name and a key at one owner's."""

    root: Path
    owner: PrivateKey = field(init=False)
    collector: PrivateKey = field(init=False)
    broker: Mosquitto = field(init=False)

    def __post_init__(self) -> None:
        self.tls = self.root / "tls"
        self.lane_keys = self.root / "lanes"
        self.lane_keys.mkdir(parents=True)
        self.owner = keys.make_recipient_key()
        keys.save(self.owner, self.root / "owner")
        self.collector = keys.make_signing_key()
        keys.save(self.collector, self.root / "collector")
        self._authority = certificates.Authority.open_or_make(self.tls)
        self.certify("broker", server=True)
        for name in ("collector.central", "owner.central"):
            self.certify(name)
        self.broker = Mosquitto(self.root / "broker", self.tls)

    def certify(self, name: str, *, server: bool = False, authority: certificates.Authority | None = None) -> None:
        key = certificates.make_key()
        hosts = ("localhost", "127.0.0.1") if server else ()
        certificate = (authority or self._authority).issue(name, key.public_key(), hosts=hosts)
        certificates.write_new(self.tls / f"{name}.key", certificates.private_pem(key), 0o600)
        certificates.write_new(self.tls / f"{name}.pem", certificate, 0o644)

    def connection(self, name: str, port: int | None = None) -> Broker:
        return Broker(
            host="localhost",
            port=port or self.broker.port,
            ca_file=self.tls / "ca.pem",
            certificate_file=self.tls / f"{name}.pem",
            key_file=self.tls / f"{name}.key",
            keepalive_s=5,
        )

    def session(self, name: str, *, resume: bool = False, broker: Mosquitto | None = None) -> Session:
        return Session(self.connection(name, port=(broker or self.broker).port), name, resume=resume)

    @contextmanager
    def session_of(self, name: str) -> Iterator[Session]:
        """A connected client with the certificate of `name`."""
        session = self.session(name)
        session.connect()
        try:
            yield session
        finally:
            session.close()

    def other_authority(self) -> certificates.Authority:
        return certificates.Authority.open_or_make(self.root / "other-tls")

    def enrol(self, name: str) -> PrivateKey:
        """A lane's certificate and signing key; the public half is put where the collector looks."""
        self.certify(name)
        key = keys.make_signing_key()
        keys.save(key, self.root / f"{name}.signing")
        (self.lane_keys / f"{name}.pub").write_text(key.public.pem())
        return key

    def lane(
        self, name: str, *, receipt_timeout_s: float = 1.0, limits: Limits | None = None, port: int | None = None
    ) -> Lane:
        """The box of an enrolled lane; again after `outbox.close()` it is the same box restarted."""
        signer = FileSigner(keys.load_private(self.root / f"{name}.signing", Purpose.SIGNING))
        sealer = Sealer(name, signer, (self.owner.public,))
        outbox = Outbox.open(self.root / f"{name}.outbox", sealer, limits or Limits())
        publisher = self.publisher(name, outbox, receipt_timeout_s=receipt_timeout_s, port=port)
        return Lane(name, outbox, publisher, signer)

    def publisher(
        self, name: str, outbox: Outbox, *, receipt_timeout_s: float = 1.0, port: int | None = None
    ) -> Publisher:
        return Publisher(
            self.connection(name, port=port),
            name,
            outbox,
            [self.collector.public],
            receipt_timeout_s=receipt_timeout_s,
            state=lambda: {"software": "test"},
        )

    @staticmethod
    def say(session: Session, to: str, payload: bytes) -> None:
        """Publish and wait until the broker has it."""
        said = Publication(to, payload)
        session.publish(said)
        until(lambda: any(isinstance(e, Acknowledged) and e.publication is said for e in session.wait(1)))

    @property
    def store_address(self) -> str:
        return str(self.root / "store.sqlite")

    @contextmanager
    def collecting(
        self,
        store: Store | None = None,
        *,
        name: str = "collector.central",
        share: str | None = None,
        broker: Mosquitto | None = None,
    ) -> Iterator[Collector]:
        """A collector in this process."""
        at = broker or self.broker
        stop, session = threading.Event(), self.session(name, resume=True, broker=at)
        database = store or Store(self.store_address)
        lane_keys, signer = KeyDirectory(self.lane_keys), FileSigner(self.collector)
        collector = Collector(session, database, lane_keys, signer, share=share)
        thread = threading.Thread(target=collector.run, args=(stop,))
        subscription = f"{name} 1 {f'$share/{share}/' if share else ''}lanes/v1/+/checkpoint"
        before = at.log.read_text().count(subscription)
        thread.start()
        try:
            until(lambda: at.log.read_text().count(subscription) > before)
            yield collector
        finally:
            stop.set()
            session.wake()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            database.close()

    def collector_process(self) -> subprocess.Popen[bytes]:
        """`sealane collector` as it is run in the field."""
        with (self.root / "collector.log").open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable, "-m", "edge", "collector",
                    "--broker", f"localhost:{self.broker.port}",
                    "--ca", self.tls / "ca.pem",
                    "--certificate", self.tls / "collector.central.pem",
                    "--key", self.tls / "collector.central.key",
                    "--store", self.store_address,
                    "--lanes", self.lane_keys,
                    "--signing-key", self.root / "collector",
                ],
                stderr=log,
            )  # fmt: skip

    def opener(self) -> FileOpener:
        return FileOpener(self.owner)

    def public(self, name: str) -> PublicKey:
        return keys.load_public(self.lane_keys / f"{name}.pub", Purpose.SIGNING)
