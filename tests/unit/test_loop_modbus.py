"""Modbus frames: bytes in, levels or a named error out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.loop.modbus import (
    SHORTEST_ANSWER,
    Inputs,
    ModbusDetector,
    ModbusSettings,
    crc16,
    missing,
    parse,
    question,
)
from edge.errors import LoopError

BAD_ANSWERS = sorted((Path(__file__).parents[1] / "vectors" / "modbus").glob("*.bin"))
MODULE, COUNT = 17, 4
"""What the bad answers answer: the question for inputs 1-4 of module 17."""


def answer(levels: list[bool], address: int = MODULE) -> bytes:
    bits = sum(level << bit for bit, level in enumerate(levels))
    data = bits.to_bytes((len(levels) + 7) // 8, "little")
    frame = bytes((address, 2, len(data))) + data
    return frame + crc16(frame)


def test_the_checksum_is_that_of_the_specification() -> None:
    assert crc16(bytes.fromhex("0207")) == bytes.fromhex("4112")  # Modbus over serial line V1.02, appendix B


def test_question_and_answer_are_those_of_the_specification() -> None:
    """Modbus application protocol V1.1b3, 6.2: inputs 197 to 218."""
    assert question(1, 197, 22)[1:-2] == bytes.fromhex("02 00C4 0016")
    frame = bytes.fromhex("01 02 03 AC DB 35")
    levels = parse(frame + crc16(frame), 1, 22)
    assert levels[:8] == (False, False, True, True, False, True, False, True)  # 0xAC
    assert levels[16:] == (True, False, True, False, True, True)  # 0x35


@pytest.mark.parametrize("path", BAD_ANSWERS, ids=lambda path: path.stem)
def test_a_bad_answer_has_its_own_code_and_a_hint(path: Path) -> None:
    with pytest.raises(LoopError) as caught:
        parse(path.read_bytes(), MODULE, COUNT)
    assert caught.value.code == path.name[: len("LOOP-00")]
    assert caught.value.retryable
    assert caught.value.hint


def test_there_are_bad_answers() -> None:
    assert len(BAD_ANSWERS) >= 15


@given(st.lists(st.booleans(), min_size=1, max_size=256), st.integers(1, 255))
def test_an_answer_gives_back_the_levels_in_it(levels: list[bool], address: int) -> None:
    frame = answer(levels, address)
    assert missing(frame, len(levels)) == 0
    assert parse(frame, address, len(levels)) == tuple(levels)


@given(st.binary(max_size=300), st.integers(1, 256))
def test_no_bytes_do_more_than_be_refused(data: bytes, count: int) -> None:
    try:
        levels = parse(data, MODULE, count)
    except LoopError:
        return
    assert len(levels) == count
    assert crc16(data[:-2]) == data[-2:]


@given(st.lists(st.booleans(), min_size=1, max_size=64), st.data())
def test_no_flipped_bits_change_a_reading(levels: list[bool], data: st.DataObject) -> None:
    frame = bytearray(answer(levels))
    bits = st.integers(0, 8 * len(frame) - 1)
    for bit in data.draw(st.lists(bits, min_size=1, max_size=2, unique=True)):
        frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LoopError):
        parse(bytes(frame), MODULE, len(levels))


@given(st.binary(max_size=60), st.integers(1, 256))
def test_reading_never_asks_for_more_than_the_whole_answer(data: bytes, count: int) -> None:
    try:
        lacking = missing(data, count)
    except LoopError:
        return
    assert len(data) + lacking <= SHORTEST_ANSWER + (count + 7) // 8


PORT = "/dev/serial/by-id/usb-port0"


def test_the_ld120_has_its_inputs_from_the_manual() -> None:
    settings = ModbusSettings(port=PORT, address=254, profile="ld120")
    assert settings.inputs == Inputs(presence=(2,), fault=((1, 5, 6),))
    assert ModbusDetector(settings).loops == 1


def test_one_fault_input_may_stand_for_both_loops() -> None:
    settings = ModbusSettings(port=PORT, address=1, presence=(1, 2), fault=(8,))
    assert settings.inputs == Inputs(presence=(1, 2), fault=((8,), (8,)))


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({}, "one input per loop"),
        ({"profile": "ld120", "presence": (2,)}, "leave out"),
        ({"presence": (1, 1)}, "one purpose"),
        ({"presence": (0,)}, "from 1"),
        ({"presence": (1, 2), "fault": (3, 4, 5)}, "at most 2"),
        ({"presence": (1,), "address": 0}, "greater than or equal to 1"),
        ({"presence": (1,), "port": "/dev/ttyUSB0"}, "by-id"),
        ({"presence": (1,), "port": "COM3"}, "a port is"),
        ({"presence": (1,), "port": "socket://gate"}, "a port is"),
    ],
)
def test_wrong_settings_say_what_to_do(table: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        ModbusSettings(**{"port": PORT, "address": 1, **table})  # type: ignore[arg-type]
