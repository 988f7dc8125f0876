"""Each attack of a hostile broker is noticed by what docs/threat-model.md names, and no honest record is lost."""

import random
import time
from pathlib import Path

import pytest

from central.audit import FORK, UNLINKED
from edge.errors import TrustRefused
from tests.campaign.hostile_broker import (
    CopiedCard,
    Cut,
    CutTail,
    Drop,
    Flip,
    LieAboutReceipts,
    Listen,
    Mixture,
    Move,
    NeverComes,
    OldTrust,
    Reorder,
    Repeat,
    Resign,
    Stranger,
)
from tests.campaign.hostile_scene import Attack, scene
from tests.integration.lane_site import CANARY, until


def missing(seq: int) -> str:
    """An audit's word on a number that is not there, or does not link to what is."""
    return f"numbers {seq} to {seq} are missing and not declared given up"


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(Drop, id="drop"),
        pytest.param(Reorder, id="delay-and-reorder"),
        pytest.param(Flip, id="flip-a-bit"),
        pytest.param(Cut, id="truncate-a-message"),
        pytest.param(Move, id="move-to-another-topic"),
        pytest.param(Stranger, id="a-stranger"),
    ],
)
def test_an_attack_is_noticed_and_no_record_is_lost(tmp_path: Path, attack: type[Attack]) -> None:
    with scene(tmp_path, attack(random.Random(7))) as here, here.running():
        here.until_noticed()
        here.drive(3)
        here.settle()


def test_what_is_repeated_or_replayed_is_stored_once(tmp_path: Path) -> None:
    with scene(tmp_path, Repeat()) as here, here.running():
        here.until_noticed()
        counts = here.collector.counts
        until(lambda: counts["stored"] + counts["duplicate"] > here.sent)  # more than the lanes themselves sent again
        here.drive(3)
        here.settle()
        assert counts["stored"] == here.made


def test_a_record_that_never_comes_stops_the_receipts_there(tmp_path: Path) -> None:
    """Withholding: the collector raises an alarm, the audit names the number, the lane keeps all from there on."""
    with scene(tmp_path, NeverComes()) as here, here.running():
        here.until_noticed()
        assert all(lane.outbox.pending()[0].seq == 4 for lane in here.lanes)
        assert here.problems() == {(lane.name, missing(4)) for lane in here.lanes}
        here.settle()


def test_a_cut_off_tail_stays_with_the_lane_and_shows_there(tmp_path: Path) -> None:
    with scene(tmp_path, CutTail()) as here, here.running():
        here.until_noticed()
        assert [lane.publisher.status.unconfirmed for lane in here.lanes] == [len(lane.made) - 5 for lane in here.lanes]
        assert max(message.seq for message in here.store.messages()) == 5
        here.settle()


def test_a_record_signed_anew_by_another_enrolled_lane_is_refused_or_does_not_open(tmp_path: Path) -> None:
    with scene(tmp_path, Resign()) as here, here.running():
        here.until_noticed()
        here.settle()
        forged = {missing(seq) for seq in range(2, len(here.lanes[0].made) + 1)}
        assert {what for _, what in here.problems()} - forged == {FORK, UNLINKED}  # lane-1's: they do not link


def test_a_copied_card_is_a_fork_and_the_honest_lane_keeps_what_is_not_confirmed(tmp_path: Path) -> None:
    attack = CopiedCard()
    with scene(tmp_path, attack) as here:
        with here.running():
            until(lambda: all(lane.outbox.depth == 0 for lane in here.lanes))
        attack.speak(here)
        here.drive(2)
        with here.running():
            here.until_noticed()
            honest = here.lanes[0]
            assert honest.outbox.pending()[0].payload == honest.made[9]
            here.accept_missing("lane-0")
            here.settle()
        assert here.problems() == {("lane-0", FORK), ("lane-0", missing(11))}  # 11 goes on from the honest 10


def test_forged_replayed_and_misdirected_receipts_make_no_lane_forget(tmp_path: Path) -> None:
    with scene(tmp_path, LieAboutReceipts()) as here, here.running():
        here.until_noticed()
        here.drive(3)
        time.sleep(1)
        assert [lane.outbox.depth for lane in here.lanes] == [len(lane.made) - 5 for lane in here.lanes]
        here.settle()


def test_old_trust_metadata_changes_nothing_while_records_flow(tmp_path: Path) -> None:
    """No message is sealed for the reader whom the old policy names: the audit, which goes by the newest, would say."""
    with scene(tmp_path, OldTrust()) as here, here.running():
        here.until_noticed()
        here.drive(3)
        until(lambda: all(lane.outbox.depth == 0 for lane in here.lanes))
        assert {(lane.standing.fault, lane.standing.version) for lane in here.lanes} == {(TrustRefused.code, 2)}
        here.settle()


@pytest.mark.parametrize("seed", [1, 2])
def test_in_a_mixture_each_attack_is_noticed_and_no_record_is_lost(tmp_path: Path, seed: int) -> None:
    with scene(tmp_path, Mixture(random.Random(seed))) as here, here.running():
        here.until_noticed()
        here.drive(3)
        here.settle()


def test_whatever_it_keeps_it_can_not_read(tmp_path: Path) -> None:
    attack = Listen()
    with scene(tmp_path, attack) as here, here.running():
        here.settle()
    assert len(attack.heard) > 10_000
    assert CANARY.encode() not in attack.heard
