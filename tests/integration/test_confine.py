"""The confinement as the kernel enforces it: each test confines a process of its own and tries what it must not do."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.confine import landlock_abi

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="THIS KERNEL HAS NO LANDLOCK: nothing was proven here")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

PREAMBLE = """
import errno, json, os, socket, subprocess, sys
import ctypes, resource
from pathlib import Path
from edge.confine import ConfinePolicy, Mode, confine
state = Path(sys.argv[1])
def tried(action):
    try:
        action()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def lock(mode="try", ports=()):
    return confine(ConfinePolicy(Mode(mode), (state,), frozenset(ports)))
def become_nobody():
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # changing the user took "dumpable" away, as exec would give it back
"""


def run(script: str, state: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(script), str(state), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def outcome(script: str, state: Path, *arguments: object) -> Any:
    done = run(script, state, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that the user nobody reaches and may write to (pytest's own are for one user only)."""
    with tempfile.TemporaryDirectory() as outside:
        Path(outside).chmod(0o755)
        directory = Path(outside, "state")
        directory.mkdir()
        directory.chmod(0o777)
        yield directory


@needs_landlock
def test_files_can_be_written_beneath_the_state_directory_and_nowhere_else(state: Path) -> None:
    (state.parent / "existing").write_text("before")
    assert outcome(
        """
        lock()
        print(json.dumps({
            "state": tried(lambda: (state / "a").write_bytes(b"x")),
            "rename in state": tried(lambda: (state / "a").rename(state / "b")),
            "remove in state": tried(lambda: (state / "b").unlink()),
            "beside": tried(lambda: (state.parent / "a").write_bytes(b"x")),
            "existing": tried(lambda: (state.parent / "existing").write_bytes(b"x")),
            "truncate": tried(lambda: os.truncate(state.parent / "existing", 0)),
            "remove": tried(lambda: (state.parent / "existing").unlink()),
            "directory": tried(lambda: (state.parent / "d").mkdir()),
            "link out": tried(lambda: (state / "link").symlink_to(state.parent)),
            "shared memory": tried(lambda: Path("/dev/shm/sealane-test").write_bytes(b"x")),
            "own memory": tried(lambda: open("/proc/self/mem", "wb")),
            "null": tried(lambda: Path("/dev/null").write_bytes(b"x")),
        }))
        """,
        state,
    ) == {
        "state": "done",
        "rename in state": "done",
        "remove in state": "done",
        "beside": "EACCES",
        "existing": "EACCES",
        "truncate": "EACCES",
        "remove": "EACCES",
        "directory": "EACCES",
        "link out": "EACCES",
        "shared memory": "EACCES",
        "own memory": "EACCES",
        "null": "done",
    }
    assert (state.parent / "existing").read_text() == "before"


@needs_landlock
def test_threads_of_libraries_loaded_later_are_confined_too(state: Path) -> None:
    assert outcome(
        """
        lock()
        import threading
        import numpy, cv2
        results = []
        thread = threading.Thread(target=lambda: results.append(tried(lambda: (state.parent / "a").write_bytes(b"x"))))
        thread.start(); thread.join()
        print(json.dumps([*results, cv2.imwrite(str(state / "ok.png"), numpy.zeros((4, 4), "uint8")),
                          cv2.imwrite(str(state.parent / "leak.png"), numpy.zeros((4, 4), "uint8"))]))
        """,
        state,
    ) == ["EACCES", True, False]


@needs_landlock
def test_no_program_can_be_run(state: Path) -> None:
    assert outcome('lock(); print(json.dumps(tried(lambda: subprocess.run(["/bin/true"]))))', state) == "EACCES"


