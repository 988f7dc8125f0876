"""A real daemon in a box that is looked at from outside: its own user, its state on a disk image of its own, every way
out recorded. What it wrote, sent and said becomes `Evidence`; judging it is prove_no_images.py's business.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from hw_sim.detector import ModbusEnd, Outputs
from paho.mqtt.enums import CallbackAPIVersion

from edge.control import ask, socket_path
from edge.errors import SealaneError
from tests.integration.lane_site import Site

REPOSITORY = Path(__file__).parents[2]
UID = 64321
"""The service's user; needs no account."""
DISK_MIB = 24
START_S = 40.0
PRESENCE_S = 1.2
PAUSE_S = 0.8
DRAIN_S = 20.0
TRACED = (
    "open,openat,openat2,creat,memfd_create,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "socket,connect,listen,sendto,sendmsg,execve,execveat,io_uring_setup"
)


@dataclass
class Published:
    """One message as the broker passed it on."""

    topic: str
    payload: bytes
    labels: tuple[tuple[str, str], ...]


@dataclass
class Trace:
    """What strace saw. Paths as the kernel resolved them; `refused`: attempts to write or make that failed."""

    written: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    destinations: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    other: set[str] = field(default_factory=set)


@dataclass
class Evidence:
    """Of one life of the daemon. trace: None where it ran untraced; the probes: None where it ran traced."""

    lane: str
    visits: int
    state: Path
    status: dict[str, Any]
    disk: bytes
    log: str
    published: list[Published]
    trace: Trace | None = None
    written_bytes: int | None = None
    swapped_kib: int | None = None
    locked_kib: int | None = None
    traced_by_same_user: bool | None = None
    memory_read_by_same_user: bool | None = None
    dumped: bool | None = None


@dataclass
class Box:
    """Where the daemon lives. `work`: reachable for the service's user; `frames`: what its camera shows."""

    site: Site
    work: Path
    frames: Path

    def live(
        self,
        lane: str,
        vehicles: int,
        *,
        traced: bool,
        confine: str = "require",
        leak: str | None = None,
        leak_to: str = "",
    ) -> Evidence:
        """One life of an enrolled lane: start, let vehicles pass, look, end. `leak_to`: "" for the state directory."""
        folder = self.work / lane
        folder.mkdir()
        image, state, log, trace = (folder / name for name in ("disk", "state", "log", "trace"))
        with _mounted(image, state), _detector(folder / "detector") as outputs, self._tap(lane) as published:
            self._configure(folder, state, lane, confine)
            program = ["-m", "edge"] if leak is None else ["-m", "tests.campaign.leaking_build", leak]
            command = [sys.executable, *program, "run", "--config", str(folder / "lane.toml")]
            process = _start(command, state, log, trace if traced else None, leak_to or str(state))
            try:
                status = _ready(socket_path(state), process, log)
                pid = _child_of(process.pid) if traced else process.pid
                for _ in range(vehicles):
                    outputs.switch(outputs.presence, 0, True)
                    time.sleep(PRESENCE_S)
                    outputs.switch(outputs.presence, 0, False)
                    time.sleep(PAUSE_S)
                status = _drained(socket_path(state), vehicles, status)
                evidence = Evidence(lane, vehicles, state, status, b"", "", published)
                if not traced:
                    _probe(pid, evidence)
                os.kill(pid, signal.SIGTERM if traced else signal.SIGABRT)
                _, ending = os.waitpid(process.pid, 0)
                process.returncode = ending
                evidence.dumped = None if traced else os.WCOREDUMP(ending)
            finally:
                if process.returncode is None:
                    process.kill()
                    process.wait()
        evidence.disk, evidence.log = image.read_bytes(), log.read_text(errors="replace")
        evidence.trace = parse_trace(trace.read_text(errors="replace")) if traced else None
        return evidence

    def _configure(self, folder: Path, state: Path, lane: str, confine: str) -> None:
        """lane.toml and copies of the keys, readable for the service's user."""
        keys = folder / "keys"
        keys.mkdir()
        site = self.site
        for source in (
            site.tls / "ca.pem",
            site.tls / f"{lane}.pem",
            site.tls / f"{lane}.key",
            site.root / f"{lane}.signing",
        ):
            shutil.copy(source, keys)
        (keys / "owner.pub").write_text(site.owner.public.pem())
        (keys / "collector.pub").write_text(site.collector.public.pem())
        for path in (keys, *keys.iterdir()):
            os.chown(path, UID, UID)
        (folder / "lane.toml").write_text(f"""
confine = "{confine}"
lane = {{ id = "{lane}" }}
state = {{ directory = "{state}", checkpoint_s = 5 }}

[loop]
driver = "modbus"
[loop.device]
port = "{(folder / "detector").resolve()}"
profile = "ld120"
address = 1

[camera]
driver = "files"
[camera.device]
path = "{self.frames}"
hold_s = 10

[broker]
host = "127.0.0.1"
port = {site.broker.port}
ca_file = "keys/ca.pem"
certificate_file = "keys/{lane}.pem"
key_file = "keys/{lane}.key"

[keys]
signing_key_file = "keys/{lane}.signing"
recipient_files = ["keys/owner.pub"]
collector_files = ["keys/collector.pub"]
""")

    @contextmanager
    def _tap(self, lane: str) -> Iterator[list[Published]]:
        """Everything that the lane publishes, as its owner may hear it."""
        site, heard, there = self.site, list[Published](), threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, f"tap-{lane}", protocol=paho.MQTTv5)
        ca, certificate, key = (str(site.tls / name) for name in ("ca.pem", "owner.central.pem", "owner.central.key"))
        client.tls_set(ca, certificate, key)
        client.on_subscribe = lambda *_: there.set()
        client.on_message = lambda _, __, message: heard.append(
            Published(message.topic, bytes(message.payload), tuple(getattr(message.properties, "UserProperty", ())))
        )
        client.connect("127.0.0.1", site.broker.port)
        client.subscribe(f"lanes/v1/{lane}/#", qos=1)
        client.loop_start()
        assert there.wait(10), "the broker did not let the owner listen"
        yield heard
        client.disconnect()
        client.loop_stop()


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[None]:
    """A fresh ext4 in the file `image`, mounted for the service's user; written back and unmounted on leaving."""
    with image.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    at.mkdir()
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(image))
    _run("mount", "-o", "loop", str(image), str(at))
    try:
        os.chown(at, UID, UID)
        yield
    finally:
        _run("umount", str(at))


