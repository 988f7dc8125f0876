"""Which keys a lane may sign with: the port that collector, tail and audit ask, answered by a folder or the policy."""

import datetime
import hashlib
import logging
import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edge import logs
from edge.carrier import Carrier, carrier
from edge.errors import (
    KeyFileError,
    KeyFileMissing,
    LaneForeign,
    LaneUnknown,
    MessageAltered,
    MessageMoved,
    OptionMissing,
    PolicyMalformed,
    SealError,
    TrustError,
    TrustMissing,
    TrustUnreachable,
    clean,
)
from edge.policy import Policy, parse_policy
from edge.seal import envelope, keys
from edge.seal.envelope import Envelope
from edge.seal.keys import PublicKey, Purpose
from edge.trust import Trust

LEAVES = ("record", "checkpoint")
"""Of the topics that sealed messages come under."""
RESCAN_S = 2.0
REFRESH_S = 60.0
HASTE_S = 2.0
"""So soon again for a message that names an edition not seen yet: lanes may hear of it first."""
RESTS, LONGEST_REST_S = 9.0, 600.0
"""So many times as long as it took is a source left alone by messages: a dead one must not hold a collector up."""
PAUSES_S = (1.0, 3.0)
"""After so long a program that can wait asks again a source that did not answer."""
FILE_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,31})(\.[^.]{1,64})?\.pub")
MAX_KEYS = 10_000

log = logging.getLogger(__name__)

T = TypeVar("T")


class LaneKeys(Protocol):
    """The port: who may sign for whom."""

    def of(self, message: Envelope, received_ns: int) -> Sequence[PublicKey]:
        """The keys that `message` may be signed with, none if its lane is unknown. received_ns: when it came, UTC: a
        revoked key counts no more, whatever time the message itself names."""

    def why_not(self, message: Envelope, received_ns: int) -> str:
        """Why the key that `message` names is not among them, if the lane is known."""

    def knows(self, lane: str) -> bool:
        """Whether a lane of that name is enrolled."""

    def enrolled(self) -> Collection[str]:
        """The lanes that have a key, even one that counts no more: something of each was to be heard."""

    def epochs(self, lane: str) -> Collection[int]:
        """Epochs that the owner announced to begin without a link."""


class KeyDirectory:
    """LANE.pub in a folder, and LANE.ANYTHING.pub for further keys of the same lane.

    Changes are taken up while running; a file that can't be read then leaves everything as it was, and is logged. At
    the start it raises KeyFileError.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looked_at = 0.0
        self._state: dict[Path, int] = {}
        self._keys: Mapping[str, tuple[PublicKey, ...]] = {}
        self._read(self._files())

    def of(self, message: Envelope, received_ns: int) -> Sequence[PublicKey]:
        return self._current().get(message.header.lane, ())

    def why_not(self, message: Envelope, received_ns: int) -> str:
        return "the folder has no such key of this lane"

    def knows(self, lane: str) -> bool:
        return lane in self._current()

    def enrolled(self) -> Collection[str]:
        return self._current().keys()

    def epochs(self, lane: str) -> Collection[int]:
        return ()

    def _current(self) -> Mapping[str, tuple[PublicKey, ...]]:
        if time.monotonic() - self._looked_at > RESCAN_S:
            try:
                self._read(self._files())
            except KeyFileError as error:
                logs.error(log, error)
        return self._keys

    def _files(self) -> dict[Path, int]:
        """The key files, and when each was changed."""
        self._looked_at = time.monotonic()
        try:
            named = sorted(path for path in self._directory.iterdir() if FILE_NAME.fullmatch(path.name))
            found = {path: path.stat().st_mtime_ns for path in named}
        except OSError as error:
            raise KeyFileMissing(f"cannot read the folder {self._directory}: {error.strerror}") from error
        if len(found) > MAX_KEYS:
            raise KeyFileMissing(f"{self._directory} holds more than {MAX_KEYS} keys")
        return found

    def _read(self, files: dict[Path, int]) -> None:
        if files == self._state:
            return
        by_lane: dict[str, tuple[PublicKey, ...]] = {}
        for path in files:
            lane = path.name.split(".")[0]
            by_lane[lane] = (*by_lane.get(lane, ()), keys.load_public(path, Purpose.SIGNING))
        self._keys, self._state = by_lane, files


@dataclass(slots=True)
class _Rest:
    """A source's from one kind of asking: since when, and how long it took."""

    since: float = -math.inf
    took_s: float = 0.0

    def begin(self, began: float) -> None:
        self.since = time.monotonic()
        self.took_s = self.since - began

    @property
    def over(self) -> bool:
        """Whether the source may be asked because of a message, which anybody may send."""
        return time.monotonic() - self.since >= max(HASTE_S, min(RESTS * self.took_s, LONGEST_REST_S))


