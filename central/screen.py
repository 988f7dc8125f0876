"""How `sealane tail` shows what a Watcher found: lines of JSON for programs, a live table or plain rows for people."""

import json
import sys
import time
from collections import deque
from collections.abc import Sequence
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
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, line: Line) -> None:
        self._trouble = None
        self._lines.append(line)
        if line.alarm is not None:
            self._alarms.append(line)
            self._alarm_count += 1
        if self._live is None:
            from rich.text import Text

            self._console.print(Text("  ").join(cell for cell in cells(line) if cell.plain), soft_wrap=True)

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
            Text(f"ALARM {_clock(line.received_ns)} {line.lane} {line.seq or ''} {line.alarm}", "bold white on red")
            for line in self._alarms
        ]
        rows = max(3, self._console.height - 8 - sum(1 + alarm.cell_len // width for alarm in alarms))
        table = fitted([cells(line) for line in list(self._lines)[-rows:]], width)
        counts = ", ".join(f"{count} {what}" for what, count in self._watcher.counts.items()) or "nothing heard yet"
        summary = f"{counts}, {self._alarm_count} alarms   Ctrl-C ends"
        return Group(self._heading(), *alarms, table, Text(summary, "dim"))


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("time", "left"),
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
_LEFT_OUT = ("km/h", "frames", "delay", "region", "sure", "", "lane")
"""What a narrow terminal does without, the least important first."""
_SPACE = 2
"""Blanks that a column takes beside its text."""
_NOTE, _VERDICT = 12, 20
"""So wide the last columns may be before others are left out for them; an alarm is told whole above the table."""


def fitted(rows: "Sequence[Sequence[Text]]", width: int) -> "Table":
    """`rows` of `cells` as a table of at most `width` columns of text: never without time, plate and verdict."""
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
        table.add_row(*(row[index] for index in shown))
    return table


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
            note = Text(f"checkpoint, {depth} waiting", "dim")
        case GapRecord(first_seq=first, last_seq=last, reason=reason):
            note = Text(f"{first} to {last} given up: {reason}", "yellow")
        case AuditRecord(event=event, facts=facts):
            note = Text(" ".join([event, *(f"{name}={value}" for name, value in facts)]), "magenta")
        case None if line.finding is not None:
            told[0] = Text("sealed" if line.code is None else line.code, "dim" if line.code is None else "yellow")
    if line.alarm is not None:
        mark = Text(f"{line.code or ''} {line.alarm}".strip(), "bold red")
    else:
        mark = Text(f"ok {line.seq}" + ("" if line.finding is Finding.IN_ORDER else f" {line.finding}"), "green")
    delay = Text(f"{line.delay_ms:.0f} ms" if line.time_ns else "")
    return (Text(_clock(line.time_ns or line.received_ns), "dim"), Text(line.lane), *told, delay, note, mark)


def _clock(utc_ns: int) -> str:
    return at(utc_ns).strftime("%H:%M:%S")
