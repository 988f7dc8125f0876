"""Keys in a PKCS#11 token: a TPM, a secure element, an HSM or a smartcard. The private half never leaves it.

A token signs with Ed25519 or ECDSA P-256, and opens by giving the Diffie-Hellman result of a P-256 key; the rest of
HPKE is done here. Which key is named by a `pkcs11:` URI (RFC 7512): token, object or id, module-path, and pin-source.
Needs python-pkcs11 (the extra `hsm`). docs/hardware-keys.md says how it maps to real devices.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pkcs11.exceptions import (
    MultipleObjectsReturned,
    NoSuchKey,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    UserAlreadyLoggedIn,
    UserNotLoggedIn,
)

from edge.errors import KeyFileMalformed, KeyFileWrongKind, TokenKeyMissing, TokenRefused, TokenUnavailable
from edge.seal import hpke
from edge.seal.keys import KeyType, PublicKey, Purpose, read
from edge.seal.opener import kem_public
from edge.seal.signer import algorithm_of

P256_PARAMETERS = bytes.fromhex("06082a8648ce3d030107")
ED25519_PARAMETERS = bytes.fromhex("06032b6570")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which key: `label` or `id` within the token of that name; the PIN in `pin_file`, or asked of a person."""

    module: str
    token: str
    label: str | None = None
    id: bytes | None = None
    pin_file: Path | None = None


def parse_uri(text: str) -> TokenUri:
    """KeyFileMalformed if it is no `pkcs11:` URI with module-path, token, and object or id; or asks for more."""
    path, _, query = text.strip().removeprefix("pkcs11:").partition("?")
    named = dict(part.partition("=")[::2] for part in path.split(";"))
    asked = dict(parse_qsl(query.replace("+", "%2B")))
    known = named.keys() <= {"token", "object", "id", "type"} and asked.keys() <= {"module-path", "pin-source"}
    needed = "token" in named and "module-path" in asked and "\0" not in "".join(asked.values())
    if not (text.isascii() and text.startswith("pkcs11:") and known and needed):
        raise KeyFileMalformed("a PKCS#11 key is named by pkcs11:token=T;object=O?module-path=M&pin-source=file:P")
    names = [named[name] for name in ("object", "id") if name in named]
    if not names or not all(names):  # the token takes an empty one for any key
        raise KeyFileMalformed("a PKCS#11 URI without object or id names no key")
    pin = asked.get("pin-source")
    return TokenUri(
        asked["module-path"],
        unquote(named["token"]),
        unquote(named["object"]) if "object" in named else None,
        unquote_to_bytes(named["id"]) if "id" in named else None,
        Path(pin.removeprefix("file:")) if pin else None,
    )


class _TokenKey:
    def __init__(self, uri: TokenUri, purpose: Purpose, pin: bytes | None) -> None:
        self._session = _login(uri, pin)
        wanted = {"label": uri.label, "id": uri.id}
        with _translated(uri):
            self._private = self._session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **wanted)
            public = self._session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **wanted)
            self.public = _public(public, purpose)
        self._uri = uri

    def close(self) -> None:
        """Leave the token."""
        self._session.close()


class TokenSigner(_TokenKey):
    """Signs with a key in a token.

    TokenUnavailable, TokenRefused (the PIN), TokenKeyMissing; KeyFileWrongKind if the key is on another curve.
    """

    def __init__(self, uri: TokenUri, pin: bytes | None = None) -> None:
        super().__init__(uri, Purpose.SIGNING, pin)
        self.algorithm: int = algorithm_of(self.public)

    def sign(self, data: bytes) -> bytes:
        """The signature as COSE carries it. TokenUnavailable."""
        with _translated(self._uri):
            if self.public.type is KeyType.ED25519:
                return bytes(self._private.sign(data, mechanism=pkcs11.Mechanism.EDDSA))
            return bytes(self._private.sign(hashlib.sha256(data).digest(), mechanism=pkcs11.Mechanism.ECDSA))


class TokenOpener(_TokenKey):
    """Opens with a P-256 key in a token. Raises as TokenSigner."""

    def __init__(self, uri: TokenUri, pin: bytes | None = None) -> None:
        super().__init__(uri, Purpose.RECIPIENT, pin)
        self.half: hpke.PrivateHalf = _Half(uri, self._private, kem_public(self.public))