@pytest.mark.skipif(landlock_abi() < 4, reason="THIS KERNEL'S LANDLOCK HAS NO TCP RULES: nothing was proven here")
def test_tcp_goes_to_named_ports_only_and_no_port_can_be_chosen_to_listen_on(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as named, socket.create_server(("127.0.0.1", 0)) as other:
        with socket.create_server(("127.0.0.1", 0)) as briefly:
            free = briefly.getsockname()[1]
        ports = [named.getsockname()[1], other.getsockname()[1], free]
        assert outcome(
            """
            named, other, free = map(int, sys.argv[2:])
            lock(ports=[named])
            print(json.dumps([
                tried(lambda: socket.create_connection(("127.0.0.1", named))),
                tried(lambda: socket.create_connection(("127.0.0.1", other))),
                tried(lambda: socket.create_server(("127.0.0.1", free))),
            ]))
            """,
            state,
            *ports,
        ) == ["done", "EACCES", "EACCES"]


@needs_landlock
@needs_root
def test_a_serial_device_that_is_unplugged_and_comes_back_can_be_opened_again(state: Path) -> None:
    node = Path("/dev/sealane-test-null")
    node.unlink(missing_ok=True)
    null = os.makedev(1, 3)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PREAMBLE + f"lock()\nfor _ in sys.stdin: print(tried(lambda: open({str(node)!r}, 'r+b', 0)), flush=True)",
            str(state),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        answers = []
        for plugged in (True, False, True):
            if plugged:
                os.mknod(node, stat.S_IFCHR | 0o600, null)
            else:
                node.unlink()
            process.stdin.write("try\n")
            process.stdin.flush()
            answers.append(process.stdout.readline().strip())
        assert answers == ["done", "ENOENT", "done"]
    finally:
        node.unlink(missing_ok=True)
        process.communicate(timeout=30)


def test_require_refuses_to_start_when_threads_run_already_and_try_says_what_is_missing(state: Path) -> None:
    late = """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        report = lock(sys.argv[2])
        print(json.dumps({m.name: m.why for m in report.missing}))
        """
    if landlock_abi():
        assert outcome(late, state, "try")["no-exec"] == "2 threads were running before"
    refused = run(late, state, "require")
    assert refused.returncode == 1
    assert "CONF-01" in refused.stderr


def test_off_confines_nothing(state: Path) -> None:
    script = 'report = lock("off"); print(json.dumps([len(report.measures), tried(lambda: (state / "../a").touch())]))'
    assert outcome(script, state) == [0, "done"]


def test_a_missing_state_directory_has_its_own_code(tmp_path: Path) -> None:
    if not landlock_abi():
        pytest.skip("THIS KERNEL HAS NO LANDLOCK: nothing was proven here")
    assert "CONF-02" in run("lock()", tmp_path / "missing").stderr


@needs_root
def test_memory_stays_unlocked_under_a_finite_limit_rather_than_failing_hours_later(state: Path) -> None:
    assert outcome(
        """
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 23, 1 << 23))
        become_nobody()
        print(json.dumps([m.why for m in lock().missing]))
        """,
        state,
    ) == ["the limit is 8192 KiB: LimitMEMLOCK=infinity, or ulimit -l"]


@needs_root
def test_all_memory_is_locked_where_the_limit_allows(state: Path) -> None:
    locked_kib = outcome(
        'lock(); print([l.split()[1] for l in open("/proc/self/status") if l.startswith("VmLck")][0])', state
    )
    assert locked_kib > 1000


@pytest.fixture
def victim(state: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user nobody that ran the script given as parameter, and waits."""
    script = f"""
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
become_nobody()
{request.param}
print("up", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=state,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


@needs_root
@pytest.mark.parametrize(
    ("victim", "dumped"), [("lock()", False), ("", True)], indirect=["victim"], ids=["confined", "control"]
)
def test_a_crash_leaves_no_core(victim: subprocess.Popen[bytes], dumped: bool) -> None:
    os.kill(victim.pid, signal.SIGABRT)
    _, status = os.waitpid(victim.pid, 0)
    victim.returncode = status
    if dumped and not os.WCOREDUMP(status):
        pytest.skip("this machine takes no cores at all (core_pattern): the control proves nothing here")
    assert os.WCOREDUMP(status) is dumped


@needs_root
@pytest.mark.parametrize(
    ("victim", "traced"), [("lock()", False), ("", True)], indirect=["victim"], ids=["confined", "control"]
)
def test_another_process_of_the_same_user_cannot_trace_it_or_read_its_memory(
    victim: subprocess.Popen[bytes], state: Path, traced: bool
) -> None:
    assert outcome(
        f"""
            become_nobody()
            libc, attach, detach = ctypes.CDLL(None), 16, 17
            attached = libc.ptrace(attach, {victim.pid}, None, None) == 0
            if attached:
                os.waitpid({victim.pid}, 0x40000000)
                libc.ptrace(detach, {victim.pid}, None, None)
            print(json.dumps([attached, tried(lambda: open("/proc/{victim.pid}/mem", "rb")) == "done"]))
            """,
        state,
    ) == [traced, traced]


def test_what_is_as_large_as_a_picture_goes_back_to_the_kernel_when_it_is_freed(state: Path) -> None:
    assert not outcome(
        """
        lock()
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.free.argtypes = [ctypes.c_void_p]
        def picture():
            at = libc.malloc(1 << 20)
            libc.free(at)
            return at
        picture()
        heap = [line.split()[0].split("-") for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
        at = picture()
        print(json.dumps(any(int(start, 16) <= at < int(end, 16) for start, end in heap)))
        """,
        state,
    )
