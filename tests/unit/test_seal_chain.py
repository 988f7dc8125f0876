from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.record import GapRecord, LaneRecord
from edge.seal import envelope
from edge.seal.chain import ChainState, ChainVerifier, Finding, Verdict, _Epoch
from edge.seal.envelope import Envelope, EpochLink
from tests.sealing import AUDIT, CHECKPOINT, READ, sealer


def epoch(number: int, length: int, link: EpochLink | None = None, lane: str = "lane-1") -> list[Envelope]:
    """The messages of one epoch."""
    return extend(ChainState.start(number, link), [READ] * length, lane)


def extend(state: ChainState, said: list[LaneRecord], lane: str = "lane-1") -> list[Envelope]:
    made = []
    for record in said:
        message = sealer(lane).seal(record, state.epoch, state.next_seq, state.prev)
        state = state.after(message.digest)
        made.append(envelope.parse(message.data))
    return made


def after(messages: list[Envelope]) -> ChainState:
    last = messages[-1]
    return ChainState(last.header.epoch, last.header.seq + 1, last.digest)


def gap(messages: list[Envelope], first: int, last: int) -> GapRecord:
    return GapRecord(first, last, last - first + 1, "outbox-full", messages[last - 1].digest)


TEN = epoch(1, 10)


def findings(verifier: ChainVerifier, messages: list[Envelope]) -> list[Finding]:
    return [verifier.accept(message).finding for message in messages]


@pytest.mark.parametrize("from_start", [True, False])
def test_an_unbroken_chain_is_in_order(from_start: bool) -> None:
    verifier = ChainVerifier("lane-1", from_start=from_start)
    assert findings(verifier, TEN) == [Finding.NEW_EPOCH] + [Finding.IN_ORDER] * 9
    assert verifier.holes(1) == []
    assert verifier.complete_up_to(1) == 10


def test_the_same_message_again_is_a_duplicate() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, TEN)
    assert findings(verifier, TEN) == [Finding.DUPLICATE] * 10


def test_what_is_missing_is_said_and_taken_back_when_it_comes_late() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, TEN[:3])
    assert verifier.accept(TEN[6]) == Verdict(Finding.GAP, (4, 6))
    assert findings(verifier, [TEN[7]]) == [Finding.IN_ORDER]
    assert verifier.holes(1) == [(4, 6)]
    assert findings(verifier, [TEN[4], TEN[3], TEN[5]]) == [Finding.LATE] * 3
    assert verifier.holes(1) == []


@settings(max_examples=50)
@given(st.permutations(range(1, 10)))
def test_whatever_the_order_of_arrival_nothing_is_missing_in_the_end(order: list[int]) -> None:
    verifier = ChainVerifier("lane-1")
    found = findings(verifier, [TEN[0], *(TEN[index] for index in order)])
    assert not {Finding.FORK, Finding.UNLINKED_EPOCH, Finding.OLD} & set(found)
    assert verifier.complete_up_to(1) == 10


def test_a_second_message_with_one_number_is_a_fork() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, TEN)
    clone = extend(after(TEN[:6]), [READ])
    assert findings(verifier, clone) == [Finding.FORK]


def test_a_clone_that_goes_on_from_an_older_state_is_a_fork_wherever_it_is_first_heard() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, TEN[:8])
    clone = extend(after(TEN[:6]), [CHECKPOINT, READ, READ])
    assert findings(verifier, clone[2:]) == [Finding.FORK]  # number 9 is new, its link is not
    assert findings(verifier, TEN[8:]) == [Finding.IN_ORDER] * 2


def test_a_message_late_into_a_hole_must_fit_on_both_sides() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, [*TEN[:4], *TEN[5:]])
    forged = extend(after(TEN[:4]), [READ])
    assert findings(verifier, forged) == [Finding.FORK]
    assert findings(verifier, [TEN[4]]) == [Finding.LATE]


def test_joining_in_the_middle_is_said_and_only_an_audit_takes_it_for_a_loss() -> None:
    assert findings(ChainVerifier("lane-1"), TEN[4:]) == [Finding.JOINED] + [Finding.IN_ORDER] * 5
    assert findings(ChainVerifier("lane-1", from_start=True), TEN[4:5]) == [Finding.UNLINKED_EPOCH]


def test_another_lanes_message_is_foreign() -> None:
    assert ChainVerifier("lane-2").accept(TEN[0]) == Verdict(Finding.FOREIGN_LANE)
    assert ChainVerifier("lane-2").accept(TEN[0]).alarm


