"""Enrolment: what a box asks of the owner, signed with the key it asks for; for a further key, with the old one too.

The request is not secret. What must be compared over another way is its fingerprint, before the owner countersigns; and
that of the owner's root, before the box takes what comes back.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from string import hexdigits

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import AuthorityUnknown, KeyFileError, RequestInvalid, SealError
from edge.seal import keys
from edge.seal.keys import PublicKey, Purpose
from edge.seal.signer import Signer, algorithm_of, check

MAX_REQUEST_BYTES = 16 << 10
CONTEXT = b"sealane enrolment 1\0"
SCANNED = re.compile("^sealane:[a-z0-9-]+:")
"""What a QR code of `sealane enrol` says before the fingerprint."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=1, le=1)
    lane: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    signing_key: str = Field(max_length=1000)
    tls_key: str = Field(max_length=1000)
    replaces: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")
    old_signature: str | None = Field(None, pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        fields = self.model_dump(exclude={"signature", "old_signature"})
        return CONTEXT + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Request:
    """A well-formed request, signed with the key it names. replaces: kid of the key that may vouch for it."""

    lane: str
    signing_key: PublicKey
    tls_key: ec.EllipticCurvePublicKey
    replaces: bytes | None
    fingerprint: str
    _wire: _Wire

    def vouched_by(self, old: PublicKey) -> bool:
        """Whether the holder of `old` signed that this key follows it."""
        if self.replaces != old.kid or self._wire.old_signature is None:
            return False
        try:
            signature = bytes.fromhex(self._wire.old_signature)
            check(algorithm_of(old), old.parts[0], self._wire.signed_bytes(), signature)
        except SealError:
            return False
        return True


def make(lane: str, signer: Signer, tls_key: ec.EllipticCurvePublicKey, *, old: Signer | None = None) -> bytes:
    """A request for `lane` to sign with `signer`; `old` vouches for it where a lane has a key already."""
    tls_pem = tls_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    unsigned = _Wire(
        format=1,
        lane=lane,
        signing_key=signer.public.pem(),
        tls_key=tls_pem,
        replaces=old.public.kid.hex() if old else None,
        signature="0" * 128,
    )
    signed = unsigned.signed_bytes()
    wire = unsigned.model_copy(
        update={"signature": signer.sign(signed).hex(), "old_signature": old.sign(signed).hex() if old else None}
    )
    return wire.model_dump_json(indent=1).encode() + b"\n"


def parse(data: bytes) -> Request:
    """The request in a file or message. RequestInvalid."""
    if len(data) > MAX_REQUEST_BYTES:
        raise RequestInvalid(f"{len(data)} bytes, more than {MAX_REQUEST_BYTES}")
    try:
        wire = _Wire.model_validate_json(data)
        key = keys.parse_public(wire.signing_key, Purpose.SIGNING)
        tls_key = load_pem_public_key(wire.tls_key.encode())
        check(algorithm_of(key), key.parts[0], wire.signed_bytes(), bytes.fromhex(wire.signature))
    except ValidationError as error:
        raise RequestInvalid("this is no request of `sealane enrol`") from error
    except (KeyFileError, SealError, UnsupportedAlgorithm, ValueError) as error:
        raise RequestInvalid("its key or its signature does not hold") from error
    if not isinstance(tls_key, ec.EllipticCurvePublicKey) or not isinstance(tls_key.curve, ec.SECP256R1):
        raise RequestInvalid("its TLS key is not on P-256")
    replaces = bytes.fromhex(wire.replaces) if wire.replaces else None
    return Request(wire.lane, key, tls_key, replaces, fingerprint(wire.signed_bytes()), wire)


def fingerprint(data: bytes) -> str:
    """What people compare in place of a request or a root: in groups of four hex digits, as a key's."""
    return keys.fingerprint(hashlib.sha256(data).digest()[: keys.KID_BYTES])


def fingerprint_digits(*parts: str) -> str:
    """A fingerprint as people copy it, in one piece or several or from a QR code, without blanks.

    AuthorityUnknown if it is none.
    """
    digits = SCANNED.sub("", "".join("".join(parts).split()).lower())
    if set(digits) - set(hexdigits):
        raise AuthorityUnknown("a fingerprint is made of hex digits")
    if len(digits) != 2 * keys.KID_BYTES:
        raise AuthorityUnknown(f"a fingerprint has {2 * keys.KID_BYTES} hex digits, not {len(digits)}")
    return digits
