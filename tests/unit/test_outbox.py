import dataclasses
import errno
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.errors import (
    EpochLinkMalformed,
    OutboxCorrupt,
    OutboxDiskFull,
    OutboxForeign,
    OutboxFull,
    OutboxLocked,
    OutboxUnavailable,
    ReceiptRefused,
    RecordInvalid,
)
from edge.outbox import PREVIOUS_EPOCH, Limits, OpenVisit, Outbox, Sealed
from edge.record import Kind
from edge.seal import envelope
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import Envelope, EpochLink
from edge.seal.keys import KeyType
from edge.seal.opener import FileOpener
from edge.seal.receipt import Receipt
from tests.sealing import AUDIT, CHECKPOINT, NOW, READ, SMALL, outbox, read, recipient_key, sealer, signing_key


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    with outbox(tmp_path) as opened:
        yield opened


def everything(box: Outbox, page: int = 7) -> list[Sealed]:
    """All that waits, taken page by page as a publisher does."""
    found: list[Sealed] = []
    while more := box.pending(found[-1].place if found else 0, page):
        found += more
    return found


def opened(sealed: Sealed) -> Envelope:
    found = envelope.parse(sealed.payload)
    envelope.verify(found, signing_key().public)
    assert (found.header.epoch, found.header.seq, found.header.kind) == (sealed.epoch, sealed.seq, sealed.kind)
    return found


def receipt(box: Outbox, up_to: int) -> Receipt:
    """What an honest collector says once it has all of that."""
    messages = {one.seq: opened(one) for one in everything(box)}
    digests = {seq: one.digest for seq, one in messages.items()}
    digests |= {one.header.gap.last_seq: one.header.gap.last_hash for one in messages.values() if one.header.gap}
    return Receipt("lane-1", box.position.epoch, up_to, digests[up_to], NOW.utc_ns)


def fill(box: Outbox, reads: int = 250) -> None:
    box.append(AUDIT)
    for number in range(reads):
        box.append(read() if number % 50 else CHECKPOINT)


def test_numbers_run_from_one_and_the_chain_holds(box: Outbox) -> None:
    epoch = box.position.epoch
    assert [box.append(record) for record in (AUDIT, READ, CHECKPOINT)] == [(epoch, 1), (epoch, 2), (epoch, 3)]
    verifier = ChainVerifier("lane-1", from_start=True)
    assert [verifier.accept(opened(one)).finding for one in everything(box)] == [
        Finding.NEW_EPOCH, Finding.IN_ORDER, Finding.IN_ORDER
    ]  # fmt: skip
    assert box.depth == 3


