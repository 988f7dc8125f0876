"""The vectors from which another language can be checked: tests/vectors/seal/vectors.json."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge import record
from edge.errors import SealaneError
from edge.seal import envelope, keys, receipt
from edge.seal.chain import ChainVerifier, Finding
from edge.seal.envelope import EpochLink
from edge.seal.keys import PrivateKey, PublicKey, Purpose
from edge.seal.opener import FileOpener

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("seal").joinpath("vectors.json").read_text()
)
PUBLIC: dict[str, PublicKey] = {
    one["kid"]: keys.parse_public(one["public"], Purpose(one["purpose"])) for one in VECTORS["keys"]
}


REASONS = {
    "padding that is not zero": "is not in the one form that it has",
    "a block more of padding than needed": "is not in the one form that it has",
    "no padding": "must be a map with padding",
    "a text and a reason for none": "must have a text or the reason why there is none",
    "a plate in small letters": "text: must be text like",
    "a map with a key twice": "a key twice or out of order",
}
"""Why each of the wrong records is refused."""


def number(epoch: int) -> str:
    """An epoch as the file has it."""
    return f"{epoch:016x}"


def opener(kid: str) -> FileOpener:
    one = next(one for one in VECTORS["keys"] if one["kid"] == kid)
    blocks = [
        block + "-----END PRIVATE KEY-----\n" for block in one["private"].split("-----END PRIVATE KEY-----\n")[:-1]
    ]
    halves = tuple(load_pem_private_key(block.encode(), None) for block in blocks)
    return FileOpener(PrivateKey(PUBLIC[kid], halves))  # type: ignore[arg-type]


def test_the_file_holds_what_it_should() -> None:
    assert {name: len(cases) for name, cases in VECTORS.items()} == {
        "keys": 7, "suites": 8, "chain": 8, "refused": 16, "wrong_records": 6, "receipts": 2
    }  # fmt: skip
    assert all(PUBLIC[one["kid"]].kid.hex() == one["kid"] for one in VECTORS["keys"])


def test_any_language_can_hold_the_numbers_of_the_file() -> None:
    whole = json.loads(json.dumps(VECTORS), parse_int=lambda digits: int(digits) == int(float(digits)))
    assert False not in _leaves(whole)


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, dict | list):
        return [value]
    return [leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(one)]


@pytest.mark.parametrize("vector", VECTORS["suites"] + VECTORS["chain"])
def test_a_message_says_what_the_vector_says(vector: dict[str, Any]) -> None:
    found = envelope.parse(bytes.fromhex(vector["message"]))
    envelope.verify(found, PUBLIC[vector["signer"]])
    header, said = found.header, vector["header"]
    assert found.digest.hex() == vector["digest"]
    assert [kid.hex() for kid in found.recipients] == vector["recipients"]
    assert (header.version, header.lane, number(header.epoch), header.seq) == tuple(
        said[name] for name in ("version", "lane", "epoch", "seq")
    )
    assert (header.time_ns, header.kind, header.trust_version) == tuple(
        said[name] for name in ("time_ns", "kind", "trust_version")
    )
    if isinstance(header.prev, EpochLink):
        assert said["prev"] == {"epoch": number(header.prev.epoch), "head": header.prev.head.hex()}
    else:
        assert said["prev"] == (header.prev and header.prev.hex())
    gap = header.gap
    assert said["gap"] == (gap and [gap.first_seq, gap.last_seq, gap.last_hash.hex()])
    for kid in vector["recipients"]:
        plaintext = envelope.open_plaintext(found, opener(kid))
        assert plaintext.hex() == vector["plaintext"]
        assert record.encode(record.decode(header.kind, plaintext)) == plaintext


def test_the_chain_holds_with_its_declared_gap_and_its_second_epoch() -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    messages = [envelope.parse(bytes.fromhex(vector["message"])) for vector in VECTORS["chain"]]
    in_turn = sorted(
        messages, key=lambda one: (one.header.epoch, one.header.gap.first_seq if one.header.gap else one.header.seq)
    )
    findings = [verifier.accept(one).finding for one in in_turn]
    assert findings.count(Finding.NEW_EPOCH) == 2
    assert findings.count(Finding.DECLARED) == 1
    assert findings.count(Finding.IN_ORDER) == 5
    assert [verifier.complete_up_to(epoch) for epoch in verifier.epochs] == [8, 2]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_a_message_of_a_wrong_shape_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    with pytest.raises(SealaneError) as caught:
        envelope.parse(bytes.fromhex(vector["message"]))
    assert caught.value.code == vector["code"]


@pytest.mark.parametrize("vector", VECTORS["wrong_records"], ids=lambda vector: vector["why"])
def test_a_plaintext_that_is_no_record_is_refused_with_its_code_for_the_reason_that_it_names(
    vector: dict[str, Any],
) -> None:
    plaintext = bytes.fromhex(vector["plaintext"])
    with pytest.raises(SealaneError) as caught:
        record.decode(vector["kind"], plaintext)
    assert caught.value.code == vector["code"]
    assert REASONS[vector["why"]] in str(caught.value)
    assert len(plaintext) % record.BLOCK_BYTES == 0, "its length is wrong as well"
    assert len(plaintext) >= record.LEAST_READ_BYTES, "its length is wrong as well"


@pytest.mark.parametrize("vector", VECTORS["receipts"])
def test_a_receipt_says_what_the_vector_says(vector: dict[str, Any]) -> None:
    said = receipt.verify(receipt.parse(bytes.fromhex(vector["receipt"])), [PUBLIC[vector["signer"]]])
    assert (said.lane, number(said.epoch), said.up_to_seq, said.head.hex(), said.time_ns) == tuple(
        vector[name] for name in ("lane", "epoch", "up_to_seq", "head", "time_ns")
    )
