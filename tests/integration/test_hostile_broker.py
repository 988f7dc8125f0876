"""Each attack of a hostile broker is noticed by what docs/threat-model.md names, and no honest record is lost."""

import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from central.watcher import Watcher
from edge.cbor import encode
from edge.errors import ReceiptRefused
from edge.outbox import Outbox
from edge.seal import cose, envelope, keys, receipt
from edge.seal.envelope import Envelope, Sealer
from edge.seal.signer import FileSigner
from tests.campaign.hostile_broker import Attack, Cut, Drop, Flip, Move, Reorder, Repeat, Scene, Wire, scene
from tests.integration.lane_site import CANARY, read, until


def survive(folder: Path, attack: Attack, noticed: Callable[[Scene], bool]) -> None:
    """While `attack` goes on it is noticed; once it ends, everything that lanes recorded is in the store, unaltered."""
    with scene(folder, attack) as here, here.lanes[0].run(), here.lanes[1].run():
        until(lambda: attack.done > 3 and noticed(here))
        here.drive(3)
        here.relent()
        until(here.drained)
        assert here.stored() == here.made
        assert here.problems() == []


@pytest.mark.parametrize(
    ("attack", "noticed"),
    [
        (Drop, lambda here: here.lanes[0].publisher.status.sent > 9),  # sent again: no receipt came
        (Reorder, lambda here: here.collector.counts["stored"] > 5),  # numbers and links put them in order
        (Repeat, lambda here: here.collector.counts["duplicate"] > 3),
        (Flip, lambda here: here.collector.counts["COL-03"] > 3 and "COL-03" in here.alarms()),
        (Cut, lambda here: here.collector.counts["COL-03"] > 3),
        (Move, lambda here: here.collector.counts["COL-02"] > 3 and "COL-02" in here.alarms()),
    ],
    ids=[
        "drop",
        "delay-and-reorder",
        "duplicate-and-replay",
        "flip-a-bit",
        "truncate-a-message",
        "move-to-another-topic",
    ],
)
def test_an_attack_is_noticed_and_no_record_is_lost(
    tmp_path: Path, attack: type[Attack], noticed: Callable[[Scene], bool]
) -> None:
    survive(tmp_path, attack(random.Random(7)), noticed)


class DropOne(Attack):
    """Never lets one message through."""

    victim: bytes | None = None

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if not self.relented and envelope.parse(payload).header.seq == 4:
            self.done += 1
            return []
        return [(topic, payload)]


def test_a_record_that_never_comes_stops_the_receipts_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Withholding: the collector raises an alarm, tail names the number, the lane keeps all from there on."""
    monkeypatch.setattr("central.collector.MISSING_PATIENCE_S", 0.5)
    with scene(tmp_path, DropOne()) as here, here.lanes[0].run(), here.lanes[1].run():
        until(lambda: "COL-07" in here.alarms())
        assert all(lane.outbox.pending()[0].seq == 4 for lane in here.lanes)
        assert "numbers 4 to 4 are missing and not declared given up" in here.problems()
        here.relent()
        until(here.drained)
        assert here.problems() == []


class CutTail(Attack):
    """Lets nothing through after the fifth number: as if the lane had nothing more to say."""

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if not self.relented and envelope.parse(payload).header.seq > 5:
            self.done += 1
            return []
        return [(topic, payload)]


def test_a_cut_off_tail_stays_with_the_lane_and_shows_there(tmp_path: Path) -> None:
    with scene(tmp_path, CutTail()) as here, here.lanes[0].run(), here.lanes[1].run():
        until(lambda: here.attack.done > 10 and here.stored() == 10)
        assert all(lane.outbox.depth == 4 for lane in here.lanes)
        assert all(lane.publisher.status.unconfirmed == 4 for lane in here.lanes)
        here.relent()
        until(here.drained)


def resign(message: Envelope, header: envelope.Header, signer: FileSigner) -> bytes:
    """The encrypted content of a message under another header and signature."""
    fields = message.outer.headers.protected_map
    lane_header = envelope._header.put(header)
    changed = {**fields, cose.Label.KID: signer.public.kid, envelope.LANE_HEADER: lane_header}
    return cose.Sign1.sign(cose.Headers(encode(changed)), message.outer.payload, signer).encode()


class Resign(Attack):
    """With the key of another enrolled lane: signs lane-0's messages anew, as lane-0's and as lane-1's own."""

    signer: FileSigner

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        if self.relented or "lane-0" not in topic:
            return [(topic, payload)] if self.relented or "lane-1" not in topic else []
        self.done += 1
        message = envelope.parse(payload)
        as_lane_0 = resign(message, message.header, self.signer)
        as_lane_1 = resign(message, replace(message.header, lane="lane-1"), self.signer)
        return [(topic, as_lane_0), ("lanes/v1/lane-1/record", as_lane_1)]


