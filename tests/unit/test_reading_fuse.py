"""The vote over the frames of one visit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.reading.fuse import MAX_SIGHTINGS, Vote, VoteSettings
from edge.reading.reader import FrameReading
from edge.record import NoRead, PlateReading, PlateText
from tests.reading_rigs import ALPHABET, characters, frame, plate


def voted(*frames: FrameReading) -> PlateReading:
    vote = Vote()
    for one in frames:
        vote.add(one, exposure_us=800.0, gain=2.0)
    return vote.result()


def test_agreeing_frames_settle_early() -> None:
    vote, count = Vote(), 0
    while not vote.settled and count < 6:
        vote.add(frame(plate(characters("AB12CDE"))), None, None)
        count += 1
    assert count == VoteSettings().settle_frames
    result = vote.result()
    assert result.text == "AB12CDE"
    assert result.no_read is None
    assert result.confidence > 0.99
    assert (result.frames_seen, result.frames_used, result.frames_agreeing) == (count, count, count)


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_frames_that_are_certain_of_one_text_make_a_certain_vote(count: int) -> None:
    certain = frame(plate(characters("AB12CDE", sure=1 - 1e-9)))
    assert voted(*[certain] * count).confidence > 0.99


def test_frames_that_each_misread_another_character_are_right_together() -> None:
    frames = [frame(plate(characters("AB12CDE", confused={i: "X"}))) for i in range(7)]
    assert not any(f.plates[0].text == "AB12CDE" for f in frames)
    result = voted(*frames)
    assert result.text == "AB12CDE"
    assert result.frames_agreeing == 0


def test_one_spoilt_frame_does_not_outvote_the_others() -> None:
    good = [frame(plate(characters("AB12CDE"))) for _ in range(4)]
    bad = frame(plate(characters("AB12CD", sure=0.999), at=(322, 240)))
    assert voted(*good[:2], bad, *good[2:]).text == "AB12CDE"


def test_disagreement_without_a_winner_is_unsure_and_names_the_candidates() -> None:
    a = frame(plate(characters("AB12CDE")))
    b = frame(plate(characters("AB12CDK")))
    c = frame(plate(characters("AB12CDR")))
    result = voted(a, b, c)
    assert result.text is None
    assert result.no_read is NoRead.UNSURE
    assert {"AB12CDE", "AB12CDK", "AB12CDR"} <= {alternative.text for alternative in result.alternatives}
    assert result.chars == ()


def test_the_near_central_plate_is_the_visits_and_others_are_counted() -> None:
    near = plate(characters("NEAR123"), at=(320, 240), width=160)
    far = plate(characters("FAR9999"), at=(600, 60), width=40)
    result = voted(*[frame(far, near)] * 3)
    assert result.text == "NEAR123"
    assert result.plates_in_frame == 2


def test_two_vehicles_in_one_place_are_not_mixed() -> None:
    first = [frame(plate(characters("FIRST11")))] * 2
    second = [frame(plate(characters("XYZ8842")))] * 5
    result = voted(*first, *second)
    assert result.text == "XYZ8842"
    assert result.frames_used == 5


def test_plates_of_one_place_stay_apart_by_their_text_in_any_order() -> None:
    first, second = plate(characters("FIRST11")), plate(characters("XYZ8842"))
    result = voted(frame(first, second), frame(second, first), frame(second))
    assert result.text == "XYZ8842"
    assert (result.frames_used, result.plates_in_frame) == (3, 2)


def test_a_moving_plate_is_followed_by_its_text() -> None:
    frames = [frame(plate(characters("AB12CDE"), at=(40 + 140 * i, 60 + 90 * i))) for i in range(4)]
    assert voted(*frames).frames_used == 4


@pytest.mark.parametrize("reason", [NoRead.TOO_SMALL, NoRead.BLOOMED, NoRead.BLURRED, NoRead.OCCLUDED, NoRead.TOO_DARK])
def test_a_plate_that_no_frame_could_read_says_why(reason: NoRead) -> None:
    unread = plate(characters("AB12CDE", sure=0.51), no_read=reason)
    result = voted(*[frame(unread, reason=reason)] * 3)
    assert (result.text, result.no_read, result.frames_used) == (None, reason, 0)


def test_a_visit_without_a_plate_says_so() -> None:
    assert voted(frame(), frame()).no_read is NoRead.NO_PLATE
    dark = voted(frame(reason=NoRead.TOO_DARK, brightness=4.0), frame(reason=NoRead.TOO_DARK, brightness=6.0), frame())
    assert dark.no_read is NoRead.TOO_DARK
    assert dark.quality.brightness == pytest.approx((4 + 6 + 90) / 3)


def test_a_vote_without_frames_has_a_result() -> None:
    vote = Vote()
    assert not vote.settled
    assert vote.result() == PlateReading(text=None, no_read=NoRead.NO_PLATE)


def test_syntax_decides_between_texts_that_look_alike() -> None:
    result = voted(*[frame(plate(characters("AB12CDE", confused={0: "4"}, torn=0.55)))] * 2)
    assert result.text == "AB12CDE"
    assert result.syntax == "@@##@@@"
    assert result.region == "GB"


@pytest.mark.parametrize("count", [1, 5, 24])
def test_however_many_frames_take_an_o_for_a_0_the_issuers_format_decides(count: int) -> None:
    result = voted(*[frame(plate(characters("AB10CDE", confused={3: "O"}, torn=0.95)))] * count)
    assert (result.text, result.syntax) == ("AB10CDE", "@@##@@@")


def test_further_frames_prove_nothing_between_look_alikes() -> None:
    seen = frame(plate(characters("A9909999", confused={3: "O"}, torn=0.6)))  # fits nowhere
    confidence = [voted(*[seen] * count).confidence for count in (1, 24)]
    assert confidence[1] == pytest.approx(0.6, abs=0.02)
    assert confidence[0] == pytest.approx(0.6, abs=0.05)


def test_quality_is_that_of_the_best_sighting_with_the_cameras_word() -> None:
    small, large = plate(characters("AB12CDE"), width=60), plate(characters("AB12CDE"), width=100)
    quality = voted(frame(small), frame(large)).quality
    assert quality.plate_height_px == pytest.approx(25)
    assert (quality.exposure_us, quality.gain) == (800.0, 2.0)


def test_a_vehicle_that_stands_for_long_stays_within_bounds() -> None:
    vote = Vote()
    for _ in range(MAX_SIGHTINGS + 20):
        vote.add(frame(plate(characters("AB12CDE"))), None, None)
    result = vote.result()
    assert result.frames_used == MAX_SIGHTINGS
    assert result.frames_seen == MAX_SIGHTINGS + 20


texts = st.text(ALPHABET, min_size=1, max_size=8)


@given(st.lists(st.lists(st.tuples(texts, st.floats(0.4, 0.999)), max_size=2), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_frames_give_exactly_one_of_text_and_reason_and_the_same_each_time(
    frames: list[list[tuple[str, float]]],
) -> None:
    seen = [frame(*(plate(characters(text, sure=sure)) for text, sure in plates)) for plates in frames]
    first, second = voted(*seen), voted(*seen)
    assert first == second
    assert (first.text is None) != (first.no_read is None)
    assert first.text is None or isinstance(first.text, PlateText)
    assert len(first.chars) == len(first.text or "")
    assert all(0 <= p <= 1 for p in first.chars)
    assert 0 <= first.confidence <= 1
    assert first.text not in {alternative.text for alternative in first.alternatives}
