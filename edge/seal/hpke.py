"""HPKE (RFC 9180) in a single shot, with the one-stage KDF and the hybrid KEM of draft-ietf-hpke-pq.

Seals in base mode; opens in base and PSK mode. The key schedule is written here, over the primitives of `cryptography`,
because a recipient's private half may sit in a token that gives nothing but a Diffie-Hellman result: `PrivateHalf` is
all that opening needs. Tests hold it against the vectors of RFC 9180 and against the HPKE of `cryptography`.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.errors import OpeningFailed


class PrivateHalf(Protocol):
    """A recipient's private key, wherever it is kept."""

    @property
    def public(self) -> bytes:
        """The public half, serialised as its KEM says."""

    def agree(self, encapsulated: bytes) -> bytes:
        """What this key and an encapsulated key have in common. ValueError if `encapsulated` is no valid key."""


class Kem(Protocol):
    """A key encapsulation mechanism. Public and encapsulated keys are bytes as the KEM serialises them."""

    @property
    def id(self) -> int: ...

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """(shared secret, encapsulated key) for the holder of `public`. ValueError if it is no valid key."""

    def decapsulate(self, private: PrivateHalf, encapsulated: bytes) -> bytes:
        """The shared secret again. ValueError if `encapsulated` is no valid key."""


class Kdf(Protocol):
    """A key derivation function and the key schedule that goes with it."""

    @property
    def id(self) -> int: ...

    def schedule(
        self, suite_id: bytes, secret: bytes, info: bytes, psk: bytes, psk_id: bytes, key_bytes: int
    ) -> tuple[bytes, bytes]:
        """(key, nonce) for the one message."""


@dataclass(frozen=True, slots=True)
class Aead:
    """An AEAD of RFC 9180, section 7.3; each has a nonce of 12 bytes and a tag of 16."""

    id: int
    key_bytes: int
    cipher: type[AESGCM] | type[ChaCha20Poly1305]


@dataclass(frozen=True, slots=True)
class Suite:
    """One choice of the three algorithms."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    def seal(self, public: bytes, plaintext: bytes, info: bytes) -> tuple[bytes, bytes]:
        """(encapsulated key, ciphertext), for the holder of `public`, in base mode. ValueError for no public key."""
        secret, encapsulated = self.kem.encapsulate(public)
        key, nonce = self._schedule(secret, info)
        return encapsulated, self.aead.cipher(key).encrypt(nonce, plaintext, None)

    def open(
        self,
        private: PrivateHalf,
        encapsulated: bytes,
        ciphertext: bytes,
        info: bytes,
        aad: bytes = b"",
        psk: bytes = b"",
        psk_id: bytes = b"",
    ) -> bytes:
        """The plaintext; OpeningFailed if anything of it, of `info` or of `aad` is not as it was sealed."""
        try:
            secret = self.kem.decapsulate(private, encapsulated)
            key, nonce = self._schedule(secret, info, psk, psk_id)
            return self.aead.cipher(key).decrypt(nonce, ciphertext, aad)
        except (InvalidTag, ValueError) as error:
            raise OpeningFailed("a sealed key does not open") from error

    def _schedule(self, secret: bytes, info: bytes, psk: bytes = b"", psk_id: bytes = b"") -> tuple[bytes, bytes]:
        suite_id = b"HPKE" + b"".join(part.id.to_bytes(2, "big") for part in (self.kem, self.kdf, self.aead))
        return self.kdf.schedule(suite_id, secret, info, psk, psk_id, self.aead.key_bytes)


@dataclass(frozen=True, slots=True)
class Hkdf:
    """The two-stage KDFs of RFC 9180: extract, then expand."""

    id: int
    digest: str

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """HKDF-Extract of RFC 5869."""
        return hmac.digest(salt, ikm, self.digest)

    def expand(self, prk: bytes, info: bytes, size: int) -> bytes:
        """HKDF-Expand of RFC 5869. ValueError beyond 255 digests."""
        out = block = b""
        counter = 1
        while len(out) < size:
            block = hmac.digest(prk, block + info + bytes([counter]), self.digest)
            out += block
            counter += 1
        return out[:size]

    def labelled_extract(self, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        """LabeledExtract, section 4."""
        return self.extract(salt, b"HPKE-v1" + suite_id + label + ikm)

    def labelled_expand(self, suite_id: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        """LabeledExpand, section 4."""
        return self.expand(prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info, size)

    def schedule(
        self, suite_id: bytes, secret: bytes, info: bytes, psk: bytes, psk_id: bytes, key_bytes: int
    ) -> tuple[bytes, bytes]:
        """KeySchedule, section 5.1."""
        context = (
            bytes([bool(psk)])
            + self.labelled_extract(suite_id, b"", b"psk_id_hash", psk_id)
            + self.labelled_extract(suite_id, b"", b"info_hash", info)
        )
        prk = self.labelled_extract(suite_id, secret, b"secret", psk)
        return (
            self.labelled_expand(suite_id, prk, b"key", context, key_bytes),
            self.labelled_expand(suite_id, prk, b"base_nonce", context, 12),
        )


@dataclass(frozen=True, slots=True)
class Shake256:
    """The one-stage KDF of draft-ietf-hpke-pq, with the key schedule of draft-ietf-hpke-hpke, section 5.1."""

    id: int = 0x11

    def schedule(
        self, suite_id: bytes, secret: bytes, info: bytes, psk: bytes, psk_id: bytes, key_bytes: int
    ) -> tuple[bytes, bytes]:
        """CombineSecrets_OneStage."""
        size = key_bytes + 12 + 64
        labelled = b"HPKE-v1" + suite_id + _prefixed(b"secret") + size.to_bytes(2, "big")
        context = bytes([bool(psk)]) + _prefixed(psk_id) + _prefixed(info)
        out = hashlib.shake_256(_prefixed(psk) + _prefixed(secret) + labelled + context).digest(size)
        return out[:key_bytes], out[key_bytes : key_bytes + 12]


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


AgreementKey = x25519.X25519PrivateKey | x448.X448PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class SoftwareHalf:
    """A Diffie-Hellman key in this process's memory."""

    key: AgreementKey

    @property
    def public(self) -> bytes:
        public = self.key.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return public.public_bytes_raw()

    def agree(self, encapsulated: bytes) -> bytes:
        match self.key:
            case x25519.X25519PrivateKey():
                return self.key.exchange(x25519.X25519PublicKey.from_public_bytes(encapsulated))
            case x448.X448PrivateKey():
                return self.key.exchange(x448.X448PublicKey.from_public_bytes(encapsulated))
            case _:
                peer = ec.EllipticCurvePublicKey.from_encoded_point(self.key.curve, encapsulated)
                return self.key.exchange(ec.ECDH(), peer)


