"""The audit: a whole store passes, and whatever was taken away, added or changed in it is named where it is."""

import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from central.audit import (
    FORK,
    MAYBE_BEFORE,
    OLDER_POLICY,
    UNLINKED,
    Audit,
    EpochReport,
    _tell,
    command,
)
from central.heard import Heard, _linked, of_capture, of_store
from central.prefix import Epoch
from central.store import Store
from edge.errors import CaptureMalformed, StoreFailed
from edge.record import GapRecord, LaneRecord
from edge.seal import envelope
from edge.seal.chain import ChainState
from edge.seal.envelope import Envelope, EpochLink
from edge.seal.keys import PublicKey
from tests.sealing import AUDIT, CHECKPOINT, NOW, READ, sealer, signing_key

DOCS = Path(__file__).parents[2] / "docs"


class Enrolled:
    """Lane keys by name."""

    def __init__(self, *announced: int) -> None:
        self._announced = announced

    def of(self, message: Envelope, received_ns: int) -> Sequence[PublicKey]:
        return [signing_key().public] if message.header.lane in ("lane-1", "lane-2") else []

    def why_not(self, message: Envelope, received_ns: int) -> str:
        return "not enrolled"

    def knows(self, lane: str) -> bool:
        return True

    def enrolled(self) -> Sequence[str]:
        return ["lane-1"]

    def epochs(self, lane: str) -> Sequence[int]:
        return self._announced


def extend(
    state: ChainState, records: Sequence[LaneRecord], lane: str = "lane-1", at_ns: int = NOW.utc_ns
) -> list[Envelope]:
    made, seals = [], dataclasses.replace(sealer(lane), now_ns=lambda: at_ns)
    for record in records:
        message = seals.seal(record, state.epoch, state.next_seq, state.prev)
        state = state.after(message.digest)
        made.append(envelope.parse(message.data))
    return made


def chain(
    epoch: int, count: int, link: EpochLink | None = None, lane: str = "lane-1", at_ns: int = NOW.utc_ns
) -> list[Envelope]:
    return extend(ChainState.start(epoch, link), [READ] * (count - 1) + [CHECKPOINT], lane, at_ns)


def after(messages: list[Envelope]) -> ChainState:
    last = messages[-1]
    return ChainState(last.header.epoch, last.header.seq + 1, last.digest)


def link(messages: list[Envelope]) -> EpochLink:
    return EpochLink(messages[-1].header.epoch, messages[-1].digest)


FIRST = chain(9, 8)  # numbers of epochs are random: their order says nothing
SECOND = chain(3, 5, link(FIRST))
THIRD = chain(7, 5, link(SECOND))
LATER = chain(7, 5, link(SECOND), at_ns=NOW.utc_ns + 1)


def audited(messages: Sequence[Envelope], *announced: int, from_start: bool = True) -> list[EpochReport]:
    audit = Audit(Enrolled(*announced), from_start=from_start)
    for message in messages:
        audit.take(Heard(message.header.lane, message.data))
    return audit.reports()


def problems(reports: list[EpochReport]) -> list[tuple[str, int, str]]:
    return [(report.epoch[-1:], problem.seq, problem.what) for report in reports for problem in report.problems]


def store_of(folder: Path, *messages: Envelope) -> Path:
    store = Store(str(folder / "store.sqlite"))
    store.add(messages, 1)
    store.close()
    return folder / "store.sqlite"


def audit_of(path: Path, *announced: int) -> list[EpochReport]:
    store = Store(str(path), read_only=True)
    audit = Audit(Enrolled(*announced), from_start=True)
    for heard in of_store(store):
        audit.take(heard)
    return audit.reports()


def test_whole_chains_over_linked_epochs_have_no_problem(tmp_path: Path) -> None:
    reports = audit_of(store_of(tmp_path, *THIRD, *FIRST, *SECOND, *chain(1, 3, lane="lane-2")))
    assert problems(reports) == []
    assert {(report.lane, report.epoch[-1], report.messages, report.last) for report in reports} == {
        ("lane-1", "9", 8, 8),
        ("lane-1", "3", 5, 5),
        ("lane-1", "7", 5, 5),
        ("lane-2", "1", 3, 3),
    }
    assert sum(reports[0].kinds.values()) == reports[0].messages


