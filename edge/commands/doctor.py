"""`sealane doctor`: what the running lane and its box lack, and what to do about it."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane.")] = Path("/etc/sealane/lane.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each check.")] = False,
) -> None:
    """Check the running lane and its box. Ends with 1 if anything needs doing."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from drivers.clock import Clock
    from edge import control
    from edge.config import load
    from edge.doctor import checks

    path = control.socket_path(load(config).state.directory)
    swaps = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    found = list(checks(control.ask(path, "status"), control.ask(path, "confinement"), Clock().read(), swaps))
    console = Console(highlight=False, soft_wrap=True)
    for check in found:
        if as_json:
            typer.echo(json.dumps(asdict(check)))
            continue
        console.print(f"{'[green]ok  [/]' if check.good else '[red]FAIL[/]'} {check.what:18} {escape(check.found)}")
        if check.do:
            console.print(f"{'':24}[cyan]{escape(check.do)}[/]")
    raise typer.Exit(0 if all(check.good for check in found) else 1)
