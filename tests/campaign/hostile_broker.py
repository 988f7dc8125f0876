"""A hostile broker: sits between lanes and collector and does to their messages what it likes.

It is a program between two real brokers: lanes talk to the near one and get honest acknowledgements, the collector
talks to the far one. What passes, changed or not, is up to an `Attack`. docs/threat-model.md names each.

    python -m tests.campaign.hostile_broker [SECONDS]

runs random mixtures of the attacks that honest records must survive, for SECONDS.
"""

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from central.audit import Audit
from central.collector import Collector
from central.heard import of_store
from central.lanes import KeyDirectory
from central.store import Store
from edge.mqtt import Message, Publication, Session, lane_filter
from tests.integration.lane_site import Lane, Mosquitto, Site, checkpoint, read, until

EVIL = "evil.central"
Wire = tuple[str, bytes]
"""Topic and payload."""


class Attack:
    """Passes everything on. Subclasses do worse until `relent`, and then let go what they held back."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.chance = chance or random.Random(1)
        self.relented = False
        self.done = 0
        """How many times it struck."""

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        """What the collector gets in place of a lane's message."""
        return [(topic, payload)]

    def down(self, topic: str, payload: bytes) -> Iterable[Wire]:
        """What lanes get in place of a receipt."""
        return [(topic, payload)]

    def idle(self) -> Iterable[Wire]:
        """What the collector gets when nothing came for a moment."""
        return []


class HostileBroker:
    """Carries messages between two brokers through an attack."""

    def __init__(self, site: Site, far: Mosquitto, attack: Attack) -> None:
        self._near = site.session(EVIL)
        self._far = site.session(EVIL, broker=far)
        self._attack = attack

    def run(self, stop: threading.Event) -> None:
        for session, leaves in ((self._near, ("record", "checkpoint")), (self._far, ("receipt",))):
            session.connect()
            session.subscribe([lane_filter(leaf) for leaf in leaves])
        while not stop.is_set():
            up = self._came(self._near)
            for topic, payload in up:
                self._say(self._far, self._attack.up(topic, payload))
            for topic, payload in self._came(self._far):
                self._say(self._near, self._attack.down(topic, payload))
            if not up:
                self._say(self._far, self._attack.idle())
        self._near.close()
        self._far.close()

    @staticmethod
    def _came(session: Session) -> list[Wire]:
        return [(event.topic, event.payload) for event in session.wait(0.02) if isinstance(event, Message)]

    @staticmethod
    def _say(session: Session, messages: Iterable[Wire]) -> None:
        for topic, payload in messages:
            session.publish(Publication(topic, payload))


@dataclass
class Scene:
    """A site with the hostile broker in its middle."""

    site: Site
    attack: Attack
    collector: Collector
    lanes: list[Lane]
    made: int = 0

    def drive(self, count: int) -> None:
        """Each lane records `count` vehicles and a checkpoint."""
        for lane in self.lanes:
            lane.append(*(read() for _ in range(count)), checkpoint())
        self.made += (count + 1) * len(self.lanes)

    def drained(self) -> bool:
        return all(lane.outbox.depth == 0 for lane in self.lanes)

    def relent(self) -> None:
        self.attack.relented = True

    def alarms(self) -> set[str]:
        """Codes of the alarms that the collector keeps."""
        return {alarm.code for alarm in self.store().alarms()}

    def store(self) -> Store:
        """The collector's store, for reading."""
        return Store(self.site.store_address, read_only=True)

    def problems(self) -> list[str]:
        """What an audit of the store finds."""
        audit = Audit(KeyDirectory(self.site.lane_keys), from_start=True)
        for heard in of_store(self.store()):
            audit.take(heard)
        return [problem.what for report in audit.reports() for problem in report.problems]

    def stored(self) -> int:
        return len(list(self.store().messages()))


@contextmanager
def scene(folder: Path, attack: Attack, *, lanes: int = 2, records: int = 8) -> Iterator[Scene]:
    """Lanes that drive, a collector that collects, and `attack` between them."""
    site = Site(folder / "site")
    site.certify(EVIL)
    for number in range(lanes):
        site.enrol(f"lane-{number}")
    far = Mosquitto(site.root / "far-broker", site.tls)
    for broker in (site.broker, far):
        broker.allow(EVIL, "readwrite lanes/v1/#")
    stop = threading.Event()
    hostile = threading.Thread(target=HostileBroker(site, far, attack).run, args=(stop,))
    hostile.start()
    try:
        with site.collecting(broker=far) as collector:
            boxes = [site.lane(f"lane-{number}", receipt_timeout_s=0.3) for number in range(lanes)]
            set_up = Scene(site, attack, collector, boxes)
            set_up.drive(records)
            yield set_up
            for lane in boxes:
                lane.outbox.close()
    finally:
        stop.set()
        hostile.join(20)
        for broker in (site.broker, far):
            broker.stop()