@dataclass(frozen=True, slots=True)
class _Half:
    uri: TokenUri
    private: Any
    public: bytes

    def agree(self, encapsulated: bytes) -> bytes:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encapsulated)  # ValueError if it is no point
        with _translated(self.uri):
            secret = self.private.derive_key(
                pkcs11.KeyType.GENERIC_SECRET,
                256,
                mechanism_param=(pkcs11.KDF.NULL, None, encapsulated),
                template={pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True},
            )
            value = bytes(secret[pkcs11.Attribute.VALUE])
            secret.destroy()
            return value


def make_key(uri: TokenUri, purpose: Purpose, kind: KeyType, pin: bytes | None = None) -> PublicKey:
    """Make a key pair inside the token, under the label and id of `uri`, and return its public half.

    TokenUnavailable, TokenRefused; TokenKeyMissing if the name is taken; KeyFileWrongKind for a type that tokens
    cannot do: a recipient's must be P256, a signer's P256 or ED25519.
    """
    allowed = {Purpose.SIGNING: (KeyType.P256, KeyType.ED25519), Purpose.RECIPIENT: (KeyType.P256,)}
    if kind not in allowed[purpose]:
        raise KeyFileWrongKind(f"a token cannot hold a {kind} key for {purpose}")
    session = _login(uri, pin, write=True)
    name = {pkcs11.Attribute.LABEL: uri.label} if uri.label else {pkcs11.Attribute.ID: uri.id}
    edwards = kind is KeyType.ED25519
    with session, _translated(uri):
        if list(session.get_objects(name)):
            raise TokenKeyMissing(f"token {uri.token} has an object of that name already")
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS if edwards else pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: ED25519_PARAMETERS if edwards else P256_PARAMETERS},
            local=True,
        )
        flags = pkcs11.MechanismFlag
        uses = flags.SIGN | flags.VERIFY if purpose is Purpose.SIGNING else flags.DERIVE
        public, _ = parameters.generate_keypair(store=True, label=uri.label, id=uri.id, capabilities=uses)
        return _public(public, purpose)


def _login(uri: TokenUri, pin: bytes | None, *, write: bool = False) -> Any:
    if uri.pin_file is not None:
        pin = read(uri.pin_file, private=True).strip().encode()
    if pin is None:
        raise TokenRefused(f"no PIN was given for token {uri.token}")
    try:
        user_pin = pin.decode()
    except UnicodeDecodeError as error:
        raise TokenRefused(f"what was given as the PIN of token {uri.token} is no text") from error
    with _translated(uri):
        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
        try:
            return token.open(rw=write, user_pin=user_pin)
        except UserAlreadyLoggedIn:  # by another key of this process
            return token.open(rw=write)


@contextmanager
def _translated(uri: TokenUri) -> Iterator[None]:
    try:
        yield
    except (NoSuchKey, MultipleObjectsReturned) as error:
        raise TokenKeyMissing(f"token {uri.token} has no key of that name, or several") from error
    except (PinIncorrect, PinInvalid, PinLenRange, PinLocked, UserNotLoggedIn) as error:
        raise TokenRefused(f"token {uri.token}: {type(error).__name__}") from error
    except pkcs11.PKCS11Error as error:
        raise TokenUnavailable(f"token {uri.token} through {uri.module}: {type(error).__name__}") from error


def _public(key: Any, purpose: Purpose) -> PublicKey:
    parameters, point = bytes(key[pkcs11.Attribute.EC_PARAMS]), bytes(key[pkcs11.Attribute.EC_POINT])
    if parameters == P256_PARAMETERS:
        raw = point[2:] if len(point) == 67 else point  # a DER OCTET STRING, or bare in older tokens
        return PublicKey(purpose, KeyType.P256, (ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw),))
    if key.key_type == pkcs11.KeyType.EC_EDWARDS and purpose is Purpose.SIGNING:
        return PublicKey(purpose, KeyType.ED25519, (ed25519.Ed25519PublicKey.from_public_bytes(point[-32:]),))
    raise KeyFileWrongKind(f"the token's key is on no curve that a {purpose} key may be on")
