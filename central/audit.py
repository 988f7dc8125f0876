"""`sealane audit`: proves, per lane and epoch, that nothing is missing: from a collector's store, or from a capture.

Every number is there or declared given up, the chain is unbroken from the epoch's first message on, epochs are linked
or announced, each signature holds under the policy of its time, and nobody can read whom that policy did not name.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from central import options
from central.lanes import LEAVES, LaneKeys, PolicyKeys, admit, at, open_lane_keys
from central.prefix import Epoch
from central.store import Store
from edge.errors import CaptureMalformed, ChainBroken, CollectorError, MessageForked, SealError
from edge.mqtt import split
from edge.seal import envelope
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import Envelope, EpochLink

MAX_LINE_BYTES = 128 * 1024
STORE_WINDOW = 1 << 14
CAPTURE_WINDOW = 1 << 20
"""Messages of an epoch to compare with: a store has a number once, in a capture a fork may come months later."""
PROBLEMS = {
    Finding.FORK: "contradicts another message: two under one number, or a broken link",
    Finding.UNLINKED_EPOCH: "the epoch does not go on from what is here: another one, or an end, may have vanished",
}
NOTHING_HERE = "the lane is enrolled, and no message of it is here"
UNNAMED_READER = "sealed for a reader whom the policy of that time does not name"


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it was stored or captured. received_ns: UTC, None if it is not known."""

    lane: str
    sealed: bytes
    received_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, the first number that shows it (0: no number), and how many messages do."""

    what: str
    seq: int
    count: int = 1


@dataclass(slots=True)
class EpochReport:
    """What was found of one epoch.

    declared: how many numbers were given up and declared; last: the highest number, sealed at last_ns; head: its
    digest, which a box that follows this one begins with (docs/wire-format.md).
    """

    lane: str
    epoch: str
    messages: int = 0
    declared: int = 0
    last: int = 0
    last_ns: int = 0
    head: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, what: str, seq: int) -> None:
        for index, known in enumerate(self.problems):
            if known.what == what:
                self.problems[index] = Problem(what, min(known.seq, seq), known.count + 1)
                return
        self.problems.append(Problem(what, seq))


class Audit:
    """Takes messages, the epochs of a lane in the order in which they are linked; `reports` says what was found.

    from_start: the very first messages of all enrolled lanes must be here; else each lane is judged from where it is
    first heard.
    """

    def __init__(self, lane_keys: LaneKeys, *, from_start: bool) -> None:
        self._lane_keys = lane_keys
        self._from_start = from_start
        self._chains: dict[str, ChainVerifier] = {}
        self._reports: dict[tuple[str, int], EpochReport] = {}
        self._refused: dict[str, EpochReport] = {}

    def take(self, heard: Heard) -> None:
        """Judge one message."""
        received_ns = time.time_ns() if heard.received_ns is None else heard.received_ns
        try:
            message = admit(heard.lane, heard.sealed, self._lane_keys, received_ns)
        except CollectorError as error:
            self._refused.setdefault(heard.lane, EpochReport(heard.lane, "")).problem(str(error), 0)
            return
        header = message.header
        report = self._reports.setdefault((header.lane, header.epoch), EpochReport(header.lane, f"{header.epoch:016x}"))
        verdict = self._chain(header.lane).accept(message)
        if verdict.finding in (Finding.DUPLICATE, Finding.OLD):
            return
        report.messages += 1
        report.kinds[header.kind] = report.kinds.get(header.kind, 0) + 1
        if header.seq > report.last:
            report.last, report.last_ns, report.head = header.seq, header.time_ns, message.digest.hex()
        if header.gap is not None:
            report.declared += header.gap.last_seq - header.gap.first_seq + 1
        if verdict.finding in PROBLEMS:
            report.problem(PROBLEMS[verdict.finding], header.seq)
        if not self._readers_are_named(message):
            report.problem(UNNAMED_READER, header.seq)

    def reports(self) -> list[EpochReport]:
        """After the last message: every epoch, with the holes that stayed open, and what was refused."""
        heard = {lane for lane, _ in self._reports}
        silent = set(self._lane_keys.enrolled()) - heard if self._from_start else set()
        for (lane, epoch), report in self._reports.items():
            for first, last in self._chain(lane).holes(epoch):
                report.problem(f"numbers {first} to {last} are missing and not declared given up", first)
        found = [*self._reports.values(), *self._refused.values()]
        for lane in silent:
            found.append(EpochReport(lane, "", problems=[Problem(NOTHING_HERE, 0)]))
        return sorted(found, key=lambda report: (report.lane, report.last_ns))

    def _chain(self, lane: str) -> ChainVerifier:
        if lane not in self._chains:
            announced = self._lane_keys.epochs(lane)
            self._chains[lane] = ChainVerifier(
                lane,
                from_start=self._from_start,
                announced=announced,
                window=STORE_WINDOW if self._from_start else CAPTURE_WINDOW,
                max_epochs=sys.maxsize,
            )
        return self._chains[lane]

    def _readers_are_named(self, message: Envelope) -> bool:
        if not isinstance(self._lane_keys, PolicyKeys):
            return True
        edition = self._lane_keys.edition(message.header.trust_version)
        named = () if edition is None else edition.recipients_at(at(message.header.time_ns))
        return set(message.recipients) <= {key.kid for key in named}


def of_store(store: Store) -> Iterator[Heard]:
    """All messages of a store, each lane's epochs in the order in which they are linked."""
    chains = store.chains()
    for lane in dict.fromkeys(lane for lane, _ in chains):
        for epoch in _linked(store, lane, [epoch for of, epoch in chains if of == lane]):
            for message in store.messages(lane, epoch):
                yield Heard(lane, message.sealed, message.received_ns)