@pytest.mark.parametrize("announced", [(), (3,), (9, 3)])
def test_an_end_that_was_cut_off_shows_in_the_epoch_that_goes_on_from_it_announced_or_not(
    tmp_path: Path, announced: tuple[int, ...]
) -> None:
    found = problems(audit_of(store_of(tmp_path, *FIRST[:-2], *SECOND), *announced))
    assert found == [("3", 1, UNLINKED)]


@pytest.mark.parametrize("announced", [(), (7,), (9, 7)])
def test_an_epoch_that_vanished_between_two_shows_in_the_second_announced_or_not(
    tmp_path: Path, announced: tuple[int, ...]
) -> None:
    third = extend(ChainState.start(7, link(SECOND)), [READ] * 5, at_ns=NOW.utc_ns + 1)
    found = problems(audit_of(store_of(tmp_path, *FIRST, *third), *announced))
    assert found == [("7", 1, UNLINKED)]


@pytest.mark.parametrize("other", [2, 4])
@pytest.mark.parametrize("announced", [(), (3,)])
def test_of_two_epochs_that_go_on_from_one_end_one_is_wrong_announced_or_not(
    tmp_path: Path, other: int, announced: tuple[int, ...]
) -> None:
    path = store_of(tmp_path, *FIRST, *SECOND, *chain(other, 5, link(FIRST)))
    assert [what for _, _, what in problems(audit_of(path, *announced))] == [UNLINKED]


def test_an_announced_epoch_may_go_on_from_another_store_and_is_the_beginning_of_this_one(tmp_path: Path) -> None:
    linked = extend(ChainState.start(3, link(FIRST)), [READ] * 5, at_ns=NOW.utc_ns)
    path = store_of(tmp_path, *linked)
    assert problems(audit_of(path, 3)) == []
    assert problems(audit_of(path)) == [("3", 1, UNLINKED)]
    card = extend(ChainState.start(5), [READ] * 4, at_ns=NOW.utc_ns + 20)
    assert problems(audited([*linked, *card], 3)) == [("5", 1, UNLINKED)]


def test_what_was_declared_given_up_and_comes_is_counted_like_anything_else() -> None:
    gap = extend(after(FIRST), [GapRecord(3, 4, 2, "outbox-full", FIRST[3].digest)])
    (report,) = audited([*FIRST[:2], *gap, *FIRST[2:]])
    assert (report.problems, report.messages, report.declared) == ([], 9, 2)


def test_epochs_are_put_in_order_in_the_same_time_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a lane's key begins as many as he likes."""
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str(self) == str(other)

    class Followed:
        """A store in which each epoch goes on from the one that sorts after it."""

        def messages(self, lane: str, epoch: str) -> Iterator[Heard]:
            yield Heard(lane, epoch.encode())

    monkeypatch.setattr("central.heard.link_of", lambda sealed: EpochLink(int(sealed, 16) + 1, bytes(32)))
    epochs = [Epoch(Name(f"{number:016x}")) for number in range(500)]
    assert _linked(Followed(), "lane-1", epochs) == epochs[::-1]  # type: ignore[arg-type]
    assert compared < 20 * len(epochs)


def test_an_epoch_without_its_first_message_proves_nothing(tmp_path: Path) -> None:
    missing = ("9", 1, "numbers 1 to 1 are missing and not declared given up")
    assert problems(audit_of(store_of(tmp_path, *FIRST[1:]))) == [("9", 1, UNLINKED), missing]
    assert problems(audited([*FIRST[1:4], *FIRST[5:], *SECOND]))[1:] == [
        missing,
        ("9", 5, "numbers 5 to 5 are missing and not declared given up"),
    ]


@pytest.mark.parametrize("missing", [2, 5, 7])
def test_a_message_taken_away_is_named(tmp_path: Path, missing: int) -> None:
    path = store_of(tmp_path, *FIRST)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM messages WHERE seq = ?", (missing,))
    ((epoch, seq, what),) = problems(audit_of(path))
    assert (epoch, seq) == ("9", missing)
    assert "missing" in what