def test_what_was_appended_is_there_after_a_restart_and_the_chain_goes_on(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        box.append(AUDIT)
        before = everything(box)
    with outbox(tmp_path) as box:
        assert everything(box) == before
        assert box.append(READ) == (before[0].epoch, 2)
        assert opened(everything(box)[1]).header.prev == opened(before[0]).digest


def test_only_sealed_bytes_touch_the_disk(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        box.append(READ)
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"AB12CDE" not in raw
    assert READ.model_id.encode() not in raw


def test_a_fresh_epoch_carries_the_link_to_the_one_before_or_says_none(tmp_path: Path) -> None:
    link = EpochLink(2**64 - 1, bytes(range(32)))
    for folder, line in (("linked", f"{link.epoch:016x} {link.head.hex()}\n"), ("none", None)):
        (tmp_path / folder).mkdir()
        if line:
            (tmp_path / folder / PREVIOUS_EPOCH).write_text(line)
        with outbox(tmp_path / folder) as box:
            box.append(AUDIT)
            assert opened(everything(box)[0]).header.prev == (link if line else None)


def test_a_link_is_used_once_so_that_an_outbox_thrown_away_leaves_an_epoch_without_one(tmp_path: Path) -> None:
    (tmp_path / PREVIOUS_EPOCH).write_text(f"{1:016x} {2:064x}")
    for linked in (True, False):
        with outbox(tmp_path) as box:
            box.append(CHECKPOINT)
            assert (opened(everything(box)[0]).header.prev is not None) is linked
        (tmp_path / "outbox.sqlite").unlink()


@pytest.mark.parametrize("line", ["", "1 2", "x" * 81, f"{1:016x} {2:064x} {3:016x}"])
def test_a_link_that_is_none_begins_no_epoch(tmp_path: Path, line: str) -> None:
    (tmp_path / PREVIOUS_EPOCH).write_text(line)
    with pytest.raises(EpochLinkMalformed):
        outbox(tmp_path)
    (tmp_path / PREVIOUS_EPOCH).write_text(f"{1:016x} {2:064x}")
    with outbox(tmp_path) as box:
        assert box.position.prev == EpochLink(1, (2).to_bytes(32, "big"))


def test_every_fresh_file_is_an_epoch_of_its_own(tmp_path: Path) -> None:
    epochs = set()
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        with outbox(tmp_path / str(number)) as box:
            epochs.add(box.position.epoch)
    assert len(epochs) == 5


def test_a_receipt_lets_go_of_what_it_covers_and_of_nothing_more(box: Outbox) -> None:
    for _ in range(5):
        box.append(read())
    assert box.confirm(receipt(box, 3)) == 3
    assert [one.seq for one in everything(box)] == [4, 5]
    assert box.confirm(receipt(box, 5)) == 2
    assert box.depth == 0


def test_a_receipt_again_or_late_changes_nothing(box: Outbox) -> None:
    for _ in range(5):
        box.append(read())
    second, fourth = receipt(box, 2), receipt(box, 4)
    assert box.confirm(fourth) == 4
    assert box.confirm(fourth) == 0
    assert box.confirm(second) == 0
    assert box.depth == 1


@pytest.mark.parametrize("change", [{"lane": "lane-2"}, {"epoch": 1}, {"up_to_seq": 4}, {"head": bytes(32)}])
def test_a_receipt_that_does_not_fit_what_was_sent_is_refused(box: Outbox, change: dict[str, object]) -> None:
    for _ in range(3):
        box.append(read())
    with pytest.raises(ReceiptRefused):
        box.confirm(dataclasses.replace(receipt(box, 3), **change))  # type: ignore[arg-type]
    assert box.depth == 3


def test_a_read_closes_its_visit_in_the_same_stroke(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        assert box.interrupted == ()
        box.open_visit(READ.passage_id, NOW)
        box.open_visit(b"another visit...", NOW)
        box.append(READ)
    with outbox(tmp_path) as box:
        assert box.interrupted == (OpenVisit(b"another visit...", NOW),)


def test_a_read_that_could_not_be_sealed_leaves_its_visit_open_and_takes_no_number(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        box.open_visit(READ.passage_id, NOW)
        with pytest.raises(RecordInvalid):
            box.append(dataclasses.replace(READ, direction="up"))
        assert box.position.next_seq == 1
    with outbox(tmp_path) as box:
        assert [visit.passage_id for visit in box.interrupted] == [READ.passage_id]


def test_the_next_process_knows_of_a_checkpoint_that_waits(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        box.append(CHECKPOINT)
        box.append(CHECKPOINT)
        box.append(READ)
    with outbox(tmp_path) as box:
        assert box.checkpointed == 2
        box.confirm(receipt(box, 3))
    with outbox(tmp_path) as box:
        assert box.checkpointed is None


def test_a_note_is_kept_for_the_next_process_until_another_takes_its_place(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        assert box.noted("configuration") is None
        box.note({"configuration": "one"})
    with outbox(tmp_path) as box:
        assert box.noted("configuration") == "one"
        box.note({"configuration": "two"})
        assert box.noted("configuration") == "two"


def test_the_next_process_learns_when_this_one_was_last_alive(tmp_path: Path) -> None:
    with outbox(tmp_path) as box:
        assert box.last_alive_ns is None
        box.alive(NOW.utc_ns)
    with outbox(tmp_path) as box:
        assert box.last_alive_ns == NOW.utc_ns


def test_the_outbox_grows_again_once_a_file_system_that_was_full_has_room(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.append(CHECKPOINT)
    with monkeypatch.context() as full:
        full.setattr(box, "_confirm", disk_full_once())
        assert box.confirm(receipt(box, 1)) == 0
        full.setattr("os.posix_fallocate", no_space)
        box.alive(NOW.utc_ns)
        assert not (tmp_path / "outbox.sqlite.ballast").exists()
    box.alive(NOW.utc_ns)
    assert (tmp_path / "outbox.sqlite.ballast").stat().st_size == SMALL.ballast_bytes
    for _ in range(50):
        box.append(read())
    assert box.given_up == 0


def test_a_ballast_that_cannot_be_given_back_is_named(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.append(CHECKPOINT)
    (tmp_path / "outbox.sqlite.ballast").unlink()
    (tmp_path / "outbox.sqlite.ballast").mkdir()
    monkeypatch.setattr(box, "_confirm", disk_full_once())
    with pytest.raises(OutboxUnavailable):
        box.confirm(receipt(box, 1))


def disk_full_once() -> Callable[[Receipt], int]:
    """Takes a receipt as a full file system does, until there is room."""
    errors = iter([OutboxDiskFull("no space left")])

    def confirm(_: Receipt) -> int:
        for error in errors:
            raise error
        return 0

    return confirm


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no space left")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with outbox(tmp_path), pytest.raises(OutboxLocked):
        outbox(tmp_path)
    outbox(tmp_path).close()


def test_another_lanes_outbox_is_refused(tmp_path: Path) -> None:
    outbox(tmp_path).close()
    with pytest.raises(OutboxForeign):
        Outbox.open(tmp_path / "outbox.sqlite", sealer("lane-2"))


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE guests (name TEXT)")
    other.close()
    with pytest.raises(OutboxForeign):
        outbox(tmp_path)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM guests").fetchone() == (0,)
    other.close()


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough to be looked at" * 40, None])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "outbox.sqlite"
    with outbox(tmp_path) as box:
        for _ in range(40):
            box.append(read())
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 4096] = b"\xa5" * 4096
    path.write_bytes(damage or data)
    with pytest.raises(OutboxCorrupt):
        outbox(tmp_path)
    assert path.read_bytes() == (damage or data)


@pytest.mark.parametrize(
    ("there", "damaged"),
    [
        (b"tablestatestate", b"tablest\xffte\xffstate"),
        (b"CREATE TABLE state", b"CREATE \xffABLE state"),
        (b"CREATE INDEX", b"CREATE IN\xffEX"),
        (b"link_epoch TEXT", b"li\xffk_epoch TEXT"),
        (b"lane-1", b"lan\xff-1"),
    ],
)
def test_a_file_with_bytes_that_are_no_text_is_damaged_and_given_back(
    tmp_path: Path, there: bytes, damaged: bytes
) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox(tmp_path).close()
    sound = path.read_bytes()
    assert there in sound
    path.write_bytes(sound.replace(there, damaged))
    with pytest.raises(OutboxCorrupt), outbox(tmp_path) as box:
        box.append(READ)
    path.write_bytes(sound)
    outbox(tmp_path).close()


@pytest.mark.parametrize(
    "change",
    [
        *(f"state SET epoch = {value}" for value in ("'x'", "1.5", "zeroblob(3)", f"'{2**64}'")),
        *(f"state SET next_seq = {value}" for value in ("'x'", "-1", str(2**63 - 1))),
        *(f"state SET prev = {value}" for value in ("NULL", "'x'")),
        "state SET link_epoch = 'x'",
        "state SET alive_ns = 'x'",
        "message SET kind = 'x'",
        "message SET kind = CAST(x'ff' AS TEXT)",
        "visit SET passage_id = 7",
        "visit SET utc_ns = 'x'",
    ],
)
def test_a_row_that_no_lane_wrote_is_damage(tmp_path: Path, change: str) -> None:
    with outbox(tmp_path) as box:
        box.append(CHECKPOINT)
        box.open_visit(READ.passage_id, NOW)
    with sqlite3.connect(tmp_path / "outbox.sqlite") as other:
        other.execute(f"UPDATE {change}")
    other.close()
    with pytest.raises(OutboxCorrupt), outbox(tmp_path) as box:
        box.append(READ if box.pending() else CHECKPOINT)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutboxUnavailable):
        outbox(tmp_path / "nowhere")


def test_other_recipients_take_over_from_one_record_to_the_next(box: Outbox) -> None:
    box.append(READ)
    box.use(dataclasses.replace(sealer(), recipients=(recipient_key(name="next").public,)))
    box.append(READ)
    first, second = (opened(one) for one in everything(box))
    assert envelope.open_record(first, FileOpener(recipient_key())) == READ
    assert envelope.open_record(second, FileOpener(recipient_key(name="next"))) == READ
    with pytest.raises(OutboxForeign):
        box.use(sealer("lane-2"))


def test_a_full_outbox_gives_up_the_oldest_reads_and_declares_it(box: Outbox, tmp_path: Path) -> None:
    fill(box)
    assert box.given_up > 0
    assert (tmp_path / "outbox.sqlite").stat().st_size <= SMALL.bytes
    verifier = ChainVerifier("lane-1", from_start=True)
    verdicts = [verifier.accept(opened(one)) for one in everything(box)]
    assert not any(verdict.alarm for verdict in verdicts)
    declared = [verdict.missing for verdict in verdicts if verdict.finding is Finding.DECLARED]
    assert sum(last - first + 1 for first, last in filter(None, declared)) == box.given_up
    assert verifier.holes(box.position.epoch) == []
    assert {one.kind for one in everything(box) if one.seq <= 2 or one.kind is Kind.CHECKPOINT} >= {Kind.AUDIT}


def test_nothing_but_reads_is_ever_given_up(box: Outbox) -> None:
    fill(box)
    kept = [one.kind for one in everything(box)]
    assert kept.count(Kind.CHECKPOINT) == 250 // 50
    assert kept.count(Kind.AUDIT) == 1


def test_what_may_not_be_given_up_has_its_share_and_the_rest_is_for_reads(box: Outbox) -> None:
    for _ in range(SMALL.kept_messages):
        box.append(CHECKPOINT)
    for refused in (CHECKPOINT, AUDIT):
        with pytest.raises(OutboxFull):
            box.append(refused)
    for _ in range(50):
        box.append(read())
    assert box.given_up == 0
    box.confirm(receipt(box, 1))
    box.append(AUDIT)


def test_full_of_what_may_not_be_given_up_it_gives_up_new_reads_and_refuses_the_rest(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "kept_messages", 1000)
    with pytest.raises(OutboxFull):  # noqa: PT012 - which of them is the first to be refused is not the question
        for _ in range(400):
            box.append(CHECKPOINT)
    _, seq = box.append(READ)
    assert box.given_up == 1
    assert box.position.next_seq == seq + 1
    box.confirm(receipt(box, seq - 1))
    declared = everything(box)
    assert [one.kind for one in declared] == [Kind.GAP]
    assert opened(declared[0]).header.gap == envelope.Gap(seq, seq, opened(declared[0]).header.prev or b"")


def test_what_a_collector_got_before_it_was_given_up_needs_no_declaring(box: Outbox) -> None:
    for _ in range(40):
        box.append(read())
    early = {one.seq: opened(one) for one in everything(box)}
    fill(box)
    assert box.given_up > 50
    within, last = early[30].digest, early[40].digest
    assert box.confirm(Receipt("lane-1", box.position.epoch, 30, within, NOW.utc_ns)) == 0  # its digest is forgotten
    assert box.confirm(Receipt("lane-1", box.position.epoch, 40, last, NOW.utc_ns)) == 1  # an epoch's first is kept
    gaps = [opened(one).header.gap for one in everything(box) if one.kind is Kind.GAP]
    assert next(gap.first_seq for gap in gaps if gap) == 43


def drain(box: Outbox, window: int) -> ChainVerifier:
    """Deliver all that waits, never more than `window` messages without a receipt."""
    verifier = ChainVerifier("lane-1", from_start=True)
    digests: dict[int, bytes] = {}
    epoch = box.position.epoch
    for _ in range(1000):
        batch = box.pending(limit=window)
        if not batch:
            break
        for one in batch:
            found = opened(one)
            assert not verifier.accept(found).alarm
            digests[one.seq] = found.digest
            if found.header.gap:
                digests[found.header.gap.last_seq] = found.header.gap.last_hash
        up_to = verifier.complete_up_to(epoch)
        box.confirm(Receipt("lane-1", epoch, up_to, digests[up_to], NOW.utc_ns))
    assert box.depth == 0
    assert verifier.holes(epoch) == []
    return verifier


@pytest.mark.parametrize("window", [1, 3, 200])
@pytest.mark.parametrize("kinds", [(KeyType.X25519,), (KeyType.MLKEM768_X25519,) * 2, (KeyType.MLKEM768_X25519,) * 8])
def test_an_outbox_that_filled_up_off_line_is_drained(tmp_path: Path, kinds: tuple[KeyType, ...], window: int) -> None:
    """Many gaps, declared at the end of the chain: each must come in the place of what it replaces, and go again."""
    limits = Limits(bytes=128 * 4096, ballast_bytes=1 << 16)
    keys = tuple(recipient_key(kind, str(number)).public for number, kind in enumerate(kinds))
    with Outbox.open(tmp_path / "outbox.sqlite", dataclasses.replace(sealer(), recipients=keys), limits) as box:
        while box.given_up < 100:
            with suppress(OutboxFull):
                box.append(AUDIT)
            for _ in range(3):
                box.append(read())
        with pytest.raises(OutboxFull):
            box.append(AUDIT)
        verifier = drain(box, window)
        assert verifier.complete_up_to(box.position.epoch) == box.position.next_seq - 1
        box.append(AUDIT)


def test_where_the_reserve_was_not_enough_reads_make_room_for_declaring(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "reserve_pages", 1)
    fill(box)
    before = box.given_up
    drain(box, 3)
    assert box.given_up > before


def test_threads_append_and_confirm_without_losing_a_number(box: Outbox) -> None:
    def append() -> None:
        for _ in range(25):
            box.append(read())

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    confirmed = 0
    while any(thread.is_alive() for thread in threads):
        if waiting := box.pending(limit=10):
            confirmed += box.confirm(
                Receipt("lane-1", waiting[-1].epoch, waiting[-1].seq, opened(waiting[-1]).digest, 1)
            )
    for thread in threads:
        thread.join()
    assert box.position.next_seq == 101
    assert confirmed + box.depth == 100


class OutboxMachine(RuleBasedStateMachine):
    """Against a plain model: every number is with the collector, waiting, or declared, whatever happened in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.box = outbox(self.folder)
        self.box.append(AUDIT)
        self.verifier = ChainVerifier("lane-1", from_start=True)
        self.digests: dict[int, bytes] = {}

    def teardown(self) -> None:
        self.box.close()
        shutil.rmtree(self.folder)

    @rule(count=st.integers(1, 60))
    def reads_come(self, count: int) -> None:
        for _ in range(count):
            self.box.append(read())

    @rule()
    def a_checkpoint_is_due(self) -> None:
        with suppress(OutboxFull):
            self.box.append(CHECKPOINT)

    @rule()
    def the_process_ends_and_starts_again(self) -> None:
        self.box.close()
        self.box = outbox(self.folder)

    @rule(limit=st.integers(1, 60), lost=st.sets(st.integers(0, 59), max_size=5))
    def some_arrive(self, limit: int, lost: set[int]) -> None:
        for number, one in enumerate(self.box.pending(limit=limit)):
            if number not in lost:
                found = opened(one)
                finding = self.verifier.accept(found).finding
                if finding is Finding.UNLINKED_EPOCH and one.seq > 1 and not self.verifier.epochs:
                    continue  # its epoch's first is still to come, and then this one again
                assert finding not in (Finding.FORK, Finding.UNLINKED_EPOCH)
                self.digests[one.seq] = found.digest
                if found.header.gap:
                    self.digests[found.header.gap.last_seq] = found.header.gap.last_hash

    @precondition(lambda self: self.digests)
    @rule()
    def a_receipt_arrives(self) -> None:
        epoch = self.box.position.epoch
        up_to = self.verifier.complete_up_to(epoch)
        if up_to in self.digests:
            self.box.confirm(Receipt("lane-1", epoch, up_to, self.digests[up_to], NOW.utc_ns))

    @invariant()
    def every_number_is_accounted_for(self) -> None:
        covered = set(self.digests)
        for one in everything(self.box, 40):
            covered.add(one.seq)
            gap = envelope.parse(one.payload).header.gap
            if gap:
                covered |= set(range(gap.first_seq, gap.last_seq + 1))
        epoch = self.box.position.epoch
        covered |= set(range(1, self.verifier.complete_up_to(epoch) + 1))
        assert set(range(1, self.box.position.next_seq)) <= covered


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
