"""COSE (RFC 9052, RFC 9053) with HPKE key encryption (draft-ietf-cose-hpke), in general form, by algorithm number.

Other people's messages run through this layer in the tests; what sealane itself says and accepts is the strict profile
in `envelope` and `receipt`. Parsing raises `cbor.Malformed`, for the profile above to translate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.cbor import Key, Malformed, Tag, Value, decode, encode
from edge.errors import AlgorithmUnsupported, OpeningFailed
from edge.seal import hpke
from edge.seal.signer import Signer, check

Map: TypeAlias = Mapping[Key, Value]


class Label(IntEnum):
    """Header parameters (RFC 9052, section 3.1; EK and PSK_ID from draft-ietf-cose-hpke)."""

    ALG = 1
    CRIT = 2
    CONTENT_TYPE = 3
    KID = 4
    IV = 5
    EK = -4
    PSK_ID = -5


class TagNumber(IntEnum):
    """CBOR tags of COSE messages (RFC 9052, section 2)."""

    ENCRYPT0 = 16
    SIGN1 = 18
    ENCRYPT = 96
    SIGN = 98


class ContentAlgorithm(IntEnum):
    """AES-GCM (RFC 9053, section 4.1)."""

    A128GCM = 1
    A192GCM = 2
    A256GCM = 3


_SUITES = (
    hpke.Suite(hpke.P256, hpke.HKDF_SHA256, hpke.AES_128_GCM),
    hpke.Suite(hpke.P384, hpke.HKDF_SHA384, hpke.AES_256_GCM),
    hpke.Suite(hpke.P521, hpke.HKDF_SHA512, hpke.AES_256_GCM),
    hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, hpke.AES_128_GCM),
    hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, hpke.CHACHA20_POLY1305),
    hpke.Suite(hpke.X448, hpke.HKDF_SHA512, hpke.AES_256_GCM),
    hpke.Suite(hpke.X448, hpke.HKDF_SHA512, hpke.CHACHA20_POLY1305),
    hpke.Suite(hpke.P256, hpke.HKDF_SHA256, hpke.AES_256_GCM),
)
HPKE_INTEGRATED = dict(zip((35, 37, 39, 41, 42, 43, 44, 45), _SUITES, strict=True))
"""HPKE-0 to HPKE-7 by COSE algorithm number, as draft-ietf-cose-hpke-24 assumes them."""
HPKE_4_KE, HPKE_7_KE, HPKE_9_KE = 50, 53, 57
HPKE_KEY_ENCRYPTION = dict(zip(range(46, 54), _SUITES, strict=True)) | {
    HPKE_9_KE: hpke.Suite(hpke.MLKEM768_X25519, hpke.SHAKE256, hpke.AES_256_GCM)
}
"""HPKE-0-KE to HPKE-7-KE, and HPKE-9-KE as draft-ietf-cose-hpke-pq-pqt assumes it."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The two header buckets of a layer. `protected` is kept as the bytes that were or will be authenticated."""

    protected: bytes = b""
    unprotected: Map = field(default_factory=dict)

    @classmethod
    def of(cls, protected: Map, unprotected: Map | None = None) -> "Headers":
        """Headers to send; an empty protected map is a byte string of no bytes."""
        return cls(encode(protected) if protected else b"", unprotected or {})

    @classmethod
    def parse(
        cls, protected: Value, unprotected: Value, deterministic: bool, critical: Sequence[int] = ()
    ) -> "Headers":
        """Headers received. `critical`: the labels beyond Label that the caller understands."""
        if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
            raise Malformed("headers must be a byte string and a map")
        headers = cls(protected, unprotected)
        decoded = decode(protected, deterministic=deterministic) if protected else {}
        if not isinstance(decoded, dict) or (deterministic and protected == b"\xa0"):
            raise Malformed("protected headers must be a map, or no bytes")
        if Label.CRIT in unprotected or decoded.keys() & unprotected.keys():
            raise Malformed("headers stand in the wrong bucket, or in both")
        if Label.CRIT in decoded:
            asked = _list(decoded[Label.CRIT], "crit")
            if not asked or any(label not in decoded or label not in (*Label, *critical) for label in asked):
                raise Malformed("crit asks for a header that is not understood")
        return headers

    def protected_map(self) -> Map:
        """The protected headers, decoded."""
        value = decode(self.protected, deterministic=False) if self.protected else {}
        return value if isinstance(value, dict) else {}

    def get(self, label: int) -> Value:
        """A header from either bucket, or None. The protected one wins."""
        protected = self.protected_map()
        return protected[label] if label in protected else self.unprotected.get(label)

    def algorithm(self) -> int:
        """The layer's algorithm number. Malformed if it is absent or not a number."""
        algorithm = self.get(Label.ALG)
        if not isinstance(algorithm, int) or isinstance(algorithm, bool):
            raise Malformed("a layer without an algorithm number")
        return algorithm


