"""Serial formats: a name for a text's syntax, a preference between texts, never a filter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.reading.region import (
    ALIKE_PREFERENCE,
    COMMON_US,
    FORMATS,
    PREFERENCE,
    WORD_PREFERENCE,
    alike,
    fitting,
    fold,
    ranked,
    spelt,
)


@pytest.mark.parametrize(
    ("text", "region", "pattern"),
    [
        ("AB12CDE", "GB", "@@##@@@"),
        ("BRA2E19", "BR", "@@@#@##"),
        ("7ABC123", "US-CA", "#@@@###"),
        ("7ABO123", "US-CA", None),  # the third letter is no O there
        ("12345", "US-IA", "#####"),
        ("A123BCD", "GB", "@###@@@"),
        ("AP885QM", "FR", "@@###@@"),
        ("AP885OM", "FR", None),
        ("GO2FAST", "US-CA", None),
        ("AB12CDE", "unknown", None),
        ("", "GB", None),
    ],
)
def test_a_text_is_matched_with_its_issuers_formats(text: str, region: str, pattern: str | None) -> None:
    assert fitting(text, region) == pattern


def test_literal_characters_of_a_format_stand_for_themselves() -> None:
    assert fitting("B123ABC", "RO") == "B###@@@"
    assert fitting("C123ABC", "RO") is None


def test_of_texts_that_look_alike_the_one_that_fits_is_preferred() -> None:
    alike = [("4B12CDE", 0.4), ("AB12CDE", 0.35)]
    assert ranked(alike, {"GB": 0.9})[0][0] == "AB12CDE"
    assert ranked(alike, {"unknown": 1.0}) == alike


def test_a_text_that_fits_nothing_still_wins_when_it_is_clear() -> None:
    assert ranked([("GO2FAST", 0.9), ("G028ABC", 0.05)], {"US-NY": 1.0})[0][0] == "GO2FAST"


def test_o_q_and_i_are_folded_and_nothing_else() -> None:
    assert fold("OQI01B8") == "00101B8"


@pytest.mark.parametrize(
    ("text", "regions", "others"),
    [
        ("LI9TLC", {"GB": 0.9}, ["L19TLC"]),
        ("AB12CDE", {"GB": 0.9}, []),  # fits as it stands
        ("ABI2CDE", {"unknown": 0.9, "GB": 0.1}, ["AB12CDE"]),
        ("ABI2CDE", {"unknown": 0.9, "GB": 0.01}, []),
        ("AP885OM", {"FR": 0.6, "IT": 0.3}, ["AP885QM"]),
        ("ABCIOO", {"US-OH": 0.5, "US-TX": 0.5}, ["ABC100"]),
        ("GO2FAST", {"US-NY": 1.0}, []),
        ("Y0UBET", {"US-CO": 1.0}, ["YOUBET"]),
        ("N0Z00M1", {"US-CO": 1.0}, ["NOZOOM1"]),
        ("W1NNER", {"US-CO": 1.0}, ["WINNER"]),
        ("BB01B", {"US-CO": 1.0}, []),
        ("0", {"US-CO": 1.0}, []),
        ("AB0", {"US-CO": 1.0}, ["ABO"]),
        ("Y0UBET", {"PL": 1.0}, []),
        ("", {"GB": 1.0}, []),
    ],
)
def test_texts_that_look_alike_and_fit_are_brought_up(text: str, regions: dict[str, float], others: list[str]) -> None:
    assert alike(text, regions) == others


def test_between_look_alikes_the_issuers_formats_count_for_more() -> None:
    spoken = [("LI9TLC", 0.8), ("L19TLC", 0.1), ("LJ9TLC", 0.05)]
    best = dict(ranked(spoken, {"GB": 1.0}))
    assert best["L19TLC"] / best["LI9TLC"] == pytest.approx(ALIKE_PREFERENCE / 8)
    assert (best["L19TLC"] + best["LI9TLC"]) / best["LJ9TLC"] == pytest.approx(PREFERENCE * 0.9 / 0.05)
    assert dict(ranked(spoken, {"unknown": 1.0})) == pytest.approx(dict(spoken))


def test_of_a_word_letters_are_preferred_to_digits_where_words_are_sold() -> None:
    spoken = [("Y0UBET", 0.8), ("YOUBET", 0.1)]
    best = dict(ranked(spoken, {"US-CO": 1.0}))
    assert best["YOUBET"] / best["Y0UBET"] == pytest.approx(WORD_PREFERENCE / 8)
    assert dict(ranked(spoken, {"DE": 1.0})) == pytest.approx(dict(spoken))
    best = dict(ranked([("ABC100", 0.2), ("ABCIOO", 0.7)], {"US-CO": 1.0}))
    assert best["ABC100"] / best["ABCIOO"] == pytest.approx(ALIKE_PREFERENCE * 2 / 7)


@given(
    spoken=st.dictionaries(st.text("0OQ1IAB2", max_size=7), st.floats(0, 0.1), min_size=1, max_size=8),
    regions=st.dictionaries(st.sampled_from([*FORMATS, "unknown"]), st.floats(0, 0.125), max_size=8),
)
def test_weighing_changes_no_text_and_no_sum_and_what_it_brings_up_looks_alike(
    spoken: dict[str, float], regions: dict[str, float]
) -> None:
    weighed = ranked(list(spoken.items()), regions)
    assert {text for text, _ in weighed} == set(spoken)
    assert all(0 <= p <= 1 for _, p in weighed)
    assert sum(p for _, p in weighed) == pytest.approx(sum(spoken.values()))
    for text in spoken:
        others = alike(text, regions)
        assert len({*others, text}) == len(others) + 1
        assert {fold(other) for other in others} <= {fold(text)}
        assert all(spelt(other) == other or any(fitting(other, region) for region in regions) for other in others)


def test_preferring_keeps_the_sum_of_probabilities() -> None:
    candidates = [("AB12CDE", 0.3), ("4B12CDE", 0.3), ("", 0.1)]
    assert sum(p for _, p in ranked(candidates, {"GB": 0.7})) == pytest.approx(0.7)
    best = dict(ranked(candidates, {"GB": 1.0}))
    assert best["AB12CDE"] / best["4B12CDE"] == pytest.approx(PREFERENCE)


def test_formats_are_letters_digits_and_literals_of_a_plates_length() -> None:
    for region, patterns in (*FORMATS.items(), ("US", COMMON_US)):
        for pattern in patterns.split():
            assert 2 <= len(pattern) <= 10, region
            assert set(pattern) <= set("@&#0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), region