@contextmanager
def _detector(link: Path) -> Iterator[Outputs]:
    outputs = Outputs(1)
    end = ModbusEnd(outputs, link)
    os.chown(link.resolve(), UID, UID)
    yield outputs
    end.close()


def _start(command: list[str], state: Path, log: Path, trace: Path | None, leak_to: str) -> subprocess.Popen[bytes]:
    """Start `command` as the service's user in `state`, perhaps under strace.

    In a mount namespace of its own, in which the folders that Python needs can be reached by that user too.
    """
    trees = {
        tree: gate for tree in (Path(sys.prefix), Path(sys.base_prefix), REPOSITORY) if (gate := _closed_gate(tree))
    }
    # All of them are held before any gate is closed to them, and put back before what lies in them.
    holds = {tree: f"$hold{number}" for number, tree in enumerate(sorted(trees))}
    script = 'set -e; ulimit -S -c "$(ulimit -H -c)"\n' + "".join(
        (
            *(f"{hold[1:]}=$(mktemp -d); mount --bind {tree} {hold}\n" for tree, hold in holds.items()),
            *(f"mount -t tmpfs -o mode=0755 none {gate}\n" for gate in sorted(set(trees.values()))),
            *(f"mkdir -p {tree}; mount --move {hold} {tree}; rmdir {hold}\n" for tree, hold in holds.items()),
        )
    )
    tracer = ["strace", "-f", "-yy", "--seccomp-bpf", "-s", "64", "-e", f"trace={TRACED}", "-o", str(trace)]
    memory, privileges = _memory_lock()
    as_service = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *privileges]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LEAK_TO": leak_to,
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [
                *(*memory, "unshare", "--mount", "--propagation", "slave", "sh", "-c", script + 'exec "$@"', "sh"),
                *(*([] if trace is None else tracer), *as_service, *command),
            ],
            cwd=state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _memory_lock() -> tuple[list[str], list[str]]:
    """What lets the service lock its memory, as LimitMEMLOCK=infinity does: the limit raised, or, in a sandbox where
    root may not raise limits, the one capability; and the other privileges taken away."""
    raised = ["prlimit", "--memlock=unlimited:unlimited"]
    if subprocess.run([*raised, "true"], capture_output=True, check=False).returncode == 0:
        return raised, ["--inh-caps=-all", "--bounding-set=-all"]
    return [], [f"--{which}=-all,+ipc_lock" for which in ("inh-caps", "ambient-caps", "bounding-set")]


