"""CTC decoding against the definition, and what is said of single characters."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import ManifestInvalid
from edge.manifest import OcrEntry
from edge.reading.bundle import Model
from edge.reading.ocr import Ocr, beam_search, character_confidence, condense, log_likelihood
from edge.reading.runtime import TensorSpec
from tests.reading_rigs import ALPHABET, FILE, PIXELS, REGIONS, FakeNetwork, characters


def by_definition(log_probs: NDArray[np.float32], alphabet: str) -> dict[str, float]:
    """The probability of every text: the sum over every path that collapses to it."""
    blank = len(alphabet)
    totals: dict[str, float] = {}
    for path in product(range(blank + 1), repeat=len(log_probs)):
        text = "".join(
            alphabet[symbol]
            for at, symbol in enumerate(path)
            if symbol != blank and (at == 0 or path[at - 1] != symbol)
        )
        p = float(np.exp(sum(log_probs[at, symbol] for at, symbol in enumerate(path))))
        totals[text] = totals.get(text, 0.0) + p
    return totals


steps = st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=6)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_the_likelihood_of_a_text_is_the_sum_over_its_paths(rows: list[list[float]]) -> None:
    log_probs = normalised(rows)
    truth = by_definition(log_probs, "AB")
    texts = sorted(truth)
    assert np.exp(log_likelihood(log_probs, texts, "AB")) == pytest.approx([truth[text] for text in texts], rel=1e-4)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_the_beam_never_claims_more_than_a_texts_probability(rows: list[list[float]]) -> None:
    log_probs = normalised(rows)
    truth = by_definition(log_probs, "AB")
    found = beam_search(log_probs, "AB")
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    for text, p in found:
        assert p <= truth[text] * 1.0001


def test_the_beam_finds_the_most_probable_text_with_its_probability() -> None:
    log_probs = normalised([[2, 0, 0], [0, 0, 1], [1, 2, 0], [0, 0, 2]])
    truth = by_definition(log_probs, "AB")
    text, p = beam_search(log_probs, "AB")[0]
    assert text == max(truth, key=lambda key: truth[key])
    assert p == pytest.approx(truth[text], rel=0.02)


def test_repeated_characters_need_a_blank_between_them() -> None:
    assert beam_search(characters("AA11").log_probs, ALPHABET)[0][0] == "AA11"


def test_an_impossible_text_has_no_likelihood() -> None:
    assert log_likelihood(normalised([[1, 0, 0]]), ["AB", "A"], "AB")[0] == -np.inf


def test_runs_of_blank_are_condensed_without_changing_what_is_read() -> None:
    blank = np.log(np.array([[0.0005, 0.0005, 0.999]], np.float32))
    letter = np.log(np.array([[0.9, 0.05, 0.05]], np.float32))
    long = np.concatenate([blank] * 9 + [letter] + [blank] * 9 + [letter] + [blank] * 9)
    short = condense(long)
    assert len(short) == 5
    assert beam_search(short, "AB")[0][0] == beam_search(long, "AB")[0][0] == "AA"


def test_a_character_is_as_doubtful_as_the_texts_that_differ_there() -> None:
    chars = character_confidence([("AB1", 0.7), ("AB7", 0.2), ("A81", 0.1)])
    assert chars == pytest.approx((1.0, 0.9, 0.8))


def test_probability_that_no_text_holds_makes_characters_doubtful_too() -> None:
    assert character_confidence([("AB", 0.5), ("AC", 0.1)]) == pytest.approx((0.9, 0.6))
    assert character_confidence([("AB", 0.6)]) == pytest.approx((0.6, 0.6))


def test_a_missing_or_added_character_is_doubt_where_it_would_stand() -> None:
    assert character_confidence([("ABC", 0.8), ("AC", 0.2)]) == pytest.approx((1.0, 0.8, 1.0))
    assert character_confidence([("AC", 0.8), ("ABC", 0.2)]) == pytest.approx((1.0, 0.8))
    assert character_confidence([("", 1.0)]) == ()


@given(st.lists(st.tuples(st.text(ALPHABET, max_size=10), st.floats(0.001, 1)), min_size=1, max_size=8))
def test_character_confidences_are_probabilities_for_any_texts(texts: list[tuple[str, float]]) -> None:
    total = sum(p for _, p in texts)
    candidates = sorted(((text, p / total) for text, p in texts), key=lambda item: -item[1])
    chars = character_confidence(candidates)
    assert len(chars) == len(candidates[0][0])
    assert all(0 <= p <= 1 for p in chars)


def test_grey_and_colour_plates_reach_the_network_as_pixels_less_128() -> None:
    seen: list[NDArray[np.int8]] = []
    ocr = Ocr(ocr_model(seen))
    ocr.read(np.full((64, 192), 200, np.uint8))
    ocr.read(np.full((64, 192, 3), 5, np.uint8))
    assert ocr.size == (192, 64)
    assert [codes.shape for codes in seen] == [(1, 64, 192, 3)] * 2
    assert (seen[0] == 72).all()
    assert (seen[1] == -123).all()


def test_both_outputs_are_probabilities() -> None:
    result = Ocr(ocr_model([])).read(np.zeros((64, 192), np.uint8))
    assert np.exp(result.log_probs).sum(1) == pytest.approx(1, abs=1e-5)
    assert np.exp(result.region_log_probs).sum() == pytest.approx(1, abs=1e-5)
    assert len(result.region_log_probs) == len(result.regions)
    assert 0 <= result.plausible <= 1


@pytest.mark.parametrize(("key", "value"), [("alphabet", "AB"), ("regions", ["unknown"])])
def test_a_network_that_does_not_fit_its_manifest_is_refused(key: str, value: Any) -> None:
    model = ocr_model([])
    with pytest.raises(ManifestInvalid):
        Ocr(Model(model.network, model.entry.model_copy(update={key: value})))


def ocr_model(seen: list[NDArray[np.int8]]) -> Model[OcrEntry]:
    """A reader that notes its input and answers with noise."""

    def answer(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        seen.append(codes)
        rng = np.random.default_rng(1)
        return tuple(rng.integers(-100, 100, shape, np.int8) for shape in ((1, 96, 37), (1, len(REGIONS) + 1)))

    logits: Any = {"dtype": "int8", "scale": 0.1, "zero_point": 3}
    pixels: Any = PIXELS
    network: Any = FakeNetwork(
        [TensorSpec((1, 64, 192, 3), **pixels)],
        [TensorSpec((1, 96, 37), **logits), TensorSpec((1, len(REGIONS) + 1), **logits)],
        answer,
    )
    entry = OcrEntry(
        **FILE,
        colour="bgr",
        margin=0.06,
        alphabet=ALPHABET,
        blank=len(ALPHABET),
        regions=REGIONS,
        characters_output=0,
        issuer_output=1,
        temperature=1.2,
        issuer_temperature=1,
    )
    return Model(network, entry)


def normalised(rows: list[list[float]]) -> NDArray[np.float32]:
    logits = np.array(rows)
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)
