"""How many of the simulator's daylight vehicles are read exactly, frame for frame as the daemon takes them.

python -m tests.campaign.daylight --vehicles 100 --seed 5
"""

import itertools
import sys
from typing import Annotated

import cv2
import numpy as np
import typer
from hw_sim.scenario import changed, load
from hw_sim.show import placed, world_of
from hw_sim.traffic import Drive, OnRoad, rides

from edge.reading.fuse import Vote
from edge.reading.reader import PlateReader
from edge.record import PlateReading

PERIOD_S = 0.04
AROUND_S = 0.6
"""Frames from this long before the loop's edge until this long after the vehicle left belong to the visit."""
MOST_FRAMES = 24


def main(vehicles: Annotated[int, typer.Option(min=1)] = 100, seed: Annotated[int, typer.Option(min=0)] = 5) -> None:
    scenario = changed(load("day"), traffic={"vehicles": vehicles, "seed": seed})
    world, reader = world_of(scenario), PlateReader()

    def read(ride: Drive) -> PlateReading:
        """From the edge on and, in turn, back: what `edge.visit` does while it waits for the next frame."""
        vote = Vote()
        arrival_s, departure_s = ride.presence(0)
        steps = range(int((departure_s - arrival_s + AROUND_S) / PERIOD_S))
        back = range(-1, -int(AROUND_S / PERIOD_S) - 1, -1)
        turns = itertools.chain.from_iterable(itertools.zip_longest(steps, back))
        for step in itertools.islice((turn for turn in turns if turn is not None), MOST_FRAMES):
            one = placed(OnRoad(ride, 0), int((arrival_s + step * PERIOD_S) * 1e9))
            sent = cv2.imencode(".jpg", world.frame([one] if one else []), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            vote.add(reader.read_frame(np.asarray(cv2.imdecode(sent, cv2.IMREAD_COLOR), np.uint8)), None, None)
            if vote.settled:
                break
        return vote.result()

    exact = frames = 0
    for ride in rides(scenario, None):
        assert isinstance(ride, Drive)
        truth, reading = ride.truth()["text"], read(ride)
        exact += reading.text == truth
        frames += reading.frames_seen
        if reading.text != truth:
            sys.stdout.write(f"{truth} was read as {reading.text!s}\n")
    sys.stdout.write(f"{exact} of {vehicles} exact, {frames / vehicles:.1f} frames each\n")


if __name__ == "__main__":
    typer.run(main)
