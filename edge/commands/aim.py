"""`sealane aim`: point the camera by numbers, and where the owner allows it by a mosaic on a local page."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_S = 0.5
BAR_WIDTH = 30


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane.")] = Path("/etc/sealane/lane.toml"),
    picture: Annotated[bool, typer.Option("--picture", help="Also serve the mosaic page on this box.")] = False,
    port: Annotated[int, typer.Option("--port", min=1024, max=65535, help="Of the page, on 127.0.0.1.")] = 8077,
) -> None:
    """Show plate height, sharpness, exposure, skew and loop state of the running lane, for ten minutes at most."""
    from contextlib import nullcontext, suppress

    from rich.console import Console
    from rich.live import Live

    from edge import control
    from edge.aim.page import serve
    from edge.config import load
    from edge.errors import AimOff, ControlRefused

    path = control.socket_path(load(config).state.directory)
    console = Console()
    control.ask(path, "aim-start-picture" if picture else "aim-start")
    try:
        with serve(port, lambda: control.ask(path, "aim-view")) if picture else nullcontext() as address:
            if address:
                console.print(f"The page: {address}  (from a laptop: ssh -L {port}:localhost:{port} BOX)")
            with Live(console=console, refresh_per_second=4) as live:
                while True:
                    live.update(_gauges(control.ask(path, "aim-view")))
                    time.sleep(REFRESH_S)
    except (KeyboardInterrupt, ControlRefused) as end:
        if isinstance(end, ControlRefused) and end.answered != AimOff.code:
            raise
        console.print("The session is over.")  # by hand, or because the time is
    finally:
        with suppress(ControlRefused):  # it was over already
            control.ask(path, "aim-stop")


def _gauges(answer: dict[str, Any]) -> "Table":
    from rich.table import Table

    from edge.aim.gauge import GAUGES

    table = Table(
        "", "now", "", "needed", title=f"loop {answer['loop']}, {answer['left_s'] / 60:.0f} min left", box=None
    )
    if answer["view"] is None:
        table.add_row("waiting for a frame")
        return table
    measures = answer["view"]["measures"]
    for gauge in GAUGES:
        needed = f"at {'least' if gauge.more else 'most'} {gauge.text(gauge.limit)}"
        value = gauge.value(measures)
        if value is None:
            table.add_row(gauge.label, "-", "", needed)
        else:
            bar = "█" * round(min(1.0, abs(value) / gauge.full) * BAR_WIDTH)
            colour = "green" if gauge.good(value) else "red"
            table.add_row(gauge.label, gauge.text(value), f"[{colour}]{bar:<{BAR_WIDTH}}[/]", needed)
    table.add_row("plates in frame", str(measures["plates"]), "", "1")
    return table
