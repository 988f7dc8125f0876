from hypothesis import given
from hypothesis import strategies as st

from drivers.camera.video import MAX_DRIFT, StreamClock

FRAME_NS = 40_000_000
DELAYS = st.lists(st.integers(0, 300_000_000), min_size=2, max_size=80)


def arrivals(delays: list[int]) -> list[tuple[int, int]]:
    """(stream time, arrival) of frames of 25 a second, each delayed; arrivals in order, as TCP gives them."""
    found, last = [], 0
    for number, delay in enumerate(delays):
        last = max(last, number * FRAME_NS + delay)
        found.append((number * FRAME_NS, last))
    return found


@given(DELAYS)
def test_a_picture_was_taken_before_it_came_and_stamps_keep_their_order(delays: list[int]) -> None:
    clock, last = StreamClock(), -1
    for stream_ns, arrival_ns in arrivals(delays):
        taken_ns = clock.taken_ns(stream_ns, arrival_ns)
        assert last <= taken_ns <= arrival_ns
        last = taken_ns


@given(DELAYS)
def test_after_one_quick_picture_delay_on_the_way_moves_no_stamp(delays: list[int]) -> None:
    clock = StreamClock()
    for stream_ns, arrival_ns in arrivals([0, *delays]):
        taken_ns = clock.taken_ns(stream_ns, arrival_ns)
        assert 0 <= taken_ns - stream_ns <= arrival_ns * MAX_DRIFT


def test_a_camera_whose_clock_runs_slow_does_not_seem_to_fall_behind() -> None:
    clock = StreamClock()
    for number in range(100_000):
        stream_ns = number * FRAME_NS
        arrival_ns = stream_ns + stream_ns // 5000  # 200 ppm
        assert arrival_ns - clock.taken_ns(stream_ns, arrival_ns) < 1_000_000


def test_a_stream_that_is_decoded_too_slowly_is_seen_to_fall_behind() -> None:
    clock = StreamClock()
    lags = [2 * n * FRAME_NS - clock.taken_ns(n * FRAME_NS, 2 * n * FRAME_NS) for n in range(100)]
    assert lags[-1] > 1_000_000_000


def test_a_camera_that_sets_its_clock_ahead_and_back_moves_no_later_stamp() -> None:
    clock = StreamClock()
    for number in range(200):
        ahead_ns = 900_000_000 if 50 <= number < 75 else 0
        arrival_ns = number * FRAME_NS
        assert clock.taken_ns(arrival_ns + ahead_ns, arrival_ns) == arrival_ns
