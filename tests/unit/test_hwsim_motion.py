import pytest
from hw_sim.motion import APPROACH_M, LOOP_M, Motion
from hypothesis import example, given, settings
from hypothesis import strategies as st

motions = st.builds(
    Motion,
    speed_mps=st.floats(1.4, 36.2),
    length_m=st.floats(4.0, 5.0),
    stand_s=st.sampled_from((0.0, 3.0)),
)


@given(motions)
def test_a_vehicle_comes_into_view_far_away_and_reaches_the_loop_when_it_says(motion: Motion) -> None:
    assert motion.position(0) == pytest.approx(-APPROACH_M)
    assert motion.position(motion.approach_s) == pytest.approx(0, abs=1e-6)


@given(motions, st.floats(0, 30))
def test_a_vehicle_never_rolls_back_and_never_jumps(motion: Motion, t: float) -> None:
    step = motion.position(t + 0.01) - motion.position(t)
    assert -1e-9 <= step <= 0.01 * 36.3


@given(motions)
def test_a_vehicle_has_its_speed_for_the_lane_before_the_camera_watches_it(motion: Motion) -> None:
    assert motion.speed(motion.approach_s - 0.6) == pytest.approx(motion.speed_mps)


@given(motions, st.floats(0, 3))
def test_a_loop_feels_the_vehicle_from_its_front_to_its_rear(motion: Motion, loop_at_m: float) -> None:
    comes, goes = motion.presence(loop_at_m)
    assert motion.position(comes) == pytest.approx(loop_at_m, abs=1e-6)
    assert motion.position(goes) == pytest.approx(loop_at_m + LOOP_M + motion.length_m, abs=1e-6)


def test_a_vehicle_that_stands_on_the_loop_is_felt_for_as_long_as_it_stands() -> None:
    drives, stands = Motion(5.0, 4.5), Motion(5.0, 4.5, stand_s=3.0)
    through, stood = (goes - comes for comes, goes in (drives.presence(0), stands.presence(0)))
    assert stood - through == pytest.approx(3.0)
    assert stands.position(stands.approach_s + 1.5) == stands.position(stands.approach_s + 2.5) == pytest.approx(1.5)


@given(motions, motions, st.floats(0.1, 5))
@example(Motion(8.0, 5.0, stand_s=3.0), Motion(4.0, 4.0), 0.125)
@settings(max_examples=40)
def test_a_vehicle_never_drives_into_the_one_before(first: Motion, second: Motion, headway_s: float) -> None:
    start_s = second.follows(first, first.presence(0)[1] + headway_s)
    assert start_s + second.approach_s >= first.presence(0)[1] + headway_s - 1e-9
    for share in range(101):
        t = start_s + (first.gone_s - start_s) * share / 100
        if t >= start_s:
            assert second.position(t - start_s) < first.position(t) - first.length_m + 1e-6


@given(motions)
def test_a_vehicle_is_gone_only_after_the_loop_let_it_go(motion: Motion) -> None:
    assert motion.gone_s > motion.presence(2.5)[1]