@dataclass(frozen=True, slots=True)
class Sign1:
    """COSE_Sign1: one signer."""

    headers: Headers
    payload: bytes
    signature: bytes

    @classmethod
    def sign(cls, headers: Headers, payload: bytes, signer: Signer, external_aad: bytes = b"") -> "Sign1":
        """`payload` signed; the headers name the algorithm."""
        return cls(headers, payload, signer.sign(_signed(headers, payload, external_aad)))

    @classmethod
    def parse(cls, data: bytes, *, deterministic: bool = True, critical: Sequence[int] = ()) -> "Sign1":
        protected, unprotected, payload, signature = _items(
            decode(data, deterministic=deterministic), TagNumber.SIGN1, 4
        )
        return cls(
            Headers.parse(protected, unprotected, deterministic, critical),
            _bytes(payload, "the payload"),
            _bytes(signature, "the signature"),
        )

    def encode(self) -> bytes:
        fields: list[Value] = [self.headers.protected, self.headers.unprotected, self.payload, self.signature]
        return encode(Tag(TagNumber.SIGN1, fields))

    def signed_bytes(self, external_aad: bytes = b"") -> bytes:
        """The Sig_structure (RFC 9052, section 4.4), which is what the signature is over."""
        return _signed(self.headers, self.payload, external_aad)

    def verify(self, key: object, external_aad: bytes = b"") -> None:
        """SignatureInvalid unless the signature holds under `key`; AlgorithmUnsupported."""
        check(self.headers.algorithm(), key, self.signed_bytes(external_aad), self.signature)


@dataclass(frozen=True, slots=True)
class Signature:
    """One of the signatures of a COSE_Sign."""

    headers: Headers
    signature: bytes


@dataclass(frozen=True, slots=True)
class Sign:
    """COSE_Sign: several signers."""

    headers: Headers
    payload: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes, *, deterministic: bool = True) -> "Sign":
        protected, unprotected, payload, signatures = _items(
            decode(data, deterministic=deterministic), TagNumber.SIGN, 4
        )
        found = []
        for item in _list(signatures, "the signatures"):
            own_protected, own_unprotected, signature = _items(item, None, 3)
            headers = Headers.parse(own_protected, own_unprotected, deterministic)
            found.append(Signature(headers, _bytes(signature, "a signature")))
        return cls(Headers.parse(protected, unprotected, deterministic), _bytes(payload, "the payload"), tuple(found))

    def verify(self, index: int, key: object, external_aad: bytes = b"") -> None:
        """SignatureInvalid unless signature `index` holds under `key`; AlgorithmUnsupported."""
        one = self.signatures[index]
        fields: list[Value] = [
            "Signature", self.headers.protected, one.headers.protected, external_aad, self.payload
        ]  # fmt: skip
        check(one.headers.algorithm(), key, encode(fields), one.signature)


@dataclass(frozen=True, slots=True)
class Recipient:
    """COSE_recipient: the content key, encrypted for one recipient."""

    headers: Headers
    ciphertext: bytes

    @classmethod
    def wrap(cls, algorithm: int, public: bytes, kid: bytes, content_key: bytes, content_algorithm: int) -> "Recipient":
        """`content_key`, encrypted with HPKE for the holder of `public` (bytes as the KEM serialises it)."""
        protected = encode({Label.ALG: algorithm, Label.KID: kid})
        suite = _suite(HPKE_KEY_ENCRYPTION, algorithm)
        encapsulated, ciphertext = suite.seal(public, content_key, recipient_structure(content_algorithm, protected))
        return cls(Headers(protected, {Label.EK: encapsulated}), ciphertext)

    def unwrap(
        self,
        private: hpke.PrivateHalf,
        content_algorithm: int,
        *,
        extra_info: bytes = b"",
        aad: bytes = b"",
        psk: bytes = b"",
    ) -> bytes:
        """The content key. OpeningFailed, AlgorithmUnsupported, or Malformed for headers that are not there."""
        return _suite(HPKE_KEY_ENCRYPTION, self.headers.algorithm()).open(
            private,
            _bytes(self.headers.get(Label.EK), "the encapsulated key"),
            self.ciphertext,
            recipient_structure(content_algorithm, self.headers.protected, extra_info),
            aad,
            psk,
            _psk_id(self.headers),
        )


