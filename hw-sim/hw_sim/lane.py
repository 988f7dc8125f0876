"""`hw-sim lane`: a whole lane on its real wires: camera, detector and the vehicles between them."""

import contextlib
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from hw_sim.clock import LaneClock

HELP_SPEED = "Slowest and fastest in km/h, for example 5-130."


def command(
    scenario: Annotated[str, typer.Option(help="A file of hw-sim/scenarios, or the path of one.")] = "day",
    vehicles: Annotated[int | None, typer.Option(min=0, help="How many; 0: without end.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed, the same vehicles.")] = None,
    speed: Annotated[str | None, typer.Option(help=HELP_SPEED)] = None,
    headway_s: Annotated[float | None, typer.Option(min=0, help="Between two vehicles, at least.")] = None,
    style: Annotated[
        list[str] | None, typer.Option(help="Plate style, for example de or us-ny; may be repeated.")
    ] = None,
    night: Annotated[bool | None, typer.Option("--night/--day", help="Infrared lamp, or daylight.")] = None,
    rain: Annotated[float | None, typer.Option(min=0, max=1, help="0: dry, 1: a cloudburst.")] = None,
    frames: Annotated[Path | None, typer.Option(help="A folder of photographs, each in a vehicle's place.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    camera_port: Annotated[int, typer.Option(min=0, max=65535, help="MJPEG over HTTP; 0: any free one.")] = 0,
    camera_login: Annotated[str | None, typer.Option(help="user:password that the camera asks for.")] = None,
    rfc2217_port: Annotated[int, typer.Option(min=0, max=65535, help="Detector's contacts; 0: any free one.")] = 0,
    pty: Annotated[Path | None, typer.Option(help="Modbus RTU detector on this pseudo terminal instead.")] = None,
    start_held: Annotated[bool, typer.Option(help="Wait for `go` on standard input.")] = False,
    truth: Annotated[str, typer.Option(help="Where the truth goes, as JSON lines; -: standard output.")] = "-",
) -> None:
    """Render vehicles, serve them as an IP camera does, and drive the detector's wire in step.

    Standard input takes `hold` (all stand still where they are), `go` and `quit`. After the last vehicle the lane stays
    as it is, empty.
    """
    import cv2

    from hw_sim.camera import CameraServer, Shutter
    from hw_sim.detector import ContactEnd, End, ModbusEnd, Outputs
    from hw_sim.scenario import changed, load
    from hw_sim.show import Show
    from hw_sim.traffic import Traffic, rides

    what = changed(
        load(scenario),
        traffic={"vehicles": vehicles, "seed": seed, "speed_kmh": speed, "headway_s": headway_s, "styles": style},
        camera={"night": night, "rain": rain},
    )
    cv2.setNumThreads(1)  # the reader's cores are not ours
    sys.setswitchinterval(0.0005)  # the detector's edges must not wait for the picture
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with contextlib.ExitStack() as stack:
        out = sys.stdout if truth == "-" else stack.enter_context(Path(truth).open("w"))
        lock = threading.Lock()

        def say(line: dict[str, Any]) -> None:
            with lock:
                print(json.dumps(line), file=out, flush=True)

        failures: list[BaseException | None] = []

        def fail(broken: threading.ExceptHookArgs) -> None:
            failures.append(broken.exc_value)
            stopping.set()

        threading.excepthook = fail  # a lane of which a part died is no lane
        outputs = Outputs(what.detector.loops)
        clock = LaneClock(held=start_held)
        traffic = Traffic(what, rides(what, frames), outputs, clock, say)
        show = Show(what, traffic.road)
        shutter = Shutter(lambda: show.frame(clock.now_ns()), what.camera.fps)
        stack.callback(shutter.close)
        camera = CameraServer(shutter, host, camera_port, camera_login)
        stack.callback(camera.close)
        end: End = (
            ContactEnd(outputs, host, rfc2217_port, what.detector.presence_lines, what.detector.fault_lines)
            if pty is None
            else ModbusEnd(outputs, pty)
        )
        stack.callback(end.close)
        say({"event": "ready", "camera": camera.url, "detector": end.url})
        traffic.start()
        stack.callback(traffic.join)
        stack.callback(clock.close)
        threading.Thread(target=_obey, args=(clock, stopping), name="control", daemon=True).start()
        stopping.wait()
        for failure in failures:
            raise failure or RuntimeError("a thread ended")


def _obey(clock: LaneClock, stopping: threading.Event) -> None:
    """Lines on standard input; its end changes nothing."""
    verbs = {"hold": clock.hold, "go": clock.go, "quit": stopping.set}
    for line in sys.stdin:
        verbs.get(line.strip(), lambda: None)()