def test_a_changed_message_is_refused_and_its_number_is_missing(tmp_path: Path) -> None:
    path = store_of(tmp_path, *FIRST)
    altered = FIRST[3].data[:-1] + bytes([FIRST[3].data[-1] ^ 1])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE messages SET sealed = ? WHERE seq = 4", (altered,))
    found = problems(audit_of(path))
    assert any("COL-03" in what for epoch, seq, what in found if (epoch, seq) == ("9", 4))
    assert any("4 to 4" in what for _, _, what in found)


def test_a_lane_that_vanished_from_the_store_is_named_and_nothing_hides_by_lacking_a_head(tmp_path: Path) -> None:
    path = store_of(tmp_path, *FIRST[:3], *FIRST[4:])
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM heads")
    assert [seq for _, seq, _ in problems(audit_of(path))] == [4]
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM messages")
    (report,) = audit_of(path)
    assert report.lane == "lane-1"
    assert "enrolled" in report.problems[0].what


def test_a_vanished_epoch_is_found_by_the_one_after_it(tmp_path: Path) -> None:
    ((epoch, seq, what),) = problems(audit_of(store_of(tmp_path, *FIRST, *THIRD)))
    assert (epoch, seq) == ("7", 1)
    assert "vanished" in what


def test_an_outbox_that_was_thrown_away_shows_though_its_successor_links_to_the_same_end() -> None:
    """The file previous-epoch was left, or put, in the state directory: epoch 3 and epoch 4 both name the end of 9."""
    ((epoch, seq, what),) = problems(audited([*FIRST, *SECOND, *chain(4, 5, link(FIRST))]))
    assert (epoch, seq) == ("4", 1)
    assert "vanished" in what


def test_a_message_is_missed_in_the_first_of_many_epochs() -> None:
    messages = FIRST[:4] + FIRST[5:]
    for number in range(100, 200):
        messages += chain(number, 1, link(messages))
    ((epoch, seq, what),) = problems(audited(messages))
    assert (epoch, seq) == ("9", 5)
    assert "missing" in what


def test_a_cut_off_end_is_found_by_the_next_epoch(tmp_path: Path) -> None:
    ((epoch, seq, what),) = problems(audit_of(store_of(tmp_path, *FIRST[:-2], *SECOND)))
    assert (epoch, seq) == ("3", 1)
    assert "vanished" in what


def test_an_epoch_that_the_owner_announced_needs_no_link() -> None:
    fresh = chain(5, 3)
    assert problems(audited([*FIRST, *fresh]))
    assert not problems(audited([*FIRST, *fresh], 5))


@pytest.mark.parametrize("announced", [3, 12])
def test_an_announced_epoch_is_no_matter_of_which_number_is_lower(tmp_path: Path, announced: int) -> None:
    assert problems(audit_of(store_of(tmp_path, *FIRST, *chain(announced, 3)), announced)) == []


def test_beside_an_announced_epoch_another_without_a_link_must_have_begun_before_it() -> None:
    """A new card is announced, and the lane's first epoch has no link; one that was sealed later hides what it
    followed."""
    early, late = (extend(ChainState.start(number), [READ] * 2, at_ns=NOW.utc_ns + number) for number in (1, 3))
    card = extend(ChainState.start(2), [READ] * 2, at_ns=NOW.utc_ns + 2)
    for one, other in ((card, early), (early, card)):
        assert problems(audited([*one, *other], 2)) == []
    for one, other in ((card, late), (late, card)):
        assert [(epoch, seq) for epoch, seq, _ in problems(audited([*one, *other], 2))] == [("3", 1)]
    assert problems(audited([*card, *late], 2, 3)) == []
    assert problems(audited([*card, *late], 2, from_start=False))


@pytest.mark.parametrize("from_start", [True, False])
def test_a_clock_that_steps_back_in_a_later_epoch_accuses_no_earlier_one(from_start: bool) -> None:
    card = extend(ChainState.start(2), [READ], at_ns=NOW.utc_ns + 1)
    back = extend(after(card), [READ], at_ns=NOW.utc_ns - 1)
    assert problems(audited([*FIRST, *card, *back], 2, from_start=from_start)) == []
    behind = extend(ChainState.start(2), [READ], at_ns=NOW.utc_ns - 1)
    assert from_start or problems(audited([*FIRST, *behind], 2, from_start=False)) == []


