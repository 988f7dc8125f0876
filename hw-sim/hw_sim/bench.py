"""The bench: one whole lane on this machine, every part its own supervised process on its real wires.

Broker, collector, simulated lane, daemon and tail are the programs that people run; the bench makes throw-away keys for
them, holds the traffic while the daemon is away, and sets what the lane said beside what drove past.
"""

import json
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge.control import ask, socket_path
from edge.errors import SealaneError
from hw_sim import broker
from hw_sim.scenario import Detector, changed, load
from hw_sim.supervise import Child
from hw_sim.tally import Row, Tally, Truth, median_and_p95, seen_from, truth_from
from hw_sim.traffic import rides

LANE = "bench"
NAMES = (LANE, "collector.central", "owner.central", "screen.central")
"""Who gets a TLS certificate. The bench's own tail is the screen; the owner's is for whoever wants to look, too."""
STORE = "collector.sqlite"
EXACT_BY_DAY = 0.9
POLL_S = 0.1
ASK_S = 0.25
"""How often the daemon is asked how it is."""
DRAIN_S = 60.0
"""Longest wait for the last records after the last vehicle."""
RECEIPT_S = 1.0
"""Longest wait for tail to hear the last receipt, too."""
ROWS_SHOWN = 16
HOPELESS = 5
"""A program that fails by itself this often in a row will not run; the bench ends then."""
LAST_WORDS = 300
"""Characters of a program's log that are shown when it fails."""
COLUMNS: tuple[tuple[str, Any], ...] = (
    ("#", "right"),
    ("km/h", "right"),
    ("drove past", "left"),
    ("recorded", "left"),
    ("region", "left"),
    ("sure", "right"),
    ("frames", "right"),
    ("edge to confirmed", "right"),
    ("", "left"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `vehicles`: 0 for without end. `frames`: photographs in place of rendered vehicles."""

    vehicles: int
    broker: broker.Kind
    frames: Path | None
    scenario: str
    speed: str | None
    seed: int
    folder: Path


def command(
    vehicles: Annotated[int, typer.Option(min=0, help="Stop after this many; 0: go on until Ctrl-C.")] = 0,
    broker_kind: Annotated[broker.Kind, typer.Option("--broker")] = broker.Kind.IOTCORE,
    frames: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Photographs in place of rendered vehicles.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="What drives past: a name in scenarios/ or a TOML file.")] = "day",
    speed: Annotated[str | None, typer.Option(help="Slowest and fastest in km/h, for example 5-130.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same vehicles.")] = 1,
    folder: Annotated[Path, typer.Option(help="Keys, configuration, logs and stores of this run.")] = Path(
        "build/bench"
    ),
) -> None:
    """Run one whole lane on this machine and set what it said beside what drove past."""
    rides(changed(load(scenario), traffic={"speed_kmh": speed}), frames)  # what is wrong with them is said here
    if broker_kind is broker.Kind.MOSQUITTO:
        broker.mosquitto()
    bench = Bench(Plan(vehicles, broker_kind, frames, scenario, speed, seed, folder.resolve()))
    signal.signal(signal.SIGTERM, lambda *_: bench.interrupt())
    with bench:
        raise typer.Exit(0 if bench.run() else 1)


class Bench:
    """Owns the processes of one run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._console = Console()
        self._tally = Tally()
        self._inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._alarms: list[str] = []
        self._children: dict[str, Child] = {}
        self._lane: dict[str, Any] = {}
        """What the daemon last said of itself; empty while it does not answer."""
        self._ask_at = 0.0
        self._going = False
        self._ended = False
        self._closing = False
        self._reported = 0
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True

    def __enter__(self) -> "Bench":
        shutil.rmtree(self._plan.folder, ignore_errors=True)
        (self._plan.folder / "logs").mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children.values()):
            child.stop()

    def run(self) -> bool:
        """Until the last vehicle's record is confirmed, or Ctrl-C. Whether the books balance."""
        self._start()
        try:
            if self._console.is_terminal:
                with Live(get_renderable=self._screen, console=self._console, refresh_per_second=4):
                    self._pump()
            else:
                self._pump()
        except KeyboardInterrupt:
            self._interrupted = True
        return self._close()

    def _start(self) -> None:
        plan, folder = self._plan, self._plan.folder
        self._say(f"bench: throw-away keys, configuration, logs and stores of this run are in {folder}")
        self._say(broker.SAYS[plan.broker])
        keys = _make_keys(folder / "keys")
        mqtt_port, camera_port, loop_port = (str(port) for port in _free_ports(3))
        ring_kib = 1024 if plan.frames is None else 6144  # photographs are larger than a camera's frames
        lane_toml = _lane_toml(mqtt_port, camera_port, loop_port, load(plan.scenario).detector, ring_kib)
        (folder / "lane.toml").write_text(lane_toml)
        broker_tls = ("--tls-ca", keys / "ca.pem", "--tls-cert", keys / "broker.pem", "--tls-key", keys / "broker.key")
        self._launch(
            "broker",
            "hw-sim",
            "broker",
            "--kind",
            plan.broker,
            "--port",
            mqtt_port,
            "--state",
            folder / "broker",
            *broker_tls,
        )
        signs = ("--store", folder / STORE, "--lanes", keys / "lanes", "--signing-key", keys / "collector.key")
        self._launch("collector", "sealane", "collector", *_reach(keys, mqtt_port, "collector.central"), *signs)
        opens = (*self._opens(), "--collector-key", keys / "collector.key.pub")
        self._launch("tail", "sealane", "tail", *opens, *_reach(keys, mqtt_port, "screen.central"), hears="tail")
        traffic = ("--vehicles", plan.vehicles, "--seed", plan.seed, "--scenario", plan.scenario)
        speed = () if plan.speed is None else ("--speed", plan.speed)
        photos = () if plan.frames is None else ("--frames", plan.frames.resolve())
        wires = ("--camera-port", camera_port, "--rfc2217-port", loop_port, "--start-held")
        self._launch("hw-sim", "hw-sim", "lane", *traffic, *speed, *photos, *wires, hears="truth")

    def _opens(self) -> tuple[object, ...]:
        """How tail verifies and opens."""
        keys = self._plan.folder / "keys"
        return ("--json", "--lanes", keys / "lanes", "--owner-key", keys / "owner.key")

    def _launch(self, name: str, program: str, *arguments: object, hears: str | None = None) -> None:
        def heard(line: str) -> None:
            self._inbox.put((hears or "", line))

        self._children[name] = Child(
            name,
            _argv(program, *arguments),
            self._plan.folder / "logs",
            on_line=heard if hears else None,
            on_change=lambda child, what: self._inbox.put(("child", (child, what))),
        ).start()

    def _pump(self) -> None:
        """Handle what the processes say until all is done."""
        ended_at: float | None = None
        while not self._interrupted:
            with suppress(queue.Empty):
                self._handle(*self._inbox.get(timeout=POLL_S))
            self._hold_or_go()
            if self._ended and ended_at is None:
                ended_at = time.monotonic()
            if ended_at is not None and (self._settled() or time.monotonic() - ended_at > DRAIN_S):
                break
        deadline = time.monotonic() + RECEIPT_S
        while time.monotonic() < deadline and any(row.confirmed_ns is None for row in self._tally.rows):
            with suppress(queue.Empty):
                self._handle(*self._inbox.get(timeout=POLL_S))

    def _settled(self) -> bool:
        """All is delivered, and the collector's store holds a record of every vehicle."""
        if self._lane.get("outbox") != 0:
            return False
        if not self._tally.complete:
            self._audit()
        return self._tally.complete

    def _audit(self) -> None:
        """Read the collector's store from its beginning: it has what a tail misses while the broker is down, and its
        word on the chain is the one that counts."""
        argv = _argv("sealane", "tail", *self._opens(), "--store", self._plan.folder / STORE)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        self._alarms = [] if done.returncode == 0 else [f"the store can't be read: {done.stderr.strip()}"]
        for line in done.stdout.splitlines():
            self._tailed(json.loads(line))

    def _handle(self, what: str, content: Any) -> None:
        match what:
            case "child":
                child, news = content
                self._say(f"{child.name}: {news}" + (f", pid {child.pid}" if news == "started" else ""))
                if news != "started":
                    self._ended_by(child)
            case "truth":
                self._truth(json.loads(content))
            case "tail":
                self._tailed(json.loads(content))

        self._report()

    def _ended_by(self, child: Child) -> None:
        """A program ended; it is being started again."""
        if child.name == "daemon":
            self._hold()
        if child.failures:
            for line in child.log.read_text(errors="replace")[-LAST_WORDS:].splitlines()[-2:]:
                self._say(f"  {line}")
        if child.failures >= (1 if child.name == "hw-sim" else HOPELESS):  # the simulator's truth is gone with it
            self._say(f"{child.name} does not run: see {child.log}")
            self._interrupted = True

    def _report(self) -> None:
        """Where there is no live table: a line for each vehicle, once its record is confirmed."""
        while not self._console.is_terminal and self._reported < len(self._tally.rows):
            row = self._tally.rows[self._reported]
            if row.confirmed_ns is None and not self._closing:
                return
            if self._reported == 0:
                self._console.print("  ".join(heading for heading, _ in COLUMNS if heading), style="dim")
            self._reported += 1
            self._console.print("  ".join(cell for cell in _cells(row) if cell), highlight=False)

    def _tailed(self, line: dict[str, Any]) -> None:
        """One line of `sealane tail --json`."""
        if line["event"] == "receipt":
            self._tally.confirmed(line["epoch"], line["up_to"], line["heard_monotonic_ns"])
        if line["event"] != "message":
            return
        if line["alarm"] or line["code"]:
            self._alarms.append(f"{line['lane']} {line['seq']}: {line['alarm'] or line['code']}")
        if line["kind"] == "r" and line["record"] is not None:
            self._tally.saw(seen_from(line))

    def _truth(self, line: dict[str, Any]) -> None:
        if line["event"] == "ready" and "daemon" not in self._children:
            self._launch("daemon", "sealane", "run", "--config", self._plan.folder / "lane.toml")
        elif line["event"] == "vehicle":
            self._tally.drove(truth_from(line))
        elif line["event"] == "trouble" and line["kind"] == "stuck":
            self._tally.drove(Truth(0, None, line["from_ns"], line["to_ns"]))
        elif line["event"] == "end":
            self._ended = True

    def _hold_or_go(self) -> None:
        """Traffic moves only while the daemon says that it sees the loop and the camera."""
        if time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + ASK_S
        try:
            self._lane = ask(socket_path(self._plan.folder / "state"), "status")
        except SealaneError:
            self._lane = {}
        if (self._lane.get("loop"), self._lane.get("camera")) == ("ok", "ok"):
            self._go()
        else:
            self._hold()

    def _go(self) -> None:
        if not self._going:
            self._going = True
            self._children["hw-sim"].say("go")
            self._say("the daemon is ready: traffic goes")

    def _hold(self) -> None:
        if self._going:
            self._going = False
            self._children["hw-sim"].say("hold")
            self._say("the daemon is away: traffic is held")

    def _say(self, line: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {escape(line)}", highlight=False, soft_wrap=True)

    def _screen(self) -> Group:
        """The live table, newest vehicle last."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading, justify in COLUMNS:
            table.add_column(heading, justify=justify)
        for row in self._tally.rows[-ROWS_SHOWN:]:
            table.add_row(*_cells(row))
        pids = "  ".join(f"{child.name} {child.pid or 'down'}" for child in self._children.values())
        return Group(table, Text(self._books(), style="bold"), Text(f"pids: {pids}   Ctrl-C ends all", style="dim"))

    def _books(self) -> str:
        tally = self._tally
        books = [f"{len(tally.rows)} passages", f"{tally.records} records"]
        if tally.labelled or not tally.rows:
            books.append(f"{tally.exact} exact")
        books.append("chain intact" if not self._alarms else f"{len(self._alarms)} alarms")
        waiting = self._lane.get("outbox")
        books.append("outbox empty" if waiting == 0 else f"outbox {'unknown' if waiting is None else waiting}")
        return ", ".join(books)

    def _close(self) -> bool:
        """The closing line, and whether the books balance."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C ends nothing sooner
        tally = self._tally
        self._audit()
        self._closing = True
        self._report()
        for alarm in self._alarms[:10]:
            self._console.print(f"[bold red]alarm[/] {escape(alarm)}", highlight=False)
        missing = [row.truth.n for row in tally.rows if row.seen is None]
        if missing:
            self._console.print(f"[bold red]no record[/] of vehicles {missing}", highlight=False)
        if tally.unmatched:
            strays = [seen.seq for seen in tally.unmatched]
            self._console.print(f"[bold red]no vehicle[/] of records {strays}", highlight=False)
        arriving, leaving = tally.latencies_ms()
        for edge, values in (("arriving", arriving), ("leaving", leaving)):
            median, p95 = median_and_p95(values)
            self._console.print(
                f"{edge} loop edge -> record confirmed: median {median:.0f} ms, 95th percentile {p95:.0f} ms",
                highlight=False,
            )
        needed = int(EXACT_BY_DAY * tally.labelled)  # of a few vehicles, one may be misread
        enough = tally.exact >= needed or self._plan.frames is not None
        if not enough:
            self._console.print(f"[bold red]too few exact[/]: {EXACT_BY_DAY:.0%} are needed", highlight=False)
        self._console.print(self._books(), style="bold", highlight=False)
        counted = not self._plan.vehicles or len(tally.rows) >= self._plan.vehicles or self._interrupted
        return tally.complete and self._lane.get("outbox") == 0 and not self._alarms and enough and counted


def _cells(row: Row) -> tuple[str, ...]:
    truth, seen = row.truth, row.seen
    speed = f"{truth.speed_kmh:.0f}" if truth.speed_kmh is not None else ""
    drove = escape(truth.text) if truth.text is not None else f"[dim]{'not labelled' if truth.n else 'nothing'}[/]"
    if seen is None:
        return str(truth.n), speed, drove, "[dim]...[/]", "", "", "", "", ""
    said = escape(seen.text) if seen.text is not None else f"[yellow]{escape(seen.no_read or '')}[/]"
    delay = f"{(row.confirmed_ns - truth.arrival_ns) / 1e6:.0f} ms" if row.confirmed_ns else "[dim]...[/]"
    mark = "[green]exact[/]" if row.exact else "" if truth.text is None else "[red]differs[/]"
    if seen.restarted:
        mark += " [yellow]restarted[/]"
    return (
        *(str(truth.n), speed, drove, said, escape(seen.region)),
        *(f"{seen.confidence:.3f}", str(seen.frames), delay, mark),
    )


def _argv(program: str, *arguments: object) -> list[str]:
    """A command of this environment."""
    return [str(Path(sys.executable).with_name(program)), *(str(argument) for argument in arguments)]


def _make_keys(folder: Path) -> Path:
    """Throw-away keys of everybody, made with the commands that people use."""
    folder.mkdir()
    (folder / "lanes").mkdir()
    for arguments in (
        ("lane", folder / "lane.key"),
        ("collector", folder / "collector.key"),
        ("recipient", folder / "owner.key", "--no-passphrase"),
        ("recipient", folder / "escrow.key", "--no-passphrase"),
        ("tls", "--ca", folder, "--name", "broker", "--server"),
        *(("tls", "--ca", folder, "--name", name, "--client") for name in NAMES),
    ):
        subprocess.run(_argv("sealane", "keys", *arguments), check=True, stdout=subprocess.DEVNULL)
    shutil.copy(folder / "lane.key.pub", folder / "lanes" / f"{LANE}.pub")
    return folder


def _reach(keys: Path, port: str, name: str) -> tuple[object, ...]:
    """How a central program reaches the broker under `name`."""
    tls = ("--ca", keys / "ca.pem", "--certificate", keys / f"{name}.pem", "--key", keys / f"{name}.key")
    return ("--broker", f"127.0.0.1:{port}", *tls)


def _lane_toml(mqtt_port: str, camera_port: str, loop_port: str, detector: Detector, ring_kib: int) -> str:
    presence, fault = (json.dumps(lines[: detector.loops]) for lines in (detector.presence_lines, detector.fault_lines))
    return f"""# The bench's lane: a camera and a detector on their real wires, simulated at the other end.
confine = "try"

[lane]
id = "{LANE}"

[loop]
driver = "contact"
spacing_m = {detector.spacing_m}

[loop.device]
port = "rfc2217://127.0.0.1:{loop_port}"
presence = {presence}
fault = {fault}

[camera]
driver = "network"
ring_frames = 32
ring_frame_kib = {ring_kib}

[camera.device]
url = "http://127.0.0.1:{camera_port}/video.mjpg"

[broker]
host = "127.0.0.1"
port = {mqtt_port}
ca_file = "keys/ca.pem"
certificate_file = "keys/{LANE}.pem"
key_file = "keys/{LANE}.key"

[keys]
signing_key_file = "keys/lane.key"
recipient_files = ["keys/owner.key.pub", "keys/escrow.key.pub"]
collector_files = ["keys/collector.key.pub"]

[state]
directory = "state"
checkpoint_s = 20
"""


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
