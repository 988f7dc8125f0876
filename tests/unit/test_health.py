"""What the watchdog goes by; time is given by hand."""

from edge.health import Health


def test_a_stage_is_stuck_once_it_says_nothing_for_longer_than_it_may_at_that_moment() -> None:
    now, patience = [0.0], [300.0]
    health = Health(clock=lambda: now[0])
    alive = health.stage("loop", lambda: patience[0])
    alive()  # it connects
    now[0] = 299.0
    assert health.stuck() == []
    patience[0] = 20.0
    alive()  # it watches
    now[0] = 318.0
    assert health.stuck() == []
    now[0] = 320.0
    assert health.stuck() == ["loop"]
