"""DCON answers: bytes in, levels or a named error out. There is no independent module: the vectors are the manual's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.loop.dcon import INPUTS, DconDetector, DconSettings, parse
from edge.errors import LoopError

PORT = "/dev/serial/by-id/usb-port0"


def test_question_and_answer_are_those_of_the_manual() -> None:
    """ADAM-4000 Series User's Manual, $AA6: `$336` CR -> `!112200` CR; channels 1 and 5 are high."""
    detector = DconDetector(DconSettings(port=PORT, address=0x33, presence=(1, 0), fault=(5,), fault_when="high"))
    assert detector._question == b"$336\r"
    assert [number for number, level in enumerate(parse(b"!112200\r", 0x33)) if level] == [1, 5]
    assert detector.levels(b"!112200\r") == ((False, True), (True, True))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "LOOP-06"),
        (b"!", "LOOP-07"),
        (b"!112200", "LOOP-07"),
        (b"?33", "LOOP-07"),
        (b"$336\r", "LOOP-08"),  # the question's echo
        (b"!11220\r\r", "LOOP-08"),
        (b"!11zz00\r", "LOOP-08"),
        (b"!112201\r", "LOOP-08"),
        (b"!112200\r\r", "LOOP-08"),
        (b"\xff\x00\xff", "LOOP-08"),
        (b"?33\r", "LOOP-10"),
        (b"?34\r", "LOOP-11"),
    ],
)
def test_a_bad_answer_has_its_own_code(answer: bytes, code: str) -> None:
    with pytest.raises(LoopError) as caught:
        parse(answer, 0x33)
    assert caught.value.code == code


@given(st.binary(max_size=40) | st.binary(max_size=12).map(lambda data: b"!" + data))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        levels = parse(data, 1)
    except LoopError:
        return
    assert (len(levels), data[:1], len(data)) == (INPUTS, b"!", 8)


@given(st.integers(0, 255), st.integers(0, 255))
def test_an_answer_gives_back_the_levels_in_it(outputs: int, inputs: int) -> None:
    levels = parse(b"!%02X%02X00\r" % (outputs, inputs), 1)
    assert sum(level << bit for bit, level in enumerate(levels)) == inputs
    assert len(levels) == INPUTS


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"presence": ()}, "at least 1"),
        ({"presence": (8,)}, "from 0 to 7"),
        ({"fault": (0,)}, "one purpose"),
        ({"fault": (2, 3)}, "one per loop"),
        ({"port": "/dev/ttyACM0"}, "by-id"),
    ],
)
def test_wrong_settings_say_what_to_do(table: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        DconSettings(**{"port": PORT, "address": 1, "presence": (0,), **table})  # type: ignore[arg-type]
