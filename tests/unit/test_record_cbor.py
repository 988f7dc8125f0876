import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cbor import MAX_DEPTH, Malformed, Tag, decode, encode

scalars = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40) | st.booleans() | st.none()
keys = st.integers(-300, 70_000) | st.text(max_size=4)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
)


@given(values)
def test_every_value_comes_back(value: Any) -> None:
    assert decode(encode(value)) == value


@given(values)
def test_an_independent_decoder_reads_what_we_write(value: Any) -> None:
    assert cbor2.loads(encode(value)) == value


@given(st.binary(max_size=60))
def test_what_is_accepted_has_no_second_form(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("why", "coded"),
    [
        ("bytes left over", "0000"),
        ("nothing at all", ""),
        ("a number in two bytes that fits in one", "1817"),
        ("a length in two bytes that fits in one", "580100"),
        ("a byte string of no end", "5f4100ff"),
        ("an array of no end", "9f00ff"),
        ("a map of no end", "bf0000ff"),
        ("keys out of order", "a201000000"),
        ("a key twice", "a200000000"),
        ("keys in the older order, shorter first", "a22000186400"),
        ("a key that is a byte string", "a1410000"),
        ("a key that is a boolean", "a1f500"),
        ("a float", "f93c00"),
        ("a double", "fb3ff0000000000000"),
        ("undefined", "f7"),
        ("a simple value", "e0"),
        ("a boolean in two bytes", "f815"),
        ("text that is not UTF-8", "61ff"),
        ("a length that the data cannot hold", "5bffffffffffffffff"),
        ("an array that the data cannot hold", "9bffffffffffffffff"),
        ("a map that the data cannot hold", "bbffffffffffffffff"),
        ("a reserved head", "1c"),
        ("a break alone", "ff"),
        ("too deep", "81" * MAX_DEPTH + "00"),
        ("tags too deep", "c1" * MAX_DEPTH + "00"),
        ("maps within keys of maps, without end", "a1" * 4000),
        ("arrays within arrays, without end", "81" * 4000),
    ],
)
def test_every_other_form_is_refused(why: str, coded: str) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(coded))


def test_keys_are_in_the_order_of_their_bytes() -> None:
    assert encode({-1: 0, 100: 0, 10: 0, "a": 0}).hex() == "a40a001864002000616100"


def test_tags_come_back() -> None:
    assert decode(encode(Tag(98, [b"", {}, 1]))) == Tag(98, [b"", {}, 1])


@pytest.mark.parametrize("value", [1.5, math.nan, 2**64, -(2**64) - 1, object(), {1.5: 1}, {None: 1}])
def test_what_has_no_place_in_the_format_is_not_written(value: Any) -> None:
    with pytest.raises(Malformed):
        encode(value)


@given(values)
def test_other_peoples_order_of_keys_can_be_let_through(value: Any) -> None:
    data = cbor2.dumps(value)
    assert decode(data, deterministic=False) == value


def test_letting_longer_heads_through_lets_nothing_else_through() -> None:
    assert decode(bytes.fromhex("1817"), deterministic=False) == 23
    for coded in ("a200000000", "9f00ff", "0000", "f93c00"):
        with pytest.raises(Malformed):
            decode(bytes.fromhex(coded), deterministic=False)
