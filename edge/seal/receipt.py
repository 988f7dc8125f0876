"""Receipts: a collector's signed word that it holds a lane's messages without a hole up to a sequence number.

A COSE_Sign1 in one strict shape (docs/wire-format.md). Only a receipt lets the lane's outbox forget.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edge.cbor import Malformed, decode, encode
from edge.errors import ReceiptMalformed, SignatureInvalid
from edge.schema import Codec, shape
from edge.seal import cose, fields
from edge.seal.keys import PublicKey
from edge.seal.signer import Signer, algorithm_of, check

MAX_RECEIPT_BYTES = 512
EXTERNAL_AAD = b"sealane receipt 1"
"""Keeps a receipt's signature apart from every other use of the same key."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """(lane, epoch) is held whole up to and with `up_to_seq`, whose digest is `head`, as of `time_ns` (UTC)."""

    lane: str
    epoch: int
    up_to_seq: int
    head: bytes
    time_ns: int


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt, well formed. Whether its signature holds is for `verify` to say."""

    receipt: Receipt
    algorithm: int
    kid: bytes
    outer: cose.Sign1


def sign(receipt: Receipt, signer: Signer) -> bytes:
    """The receipt as it is sent. ReceiptMalformed if a field of it is out of bounds."""
    try:
        payload = encode(_receipt.put(receipt))
    except Malformed as error:
        raise ReceiptMalformed(str(error)) from error
    headers = cose.Headers(encode(_headers.put(_Headers(signer.algorithm, signer.public.kid))))
    return cose.Sign1.sign(headers, payload, signer, EXTERNAL_AAD).encode()


def parse(data: bytes) -> SignedReceipt:
    """The receipt in `data`; ReceiptMalformed."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise ReceiptMalformed(f"{len(data)} bytes, more than {MAX_RECEIPT_BYTES}")
    try:
        outer = cose.Sign1.parse(data)
        headers = _headers.get(outer.headers.protected_map)
        if outer.headers.unprotected or len(outer.signature) != fields.SIGNATURE_BYTES:
            raise Malformed("has not the shape of this format")
        return SignedReceipt(_receipt.get(decode(outer.payload)), headers.algorithm, headers.kid, outer)
    except Malformed as error:
        raise ReceiptMalformed(str(error)) from error


def verify(signed: SignedReceipt, collectors: Iterable[PublicKey]) -> Receipt:
    """What was confirmed, if one of `collectors` signed it; else SignatureInvalid."""
    for key in collectors:
        if key.kid == signed.kid and algorithm_of(key) == signed.algorithm:
            check(signed.algorithm, key.parts[0], signed.outer.signed_bytes(EXTERNAL_AAD), signed.outer.signature)
            return signed.receipt
    raise SignatureInvalid("the receipt names none of the collectors' keys")


@dataclass(frozen=True, slots=True)
class _Headers:
    algorithm: int
    kid: bytes


_headers: Codec[_Headers] = shape(
    _Headers, {cose.Label.ALG: ("algorithm", fields.algorithm), cose.Label.KID: ("kid", fields.kid)}
)
_receipt: Codec[Receipt] = shape(
    Receipt,
    {
        0: ("lane", fields.lane),
        1: ("epoch", fields.epoch),
        2: ("up_to_seq", fields.seq),
        3: ("head", fields.digest),
        4: ("time_ns", fields.time_ns),
    },
)
