"""What the camera shows at a moment, as JPEG: the road with who is on it, or a photograph in a vehicle's place."""

import cv2

from hw_sim.motion import LOOP_M
from hw_sim.scenario import Scenario
from hw_sim.traffic import OnRoad, Road, Shown
from hw_sim.view import View
from hw_sim.world import Light, Placed, World

LOOP_Y_M = 7.0
"""Where the first loop's leading edge lies before the camera."""
IDLE_FRAMES = 8
"""Empty frames are drawn once and shown in turn: their noise differs, their content does not."""


def world_of(scenario: Scenario) -> World:
    """The lane as the scenario has it."""
    camera, detector = scenario.camera, scenario.detector
    view = View(focal_px=2000.0 * camera.width / 1280, width=camera.width, height=camera.height)
    light = (
        Light.infrared(camera.exposure_us, camera.rain) if camera.night else Light.day(camera.exposure_us, camera.rain)
    )
    edges = [LOOP_Y_M - loop * detector.spacing_m for loop in range(detector.loops)]
    return World(view, light, tuple((edge - LOOP_M, edge) for edge in edges), scenario.traffic.seed)


def placed(one: OnRoad, at_ns: int) -> Placed | None:
    """Where a ride's vehicle is at that moment; None for a photograph."""
    if isinstance(one.ride, Shown):
        return None
    t = one.seconds(at_ns)
    return Placed(one.ride.vehicle, LOOP_Y_M - one.ride.motion.position(t), one.ride.motion.speed(t))


class Show:
    """Makes the camera's frames. One thread only."""

    def __init__(self, scenario: Scenario, road: Road) -> None:
        self._world = world_of(scenario)
        self._road = road
        self._quality = scenario.camera.jpeg_quality
        self._idle = [self._jpeg([]) for _ in range(IDLE_FRAMES)]
        self._turn = 0

    def frame(self, at_ns: int) -> bytes:
        rides = self._road.at(at_ns)
        for one in rides:
            if isinstance(one.ride, Shown):
                return one.ride.photo.jpeg
        vehicles = [p for p in (placed(one, at_ns) for one in rides) if p is not None]
        if vehicles:
            return self._jpeg(vehicles)
        self._turn = (self._turn + 1) % IDLE_FRAMES
        return self._idle[self._turn]

    def _jpeg(self, vehicles: list[Placed]) -> bytes:
        coded = cv2.imencode(".jpg", self._world.frame(vehicles), [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1]
        return coded.tobytes()
