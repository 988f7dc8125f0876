"""`sealane audit`: proves, per lane and epoch, that nothing is missing: from a collector's store, or from a capture.

Every number is there or declared given up, the chain is unbroken from the epoch's first message on, epochs are linked
or announced, each signature holds under the policy of its time, and nobody can read whom that policy did not name or
whom the owner revoked long before.
"""

import datetime
import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from central import options
from central.lanes import LEAVES, LaneKeys, PolicyKeys, admit, at, open_lane_keys
from central.prefix import Epoch
from central.store import Store, epoch_of, link_of
from edge.errors import CaptureMalformed, ChainBroken, CollectorError, EpochUnlinked, MessageForked, clean
from edge.mqtt import split
from edge.record import Kind
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import Envelope, EpochLink, Header

MAX_LINE_BYTES = 128 * 1024
LONGEST_TOLD = 100
"""Lines for people about one epoch."""
STORE_WINDOW = 1 << 14
CAPTURE_WINDOW = 1 << 20
"""Messages of an epoch to compare with: a store has a number once, in a capture a fork may come months later."""
UNLINKED = "the epoch does not go on from what is here: another one, or an end, may have vanished"
PROBLEMS = {
    Finding.FORK: "contradicts another message: two under one number, or a broken link",
    Finding.UNLINKED_EPOCH: UNLINKED,
}
NOTHING_HERE = "the lane is enrolled, and no message of it is here"
NO_EPOCH_HERE = "the owner announced the epoch, and no message of it is here"
MAYBE_BEFORE = (
    ", or went by before the capture began: it begins with a checkpoint, which the broker may have retained "
    "(mosquitto_sub -R leaves those out)"
)
MISPLACED = "kept under another number or epoch than it was signed with"
OLDER_POLICY = "sealed under an older policy than a message before it"
UNNAMED_READER = "sealed for a reader whom the policy of that time does not name"
GRACE = datetime.timedelta(days=30)
"""So long a lane may seal by a policy that a newer one replaced: as long as it may go without the owner's word."""
REVOKED_READER = f"sealed for a reader whom the owner had revoked more than {GRACE.days} days before"


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it was stored or captured. received_ns: UTC, None if it is not known; kept_as: the epoch and
    number that a store has it under."""

    lane: str
    sealed: bytes
    received_ns: int | None = None
    kept_as: tuple[Epoch, int] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, the first number that shows it (0: no number), and how many messages do."""

    what: str
    seq: int
    count: int = 1


@dataclass(slots=True)
class EpochReport:
    """What was found of one epoch.

    declared: how many numbers were given up and declared; first, last: the lowest and the highest number that were
    judged, the latter sealed at last_ns; head: its digest, which a box that follows this one begins with
    (docs/wire-format.md); awaited: first and last of the runs that are not here yet, since nothing but declared gaps,
    which are sent ahead of their turn, was heard beyond.
    """

    lane: str
    epoch: str
    messages: int = 0
    declared: int = 0
    first: int = 0
    last: int = 0
    last_ns: int = 0
    head: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    awaited: list[tuple[int, int]] = field(default_factory=list)
    found: dict[str, Problem] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """Each kind once, in the order in which they were found."""
        return list(self.found.values())

    def problem(self, what: str, seq: int) -> None:
        known = self.found.get(what)
        self.found[what] = Problem(what, seq) if known is None else Problem(what, min(known.seq, seq), known.count + 1)

    def to_json(self) -> dict[str, Any]:
        """One line of `sealane audit --json`."""
        said = asdict(self)
        said["problems"] = list(said.pop("found").values())
        return said


