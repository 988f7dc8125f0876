"""Keys and the files they are kept in.

A key file is text: one line that says what is in it, then PEM (PKCS#8 for a private half, SubjectPublicKeyInfo for a
public one; a hybrid key has two blocks, ML-KEM-768 first). `NAME` holds the private half, encrypted if it has a
passphrase, readable by its owner only; `NAME.pub` the public half. docs/wire-format.md describes both.
"""

import base64
import hashlib
import os
import re
import textwrap
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from edge.errors import (
    KeyFileExists,
    KeyFileExposed,
    KeyFileMalformed,
    KeyFileMissing,
    KeyFilePassphrase,
    KeyFileWrongKind,
)
from edge.seal.pkcs8 import encrypt

MAX_KEY_FILE_BYTES = 16 * 1024
KID_BYTES = 16


class Purpose(StrEnum):
    """What a key is for; a key is never used for both."""

    SIGNING = "signing"
    RECIPIENT = "recipient"


class KeyType(StrEnum):
    """The algorithms keys are made for."""

    ED25519 = "ed25519"
    P256 = "p256"
    X25519 = "x25519"
    MLKEM768_X25519 = "mlkem768-x25519"


PrivateHalf: TypeAlias = (
    ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | mlkem.MLKEM768PrivateKey
)
PublicHalf: TypeAlias = (
    ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | x25519.X25519PublicKey | mlkem.MLKEM768PublicKey
)


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key. `parts`: one, or for the hybrid two (ML-KEM-768, X25519)."""

    purpose: Purpose
    type: KeyType
    parts: tuple[PublicHalf, ...]

    @cached_property
    def kid(self) -> bytes:
        """The key's name on the wire: the first KID_BYTES of SHA-256 over its SubjectPublicKeyInfo (DER, in order)."""
        spki = b"".join(part.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for part in self.parts)
        return hashlib.sha256(spki).digest()[:KID_BYTES]

    @property
    def fingerprint(self) -> str:
        """The kid for people to compare: eight groups of four hex digits."""
        return fingerprint(self.kid)

    @property
    def label(self) -> str:
        """The first line of its file."""
        return f"sealane {self.purpose} public {self.type} {self.fingerprint}"

    def pem(self) -> str:
        """The text of a public key file."""
        blocks = [part.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for part in self.parts]
        return f"{self.label}\n" + b"".join(blocks).decode()


@dataclass(frozen=True)
class PrivateKey:
    """A key with its private half. Its repr shows the public half only."""

    public: PublicKey
    parts: tuple[PrivateHalf, ...] = field(repr=False)


def fingerprint(kid: bytes) -> str:
    """A kid for people to compare: groups of four hex digits."""
    return kid.hex(" ", 2)


def make_signing_key(kind: KeyType = KeyType.ED25519) -> PrivateKey:
    """A new key to sign with: ED25519 or P256. KeyFileWrongKind for another type."""
    match kind:
        case KeyType.ED25519:
            return _private(Purpose.SIGNING, kind, ed25519.Ed25519PrivateKey.generate())
        case KeyType.P256:
            return _private(Purpose.SIGNING, kind, ec.generate_private_key(ec.SECP256R1()))
    raise KeyFileWrongKind(f"a {kind} key cannot sign")


def make_recipient_key(kind: KeyType = KeyType.X25519) -> PrivateKey:
    """A new key to open records with: X25519, P256 or MLKEM768_X25519. KeyFileWrongKind for another type."""
    match kind:
        case KeyType.X25519:
            return _private(Purpose.RECIPIENT, kind, x25519.X25519PrivateKey.generate())
        case KeyType.P256:
            return _private(Purpose.RECIPIENT, kind, ec.generate_private_key(ec.SECP256R1()))
        case KeyType.MLKEM768_X25519:
            halves = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
            return _private(Purpose.RECIPIENT, kind, *halves)
    raise KeyFileWrongKind(f"a {kind} key cannot open records")


def save(key: PrivateKey, path: Path, passphrase: bytes | None = None) -> Path:
    """Write both halves, `path` (mode 0600) and `path`.pub, and return the latter's path.

    A private half without passphrase is for the box itself: the service must start without anybody typing.
    KeyFileExists if either file is there already; KeyFileMissing if the folder cannot be written.
    """
    label = f"sealane {key.public.purpose} private {key.public.type} {key.public.fingerprint}\n"
    return write_pair(path, label + "".join(_private_pem(part, passphrase) for part in key.parts), key.public)


def write_pair(path: Path, private: str, public: PublicKey) -> Path:
    """Write the text of a private half, and the public half beside it. Raises as `save`."""
    check_place(path)
    write_new(path, private, 0o600)
    write_new(_beside(path), public.pem(), 0o644)
    return _beside(path)