def test_in_a_capture_nothing_is_still_to_come_of_an_epoch_that_another_one_follows() -> None:
    (declared,) = extend(after(FIRST), [GapRecord(3, 5, 3, "outbox-full", FIRST[4].digest)])
    second = chain(3, 2, EpochLink(9, declared.digest))
    for late in ([declared, *second], [*second, declared]):
        found = problems(audited([*FIRST[:2], *FIRST[5:7], *late], from_start=False))
        assert found == [("9", 8, "numbers 8 to 8 are missing and not declared given up")]


def test_an_epoch_that_is_linked_and_announced_follows_all_the_same() -> None:
    ((epoch, _, what),) = problems(audited([*FIRST, *SECOND, *chain(4, 5, link(FIRST))], 3))
    assert (epoch, "vanished" in what) == ("4", True)
    ((epoch, _, what),) = problems(audited([*FIRST, *SECOND, *extend(after(FIRST), [READ])], 3))
    assert (epoch, "contradicts" in what) == ("9", True)


def test_an_announced_epoch_of_which_nothing_is_here_is_named() -> None:
    assert problems(audited(FIRST, 9)) == []
    ((epoch, _, what),) = problems(audited(SECOND, 9, 3))
    assert (epoch, what) == ("9", "the owner announced the epoch, and no message of it is here")


def test_an_epoch_goes_on_after_the_one_that_follows_it() -> None:
    ((epoch, seq, what),) = problems(audited([*FIRST, *SECOND, *extend(after(FIRST), [READ])]))
    assert (epoch, seq) == ("9", 9)
    assert "contradicts" in what


def test_a_message_kept_under_another_number_is_named_and_hides_no_other(tmp_path: Path) -> None:
    path = store_of(tmp_path, *FIRST)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM messages WHERE seq = 5")
        db.execute("UPDATE messages SET seq = seq + 100 WHERE seq % 2 = 1 AND seq > 1")
    assert [(seq, what.split()[0]) for _, seq, what in problems(audit_of(path))] == [(3, "kept"), (5, "numbers")]


def test_no_hole_is_forgotten_however_many_there_are() -> None:
    many = chain(9, 8500)
    found = problems(audited([many[0], *many[1::2]]))
    assert len(found) == 4249
    assert found[0][1] == 3


def test_people_are_told_a_hundred_problems_and_how_many_more(capsys: pytest.CaptureFixture[str]) -> None:
    report = EpochReport("lane-1", "1", messages=1, awaited=[(seq, seq) for seq in range(2, 302)])
    for number in range(150):
        report.problem(f"number {number} is not here", number)
    report.problem("number 0 is not here", 7)
    _tell(report)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + 101 + 101
    assert "200 more" in shown[101]
    assert "50 more" in shown[-1]
    assert (report.problems[0].count, len(report.to_json()["problems"])) == (2, 150)


def test_a_chain_does_not_return_to_an_older_policy() -> None:
    state, sealed = ChainState.start(5), []
    for version in (1, 2, 2, 3):
        message = dataclasses.replace(sealer(), trust_version=version).seal(READ, 5, state.next_seq, state.prev)
        state = state.after(message.digest)
        sealed.append(envelope.parse(message.data))
    assert problems(audited(sealed)) == []
    assert problems(audited([sealed[0], sealed[3], sealed[1], sealed[2]])) == []
    message = dataclasses.replace(sealer(), trust_version=2).seal(READ, 5, state.next_seq, state.prev)
    back = envelope.parse(message.data)
    assert problems(audited([*sealed, back])) == [("5", 5, "sealed under an older policy than a message before it")]


def test_declared_gaps_are_counted_and_are_no_problem() -> None:
    given_up = GapRecord(3, 5, 3, "outbox-full", FIRST[4].digest)
    (declared,) = extend(after(FIRST), [given_up])
    (report,) = audited([*FIRST[:2], declared, *FIRST[5:]])
    assert (report.problems, report.declared, report.messages) == ([], 3, 6)