def _closed_gate(tree: Path) -> Path | None:
    """The topmost folder above `tree` that other users can't pass."""
    return next((p for p in reversed(tree.parents) if not p.stat().st_mode & 0o001), None)


def _ready(control: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """What the daemon says of itself once it watches loop and camera."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended at its start:\n{log.read_text(errors='replace')}")
        try:
            status: dict[str, Any] = ask(control, "status")
        except SealaneError:
            status = {}
        if (status.get("loop"), status.get("camera")) == ("ok", "ok"):
            return status
        time.sleep(0.1)
    raise RuntimeError(f"the daemon was not ready in {START_S:.0f} s:\n{log.read_text(errors='replace')}")


def _drained(control: Path, visits: int, status: dict[str, Any]) -> dict[str, Any]:
    """Wait until the visits are recorded and confirmed; gives the last status either way."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        status = ask(control, "status")
        if status["counts"].get("visits") == visits and status["outbox"] == 0:
            break
        time.sleep(0.1)
    return status


def _probe(pid: int, evidence: Evidence) -> None:
    """What root, and another process of the service's user, learn of the running daemon."""
    process = Path("/proc", str(pid))
    io = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    evidence.written_bytes = max(int(io["wchar"]), int(io["write_bytes"]))
    evidence.swapped_kib = int(status["VmSwap"].split()[0])
    evidence.locked_kib = int(status["VmLck"].split()[0])
    evidence.traced_by_same_user, evidence.memory_read_by_same_user = attempts_on(pid)


def attempts_on(pid: int) -> tuple[bool, bool]:
    """Whether another process of the service's user could trace process `pid`, and open its memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        libc, attach, detach, all_children, keep_capabilities = ctypes.CDLL(None), 16, 17, 0x40000000, 8
        libc.prctl(keep_capabilities, 1)  # permitted, not effective: only what protects the daemon itself may refuse
        os.setgroups([])
        os.setgid(UID)
        os.setuid(UID)
        traced = libc.ptrace(attach, pid, None, None) == 0
        if traced:
            os.waitpid(pid, all_children)
            libc.ptrace(detach, pid, None, None)
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
            readable = True
        except OSError:
            readable = False
        os.write(writer, json.dumps([traced, readable]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    traced, readable = json.loads(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    return traced, readable


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def parse_trace(text: str) -> Trace:
    """strace -f -yy: one call a line, or two (`<unfinished ...>` and `resumed`) where threads took turns."""
    trace, unfinished = Trace(), dict[str, str]()
    for line in text.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            unfinished[pid] = call.removesuffix("<unfinished ...>")
            continue
        if match := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            call = unfinished.pop(pid, "") + match[1]
        if match := re.match(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(.*)", call):
            _note(trace, *match.groups())
    return trace


def _note(trace: Trace, name: str, arguments: str, result: str, rest: str) -> None:
    failed = not result.isdecimal()
    match name:
        case "open" | "openat" | "openat2" | "creat":
            if name == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE", arguments):
                resolved = rest[rest.find("<") + 1 : rest.rfind(">")]  # /dev/null<char 1:3>, /state/a (deleted)
                path = _quoted(arguments) if failed else resolved.partition("<")[0].removesuffix(" (deleted)")
                (trace.refused if failed else trace.written).add(path)
        case "execve" | "execveat":
            if not failed:
                trace.executed.append(_quoted(arguments))
        case "connect" | "sendto" | "sendmsg":
            trace.destinations.update(_addresses(arguments))
        case "listen":
            trace.other.add(f"listen {arguments.partition('<')[2].partition(':')[0]}")
        case "socket":
            trace.other.add(f"socket {arguments.split(',')[0]}")
        case _:
            trace.other.add(name)


def _quoted(arguments: str) -> str:
    match = re.search(r'"([^"]*)"', arguments)
    return match[1] if match else arguments


def _addresses(arguments: str) -> Iterator[str]:
    for family, rest in re.findall(r"sa_family=AF_(\w+),? ?([^}]*)", arguments):
        port, address = re.search(r"port=htons\((\d+)\)", rest), re.search(r'"([^"]*)"', rest)
        yield f"{family} {address[1] if address else rest}{':' + port[1] if port else ''}"
