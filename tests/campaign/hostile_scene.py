"""Where a hostile broker sits: between lanes and their centre, to do to what they say what it likes.

It is a program between two real brokers: lanes talk to the near one and get honest acknowledgements, the collector and
the data's owner talk to the far one. What passes, changed or not, is up to an `Attack`: those are in
tests/campaign/hostile_broker.py.
"""

import datetime
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from central.audit import Audit
from central.collector import Collector
from central.heard import of_store
from central.lanes import LEAVES, PolicyKeys
from central.repository import Repository
from central.store import Store
from edge import policy
from edge.carrier import DirectoryCarrier, RetainedCarrier
from edge.errors import (
    SealError,
)
from edge.keeper import Keeper, Standing
from edge.mqtt import Acknowledged, Message, Publication, lane_filter, split, trust_topic
from edge.outbox import Outbox
from edge.publisher import Publisher
from edge.record import LaneRecord
from edge.seal import envelope, keys
from edge.seal.envelope import Envelope, EpochLink, SealedMessage, Sealer
from edge.seal.signer import FileSigner
from edge.trust import Trust
from tests.integration.lane_site import Lane, Mosquitto, Site, checkpoint, read, until

EVIL = "evil.central"
RECEIPT_TIMEOUT_S = 0.3
MISSING_PATIENCE_S = 0.5
Wire = tuple[str, bytes]
"""Topic and payload."""


class Attack:
    """Passes everything on. Subclasses do worse until `relent`, and then let go what they held back."""

    code = ""
    """Of the alarm with a message that this attack forged."""
    taints: frozenset[str] = frozenset()
    """Lanes whose key it has: an audit must find something there, and may do so nowhere else."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.chance = chance or random.Random(1)
        self.relented = False
        self.forged: set[bytes] = set()
        """What it made, altered, or put where it does not belong."""
        self.believed: set[bytes] = set()
        """What it made with a lane's key: that counts."""

    def __str__(self) -> str:
        return type(self).__name__

    @property
    def now_and_then(self) -> bool:
        """Seldom enough for what is idle not to be a flood."""
        return self.chance.random() < 0.1

    def begin(self, site: Site) -> None:
        """Before anything is said: get hold of what else the attack needs."""

    @property
    def unnoticed(self) -> Sequence["Attack"]:
        """Those of several that `noticed` did not see yet."""
        return [self]

    def relent(self) -> None:
        self.relented = True

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        """What goes on in place of a message, in either direction: its topic says where to."""
        return self.up(to, payload) if rises(to) else self.down(to, payload)

    def up(self, to: str, payload: bytes) -> Iterable[Wire]:
        """In place of what a lane sent."""
        return [(to, payload)]

    def down(self, to: str, payload: bytes) -> Iterable[Wire]:
        """In place of a receipt, or of a file of the owner's repository."""
        return [(to, payload)]

    def idle(self) -> Iterable[Wire]:
        """What goes out on top of that, now and then."""
        return []

    def noticed(self, here: "Scene") -> bool:
        """Whether it shows as docs/threat-model.md says."""
        return bool(self.forged & here.evidence(self.code))


def rises(to: str) -> bool:
    """Whether a topic is one that lanes send messages under."""
    place = split(to)
    return place is not None and place[1] in LEAVES


def parsed(payload: bytes) -> Envelope | None:
    """A lane's message, if it still is one."""
    try:
        return envelope.parse(payload)
    except SealError:
        return None


