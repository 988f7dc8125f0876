"""`sealane tail`: what the lanes say, for people or as lines for programs. Verifies always, opens with the owner's key.

`Watcher` judges one message after the other, without I/O; the rest of this file shows what it found.
"""

import json
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from central import connection
from central.keys import PassphraseFile, passphrase
from central.lanes import LaneKeys, admit, open_lane_keys
from central.store import Store
from edge.errors import CollectorError, KeyFilePassphrase, MqttError, OptionMissing, SealaneError, TokenRefused, clean
from edge.mqtt import TICK_S, Message, Session, keep_connected, lane_filter, split
from edge.record import AuditRecord, CheckpointRecord, GapRecord, Kind, LaneRecord, ReadRecord
from edge.seal import custody, keys, receipt
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import open_record
from edge.seal.keys import PublicKey, Purpose
from edge.seal.opener import Opener

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

LEAVES = ("record", "checkpoint", "receipt")
MAX_LANES = 4096
ROWS = 30
ALARMS = 6
FOLLOW_S = 1.0
LATE_COMMIT_NS = 10_000_000_000
"""A collector's commit may become visible this much later than one that was begun after it."""
REPEATED = (Finding.DUPLICATE, Finding.OLD)


@dataclass(frozen=True, slots=True)
class Line:
    """One message that was heard.

    finding: its place in the chain; alarm: why somebody must look; record: only if it was opened; code: of the error
    that kept it from being verified or opened.
    """

    lane: str
    received_ns: int
    epoch: str = ""
    seq: int = 0
    kind: str = ""
    time_ns: int = 0
    finding: Finding | None = None
    missing: tuple[int, int] | None = None
    record: LaneRecord | None = None
    alarm: str | None = None
    code: str | None = None

    @property
    def delay_ms(self) -> float:
        return (self.received_ns - self.time_ns) / 1e6

    def to_json(self) -> dict[str, Any]:
        """One line of `sealane tail --json`, as docs/owner-guide.md lists it."""
        return {
            "event": "message",
            "lane": self.lane,
            "epoch": self.epoch,
            "seq": self.seq,
            "kind": self.kind,
            "time_ns": self.time_ns,
            "delay_ms": round(self.delay_ms, 1),
            "chain": self.finding,
            "missing": self.missing,
            "alarm": self.alarm,
            "code": self.code,
            "record": None if self.record is None else plain(asdict(self.record)),
        }


class Watcher:
    """Verifies signature, order and gaps of every lane that is heard, and opens what `opener` can open."""

    def __init__(self, lane_keys: LaneKeys, opener: Opener | None) -> None:
        self._lane_keys = lane_keys
        self._opener = opener
        self._chains: dict[str, ChainVerifier] = {}
        self.counts: Counter[str] = Counter()
        self.unopened: SealaneError | None = None
        """The last reason why a message did not open, if a key was given."""

    def message(self, lane: str, data: bytes, received_ns: int) -> Line | None:
        """What is to be said of a message that came as one of `lane`; None for a repetition."""
        try:
            envelope = admit(lane, data, self._lane_keys, received_ns)
        except CollectorError as error:
            self.counts["refused"] += 1
            return Line(clean(lane, 32), received_ns, alarm=error.what, code=error.code)
        header = envelope.header
        verdict = self._chain(lane).accept(envelope)
        if verdict.finding in REPEATED:
            self.counts["repeated"] += 1
            return None
        self.counts["verified"] += 1
        record, code = None, None
        if self._opener is not None:
            try:
                record = open_record(envelope, self._opener)
                self.counts["opened"] += 1
            except SealaneError as error:
                self.unopened, code = error, error.code
        return Line(
            lane,
            received_ns,
            f"{header.epoch:016x}",
            header.seq,
            header.kind,
            header.time_ns,
            verdict.finding,
            verdict.missing,
            record,
            _said(verdict.finding, verdict.missing) if verdict.alarm else None,
            code,
        )

    def _chain(self, lane: str) -> ChainVerifier:
        if lane not in self._chains:
            if len(self._chains) >= MAX_LANES:
                self._chains.clear()
            self._chains[lane] = ChainVerifier(lane, announced=self._lane_keys.epochs(lane))
        return self._chains[lane]


