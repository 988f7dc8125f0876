import threading
from typing import Any

import cv2
import numpy as np
import pytest
from hw_sim.clock import LaneClock
from hw_sim.detector import Outputs
from hw_sim.photos import Photo
from hw_sim.scenario import Detector, Scenario, Traffic, Trouble
from hw_sim.traffic import PHOTO_S, OnRoad, Road, Shown, rides
from hw_sim.traffic import Traffic as Sender

QUICK = Scenario(detector=Detector(bounce_ms=0), traffic=Traffic(headway_s=0.1))


def photo(name: str) -> Shown:
    return Shown(Photo(name, cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), name.upper()))


class FastClock(LaneClock):
    """Lane time that jumps to whatever is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._at_ns = 0
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        return self._at_ns

    def wait_until(self, lane_ns: int) -> bool:
        with self._lock:
            self._at_ns = max(self._at_ns, lane_ns)
        return True


def send(scenario: Scenario, *names: str) -> tuple[list[dict[str, Any]], list[tuple[bool, ...]], Outputs]:
    """What was said, and the relays after each switching."""
    outputs = Outputs(scenario.detector.loops)
    levels: list[tuple[bool, ...]] = []
    outputs.listen(lambda: levels.append((*outputs.presence, *outputs.fault)))
    said: list[dict[str, Any]] = []
    sender = Sender(scenario, iter([photo(name) for name in names]), outputs, FastClock(), said.append)
    sender.start()
    sender.join()
    return said, levels, outputs


def test_every_ride_switches_the_loop_once_and_is_told_when_it_has_left() -> None:
    said, levels, outputs = send(QUICK, "a")
    assert levels == [(True, False), (False, False)]
    assert [line["event"] for line in said] == ["vehicle", "end"]
    assert said[0]["text"] == "A"
    assert said[0]["arrival_ns"] <= said[0]["departure_ns"]
    assert outputs.count == 1


def test_two_loops_are_covered_one_after_the_other_and_left_in_the_same_order() -> None:
    _, levels, _ = send(replace_detector(QUICK, loops=2), "a")
    assert [presence[:2] for presence in levels] == [(True, False), (True, True), (False, True), (False, False)]


def test_a_contact_chatters_before_it_rests() -> None:
    _, levels, _ = send(replace_detector(QUICK, bounce_ms=1), "a")
    assert [presence[0] for presence in levels] == [True, False, True, False, True, False, True, False, True, False]


@pytest.mark.parametrize("kind", ["fault", "stuck"])
def test_a_fail_safe_detector_calls_while_it_is_in_trouble(kind: Any) -> None:
    troubled = QUICK.model_copy(update={"trouble": (Trouble(after=1, kind=kind, seconds=5),)})
    said, levels, _ = send(troubled, "a", "b")
    assert [line["event"] for line in said] == ["vehicle", "trouble", "vehicle", "end"]
    assert any(call and fault for call, fault in levels) is (kind == "fault")
    assert all(call for call, fault in levels if fault)
    assert levels[-1] == (False, False)


def test_the_same_seed_yields_the_same_vehicles_and_another_seed_others() -> None:
    def first(seed: int) -> list[dict[str, Any]]:
        scenario = Scenario(traffic=Traffic(vehicles=2, seed=seed, styles=("de", "fr", "nl")))
        return [ride.truth() for ride in rides(scenario, None)]

    assert first(7) == first(7) != first(8)


def test_speeds_are_spread_between_the_slowest_and_the_fastest() -> None:
    scenario = Scenario(traffic=Traffic(vehicles=12, speed_kmh=(5, 130), styles=("de",)))
    speeds = [ride.truth()["speed_kmh"] for ride in rides(scenario, None)]
    assert 5 <= min(speeds) < 15 < 60 < max(speeds) <= 130


def test_a_road_forgets_who_is_out_of_sight() -> None:
    road = Road()
    road.enter(OnRoad(photo("a"), 0))
    assert len(road.at(int(0.9 * PHOTO_S * 1e9))) == 1
    assert road.at(int(1.1 * PHOTO_S * 1e9)) == ()


def replace_detector(scenario: Scenario, **values: Any) -> Scenario:
    return scenario.model_copy(update={"detector": scenario.detector.model_copy(update=values)})