class HostileBroker:
    """Carries messages between two brokers through an attack."""

    def __init__(self, site: Site, far: Mosquitto, attack: Attack) -> None:
        self._near = site.session(EVIL)
        self._far = site.session(EVIL, broker=far)
        self._attack = attack
        for session, filters in (
            (self._near, [lane_filter(leaf) for leaf in LEAVES]),
            (self._far, [lane_filter("receipt"), trust_topic("#")]),
        ):
            session.connect()
            session.subscribe(filters)

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """It carries meanwhile; raises what it failed with."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            carried = thread.submit(self._carry, stop)
            try:
                yield
            finally:
                stop.set()
                carried.result()

    def _carry(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for session in (self._near, self._far):
                for event in session.wait(0.02):
                    if isinstance(event, Message):
                        self._say(self._attack.meet(event.topic, event.payload))
            self._say(self._attack.idle())
        self._near.close()
        self._far.close()

    def _say(self, wires: Iterable[Wire]) -> None:
        for to, payload in wires:
            session = self._far if rises(to) else self._near
            if session.has_room:
                session.publish(Publication(to, payload, retain=to.startswith(trust_topic(""))))


class Owner:
    """The data's owner, who had three readers and then ended one."""

    def __init__(self, site: Site, lanes: Iterable[str]) -> None:
        self._site = site
        self._targets, self._online = (FileSigner(keys.make_signing_key()) for _ in range(2))
        root, now = FileSigner(keys.make_signing_key()), datetime.datetime.now(datetime.UTC)
        folder = site.root / "authority"
        self.repository = Repository.create(folder, [root], 1, self._targets.public, self._online.public, now)
        escrow, ended = (keys.make_recipient_key().public for _ in range(2))
        readers = [policy.Recipient(key=key) for key in (site.owner.public, escrow, ended)]
        self.repository.edit(
            recipients=tuple(readers),
            collectors=(policy.Collector(key=site.collector.public),),
            lanes={name: policy.Lane(keys=(policy.LaneKey(key=site.public(name)),)) for name in lanes},
        )
        self.editions = [self._sign()]
        self.repository.edit(recipients=tuple(readers[:2]))
        self.editions.append(self._sign())

    def trusted(self, folder: Path) -> Trust:
        """By somebody who has verified the newest edition."""
        trust = Trust(folder, self.repository.roots.first_bytes)
        trust.refresh(DirectoryCarrier(self.repository.published), datetime.datetime.now(datetime.UTC))
        return trust

    def publish(self, edition: Mapping[str, bytes], broker: Mosquitto) -> None:
        session, left = self._site.session("owner.central", broker=broker), len(edition)
        session.connect()
        for name, data in edition.items():
            session.publish(Publication(trust_topic(name), data, retain=True))
        while left:
            left -= sum(isinstance(event, Acknowledged) for event in session.wait(1))
        session.close()

    def _sign(self) -> Mapping[str, bytes]:
        self.repository.publish(self._targets, self._online, datetime.datetime.now(datetime.UTC))
        return dict(self.repository.files())


@dataclass(frozen=True)
class Booked(Sealer):
    """Keeps a copy of what it seals."""

    made: list[bytes] = field(default_factory=list, compare=False)

    def seal(self, said: LaneRecord, epoch: int, seq: int, prev: bytes | EpochLink | None) -> SealedMessage:
        message = super().seal(said, epoch, seq, prev)
        self.made.append(message.data)
        return message


class Box(Lane):
    """A lane that goes by the owner's word as the broker brings it. `made`: all messages that it ever sealed."""

    def __init__(self, site: Site, owner: Owner, name: str) -> None:
        self.made: list[bytes] = []
        self._site = site
        self._signer = FileSigner(keys.load_private(site.root / f"{name}.signing", keys.Purpose.SIGNING))
        self._keeper = Keeper(
            name,
            owner.trusted(site.root / f"{name}.trust"),
            RetainedCarrier(),
            self._signer,
            site.root / f"{name}.trust",
            tls_key_file=site.tls / f"{name}.key",
            certificate_file=site.tls / f"{name}.pem",
            refresh_s=1,
        )
        self.standing = self._keeper.standing(datetime.datetime.now(datetime.UTC))
        super().__init__(name, *self._open(name), self._signer)

    def close(self) -> None:
        self.outbox.close()

    def restart(self) -> None:
        """The same box again, once it was closed."""
        self.outbox, self.publisher = self._open(self.name)

    @contextmanager
    def run(self) -> Iterator["Box"]:
        stop = threading.Event()
        watch = threading.Thread(target=self._keeper.run, args=(stop, lambda: None, self._follow))
        watch.start()
        try:
            with super().run():
                yield self
        finally:
            stop.set()
            watch.join(20)

    def _open(self, name: str) -> tuple[Outbox, Publisher]:
        outbox = Outbox.open(self._site.root / f"{name}.outbox", self._sealer())
        publisher = Publisher(
            self._site.connection(name),
            name,
            outbox,
            self.standing.collectors,
            receipt_timeout_s=RECEIPT_TIMEOUT_S,
            state=lambda: {"software": "test"},
            carried=self._keeper.carried,
            connected=self._keeper.connected,
        )
        return outbox, publisher

    def _follow(self, standing: Standing) -> None:
        self.standing = standing
        self.outbox.use(self._sealer())
        self.publisher.follow(standing.collectors, standing.certificate_file, standing.request)

    def _sealer(self) -> Sealer:
        by = self.standing.sealer
        return Booked(
            by.lane, by.signer, by.recipients, by.trust_version, recipients_at=by.recipients_at, made=self.made
        )