def test_a_fork_is_named_with_its_number() -> None:
    (clone,) = extend(after(FIRST[:4]), [CHECKPOINT])
    ((_, seq, what),) = problems(audited([*FIRST, clone]))
    assert seq == 5
    assert "contradicts" in what


def test_the_forks_that_the_collector_kept_are_told(tmp_path: Path) -> None:
    (clone,) = extend(after(FIRST[:4]), [CHECKPOINT])
    path = store_of(tmp_path, *FIRST)
    Store(str(path)).add([clone], 2)
    (report,) = audit_of(path)
    assert (problems([report]), report.messages) == ([("9", 5, FORK)], 8)


def test_an_alarm_that_somebody_wrote_into_the_store_accuses_nobody_without_a_message_that_shows_it(
    tmp_path: Path,
) -> None:
    path = store_of(tmp_path, *FIRST)
    alarm = "INSERT INTO alarms VALUES (?, 'COL-04', '0000000000000009', 3, ?, 1, 'what', ?)"
    with sqlite3.connect(path) as db:
        db.execute(alarm, ("lane-1", b"1", None))
        db.execute(alarm, ("lane-1", b"2", FIRST[2].data))
    assert problems(audit_of(path)) == []
    with sqlite3.connect(path) as db:
        db.execute(alarm, ("lane-1\x1b[2J", b"3", b"no message"))
    ((epoch, seq, what),) = problems(audit_of(path))
    assert (epoch, seq) == ("9", 3)
    assert what.startswith("COL-03 from lane-1?[2J")


def test_a_store_that_can_not_be_written_is_audited_all_the_same(tmp_path: Path) -> None:
    path = store_of(tmp_path, *FIRST)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o555 if folder == tmp_path else 0o755)
    as_nobody = (
        "import os, sys; from tests.unit.test_audit import Store, of_store; os.getuid() or os.setuid(65534); "
        "os.statvfs = lambda path: os.statvfs_result((0,) * 8 + (os.ST_RDONLY, 0)); "
        "print(len(list(of_store(Store(sys.argv[1], read_only=True)))))"
    )
    done = subprocess.run([sys.executable, "-c", as_nobody, path], capture_output=True, text=True, check=False)
    assert done.stdout == f"{len(FIRST)}\n", done.stderr


def test_a_file_that_is_damaged_in_its_description_is_an_error_of_ours(tmp_path: Path) -> None:
    path = store_of(tmp_path, *FIRST)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE TABLE messages", b"CREATE TABLE \xff\xffssages"))
    with pytest.raises(StoreFailed):
        audit_of(path)


def test_what_a_gap_was_declared_ahead_of_is_still_to_come(tmp_path: Path) -> None:
    (declared,) = extend(after(FIRST), [GapRecord(3, 5, 3, "outbox-full", FIRST[4].digest)])
    path = store_of(tmp_path, *FIRST[:2], declared, *FIRST[5:7])
    (tmp_path / "lanes").mkdir()
    (tmp_path / "lanes" / "lane-1.pub").write_text(signing_key().public.pem())
    code, shown = run(str(path), "--lanes", str(tmp_path / "lanes"))
    assert code == 0
    assert "numbers 8 to 8 are still to come" in shown
    Store(str(path)).add(chain(3, 2, EpochLink(9, declared.digest)), 2)  # and then the box is gone
    code, shown = run(str(path), "--lanes", str(tmp_path / "lanes"))
    assert code == 1
    assert "numbers 8 to 8 are missing" in shown


@pytest.mark.parametrize(
    "messages",
    [
        [*FIRST, SECOND[1], SECOND[0], *SECOND[2:], *THIRD],
        [*FIRST[:-1], *SECOND, FIRST[-1], *THIRD],
        [*FIRST[:-1], *reversed(SECOND), *THIRD, FIRST[-1]],
        [*FIRST[2:-1], *THIRD, *SECOND, FIRST[-1]],
        [*THIRD, *FIRST[6:], *SECOND],
        [SECOND[0], *FIRST[6:], *SECOND[1:]],
    ],
)
def test_in_which_order_epochs_are_heard_means_nothing(messages: list[Envelope]) -> None:
    assert problems(audited(messages, from_start=False)) == []


