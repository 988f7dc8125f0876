"""docs/record.cddl and the coding say the same: each takes what the other takes, and refuses what the other refuses."""

import contextlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import cbor2
import pycddl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import cbor, record
from edge.errors import RecordMalformed
from edge.record import Ending, LaneRecord, NoRead
from tests.sealing import EVERY_KIND, GAP, NO_READ, READ

CDDL = (Path(__file__).parents[2] / "docs" / "record.cddl").read_text()
SCHEMA = pycddl.Schema(CDDL)


def described(data: bytes) -> bool:
    try:
        SCHEMA.validate_cbor(data)
    except pycddl.ValidationError:
        return False
    return True


@pytest.mark.parametrize("said", EVERY_KIND, ids=lambda said: type(said).__name__)
def test_what_we_write_is_as_described(said: LaneRecord) -> None:
    assert described(record.encode(said))


WRONG = [
    (READ, {0: b"short"}),
    (READ, {0: None}),
    (READ, {3: "vanished"}),
    (READ, {4: 0}),
    (READ, {7: "up"}),
    (READ, {8: 10001}),
    (READ, {9: [1] * 9}),
    (READ, {10: "x" * 129}),
    (READ, {20: 1}),
    (READ, {1: [1]}),
    (READ, {1: [-1, 1]}),
    (READ, {5: [True, 1]}),
    (READ, {6: {}}),
    (NO_READ, {11: "\n"}),
    (GAP, {0: 0}),
    (GAP, {3: "Not A Word"}),
    (GAP, {4: b"x" * 31}),
    (GAP, {4: None}),
]
WRONG_READINGS = [
    {0: "ab"},
    {0: "A" * 17},
    {2: 10001},
    {2: 0.5},
    {3: [0] * 17},
    {4: [["A"]]},
    {5: ""},
    {8: 65536},
    {13: []},
    {14: 1},
]


@pytest.mark.parametrize(("said", "change"), WRONG + [(READ, {6: change}) for change in WRONG_READINGS])
def test_what_the_coding_refuses_is_not_as_described(said: LaneRecord, change: dict[int, Any]) -> None:
    fields = cbor2.loads(record.encode(said))
    for key, value in change.items():
        if key == 6 and value:
            fields[6] = {**fields[6], **value}
        else:
            fields[key] = value
    fields = {key: value for key, value in fields.items() if value is not None}
    fields[23] = b""
    fields[23] = bytes(-len(cbor2.dumps(fields)) % 128)
    data = cbor2.dumps(dict(sorted(fields.items())))
    assert not described(data)
    with pytest.raises(RecordMalformed):
        record.decode(record.kind_of(said), data)


@settings(max_examples=200)
@given(st.sampled_from(EVERY_KIND), st.data())
def test_what_the_coding_takes_is_as_described_whatever_happened_to_it(said: LaneRecord, data: st.DataObject) -> None:
    coded = bytearray(record.encode(said))
    for _ in range(data.draw(st.integers(1, 3))):
        coded[data.draw(st.integers(0, len(coded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordMalformed):
        record.decode(record.kind_of(said), bytes(coded))
        assert described(bytes(coded))


def test_the_description_covers_nothing_that_cbor_forbids_here() -> None:
    assert cbor.decode(record.encode(READ))
    assert not described(cbor2.dumps({**cbor2.loads(record.encode(READ)), 8: 31.4}))


@pytest.mark.parametrize(("rule", "words"), [("no-read", NoRead), ("ending", Ending)])
def test_each_word_of_the_vocabulary_is_described_and_no_other(rule: str, words: type[StrEnum]) -> None:
    described = re.search(rf"^{rule} = ((?:\"[a-z-]+\"[\s/]*)+)$", CDDL, re.MULTILINE)
    assert described is not None
    assert set(re.findall(r'"([a-z-]+)"', described[1])) == set(words)
