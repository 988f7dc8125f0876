"""The store: names are unique, a fork is kept as evidence, and a head covers an unbroken chain only."""

import random
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from central.prefix import Epoch, Head, Link, walk
from central.store import Alarm, Outcome, Store
from edge.errors import (
    ChainBroken,
    EpochUnlinked,
    MessageForked,
    StoreAddress,
    StoreFailed,
    StoreForeign,
    StoreShared,
    StoreVersion,
)
from edge.record import GapRecord, LaneRecord
from edge.seal import envelope
from edge.seal.chain import ChainState
from edge.seal.envelope import Envelope, EpochLink
from tests.sealing import AUDIT, CHECKPOINT, NOW, READ, sealer

E1 = Epoch(f"{1:016x}")


def chain(count: int, *, epoch: int = 1, link: EpochLink | None = None, lane: str = "lane-1") -> list[Envelope]:
    """The first messages of an epoch."""
    return extend(ChainState.start(epoch, link), [READ] * count, lane)


def extend(
    state: ChainState, records: list[LaneRecord], lane: str = "lane-1", at_ns: int = NOW.utc_ns
) -> list[Envelope]:
    made, seals = [], replace(sealer(lane), now_ns=lambda: at_ns)
    for record in records:
        message = seals.seal(record, state.epoch, state.next_seq, state.prev)
        state = state.after(message.digest)
        made.append(envelope.parse(message.data))
    return made


def gap_message(seq: int, first: int, last: int) -> Envelope:
    """Declares the numbers from `first` to `last` of TEN given up."""
    (declared,) = extend(ChainState(1, seq, bytes(32)), [GapRecord(first, last, last - first + 1, "full", bytes(32))])
    return declared


