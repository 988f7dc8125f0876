import threading
import time

from hw_sim.clock import LaneClock

S = 1_000_000_000


def test_lane_time_stands_still_while_it_is_held() -> None:
    now = [10 * S]
    clock = LaneClock(clock=lambda: now[0])
    assert clock.now_ns() == 10 * S
    clock.hold()
    now[0] = 15 * S
    assert clock.now_ns() == 10 * S
    clock.hold()
    clock.go()
    clock.go()
    now[0] = 16 * S
    assert clock.now_ns() == 11 * S


def test_who_waits_on_a_held_lane_goes_on_only_after_go() -> None:
    clock = LaneClock(held=True)
    passed = threading.Event()
    at_ns = clock.now_ns()
    waiting = threading.Thread(target=lambda: clock.wait_until(at_ns) and passed.set())
    waiting.start()
    time.sleep(0.05)
    assert not passed.is_set()
    clock.go()
    waiting.join(2)
    assert passed.is_set()


def test_the_end_lets_nobody_wait() -> None:
    clock = LaneClock(held=True)
    threading.Timer(0.05, clock.close).start()
    assert clock.wait_until(clock.now_ns() + 3600 * S) is False
