"""How `sealane tail` shows what a Watcher found: lines of JSON for programs, a live table or plain rows for people."""

import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from central.lanes import at
from central.watcher import Line, Watcher
from edge.errors import MqttError
from edge.record import AuditRecord, CheckpointRecord, GapRecord, ReadRecord
from edge.seal import receipt
from edge.seal.chain import Finding

if TYPE_CHECKING:
    from rich.console import Group, OverflowMethod
    from rich.table import Table
    from rich.text import Text

ROWS = 30
ALARMS = 6


class Lines:
    """For programs: one JSON object a line. docs/owner-guide.md lists the fields."""

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, line: Line) -> None:
        self._write(line.to_json())

    def receipt(self, said: receipt.Receipt) -> None:
        self._write(
            {
                "event": "receipt",
                "lane": said.lane,
                "epoch": f"{said.epoch:016x}",
                "up_to": said.up_to_seq,
                "time_ns": said.time_ns,
                "heard_monotonic_ns": time.monotonic_ns(),
            }
        )

    def trouble(self, error: MqttError) -> None:
        self._write({"event": "trouble", "code": error.code, "what": error.what})

    def _write(self, fields: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


class Screen:
    """For people: a live table, newest last, alarms above it; plain lines where there is no terminal."""

    def __init__(self, watcher: Watcher, opens: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._watcher = watcher
        self._opens = opens
        self._lines: deque[Line] = deque(maxlen=ROWS)
        self._alarms: deque[Line] = deque(maxlen=ALARMS)
        self._alarm_count = 0
        self._trouble: MqttError | None = None
        self._console = Console(highlight=False)
        self._live = (
            Live(get_renderable=self._picture, console=self._console, refresh_per_second=4)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._heading())
            self._console.print("  ".join(filter(None, (heading for heading, _ in _COLUMNS))), style="dim")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, line: Line) -> None:
        self._trouble = None
        before = self._lines[-1] if self._lines else None
        self._lines.append(line)
        if line.alarm is not None:
            self._alarms.append(line)
            self._alarm_count += 1
        if self._live is None:
            from rich.text import Text

            for row in dated([line], before):
                self._console.print(Text("  ").join(cell for cell in row if cell.plain), soft_wrap=True)

    def receipt(self, said: receipt.Receipt) -> None:
        pass

    def trouble(self, error: MqttError) -> None:
        self._trouble = error
        if self._live is None:
            self._console.print(f"{error.code} {error.what}", markup=False)

    def _heading(self) -> "Text":
        from rich.text import Text

        if self._trouble is not None:
            return Text(f"{self._trouble.code} {self._trouble.what}: {self._trouble.hint}", "bold yellow")
        if not self._opens:
            return Text("Without a key: signatures, order and gaps are verified; contents stay sealed.", "cyan")
        if self._watcher.unopened is not None:
            return Text(f"{self._watcher.unopened}: {self._watcher.unopened.hint}", "bold yellow")
        return Text("Signatures, order and gaps are verified.", "dim")

    def _picture(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        width = self._console.width
        alarms = [
            Text(
                f"ALARM {_day(line.received_ns)} {_clock(line.received_ns)} {line.lane} {line.seq or ''} {line.alarm}",
                "bold white on red",
            )
            for line in self._alarms
        ]
        days = len({_day(_moment(line)) for line in self._lines})
        rows = max(3, self._console.height - 8 - days - sum(1 + alarm.cell_len // width for alarm in alarms))
        table = fitted(dated(list(self._lines)[-rows:]), width)
        counts = ", ".join(f"{count} {what}" for what, count in self._watcher.counts.items()) or "nothing heard yet"
        summary = f"{counts}, {self._alarm_count} alarms   Ctrl-C ends"
        return Group(self._heading(), *alarms, table, Text(summary, "dim"))


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("UTC", "left"),
    ("lane", "left"),
    ("plate", "left"),
    ("region", "left"),
    ("sure", "right"),
    ("frames", "right"),
    ("km/h", "right"),
    ("delay", "right"),
    ("", "left"),
    ("verified", "left"),
)
_NOTE_AT = _COLUMNS.index(("", "left"))
_LEFT_OUT = ("km/h", "frames", "delay", "region", "sure", "", "lane")
"""What a narrow terminal does without, the least important first."""
_SPACE = 2
"""Blanks that a column takes beside its text."""
_NOTE, _VERDICT = 16, 20
"""So wide the last columns may be before others are left out for them; an alarm is told whole above the table."""
_NOTE_LINES = 3
"""So many of its width a note may have in the table; without a terminal it is told whole."""


def fitted(rows: "Sequence[Sequence[Text]]", width: int) -> "Table":
    """`rows` of `cells` as a table of at most `width` columns of text: never without UTC, plate and verdict."""
    from rich import box
    from rich.table import Table

    widest = {
        heading: max([len(heading), *(row[index].cell_len for row in rows)])
        for index, (heading, _) in enumerate(_COLUMNS)
    }
    least = widest | {"": min(widest[""], _NOTE), "verified": min(widest["verified"], _VERDICT)}
    left_out: list[str] = []
    room = width - sum(_SPACE + needed for needed in least.values())
    for heading in _LEFT_OUT:
        if room < 0:
            room += _SPACE + least[heading]
            left_out.append(heading)
    verdict = max(1, min(widest["verified"], least["verified"] + room))
    most = {"verified": verdict, "": max(1, least[""] + room + least["verified"] - verdict)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown = [index for index, (heading, _) in enumerate(_COLUMNS) if heading not in left_out]
    for heading, justify in (_COLUMNS[index] for index in shown):
        overflow: OverflowMethod = "ellipsis" if heading else "fold"
        table.add_column(
            heading, justify=justify, no_wrap=heading != "", overflow=overflow, max_width=most.get(heading)
        )
    for row in rows:
        row[_NOTE_AT].truncate(_NOTE_LINES * most[""], overflow="ellipsis")
        table.add_row(*(row[index] for index in shown))
    return table


def dated(lines: Iterable[Line], before: Line | None = None) -> "list[tuple[Text, ...]]":
    """The rows of `lines`, with the day in a row of its own where it is another one than of the line before."""
    from rich.text import Text

    rows: list[tuple[Text, ...]] = []
    for line in lines:
        if before is None or _day(_moment(before)) != _day(_moment(line)):
            rows.append((Text(_day(_moment(line)), "dim"), *(Text() for _ in _COLUMNS[1:])))
        rows.append(cells(line))
        before = line
    return rows


def cells(line: Line) -> "tuple[Text, ...]":
    """One row. Whatever comes from a record is printed as it is, never as markup."""
    from rich.text import Text

    told = [Text() for _ in range(5)]
    note = Text({"r": "", "c": "checkpoint", "g": "given up", "a": "audit"}.get(line.kind, "refused"), "dim")
    match line.record:
        case ReadRecord(reading=reading, speed_kmh=speed, restarted=restarted):
            plate = (
                Text(str(reading.text), "bold") if reading.text is not None else Text(str(reading.no_read), "yellow")
            )
            told = [
                plate,
                Text(reading.region if reading.text else ""),
                Text(f"{reading.confidence:.3f}" if reading.text else ""),
                Text(f"{reading.frames_agreeing}/{reading.frames_used}"),
                Text("" if speed is None else f"{speed:.0f}"),
            ]
            note = Text("restarted" if restarted else "", "yellow")
        case CheckpointRecord(outbox_depth=depth):
            note = Text(f"checkpoint, {depth} waiting" if depth else "checkpoint", "dim")
        case GapRecord(first_seq=first, last_seq=last, reason=reason):
            note = Text(f"{first} to {last} given up: {reason}", "yellow")
        case AuditRecord():
            note = Text(_told(line.record), "magenta")
        case None if line.finding is not None:
            told[0] = Text("sealed" if line.code is None else line.code, "dim" if line.code is None else "yellow")
    if line.alarm is not None:
        mark = Text(f"{line.code or ''} {line.alarm}".strip(), "bold red")
    else:
        mark = Text(f"ok {line.seq}" + ("" if line.finding is Finding.IN_ORDER else f" {line.finding}"), "green")
    delay = Text(f"{line.delay_ms:.0f} ms" if line.time_ns else "")
    return (Text(_clock(_moment(line)), "dim"), Text(line.lane), *told, delay, note, mark)


def _told(said: AuditRecord) -> str:
    """Its facts in few words: down times first, ids by their beginning, and of what confines a lane only what is off.

    `--json` has all of them as they are.
    """
    told: list[str] = []
    off: list[str] = []
    for name, value in said.facts:
        if name == "down_from" and isinstance(value, int):
            told.insert(0, f"down since {_day(value)} {_clock(value)}")
        elif said.event == "boot" and value in (0, 1):
            off += [] if value else [name]
        elif name != "down_to":  # the line's own time
            told.append(f"{name} {_LONG_ID.sub(_beginning, str(value))}")
    told += [f"without {', '.join(off)}"] if off else []
    return f"{said.event}: {', '.join(told)}" if told else said.event


_LONG_ID = re.compile(r"[0-9a-f]{17,}|[0-9a-f]{4}( [0-9a-f]{4}){4,}")


def _beginning(found: re.Match[str]) -> str:
    return found[0][: 9 if " " in found[0] else 8] + "\u2026"


def _moment(line: Line) -> int:
    """When it was sealed, or, of what could not be verified, when it came."""
    return line.time_ns or line.received_ns


def _day(utc_ns: int) -> str:
    return at(utc_ns).strftime("%Y-%m-%d")


def _clock(utc_ns: int) -> str:
    return at(utc_ns).strftime("%H:%M:%S")