def test_a_record_signed_anew_by_another_enrolled_lane_is_refused_or_does_not_open(tmp_path: Path) -> None:
    attack = Resign()
    attack.signer = FileSigner(keys.make_signing_key())  # until the scene has enrolled lane-1
    with scene(tmp_path, attack) as here:
        attack.signer = FileSigner(keys.load_private(here.site.root / "lane-1.signing", keys.Purpose.SIGNING))
        with here.lanes[0].run():
            until(lambda: here.collector.counts["COL-01"] > 3 and here.collector.counts["stored"] > 3)
            assert "COL-01" in here.alarms()
            watcher = Watcher(here.collector._lane_keys, here.site.opener())
            for message in here.store().messages("lane-1"):
                line = watcher.message("lane-1", message.sealed, message.received_ns)
                assert line is not None
                assert (line.code, line.record) == ("SEAL-04", None)
            here.relent()
            until(lambda: here.lanes[0].outbox.depth == 0)


def test_a_copied_card_is_a_fork_and_the_honest_lane_keeps_what_is_not_confirmed(tmp_path: Path) -> None:
    with scene(tmp_path, Attack(), lanes=1, records=0) as here:
        honest = here.lanes[0]
        with honest.run():
            until(here.drained)
        honest.outbox.close()
        shutil.copy(here.site.root / "lane-0.outbox", here.site.root / "copy.outbox")
        honest = here.lanes[0] = here.site.lane("lane-0", receipt_timeout_s=0.3)
        copy = Outbox.open(here.site.root / "copy.outbox", Sealer("lane-0", honest.signer, (here.site.owner.public,)))
        copy.append(read("XCL0NE1"))
        stolen = replace(honest, outbox=copy, publisher=here.site.publisher("lane-0", copy))
        honest.append(read(), read())
        with stolen.run():
            until(lambda: copy.depth == 0)
        with honest.run():
            until(lambda: "COL-04" in here.alarms())
            until(lambda: honest.publisher.status.error == ReceiptRefused.code)
        assert honest.outbox.depth == 2
        evidence = [alarm.evidence for alarm in here.store().alarms() if alarm.code == "COL-04"]
        assert honest.outbox.pending()[0].payload in evidence
        copy.close()


class LieAboutReceipts(Attack):
    """Forges receipts, replays old ones and hands them to the other lane."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Wire] = []

    def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
        return [(topic, payload)] if self.relented else []

    def down(self, topic: str, payload: bytes) -> Iterable[Wire]:
        return [(topic, payload)] if self.relented else []


def test_forged_replayed_and_misdirected_receipts_make_no_lane_forget(tmp_path: Path) -> None:
    with scene(tmp_path, LieAboutReceipts()) as here:
        lane, other = here.lanes
        last = lane.outbox.pending()[-1]
        digest = envelope.parse(last.payload).digest
        forger, collector = FileSigner(keys.make_signing_key()), FileSigner(here.site.collector)
        true = receipt.Receipt("lane-0", last.epoch, last.seq, digest, 1)
        lies = [
            receipt.sign(true, forger),
            receipt.sign(replace(true, epoch=last.epoch ^ 1), collector),
            receipt.sign(replace(true, lane="lane-1"), collector),
            receipt.sign(replace(true, head=bytes(32)), collector),
            (genuine := receipt.sign(true, collector))[:-1] + bytes([genuine[-1] ^ 1]),
        ]
        with lane.run(), other.run(), here.site.session_of("collector.central") as evil:
            until(lambda: lane.publisher.status.connected and other.publisher.status.connected)
            time.sleep(0.5)  # until the broker has their subscriptions
            for lie in lies:
                here.site.say(evil, "lanes/v1/lane-0/receipt", lie)
                until(lambda: lane.publisher.status.error is not None)
            here.site.say(evil, "lanes/v1/lane-1/receipt", receipt.sign(true, collector))
            until(lambda: other.publisher.status.error is not None)
            assert (lane.outbox.depth, other.outbox.depth) == (9, 9)
            here.relent()
            until(here.drained)
            here.site.say(evil, "lanes/v1/lane-0/receipt", receipt.sign(true, collector))  # an old truth again
            lane.append(read())
            until(here.drained)
        assert here.problems() == []


class Stranger(Attack):
    """Sends messages of a lane that nobody enrolled, and of its own making."""

    def __init__(self, *made: bytes) -> None:
        super().__init__()
        self.made = made

    def idle(self) -> Iterable[Wire]:
        if self.relented or self.done > 20:
            return []
        self.done += 1
        return [(f"lanes/v1/{lane}/record", data) for lane in ("lane-9", "lane-0") for data in self.made]


def test_a_stranger_is_refused_on_any_topic(tmp_path: Path) -> None:
    key = FileSigner(keys.make_signing_key())
    sealer = Sealer("lane-9", key, (keys.make_recipient_key().public,))
    as_lane_0 = Sealer("lane-0", key, sealer.recipients)
    made = [one.seal(read(), 1, 1, None).data for one in (sealer, as_lane_0)]
    attack = Stranger(*made, b"\x00", b"{}")
    survive(tmp_path, attack, lambda here: {"COL-01", "COL-02", "COL-03"} <= here.collector.counts.keys())


def test_whatever_it_keeps_it_can_not_read(tmp_path: Path) -> None:
    class Keep(Attack):
        kept = b""

        def up(self, topic: str, payload: bytes) -> Iterable[Wire]:
            self.kept += payload
            return [(topic, payload)]

    attack = Keep()
    with scene(tmp_path, attack) as here, here.lanes[0].run(), here.lanes[1].run():
        until(here.drained)
    assert len(attack.kept) > 10_000
    assert CANARY.encode() not in attack.kept