def plans_of(store: Store) -> list[str]:
    """How SQLite goes about each question that `store` asks from now on."""
    plans: list[str] = []

    def explain(db: sa.Connection, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append("; ".join(row[3] for row in rows))

    sa.event.listen(store._engine, "before_cursor_execute", explain)
    return plans


def after(messages: list[Envelope]) -> ChainState:
    last = messages[-1]
    return ChainState(last.header.epoch, last.header.seq + 1, last.digest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store.sqlite"))


TEN = chain(10)


def test_messages_in_order_move_the_head(store: Store) -> None:
    outcomes, heads = store.add(TEN, 1)
    assert outcomes == [Outcome.STORED] * 10
    assert heads == [Head("lane-1", E1, 10, TEN[-1].digest)]
    assert store.heads() == heads


def test_a_repetition_changes_nothing_and_is_confirmed_again(store: Store) -> None:
    store.add(TEN, 1)
    outcomes, heads = store.add(TEN[2:5], 2)
    assert outcomes == [Outcome.DUPLICATE] * 3
    assert heads[0].up_to == 10
    assert len(list(store.messages())) == 10


def test_the_head_waits_for_what_is_missing_and_then_covers_it_all(store: Store) -> None:
    _, heads = store.add(TEN[:3] + TEN[4:], 1)
    assert (heads[0].up_to, heads[0].missing) == (3, True)
    _, heads = store.add([TEN[3]], 2)
    assert (heads[0].up_to, heads[0].missing) == (10, False)


def test_nothing_is_confirmed_of_an_epoch_whose_beginning_never_came(store: Store) -> None:
    _, heads = store.add(TEN[4:], 1)
    assert heads == [Head("lane-1", E1, 0, None, missing=True)]


def test_any_order_of_coming_ends_at_the_same_head(tmp_path: Path) -> None:
    for seed in range(5):
        store = Store(str(tmp_path / f"{seed}.sqlite"))
        shuffled = TEN.copy()
        random.Random(seed).shuffle(shuffled)
        for message in shuffled:
            _, heads = store.add([message], 1)
        assert heads == [Head("lane-1", E1, 10, TEN[-1].digest)]


def test_two_messages_under_one_number_are_a_fork_and_the_second_is_kept_as_evidence(store: Store) -> None:
    store.add(TEN[:5], 1)
    (clone,) = extend(after(TEN[:4]), [CHECKPOINT])
    outcomes, heads = store.add([clone], 2)
    assert outcomes == [Outcome.FORK]
    assert heads[0].digest == TEN[4].digest
    (alarm,) = store.alarms()
    assert (alarm.code, alarm.seq, alarm.evidence) == (MessageForked.code, 5, clone.data)
    store.add([clone], 3)
    assert len(store.alarms()) == 1


def test_a_chain_that_does_not_go_on_is_not_confirmed(store: Store) -> None:
    store.add(TEN[:5], 1)
    clones = extend(after(extend(after(TEN[:4]), [CHECKPOINT])), [READ])
    _, heads = store.add(clones, 2)
    assert (heads[0].up_to, heads[0].broken) == (5, True)
    assert ChainBroken.code == "COL-05"


def test_a_declared_gap_counts_as_there(store: Store) -> None:
    given_up = GapRecord(4, 6, 3, "outbox-full", TEN[5].digest)
    (declared,) = extend(after(TEN), [given_up])
    _, heads = store.add([*TEN[:3], declared, *TEN[6:]], 1)
    assert (heads[0].up_to, heads[0].missing) == (11, False)


def test_a_gap_that_was_declared_over_another_message_breaks_the_chain(store: Store) -> None:
    lie = GapRecord(4, 6, 3, "outbox-full", bytes(32))
    (declared,) = extend(after(TEN), [lie])
    _, heads = store.add([*TEN[:3], declared, *TEN[6:]], 1)
    assert heads[0].broken
    assert heads[0].up_to == 6


@pytest.mark.parametrize("kept", [CHECKPOINT, AUDIT])
@pytest.mark.parametrize("gap_first", [True, False])
def test_a_gap_that_covers_what_is_no_read_is_a_fork_whichever_comes_first(
    store: Store, gap_first: bool, kept: LaneRecord
) -> None:
    """One message from a copied card could else declare all that is to come given up."""
    (held,) = extend(after(TEN), [kept])
    (gap,) = extend(ChainState(1, 2**62 + 1, bytes(32)), [GapRecord(11, 2**62, 2**62 - 10, "outbox-full", bytes(32))])
    store.add(TEN, 1)
    first, second = (gap, held) if gap_first else (held, gap)
    store.add([first], 2)
    assert store.alarms() == []
    store.add([second], 3)
    assert [(alarm.code, alarm.digest) for alarm in store.alarms()] == [(MessageForked.code, second.digest)]


def test_a_gap_and_the_last_message_that_it_covers_must_be_one(store: Store) -> None:
    gap = GapRecord(11, 12, 2, "outbox-full", bytes(32))
    (declared,) = extend(ChainState(1, 20, bytes(32)), [gap])
    reads = extend(after(TEN), [READ, READ])
    store.add([*TEN, declared], 1)
    store.add(reads, 2)
    assert [(alarm.code, alarm.seq) for alarm in store.alarms()] == [(MessageForked.code, 12)]


def test_two_epochs_that_go_on_from_one_end_are_a_fork(store: Store) -> None:
    end = EpochLink(1, TEN[-1].digest)
    store.add([*TEN, *chain(2, epoch=2, link=end)], 1, lambda lane: [2])
    assert store.alarms() == []
    store.add(chain(2, epoch=3, link=end), 2, lambda lane: [2])
    assert [(alarm.code, alarm.epoch[-1]) for alarm in store.alarms()] == [(MessageForked.code, "3")]


def test_beside_an_announced_epoch_of_another_store_none_begins_later_without_a_link(store: Store) -> None:
    linked = extend(ChainState.start(2, EpochLink(1, TEN[-1].digest)), [READ] * 2, at_ns=10)
    store.add(linked, 1, lambda lane: [2])
    store.add(extend(ChainState.start(3), [READ] * 2, at_ns=20), 2, lambda lane: [2])
    assert [(alarm.code, alarm.epoch[-1]) for alarm in store.alarms()] == [(EpochUnlinked.code, "3")]


def test_a_new_epoch_without_a_link_is_an_alarm_if_the_lane_was_known(store: Store) -> None:
    store.add(TEN, 1)
    store.add(chain(2, epoch=2, link=EpochLink(1, TEN[-1].digest)), 2)
    assert not store.alarms()
    store.add(chain(2, epoch=3), 3)
    assert [alarm.code for alarm in store.alarms()] == [EpochUnlinked.code]


def test_the_first_epoch_of_a_lane_may_come_with_or_after_the_one_that_follows_it(store: Store) -> None:
    first = chain(3, epoch=2)
    second = chain(2, epoch=1, link=EpochLink(2, first[-1].digest))
    store.add(chain(2, epoch=4, link=EpochLink(1, second[-1].digest)), 1)
    store.add([*first, *second], 2)
    assert not store.alarms()


def test_lanes_do_not_touch_each_other(store: Store) -> None:
    _, heads = store.add(chain(3, lane="lane-2") + TEN[1:3] + chain(1, lane="lane-3"), 1)
    assert [(head.lane, head.up_to) for head in heads] == [("lane-2", 3), ("lane-1", 0), ("lane-3", 1)]


def test_the_operator_can_accept_what_is_lost_for_good_and_the_alarm_stays(store: Store) -> None:
    store.add(TEN[4:6] + TEN[8:], 1)
    (head,) = store.accept_missing("lane-1", 2)
    assert (head.up_to, head.digest, head.missing) == (6, TEN[5].digest, True)  # 7 and 8 may be on their way
    (head,) = store.accept_missing("lane-1", 3)
    assert (head.up_to, head.digest, head.missing) == (10, TEN[-1].digest, False)
    assert [alarm.seq for alarm in store.alarms()] == [5, 9]
    assert store.heads()[0].up_to == 10
    assert store.accept_missing("lane-1", 3) == []


def test_a_declared_gap_which_is_sent_ahead_of_its_number_shows_nothing_to_be_missing(store: Store) -> None:
    (declared,) = extend(after(TEN), [GapRecord(4, 6, 3, "outbox-full", TEN[5].digest)])
    _, heads = store.add([*TEN[:3], declared, *TEN[6:8]], 1)
    assert (heads[0].up_to, heads[0].missing) == (8, False)
    assert store.accept_missing("lane-1", 2) == []
    _, heads = store.add(extend(after([declared]), [CHECKPOINT]), 3)
    assert (heads[0].up_to, heads[0].missing) == (8, True)


def test_accepting_confirms_nothing_that_a_lane_still_has_behind_a_gap_sent_ahead(store: Store) -> None:
    """A store restored from a back-up lacks 3; the lane gave up 4 to 6, said so ahead of its turn, and has 9 and 10."""
    (declared,) = extend(after(TEN), [GapRecord(4, 6, 3, "outbox-full", TEN[5].digest)])
    store.add([*TEN[:2], declared, *TEN[6:8]], 1)
    (head,) = store.accept_missing("lane-1", 2)
    assert (head.up_to, head.digest) == (8, TEN[7].digest)
    assert store.accept_missing("lane-1", 3) == []


def test_an_epoch_that_goes_on_after_another_has_followed_it_is_a_fork(store: Store) -> None:
    store.add(TEN[:8], 1)
    store.add(chain(2, epoch=2, link=EpochLink(1, TEN[7].digest)), 2)
    assert not store.alarms()
    store.add(TEN[8:], 3)
    (alarm,) = store.alarms()
    assert (alarm.code, alarm.epoch, alarm.seq, alarm.evidence) == (MessageForked.code, E1, 9, TEN[8].data)


def test_an_epoch_that_follows_one_that_has_gone_on_is_a_fork_in_whatever_order_they_come(tmp_path: Path) -> None:
    for number in (0, 2):
        second = chain(2, epoch=number, link=EpochLink(1, TEN[7].digest))
        for index, batches in enumerate([[TEN, second], [TEN + second], [second, TEN], [TEN[:8], second, TEN[8:]]]):
            store = Store(str(tmp_path / f"{number}-{index}.sqlite"))
            for batch in batches:
                store.add(batch, 1)
            assert [alarm.code for alarm in store.alarms()] == [MessageForked.code]


def test_a_store_that_was_begun_before_links_were_kept_knows_them(store: Store, tmp_path: Path) -> None:
    store.add([*TEN[:8], *chain(2, epoch=2, link=EpochLink(1, TEN[7].digest))], 1)
    store.close()
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.executescript("DROP TABLE openings; DROP INDEX messages_prev; DROP INDEX messages_gaps")
    store = Store(str(tmp_path / "store.sqlite"))
    plans = plans_of(store)
    store.add(TEN[8:9], 2)
    store.add(chain(1, epoch=3), 3)
    assert {alarm.code for alarm in store.alarms()} == {MessageForked.code, EpochUnlinked.code}
    store.add([*chain(1, epoch=4, link=EpochLink(1, TEN[8].digest)), gap_message(20, 15, 16)], 4)
    assert any("messages_prev" in plan for plan in plans)
    assert any("messages_gaps" in plan for plan in plans)


def test_no_commit_goes_through_an_epoch(store: Store) -> None:
    """Else one lane with a long epoch, or one full of gaps, would hold up all others."""
    plans = plans_of(store)
    store.add([*TEN[:3], *TEN[6:], gap_message(11, 4, 5), gap_message(12, 8, 9), TEN[0], chain(1, epoch=2)[0]], 1)
    store.add(extend(after(TEN[:2]), [CHECKPOINT]), 2)
    looked = [plan for plan in plans if "messages" in plan]
    for asked in ("gap_last>?)", "gap_last=? AND gap_first=? AND seq>?)"):
        assert any(f"COVERING INDEX messages_gaps (lane=? AND epoch=? AND {asked}" in plan for plan in looked)
    assert all("(lane=? AND epoch=? AND " in plan for plan in looked)


def test_a_commit_asks_as_much_however_many_gaps_wait_behind_a_hole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.store.ROWS_A_STEP", 3)
    store.add([gap_message(seq, 2, 2) for seq in range(4, 8)], 1)
    plans = plans_of(store)
    _, heads = store.add([gap_message(8, 2, 2)], 2)
    assert (heads[0].up_to, heads[0].missing) == (0, False)
    few = len(plans)
    store.add([gap_message(seq, 2, 2) for seq in range(9, 40)], 3)
    plans.clear()
    store.add([gap_message(40, 2, 2)], 4)
    assert len(plans) == few


def test_no_message_is_read_again_however_many_epochs_a_lane_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([message for number in range(2, 40) for message in chain(1, epoch=number)], 1)
    monkeypatch.setattr("central.store.parse", lambda data: pytest.fail("a lane with many epochs holds up the others"))
    store.add(TEN, 2)


def test_a_first_epoch_that_comes_after_an_announced_new_card_is_no_alarm(store: Store) -> None:
    """Its card was drained late; one that was sealed later than the announced one is another matter."""
    store.add(chain(3, epoch=2), 1, lambda lane: [2])
    store.add(TEN, 2, lambda lane: [2])
    assert not store.alarms()
    (late,) = extend(ChainState.start(3), [CHECKPOINT], at_ns=NOW.utc_ns + 1)
    store.add([late], 3, lambda lane: [1, 2])
    assert [(alarm.code, alarm.epoch[-1]) for alarm in store.alarms()] == [(EpochUnlinked.code, "3")]


def test_what_the_owner_announced_is_asked_for_before_a_commit_holds_the_lock(store: Store) -> None:
    asked = []

    def announced(lane: str) -> list[int]:
        asked.append(lane)
        assert not store._engine.pool.checkedout()  # type: ignore[attr-defined]
        return []

    store.add(TEN + chain(2, epoch=2) + chain(1, lane="lane-2"), 1, announced)
    assert sorted(asked) == ["lane-1", "lane-2"]


def test_the_operator_can_go_round_forged_messages_over_the_true_ones_kept_as_evidence(store: Store) -> None:
    forged = extend(after(TEN[:4]), [CHECKPOINT, CHECKPOINT])
    store.add([*TEN[:4], *forged], 1)
    _, heads = store.add(TEN[4:], 2)
    assert (heads[0].up_to, heads[0].broken) == (6, True)
    (head,) = store.accept_missing("lane-1", 3)
    assert (head.up_to, head.digest, head.broken) == (10, TEN[-1].digest, False)
    assert [alarm.code for alarm in store.alarms()] == [MessageForked.code] * 2


def test_a_forged_message_ahead_is_gone_round_too(store: Store) -> None:
    forged = extend(ChainState(1, 6, bytes(32)), [CHECKPOINT])
    store.add([*TEN[:4], *forged], 1)
    _, heads = store.add(TEN[4:], 2)
    assert (heads[0].up_to, heads[0].broken) == (5, True)
    (head,) = store.accept_missing("lane-1", 3)
    assert (head.up_to, head.digest, head.broken) == (10, TEN[-1].digest, False)


def test_a_forged_message_behind_a_declared_gap_is_gone_round_too(store: Store) -> None:
    (declared,) = extend(after(TEN), [GapRecord(4, 6, 3, "outbox-full", TEN[5].digest)])
    (forged,) = extend(ChainState(1, 7, TEN[5].digest), [CHECKPOINT])
    store.add([*TEN[:3], declared, forged], 1)
    _, heads = store.add(TEN[6:], 2)
    assert (heads[0].up_to, heads[0].broken) == (7, True)
    (head,) = store.accept_missing("lane-1", 3)
    assert (head.up_to, head.digest, head.broken) == (11, declared.digest, False)


def test_a_forged_first_message_is_gone_round_too_whether_the_epoch_is_linked_or_not(store: Store) -> None:
    for number, link in ((2, None), (3, EpochLink(1, TEN[-1].digest))):
        true = chain(6, epoch=number, link=link)
        (forged,) = extend(ChainState.start(number, link), [CHECKPOINT])
        store.add([forged], 1)
        store.add(true, 2)
        (head,) = store.accept_missing("lane-1", 3)
        assert (head.up_to, head.digest, head.broken) == (6, true[-1].digest, False)


def test_nothing_is_gone_round_if_a_message_on_the_way_is_not_here(store: Store) -> None:
    forged = extend(after(TEN[:4]), [CHECKPOINT, CHECKPOINT])
    store.add([*TEN[:4], *forged], 1)
    _, heads = store.add(TEN[5:], 2)  # the true number 5 never came
    assert heads[0].broken
    assert store.accept_missing("lane-1", 3) == []
    assert store.heads()[0].up_to == 6


def test_a_lane_cannot_fill_the_store_with_alarms_of_one_kind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("central.store.MAX_ALARMS", 3)
    for number in range(5):
        store.alarm(Alarm("lane-1", "COL-03", Epoch(""), number, "altered"))
    store.alarm(Alarm("lane-1", "COL-04", Epoch(""), 0, "forked"))
    assert [alarm.code for alarm in store.alarms()].count("COL-03") == 3
    assert [alarm.code for alarm in store.alarms()].count("COL-04") == 1


def test_forks_that_are_noise_leave_the_true_ones_their_places(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("central.store.MAX_ALARMS", 3)
    store.add([*TEN[:4], *extend(after(TEN[:4]), [CHECKPOINT, CHECKPOINT])], 1)
    for number in (2, 3, 4, 4, 4):
        store.add(extend(after(TEN[:number]), [CHECKPOINT]), 2)
    assert len(store.alarms()) == 3
    store.add(TEN[4:6], 3)  # nothing that is here goes on from them yet
    assert len(store.alarms()) == 3
    store.add(TEN[4:], 4)
    (head,) = store.accept_missing("lane-1", 5)
    assert (head.up_to, head.digest, head.broken) == (10, TEN[-1].digest, False)
    assert {alarm.digest for alarm in store.alarms()} >= {TEN[4].digest, TEN[5].digest}


def test_forks_that_are_led_back_to_are_bounded_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("central.store.MAX_ALARMS", 3)
    forged = extend(after(TEN[:1]), [CHECKPOINT] * 10)  # the last one is beyond all that is here, and so it is stored
    store.add(TEN, 1)
    store.add(forged, 2)
    assert len(store.alarms()) == 6


def test_a_lane_that_sends_more_than_a_forger_ran_ahead_by_is_gone_on_with(store: Store) -> None:
    forged = extend(after(TEN[:4]), [CHECKPOINT] * 6)
    store.add([*TEN[:4], *forged], 1)
    _, heads = store.add(TEN[4:], 2)
    assert (heads[0].broken, store.accept_missing("lane-1", 3)) == (False, [])  # nothing true is beyond the forged ones
    store.add(extend(after(TEN), [CHECKPOINT]), 4)
    (head,) = store.accept_missing("lane-1", 5)
    assert (head.up_to, head.broken) == (11, False)


def test_messages_are_handed_out_in_order_of_lane_and_number_or_of_coming(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.store.ROWS_A_STEP", 3)
    store.add(TEN[5:], 1)
    store.add(TEN[:5], 2)
    assert [message.seq for message in store.messages("lane-1")] == list(range(1, 11))
    coming, place = [], (0, "", "", 0)
    while found := store.received(place):
        coming += [message.seq for message in found]
        place = found[-1].place
    assert coming == [6, 7, 8, 9, 10, 1, 2, 3, 4, 5]


def test_what_was_committed_is_there_for_another_process(store: Store, tmp_path: Path) -> None:
    store.add(TEN, 1)
    reader = Store(str(tmp_path / "store.sqlite"), read_only=True)
    assert len(list(reader.messages())) == 10
    with pytest.raises(StoreFailed):
        reader.alarm(Alarm("lane-1", "COL-03", Epoch(""), 0, "x"))


def test_several_collectors_on_one_sqlite_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreShared):
        Store(str(tmp_path / "store.sqlite"), shared=True)


@pytest.mark.parametrize(
    "address",
    [
        "mysql://x/y",
        "postgresql://x/y",
        "://",
        "sqlite:////proc/none/store",
        "postgresql+psycopg://user@host:port/name",
        "sqlite:///store?timeout=long",
    ],
)
def test_an_address_that_cannot_be_used_is_an_error(address: str) -> None:
    with pytest.raises((StoreAddress, StoreFailed)):
        Store(address)


@pytest.mark.parametrize("name", ["none.sqlite", "x" * 300, "file/store.sqlite"])
def test_a_store_that_cannot_be_looked_at_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed, match="no store at"):
        Store(str(tmp_path / name), read_only=True)


def test_a_file_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(StoreForeign):
        Store(str(tmp_path / "junk"))


def test_text_in_place_of_a_message_is_an_error_of_the_store(store: Store, tmp_path: Path) -> None:
    store.add(TEN, 1)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute("UPDATE messages SET sealed = 'no bytes' WHERE seq = 4")
    with pytest.raises(StoreFailed, match="somebody else wrote"):
        list(store.messages())
    with pytest.raises(StoreFailed, match="somebody else wrote"):
        store.received()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("messages", "lane = CAST('x' AS BLOB)"),
        ("messages", "epoch = CAST('x' AS BLOB)"),
        ("messages", "received_ns = 'noon'"),
        ("heads", "lane = CAST('x' AS BLOB)"),
        ("heads", "epoch = x'00'"),
        ("heads", "up_to = 'all'"),
        ("heads", "digest = 'text'"),
        ("alarms", "lane = CAST('x' AS BLOB)"),
        ("alarms", "code = x'00'"),
        ("alarms", "epoch = x'00'"),
        ("alarms", "seq = 'one'"),
        ("alarms", "digest = 'text'"),
        ("alarms", "at_ns = 'noon'"),
        ("alarms", "what = x'00'"),
        ("alarms", "evidence = 'text'"),
    ],
)
def test_a_value_of_another_type_is_an_error_of_the_store(
    store: Store, tmp_path: Path, table: str, change: str
) -> None:
    store.add(TEN[:1], 1)
    store.alarm(Alarm("lane-1", "COL-04", E1, 1, "forked"))
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute(f"UPDATE {table} SET {change}")
    with pytest.raises(StoreFailed, match=f"{table}.* somebody else wrote"):
        _ = store.heads(), store.chains(), list(store.messages()), store.received(), store.alarms()


