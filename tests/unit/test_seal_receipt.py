from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cbor import encode
from edge.errors import ReceiptMalformed, SealError, SignatureInvalid
from edge.seal import cose, receipt
from edge.seal.keys import KeyType
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.sealing import NOW, READ, sealer, signing_key

SAID = Receipt("lane-1", 2**64 - 1, 42, bytes(range(32)), NOW.utc_ns)
COLLECTOR = signing_key(name="collector")


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.P256])
def test_a_receipt_comes_back_as_it_was_signed(kind: KeyType) -> None:
    key = signing_key(kind, "collector")
    signed = receipt.parse(receipt.sign(SAID, FileSigner(key)))
    assert receipt.verify(signed, [signing_key().public, key.public]) == SAID


def test_only_a_collectors_key_confirms() -> None:
    signed = receipt.parse(receipt.sign(SAID, FileSigner(signing_key(name="stranger"))))
    with pytest.raises(SignatureInvalid):
        receipt.verify(signed, [COLLECTOR.public])
    with pytest.raises(SignatureInvalid):
        receipt.verify(signed, [])


def test_a_changed_receipt_does_not_hold() -> None:
    signed = receipt.parse(receipt.sign(SAID, FileSigner(COLLECTOR)))
    raised = replace(signed.outer, payload=encode({0: "lane-1", 1: 2**64 - 1, 2: 43, 3: SAID.head, 4: NOW.utc_ns}))
    with pytest.raises(SignatureInvalid):
        receipt.verify(receipt.parse(raised.encode()), [COLLECTOR.public])


def test_a_signature_made_for_something_else_confirms_nothing() -> None:
    """The same key over the same bytes, but not as a receipt."""
    signer = FileSigner(COLLECTOR)
    genuine = receipt.parse(receipt.sign(SAID, signer))
    plain = cose.Sign1.sign(genuine.outer.headers, genuine.outer.payload, signer)
    with pytest.raises(SignatureInvalid):
        receipt.verify(receipt.parse(plain.encode()), [COLLECTOR.public])


@pytest.mark.parametrize(
    "field", [{0: "Lane 1"}, {1: -1}, {2: 0}, {3: b"short"}, {4: -1}, {5: 1}, {2: None}, {2: 2**63}]
)
def test_a_receipt_of_another_shape_is_refused(field: dict[int, Any]) -> None:
    fields = {0: "lane-1", 1: 7, 2: 42, 3: SAID.head, 4: NOW.utc_ns, **field}
    signer = FileSigner(COLLECTOR)
    headers = cose.Headers.of({1: signer.algorithm, 4: signer.public.kid})
    made = cose.Sign1.sign(headers, encode(fields), signer, receipt.EXTERNAL_AAD)
    with pytest.raises(ReceiptMalformed):
        receipt.parse(made.encode())


def test_a_receipt_out_of_bounds_is_not_signed() -> None:
    with pytest.raises(ReceiptMalformed):
        receipt.sign(replace(SAID, up_to_seq=0), FileSigner(COLLECTOR))


def test_a_lanes_message_is_no_receipt() -> None:
    with pytest.raises(ReceiptMalformed):
        receipt.parse(sealer().seal(READ, 7, 12, bytes(32)).data)


@given(st.binary(max_size=600))
def test_bytes_from_anywhere_are_refused_with_a_code_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ReceiptMalformed):
        receipt.parse(data)


@given(st.data())
def test_a_flipped_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    changed = bytearray(receipt.sign(SAID, FileSigner(COLLECTOR)))
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        receipt.verify(receipt.parse(bytes(changed)), [COLLECTOR.public])