def plain(value: Any) -> Any:
    """A record's fields as JSON has them: bytes in hex."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def _said(finding: Finding, missing: tuple[int, int] | None) -> str:
    match finding:
        case Finding.GAP if missing is not None:
            return f"numbers {missing[0]} to {missing[1]} did not come (yet)"
        case Finding.FORK:
            return "contradicts an earlier message: a copied card, or the lane's key in other hands"
        case Finding.UNLINKED_EPOCH:
            return "a new epoch that does not go on from the one before: a new image, or messages cut away"
    return str(finding)


def command(
    lanes: connection.Lanes = None,
    trust: connection.TrustSource = None,
    root: connection.RootFile = None,
    trust_state: connection.TrustState = connection.TRUST_STATE,
    broker: Annotated[
        str | None, typer.Option(envvar="SEALANE_BROKER", help="HOST:PORT, as in the broker's certificate.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(envvar="SEALANE_CA", help="Certificate of the authority.")] = None,
    certificate: Annotated[Path | None, typer.Option(envvar="SEALANE_CERTIFICATE", help="Own certificate.")] = None,
    key: Annotated[Path | None, typer.Option(envvar="SEALANE_KEY", help="Key of that certificate.")] = None,
    store: Annotated[str | None, typer.Option(help="Read a collector's store instead of listening.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --store: go on with what comes.")] = False,
    owner_key: Annotated[Path | None, typer.Option(help="Private key of a recipient; without it only verify.")] = None,
    passphrase_file: PassphraseFile = None,
    collector_key: Annotated[list[Path] | None, typer.Option(help="Public key of a collector, for receipts.")] = None,
    lane: Annotated[list[str] | None, typer.Option(help="Show only this lane.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Show only this kind; alarms are always shown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each message.")] = False,
) -> None:
    """Show what the lanes say: verified always, opened with the owner's key."""
    opener = _opener(owner_key, passphrase_file) if owner_key is not None else None
    watcher = Watcher(open_lane_keys(lanes, trust, root, trust_state), opener)
    collectors = [keys.load_public(path, Purpose.SIGNING) for path in collector_key or []]
    wanted = _Wanted(frozenset(lane or ()), frozenset(kind or ()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    screen: _Lines | _Screen = _Lines() if as_json else _Screen(watcher, opener is not None)
    with screen:
        try:
            if store is not None:
                _from_store(Store(store, read_only=True), watcher, screen, wanted, stop if follow else None)
            elif broker and ca and certificate and key:
                name = f"{connection.own_name(certificate)}-tail-{time.monotonic_ns() & 0xFFFFFF:06x}"
                session = Session(connection.broker(broker, ca, certificate, key), name, resume=False, expiry_s=0)
                _from_broker(session, watcher, screen, wanted, collectors, stop)
            else:
                raise OptionMissing("tail needs --broker with --ca, --certificate and --key, or --store")
        except KeyboardInterrupt:
            stop.set()
    if watcher.unopened is not None and not watcher.counts["opened"]:
        raise watcher.unopened


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to show; alarms always. Empty: everything."""

    lanes: frozenset[str]
    kinds: frozenset[Kind]

    def shows(self, line: Line) -> bool:
        of_lane = not self.lanes or line.lane in self.lanes
        return of_lane and (line.alarm is not None or not self.kinds or line.kind in self.kinds)


def _opener(path: Path, passphrase_file: Path | None) -> Opener:
    secret = passphrase(passphrase_file) if passphrase_file is not None else None
    try:
        return custody.opener(path, secret)
    except (KeyFilePassphrase, TokenRefused):
        if secret is not None:
            raise
        return custody.opener(path, passphrase(None))


def _from_store(
    store: Store, watcher: Watcher, screen: "_Lines | _Screen", wanted: _Wanted, follow_until: threading.Event | None
) -> None:
    """All of a store in the order of its coming; with `follow_until` also what comes later."""
    after = (0, "", "", 0)
    while True:
        found = store.received(after)
        for message in found:
            line = watcher.message(message.lane, message.sealed, message.received_ns)
            if line is not None and wanted.shows(line):
                screen.line(line)
        if found:
            after = found[-1].place
            continue
        if follow_until is None or follow_until.wait(FOLLOW_S):
            return
        after = (max(0, after[0] - LATE_COMMIT_NS), "", "", 0)  # the watcher knows repetitions


def _from_broker(
    session: Session,
    watcher: Watcher,
    screen: "_Lines | _Screen",
    wanted: _Wanted,
    collectors: list[PublicKey],
    stop: threading.Event,
) -> None:
    def serve() -> None:
        session.connect()
        session.subscribe([lane_filter(leaf) for leaf in LEAVES])
        while not stop.is_set():
            for event in session.wait(TICK_S):
                if isinstance(event, Message) and (place := split(event.topic)) is not None:
                    hear(*place, event.payload)
        session.close()

    def hear(lane: str, leaf: str, data: bytes) -> None:
        if leaf == "receipt":
            if collectors and (said := _receipt(lane, data, collectors)) is not None:
                screen.receipt(said)
            return
        line = watcher.message(lane, data, time.time_ns())
        if line is not None and wanted.shows(line):
            screen.line(line)

    keep_connected(serve, stop, trouble=screen.trouble)


def _receipt(lane: str, data: bytes, collectors: list[PublicKey]) -> receipt.Receipt | None:
    """A receipt that one of `collectors` signed for `lane`; the lane itself refuses any other."""
    try:
        said = receipt.verify(receipt.parse(data), collectors)
    except SealaneError:
        return None
    return said if said.lane == lane else None


class _Lines:
    """For programs: one JSON object a line. docs/owner-guide.md lists the fields."""

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, line: Line) -> None:
        self._write(line.to_json())

    def receipt(self, said: receipt.Receipt) -> None:
        self._write(
            {
                "event": "receipt",
                "lane": said.lane,
                "epoch": f"{said.epoch:016x}",
                "up_to": said.up_to_seq,
                "time_ns": said.time_ns,
                "heard_monotonic_ns": time.monotonic_ns(),
            }
        )

    def trouble(self, error: MqttError) -> None:
        self._write({"event": "trouble", "code": error.code, "what": error.what})

    def _write(self, fields: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


class _Screen:
    """For people: a live table, newest last, alarms above it; plain lines where there is no terminal."""

    def __init__(self, watcher: Watcher, opens: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._watcher = watcher
        self._opens = opens
        self._lines: deque[Line] = deque(maxlen=ROWS)
        self._alarms: deque[Line] = deque(maxlen=ALARMS)
        self._alarm_count = 0
        self._trouble: MqttError | None = None
        self._console = Console(highlight=False)
        self._live = (
            Live(get_renderable=self._picture, console=self._console, refresh_per_second=4)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> "_Screen":
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._heading())
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, line: Line) -> None:
        self._trouble = None
        self._lines.append(line)
        if line.alarm is not None:
            self._alarms.append(line)
            self._alarm_count += 1
        if self._live is None:
            from rich.text import Text

            self._console.print(Text("  ").join(cell for cell in _cells(line) if cell.plain), soft_wrap=True)

    def receipt(self, said: receipt.Receipt) -> None:
        pass

    def trouble(self, error: MqttError) -> None:
        self._trouble = error
        if self._live is None:
            self._console.print(f"{error.code} {error.what}", markup=False)

    def _heading(self) -> "Text":
        from rich.text import Text

        if self._trouble is not None:
            return Text(f"{self._trouble.code} {self._trouble.what}: {self._trouble.hint}", "bold yellow")
        if not self._opens:
            return Text("Without a key: signatures, order and gaps are verified; contents stay sealed.", "cyan")
        if self._watcher.unopened is not None:
            return Text(f"{self._watcher.unopened}: {self._watcher.unopened.hint}", "bold yellow")
        return Text("Signatures, order and gaps are verified.", "dim")

    def _picture(self) -> "Group":
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading, justify in _COLUMNS:
            table.add_column(heading, justify=justify, no_wrap=heading != "")
        rows = max(3, self._console.height - 8 - len(self._alarms))
        for line in list(self._lines)[-rows:]:
            table.add_row(*_cells(line))
        alarms = [
            Text(f"ALARM {_clock(line.received_ns)} {line.lane} {line.seq or ''} {line.alarm}", "bold white on red")
            for line in self._alarms
        ]
        counts = ", ".join(f"{count} {what}" for what, count in self._watcher.counts.items()) or "nothing heard yet"
        summary = f"{counts}, {self._alarm_count} alarms   Ctrl-C ends"
        return Group(self._heading(), *alarms, table, Text(summary, "dim"))


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("time", "left"),
    ("lane", "left"),
    ("plate", "left"),
    ("region", "left"),
    ("sure", "right"),
    ("frames", "right"),
    ("km/h", "right"),
    ("delay", "right"),
    ("", "left"),
    ("verified", "left"),
)


def _cells(line: Line) -> "tuple[Text, ...]":
    """One row. Whatever comes from a record is printed as it is, never as markup."""
    from rich.text import Text

    told = [Text() for _ in range(5)]
    note = Text({"r": "", "c": "checkpoint", "g": "given up", "a": "audit"}.get(line.kind, "refused"), "dim")
    match line.record:
        case ReadRecord(reading=reading, speed_kmh=speed, restarted=restarted):
            plate = (
                Text(str(reading.text), "bold") if reading.text is not None else Text(str(reading.no_read), "yellow")
            )
            told = [
                plate,
                Text(reading.region if reading.text else ""),
                Text(f"{reading.confidence:.3f}" if reading.text else ""),
                Text(f"{reading.frames_agreeing}/{reading.frames_used}"),
                Text("" if speed is None else f"{speed:.0f}"),
            ]
            note = Text("restarted" if restarted else "", "yellow")
        case CheckpointRecord(outbox_depth=depth):
            note = Text(f"checkpoint, {depth} waiting", "dim")
        case GapRecord(first_seq=first, last_seq=last, reason=reason):
            note = Text(f"{first} to {last} given up: {reason}", "yellow")
        case AuditRecord(event=event, facts=facts):
            note = Text(" ".join([event, *(f"{name}={value}" for name, value in facts)]), "magenta")
        case None if line.finding is not None:
            told[0] = Text("sealed" if line.code is None else line.code, "dim" if line.code is None else "yellow")
    if line.alarm is not None:
        mark = Text(f"{line.code or ''} {line.alarm}".strip(), "bold red")
    else:
        mark = Text(f"ok {line.seq}" + ("" if line.finding is Finding.IN_ORDER else f" {line.finding}"), "green")
    delay = Text(f"{line.delay_ms:.0f} ms" if line.time_ns else "")
    return (Text(_clock(line.time_ns or line.received_ns), "dim"), Text(line.lane), *told, delay, note, mark)


def _clock(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%H:%M:%S")
