"""The `hw-sim` command. Only the subcommand that was asked for is imported."""

import sys
from importlib import import_module

import typer

from edge.__main__ import report
from edge.errors import SealaneError

COMMANDS = {
    "bench": "hw_sim.bench",
    "broker": "hw_sim.broker",
    "detector": "hw_sim.hand",
    "frame": "hw_sim.frame",
    "lane": "hw_sim.lane",
}
"""Subcommand -> the module whose function `command` it is."""


def main() -> None:
    """Run one subcommand; an error of ours becomes its code, what happened and a hint, and exit status 2."""
    asked_for = sys.argv[1] if len(sys.argv) > 1 else ""
    app = typer.Typer(name="hw-sim", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback()
    def hw_sim() -> None:
        """A lane without a lane: rendered vehicles, camera, detector and the bench for sealane."""

    for name in [asked_for] if asked_for in COMMANDS else COMMANDS:
        app.command(name)(import_module(COMMANDS[name]).command)
    try:
        app()
    except SealaneError as error:
        report(error)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
