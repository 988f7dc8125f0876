"""CBOR in its one deterministic form (RFC 8949, section 4.2.1), as far as sealane's formats use it.

Values: int (64 bit, either sign), bytes, str, bool, None, list, dict with int or str keys, Tag. No floating point: a
real number on the wire is a whole number of a stated step. There is one byte string for each value, and `decode`
refuses every other: longer heads, keys out of order, keys twice, indefinite lengths, bytes left over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_DEPTH = 12
"""Containers within containers."""

Key: TypeAlias = int | str
Value: TypeAlias = "int | bytes | str | bool | Sequence[Value] | Mapping[Key, Value] | Tag | None"


class Malformed(ValueError):
    """Not the value, or not the form, that was asked for. Carries no content. Each layer translates it."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A CBOR tag and what it is on."""

    number: int
    value: Value


def encode(value: Value) -> bytes:
    """The deterministic coding of `value`. Malformed if it holds something CBOR here has no place for."""
    out = bytearray()
    _put(out, value)
    return bytes(out)


def decode(data: bytes, *, deterministic: bool = True) -> Value:
    """The one value that `data` codes; Malformed for anything else.

    `deterministic=False` is for other people's messages: longer heads and any order of keys pass; all else does not.
    """
    reader = _Reader(data, deterministic)
    value = reader.value(MAX_DEPTH)
    if reader.at != len(data):
        raise Malformed("bytes left over")
    return value


_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: dict[int, bool | None] = {20: False, 21: True, 22: None}


def _head(out: bytearray, major: int, argument: int) -> None:
    if argument < 24:
        out.append(major << 5 | argument)
        return
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            out.append(major << 5 | code)
            out += argument.to_bytes(size, "big")
            return
    raise Malformed("a number beyond 64 bits")


def _put(out: bytearray, value: Value) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int() if value >= 0:
            _head(out, _UNSIGNED, value)
        case int():
            _head(out, _NEGATIVE, -1 - value)
        case bytes():
            _head(out, _BYTES, len(value))
            out += value
        case str():
            text = value.encode()
            _head(out, _TEXT, len(text))
            out += text
        case Mapping():
            _head(out, _MAP, len(value))
            for key, item in sorted(((_key(key), item) for key, item in value.items()), key=lambda entry: entry[0]):
                out += key
                _put(out, item)
        case Sequence():
            _head(out, _ARRAY, len(value))
            for item in value:
                _put(out, item)
        case Tag():
            _head(out, _TAG, value.number)
            _put(out, value.value)
        case _:
            raise Malformed(f"a {type(value).__name__} has no place in this format")


def _key(key: object) -> bytes:
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise Malformed("a key that is neither number nor text")
    return encode(key)


class _Reader:
    """One pass over the bytes. Nothing is allocated on the word of a length that the data cannot hold."""

    def __init__(self, data: bytes, deterministic: bool) -> None:
        self.data = data
        self.at = 0
        self.deterministic = deterministic

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise Malformed("cut short")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, code = first >> 5, first & 0x1F
        if code < 24:
            return major, code
        if code > 27:
            raise Malformed("an indefinite length or a reserved head")
        size = 1 << (code - 24)
        argument = int.from_bytes(self.take(size), "big")
        if self.deterministic and argument < (24 if size == 1 else 1 << 4 * size):
            raise Malformed("a longer head than needed")
        return major, argument

    def value(self, depth: int) -> Value:
        if depth == 0:
            raise Malformed("nested too deep")
        major, argument = self.head()
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self.take(argument)
            case 3:
                try:
                    return self.take(argument).decode()
                except UnicodeDecodeError:
                    raise Malformed("text that is not UTF-8") from None
            case 4:
                self.fits(argument)
                return [self.value(depth - 1) for _ in range(argument)]
            case 5:
                self.fits(2 * argument)
                return self.map(argument, depth)
            case 6:
                return Tag(argument, self.value(depth - 1))
            case _:
                if argument not in _SIMPLE_VALUES:
                    raise Malformed("a float or a simple value")
                return _SIMPLE_VALUES[argument]

    def map(self, size: int, depth: int) -> dict[Key, Value]:
        found: dict[Key, Value] = {}
        last = b""
        for _ in range(size):
            start = self.at
            if self.at < len(self.data) and self.data[self.at] >> 5 not in (_UNSIGNED, _NEGATIVE, _TEXT):
                raise Malformed("a key that is neither number nor text")  # before it is read: keys must not nest
            key = self.value(depth)
            coded = self.data[start : self.at]
            if key in found or (self.deterministic and coded <= last):
                raise Malformed("a key twice or out of order")
            last = coded
            found[key] = self.value(depth - 1)  # type: ignore[index]
        return found

    def fits(self, items: int) -> None:
        if items > len(self.data) - self.at:
            raise Malformed("cut short")