@pytest.mark.parametrize("change", ["heads SET digest = 'text'", "messages SET digest = 'text' WHERE seq = 3"])
def test_nothing_is_added_to_a_chain_of_which_a_value_is_of_another_type(
    store: Store, tmp_path: Path, change: str
) -> None:
    store.add([TEN[0], TEN[2]], 1)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute(f"UPDATE {change}")
    with pytest.raises(StoreFailed, match="somebody else wrote"):
        store.add(TEN[1:2], 2)


def test_a_damaged_message_of_another_epoch_does_not_keep_a_store_from_adding(store: Store, tmp_path: Path) -> None:
    store.add(TEN, 1)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute("UPDATE messages SET sealed = 'no bytes' WHERE seq = 1")
    outcomes, _ = store.add(chain(1, epoch=2, link=EpochLink(1, TEN[-1].digest)), 2)
    assert outcomes == [Outcome.STORED]


def test_a_store_of_another_version_is_refused(store: Store, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute("UPDATE meta SET version = 99")
    with pytest.raises(StoreVersion):
        Store(str(tmp_path / "store.sqlite"))


@given(st.integers(1, 12), st.sets(st.integers(1, 12)), st.data())
def test_a_walk_ends_before_the_first_number_that_is_neither_there_nor_declared(
    count: int, gone: set[int], data: st.DataObject
) -> None:
    links = [Link(seq, bytes([seq - 1]) if seq > 1 else None, bytes([seq])) for seq in range(1, count + 1)]
    declared = data.draw(st.sets(st.sampled_from(sorted(gone)))) if gone else set()
    here = [link for link in links if link.seq not in gone]

    def gap_over(seq: int) -> Link | None:
        return Link(seq, None, bytes([seq])) if seq in declared else None

    end = walk(Head("lane-1", E1, 0, None), here, gap_over, lambda beyond: any(link.seq > beyond for link in here))
    lost = [seq for seq in range(1, count + 1) if seq in gone and seq not in declared]
    reached = max((link.seq for link in here if not lost or link.seq < lost[0]), default=0)
    assert reached <= end.up_to <= max(reached, (lost or [count + 1])[0] - 1)
    assert end.missing == any(link.seq > lost[0] for link in here) if lost else not end.missing
    assert not end.broken
