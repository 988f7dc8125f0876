"""`hw-sim detector`: only the detector's wire, switched by hand, for a technician's bench."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    rfc2217_port: Annotated[int, typer.Option(min=0, max=65535, help="Contacts on modem lines; 0: any free one.")] = 0,
    pty: Annotated[Path | None, typer.Option(help="Modbus RTU on this pseudo terminal instead.")] = None,
    loops: Annotated[int, typer.Option(min=1, max=2)] = 1,
    bounce_ms: Annotated[float, typer.Option(min=0, max=50)] = 3,
) -> None:
    """A detector without a road. Lines on standard input: `1` or `2` switches that loop's presence, `f1` or `f2` its
    fault, `q` ends it."""
    from hw_sim.detector import ContactEnd, End, ModbusEnd, Outputs
    from hw_sim.scenario import Detector

    wiring = Detector(loops=loops, bounce_ms=bounce_ms)
    outputs = Outputs(loops)
    end: End = (
        ContactEnd(outputs, host, rfc2217_port, wiring.presence_lines, wiring.fault_lines)
        if pty is None
        else ModbusEnd(outputs, pty)
    )
    typer.echo(f"{end.url}: 1, 2: presence; f1, f2: fault; q: quit")
    try:
        for line in sys.stdin:
            key = line.strip()
            if key == "q":
                break
            relays = outputs.fault if key.startswith("f") else outputs.presence
            loop = {"1": 0, "2": 1}.get(key.removeprefix("f"))
            if loop is None or loop >= loops:
                typer.echo("?")
                continue
            outputs.bounce(relays, loop, not relays[loop], bounce_ms / 1e3)
            typer.echo(f"presence {outputs.presence} fault {outputs.fault}")
    finally:
        end.close()
