"""The fields that messages and receipts have in common, with their bounds."""

from typing import Any

from edge.cbor import Malformed
from edge.schema import Codec, blob, text, whole
from edge.seal.keys import KID_BYTES
from edge.seal.signer import SignatureAlgorithm

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
"""Of both signature algorithms."""


def _algorithm(value: Any) -> int:
    if value not in (SignatureAlgorithm.ED25519, SignatureAlgorithm.ESP256):
        raise Malformed("must be one of this format's signature algorithms")
    return int(value)


algorithm = Codec(_algorithm, _algorithm)
kid = blob(KID_BYTES, KID_BYTES)
digest = blob(DIGEST_BYTES, DIGEST_BYTES)
lane: Codec[str] = text("[a-z0-9][a-z0-9-]{0,31}")
epoch = whole(0, 2**64 - 1)
seq = whole(1, 2**63 - 1)
time_ns = whole(0, 2**63 - 1)
