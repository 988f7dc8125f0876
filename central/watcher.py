"""Watcher: judges what lanes say, message by message, without I/O: signature, order and gaps; contents with a key."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from central.lanes import LaneKeys, admit
from edge.errors import CollectorError, SealaneError, clean
from edge.record import LaneRecord
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import open_record
from edge.seal.opener import Opener

MAX_LANES = 4096
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
            self._chains[lane] = ChainVerifier(lane)
        chain = self._chains[lane]
        chain.announced = self._lane_keys.epochs(lane)  # the owner may announce one meanwhile
        return chain


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