class Audit:
    """Takes messages, an epoch after the one that it is linked to; `reports` says what was found.

    from_start: the very first messages of all enrolled lanes must be here; else each lane is judged from where it is
    first heard.
    """

    def __init__(self, lane_keys: LaneKeys, *, from_start: bool) -> None:
        self._lane_keys = lane_keys
        self._from_start = from_start
        self._chains: dict[str, ChainVerifier] = {}
        self._reports: dict[tuple[str, int], EpochReport] = {}
        self._policies: dict[tuple[str, int], dict[int, tuple[int, int]]] = {}
        """Of each epoch: which policies its messages name, each from which number to which."""
        self._openings: dict[str, dict[int, Header]] = {}
        """Of each lane: what the first message of each epoch says."""
        self._maybe_retained: set[tuple[str, int, int]] = set()
        """Lane, epoch and number of each checkpoint that a lane is first heard with, in a capture."""
        self._refused: dict[str, EpochReport] = {}

    def take(self, heard: Heard) -> None:
        """Judge one message."""
        received_ns = time.time_ns() if heard.received_ns is None else heard.received_ns
        try:
            message = admit(heard.lane, heard.sealed, self._lane_keys, received_ns)
        except CollectorError as error:
            self._refused.setdefault(heard.lane, EpochReport(clean(heard.lane, 32), "")).problem(str(error), 0)
            return
        header = message.header
        report = self._reports.setdefault((header.lane, header.epoch), EpochReport(header.lane, f"{header.epoch:016x}"))
        if heard.kept_as not in (None, (epoch_of(message), header.seq)):
            report.problem(MISPLACED, header.seq)
        if header.kind is Kind.CHECKPOINT and not self._from_start and header.lane not in self._chains:
            self._maybe_retained.add((header.lane, header.epoch, header.seq))
        verdict = self._chain(header.lane).accept(message)
        if verdict.finding in (Finding.DUPLICATE, Finding.OLD):
            return
        report.messages += 1
        report.kinds[header.kind] = report.kinds.get(header.kind, 0) + 1
        if header.seq > report.last:
            report.last, report.last_ns, report.head = header.seq, header.time_ns, message.digest.hex()
        if header.seq == 1:
            self._openings.setdefault(header.lane, {})[header.epoch] = header
        if header.gap is not None:
            report.declared += header.gap.last_seq - header.gap.first_seq + 1
        if verdict.finding in PROBLEMS:
            report.problem(PROBLEMS[verdict.finding], header.seq)
        policies = self._policies.setdefault((header.lane, header.epoch), {})
        first, last = policies.get(header.trust_version, (header.seq, header.seq))
        policies[header.trust_version] = min(first, header.seq), max(last, header.seq)
        if isinstance(self._lane_keys, PolicyKeys):
            self._judge_readers(message, self._lane_keys, report)

    def reports(self) -> list[EpochReport]:
        """After the last message: every epoch, with the holes that stayed open, and what was refused."""
        if self._from_start:
            self._judge_beginnings()
        for (lane, epoch), report in self._reports.items():
            report.first = self._chain(lane).judged_from(epoch)
            report.awaited = self._chain(lane).awaited(epoch)
            awaited = set(report.awaited)
            for first, last in self._chain(lane).holes(epoch):
                if (first, last) not in awaited:
                    before = MAYBE_BEFORE if (lane, epoch, first - 1) in self._maybe_retained else ""
                    report.problem(f"numbers {first} to {last} are missing and not declared given up{before}", first)
            if (seq := _behind(self._policies.get((lane, epoch), {}))) is not None:
                report.problem(OLDER_POLICY, seq)
        found = [*self._reports.values(), *self._refused.values(), *(self._absent() if self._from_start else ())]
        return sorted(found, key=lambda report: (report.lane, report.last_ns))

    def _judge_beginnings(self) -> None:
        """Beside epochs that the owner announced one may begin without a link, the lane's first: it was sealed before
        them. One with a link to an epoch that is not here (of another store) may be announced, if nothing was before.
        """
        for lane, openings in self._openings.items():
            announced = self._lane_keys.epochs(lane)
            begun = {epoch: said.time_ns for epoch, said in openings.items() if not self._goes_on(said)}
            earliest = min((begun[epoch] for epoch in announced if epoch in begun), default=sys.maxsize)
            for epoch, time_ns in begun.items():
                linked, report = openings[epoch].prev is not None, self._reports[lane, epoch]
                if epoch in announced and not linked:
                    continue
                if time_ns > (min(begun.values()) if linked else earliest) and UNLINKED not in report.found:
                    report.problem(UNLINKED, 1)

    def _goes_on(self, opening: Header) -> bool:
        """Whether it goes on from an epoch that is here: how well, its chain's verdict says."""
        return isinstance(opening.prev, EpochLink) and (opening.lane, opening.prev.epoch) in self._reports

    def _absent(self) -> Iterator[EpochReport]:
        """Of whom the owner speaks, and nothing is here."""
        heard = {lane for lane, _ in self._reports}
        for lane in self._lane_keys.enrolled():
            if lane not in heard:
                yield _only(lane, "", NOTHING_HERE)
        for lane in heard:
            for epoch in self._lane_keys.epochs(lane):
                if (lane, epoch) not in self._reports:
                    yield _only(lane, f"{epoch:016x}", NO_EPOCH_HERE)

    def _chain(self, lane: str) -> ChainVerifier:
        if lane not in self._chains:
            announced = self._lane_keys.epochs(lane)
            self._chains[lane] = ChainVerifier(
                lane,
                from_start=self._from_start,
                announced=announced,
                window=STORE_WINDOW if self._from_start else CAPTURE_WINDOW,
                max_holes=sys.maxsize,
                max_epochs=sys.maxsize,
            )
        return self._chains[lane]

    @staticmethod
    def _judge_readers(message: Envelope, lane_keys: PolicyKeys, report: EpochReport) -> None:
        header = message.header
        edition, sealed_at = lane_keys.edition(header.trust_version), at(header.time_ns)
        named = () if edition is None else edition.recipients_at(sealed_at)
        if not set(message.recipients) <= {key.kid for key in named}:
            report.problem(UNNAMED_READER, header.seq)
        elif any(key.kid in message.recipients and lane_keys.had_revoked(key, sealed_at - GRACE) for key in named):
            report.problem(REVOKED_READER, header.seq)


