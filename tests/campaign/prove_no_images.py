"""The proof that a lane keeps no image: `make prove-no-images`, as root, about two minutes.

A real daemon, confined as in the field, reads vehicles from frames that carry random canaries. It lives twice: under
strace, which sees every file it opens and every address it speaks to, and untraced, when its memory is attacked and it
is crashed. Then the disk it wrote to is searched, byte for byte, and what it published and logged is accounted for.
A proof that can't fail proves nothing: builds with a leak in them must be caught, each by the checks named here.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import record
from edge.confine import landlock_abi
from edge.errors import SealaneError
from edge.record import ReadRecord
from edge.seal import envelope
from models.train.render import render_plate
from tests.campaign.boxed_lane import Box, Evidence, Published
from tests.campaign.leaking_build import LEAKS
from tests.integration.lane_site import Site

VEHICLES = 3
NEEDLE_BYTES = 24
NOISE_PX = 160
BLOCK_BYTES = 4096
WRITTEN_CAP = 1 << 20
"""Bytes that a daemon may write for a handful of vehicles: one raw frame is 921,600."""
MAX_STATE_BYTES = 2048
MAX_LOG_LINE = 400
OUTBOX_FILES = ("outbox.sqlite", *(f"outbox.sqlite{end}" for end in ("-wal", "-journal", ".ballast", ".ballast.part")))
SOCKETS = {"socket AF_UNIX", "socket AF_INET", "socket AF_INET6", "listen UNIX-STREAM"}
NAME_CACHE = "UNIX /var/run/nscd/socket"
"""glibc asks there for names first; nobody answers on a lane box."""
IMAGE_MAGIC = re.compile(
    rb"\xff\xd8\xff[\xe0\xe1\xdb\xee\xfe]|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|II\*\0\x08|P[256]\n\d+ \d+\n255",
    re.DOTALL,
)
SOFTWARE = f"sealane {version('sealane')}"
MODEL_ID = hashlib.sha256((files("models") / "manifest.json").read_bytes()).hexdigest()
CAUGHT_BY = {
    "write": {"files", "disk"},
    "map": {"files", "disk"},
    "delete": {"files", "disk"},
    "log": {"log"},
    "connect": {"network"},
    "publish": {"broker"},
}
"""The checks that must catch each leaking build."""


@dataclass
class Canaries:
    """plates: texts in the frames; needles: pieces of frames in every form that a leak could give them."""

    plates: tuple[str, ...]
    needles: tuple[bytes, ...]

    def in_(self, data: bytes) -> bool:
        """Whether any needle is there."""
        return any(needle in data for needle in self.needles)


Finding = tuple[str, str]
"""The check, and what it found."""


def main() -> int:
    missing = list(_missing())
    if missing:
        print(f"SKIPPED: THAT NO IMAGE IS KEPT WAS NOT PROVEN HERE: {'; '.join(missing)}")
        return 0
    work = Path(tempfile.mkdtemp(prefix="sealane-proof-"))
    work.chmod(0o755)
    site = Site(work / "site")
    site.broker.start()
    for lane in ("traced", "untraced", "unconfined", *LEAKS):
        site.enrol(lane)
    try:
        with site.collecting():
            return prove(site, work)
    finally:
        site.broker.stop()
        shutil.rmtree(work)


def prove(site: Site, work: Path) -> int:
    """The clean build must pass each check, each leaking build must fail those that are meant for it."""
    frames = work / "frames"
    canaries = make_frames(frames)
    box = Box(site, work, frames)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        wrong = 0
        for lane in ("traced", "untraced"):
            evidence = box.live(lane, VEHICLES, traced=lane == "traced")
            found = list(findings(evidence, canaries, site))
            wrong += bool(found)
            details = [f"{check}: {what}" for check, what in found]
            _say(
                not found,
                f"clean build, {lane}: {_summary(evidence)}",
                details + evidence.log.splitlines() * bool(found),
            )
        evidence = box.live("unconfined", 1, traced=False, confine="off")
        wrong += _escaped("unconfined build", {"memory"}, evidence, canaries, site)
        for leak in LEAKS:
            leak_to = str(elsewhere.getsockname()[1]) if leak == "connect" else ""
            evidence = box.live(leak, 1, traced=True, leak=leak, leak_to=leak_to)
            wrong += _escaped(f"leaking build {leak!r}", CAUGHT_BY[leak], evidence, canaries, site)
    print("FAILED" if wrong else "PROVEN: no image was kept, and every build that is not clean was caught")
    return min(wrong, 1)


def _escaped(build: str, by: set[str], evidence: Evidence, canaries: Canaries, site: Site) -> bool:
    """Say which checks caught a build that is not clean; whether one of those meant for it did not."""
    caught = {check for check, _ in findings(evidence, canaries, site)}
    missed = sorted(by - caught)
    _say(not missed, f"{build}: caught by {', '.join(sorted(caught)) or 'nothing'}", [f"not by: {c}" for c in missed])
    return bool(missed)


def findings(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[Finding]:
    """What is wrong with one life of the daemon, check by check."""
    checks: tuple[Callable[[Evidence, Canaries, Site], Iterator[str]], ...] = (
        _work, _files, _network, _programs, _disk, _written, _memory, _log, _broker,
    )  # fmt: skip
    for check in checks:
        for what in check(evidence, canaries, site):
            yield check.__name__.removeprefix("_"), what


def _work(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    """The daemon did its work, or nothing was proven: one record a vehicle, all confirmed, and a canary plate read."""
    reads = list(_reads(evidence, site))
    if len(reads) != evidence.visits or evidence.status["outbox"]:
        yield f"{len(reads)} records of {evidence.visits} vehicles, {evidence.status['outbox']} unconfirmed"
    if not any(read.reading.text in canaries.plates for read in reads):
        yield "no plate was read"


def _files(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    if evidence.trace is None:
        return
    allowed = {str(evidence.state / name) for name in OUTBOX_FILES} | {"/dev/null"}
    for path in sorted(evidence.trace.written - allowed):
        if not re.fullmatch(r"/dev/pts/\d+", path):
            yield f"opened for writing: {path}"
    if str(evidence.state / OUTBOX_FILES[0]) not in evidence.trace.written:
        yield "the trace did not see the outbox being opened"
    for call in sorted(
        evidence.trace.other & {"io_uring_setup", "mknod", "mknodat", "symlink", "symlinkat", "link", "linkat"}
    ):
        yield f"called {call}"


def _network(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    if evidence.trace is None:
        return
    broker = f"INET 127.0.0.1:{site.broker.port}"
    for destination in sorted(evidence.trace.destinations - {broker, NAME_CACHE}):
        yield f"spoke to {destination}"
    if broker not in evidence.trace.destinations:
        yield "the trace did not see the broker"
    for kind in sorted(evidence.trace.other - SOCKETS):
        if kind.startswith(("socket ", "listen ")):
            yield f"made a {kind}"


def _programs(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    """Nothing is run after the daemon itself."""
    if evidence.trace is not None:
        last = [program for program in evidence.trace.executed if not program.endswith(("/setpriv", sys.executable))]
        yield from (f"ran {program}" for program in last)


def _disk(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    blocks = (evidence.disk[at : at + BLOCK_BYTES] for at in range(0, len(evidence.disk), BLOCK_BYTES))
    used = b"".join(block for block in blocks if block.strip(b"\0"))
    if canaries.in_(used):
        yield "a canary on the disk"
    if match := IMAGE_MAGIC.search(used):
        yield f"an image header on the disk: {match[0]!r}"
    if any(plate.encode() in used for plate in canaries.plates):
        yield "a plate on the disk"


def _written(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    if evidence.written_bytes is not None and evidence.written_bytes > WRITTEN_CAP:
        yield f"{evidence.written_bytes} bytes written, at most {WRITTEN_CAP}"


def _memory(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    if evidence.trace is not None:
        return
    if evidence.swapped_kib or not evidence.locked_kib:
        yield f"{evidence.swapped_kib} KiB swapped, {evidence.locked_kib} KiB locked"
    if evidence.traced_by_same_user:
        yield "traced by another process of its user"
    if evidence.memory_read_by_same_user:
        yield "its memory opened by another process of its user"
    if evidence.dumped:
        yield "dumped a core"


def _log(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    for plate in canaries.plates:
        if plate in evidence.log:
            yield "a plate in the log"
    if canaries.in_(evidence.log.encode()):
        yield "a canary in the log"
    longest = max((len(line) for line in evidence.log.splitlines()), default=0)
    if longest > MAX_LOG_LINE:
        yield f"a line of {longest} characters in the log"


def _broker(evidence: Evidence, canaries: Canaries, site: Site) -> Iterator[str]:
    """Every byte of every message is accounted for: sealed records that open to nothing more, and plain state."""
    if "Denied" in site.broker.log.read_text(errors="replace"):
        yield "the broker denied it something"
    for message in evidence.published:
        leaf = message.topic.removeprefix(f"lanes/v1/{evidence.lane}/")
        match leaf:
            case "record" | "checkpoint":
                yield from _sealed_only(message, evidence.lane, site)
            case "state":
                yield from _plain_only(message)
            case "receipt":
                continue  # the collector's
            case _:
                yield f"published to {message.topic}"


def _sealed_only(message: Published, lane: str, site: Site) -> Iterator[str]:
    try:
        sealed = envelope.parse(message.payload)
        envelope.verify(sealed, site.public(lane))
        opened = envelope.open_record(sealed, site.opener())
        same = record.encode(opened) == envelope.open_plaintext(sealed, site.opener())
    except SealaneError as error:
        yield f"a record that is none: {error.code}"
        return
    if not same:
        yield "a record with more in it than its fields"
    if isinstance(opened, ReadRecord) and (opened.software, opened.model_id) != (SOFTWARE, MODEL_ID):
        yield "a record of another software or model"
    header = sealed.header
    labels = {"lane": lane, "kind": str(header.kind), "epoch": f"{header.epoch:016x}", "seq": str(header.seq)}
    if dict(message.labels) != labels:
        yield "labels that do not repeat the envelope"


def _plain_only(message: Published) -> Iterator[str]:
    if message.labels or len(message.payload) > MAX_STATE_BYTES:
        yield f"a state message with labels, or of {len(message.payload)} bytes"
    if not _is_plain(json.loads(message.payload)):
        yield "a state message with more than numbers and words"


def _is_plain(value: object) -> bool:
    match value:
        case dict():
            return all(_is_plain(key) and _is_plain(inner) for key, inner in value.items())
        case list():
            return all(map(_is_plain, value))
        case str():
            return re.fullmatch(r"[\w .:,;()/+-]{0,64}", value) is not None
        case _:
            return value is None or isinstance(value, bool | int | float)


def _reads(evidence: Evidence, site: Site) -> Iterator[ReadRecord]:
    seen = set()
    for message in evidence.published:
        if message.topic.endswith("/record") and message.payload not in seen:
            seen.add(message.payload)
            opened = envelope.open_record(envelope.parse(message.payload), site.opener())
            if isinstance(opened, ReadRecord):
                yield opened


def make_frames(folder: Path) -> Canaries:
    """Photographs of plates that were never seen before, in noise that was never seen before."""
    folder.mkdir(mode=0o755)
    rng = np.random.default_rng(secrets.randbits(64))
    plates, pieces = [], list[bytes]()
    for number in range(VEHICLES):
        plate = render_plate(rng, "de")
        plates.append(plate.text)
        jpeg = _photograph(rng, plate.image)
        (folder / f"{number}.jpg").write_bytes(jpeg)
        pieces += [jpeg[at : at + NEEDLE_BYTES] for at in range(2000, len(jpeg) - NEEDLE_BYTES, 1500)]
        for mode in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR):
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), mode)
            assert picture is not None
            noise = picture[20 : NOISE_PX - 20 : 4, 20 : 20 + NEEDLE_BYTES]
            pieces += [row.tobytes()[:NEEDLE_BYTES] for row in noise]
    return Canaries(tuple(plates), tuple(form for piece in pieces for form in _forms(piece)))


def _photograph(rng: np.random.Generator, plate: NDArray[np.uint8]) -> bytes:
    """A plate on a dark car, with a patch of noise in the corner."""
    frame = np.full((720, 1280, 3), 70, np.uint8)
    width = 260
    small = cv2.resize(plate, (width, round(width * plate.shape[0] / plate.shape[1])), interpolation=cv2.INTER_AREA)
    frame[420 : 420 + small.shape[0], 500 : 500 + width] = small
    cv2.GaussianBlur(frame, (3, 3), 0.6, dst=frame)
    frame[:NOISE_PX, :NOISE_PX] = rng.integers(0, 256, (NOISE_PX, NOISE_PX, 1), np.uint8)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _forms(piece: bytes) -> Iterator[bytes]:
    """As it is, in hexadecimal, and as base64 has it at each of the three places it can begin."""
    yield piece
    yield piece.hex().encode()
    for before in range(3):
        text = base64.b64encode(bytes(before) + piece)
        yield text[4 if before else 0 : len(text) - 4]


def _missing() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "needs root (a disk image is mounted, another user is played)"
        return
    if not landlock_abi():
        yield "this kernel has no Landlock"
    for program in ("strace", "mkfs.ext4", "mount", "unshare", "setpriv", "prlimit"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            yield f"no {program} here"
    if not Path("/dev/loop-control").exists():
        yield "no loop devices here"


def _summary(evidence: Evidence) -> str:
    parts = [f"{evidence.visits} vehicles", f"{len(evidence.published)} messages", f"{len(evidence.log)} bytes of log"]
    if evidence.trace is not None:
        parts.append(f"{len(evidence.trace.written)} files written, {len(evidence.trace.refused)} attempts refused")
    else:
        parts.append(f"{evidence.written_bytes} bytes written, {evidence.locked_kib} KiB locked")
    return ", ".join(parts)


def _say(good: bool, what: str, details: list[str]) -> None:
    print(f"{'ok  ' if good else 'FAIL'} {what}", flush=True)
    for detail in details:
        print(f"       {detail}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