def test_a_declared_gap_comes_in_place_of_what_it_gives_up() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    declared = extend(after(TEN), [gap(TEN, 4, 6), CHECKPOINT])
    found = findings(verifier, [*TEN[:3], declared[0], *TEN[6:], declared[1]])
    assert found == [
        Finding.NEW_EPOCH, Finding.IN_ORDER, Finding.IN_ORDER, Finding.DECLARED, *[Finding.IN_ORDER] * 5
    ]  # fmt: skip
    assert verifier.complete_up_to(1) == 12


def test_a_declared_gap_may_also_come_in_its_own_turn() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    declared = extend(after(TEN), [gap(TEN, 4, 6)])
    assert Finding.GAP in findings(verifier, [*TEN[:3], *TEN[6:]])
    assert verifier.accept(declared[0]) == Verdict(Finding.DECLARED, (4, 6))
    assert verifier.holes(1) == []


def test_a_hole_behind_an_early_declaration_is_still_found() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    declared = extend(after(TEN), [gap(TEN, 4, 6), CHECKPOINT])
    findings(verifier, [*TEN[:3], declared[0], *TEN[6:9]])
    assert verifier.accept(declared[1]) == Verdict(Finding.GAP, (10, 10))


def test_what_was_given_up_and_arrives_all_the_same_is_no_alarm_if_it_is_the_same() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    declared = extend(after(TEN), [gap(TEN, 4, 6)])
    findings(verifier, [*TEN[:3], declared[0]])
    assert findings(verifier, extend(after(TEN[:5]), [READ])) == [Finding.FORK]
    assert findings(verifier, [TEN[5], TEN[3]]) == [Finding.LATE] * 2
    assert findings(verifier, extend(after(TEN[:4]), [READ])) == [Finding.FORK]
    assert findings(verifier, [TEN[4], *TEN[3:6]]) == [Finding.LATE] + [Finding.DUPLICATE] * 3
    assert findings(verifier, TEN[6:]) == [Finding.IN_ORDER] * 4
    assert (verifier.holes(1), verifier.complete_up_to(1)) == ([], 11)


@pytest.mark.parametrize("kept", [CHECKPOINT, AUDIT])
def test_only_reads_are_given_up_so_a_gap_over_anything_else_is_a_fork_whichever_comes_first(kept: LaneRecord) -> None:
    made = extend(ChainState.start(1), [CHECKPOINT, READ, kept, READ])
    declared = extend(after(made), [gap(made, 2, 3)])
    in_turn, ahead = (ChainVerifier("lane-1", from_start=True) for _ in range(2))
    assert findings(in_turn, [*made, *declared])[-1] is Finding.FORK
    assert findings(ahead, [made[0], *declared, *made[1:]])[1:] == [
        Finding.DECLARED, Finding.LATE, Finding.FORK, Finding.IN_ORDER
    ]  # fmt: skip


def test_what_is_known_of_gaps_is_bounded() -> None:
    verifier = ChainVerifier("lane-1", max_holes=4, window=8)
    made = epoch(1, 60)
    findings(verifier, made[:1])
    for last in range(3, 60, 2):
        findings(verifier, extend(ChainState(1, 100 + last, bytes(32)), [gap(made, last, last)]))
    findings(verifier, made[1::2])
    (known,) = verifier._epochs.values()
    assert (len(known.given_up), len(known.kept), len(known.seen)) == (4, 8, 8)


def test_a_declaration_that_does_not_fit_the_chain_is_a_fork() -> None:
    wrong = replace(gap(TEN, 4, 6), last_hash=bytes(32))
    verifier = ChainVerifier("lane-1")
    findings(verifier, [*TEN[:3], *TEN[6:]])
    assert findings(verifier, extend(after(TEN), [wrong])) == [Finding.FORK]
    assert verifier.holes(1) == [(4, 6)]


def test_a_new_epoch_is_linked_to_the_end_of_the_one_before() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    second = epoch(2, 3, EpochLink(1, TEN[-1].digest))
    assert findings(verifier, [*TEN, *second])[10:] == [Finding.NEW_EPOCH, Finding.IN_ORDER, Finding.IN_ORDER]
    assert verifier.epochs == (1, 2)


