"""`hw-sim frame`: one rendered frame as a picture, for documents. It never holds anything but rendered plates."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="The picture: .png or .jpg.")],
    scenario: Annotated[str, typer.Option(help="A file of hw-sim/scenarios, or the path of one.")] = "day",
    vehicle: Annotated[int, typer.Option(min=1, help="Which vehicle of the scenario.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    speed: Annotated[str | None, typer.Option(help="Slowest and fastest in km/h, for example 5-130.")] = None,
    style: Annotated[
        list[str] | None, typer.Option(help="Plate style, for example de or us-ny; may be repeated.")
    ] = None,
    night: Annotated[bool | None, typer.Option("--night/--day")] = None,
    rain: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    past_m: Annotated[float, typer.Option(help="How far the front is past the loop's leading edge.")] = 0.5,
    width: Annotated[int, typer.Option(min=160, max=1920, help="Width of the picture, px.")] = 1280,
) -> None:
    """Write one frame of a rendered vehicle on the loop."""
    import cv2

    from hw_sim.scenario import changed, load
    from hw_sim.show import LOOP_Y_M, world_of
    from hw_sim.traffic import Drive, rides
    from hw_sim.world import Placed

    what = changed(
        load(scenario),
        traffic={"vehicles": vehicle, "seed": seed, "speed_kmh": speed, "styles": style},
        camera={"night": night, "rain": rain},
    )
    *_, ride = rides(what, None)
    if isinstance(ride, Drive):
        picture = world_of(what).frame([Placed(ride.vehicle, LOOP_Y_M - past_m, ride.motion.speed_mps)])
        height = round(picture.shape[0] * width / picture.shape[1])
        cv2.imwrite(str(out), cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
