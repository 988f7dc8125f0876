"""Confinement: what this process can no longer do, whatever code runs in it. Called once, before numpy or OpenCV.

Landlock (the kernel's own sandbox; no privilege needed) denies writing outside the state directory and /dev, running
any program, TCP to ports that lane.toml does not name, and listening on a port of its choice. The process can't be
dumped, traced by its own uid, or swapped out, and keeps no picture that it freed. Each measure is asked for, then
reported as it is: nothing is assumed.

Sources: kernel Documentation/userspace-api/landlock.rst and uapi/linux/landlock.h (ABI 1 to 7), prctl(2), mlockall(2),
mallopt(3).
"""

import ctypes
import logging
import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge import logs
from edge.config import LaneConfig
from edge.errors import ConfigInvalid, ConfineIncomplete, ConfinePath, clean

log = logging.getLogger(__name__)

DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
"""Ports of device URLs that name none."""


class Mode(StrEnum):
    """What happens where a needed measure can't be had: refuse to start, go on and say so, or confine nothing."""

    REQUIRE = "require"
    TRY = "try"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ConfinePolicy:
    """What the process keeps: directories it may write beneath, ports it may connect TCP to."""

    mode: Mode
    write_beneath: tuple[Path, ...]
    connect_ports: frozenset[int]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure as it is now. `needed`: mode "require" refuses to start without it. `why`: what carries it, or why
    it is off."""

    name: str
    on: bool
    why: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class ConfineReport:
    """All measures, for the log, the state message, `sealane doctor` and the boot audit record."""

    mode: Mode
    measures: tuple[Measure, ...]

    @property
    def missing(self) -> tuple[Measure, ...]:
        """The needed measures that are off."""
        return tuple(m for m in self.measures if m.needed and not m.on)

    def facts(self) -> tuple[tuple[str, str | int], ...]:
        """For an audit record: the mode, and each measure as 1 or 0."""
        return ("mode", str(self.mode)), *((m.name, int(m.on)) for m in self.measures)


def policy_for(config: LaneConfig, environ: Mapping[str, str] = os.environ) -> ConfinePolicy:
    """The policy that lane.toml asks for. Without `confine` in it: "require" as a systemd service, else "try".

    Raises ConfigInvalid for a URL that names no host or port.
    """
    default = Mode.REQUIRE if "NOTIFY_SOCKET" in environ else Mode.TRY
    urls: dict[str, Mapping[str, Any]] = {
        "loop.device": config.loop.device,
        "camera.device": config.camera.device,
        "trust": {} if config.trust is None else {"source": config.trust.source},
    }
    return ConfinePolicy(
        mode=Mode(config.confine) if config.confine else default,
        write_beneath=(config.state.directory,),
        connect_ports=frozenset(
            {config.broker.port, *(port for name, table in urls.items() for port in _url_ports(name, table))}
        ),
    )


def confine(policy: ConfinePolicy) -> ConfineReport:
    """Give up what a lane does not need, for good, and say what is on: as a report, and in the log.

    Call it once, with the directories of `write_beneath` made and before any thread is started. Raises ConfinePath
    where such a directory can't be opened, ConfineIncomplete where mode is "require" and a needed measure can't be had.
    """
    if policy.mode is Mode.OFF:
        logs.event(log, logging.WARNING, "confine", "off: nothing is confined")
        return ConfineReport(policy.mode, ())
    measures = (
        _new_privileges(),
        *_landlock(policy),
        _core(),
        _dumpable(),
        _memory_lock(),
        _freed_memory(),
        _syscall_filter(),
    )
    report = ConfineReport(policy.mode, measures)
    if policy.mode is Mode.REQUIRE and report.missing:
        raise ConfineIncomplete("; ".join(f"{m.name}: {m.why}" for m in report.missing))
    logs.event(log, logging.INFO, "confine", "confined", **{m.name: m.why for m in measures if m.on})
    for m in measures:
        if not m.on:
            logs.event(log, logging.WARNING if m.needed else logging.INFO, "confine", "off", measure=m.name, why=m.why)
    return report


def _url_ports(name: str, table: Mapping[str, Any]) -> Iterator[int]:
    for key, value in table.items():
        if isinstance(value, str) and "://" in value:
            try:
                url = urlsplit(value)
                port = url.port or DEFAULT_PORTS.get(url.scheme)
            except ValueError:  # not told in its words: they may repeat a password
                raise ConfigInvalid(
                    f"lane.toml: {name}.{clean(key)}: a URL with a host or port that can't be"
                ) from None
            if port:
                yield port


# --- Landlock -------------------------------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ASK_ABI = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << n for n in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_MAKE_ANY = _MAKE_CHAR | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _MAKE_FIFO | _MAKE_BLOCK | _MAKE_SYM
_HANDLED_SINCE = (
    (1, _EXECUTE | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_ANY),
    (2, _REFER),
    (3, _TRUNCATE),
    (5, _IOCTL_DEV),
)
"""What is denied unless a rule allows it, by the ABI that brought it. Reading is not: see docs/threat-model.md."""
_IN_STATE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _REFER | _TRUNCATE
_IN_DEV = _WRITE_FILE | _IOCTL_DEV

_BIND_TCP, _CONNECT_TCP, _NET_SINCE = 1 << 0, 1 << 1, 4
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS, _SCOPE_SINCE = 1 << 0, 1 << 1, 6


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("handled_fs", ctypes.c_uint64), ("handled_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def landlock_abi() -> int:
    """The Landlock ABI of this kernel; 0 where it is not built in or not enabled."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_ABI)
    except OSError:
        return 0