@pytest.mark.parametrize(
    "link", [None, EpochLink(1, TEN[8].digest), EpochLink(1, bytes(32)), EpochLink(9, TEN[-1].digest)]
)
def test_an_epoch_that_does_not_go_on_from_the_last_is_an_alarm_unless_announced(link: EpochLink | None) -> None:
    """What its own link says of an epoch that is here is not lifted by any announcement."""
    verifier = ChainVerifier("lane-1", from_start=True)
    announced = ChainVerifier("lane-1", from_start=True, announced=[2])
    second = epoch(2, 3, link)
    assert findings(verifier, [*TEN, *second])[10:] == [Finding.UNLINKED_EPOCH, Finding.IN_ORDER, Finding.IN_ORDER]
    contradicted = link is not None and link.epoch == 1
    said = findings(announced, [*TEN, *second])[10]
    assert said is (Finding.UNLINKED_EPOCH if contradicted else Finding.NEW_EPOCH)


def test_a_vanished_epoch_is_found() -> None:
    second = epoch(2, 3, EpochLink(1, TEN[-1].digest))
    third = epoch(3, 3, EpochLink(2, second[-1].digest))
    verifier = ChainVerifier("lane-1", from_start=True)
    assert Finding.UNLINKED_EPOCH in findings(verifier, [*TEN, *third])
    assert Finding.UNLINKED_EPOCH in findings(ChainVerifier("lane-1", from_start=True), third)


def test_beyond_the_window_a_message_counts_as_accounted_for() -> None:
    verifier = ChainVerifier("lane-1", window=4)
    findings(verifier, TEN)
    assert findings(verifier, TEN[:2]) == [Finding.OLD, Finding.OLD]
    assert findings(verifier, TEN[8:]) == [Finding.DUPLICATE, Finding.DUPLICATE]


def test_what_is_beside_a_hole_is_remembered_for_what_fills_it() -> None:
    """However much later: a gap or a message must fit what is on either side of it."""
    for fills, found in (
        (TEN[2], Finding.LATE),
        (extend(ChainState(1, 3, bytes(32)), [READ])[0], Finding.FORK),
        (extend(after(TEN), [gap(TEN, 3, 3)])[0], Finding.DECLARED),
        (extend(after(TEN), [GapRecord(3, 3, 1, "outbox-full", bytes(32))])[0], Finding.FORK),
    ):
        verifier = ChainVerifier("lane-1", window=4)
        findings(verifier, [*TEN[:2], *TEN[3:]])
        assert verifier.accept(fills).finding is found


def test_what_is_remembered_is_bounded() -> None:
    verifier = ChainVerifier("lane-1", window=4, max_holes=2)
    findings(verifier, TEN[::2])
    assert verifier.holes(1) == [(6, 6), (8, 8)]


def test_a_second_epoch_that_goes_on_from_the_same_one_is_an_alarm_as_the_first_may_have_vanished() -> None:
    end = EpochLink(1, TEN[-1].digest)
    verifier = ChainVerifier("lane-1", from_start=True)
    findings(verifier, TEN)
    assert verifier.accept(epoch(2, 1, end)[0]).finding is Finding.NEW_EPOCH
    assert verifier.accept(epoch(3, 1, end)[0]).finding is Finding.UNLINKED_EPOCH


def test_an_epoch_that_goes_on_after_another_has_followed_it_is_a_fork() -> None:
    verifier = ChainVerifier("lane-1")
    findings(verifier, TEN[:8])
    findings(verifier, epoch(2, 3, EpochLink(1, TEN[7].digest)))
    assert findings(verifier, TEN[8:]) == [Finding.FORK, Finding.FORK]
    assert findings(verifier, TEN[6:8]) == [Finding.DUPLICATE, Finding.DUPLICATE]


def test_what_was_given_up_and_arrives_all_the_same_must_fit_what_is_beside_it() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    findings(verifier, [*TEN[:3], *extend(after(TEN), [gap(TEN, 4, 6)]), *TEN[6:]])
    stranger = extend(ChainState(1, 4, bytes(32)), [READ])
    assert findings(verifier, stranger) == [Finding.FORK]


def test_a_tail_that_missed_the_first_message_of_an_epoch_says_so_once() -> None:
    verifier = ChainVerifier("lane-1")
    second = epoch(2, 6, EpochLink(1, TEN[-1].digest))
    assert findings(verifier, [*TEN, *second[1:4]])[10:] == [Finding.UNLINKED_EPOCH, *[Finding.IN_ORDER] * 2]
    assert findings(verifier, [second[0], second[4]]) == [Finding.NEW_EPOCH, Finding.IN_ORDER]
    assert findings(verifier, epoch(3, 1, EpochLink(1, TEN[-1].digest))) == [Finding.UNLINKED_EPOCH]


