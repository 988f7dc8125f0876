"""What tail says of messages, without a broker: verified in order, gaps and forks told, opened only with the key."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from central.screen import _LEFT_OUT, Screen, cells, fitted
from central.store import Store
from central.tail import _from_store, _Wanted
from central.watcher import Line, Watcher
from edge.record import AuditRecord, GapRecord
from edge.seal import envelope
from edge.seal.chain import ChainState, Finding
from edge.seal.envelope import Envelope
from edge.seal.keys import PublicKey
from edge.seal.opener import FileOpener, Opener
from tests.sealing import AUDIT, CHECKPOINT, CLOCK, EVERY_KIND, NO_READ, NOW, READ, recipient_key, sealer, signing_key


def shown_at(width: int, rows: list[Line | None]) -> str:
    """The table as a terminal of that width shows it."""
    console = Console(width=width, color_system=None)
    with console.capture() as picture:
        console.print(fitted([cells(row) for row in rows if row is not None], width))
    return picture.get()


class Enrolled:
    """Lane keys by name."""

    def __init__(self) -> None:
        self.announced: list[int] = []

    def of(self, message: Envelope, received_ns: int) -> Sequence[PublicKey]:
        return [signing_key().public] if message.header.lane == "lane-1" else []

    def why_not(self, message: Envelope, received_ns: int) -> str:
        return "not enrolled"

    def knows(self, lane: str) -> bool:
        return lane == "lane-1"

    def enrolled(self) -> Sequence[str]:
        return ["lane-1"]

    def epochs(self, lane: str) -> Sequence[int]:
        return self.announced


def watcher(opener: Opener | None = None) -> Watcher:
    return Watcher(Enrolled(), opener)


def owner() -> FileOpener:
    return FileOpener(recipient_key())


def said(*records: object, state: ChainState | None = None) -> list[Envelope]:
    state, made = state or ChainState.start(1), []
    for record in records:
        message = sealer().seal(record, state.epoch, state.next_seq, state.prev)  # type: ignore[arg-type]
        state = state.after(message.digest)
        made.append(envelope.parse(message.data))
    return made


def hear(tail: Watcher, messages: Sequence[Envelope]) -> list[Line | None]:
    return [tail.message("lane-1", message.data, NOW.utc_ns + 1_500_000) for message in messages]


def text(line: Line) -> str:
    return " ".join(cell.plain for cell in cells(line) if cell.plain)


def test_each_kind_of_record_is_shown_in_its_own_words() -> None:
    messages = said(*(record for record in EVERY_KIND if not isinstance(record, GapRecord)))
    shown = [text(line) for line in hear(watcher(owner()), messages) if line]
    assert "AB12CDE" in shown[0]
    assert "17/18" in shown[0]
    assert "too-dark" in shown[1]
    assert "checkpoint, 3 waiting" in shown[2]
    assert "boot" in shown[3]
    assert all("ok" in row for row in shown)


def test_without_a_key_everything_is_verified_and_nothing_is_shown() -> None:
    tail = watcher()
    lines = hear(tail, said(READ, CHECKPOINT))
    assert [line and line.finding for line in lines] == [Finding.NEW_EPOCH, Finding.IN_ORDER]
    assert all(line and line.record is None and "sealed" in text(line) for line in lines)
    assert tail.unopened is None


def test_with_a_key_that_is_none_of_the_recipients_the_reason_is_kept() -> None:
    tail = watcher(FileOpener(recipient_key(name="somebody else")))
    (line,) = hear(tail, said(READ))
    assert line is not None
    assert (line.record, line.code, line.alarm) == (None, "SEAL-03", None)
    assert tail.unopened is not None


def test_a_repetition_is_not_shown_again() -> None:
    tail = watcher()
    messages = said(READ, READ)
    hear(tail, messages)
    assert hear(tail, messages) == [None, None]
    assert tail.counts["repeated"] == 2


def test_a_gap_is_an_alarm_that_names_the_numbers() -> None:
    messages = said(*[CHECKPOINT] * 6)
    (*_, line) = hear(watcher(), messages[:2] + messages[4:5])
    assert line is not None
    assert line.alarm == "numbers 3 to 4 did not come (yet)"
    assert line.missing == (3, 4)


def test_a_fork_is_an_alarm() -> None:
    tail = watcher()
    messages = said(CHECKPOINT, CHECKPOINT)
    hear(tail, messages)
    start = ChainState(1, 2, messages[0].digest)
    (line,) = hear(tail, said(AUDIT, state=start))
    assert line is not None
    assert line.finding is Finding.FORK
    assert line.alarm is not None


@pytest.mark.parametrize(
    ("lane", "change", "code"),
    [("lane-1", 1, "COL-03"), ("lane-2", 0, "COL-02"), ("lane-1\x1b[31m", 0, "COL-02")],
)
def test_what_cannot_be_verified_is_an_alarm_in_clean_text(lane: str, change: int, code: str) -> None:
    data = said(READ)[0].data
    line = watcher(owner()).message(lane, data[:-1] + bytes([data[-1] ^ change]), NOW.utc_ns)
    assert line is not None
    assert (line.code, line.record) == (code, None)
    assert text(line).isprintable()
    assert "\x1b" not in json.dumps(line.to_json())


def test_a_line_of_json_has_every_field_of_the_record() -> None:
    (line,) = hear(watcher(owner()), said(READ))
    assert line is not None
    told = json.loads(json.dumps(line.to_json()))
    assert told["event"] == "message"
    assert told["delay_ms"] == 1.5
    assert told["epoch"] == "0000000000000001"
    record = told["record"]
    assert record["passage_id"] == READ.passage_id.hex()
    assert record["reading"]["text"] == "AB12CDE"
    assert record["reading"]["no_read"] is None
    assert record["reading"]["quality"]["plate_height_px"] == 34.5
    assert record["arrival"] == {"utc_ns": NOW.utc_ns, "monotonic_ns": NOW.monotonic_ns}
    assert record["ending"] == "left"


def test_a_reason_for_no_read_is_text_in_json() -> None:
    (line,) = hear(watcher(owner()), said(NO_READ))
    assert line is not None
    assert line.to_json()["record"]["reading"]["no_read"] == "too-dark"


def test_an_epoch_that_is_announced_while_tail_runs_is_no_alarm() -> None:
    enrolled = Enrolled()
    tail = Watcher(enrolled, None)
    hear(tail, said(READ, CHECKPOINT))
    enrolled.announced.append(2)
    assert [line and line.alarm for line in hear(tail, said(READ, CHECKPOINT, state=ChainState.start(2)))] == [None] * 2


class Shown:
    """A screen that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, Finding | None]] = []

    def line(self, line: Line) -> None:
        self.lines.append((line.seq, line.finding))