@dataclass(frozen=True, slots=True)
class Encrypt:
    """COSE_Encrypt: content under a key that each recipient gets."""

    headers: Headers
    ciphertext: bytes
    recipients: tuple[Recipient, ...]

    @classmethod
    def encrypt(
        cls,
        headers: Headers,
        plaintext: bytes,
        content_key: bytes,
        recipients: Sequence[Recipient],
        external_aad: bytes = b"",
    ) -> "Encrypt":
        """`plaintext` under `content_key`; the headers name an AES-GCM algorithm and the IV."""
        ciphertext = _content_cipher(headers, content_key).encrypt(
            _iv(headers), plaintext, _enc_structure("Encrypt", headers, external_aad)
        )
        return cls(headers, ciphertext, tuple(recipients))

    @classmethod
    def parse(cls, data: bytes, *, deterministic: bool = True) -> "Encrypt":
        fields = _items(decode(data, deterministic=deterministic), TagNumber.ENCRYPT, 4)
        recipients = []
        for item in _list(fields[3], "the recipients"):
            protected, unprotected, wrapped = _items(item, None, 3)
            headers = Headers.parse(protected, unprotected, deterministic)
            recipients.append(Recipient(headers, _bytes(wrapped, "a wrapped key")))
        headers = Headers.parse(fields[0], fields[1], deterministic)
        return cls(headers, _bytes(fields[2], "the ciphertext"), tuple(recipients))

    def encode(self) -> bytes:
        recipients: list[Value] = [
            [one.headers.protected, one.headers.unprotected, one.ciphertext] for one in self.recipients
        ]
        fields: list[Value] = [self.headers.protected, self.headers.unprotected, self.ciphertext, recipients]
        return encode(Tag(TagNumber.ENCRYPT, fields))

    def decrypt(self, content_key: bytes, external_aad: bytes = b"") -> bytes:
        """The plaintext. OpeningFailed, AlgorithmUnsupported."""
        return _decrypt("Encrypt", self.headers, self.ciphertext, content_key, external_aad)


@dataclass(frozen=True, slots=True)
class Encrypt0:
    """COSE_Encrypt0: content for a key that is known, or sealed with HPKE as a whole."""

    headers: Headers
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes, *, deterministic: bool = True) -> "Encrypt0":
        fields = _items(decode(data, deterministic=deterministic), TagNumber.ENCRYPT0, 3)
        return cls(Headers.parse(fields[0], fields[1], deterministic), _bytes(fields[2], "the ciphertext"))

    def decrypt(self, content_key: bytes, external_aad: bytes = b"") -> bytes:
        """The plaintext under an AES-GCM key. OpeningFailed, AlgorithmUnsupported."""
        return _decrypt("Encrypt0", self.headers, self.ciphertext, content_key, external_aad)

    def open(
        self, private: hpke.PrivateHalf, *, info: bytes = b"", external_aad: bytes = b"", psk: bytes = b""
    ) -> bytes:
        """The plaintext of an HPKE-n message (integrated encryption). OpeningFailed, AlgorithmUnsupported."""
        return _suite(HPKE_INTEGRATED, self.headers.algorithm()).open(
            private,
            _bytes(self.headers.get(Label.EK), "the encapsulated key"),
            self.ciphertext,
            info,
            _enc_structure("Encrypt0", self.headers, external_aad),
            psk,
            _psk_id(self.headers),
        )


def recipient_structure(content_algorithm: int, protected: bytes, extra_info: bytes = b"") -> bytes:
    """The Recipient_structure of draft-ietf-cose-hpke, which is HPKE's `info` for key encryption."""
    return encode(["HPKE Recipient", content_algorithm, protected, extra_info])


def _signed(headers: Headers, payload: bytes, external_aad: bytes) -> bytes:
    return encode(["Signature1", headers.protected, external_aad, payload])


def _enc_structure(context: str, headers: Headers, external_aad: bytes) -> bytes:
    return encode([context, headers.protected, external_aad])


def _decrypt(context: str, headers: Headers, ciphertext: bytes, content_key: bytes, external_aad: bytes) -> bytes:
    try:
        return _content_cipher(headers, content_key).decrypt(
            _iv(headers), ciphertext, _enc_structure(context, headers, external_aad)
        )
    except (InvalidTag, ValueError) as error:
        raise OpeningFailed("the content does not open") from error


_KEY_BYTES = {ContentAlgorithm.A128GCM: 16, ContentAlgorithm.A192GCM: 24, ContentAlgorithm.A256GCM: 32}


def _content_cipher(headers: Headers, content_key: bytes) -> AESGCM:
    algorithm = headers.algorithm()
    if algorithm not in _KEY_BYTES:
        raise AlgorithmUnsupported(f"COSE content algorithm {algorithm}")
    if len(content_key) != _KEY_BYTES[ContentAlgorithm(algorithm)]:
        raise OpeningFailed("a content key of the wrong length")
    return AESGCM(content_key)


def _iv(headers: Headers) -> bytes:
    return _bytes(headers.get(Label.IV), "the IV")


def _psk_id(headers: Headers) -> bytes:
    value = headers.get(Label.PSK_ID)
    return b"" if value is None else _bytes(value, "the PSK's id")


def _suite(suites: Mapping[int, hpke.Suite], algorithm: int) -> hpke.Suite:
    if algorithm not in suites:
        raise AlgorithmUnsupported(f"COSE HPKE algorithm {algorithm}")
    return suites[algorithm]


def _items(value: Value, tag: int | None, count: int) -> list[Value]:
    if tag is not None:
        if not isinstance(value, Tag) or value.number != tag:
            raise Malformed(f"must carry tag {tag}")
        value = value.value
    items = _list(value, "a message")
    if len(items) != count:
        raise Malformed(f"must be an array of {count}")
    return items


def _list(value: Value, what: str) -> list[Value]:
    if not isinstance(value, list):
        raise Malformed(f"{what} must be an array")
    return value


def _bytes(value: Value, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed(f"{what} must be a byte string")
    return value
