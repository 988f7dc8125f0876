"""Bounded, typed fields: between CBOR values and the frozen dataclasses that stand for them.

A `Codec` goes both ways and checks both ways, so nothing out of bounds is ever written or believed. Its errors
(`cbor.Malformed`) name the field and never what it holds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from edge.cbor import Malformed, Value

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S", bound=str)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """`put`: a value to CBOR; `get`: back. Both raise Malformed. `optional`: None stands for "not there"."""

    put: Callable[[T], Value]
    get: Callable[[Value], T]
    optional: bool = False


def whole(low: int, high: int) -> Codec[int]:
    """A whole number within [low, high]."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Malformed(f"must be a whole number from {low} to {high}")
        return value

    return Codec(check, check)


def real(high: float, per_unit: int, low: float = 0) -> Codec[float]:
    """A real number within [low, high], carried as a whole number of steps of 1 / per_unit."""
    steps = whole(round(low * per_unit), round(high * per_unit))

    def put(value: float) -> Value:
        if not low <= value <= high:
            raise Malformed(f"must be a number from {low} to {high}")
        return steps.put(round(value * per_unit))

    return Codec(put, lambda value: steps.get(value) / per_unit)


def text(pattern: str, make: Callable[[str], S] = str) -> Codec[S]:  # type: ignore[assignment]
    """Text that matches the whole `pattern`, which also bounds its length."""
    matcher = re.compile(pattern)

    def check(value: object) -> str:
        if not isinstance(value, str) or not matcher.fullmatch(value):
            raise Malformed(f"must be text like {pattern}")
        return str(value)

    return Codec(check, lambda value: make(check(value)))


def blob(low: int, high: int) -> Codec[bytes]:
    """A byte string of `low` to `high` bytes."""

    def check(value: object) -> bytes:
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise Malformed(f"must be {low} to {high} bytes")
        return value

    return Codec(check, check)


def flag() -> Codec[bool]:
    """True or false."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise Malformed("must be true or false")
        return value

    return Codec(check, check)


def member(words: type[E]) -> Codec[E]:
    """A member of an enumeration, carried as its word."""

    def get(value: Value) -> E:
        try:
            return words(str(value))
        except ValueError:
            raise Malformed(f"must be a {words.__name__}") from None

    return Codec(lambda value: get(value).value, get)


def optional(codec: Codec[T]) -> Codec[T | None]:
    """A field that is left out of its map when it is None."""
    return Codec(lambda value: None if value is None else codec.put(value), codec.get, optional=True)


def either(number: Codec[int], words: Codec[str]) -> Codec[int | str]:
    """A number or a text, each within its own bounds."""

    def put(value: int | str) -> Value:
        return words.put(value) if isinstance(value, str) else number.put(value)

    def get(value: Value) -> int | str:
        return words.get(value) if isinstance(value, str) else number.get(value)

    return Codec(put, get)


def pair(first: Codec[T], second: Codec[U]) -> Codec[tuple[T, U]]:
    """An array of exactly two."""

    def get(value: Value) -> tuple[T, U]:
        if not isinstance(value, list) or len(value) != 2:
            raise Malformed("must be an array of 2")
        return first.get(value[0]), second.get(value[1])

    return Codec(lambda value: [first.put(value[0]), second.put(value[1])], get)


def many(codec: Codec[T], most: int) -> Codec[tuple[T, ...]]:
    """An array of at most `most` items."""

    def put(items: tuple[T, ...]) -> Value:
        if len(items) > most:
            raise Malformed(f"must be at most {most} items")
        return [codec.put(item) for item in items]

    def get(value: Value) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise Malformed(f"must be an array of at most {most} items")
        return tuple(codec.get(item) for item in value)

    return Codec(put, get)


def row(make: Callable[..., T], **fields: Codec[Any]) -> Codec[T]:
    """A dataclass carried as an array of exactly these fields, in this order."""

    def put(item: T) -> Value:
        return [_named(name, codec.put, getattr(item, name)) for name, codec in fields.items()]

    def get(value: Value) -> T:
        if not isinstance(value, list) or len(value) != len(fields):
            raise Malformed(f"must be an array of {len(fields)}")
        return make(
            **{name: _named(name, codec.get, item) for (name, codec), item in zip(fields.items(), value, strict=True)}
        )

    return Codec(put, get)


def shape(
    make: Callable[..., T],
    fields: Mapping[int, tuple[str, Codec[Any]]],
    check: Callable[[T], None] = lambda item: None,
) -> Codec[T]:
    """A dataclass carried as a map: {key: (field name, codec)}. Unknown keys are refused.

    check: raises Malformed for fields that do not go together.
    """

    def put(item: T) -> Value:
        check(item)
        values = ((key, name, codec, getattr(item, name)) for key, (name, codec) in fields.items())
        return {
            key: _named(name, codec.put, value)
            for key, name, codec, value in values
            if not (codec.optional and value is None)
        }

    def get(value: Value) -> T:
        if not isinstance(value, dict):
            raise Malformed("must be a map")
        if not value.keys() <= fields.keys():
            raise Malformed("has a key that this format does not know")
        found: dict[str, Any] = {}
        for key, (name, codec) in fields.items():
            if key in value:
                found[name] = _named(name, codec.get, value[key])
            elif codec.optional:
                found[name] = None
            else:
                raise Malformed(f"{name} is missing")
        item = make(**found)
        check(item)
        return item

    return Codec(put, get)


def _named(name: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Malformed as error:
        raise Malformed(f"{name}: {error}") from None
