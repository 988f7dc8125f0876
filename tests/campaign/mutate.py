"""Mutations that keep a format's structure: bytes changed at random hardly ever get past the first parser they meet.

A `Form` takes a document apart into lists, dicts and plain values, and puts it together again; one value is changed in
between. What holds another document (bytes with CBOR in them, a key in PEM) is opened in its turn.
"""

import base64
import json
import random
import re
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers.loop.modbus import crc16
from edge import cbor, enrolment
from edge.seal.signer import FileSigner
from tests.sealing import signing_key

IN_BYTES = 0.4
"""Share of the mutations that are left to the fuzzer's own."""
DEEPER = 0.85
INTEGERS = (
    -1,
    0,
    1,
    23,
    24,
    255,
    256,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**64),
    10**30,
)
OTHERS: tuple[Any, ...] = (
    None, True, False, 0.0, -0.0, 1e308, float("nan"), float("inf"), "", "a", "\0", "é", "\ud800", "A" * 300,
    b"", b"\0", b"\xff" * 33, [], {}, [[]], {"": None}, {0: 0},
    "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+14:00", "2026-11-24T00:00:00", "..", "/dev/zero", "http://[::1",
)  # fmt: skip

Bytes = Callable[[bytes], bytes]
"""The fuzzer's own mutation of bytes."""


@dataclass(frozen=True)
class Form:
    """How a document is taken apart and put together; both may raise anything for what has no place in it."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]


def mutated(form: Form, data: bytes, rng: random.Random, in_bytes: Bytes) -> bytes:
    """`data` with one value changed, or as the fuzzer changes bytes where it has no structure."""
    if rng.random() < IN_BYTES:
        return in_bytes(data)
    try:
        return form.dump(_changed(form.load(data), rng, in_bytes))
    except Exception:  # noqa: BLE001  whatever the form can't take apart or put together
        return in_bytes(data)


def _changed(value: Any, rng: random.Random, in_bytes: Bytes) -> Any:
    if rng.random() < DEEPER:
        for open_one in (_cbor, _tag, _pem):
            if (opened := open_one(value)) is not None:
                inner, close = opened
                return close(_changed(inner, rng, in_bytes))
        if isinstance(value, dict) and value:
            key = rng.choice(list(value))
            return {**value, key: _changed(value[key], rng, in_bytes)}
        if isinstance(value, list) and value:
            at = rng.randrange(len(value))
            return [*value[:at], _changed(value[at], rng, in_bytes), *value[at + 1 :]]
    if rng.random() < 0.3:
        return rng.choice((*INTEGERS, *OTHERS))
    match value:
        case bool() | None:
            return rng.choice(OTHERS)
        case int():
            return rng.choice((value + 1, value - 1, -value, value << 8, value ^ 1 << rng.randrange(64), *INTEGERS))
        case str():
            return in_bytes(value.encode()).decode("utf-8", "replace")
        case bytes():
            return in_bytes(value)
        case list() if value:
            at = rng.randrange(len(value))
            return rng.choice(([*value[:at], *value[at + 1 :]], [*value, value[at]], value[::-1], value * 20))
        case dict() if value:
            key, other = rng.choice(list(value)), rng.choice(list(value))
            without = {k: v for k, v in value.items() if k != key}
            return rng.choice((without, {**value, key: value[other]}, {**value, rng.choice((0, "a", -1)): value[key]}))
    return rng.choice(OTHERS)


def _cbor(value: Any) -> tuple[Any, Callable[[Any], bytes]] | None:
    """Bytes that hold a CBOR container."""
    if not isinstance(value, bytes):
        return None
    try:
        inner = cbor.decode(value, deterministic=False)
    except cbor.Malformed:
        return None
    return (inner, cbor.encode) if isinstance(inner, list | dict | cbor.Tag) else None


def _tag(value: Any) -> tuple[Any, Callable[[Any], cbor.Tag]] | None:
    return (value.value, lambda inner: cbor.Tag(value.number, inner)) if isinstance(value, cbor.Tag) else None


_BLOCK = re.compile(r"(.*?-----BEGIN [^-\n]+-----\n)([A-Za-z0-9+/=\n]+)(-----END.*)", re.DOTALL)


def _pem(value: Any) -> tuple[bytes, Callable[[Any], str]] | None:
    """Text with a PEM block: what is in the first one."""
    if not isinstance(value, str) or (found := _BLOCK.match(value)) is None:
        return None
    before, body, after = found.groups()
    return base64.b64decode(body), lambda der: before + _lines(der) + after


def _lines(der: bytes) -> str:
    return "".join(f"{line}\n" for line in textwrap.wrap(base64.b64encode(der).decode(), 64))


def _toml(value: Any) -> str:
    """A value as TOML has it on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int() | float():
            return str(value)
    return json.dumps(str(value))


def _toml_document(tables: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(str(key))} = {_toml(value)}\n" for key, value in tables.items()).encode()


def _captured(data: bytes) -> list[list[Any]]:
    lines = (line.rpartition(b" ") for line in data.splitlines())
    return [[before, bytes.fromhex(payload.decode())] for before, _, payload in lines]


def _self_signed(fields: dict[str, Any]) -> bytes:
    """A request to enrol that the key in it signs, as whoever makes one can."""
    wire = enrolment._Wire.model_validate(fields)
    signature = FileSigner(signing_key()).sign(wire.signed_bytes())
    return wire.model_copy(update={"signature": signature.hex()}).model_dump_json().encode()


CBOR = Form(lambda data: cbor.decode(data, deterministic=False), cbor.encode)
JSON = Form(json.loads, lambda value: json.dumps(value).encode())
TOML = Form(lambda data: tomllib.loads(data.decode()), _toml_document)
PEM = Form(bytes.decode, str.encode)
PREFIXED = Form(lambda data: [data[:1], data[1:]], b"".join)
"""One byte that says what follows."""
PREFIXED_JSON = Form(lambda data: [data[:1], json.loads(data[1:])], lambda pair: pair[0] + json.dumps(pair[1]).encode())
ENROLMENT = Form(json.loads, _self_signed)
MODBUS = Form(lambda data: [data[:-2]], lambda frame: frame[0] + crc16(frame[0]))
CAPTURE = Form(
    _captured, lambda lines: b"".join(b"%b %b\n" % (before, payload.hex().encode()) for before, payload in lines)
)