def _landlock(policy: ConfinePolicy) -> tuple[Measure, ...]:
    """Restrict this thread, and all it will start. Without Landlock, read-only mounts can carry the first measure."""
    abi = landlock_abi()
    threads = int(_status("Threads"))
    if not abi or threads > 1:
        why = "this kernel has no Landlock" if not abi else f"{threads} threads were running before"
        return (
            _read_only_mounts(policy, otherwise=why),
            Measure("no-exec", False, why, needed=bool(abi)),
            Measure("tcp-ports", False, why, needed=bool(abi)),
            Measure("scope", False, why, needed=bool(abi)),
        )
    handled = sum(rights for since, rights in _HANDLED_SINCE if abi >= since)
    has_net, has_scope = abi >= _NET_SINCE, abi >= _SCOPE_SINCE
    ruleset = _create_ruleset(
        _RulesetAttr(
            handled,
            _BIND_TCP | _CONNECT_TCP if has_net else 0,
            _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if has_scope else 0,
        )
    )
    try:
        for directory in policy.write_beneath:
            _allow_beneath(ruleset, directory, _IN_STATE & handled)
        _allow_beneath(ruleset, Path("/dev"), _IN_DEV & handled)
        if has_net:
            for port in policy.connect_ports:
                _syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, ctypes.byref(_NetPort(_CONNECT_TCP, port)), 0)
            # paho binds its socket to port 0 (whichever is free) before it connects
            _syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, ctypes.byref(_NetPort(_BIND_TCP, 0)), 0)
        _syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    by, lacks = f"Landlock ABI {abi}", f"Landlock ABI {abi} lacks it"
    return (
        Measure("writes", True, by),
        Measure("no-exec", True, by),
        Measure("tcp-ports", has_net, by if has_net else lacks, needed=has_net),
        Measure("scope", has_scope, by if has_scope else lacks, needed=has_scope),
    )


def _create_ruleset(attr: _RulesetAttr) -> int:
    """A kernel takes a longer structure than its own as long as the rest is zero."""
    return _syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)), 0)


def _allow_beneath(ruleset: int, directory: Path, rights: int) -> None:
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfinePath(f"cannot open {directory}: {error.strerror}") from error
    try:
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(_PathBeneath(rights, parent)), 0)
    finally:
        os.close(parent)


def _read_only_mounts(policy: ConfinePolicy, otherwise: str) -> Measure:
    """Whether nothing but the state directory is mounted writable, as systemd's ProtectSystem=strict leaves it."""
    outside = [
        point
        for point in writable_mounts(Path("/proc/self/mountinfo").read_text())
        if not any(point.is_relative_to(directory) for directory in policy.write_beneath)
    ]
    if outside:
        return Measure("writes", False, f"{otherwise}, and {outside[0]} is mounted writable")
    return Measure("writes", True, "read-only mounts")


def writable_mounts(mountinfo: str) -> list[Path]:
    """Mount points that can be written to, without the kernel's own /dev, /proc and /sys (proc_pid_mountinfo(5)).

    A later mount covers an earlier one at the same place."""
    writable = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        writable[Path(fields[4].encode().decode("unicode_escape"))] = "rw" in fields[5].split(",")
    kernels_own = ("/dev", "/proc", "/sys")
    return [point for point, on in writable.items() if on and not any(map(point.is_relative_to, kernels_own))]


# --- the process itself ---------------------------------------------------------------------------------------------

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 3, 4, 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_M_MMAP_THRESHOLD, _PICTURE_BYTES = -3, 128 * 1024


def _new_privileges() -> Measure:
    """No set-uid program can raise it; Landlock asks for this too."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return Measure("no-new-privileges", True, "prctl")


def _core() -> Measure:
    """No core file; a core_pattern that pipes ignores the limit, and is stopped by not-dumpable."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return Measure("no-core", True, "rlimit")


def _dumpable() -> Measure:
    """No core by any way, no ptrace and no /proc/PID/mem for others of the same uid."""
    _prctl(_PR_SET_DUMPABLE, 0)
    return Measure("not-dumpable", _prctl(_PR_GET_DUMPABLE, 0) == 0, "prctl")


def _memory_lock() -> Measure:
    """No page of it goes to swap. On fault: else every reservation of a library would become resident."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard != resource.RLIM_INFINITY and not int(_status("CapEff"), 16) >> _CAP_IPC_LOCK & 1:
        # A finite limit would let this call pass and fail an allocation hours later.
        return Measure("memory-locked", False, f"the limit is {hard >> 10} KiB: LimitMEMLOCK=infinity, or ulimit -l")
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    try:
        _check(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT))
    except OSError as error:
        return Measure("memory-locked", False, f"mlockall: {error.strerror}")
    return Measure("memory-locked", True, "mlockall")


def _freed_memory() -> Measure:
    """What is as large as a picture goes back to the kernel when it is freed (mallopt(3)). Left alone, the C library
    raises this bound with the first picture, and keeps the freed ones as they are until it needs the room."""
    on = _libc.mallopt(_M_MMAP_THRESHOLD, _PICTURE_BYTES) == 1
    return Measure("freed-memory", on, "mallopt" if on else "the C library refuses", needed=False)


def _syscall_filter() -> Measure:
    """Only looked at: the unit file sets it (SystemCallFilter=)."""
    on = _status("Seccomp") == "2"
    return Measure("syscall-filter", on, "seccomp" if on else "not run by systemd/sealane@.service", needed=False)


def _status(key: str) -> str:
    """One value of /proc/self/status (proc_pid_status(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.strip()
    return "0"


# --- the C library --------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: Any) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments))


def _prctl(option: int, value: int) -> int:
    zero = ctypes.c_ulong(0)
    return _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
