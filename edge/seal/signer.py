"""Signatures: who signs (`Signer`), and whether a signature holds (`check`), by COSE algorithm number."""

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from edge.errors import AlgorithmUnsupported, KeyFileWrongKind, SignatureInvalid
from edge.seal.keys import PrivateKey, PublicKey, Purpose


class SignatureAlgorithm(IntEnum):
    """IANA's COSE algorithm numbers (RFC 9053; the fully specified ones from RFC 9864)."""

    ES256 = -7
    EDDSA = -8
    ESP256 = -9
    ED25519 = -19
    ES384 = -35
    ES512 = -36


class Signer(Protocol):
    """What signs for this lane or collector: a key file or a token."""

    @property
    def public(self) -> PublicKey:
        """The public half; its kid goes into the message."""

    @property
    def algorithm(self) -> int:
        """COSE algorithm number: ED25519 or ESP256."""

    def sign(self, data: bytes) -> bytes:
        """The signature as COSE carries it: 64 bytes for both algorithms."""


class FileSigner:
    """Signs with a private key in memory. KeyFileWrongKind if the key is not for signing."""

    def __init__(self, key: PrivateKey) -> None:
        if key.public.purpose is not Purpose.SIGNING:
            raise KeyFileWrongKind("a recipient key cannot sign")
        self._key = key.parts[0]
        self.public = key.public
        self.algorithm: int = algorithm_of(key.public)

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `keys` makes no other
        return raw_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())), 32)


def algorithm_of(key: PublicKey) -> SignatureAlgorithm:
    """The one algorithm that sealane uses a signing key with."""
    return (
        SignatureAlgorithm.ED25519 if isinstance(key.parts[0], ed25519.Ed25519PublicKey) else SignatureAlgorithm.ESP256
    )


def check(algorithm: int, key: object, data: bytes, signature: bytes) -> None:
    """Nothing, if `signature` over `data` holds under `key` (a public key of `cryptography`).

    SignatureInvalid if not; AlgorithmUnsupported for an unknown number, or one that the key is not for.
    """
    verify = _ALGORITHMS.get(algorithm)
    if verify is None:
        raise AlgorithmUnsupported(f"COSE signature algorithm {algorithm}")
    try:
        verify(key, data, signature)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid("a signature does not hold") from error


def raw_signature(der: bytes, size: int) -> bytes:
    """An ECDSA signature as COSE carries it (r and s of `size` bytes each), from ASN.1."""
    return b"".join(number.to_bytes(size, "big") for number in decode_dss_signature(der))


def _edwards(*keys: type) -> Callable[[object, bytes, bytes], None]:
    def verify(key: object, data: bytes, signature: bytes) -> None:
        if not isinstance(key, keys):
            raise AlgorithmUnsupported("an Edwards-curve algorithm with a key that is not for it")
        key.verify(signature, data)  # type: ignore[attr-defined]

    return verify


def _ecdsa(digest: hashes.HashAlgorithm, *curves: type[ec.EllipticCurve]) -> Callable[[object, bytes, bytes], None]:
    def verify(key: object, data: bytes, signature: bytes) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curves):
            raise AlgorithmUnsupported("an ECDSA algorithm with a key that is not for it")
        size = (key.curve.key_size + 7) // 8
        if len(signature) != 2 * size:
            raise SignatureInvalid("a signature has the wrong length")
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))

    return verify


_NIST = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_ALGORITHMS: dict[int, Callable[[object, bytes, bytes], None]] = {
    SignatureAlgorithm.ES256: _ecdsa(hashes.SHA256(), *_NIST),
    SignatureAlgorithm.ES384: _ecdsa(hashes.SHA384(), *_NIST),
    SignatureAlgorithm.ES512: _ecdsa(hashes.SHA512(), *_NIST),
    SignatureAlgorithm.ESP256: _ecdsa(hashes.SHA256(), ec.SECP256R1),
    SignatureAlgorithm.EDDSA: _edwards(ed25519.Ed25519PublicKey, ed448.Ed448PublicKey),
    SignatureAlgorithm.ED25519: _edwards(ed25519.Ed25519PublicKey),
}