@pytest.mark.parametrize(
    ("messages", "accused"),
    [
        ([*SECOND, *FIRST[:-1]], "3"),  # its end vanished
        ([*LATER, *FIRST], "7"),  # an epoch between them did
        ([*FIRST, *LATER[1:]], "7"),  # nobody knows what it goes on from
        ([*SECOND, *chain(4, 2, link(FIRST)), *FIRST], "4"),  # one only may go on from an end
        ([*chain(4, 2, at_ns=NOW.utc_ns + 1), *FIRST, *SECOND], "4"),  # it begins anew
    ],
)
def test_an_epoch_that_goes_on_from_nothing_in_a_capture_is_named(messages: list[Envelope], accused: str) -> None:
    found = problems(audited(messages, from_start=False))
    assert [(epoch, what) for epoch, _, what in found] == [(accused, UNLINKED)]


def test_an_epoch_does_not_return_to_an_older_policy_than_the_one_that_it_goes_on_from() -> None:
    def under(version: int, epoch: int, link: EpochLink | None) -> Envelope:
        return envelope.parse(dataclasses.replace(sealer(), trust_version=version).seal(READ, epoch, 1, link).data)

    first = under(2, 9, None)
    for version, found in ((3, []), (2, []), (1, [("3", 1, OLDER_POLICY)])):
        assert problems(audited([first, under(version, 3, EpochLink(9, first.digest))])) == found


def test_a_capture_may_begin_in_the_middle_but_not_lack_anything(tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    capture.write_text("".join(f"1795500000.25 lanes/v1/lane-1/record {m.data.hex()}\n" for m in FIRST[3:]))
    assert problems(audited([], from_start=False)) == []
    heard = list(of_capture(capture))
    assert heard[0].received_ns == 1_795_500_000_250_000_000
    audit = Audit(Enrolled(), from_start=False)
    for one in heard:
        audit.take(one)
    assert problems(audit.reports()) == []
    audit = Audit(Enrolled(), from_start=False)
    for one in [*heard[:2], *heard[3:]]:
        audit.take(one)
    assert problems(audit.reports()) == [("9", 6, "numbers 6 to 6 are missing and not declared given up")]


def test_numbers_after_a_checkpoint_that_a_capture_begins_with_may_lie_before_it_and_are_missing_all_the_same() -> None:
    sent = extend(ChainState.start(9), [READ, CHECKPOINT, READ, READ, CHECKPOINT, READ, READ])
    for numbers, found in (((2, 4, 5, 7), [(3, True), (6, False)]), ((3, 5, 7), [(4, False), (6, False)])):
        missing = problems(audited([sent[number - 1] for number in numbers], from_start=False))
        assert [(seq, MAYBE_BEFORE in what) for _, seq, what in missing] == found


def test_the_guide_and_the_code_name_one_command_for_a_capture() -> None:
    guide = (DOCS / "owner-guide.md").read_text()
    (command,) = (line.strip(" \\") for line in guide.splitlines() if line.startswith("mosquitto_sub"))
    assert f" {command} makes one" in (of_capture.__doc__ or "")


@pytest.mark.parametrize(
    "line",
    [
        "1795500000.25 lanes/v1/lane-1/record ",
        "lanes/v1/lane-1/checkpoint ",
        "1795500000.25 lanes/v1/a lane/record 00",
        "1795500000.25 lanes/v1/lané/record 00",
        "1795500000.25 lanes/v1/lane-1/record " + "00" * 200_000,
    ],
)
def test_whatever_a_broker_passes_on_is_told_and_the_rest_of_the_capture_judged(tmp_path: Path, line: str) -> None:
    honest = f"1795500000.25 lanes/v1/lane-1/record {FIRST[0].data.hex()}\n"
    (tmp_path / "capture").write_text(f"{line}\n{honest}")
    audit = Audit(Enrolled(), from_start=False)
    for one in of_capture(tmp_path / "capture"):
        audit.take(one)
    assert sum(report.messages for report in audit.reports()) == 1
    ((_, _, what),) = problems(audit.reports())
    assert "COL-0" in what


def test_a_line_of_a_capture_that_was_cut_off_accuses_nobody_and_is_told(tmp_path: Path) -> None:
    line = f"lanes/v1/lane-1/record {FIRST[0].data.hex()}\n"
    said: list[str] = []
    for cut in (line[:-1], line[:-2], line[:-3], line[:20]):
        (tmp_path / "capture").write_text(f"{line}\n{cut}")
        assert len(list(of_capture(tmp_path / "capture", said.append))) == 1
    assert said == [f"{tmp_path / 'capture'}, line 3 is cut off, and not judged"] * 4


@pytest.mark.parametrize(
    "line",
    [
        "lanes/v1/lane-1/record",
        "999999999999 lanes/v1/lane-1/record 00",  # the year 33658
        "x y z a b",
        "lanes/v1/lane-1/record zz",
        "é",
        "179.0e500505 lanes/v1/lane-1/record 00",  # as a number, this takes minutes to write out
    ],
)
def test_a_line_that_is_no_capture_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "capture").write_text(f"lanes/v1/lane-1/state 7b7d\n{line}\n")
    with pytest.raises(CaptureMalformed, match="line 2"):
        list(of_capture(tmp_path / "capture"))


