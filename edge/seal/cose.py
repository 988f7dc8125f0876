"""COSE (RFC 9052, RFC 9053) with HPKE key encryption (draft-ietf-cose-hpke), in general form, by algorithm number.

Other people's messages run through this layer in the tests; what sealane itself says and accepts is the strict profile
in `envelope` and `receipt`. Parsing raises `cbor.Malformed`, for the profile above to translate. `lenient` parsing is
for other people's messages: untagged ones, and CBOR that is not deterministic, pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

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
    PARTIAL_IV = 6
    EK = -4
    PSK_ID = -5


class TagNumber(IntEnum):
    """CBOR tags of COSE messages (RFC 9052, section 2)."""

    ENCRYPT0 = 16
    SIGN1 = 18
    ENCRYPT = 96
    SIGN = 98


class ContentAlgorithm(IntEnum):
    """AES-GCM and ChaCha20/Poly1305 (RFC 9053, section 4)."""

    A128GCM = 1
    A192GCM = 2
    A256GCM = 3
    CHACHA20_POLY1305 = 24


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
"""HPKE-0 to HPKE-7 by COSE algorithm number, as draft-ietf-cose-hpke-27 assumes them."""
HPKE_4_KE, HPKE_7_KE, HPKE_9_KE = 50, 53, 57
HPKE_KEY_ENCRYPTION = dict(zip(range(46, 54), _SUITES, strict=True)) | {
    HPKE_9_KE: hpke.Suite(hpke.MLKEM768_X25519, hpke.SHAKE256, hpke.AES_256_GCM)
}
"""HPKE-0-KE to HPKE-7-KE, and HPKE-9-KE as draft-ietf-cose-hpke-pq-pqt assumes it."""


@dataclass(frozen=True)
class Headers:
    """The two header buckets of a layer. `protected` is kept as the bytes that were or will be authenticated."""

    protected: bytes = b""
    unprotected: Map = field(default_factory=dict)

    @classmethod
    def of(cls, protected: Map, unprotected: Map | None = None) -> "Headers":
        """Headers to send; an empty protected map is a byte string of no bytes."""
        return cls(encode(protected) if protected else b"", unprotected or {})

    @classmethod
    def parse(cls, protected: Value, unprotected: Value, lenient: bool, critical: Sequence[int] = ()) -> "Headers":
        """Headers received. `critical`: the labels beyond Label that the caller understands."""
        if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
            raise Malformed("headers must be a byte string and a map")
        if lenient and protected == b"\xa0":
            protected = b""  # authenticated as no bytes (RFC 9052, section 4.4)
        decoded = decode(protected, deterministic=not lenient) if protected else {}
        if not isinstance(decoded, dict) or protected == b"\xa0":
            raise Malformed("protected headers must be a map, or no bytes")
        if Label.CRIT in unprotected or decoded.keys() & unprotected.keys():
            raise Malformed("headers stand in the wrong bucket, or in both")
        if Label.CRIT in decoded:
            asked = _list(decoded[Label.CRIT], "crit")
            understood = {*Label, *critical} & decoded.keys()
            if not asked or not all(isinstance(label, int) and label in understood for label in asked):
                raise Malformed("crit asks for a header that is not understood")
        return cls(protected, unprotected)

    @cached_property
    def protected_map(self) -> Map:
        """The protected headers, decoded."""
        value = decode(self.protected, deterministic=False) if self.protected else {}
        return value if isinstance(value, dict) else {}

    def get(self, label: int) -> Value:
        """A header from either bucket, or None. The protected one wins."""
        protected = self.protected_map
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
    def parse(cls, data: bytes, *, lenient: bool = False, critical: Sequence[int] = ()) -> "Sign1":
        protected, unprotected, payload, signature = _items(
            decode(data, deterministic=not lenient), 4, TagNumber.SIGN1, lenient
        )
        return cls(
            Headers.parse(protected, unprotected, lenient, critical),
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
    def parse(cls, data: bytes, *, lenient: bool = False) -> "Sign":
        protected, unprotected, payload, signatures = _items(
            decode(data, deterministic=not lenient), 4, TagNumber.SIGN, lenient
        )
        found = []
        for item in _list(signatures, "the signatures"):
            own_protected, own_unprotected, signature = _items(item, 3)
            headers = Headers.parse(own_protected, own_unprotected, lenient)
            found.append(Signature(headers, _bytes(signature, "a signature")))
        return cls(Headers.parse(protected, unprotected, lenient), _bytes(payload, "the payload"), tuple(found))

    def verify(self, index: int, key: object, external_aad: bytes = b"") -> None:
        """SignatureInvalid unless signature `index` holds under `key`; AlgorithmUnsupported."""
        one = self.signatures[index]
        layers: list[Value] = [self.headers.protected, one.headers.protected]
        to_be_signed = encode(["Signature", *layers, external_aad, self.payload])
        check(one.headers.algorithm(), key, to_be_signed, one.signature)


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
        """`plaintext` under `content_key`; the headers name the algorithm and the IV."""
        ciphertext = content_cipher(headers.algorithm(), content_key).encrypt(
            _iv(headers), plaintext, _enc_structure("Encrypt", headers, external_aad)
        )
        return cls(headers, ciphertext, tuple(recipients))

    @classmethod
    def parse(cls, data: bytes, *, lenient: bool = False) -> "Encrypt":
        fields = _items(decode(data, deterministic=not lenient), 4, TagNumber.ENCRYPT, lenient)
        recipients = []
        for item in _list(fields[3], "the recipients"):
            protected, unprotected, wrapped = _items(item, 3)
            headers = Headers.parse(protected, unprotected, lenient)
            recipients.append(Recipient(headers, _bytes(wrapped, "a wrapped key")))
        headers = Headers.parse(fields[0], fields[1], lenient)
        return cls(headers, _bytes(fields[2], "the ciphertext"), tuple(recipients))

    def encode(self) -> bytes:
        recipients: list[Value] = [
            [one.headers.protected, one.headers.unprotected, one.ciphertext] for one in self.recipients
        ]
        fields: list[Value] = [self.headers.protected, self.headers.unprotected, self.ciphertext, recipients]
        return encode(Tag(TagNumber.ENCRYPT, fields))

    def decrypt(self, content_key: bytes, external_aad: bytes = b"", base_iv: bytes = b"") -> bytes:
        """The plaintext. `base_iv`: what a partial IV is added to. OpeningFailed, AlgorithmUnsupported."""
        return _decrypt("Encrypt", self.headers, self.ciphertext, content_key, external_aad, base_iv)


@dataclass(frozen=True, slots=True)
class Encrypt0:
    """COSE_Encrypt0: content for a key that is known, or sealed with HPKE as a whole."""

    headers: Headers
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes, *, lenient: bool = False) -> "Encrypt0":
        fields = _items(decode(data, deterministic=not lenient), 3, TagNumber.ENCRYPT0, lenient)
        return cls(Headers.parse(fields[0], fields[1], lenient), _bytes(fields[2], "the ciphertext"))

    def decrypt(self, content_key: bytes, external_aad: bytes = b"") -> bytes:
        """The plaintext under a key that is known. OpeningFailed, AlgorithmUnsupported."""
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


def _decrypt(
    context: str, headers: Headers, ciphertext: bytes, content_key: bytes, external_aad: bytes, base_iv: bytes = b""
) -> bytes:
    cipher = content_cipher(headers.algorithm(), content_key)
    try:
        return cipher.decrypt(_iv(headers, base_iv), ciphertext, _enc_structure(context, headers, external_aad))
    except (InvalidTag, ValueError) as error:
        raise OpeningFailed("the content does not open") from error


_CONTENT_CIPHERS: dict[int, tuple[int, type[AESGCM] | type[ChaCha20Poly1305]]] = {
    ContentAlgorithm.A128GCM: (16, AESGCM),
    ContentAlgorithm.A192GCM: (24, AESGCM),
    ContentAlgorithm.A256GCM: (32, AESGCM),
    ContentAlgorithm.CHACHA20_POLY1305: (32, ChaCha20Poly1305),
}


def content_cipher(algorithm: int, content_key: bytes) -> AESGCM | ChaCha20Poly1305:
    """The cipher for content. AlgorithmUnsupported; OpeningFailed for a key of another length than the algorithm's."""
    if algorithm not in _CONTENT_CIPHERS:
        raise AlgorithmUnsupported(f"COSE content algorithm {algorithm}")
    key_bytes, cipher = _CONTENT_CIPHERS[algorithm]
    if len(content_key) != key_bytes:
        raise OpeningFailed("a content key of the wrong length")
    return cipher(content_key)


def _iv(headers: Headers, base: bytes = b"") -> bytes:
    partial = headers.get(Label.PARTIAL_IV)
    if partial is None:
        return _bytes(headers.get(Label.IV), "the IV")
    number = int.from_bytes(base, "big") ^ int.from_bytes(_bytes(partial, "the partial IV"), "big")
    try:
        return number.to_bytes(len(base), "big")
    except OverflowError:
        raise Malformed("a partial IV without a base IV that is longer") from None


def _psk_id(headers: Headers) -> bytes:
    value = headers.protected_map.get(Label.PSK_ID)  # never unprotected
    return b"" if value is None else _bytes(value, "the PSK's id")


def _suite(suites: Mapping[int, hpke.Suite], algorithm: int) -> hpke.Suite:
    if algorithm not in suites:
        raise AlgorithmUnsupported(f"COSE HPKE algorithm {algorithm}")
    return suites[algorithm]


def _items(value: Value, count: int, tag: int | None = None, lenient: bool = False) -> list[Value]:
    if isinstance(value, Tag) and value.number == tag:
        value = value.value
    elif tag is not None and not lenient:
        raise Malformed(f"must carry tag {tag}")
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
