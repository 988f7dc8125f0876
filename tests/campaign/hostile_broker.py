"""A hostile broker's attacks, and how each shows.

docs/threat-model.md names each, and tests/integration/test_hostile_broker.py runs them one by one.

    python -m tests.campaign.hostile_broker [SECONDS]

runs random mixtures of those in MIXED, for SECONDS: all that were drawn must show, and then the books must be right.
"""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from central.watcher import Watcher
from edge.cbor import encode
from edge.errors import (
    LaneForeign,
    MessageAltered,
    MessageForked,
    MessageMoved,
    OpeningFailed,
    ReceiptRefused,
    RecordsMissing,
    TrustRefused,
)
from edge.mqtt import split, topic, trust_topic
from edge.outbox import Outbox
from edge.seal import cose, envelope, keys, receipt
from edge.seal.envelope import Envelope, Sealer
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.campaign.hostile_scene import Attack, Scene, Wire, parsed, scene
from tests.integration.lane_site import Lane, Site, read, until

# --- whatever it carries ----------------------------------------------------------------------------------------------


class Listen(Attack):
    """Keeps a copy of everything."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self.heard = b""

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        self.heard += payload
        return [(to, payload)]


class Drop(Attack):
    """Swallows a third of everything."""

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        return [] if not self.relented and self.chance.random() < 1 / 3 else [(to, payload)]

    def noticed(self, here: Scene) -> bool:
        """Lanes send again: no receipt came."""
        return here.sent > here.made


class Reorder(Attack):
    """Holds everything back; now and then lets the newer half of each topic go, and the older half only later."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._held: dict[str, list[bytes]] = {}
        self._older: list[Wire] = []

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        if self.relented:
            return [(to, payload)]
        held = self._held.setdefault(to, [])
        if payload not in held:
            held.append(payload)
        return []

    def idle(self) -> Iterable[Wire]:
        if not self.relented and not self.now_and_then:
            return []
        gone, self._older = self._older, []
        for to, held in self._held.items():
            half = 0 if self.relented else len(held) // 2
            gone += [(to, payload) for payload in held[half:]]
            self._older += [(to, payload) for payload in held[:half]]
        self._held.clear()
        self.chance.shuffle(gone)
        return gone

    def noticed(self, here: Scene) -> bool:
        """A message came after one that goes on from it."""
        newest: dict[tuple[str, str], int] = {}
        for message in here.store.received():
            chain = message.lane, message.epoch
            if message.seq < newest.get(chain, 0):
                return True
            newest[chain] = message.seq
        return False