def run(*words: str) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_a_capture_says_from_which_number_on_it_was_judged(tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    (tmp_path / "lanes" / "lane-1.pub").write_text(signing_key().public.pem())
    lines = (f"1795500000.25 lanes/v1/lane-1/record {m.data.hex()}\n" for m in FIRST[3:])
    (tmp_path / "capture").write_text("".join(lines))
    code, shown = run(str(tmp_path / "capture"), "--capture", "--lanes", str(tmp_path / "lanes"))
    assert code == 0
    assert f"numbers 4 to {len(FIRST)}, the last of" in shown
    assert shown.endswith("nothing is missing among the numbers above\n")


def test_a_capture_of_nothing_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    (tmp_path / "capture").touch()
    code, shown = run(str(tmp_path / "capture"), "--capture", "--lanes", str(tmp_path / "lanes"))
    assert (code, shown) == (1, "0 messages: nothing is here that could prove anything\n")


def test_the_command_ends_with_zero_only_if_nothing_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    (tmp_path / "lanes" / "lane-1.pub").write_text(signing_key().public.pem())
    path = str(store_of(tmp_path, *FIRST, *SECOND))
    code, shown = run(path, "--lanes", str(tmp_path / "lanes"))
    assert (code, shown.splitlines()[-1]) == (0, "13 messages: nothing is missing")
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM messages WHERE seq = 3")
    code, shown = run(path, "--lanes", str(tmp_path / "lanes"), "--json")
    assert code == 1
    first = json.loads(shown.splitlines()[0])
    assert first["problems"][0]["seq"] == 3
    assert first["kinds"] == {"r": 6, "c": 1}
    guide = (DOCS / "owner-guide.md").read_text().split("| key | holds |")[1].split("\n\n")[0]
    assert set(first) == {key for row in guide.splitlines()[2:] for key in row.split("|")[1].strip().split(", ")}


def test_people_are_told_of_kinds_in_words_and_of_a_lane_without_an_epoch_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    (tmp_path / "lanes" / "lane-1.pub").write_text(signing_key().public.pem())
    kept = extend(ChainState.start(9), [AUDIT, READ, READ, CHECKPOINT])
    (tmp_path / "capture").write_text(
        "".join(f"lanes/v1/lane-1/record {m.data.hex()}\n" for m in kept) + "lanes/v1/gh\x1bost/record 00\n"
    )
    code, shown = run(str(tmp_path / "capture"), "--capture", "--lanes", str(tmp_path / "lanes"))
    assert code == 1
    assert "4 messages (1 audit, 1 checkpoint, 2 read), 0 declared given up" in shown
    assert "  WRONG gh?ost from line 5: COL-03" in shown
    assert shown.endswith("4 messages: 1 problem\n")