@dataclass
class Scene:
    """A site with the hostile broker in its middle."""

    site: Site
    owner: Owner
    far: Mosquitto
    attack: Attack
    collector: Collector
    lanes: list[Box]
    store: Store
    """The collector's, for reading."""

    @property
    def made(self) -> int:
        """How many messages lanes made."""
        return sum(len(lane.made) for lane in self.lanes)

    @property
    def sent(self) -> int:
        """How often they sent one."""
        return sum(lane.publisher.status.sent for lane in self.lanes)

    @contextmanager
    def running(self) -> Iterator[None]:
        """All lanes run."""
        with ExitStack() as stack:
            for lane in self.lanes:
                stack.enter_context(lane.run())
            yield

    def drive(self, count: int) -> None:
        """Each lane records `count` vehicles and a checkpoint."""
        for lane in self.lanes:
            lane.append(*(read() for _ in range(count)), checkpoint())

    def until_noticed(self) -> None:
        """Vehicles pass until the attack shows."""
        for turn in range(300):
            if self.attack.noticed(self):
                return
            if turn % 10 == 9:
                self.drive(1)
            time.sleep(0.1)
        raise AssertionError(f"not noticed: {', '.join(map(str, self.attack.unnoticed))}")

    def settle(self) -> None:
        """The attack relents, and the owner says its word again. Then no honest record is lost: every lane drains and
        goes by the newest policy, the store has each message that they made, byte for byte, and no other that counts,
        and the audit finds no problem but with a lane whose key was stolen."""
        self.attack.relent()
        self.owner.publish(self.owner.editions[-1], self.far)
        until(lambda: all(lane.outbox.depth == 0 and lane.standing.fault is None for lane in self.lanes), 60)
        assert {lane.standing.version for lane in self.lanes} == {len(self.owner.editions)}
        made = {message for lane in self.lanes for message in lane.made}
        kept = {heard.sealed for heard in of_store(self.store)}
        assert len(made) == sum(lane.outbox.position.next_seq - 1 for lane in self.lanes)
        assert made <= kept
        assert kept - made <= self.attack.believed
        assert {lane for lane, _ in self.problems()} <= self.attack.taints

    def accept_missing(self, lane: str) -> None:
        """What the collector's operator does once a chain stands still: `sealane collector --accept`."""
        store = Store(self.site.store_address)
        store.accept_missing(lane, time.time_ns())
        store.close()

    def problems(self) -> set[tuple[str, str]]:
        """What an audit of the store finds, by the owner's policy: lane, what."""
        trust, folder = self.site.root / "audit", self.owner.repository.published
        lane_keys = PolicyKeys(Trust(trust, self.owner.repository.roots.first_bytes), DirectoryCarrier(folder))
        audit = Audit(lane_keys, from_start=True)
        for heard in of_store(self.store):
            audit.take(heard)
        return {(report.lane, problem.what) for report in audit.reports() for problem in report.problems}

    def evidence(self, code: str) -> set[bytes]:
        """The messages that the collector's alarms of one kind show."""
        return {alarm.evidence for alarm in self.store.alarms() if alarm.code == code and alarm.evidence}


@contextmanager
def scene(folder: Path, attack: Attack) -> Iterator[Scene]:
    """Two lanes with records to send, a collector, an owner who has changed the policy, and `attack` between them."""
    site, names = Site(folder / "site"), ("lane-0", "lane-1")
    for name in names:
        site.enrol(name)
    owner = Owner(site, names)
    site.certify(EVIL)
    attack.begin(site)
    far = Mosquitto(site.root / "far-broker", site.tls)
    with ExitStack() as stack:
        for broker in (site.broker, far):
            stack.callback(broker.stop)
            broker.allow(EVIL, "readwrite lanes/v1/#")
        stack.enter_context(HostileBroker(site, far, attack).carrying())
        for edition in owner.editions:
            owner.publish(edition, far)
        stack.enter_context(patch("central.collector.MISSING_PATIENCE_S", MISSING_PATIENCE_S))
        collector = stack.enter_context(site.collecting(broker=far))
        store = Store(site.store_address, read_only=True)
        stack.callback(store.close)
        boxes = [Box(site, owner, name) for name in names]
        for box in boxes:
            stack.callback(box.close)
        set_up = Scene(site, owner, far, attack, collector, boxes, store)
        set_up.drive(8)
        yield set_up
