"""Log lines: one event, one line, fit for the journal. `<priority>` CODE message key=value ...

Nothing of a plate, key or payload can be put in by mistake: a value is a number, a flag or cleaned text; plate text is
masked, bytes show only their length, and a crash is told by its type and places, never by its message.
"""

import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.errors import SealaneError, clean
from edge.record import PlateText

PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Levels as syslog priorities: what journald takes from `<n>` in front of a line (sd-daemon(3))."""
MAX_LINE = 1000
"""Most characters of one line."""


def setup(verbose: bool = False) -> None:
    """Send log lines to standard error: with a priority in front if the journal reads it, else with time and level.

    Other people's libraries are heard from WARNING on. Crashes of any thread become one line too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(for_journal=_stderr_is_journal()))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for ours in ("edge", "drivers", "central"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    sys.excepthook = _crash
    threading.excepthook = lambda args: _crash(args.exc_type, args.exc_value, args.exc_traceback)


def event(logger: logging.Logger, level: int, code: str, message: str, **facts: Any) -> None:
    """Log one event. `code`: an error's code or a stable word; `message`: constant text; what varies is in `facts`."""
    if logger.isEnabledFor(level):
        parts = [code, message, *(f"{key}={_value(value)}" for key, value in facts.items())]
        logger.log(level, "%s", " ".join(parts))


def error(logger: logging.Logger, what: SealaneError, level: int = logging.ERROR, **facts: Any) -> None:
    """Log an error of ours with its code."""
    event(logger, level, what.code, what.what, **facts)


class _Line(logging.Formatter):
    """Every record, ours or a library's, as one bounded line of printable ASCII; tracebacks are left out."""

    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        line = clean(record.getMessage(), MAX_LINE)
        if record.exc_info and record.exc_info[0]:
            line += f" exception={record.exc_info[0].__name__} at={places(record.exc_info[2])}"
        if self._for_journal:
            return f"<{PRIORITY.get(record.levelno, 5)}>{line}"
        clock = time.strftime("%H:%M:%S", time.gmtime(record.created))
        return f"{clock}.{int(record.msecs):03d} {record.levelname.lower():8} {line}"


def places(trace: TracebackType | None, limit: int = 6) -> str:
    """Where a traceback went, innermost first: `file.py:12<file.py:3`. No values, no source text."""
    frames = traceback.extract_tb(trace)[-limit:]
    return "<".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))


def _crash(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    what = clean(value) if isinstance(value, SealaneError) else "unexpected"
    event(logging.getLogger("edge"), logging.CRITICAL, "LANE-00", what, exception=kind.__name__, at=places(trace))


def _value(value: object) -> str:
    if isinstance(value, PlateText):
        return repr(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = clean(value)
    return text if text and " " not in text and '"' not in text else '"' + text.replace('"', "'") + '"'


def _stderr_is_journal() -> bool:
    """Whether standard error goes to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    stat = os.fstat(2)
    return stream == f"{stat.st_dev}:{stat.st_ino}"
