"""`sealane explain`: why were vehicles not read? In words, from the running lane or from opened records."""

import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge.explain import Visit

MAX_LINE_BYTES = 65536
"""Longest line of records taken from standard input."""


def command(
    records: Annotated[
        str, typer.Argument(help="Opened records, lines of `tail --json`: a file, or - for standard input.")
    ] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane to ask.")] = Path("/etc/sealane/lane.toml"),
    last: Annotated[int, typer.Option("--last", "-n", min=1, max=100, help="How many visits, the newest last.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each visit.")] = False,
) -> None:
    """Say in words why vehicles were not read, with what is needed and what to do."""
    from dataclasses import asdict

    from rich.console import Console

    from edge.explain import explain

    console = Console(highlight=False, soft_wrap=True)
    visits = list(deque(_from_records(records) if records else _from_lane(config), maxlen=last))
    if as_json:
        for visit in visits:
            typer.echo(json.dumps({**asdict(explain(visit)), "visit": asdict(visit)}))
        return
    for visit in visits:
        explanation = explain(visit)
        console.print(f"[bold]{explanation.outcome}[/]")
        for finding in explanation.findings:
            console.print(f"  {finding.found}\n    [cyan]{finding.do}[/]")
    if not visits:
        console.print("No read is among these lines." if records else "No vehicle passed yet.")


def _from_lane(config: Path) -> "Iterator[Visit]":
    from edge import control
    from edge.config import load
    from edge.explain import from_json

    for value in control.ask(control.socket_path(load(config).state.directory), "visits"):
        yield from_json(value)


def _from_records(source: str) -> "Iterator[Visit]":
    from edge.errors import VisitUnknown, clean

    if source == "-":
        yield from _from_lines(sys.stdin.buffer)
        return
    try:
        with Path(source).open("rb") as file:
            yield from _from_lines(file)
    except OSError as error:
        raise VisitUnknown(f"cannot read {clean(source)}: {error.strerror}") from error


def _from_lines(lines: "IO[bytes]") -> "Iterator[Visit]":
    """The opened read records among the lines of `sealane tail --json`. VisitUnknown if there are sealed ones only."""
    from edge.errors import VisitUnknown
    from edge.explain import from_fields

    opened = sealed = 0
    for line in iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""):
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise VisitUnknown("a line that is not JSON, or too long") from error
        if not isinstance(message, dict) or message.get("kind") != "r":
            continue
        if isinstance(message.get("record"), dict):
            opened += 1
            yield from_fields(message["record"])
        else:
            sealed += 1
    if sealed and not opened:
        raise VisitUnknown(f"none of {sealed} reads was opened")