class Repeat(Attack):
    """Sends everything twice, and now and then something of long ago."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._kept: list[Wire] = []

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        self._kept.append((to, payload))
        return [(to, payload)] * (1 if self.relented else 2)

    def idle(self) -> Iterable[Wire]:
        return [] if self.relented or not self._kept or not self.now_and_then else [self.chance.choice(self._kept)]

    def noticed(self, here: Scene) -> bool:
        """They are counted, and stored once; as is what lanes send again when another attack keeps receipts away."""
        return here.collector.counts["duplicate"] > 3


class Alter(Attack):
    """Passes on half of everything, and the rest not as it was."""

    code = MessageAltered.code

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        if self.relented or not payload or self.chance.random() < 1 / 2:
            return [(to, payload)]
        altered = self.alter(payload)
        self.forged.add(altered)
        return [(to, altered)]

    def alter(self, payload: bytes) -> bytes:
        raise NotImplementedError


class Flip(Alter):
    """Turns one bit over."""

    def alter(self, payload: bytes) -> bytes:
        at, bit = self.chance.randrange(len(payload)), self.chance.randrange(8)
        return payload[:at] + bytes([payload[at] ^ 1 << bit]) + payload[at + 1 :]


class Cut(Alter):
    """Cuts messages short, or lets them grow."""

    def alter(self, payload: bytes) -> bytes:
        short = payload[: self.chance.randrange(len(payload))]
        return self.chance.choice([short, payload + b"\0", payload * 9, b""])


# --- what lanes say ---------------------------------------------------------------------------------------------------


class Move(Attack):
    """Brings each message on the topic of the other lane as well."""

    code = MessageMoved.code

    def up(self, to: str, payload: bytes) -> Iterable[Wire]:
        if self.relented:
            return [(to, payload)]
        self.forged.add(payload)
        other = to.replace("lane-0", "lane-x").replace("lane-1", "lane-0").replace("lane-x", "lane-1")
        return [(other, payload), (to, payload)]


class NeverComes(Attack):
    """Withholds one message of each lane."""

    number = 4

    def withholds(self, seq: int) -> bool:
        return seq == self.number

    def up(self, to: str, payload: bytes) -> Iterable[Wire]:
        message = parsed(payload)
        withheld = not self.relented and message is not None and self.withholds(message.header.seq)
        return [] if withheld else [(to, payload)]

    def noticed(self, here: Scene) -> bool:
        """The collector says behind which number one is missing, and confirms nothing beyond."""
        return any((one.code, one.seq) == (RecordsMissing.code, self.number) for one in here.store.alarms())


class CutTail(NeverComes):
    """Withholds all after the fifth message of each lane: as if they had nothing more to say."""

    last = 5

    def withholds(self, seq: int) -> bool:
        return seq > self.last

    def noticed(self, here: Scene) -> bool:
        """It stays with the lanes, and their state says for how long."""
        return self.unforgotten(here) and all(lane.publisher.unconfirmed_s > 0 for lane in here.lanes)

    def unforgotten(self, here: Scene) -> bool:
        """Whether all that is withheld is still in the outboxes."""
        return all(lane.outbox.depth >= len(lane.made) - self.last for lane in here.lanes)


class Resign(Attack):
    """With the key of lane-1, strips lane-0's messages and signs them anew: in lane-0's name, and as lane-1's own."""

    code = LaneForeign.code
    taints = frozenset({"lane-1"})

    def begin(self, site: Site) -> None:
        self._stolen = FileSigner(keys.load_private(site.root / "lane-1.signing", keys.Purpose.SIGNING))
        self._victim = site.public("lane-0").kid

    def up(self, to: str, payload: bytes) -> Iterable[Wire]:
        message = parsed(payload)
        if self.relented or message is None or message.kid != self._victim:
            return [(to, payload)]
        as_lane_0 = self._sign(message, message.header)
        as_its_own = self._sign(message, replace(message.header, lane="lane-1"))
        self.forged.add(as_lane_0)
        self.believed.add(as_its_own)
        return [(topic("lane-0", "record"), as_lane_0), (topic("lane-1", "record"), as_its_own)]

    def noticed(self, here: Scene) -> bool:
        """The one is refused, and the other opens for nobody: the content is bound to the header that it came with."""
        watcher = Watcher(here.collector._lane_keys, here.site.opener())
        own = [one for one in here.store.messages("lane-1") if one.sealed in self.believed]
        said = [watcher.message("lane-1", one.sealed, one.received_ns) for one in own]
        codes = {line and line.code for line in said}
        return super().noticed(here) and codes == {OpeningFailed.code}

    def _sign(self, message: Envelope, header: envelope.Header) -> bytes:
        """The encrypted content of a message under another header and signature."""
        fields = message.outer.headers.protected_map
        lane_header = envelope._header.put(header)
        changed = {**fields, cose.Label.KID: self._stolen.public.kid, envelope.LANE_HEADER: lane_header}
        return cose.Sign1.sign(cose.Headers(encode(changed)), message.outer.payload, self._stolen).encode()


class Stranger(Attack):
    """Sends messages of a lane that nobody enrolled, and of its own making."""

    code = LaneForeign.code

    def begin(self, site: Site) -> None:
        signer, reader = FileSigner(keys.make_signing_key()), keys.make_recipient_key().public
        made = [Sealer(lane, signer, (reader,)).seal(read(), 1, 1, None).data for lane in ("lane-9", "lane-0")]
        self._sends = [*made, b"\x00", b"{}"]
        self.forged.add(made[1])

    def idle(self) -> Iterable[Wire]:
        if self.relented or not self.now_and_then:
            return []
        return [(topic(lane, "record"), data) for lane in ("lane-9", "lane-0") for data in self._sends]

    def noticed(self, here: Scene) -> bool:
        """As a stranger's, as on another lane's topic, as no message at all."""
        refused = {LaneForeign.code, MessageMoved.code, MessageAltered.code} <= here.collector.counts.keys()
        return refused and super().noticed(here)


class CopiedCard(Attack):
    """The broker is honest; a thief's box speaks from a copy of lane-0's card before lane-0 says more."""

    taints = frozenset({"lane-0"})

    def speak(self, here: Scene) -> None:
        honest, card = here.lanes[0], here.site.root / "copy.outbox"
        honest.close()
        shutil.copy(here.site.root / "lane-0.outbox", card)
        honest.restart()
        with Outbox.open(card, honest.standing.sealer) as copy:
            copy.append(read("XCL0NE1"))
            self.believed |= {sealed.payload for sealed in copy.pending()}
            with Lane("lane-0", copy, here.site.publisher("lane-0", copy), honest.signer).run():
                until(lambda: copy.depth == 0)

    def noticed(self, here: Scene) -> bool:
        """The honest message is evidence of a fork, and the honest lane refuses the receipts for the other one."""
        honest = here.lanes[0]
        refused = honest.publisher.status.error == ReceiptRefused.code
        return refused and honest.outbox.pending()[0].payload in here.evidence(MessageForked.code)


# --- what lanes hear --------------------------------------------------------------------------------------------------


