"""Who drives through the lane and when: keeps the road and the detector in step, and says the truth of each passage."""

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import PlateStyleUnknown
from hw_sim.clock import LaneClock
from hw_sim.detector import Outputs
from hw_sim.motion import Motion
from hw_sim.photos import Photo, photos
from hw_sim.scenario import Scenario, Trouble
from hw_sim.vehicle import Vehicle, build, plain_plate
from models.train.render import STYLES

PHOTO_S = 1.0
"""How long a photograph stands before the camera, on the loop."""

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Drive:
    """A rendered vehicle that drives through; seconds count from when it comes into view."""

    vehicle: Vehicle
    motion: Motion
    spacing_m: float

    @property
    def gone_s(self) -> float:
        """Until it is out of sight."""
        return self.motion.gone_s

    def after(self, before: "Ride", clear_s: float) -> float:
        """When it may come into view, on the clock of the ride before; not onto the loop before `clear_s`."""
        return self.motion.follows(before.motion, clear_s) if isinstance(before, Drive) else clear_s

    def presence(self, loop: int) -> tuple[float, float]:
        """When a loop feels it come and go, s."""
        return self.motion.presence(loop * self.spacing_m)

    def truth(self) -> dict[str, Any]:
        """What it is; `text` is what a reader must say."""
        plate = self.vehicle.truth
        return {
            "text": plate.text,
            "region": plate.region,
            "style": plate.style,
            "speed_kmh": round(self.motion.speed_mps * 3.6, 1),
            "length_m": round(self.motion.length_m, 2),
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """A photograph that takes a vehicle's place, with the same members as Drive."""

    photo: Photo

    @property
    def gone_s(self) -> float:
        return PHOTO_S

    def after(self, before: "Ride", clear_s: float) -> float:
        return clear_s

    def presence(self, loop: int) -> tuple[float, float]:
        return 0.1 * loop, PHOTO_S + 0.1 * loop

    def truth(self) -> dict[str, Any]:
        return {"text": self.photo.text, "image": self.photo.name}


Ride = Drive | Shown


@dataclass(frozen=True, slots=True)
class OnRoad:
    """A ride under way, and when it came into view."""

    ride: Ride
    start_ns: int

    def seconds(self, at_ns: int) -> float:
        return (at_ns - self.start_ns) / 1e9


def rides(scenario: Scenario, folder: Path | None) -> Iterator[Ride]:
    """What passes, in order; the same seed yields the same vehicles. Raises PlateStyleUnknown, PhotosMissing."""
    traffic = scenario.traffic
    unknown = [style for style in traffic.styles if style not in STYLES]
    if unknown:
        raise PlateStyleUnknown(f"no plate style {unknown[0]}; there are: {', '.join(STYLES)}")
    all_of_them: Iterator[Ride] = _drives(scenario) if folder is None else (Shown(photo) for photo in photos(folder))
    return itertools.islice(all_of_them, traffic.vehicles or None)


def _drives(scenario: Scenario) -> Iterator[Drive]:
    traffic = scenario.traffic
    slowest, fastest = traffic.speed_kmh
    for n in itertools.count(1):
        rng = np.random.default_rng((traffic.seed, n))
        style = str(rng.choice(traffic.styles)) if traffic.styles else None
        speed_kmh = slowest * (fastest / slowest) ** rng.random()
        vehicle = build(rng, plain_plate(rng, style), night=scenario.camera.night)
        motion = Motion(float(speed_kmh / 3.6), vehicle.body.length, stand_s=traffic.stand_s)
        yield Drive(vehicle, motion, scenario.detector.spacing_m)


class Road:
    """What is under way now: written by the traffic, read by the camera."""

    def __init__(self) -> None:
        self._rides: tuple[OnRoad, ...] = ()
        self._lock = threading.Lock()

    def enter(self, one: OnRoad) -> None:
        with self._lock:
            self._rides = (*self._rides, one)

    def at(self, at_ns: int) -> tuple[OnRoad, ...]:
        """The rides in sight at that moment; those that are out of it are forgotten."""
        with self._lock:
            self._rides = tuple(one for one in self._rides if one.seconds(at_ns) < one.ride.gone_s)
            return self._rides


class Traffic:
    """Sends the rides through one after the other, in a thread of its own, by the lane's clock.

    `say` gets one line for each: {"event": "vehicle", "n", "text", "arrival_ns", "departure_ns", ...} when it has left
    the (last) loop, {"event": "trouble", ...} for each trouble, {"event": "end", "vehicles"} after the last.
    """

    def __init__(
        self,
        scenario: Scenario,
        passing: Iterator[Ride],
        outputs: Outputs,
        clock: LaneClock,
        say: Say,
    ) -> None:
        self.road = Road()
        self._clock = clock
        self._scenario = scenario
        self._passing = passing
        self._outputs = outputs
        self._say = say
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Once the clock is closed: until nothing is switched or drawn any more."""
        self._thread.join()

    def _run(self) -> None:
        headway_s = self._scenario.traffic.headway_s
        troubles = {trouble.after: trouble for trouble in self._scenario.trouble}
        followers: list[threading.Thread] = []
        last: OnRoad | None = None
        earliest_ns = self._clock.now_ns()
        n = 0
        for n, ride in enumerate(self._passing, start=1):
            if last is not None:
                left_s = max(last.ride.presence(loop)[1] for loop in range(len(self._outputs.presence)))
                earliest_ns = max(earliest_ns, last.start_ns + int(ride.after(last.ride, left_s + headway_s) * 1e9))
            if not self._clock.wait_until(earliest_ns):
                return
            last = OnRoad(ride, self._clock.now_ns())
            self.road.enter(last)
            follower = threading.Thread(target=self._follow, args=(n, last), name=f"ride-{n}", daemon=True)
            follower.start()
            followers = [*(f for f in followers if f.is_alive()), follower]
            if n in troubles:
                follower.join()
                earliest_ns = self._clock.now_ns() + int(headway_s * 1e9)
                if not self._clock.wait_until(earliest_ns) or not self._make(troubles[n]):
                    return
                earliest_ns = self._clock.now_ns() + int(headway_s * 1e9)
        for follower in followers:
            follower.join()
        if self._clock.wait_until(earliest_ns):
            self._say({"event": "end", "vehicles": n})

    def _follow(self, n: int, one: OnRoad) -> None:
        """Switch the relays as the ride goes over the loops; then say what it was."""
        ride, start_ns = one.ride, one.start_ns
        outputs, chatter_s = self._outputs, self._scenario.detector.bounce_ms / 1e3
        edges = [
            (at_s, loop, on)
            for loop in range(len(outputs.presence))
            for at_s, on in zip(ride.presence(loop), (True, False), strict=True)
        ]
        moments: dict[tuple[int, bool], int] = {}
        for at_s, loop, on in sorted(edges):
            if not self._clock.wait_until(start_ns + int(at_s * 1e9)):
                return
            moments[loop, on] = outputs.bounce(outputs.presence, loop, on, chatter_s)
            if on and loop == 0:
                outputs.count += 1
        arrival_ns = min(ns for (_, on), ns in moments.items() if on)
        departure_ns = max(ns for (_, on), ns in moments.items() if not on)
        self._say({"event": "vehicle", "n": n, **ride.truth(), "arrival_ns": arrival_ns, "departure_ns": departure_ns})

    def _make(self, trouble: Trouble) -> bool:
        """A fail-safe detector calls while it is at fault; a dummy vehicle is a call and nothing else. False if the
        traffic ended meanwhile."""
        outputs, loop = self._outputs, min(trouble.loop, len(self._outputs.presence) - 1)
        from_ns = outputs.switch(outputs.presence, loop, True)
        if trouble.kind == "fault":
            outputs.switch(outputs.fault, loop, True)
        goes_on = self._clock.wait_until(self._clock.now_ns() + int(trouble.seconds * 1e9))
        if trouble.kind == "fault":
            outputs.switch(outputs.fault, loop, False)
        to_ns = outputs.switch(outputs.presence, loop, False)
        self._say({"event": "trouble", "kind": trouble.kind, "loop": loop, "from_ns": from_ns, "to_ns": to_ns})
        return goes_on