@pytest.mark.parametrize("announced", [(), (2,)])
def test_a_tail_tells_what_is_missing_between_a_late_first_message_and_what_came_before_it(
    announced: tuple[int, ...],
) -> None:
    verifier = ChainVerifier("lane-1", announced=announced)
    second = epoch(2, 8, EpochLink(1, TEN[-1].digest))
    findings(verifier, [*TEN, second[4]])
    assert verifier.accept(second[0]) == Verdict(Finding.GAP, (2, 4))
    assert findings(verifier, second[5:]) == [Finding.IN_ORDER] * 3
    assert verifier.holes(2) == [(2, 4)]


def test_an_announced_epoch_that_is_linked_follows_all_the_same() -> None:
    for late in (False, True):
        verifier = ChainVerifier("lane-1", announced=[2])
        second = epoch(2, 2, EpochLink(1, TEN[7].digest))
        findings(verifier, [*TEN[:8], *(reversed(second) if late else second)])
        assert findings(verifier, TEN[8:]) == [Finding.FORK] * 2


def test_a_declared_gap_does_not_hide_that_the_first_message_of_its_epoch_was_missed() -> None:
    verifier = ChainVerifier("lane-1")
    second = epoch(2, 6)
    declared = extend(after(second), [gap(second, 3, 4)])
    assert findings(verifier, [*TEN, *declared])[10:] == [Finding.UNLINKED_EPOCH]


def test_a_lane_that_sends_all_of_it_again_after_a_tail_has_joined_is_no_alarm() -> None:
    assert findings(ChainVerifier("lane-1"), [TEN[4], *TEN[:4]]) == [Finding.JOINED] + [Finding.LATE] * 4


def test_a_new_box_may_go_on_from_an_end_of_which_a_broker_retained_an_earlier_checkpoint_only() -> None:
    second = epoch(2, 2, EpochLink(1, TEN[-1].digest))
    assert findings(ChainVerifier("lane-1"), [TEN[7], *second])[1:] == [Finding.JOINED, Finding.IN_ORDER]
    assert Finding.UNLINKED_EPOCH in findings(ChainVerifier("lane-1"), [*TEN[6:8], *second])
    assert Finding.UNLINKED_EPOCH in findings(ChainVerifier("lane-1"), [TEN[0], *second])


@pytest.mark.parametrize("first", [1, 3])
def test_in_an_audit_the_first_epoch_of_a_lane_may_come_after_an_announced_one(first: int) -> None:
    verifier = ChainVerifier("lane-1", from_start=True, announced=[2])
    chains = sorted([epoch(first, 2), epoch(2, 2)], key=lambda chain: chain[0].header.epoch)
    assert [findings(verifier, chain)[0] for chain in chains] == [Finding.NEW_EPOCH] * 2
    assert verifier.accept(epoch(4, 1)[0]).finding is Finding.UNLINKED_EPOCH
    tail = ChainVerifier("lane-1", announced=[2])
    assert [findings(tail, chain)[0] for chain in (epoch(2, 2), epoch(3, 2))][1] is Finding.UNLINKED_EPOCH


def test_only_declared_gaps_beyond_a_hole_say_that_it_may_still_be_filled() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    declared = extend(after(TEN), [gap(TEN, 4, 6), CHECKPOINT])
    findings(verifier, [*TEN[:2], declared[0], *TEN[6:8]])
    assert verifier.holes(1) == [(3, 3), (9, 10)]
    assert verifier.awaited(1) == [(9, 10)]
    verifier.accept(epoch(2, 1, EpochLink(1, declared[0].digest))[0])
    assert verifier.awaited(1) == []  # nothing more comes of an epoch that another one follows
    verifier = ChainVerifier("lane-1", from_start=True)
    findings(verifier, [*TEN[:3], *declared])
    assert (verifier.holes(1), verifier.awaited(1)) == ([(7, 10)], [])


@settings(max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1))
def test_holes_are_whatever_did_not_come_between_what_did(seqs: list[int]) -> None:
    runs = _Epoch(window=1, max_holes=100)
    for seq in seqs:
        runs.cover(seq, seq)
    missing = [seq for first, last in runs.holes() for seq in range(first, last + 1)]
    assert missing == [seq for seq in range(min(seqs), max(seqs)) if seq not in seqs]
    for beyond in range(62):
        assert [hole for hole in runs.holes(beyond) if hole[0] > beyond] == [
            hole for hole in runs.holes() if hole[0] > beyond
        ]