class LieAboutReceipts(CutTail):
    """Withholds the tail, and would have lanes forget it: by receipts with a key of its own, by the other lane's, by
    one with a bit turned over; and says again what was true once."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._forger = FileSigner(keys.make_signing_key())
        self._last: dict[str, Receipt] = {}
        """What would confirm all that a lane has sent."""
        self._true: dict[str, bytes] = {}
        """The first receipt that a lane was sent."""

    def up(self, to: str, payload: bytes) -> Iterable[Wire]:
        if (message := parsed(payload)) is not None:
            said = message.header
            self._last[said.lane] = Receipt(said.lane, said.epoch, said.seq, message.digest, said.time_ns)
        return super().up(to, payload)

    def down(self, to: str, payload: bytes) -> Iterable[Wire]:
        if payload and (place := split(to)) is not None and place[1] == "receipt":
            self._true.setdefault(place[0], payload)
        return [(to, payload)]

    def idle(self) -> Iterable[Wire]:
        if self.relented:
            return
        for lane, last in self._last.items():
            old = [said for of, said in self._true.items() if of == lane]
            others = [said for of, said in self._true.items() if of != lane]
            altered = [said[:-1] + bytes([said[-1] ^ 1]) for said in old]
            for lie in (*old, *others, *altered, receipt.sign(last, self._forger)):
                yield topic(lane, "receipt"), lie

    def noticed(self, here: Scene) -> bool:
        """Lanes refuse them, and forget nothing."""
        refused = all(lane.publisher.status.error == ReceiptRefused.code for lane in here.lanes)
        return refused and self.unforgotten(here)


class OldTrust(Attack):
    """Keeps the first edition of the owner's files, and retains it in the place of the newest."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(chance)
        self._old: dict[str, bytes] = {}
        self._again_at = 0.0

    def down(self, to: str, payload: bytes) -> Iterable[Wire]:
        if self.relented or not to.startswith(trust_topic("")):
            return [(to, payload)]
        return [(to, self._old.setdefault(to, payload))]

    def idle(self) -> Iterable[Wire]:
        if self.relented or time.monotonic() < self._again_at:
            return []
        self._again_at = time.monotonic() + 3  # lanes look at what came once no more comes
        return list(self._old.items())

    def noticed(self, here: Scene) -> bool:
        """Lanes say so in their state, and go on by the policy that they had verified."""
        return all(lane.standing.fault == TrustRefused.code for lane in here.lanes)


# --- all of them ------------------------------------------------------------------------------------------------------

MIXED: tuple[Callable[[random.Random], Attack], ...] = (
    Drop,
    Reorder,
    Repeat,
    Flip,
    Cut,
    Move,
    NeverComes,
    CutTail,
    Resign,
    Stranger,
    LieAboutReceipts,
    OldTrust,
)
"""All but a copied card: there an operator must say how it goes on."""
MOST_MIXED = 4
"""With more of them so little comes through that some never get to strike."""


class Mixture(Attack):
    """Some attacks, one after the other on the same message."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._parts = [make(chance) for make in chance.sample(MIXED, k=chance.randint(2, MOST_MIXED))]
        self._parts.sort(key=lambda part: not isinstance(part, OldTrust))  # it must hear what the owner said first
        self._unnoticed = list(self._parts)
        self.taints = frozenset().union(*(part.taints for part in self._parts))

    def __str__(self) -> str:
        return "+".join(map(str, self._parts))

    @property
    def unnoticed(self) -> Sequence[Attack]:
        return self._unnoticed

    def begin(self, site: Site) -> None:
        for part in self._parts:
            part.begin(site)
            part.believed = self.believed

    def relent(self) -> None:
        for part in self._parts:
            part.relent()

    def meet(self, to: str, payload: bytes) -> Iterable[Wire]:
        return self._through([(to, payload)], 0)

    def idle(self) -> Iterable[Wire]:
        return [wire for index, part in enumerate(self._parts) for wire in self._through(part.idle(), index + 1)]

    def noticed(self, here: Scene) -> bool:
        """Each of them was, at some time."""
        self._unnoticed = [part for part in self._unnoticed if not part.noticed(here)]
        return not self._unnoticed

    def _through(self, wires: Iterable[Wire], begin: int) -> Iterable[Wire]:
        for part in self._parts[begin:]:
            wires = [changed for wire in wires for changed in part.meet(*wire)]
        return wires


def main(seconds: float) -> None:
    """Random mixtures until the time is over; an AssertionError is a record lost, a lie believed or not noticed."""
    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        seed += 1
        attack = Mixture(random.Random(seed))
        sys.stdout.write(f"seed {seed}: {attack}: ")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory() as folder, scene(Path(folder), attack) as here, here.running():
            here.until_noticed()
            here.drive(5)
            here.settle()
        sys.stdout.write(f"all noticed, {here.made} records, none lost, none altered\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