# --- attacks that honest records survive ----------------------------------------------------------------------------


class Drop(Attack):
    """Swallows a third of everything, both ways."""

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        return self._some(topic, payload)

    def down(self, topic: str, payload: bytes) -> Iterable[Wire]:
        return self._some(topic, payload)

    def _some(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if not self.relented and self.chance.random() < 1 / 3:
            self.done += 1
            return []
        return [(topic, payload)]


class Reorder(Attack):
    """Holds messages back and lets them go in any order."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._held: list[Wire] = []

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        self._held.append((topic, payload))
        return [] if len(self._held) < 6 and not self.relented else self._let_go()

    def idle(self) -> Iterable[Wire]:
        return self._let_go() if self.relented or self.chance.random() < 0.3 else []

    def _let_go(self) -> list[Wire]:
        held, self._held = self._held, []
        self.chance.shuffle(held)
        self.done += len(held)
        return held


class Repeat(Attack):
    """Sends everything twice, and now and then something of long ago."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._kept: list[Wire] = []

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        self._kept.append((topic, payload))
        if self.relented:
            return [(topic, payload)]
        self.done += 1
        return [(topic, payload), (topic, payload), self.chance.choice(self._kept)]


class Flip(Attack):
    """Sends each message once with one bit turned over, and the true one only when it comes again."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._seen: set[bytes] = set()

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if self.relented or payload in self._seen:
            return [(topic, payload)]
        self._seen.add(payload)
        self.done += 1
        at, bit = self.chance.randrange(len(payload)), self.chance.randrange(8)
        return [(topic, payload[:at] + bytes([payload[at] ^ 1 << bit]) + payload[at + 1 :])]


class Cut(Attack):
    """Cuts messages short, or lets them grow."""

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if self.relented or self.chance.random() < 0.5:
            return [(topic, payload)]
        self.done += 1
        short = payload[: self.chance.randrange(len(payload))]
        return [(topic, self.chance.choice([short, payload + b"\0", payload * 40, b""]))]


class Move(Attack):
    """Brings each message on the topic of another lane as well."""

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        other = topic.replace("lane-0", "lane-x").replace("lane-1", "lane-0").replace("lane-x", "lane-1")
        if self.relented:
            return [(topic, payload)]
        self.done += 1
        return [(other, payload), (topic, payload)]


SURVIVED: tuple[Callable[[random.Random], Attack], ...] = (Drop, Reorder, Repeat, Flip, Cut, Move)


class Mixture(Attack):
    """Several attacks, one after the other on the same message."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.parts = [make(chance) for make in chance.sample(SURVIVED, k=chance.randint(2, len(SURVIVED)))]

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        return self._through([(topic, payload)], 0)

    def down(self, topic: str, payload: bytes) -> Iterable[Wire]:
        for part in self.parts:
            if not list(part.down(topic, payload)):
                return []
        return [(topic, payload)]

    def idle(self) -> Iterable[Wire]:
        for part in self.parts:
            part.relented = self.relented
        return [wire for index, part in enumerate(self.parts) for wire in self._through(part.idle(), index + 1)]

    def _through(self, wires: Iterable[Wire], begin: int) -> list[Wire]:
        for part in self.parts[begin:]:
            wires = [changed for topic, payload in wires if payload for changed in part.up(topic, payload)]
        return list(wires)


def main(seconds: float) -> None:
    """Random mixtures until the time is over; an AssertionError is a record lost or a lie believed."""
    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        seed += 1
        attack = Mixture(random.Random(seed))
        names = "+".join(type(part).__name__ for part in attack.parts)
        with tempfile.TemporaryDirectory() as folder, scene(Path(folder), attack) as here:
            with here.lanes[0].run(), here.lanes[1].run():
                time.sleep(3)
                here.drive(5)
                time.sleep(2)
                here.relent()
                until(here.drained, 60)
            assert here.stored() == here.made
            assert not here.problems()
        sys.stdout.write(f"seed {seed}: {names}: {here.made} records, none lost, none altered\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