def _only(lane: str, epoch: str, what: str) -> EpochReport:
    """The report of what is not here at all."""
    report = EpochReport(lane, epoch)
    report.problem(what, 0)
    return report


def _behind(policies: Mapping[int, tuple[int, int]]) -> int | None:
    """A number that names an older policy than a lower number does. policies: first and last number under each."""
    lowest = sys.maxsize
    for version in sorted(policies, reverse=True):
        first, last = policies[version]
        if last > lowest:
            return last
        lowest = min(lowest, first)
    return None


def of_store(store: Store) -> Iterator[Heard]:
    """All messages of a store, each lane's epochs in the order in which they are linked."""
    chains = store.chains()
    for lane in dict.fromkeys(lane for lane, _ in chains):
        for epoch in _linked(store, lane, [epoch for of, epoch in chains if of == lane]):
            for message in store.messages(lane, epoch):
                yield Heard(lane, message.sealed, message.received_ns, (epoch, message.seq))


_MOMENT = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")


def of_capture(path: Path) -> Iterator[Heard]:
    """The messages in a file of lines `TOPIC HEX` or `UNIX-TIME TOPIC HEX`. CaptureMalformed, naming the line.

    mosquitto_sub -R -V 5 -q 1 -t 'lanes/v1/+/record' -t 'lanes/v1/+/checkpoint' -F '%U %t %x' makes one.
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
        link = None if first is None else link_of(first.sealed)
        before[epoch] = None if link is None else Epoch(f"{link.epoch:016x}")
    ordered: dict[Epoch, None] = {}
    for epoch in sorted(epochs, key=lambda epoch: before[epoch] is not None):
        run: dict[Epoch, None] = {}
        here: Epoch | None = epoch
        while here is not None and here in before and here not in ordered and here not in run:
            run[here] = None
            here = before[here]
        ordered |= dict.fromkeys(reversed(run))
    return list(ordered)


def command(
    source: Annotated[str, typer.Argument(help="A collector's store (file or postgresql+psycopg://), or a capture.")],
    lanes: options.Lanes = None,
    trust: options.TrustSource = None,
    root: options.RootFile = None,
    trust_state: options.TrustState = options.TRUST_STATE,
    capture: Annotated[bool, typer.Option("--capture", help="SOURCE is a capture: lines of TOPIC HEX.")] = False,
    archive: Annotated[
        bool, typer.Option("--archive", help="Go by the owner's word though it is no longer fresh; says since when.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each epoch.")] = False,
) -> None:
    """Prove that nothing is missing. Needs no key that opens records.

    Ends with 1 if anything is wrong, or nothing is here.
    """
    lane_keys = open_lane_keys(lanes, trust, root, trust_state, archive=archive, patient=True)
    audit = Audit(lane_keys, from_start=not capture)
    if capture:
        for heard in of_capture(Path(source)):
            audit.take(heard)
        reports = audit.reports()
    else:
        store = Store(source, read_only=True)
        for heard in of_store(store):
            audit.take(heard)
        reports = audit.reports() + _evidence(store, lane_keys)
    if isinstance(lane_keys, PolicyKeys) and (silence := lane_keys.silence()) is not None:
        sys.stderr.write(silence + "\n")
    for report in reports:
        if as_json:
            sys.stdout.write(json.dumps(report.to_json()) + "\n")
        else:
            _tell(report)
    wrong = sum(len(report.found) for report in reports)
    kept = sum(report.messages for report in reports)
    if not as_json:
        verdict = f"nothing is missing{' among the numbers above' if capture else ''}"
        if wrong or not kept:
            verdict = _counted(wrong, "problem") if wrong else "nothing is here that could prove anything"
        sys.stdout.write(f"{_counted(kept, 'message')}: {verdict}\n")
    raise typer.Exit(0 if kept and not wrong else 1)


def _evidence(store: Store, lane_keys: LaneKeys) -> list[EpochReport]:
    """What the collector could not store beside what it has, forks and broken chains, or saw in the order of coming:
    epochs without a link."""
    found: dict[tuple[str, str], EpochReport] = {}
    for alarm in store.alarms():
        unlinked = alarm.code == EpochUnlinked.code and alarm.epoch not in _hex(lane_keys.epochs(alarm.lane))
        if unlinked or alarm.code in (MessageForked.code, ChainBroken.code):
            report = found.setdefault((alarm.lane, alarm.epoch), EpochReport(alarm.lane, alarm.epoch))
            report.problem(f"{alarm.code} was kept by the collector", alarm.seq)
    return list(found.values())


def _hex(epochs: Collection[int]) -> list[str]:
    return [f"{epoch:016x}" for epoch in epochs]


def _tell(report: EpochReport) -> None:
    name = f"{report.lane} {report.epoch}".rstrip()
    if report.messages:
        until = at(report.last_ns)
        kinds = ", ".join(f"{count} {Kind(kind).name.lower()}" for kind, count in sorted(report.kinds.items()))
        sys.stdout.write(
            f"{report.lane} epoch {report.epoch}: {_counted(report.messages, 'message')} ({kinds}), {report.declared} "
            f"declared given up, numbers {report.first} to {report.last}, the last of {until:%Y-%m-%d %H:%M:%S} UTC"
            f"{'' if report.found else ': whole'}\n"
        )
        for first, last in report.awaited[:LONGEST_TOLD]:
            sys.stdout.write(f"  numbers {first} to {last} are still to come: a gap was declared ahead of them\n")
        _tell_more(len(report.awaited), "still to come")
    for problem in report.problems[:LONGEST_TOLD]:
        where = f" from number {problem.seq}" if problem.seq else ""
        times = f" ({problem.count} times)" if problem.count > 1 else ""
        sys.stdout.write(f"  WRONG {name}{where}: {problem.what}{times}\n")
    _tell_more(len(report.found), f"WRONG {name}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tell_more(count: int, what: str) -> None:
    if count > LONGEST_TOLD:
        sys.stdout.write(f"  {what}: {count - LONGEST_TOLD} more, which --json lists\n")