class PolicyKeys:
    """The owner's policy: a message is judged by the edition that it names, a revocation by the newest.

    Refreshes itself now and then; trouble with that is logged, and the last verified policy counts. Raises TrustMissing
    at the start if none was ever verified. archive: the owner's word counts though it is no longer fresh. patient: what
    is judged is kept somewhere and can wait; an edition that can't be had then raises TrustError, as nothing is proved.
    """

    def __init__(self, trust: Trust, carries: Carrier, *, archive: bool = False, patient: bool = False) -> None:
        self._trust = trust
        self._carrier = carries
        self._archive = archive
        self._editions: dict[int, Policy | None] = {}
        self._patient = patient
        self._refreshed, self._missed = _Rest(), _Rest()
        self._trouble: TrustError | None = None
        self._unavailable: set[int] = set()
        self._refresh()
        _ = trust.policy

    def of(self, message: Envelope, received_ns: int) -> Sequence[PublicKey]:
        header, received = message.header, at(received_ns)
        unheard_of = header.trust_version > self._trust.version and self.knows(header.lane)
        if unheard_of and self._refreshed.over:
            self._refresh()
        if unheard_of and self._patient and self._trouble and header.trust_version > self._trust.version:
            raise self._trouble
        edition = self.edition(header.trust_version)
        if edition is None:
            return ()
        enrolled = edition.lane_keys_at(header.lane, at(header.time_ns))
        return [key for key in enrolled if not self._newest.revokes(key, received)]

    def why_not(self, message: Envelope, received_ns: int) -> str:
        version = message.header.trust_version
        if any(one.kid == message.kid.hex() and one.at <= at(received_ns) for one in self._newest.revoked):
            return "the key is revoked"
        if self.edition(version) is None:
            return f"policy {version} is not known here, the newest is {self._newest.version}"
        return f"policy {version} does not list the key for that time"

    def knows(self, lane: str) -> bool:
        return lane in self._newest.lanes

    def enrolled(self) -> Collection[str]:
        return [name for name, lane in self._newest.lanes.items() if lane.keys]

    def epochs(self, lane: str) -> Collection[int]:
        enrolled = self._newest.lanes.get(lane)
        return () if enrolled is None else [int(epoch, 16) for epoch in enrolled.epochs]

    def names_collector(self, key: PublicKey) -> bool:
        """Whether lanes count what that key confirms now."""
        return key in self._newest.collectors_at(datetime.datetime.now(datetime.UTC))

    def edition(self, version: int, *, ask: bool = True) -> Policy | None:
        """The policy of that number, if the owner ever signed it and it can be had. ask: of the source, if need be."""
        if version == self._newest.version:
            return self._trust.policy
        if version not in self._editions and 0 < version < self._trust.version:
            fetch, began = ask and (self._patient or self._missed.over), time.monotonic()

            def bring() -> bytes | None:
                return self._trust.target(_edition(version), fetch=fetch)

            try:
                data = self._insist(bring) if fetch else bring()
                self._editions[version] = None if data is None else parse_policy(data)
            except PolicyMalformed as error:
                logs.error(log, error, logging.WARNING)
                self._editions[version] = None  # an edition never changes
            except TrustError as error:
                if self._patient:
                    raise
                if fetch:
                    logs.error(log, error, logging.WARNING)
                    self._missed.begin(began)
        return self._editions.get(version)

    def issued_by(self, by: datetime.datetime) -> Policy | None:
        """The newest edition that was issued by then; of those that are kept, if the source does not answer."""
        return self._unnamed(bisect_right(range(1, self._trust.version + 1), by, key=self._issued))

    def silence(self) -> str | None:
        """What there is to be said of an owner's word that may not be the last one; None if it was fresh just now."""
        policy, until = self._trust.policy, self._trust.fresh_until
        if self._trouble is None and until is not None and datetime.datetime.now(datetime.UTC) < until:
            return None
        ended = "" if until is None else f", fresh until {until:%Y-%m-%d}"
        said = f"The owner's word is policy {policy.version} of {policy.issued:%Y-%m-%d}{ended}"
        if self._trouble is not None:
            why = "could not be reached" if isinstance(self._trouble, TrustUnreachable) else "was not believed"
            said += f", kept here, as {self._carrier} {why} ({self._trouble.what})"
        return f"{said}. What the owner said later, revocations too, is not known here."

    def _issued(self, version: int) -> datetime.datetime:
        edition = self._unnamed(version)
        return at(0) if edition is None else edition.issued

    def _unnamed(self, version: int) -> Policy | None:
        """An edition that no message need name, None if it can't be had: the source is asked until it fails once."""
        if version in self._unavailable:
            return None
        try:
            return self.edition(version, ask=not self._unavailable)
        except TrustError:
            self._unavailable.add(version)
            return None

    @property
    def _newest(self) -> Policy:
        if time.monotonic() - self._refreshed.since >= REFRESH_S:
            self._refresh()
        return self._trust.policy

    def _refresh(self) -> None:
        began, self._trouble = time.monotonic(), None
        try:
            self._insist(self._verify_newest)
        except TrustError as error:
            logs.error(log, error, logging.WARNING)
            self._trouble = error
        self._refreshed.begin(began)

    def _verify_newest(self) -> None:
        self._trust.refresh(self._carrier, datetime.datetime.now(datetime.UTC), archive=self._archive)
        self._trust.target(_edition(self._trust.version))  # kept, for when it is no longer the newest

    def _insist(self, ask: Callable[[], T]) -> T:
        """What `ask` brings; who can wait asks a source again that did not answer."""
        for pause_s in PAUSES_S if self._patient else ():
            try:
                return ask()
            except TrustUnreachable:
                time.sleep(pause_s)
        return ask()


