"""The `sealane` command: finds its subcommands by name in the entry-point group `sealane.commands`.

Only the subcommand that was asked for is imported, so that `sealane run` can confine itself before numpy or OpenCV
start their threads, and a lane box needs nothing of central.
"""

import sys
from importlib.metadata import EntryPoint, entry_points

import typer
from rich.console import Console

from edge.errors import CommandUnavailable, SealaneError

GROUP = "sealane.commands"


def main() -> None:
    """Run one subcommand; an error of ours becomes its code, what happened and a hint, and exit status 2."""
    try:
        _app(sys.argv[1] if len(sys.argv) > 1 else "")()
    except SealaneError as error:
        report(error)
        raise SystemExit(2) from None


def report(error: SealaneError) -> None:
    """Show an error to a person on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{error.code}[/]", end=" ")
    console.print(error.what, markup=False)
    console.print("[dim]hint:[/]", end=" ")
    console.print(error.hint, markup=False)


def _app(asked_for: str) -> typer.Typer:
    app = typer.Typer(
        name="sealane",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def sealane() -> None:
        """Plate reads from a vehicle lane: read on the box, sealed for the owner, no image kept."""

    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in [p for p in found if p.name == asked_for] or found:
        _add(app, point, needed=point.name == asked_for)
    return app


def _add(app: typer.Typer, point: EntryPoint, *, needed: bool) -> None:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        if needed:
            raise CommandUnavailable(f"`sealane {point.name}` needs the package {error.name}") from error
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=point.name)
    else:
        app.command(point.name)(command)


if __name__ == "__main__":
    main()
