from hw_sim.tally import Seen, Tally, Truth, median_and_p95

S = 1_000_000_000


def truth(n: int, text: str | None = "AB123") -> Truth:
    return Truth(n=n, text=text, arrival_ns=10 * n * S, departure_ns=10 * n * S + S)


def seen(n: int, text: str | None = "AB123", seq: int | None = None) -> Seen:
    return Seen(
        epoch="e",
        seq=n if seq is None else seq,
        arrival_ns=10 * n * S + 1000,
        departure_ns=10 * n * S + S,
        text=text,
        no_read=None,
        confidence=1.0,
        region="XX",
        restarted=False,
        frames=3,
    )


def test_a_record_is_matched_to_the_vehicle_that_was_on_the_loop() -> None:
    tally = Tally()
    for n in (1, 2, 3):
        tally.drove(truth(n))
    tally.saw(seen(2))
    assert [row.seen is not None for row in tally.rows] == [False, True, False]
    assert (tally.records, tally.exact, tally.complete) == (1, 1, False)
    tally.saw(seen(9))
    assert (tally.records, len(tally.unmatched)) == (2, 1)


def test_a_record_that_comes_before_the_truth_finds_it_later() -> None:
    tally = Tally()
    tally.saw(seen(1))
    assert len(tally.unmatched) == 1
    tally.drove(truth(1))
    assert not tally.unmatched
    assert tally.rows[0].exact


def test_a_record_seen_twice_counts_once() -> None:
    tally = Tally()
    tally.drove(truth(1))
    for n in (1, 1, 9, 9):
        tally.saw(seen(n))
    assert tally.records == 2


def test_a_receipt_confirms_all_up_to_it_whenever_it_comes() -> None:
    tally = Tally()
    tally.confirmed("e", 2, 35 * S)
    for n in (1, 2, 3):
        tally.drove(truth(n))
        tally.saw(seen(n))
    assert [row.confirmed_ns for row in tally.rows] == [35 * S, 35 * S, None]
    tally.confirmed("other", 9, 36 * S)
    assert tally.complete
    tally.confirmed("e", 3, 37 * S)
    assert tally.latencies_ms()[1] == [24_000.0, 14_000.0, 6_000.0]


def test_a_photograph_without_a_label_is_never_exact() -> None:
    tally = Tally()
    tally.drove(truth(1, None))
    tally.saw(seen(1, None))
    assert (tally.labelled, tally.exact) == (0, 0)


def test_percentiles_are_nearest_rank() -> None:
    assert median_and_p95([]) == (0.0, 0.0)
    assert median_and_p95([5]) == (5, 5)
    assert median_and_p95(range(1, 101)) == (50.5, 95)
