"""Recipients: how a key is sealed to, by COSE algorithm number, and who opens (`Opener`): a key file or a token."""

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.errors import KeyFileWrongKind
from edge.seal import cose, hpke
from edge.seal.keys import KeyType, PrivateKey, PublicKey, Purpose

ALGORITHMS = {
    KeyType.X25519: cose.HPKE_4_KE,
    KeyType.P256: cose.HPKE_7_KE,
    KeyType.MLKEM768_X25519: cose.HPKE_9_KE,
}
"""The one algorithm that sealane uses a recipient key with; each encrypts the content key with 256 bits."""


class Opener(Protocol):
    """The holder of a recipient's private half."""

    @property
    def public(self) -> PublicKey:
        """The public half; its kid finds the recipient's part of a message."""

    @property
    def half(self) -> hpke.PrivateHalf:
        """The private half, as HPKE asks for it."""


class FileOpener:
    """Opens with a private key in memory. KeyFileWrongKind if the key is not a recipient's."""

    def __init__(self, key: PrivateKey) -> None:
        if key.public.purpose is not Purpose.RECIPIENT:
            raise KeyFileWrongKind("a signing key cannot open records")
        self.public = key.public
        self.half: hpke.PrivateHalf
        match key.parts:
            case (mlkem.MLKEM768PrivateKey() as post_quantum, x25519.X25519PrivateKey() as classical):
                self.half = hpke.HybridHalf(post_quantum, classical)
            case (x25519.X25519PrivateKey() | ec.EllipticCurvePrivateKey() as alone,):
                self.half = hpke.SoftwareHalf(alone)


def kem_public(key: PublicKey) -> bytes:
    """A recipient's public key as its KEM serialises it."""
    return b"".join(
        part.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        if isinstance(part, ec.EllipticCurvePublicKey)
        else part.public_bytes_raw()
        for part in key.parts
    )