def _edition(version: int) -> str:
    return f"policy/{version}"


def at(utc_ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(utc_ns / 1e9, datetime.UTC)


def open_lane_keys(
    lanes: Path | None,
    trust: str | None,
    root: Path | None,
    state: Path,
    *,
    archive: bool = False,
    patient: bool = False,
) -> LaneKeys:
    """The keys that a central program was told to go by: a folder, or the owner's policy.

    trust: where the repository is; root: file with a root of it, to begin with; state: folder for what was verified;
    archive: nobody keeps the repository fresh any more; what is verified then is kept apart from what the others go by.
    patient: see PolicyKeys. Raises OptionMissing, KeyFileError, TrustError.
    """
    if lanes is not None and trust is None:
        return KeyDirectory(lanes)
    if trust is not None and root is not None and lanes is None:
        try:
            first = root.read_bytes()
        except OSError as error:
            raise TrustMissing(f"cannot read {root}: {error.strerror}") from error
        try:
            state = state.expanduser()
        except RuntimeError as error:
            raise OptionMissing(
                "there is no home directory: say where verified metadata is kept, --trust-state"
            ) from error
        folder = state / hashlib.sha256(first).hexdigest()[:16]
        if archive:
            folder = folder.with_name(folder.name + "-archive")
        return PolicyKeys(Trust(folder, first), carrier(trust), archive=archive, patient=patient)
    raise OptionMissing("say whose signatures count: --lanes FOLDER, or --trust SOURCE with --root FILE")


def refuse_unknown(names: Iterable[str], lane_keys: LaneKeys) -> None:
    """LaneUnknown for a name that is no lane's, with those that are."""
    for name in names:
        if not lane_keys.knows(name):
            enrolled = ", ".join(sorted(lane_keys.enrolled())) or "none"
            raise LaneUnknown(clean(f"no lane {name} is enrolled; these are: {enrolled}", 200))


def admit(lane: str, data: bytes, lane_keys: LaneKeys, received_ns: int) -> Envelope:
    """The message that came as `lane`'s at `received_ns` UTC, verified: well formed, of that lane, signed by its key.

    Raises LaneForeign, MessageMoved, MessageAltered.
    """
    shown = clean(lane, 32)
    try:
        message = envelope.parse(data)
    except SealError as error:
        raise MessageAltered(f"from {shown}: {error}") from error
    if message.header.lane != lane:
        raise MessageMoved(f"a message of {message.header.lane} came as one of {shown}")
    key = next((key for key in lane_keys.of(message, received_ns) if key.kid == message.kid), None)
    if key is None:
        why = lane_keys.why_not(message, received_ns) if lane_keys.knows(lane) else "no lane of that name is enrolled"
        raise LaneForeign(f"{shown} with key {keys.fingerprint(message.kid)}: {why}")
    try:
        envelope.verify(message, key)
    except SealError as error:
        raise MessageAltered(f"from {shown}: {error}") from error
    return message