class Polls:
    """Stops a tail that follows, after each of `between` was called once between two polls."""

    def __init__(self, *between: Callable[[], object]) -> None:
        self._between = list(between)

    def wait(self, seconds: float) -> bool:
        if self._between:
            self._between.pop(0)()
        return not self._between


def follow(store: Store, *between: Callable[[], object]) -> list[tuple[int, Finding | None]]:
    shown = Shown()
    everything = _Wanted(frozenset(), frozenset())
    _from_store(store, watcher(), shown, everything, Polls(*between, lambda: None))  # type: ignore[arg-type]
    return shown.lines


HOUR_NS = 3600 * 10**9


def test_what_comes_after_the_collectors_clock_was_set_back_is_shown_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.sqlite"))
    messages = said(*[READ] * 7)
    store.add(messages[:3], NOW.utc_ns)
    shown = follow(
        store,
        lambda: store.add(messages[3:5], NOW.utc_ns - HOUR_NS),
        lambda: store.add(messages[5:6], NOW.utc_ns - HOUR_NS + 1),
        lambda: None,
        lambda: store.add(messages[6:], NOW.utc_ns + 1),
        lambda: None,
    )
    assert [seq for seq, _ in shown] == [1, 2, 3, 4, 5, 6, 7]


def test_a_fork_that_came_last_is_told_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.sqlite"))
    messages = said(*[READ] * 3)
    store.add([*messages, *said(READ, state=ChainState(1, 4, bytes(32)))], NOW.utc_ns)
    assert follow(store, lambda: None, lambda: None)[3:] == [(4, Finding.FORK)]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(120, ()), (80, ("km/h", "frames", "delay")), (50, ("km/h", "frames", "delay", "region", "sure"))],
)
def test_a_narrow_terminal_shows_fewer_columns_but_time_plate_and_verdict(
    width: int, left_out: tuple[str, ...]
) -> None:
    rows = hear(watcher(owner()), said(READ, NO_READ, CHECKPOINT, AUDIT, READ))
    shown = shown_at(width, rows)
    assert max(map(len, shown.splitlines())) <= width
    heading = shown.splitlines()[1]
    assert [name for name in ("UTC", "lane", "plate", "verified", *_LEFT_OUT) if name not in heading] == [*left_out]
    for row in rows:
        assert row is not None
        time, _, plate, *_, verdict = cells(row)
        assert any(f" {time} " in line and str(plate) in line and str(verdict) in line for line in shown.splitlines())