@dataclass(frozen=True, slots=True)
class DhKem:
    """DHKEM, section 4.1. `curve`: None for the curves of RFC 7748, which `id` tells apart."""

    id: int
    hkdf: Hkdf
    secret_bytes: int
    curve: ec.EllipticCurve | None = None

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        ephemeral = SoftwareHalf(self._generate())
        encapsulated = ephemeral.public
        return self._derive(ephemeral.agree(public), encapsulated, public), encapsulated

    def decapsulate(self, private: PrivateHalf, encapsulated: bytes) -> bytes:
        return self._derive(private.agree(encapsulated), encapsulated, private.public)

    def _generate(self) -> AgreementKey:
        if self.curve is not None:
            return ec.generate_private_key(self.curve)
        return x25519.X25519PrivateKey.generate() if self.id == 0x20 else x448.X448PrivateKey.generate()

    def _derive(self, agreed: bytes, encapsulated: bytes, public: bytes) -> bytes:
        suite_id = b"KEM" + self.id.to_bytes(2, "big")
        prk = self.hkdf.labelled_extract(suite_id, b"", b"eae_prk", agreed)
        return self.hkdf.labelled_expand(suite_id, prk, b"shared_secret", encapsulated + public, self.secret_bytes)


@dataclass(frozen=True, slots=True)
class HybridHalf:
    """An ML-KEM-768 and an X25519 key in this process's memory, of which an attacker must break both."""

    post_quantum: mlkem.MLKEM768PrivateKey
    classical: x25519.X25519PrivateKey

    @property
    def public(self) -> bytes:
        return self.post_quantum.public_key().public_bytes_raw() + self.classical.public_key().public_bytes_raw()

    def agree(self, encapsulated: bytes) -> bytes:
        if len(encapsulated) != _MLKEM_CIPHERTEXT + 32:
            raise ValueError("not an encapsulated key of this KEM")
        ciphertext, ephemeral = encapsulated[:_MLKEM_CIPHERTEXT], encapsulated[_MLKEM_CIPHERTEXT:]
        return combine(
            self.post_quantum.decapsulate(ciphertext),
            self.classical.exchange(x25519.X25519PublicKey.from_public_bytes(ephemeral)),
            ephemeral,
            self.classical.public_key().public_bytes_raw(),
        )


@dataclass(frozen=True, slots=True)
class HybridKem:
    """MLKEM768-X25519 of draft-irtf-cfrg-concrete-hybrid-kems, which is X-Wing; id 0x647a in draft-ietf-hpke-pq."""

    id: int = 0x647A

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        if len(public) != _MLKEM_PUBLIC + 32:
            raise ValueError("not a public key of this KEM")
        lattice = mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC])
        secret, ciphertext = lattice.encapsulate()
        ephemeral = x25519.X25519PrivateKey.generate()
        shared = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]))
        point = ephemeral.public_key().public_bytes_raw()
        return combine(secret, shared, point, public[_MLKEM_PUBLIC:]), ciphertext + point

    def decapsulate(self, private: PrivateHalf, encapsulated: bytes) -> bytes:
        return private.agree(encapsulated)


_MLKEM_PUBLIC = 1184
_MLKEM_CIPHERTEXT = 1088
_COMBINER_LABEL = b"\\.//^\\"


def combine(lattice: bytes, classical: bytes, ephemeral: bytes, public: bytes) -> bytes:
    """The hybrid's secret, from both secrets and the X25519 keys (draft-irtf-cfrg-hybrid-kems: C2PRI combiner)."""
    return hashlib.sha3_256(lattice + classical + ephemeral + public + _COMBINER_LABEL).digest()


HKDF_SHA256 = Hkdf(1, "sha256")
HKDF_SHA384 = Hkdf(2, "sha384")
HKDF_SHA512 = Hkdf(3, "sha512")
SHAKE256 = Shake256()

P256 = DhKem(0x10, HKDF_SHA256, 32, ec.SECP256R1())
P384 = DhKem(0x11, HKDF_SHA384, 48, ec.SECP384R1())
P521 = DhKem(0x12, HKDF_SHA512, 64, ec.SECP521R1())
X25519 = DhKem(0x20, HKDF_SHA256, 32)
X448 = DhKem(0x21, HKDF_SHA512, 64)
MLKEM768_X25519 = HybridKem()

AES_128_GCM = Aead(1, 16, AESGCM)
AES_256_GCM = Aead(2, 32, AESGCM)
CHACHA20_POLY1305 = Aead(3, 32, ChaCha20Poly1305)