_MOMENT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def of_capture(path: Path) -> Iterator[Heard]:
    """The messages in a file of lines `TOPIC HEX` or `UNIX-TIME TOPIC HEX`. CaptureMalformed, naming the line.

    mosquitto_sub -V 5 -q 1 -t 'lanes/v1/+/record' -t 'lanes/v1/+/checkpoint' -F '%U %t %x' makes one.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                rest = line
                while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES)  # far longer than a message may be: what is read of it says so
                heard = _captured(line, f"{path}, line {number}")
                if heard is not None:
                    yield heard
    except OSError as error:
        raise CaptureMalformed(f"cannot read {path}: {error.strerror}") from error


def _captured(line: bytes, where: str) -> Heard | None:
    """What a broker passes on may be anything, also an empty message or a topic with blanks: that is for `admit`."""
    before, _, payload = line.decode(errors="replace").rstrip("\r\n").rpartition(" ")
    moment, _, rest = before.partition(" ")
    topic = rest if split(before) is None else before
    place = split(topic)
    try:
        received_ns = _nanoseconds(moment) if topic == rest else None
        sealed = bytes.fromhex(payload[: len(payload) & ~1] if len(line) == MAX_LINE_BYTES else payload)
    except ValueError as error:
        raise CaptureMalformed(f"{where}: TOPIC HEX or UNIX-TIME TOPIC HEX is needed") from error
    return None if place is None or place[1] not in LEAVES else Heard(place[0], sealed, received_ns)


def _nanoseconds(moment: str) -> int:
    """ValueError unless it is Unix time in plain digits: a number with an exponent could take for ever."""
    if _MOMENT.fullmatch(moment) is None:
        raise ValueError("not a Unix time")
    return int(Decimal(moment) * 1_000_000_000)


def _linked(store: Store, lane: str, epochs: list[Epoch]) -> list[Epoch]:
    """The epochs of a lane, each after the one that it is linked to; those without a link first."""
    before: dict[Epoch, Epoch | None] = {}
    for epoch in epochs:
        first = next(store.messages(lane, epoch), None)
        before[epoch] = None if first is None else _link_of(first.sealed)
    ordered: list[Epoch] = []
    for epoch in sorted(epochs, key=lambda epoch: before[epoch] is not None):
        run: list[Epoch] = []
        here: Epoch | None = epoch
        while here is not None and here in before and here not in ordered and here not in run:
            run.append(here)
            here = before[here]
        ordered += reversed(run)
    return ordered


def _link_of(sealed: bytes) -> Epoch | None:
    try:
        prev = envelope.parse(sealed).header.prev
    except SealError:
        return None
    return Epoch(f"{prev.epoch:016x}") if isinstance(prev, EpochLink) else None


def command(
    source: Annotated[str, typer.Argument(help="A collector's store (file or postgresql+psycopg://), or a capture.")],
    lanes: options.Lanes = None,
    trust: options.TrustSource = None,
    root: options.RootFile = None,
    trust_state: options.TrustState = options.TRUST_STATE,
    capture: Annotated[bool, typer.Option("--capture", help="SOURCE is a capture: lines of TOPIC HEX.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each epoch.")] = False,
) -> None:
    """Prove that nothing is missing. Needs no key that opens records. Ends with 1 if anything is wrong."""
    audit = Audit(open_lane_keys(lanes, trust, root, trust_state), from_start=not capture)
    if capture:
        for heard in of_capture(Path(source)):
            audit.take(heard)
        reports = audit.reports()
    else:
        store = Store(source, read_only=True)
        for heard in of_store(store):
            audit.take(heard)
        reports = audit.reports() + _evidence(store)
    for report in reports:
        if as_json:
            sys.stdout.write(json.dumps(asdict(report)) + "\n")
        else:
            _tell(report)
    wrong = sum(len(report.problems) for report in reports)
    if not as_json:
        kept = sum(report.messages for report in reports)
        sys.stdout.write(f"{kept} messages: " + (f"{wrong} problems\n" if wrong else "nothing is missing\n"))
    raise typer.Exit(1 if wrong else 0)


def _evidence(store: Store) -> list[EpochReport]:
    """What the collector could not store beside what it has: forks and broken chains."""
    found: dict[tuple[str, str], EpochReport] = {}
    for alarm in store.alarms():
        if alarm.code in (MessageForked.code, ChainBroken.code):
            report = found.setdefault((alarm.lane, alarm.epoch), EpochReport(alarm.lane, alarm.epoch))
            report.problem(f"{alarm.code} was kept by the collector", alarm.seq)
    return list(found.values())


def _tell(report: EpochReport) -> None:
    if report.messages:
        until = at(report.last_ns)
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
        sys.stdout.write(
            f"{report.lane} epoch {report.epoch}: {report.messages} messages ({kinds}), {report.declared} declared "
            f"given up, last number {report.last} of {until:%Y-%m-%d %H:%M:%S} UTC"
            f"{'' if report.problems else ': whole'}\n"
        )
    for problem in report.problems:
        where = f" from number {problem.seq}" if problem.seq else ""
        times = f" ({problem.count} times)" if problem.count > 1 else ""
        sys.stdout.write(f"  WRONG {report.lane} {report.epoch}{where}: {problem.what}{times}\n")
