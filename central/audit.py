"""`sealane audit`: proves, per lane and epoch, that nothing is missing: from a collector's store, or from a capture.

Every number is there or declared given up, the chain is unbroken from the epoch's first message on, epochs are linked
or announced, each signature holds under the policy of its time, and those can read whom that policy named: all of them,
and nobody who was none any more long before.
"""

import datetime
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from central import options
from central.heard import Heard, of_capture, of_store
from central.lanes import LaneKeys, PolicyKeys, admit, at, open_lane_keys
from central.store import Store, epoch_of
from edge.errors import CollectorError, clean
from edge.policy import Policy
from edge.record import Kind
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import Envelope, EpochLink, Header

LONGEST_TOLD = 100
"""Lines for people about one epoch."""
STORE_WINDOW = 1 << 14
CAPTURE_WINDOW = 1 << 20
"""Messages of an epoch to compare with: a store has a number once, in a capture a fork may come months later."""
FORK = "contradicts another message: two under one number, or a broken link"
UNLINKED = "the epoch does not go on from what is here: another one, or an end, may have vanished"
NOTHING_HERE = "the lane is enrolled, and no message of it that counts is here"
NO_EPOCH_HERE = "the owner announced the epoch, and no message of it is here"
MAYBE_BEFORE = (
    ", or went by before the capture began: it begins with a checkpoint, which the broker may have retained "
    "(mosquitto_sub -R leaves those out)"
)
MISPLACED = "kept under another number or epoch than it was signed with"
OLDER_POLICY = "sealed under an older policy than a message before it"
UNNAMED_READER = "sealed for a reader whom the policy of that time does not name"
MISSING_READER = "not sealed for a reader whom the policy of that time names"
GRACE = datetime.timedelta(days=30)
"""So long a lane may seal by a policy that a newer one replaced: as long as it may go without the owner's word."""
ENDED_READER = f"sealed for a reader who was none any more by what the owner had said {GRACE.days} days before"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, the first number that shows it (0: no number), how many messages do, and the
    first line of a capture that does where there is no number (else 0)."""

    what: str
    seq: int
    count: int = 1
    line: int = 0


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

    def problem(self, what: str, seq: int, line: int = 0) -> None:
        known = self.found.get(what, Problem(what, seq, 0, line))
        self.found[what] = replace(known, seq=min(known.seq, seq), count=known.count + 1)

    def to_json(self) -> dict[str, Any]:
        """One line of `sealane audit --json`."""
        said = asdict(self)
        said["problems"] = list(said.pop("found").values())
        return said


@dataclass(slots=True)
class _Known:
    """An epoch while it is judged. earliest_ns: when the earliest message was sealed; opening: what the first one says;
    ended: another epoch goes on from it; policies: which of them its messages name, each from which number to which."""

    report: EpochReport
    earliest_ns: int
    opening: Header | None = None
    ended: bool = False
    policies: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def began_ns(self) -> int:
        """When its first message was sealed: clocks may go back later."""
        return self.earliest_ns if self.opening is None else self.opening.time_ns

    @property
    def link(self) -> EpochLink | None:
        prev = None if self.opening is None else self.opening.prev
        return prev if isinstance(prev, EpochLink) else None


class Audit:
    """Takes messages in any order; `reports` says what was found.

    from_start: the very first messages of all enrolled lanes must be here; else each lane is judged from where it is
    first heard.
    """

    def __init__(self, lane_keys: LaneKeys, *, from_start: bool) -> None:
        self._lane_keys = lane_keys
        self._from_start = from_start
        self._chains: dict[str, ChainVerifier] = {}
        self._known: dict[str, dict[int, _Known]] = {}
        """Of each lane: its epochs."""
        self._maybe_retained: set[tuple[str, int, int]] = set()
        """Lane, epoch and number of each checkpoint that a lane is first heard with, in a capture."""
        self._refused: dict[tuple[str, str], EpochReport] = {}

    def take(self, heard: Heard) -> None:
        """Judge one message."""
        received_ns = time.time_ns() if heard.received_ns is None else heard.received_ns
        try:
            message = admit(heard.lane, heard.sealed, self._lane_keys, received_ns)
        except CollectorError as error:
            epoch, seq = heard.kept_as or ("", 0)
            place = clean(heard.lane, 32), clean(epoch, 16)
            self._refused.setdefault(place, EpochReport(*place)).problem(str(error), seq, heard.line)
            return
        header = message.header
        known = self._of(header)
        report = known.report
        if heard.kept_as not in (None, (epoch_of(message), header.seq)):
            report.problem(MISPLACED, header.seq)
        if header.kind is Kind.CHECKPOINT and not self._from_start and header.lane not in self._chains:
            self._maybe_retained.add((header.lane, header.epoch, header.seq))
        verdict = self._chain(header.lane).accept(message)
        if verdict.finding in (Finding.DUPLICATE, Finding.OLD):
            return
        if verdict.finding is Finding.FORK:
            report.problem(FORK, header.seq)
            return
        report.messages += 1
        report.kinds[header.kind] = report.kinds.get(header.kind, 0) + 1
        if header.seq > report.last:
            report.last, report.last_ns, report.head = header.seq, header.time_ns, message.digest.hex()
        if header.seq == 1:
            known.opening = header
        if header.gap is not None:
            report.declared += header.gap.last_seq - header.gap.first_seq + 1
        first, last = known.policies.get(header.trust_version, (header.seq, header.seq))
        known.policies[header.trust_version] = min(first, header.seq), max(last, header.seq)
        if isinstance(self._lane_keys, PolicyKeys):
            self._judge_readers(message, self._lane_keys, report, received_ns)

    def reports(self) -> list[EpochReport]:
        """After the last message: every epoch, with the holes that stayed open, and what was refused."""
        for lane, epochs in self._known.items():
            self._judge_beginnings(lane, epochs)
            for epoch, known in epochs.items():
                self._judge_whole(lane, epoch, known)
        found = [known.report for epochs in self._known.values() for known in epochs.values()]
        found += [*self._refused.values(), *(self._absent() if self._from_start else ())]
        return sorted(found, key=lambda report: (report.lane, report.last_ns))

    def _of(self, header: Header) -> _Known:
        report = EpochReport(header.lane, f"{header.epoch:016x}")
        known = self._known.setdefault(header.lane, {}).setdefault(header.epoch, _Known(report, header.time_ns))
        known.earliest_ns = min(known.earliest_ns, header.time_ns)
        return known

    def _judge_whole(self, lane: str, epoch: int, known: _Known) -> None:
        report, chain = known.report, self._chain(lane)
        report.first, report.awaited = chain.judged_from(epoch), [] if known.ended else chain.awaited(epoch)
        awaited = set(report.awaited)
        for first, last in chain.holes(epoch):
            if (first, last) not in awaited:
                before = MAYBE_BEFORE if (lane, epoch, first - 1) in self._maybe_retained else ""
                report.problem(f"numbers {first} to {last} are missing and not declared given up{before}", first)
        if (seq := _behind(known.policies)) is not None:
            report.problem(OLDER_POLICY, seq)

    def _judge_beginnings(self, lane: str, epochs: Mapping[int, _Known]) -> None:
        """Each epoch goes on from the end of another, alone, whichever of their messages came first; but for the
        lane's earliest here, and those that the owner announced: these say of no other that it was before them.
        """
        announced = self._lane_keys.epochs(lane)
        begun: dict[int, _Known] = {}
        for epoch, known in epochs.items():
            before = None if known.link is None else epochs.get(known.link.epoch)
            if known.link is None or before is None:
                begun[epoch] = known
            elif before.report.head == known.link.head.hex() and not before.ended:
                before.ended = True
                if min(known.policies) < max(before.policies):
                    known.report.problem(OLDER_POLICY, known.policies[min(known.policies)][0])
            elif self._from_start or before.opening is not None or before.report.messages > 1:
                known.report.problem(UNLINKED, 1)  # also if it was announced; a lone message may be a retained one
        earliest = min(begun, key=lambda epoch: (begun[epoch].began_ns, epoch in announced), default=None)
        if not self._from_start and earliest in announced:  # fine anyway; a new card's clock may be behind
            earliest = next(iter(epochs))
        for epoch, known in begun.items():
            alone = known.opening is not None and known.link is None
            if self._from_start:  # an announced one with a link may go on from another store, as the first one here
                fine = (alone and epoch in announced) or (epoch == earliest and (alone or epoch in announced))
            else:
                fine = epoch in (earliest, *announced)
            if not fine:
                known.report.problem(UNLINKED, 1)

    def _absent(self) -> Iterator[EpochReport]:
        """Of whom the owner speaks, and nothing is here."""
        for lane in self._lane_keys.enrolled():
            if lane not in self._known:
                yield _only(lane, "", NOTHING_HERE)
        for lane, epochs in self._known.items():
            for epoch in self._lane_keys.epochs(lane):
                if epoch not in epochs:
                    yield _only(lane, f"{epoch:016x}", NO_EPOCH_HERE)

    def _chain(self, lane: str) -> ChainVerifier:
        if lane not in self._chains:
            self._chains[lane] = ChainVerifier(
                lane,
                from_start=self._from_start,
                window=STORE_WINDOW if self._from_start else CAPTURE_WINDOW,
                max_holes=sys.maxsize,
                max_epochs=sys.maxsize,
            )
        return self._chains[lane]

    @staticmethod
    def _judge_readers(message: Envelope, lane_keys: PolicyKeys, report: EpochReport, received_ns: int) -> None:
        header = message.header
        edition, sealed_at = lane_keys.edition(header.trust_version), at(header.time_ns)
        later = lane_keys.issued_by(min(sealed_at, at(received_ns)) - GRACE)  # a lane's clock may be ahead
        named = _kids(edition, sealed_at)
        still = _kids(later, sealed_at) if later is not None and later.version > header.trust_version else named
        sealed_for = set(message.recipients)
        if not sealed_for <= named:
            report.problem(UNNAMED_READER, header.seq)
        if sealed_for & (named - still):
            report.problem(ENDED_READER, header.seq)
        if not named & still <= sealed_for:
            report.problem(MISSING_READER, header.seq)


def _kids(policy: Policy | None, sealed_at: datetime.datetime) -> set[bytes]:
    return set() if policy is None else {key.kid for key in policy.recipients_at(sealed_at)}


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
        messages = of_capture(Path(source), lambda said: sys.stderr.write(said + "\n"))
    else:
        messages = of_store(Store(source, read_only=True))
    for heard in messages:
        audit.take(heard)
    reports = audit.reports()
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
        where = f" from number {problem.seq}" if problem.seq else f" from line {problem.line}" if problem.line else ""
        times = f" ({problem.count} times)" if problem.count > 1 else ""
        sys.stdout.write(f"  WRONG {name}{where}: {problem.what}{times}\n")
    _tell_more(len(report.found), f"WRONG {name}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tell_more(count: int, what: str) -> None:
    if count > LONGEST_TOLD:
        sys.stdout.write(f"  {what}: {count - LONGEST_TOLD} more, which --json lists\n")