def check_place(path: Path) -> None:
    """KeyFileExists if a key's files at `path` are there already, KeyFileMissing if their folder cannot be written."""
    for file in (path, _beside(path)):
        if file.exists():
            raise KeyFileExists(f"{file} is there already")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise KeyFileMissing(f"cannot write {path}: no such folder, or not yours to write")


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not exist yet, durably or not at all; text, as PEM is. KeyFileExists, KeyFileMissing."""
    made = False
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            made = True
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise KeyFileExists(f"{path} is there already") from error
    except OSError as error:
        if made:  # half a key would stand in the way of a whole one
            path.unlink(missing_ok=True)
        raise KeyFileMissing(f"cannot write {path}: {error.strerror}") from error


def load_public(path: Path, purpose: Purpose) -> PublicKey:
    """The public key in a file. KeyFileMissing, KeyFileMalformed, KeyFileWrongKind."""
    return parse_public(read(path), purpose, where=str(path))


def parse_public(text: str, purpose: Purpose, *, where: str = "the text") -> PublicKey:
    """As `load_public`, for a text that came another way, such as in a policy."""
    _check_label(text, purpose, "public", where)
    parts = []
    for block in _blocks(text, where):
        try:
            part = load_pem_public_key(block)
            if isinstance(part, x25519.X25519PublicKey):  # alone among them a point is looked at only when it is used
                x25519.X25519PrivateKey.generate().exchange(part)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileMalformed(f"{where} holds no public key that can be used") from error
        parts.append(part)
    key = _public(purpose, tuple(parts), where)
    right = key.label.split()
    for stated in map(str.split, _STATED.findall(text)):
        if stated != right[: len(stated)]:  # people read it for the fingerprint
            raise KeyFileMalformed(f"what {where} says above its key is true of another key")
    return key


def load_private(path: Path, purpose: Purpose, passphrase: bytes | None = None) -> PrivateKey:
    """The private key in a file.

    KeyFileMissing, KeyFileMalformed, KeyFileWrongKind; KeyFileExposed if others may read it; KeyFilePassphrase if the
    passphrase is wrong, missing, or given for a key that has none.
    """
    text = read(path, private=True)
    _check_label(text, purpose, "private", str(path))
    parts = []
    for block in _blocks(text, str(path)):
        try:
            parts.append(load_pem_private_key(block, passphrase))
        except TypeError as error:
            need = "no passphrase was given for" if passphrase is None else "a passphrase was given, but none protects"
            raise KeyFilePassphrase(f"{need} {path}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            if passphrase is not None:
                raise KeyFilePassphrase(f"{path} does not open with this passphrase") from error
            raise KeyFileMalformed(f"{path} holds no private key that can be read") from error
    public = _public(purpose, tuple(part.public_key() for part in parts), str(path))
    return PrivateKey(public, tuple(parts))  # type: ignore[arg-type]


def read(path: Path, *, private: bool = False) -> str:
    """The text of a key file. KeyFileMissing, KeyFileMalformed; KeyFileExposed if `private` and others may read it."""
    try:
        with path.open("rb") as file:
            exposed = private and os.fstat(file.fileno()).st_mode & 0o077
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileMissing(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE_BYTES or not data.isascii():
        raise KeyFileMalformed(f"{path} is no key file")
    text = data.decode()
    label = _LABEL.match(text)
    if exposed and not (label and label[2] == "public"):
        raise KeyFileExposed(f"{path} may be read by others")
    return text


_TYPES: dict[tuple[type, ...], KeyType] = {
    (ed25519.Ed25519PublicKey,): KeyType.ED25519,
    (ec.EllipticCurvePublicKey,): KeyType.P256,
    (x25519.X25519PublicKey,): KeyType.X25519,
    (mlkem.MLKEM768PublicKey, x25519.X25519PublicKey): KeyType.MLKEM768_X25519,
}
_USES = {
    Purpose.SIGNING: {KeyType.ED25519, KeyType.P256},
    Purpose.RECIPIENT: {KeyType.X25519, KeyType.P256, KeyType.MLKEM768_X25519},
}
_PEM = re.compile(r"-----BEGIN [A-Z ]{1,40}-----.*?-----END [A-Z ]{1,40}-----\n?", re.DOTALL)
_LABEL = re.compile(r"sealane (signing|recipient) (public|private) ")
_STATED = re.compile(r"^[ \t]*sealane .*", re.MULTILINE)


def _private(purpose: Purpose, kind: KeyType, *parts: PrivateHalf) -> PrivateKey:
    return PrivateKey(PublicKey(purpose, kind, tuple(part.public_key() for part in parts)), parts)


def _public(purpose: Purpose, parts: tuple[object, ...], where: str) -> PublicKey:
    for classes, kind in _TYPES.items():
        if len(classes) == len(parts) and all(map(isinstance, parts, classes)):
            if kind not in _USES[purpose]:
                raise KeyFileWrongKind(f"{where}: a {kind} key is no {purpose} key")
            curve = getattr(parts[0], "curve", None)
            if curve is not None and not isinstance(curve, ec.SECP256R1):
                raise KeyFileWrongKind(f"{where}: an elliptic-curve key must be on P-256")
            return PublicKey(purpose, kind, parts)  # type: ignore[arg-type]
    raise KeyFileWrongKind(f"{where}: no {purpose} key is made of this")


def _check_label(text: str, purpose: Purpose, half: str, where: str) -> None:
    label = _LABEL.match(text)
    if label and label.groups() != (str(purpose), half):
        raise KeyFileWrongKind(
            f"{where} is a {label[1]} key's {label[2]} half; a {purpose} key's {half} half is needed"
        )


def _blocks(text: str, where: str) -> list[bytes]:
    blocks = [block.encode() for block in _PEM.findall(text)]
    if not 1 <= len(blocks) <= 2:
        raise KeyFileMalformed(f"{where} holds {len(blocks)} PEM blocks, where one or two make a key")
    return blocks


def _private_pem(part: PrivateHalf, passphrase: bytes | None) -> str:
    if not passphrase:
        return part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    der = encrypt(part.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase)
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(("-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", ""))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".pub")