BOOT = AuditRecord(
    event="boot",
    at=NOW,
    clock=CLOCK,
    facts=(
        *(("software", "0.3.1"), ("model", "5b" * 32), ("down_from", NOW.utc_ns), ("down_to", NOW.utc_ns + HOUR_NS)),
        *(("mode", "try"), ("writes", 1), ("memory-locked", 0), ("no-exec", 1), ("scope", 0)),
    ),
)


def test_an_audit_record_is_told_in_few_words_with_times_as_times_and_ids_by_their_beginning() -> None:
    config = replace(AUDIT, event="config", facts=(("from", "ab12" * 8), ("to", "cd34" * 8)))
    trust = replace(AUDIT, event="trust", facts=(("policy", 4), ("signer", signing_key().public.fingerprint)))
    boot, changed, policy = (text(line) for line in hear(watcher(owner()), said(BOOT, config, trust)) if line)
    down = "boot: down since 2026-11-24 06:00:00"
    assert f"{down}, software 0.3.1, model 5b5b5b5b\u2026, mode try, without memory-locked, scope ok" in boot
    assert "config: from ab12ab12\u2026, to cd34cd34\u2026 ok" in changed
    assert f"trust: policy 4, signer {signing_key().public.fingerprint[:9]}\u2026 ok" in policy


def test_a_long_note_takes_no_room_from_the_lines_that_follow_it() -> None:
    shown = shown_at(80, hear(watcher(owner()), said(BOOT, READ, READ)))
    first, second = (
        next(n for n, row in enumerate(shown.splitlines()) if f" {mark} " in row) for mark in ("ok 1", "ok 2")
    )
    assert second - first <= 4


def test_the_day_stands_where_it_changes_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    tail = watcher(owner())
    screen = Screen(tail, opens=True)
    day_ns = 24 * HOUR_NS
    with screen:
        for line in hear(tail, said(READ, READ)):
            assert line is not None
            screen.line(line)
            screen.line(replace(line, time_ns=line.time_ns + (line.seq - 1) * day_ns))
    heading, columns, *shown = capsys.readouterr().out.splitlines()
    assert heading == "Signatures, order and gaps are verified."
    assert columns.split() == ["UTC", "lane", "plate", "region", "sure", "frames", "km/h", "delay", "verified"]
    assert [row[:10].strip() for row in shown] == [
        *("2026-11-24", "06:00:00", "06:00:00", "06:00:00", "2026-11-25", "06:00:00")
    ]


def test_an_alarm_in_the_table_leaves_its_row_the_time_and_the_plate() -> None:
    first, _, third = said(READ, READ, READ)
    rows = [*hear(watcher(owner()), [first, third]), watcher().message("lane-1", b"junk", NOW.utc_ns)]
    shown = shown_at(80, rows)
    assert f" {cells(rows[1])[0]} " in shown if rows[1] is not None else False
    assert "COL-03" in shown
    assert max(map(len, shown.splitlines())) <= 80
