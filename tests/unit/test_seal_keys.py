import dataclasses
import errno
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.errors import (
    KeyFileError,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMalformed,
    KeyFileMissing,
    KeyFilePassphrase,
    KeyFileWrongKind,
)
from edge.seal import keys
from edge.seal.keys import KeyType, PrivateKey, Purpose

MAKERS = [
    (keys.make_signing_key, KeyType.ED25519),
    (keys.make_signing_key, KeyType.P256),
    (keys.make_recipient_key, KeyType.X25519),
    (keys.make_recipient_key, KeyType.P256),
    (keys.make_recipient_key, KeyType.MLKEM768_X25519),
]


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
@pytest.mark.parametrize(("make", "kind"), MAKERS)
def test_a_key_comes_back_from_its_files(tmp_path: Path, make: object, kind: KeyType, passphrase: bytes | None) -> None:
    key: PrivateKey = make(kind)  # type: ignore[operator]
    public_file = keys.save(key, tmp_path / "key", passphrase)
    assert public_file.name == "key.pub"
    public = keys.load_public(public_file, key.public.purpose)
    private = keys.load_private(tmp_path / "key", key.public.purpose, passphrase)
    assert public.kid == private.public.kid == key.public.kid
    assert public.type is kind
    assert len(public.kid) == 16
    assert public.fingerprint in public_file.read_text().splitlines()[0]


def test_the_private_file_is_the_owners_alone_and_encrypted(tmp_path: Path) -> None:
    keys.save(keys.make_recipient_key(), tmp_path / "key", b"secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert "ENCRYPTED PRIVATE KEY" in (tmp_path / "key").read_text()


@pytest.mark.parametrize(("make", "kind"), MAKERS[:4])  # ML-KEM is in OpenSSL from 3.5 on
def test_openssl_reads_a_key_that_we_encrypted(tmp_path: Path, make: object, kind: KeyType) -> None:
    """And its parameters are costly ones."""
    key: PrivateKey = make(kind)  # type: ignore[operator]
    keys.save(key, tmp_path / "key", b"secret")
    openssl = shutil.which("openssl")
    assert openssl, "openssl is not installed"
    shown = subprocess.run(
        [openssl, "pkey", "-in", tmp_path / "key", "-passin", "pass:secret", "-pubout"], capture_output=True
    )
    assert keys.parse_public(shown.stdout.decode(), key.public.purpose).kid == key.public.kid
    pem = (tmp_path / "key").read_text().split("\n", 1)[1]
    form = subprocess.run([openssl, "asn1parse"], input=pem, capture_output=True, text=True).stdout
    assert all(word in form for word in ("PBES2", "scrypt", "aes-256-cbc", ":4000"))  # N = 16384


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.save(keys.make_recipient_key(), tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(KeyFileExists):
        keys.save(keys.make_recipient_key(), tmp_path / "key")
    (tmp_path / "key.pub").unlink()
    with pytest.raises(KeyFileExists):
        keys.save(keys.make_recipient_key(), tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_the_wrong_passphrase_none_and_one_too_many_are_told_apart_from_damage(tmp_path: Path) -> None:
    keys.save(keys.make_recipient_key(), tmp_path / "locked", b"right")
    keys.save(keys.make_recipient_key(), tmp_path / "open")
    for name, passphrase in (("locked", b"wrong"), ("locked", None), ("open", b"needless")):
        with pytest.raises(KeyFilePassphrase):
            keys.load_private(tmp_path / name, Purpose.RECIPIENT, passphrase)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.save(keys.make_signing_key(), tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyFileExposed):
        keys.load_private(tmp_path / "key", Purpose.SIGNING)


def test_a_key_serves_only_its_purpose_even_where_the_algorithm_would_serve_both(tmp_path: Path) -> None:
    public_file = keys.save(keys.make_signing_key(KeyType.P256), tmp_path / "key")
    with pytest.raises(KeyFileWrongKind):
        keys.load_public(public_file, Purpose.RECIPIENT)
    with pytest.raises(KeyFileWrongKind):
        keys.load_private(tmp_path / "key", Purpose.RECIPIENT)
    with pytest.raises(KeyFileWrongKind):
        keys.load_public(tmp_path / "key", Purpose.SIGNING)
    with pytest.raises(KeyFileWrongKind):
        keys.load_private(public_file, Purpose.SIGNING)


def test_plain_pem_from_other_tools_is_a_key_too(tmp_path: Path) -> None:
    key = keys.make_recipient_key(KeyType.P256)
    pem = key.public.parts[0].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "plain.pem").write_bytes(pem)
    assert keys.load_public(tmp_path / "plain.pem", Purpose.RECIPIENT).kid == key.public.kid


@pytest.mark.parametrize("kind", [KeyType.X25519, KeyType.P256])
def test_a_public_key_under_the_label_of_another_is_refused(tmp_path: Path, kind: KeyType) -> None:
    mine, other = keys.make_recipient_key(kind).public, keys.make_recipient_key().public
    path, (label, pem) = tmp_path / "key.pub", mine.pem().split("\n", 1)
    for stated in (other.label, f"{label}\n{other.label}", f"\n  {other.label}", label.replace(kind, "ed25519")):
        path.write_text(f"{stated}\n{pem}")
        with pytest.raises(KeyFileMalformed, match="of another key"):
            keys.load_public(path, Purpose.RECIPIENT)
    for stated in (label, f"{label}\r", "sealane recipient public ", "", "of the owner, by hand"):
        path.write_text(f"{stated}\n{pem}")
        assert keys.load_public(path, Purpose.RECIPIENT) == mine


def test_keys_of_no_use_here_are_refused(tmp_path: Path) -> None:
    for number, other in enumerate(
        [ec.generate_private_key(ec.SECP384R1()).public_key(), rsa.generate_private_key(65537, 2048).public_key()]
    ):
        path = tmp_path / f"{number}.pub"
        path.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        for purpose in Purpose:
            with pytest.raises(KeyFileWrongKind):
                keys.load_public(path, purpose)
    signing = keys.make_signing_key().public.pem().split("\n", 1)[1]
    with pytest.raises(KeyFileWrongKind):
        keys.parse_public(signing, Purpose.RECIPIENT)
    with pytest.raises(KeyFileWrongKind):
        keys.parse_public(signing + signing, Purpose.SIGNING)


LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("kind", [KeyType.X25519, KeyType.MLKEM768_X25519])
def test_a_public_key_that_nothing_can_be_sealed_to_is_refused(kind: KeyType, point: bytes) -> None:
    good = keys.make_recipient_key(kind).public
    bad = dataclasses.replace(good, parts=(*good.parts[:-1], x25519.X25519PublicKey.from_public_bytes(point)))
    with pytest.raises(KeyFileMalformed):
        keys.parse_public(bad.pem(), Purpose.RECIPIENT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"no key here",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN X-----\nAAAA\n-----END X-----\n" * 3,
        b"x" * (keys.MAX_KEY_FILE_BYTES + 1),
    ],
)
def test_what_is_no_key_is_refused_with_a_code(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFileMalformed):
        keys.load_public(path, Purpose.RECIPIENT)
    with pytest.raises(KeyFileMalformed):
        keys.load_private(path, Purpose.RECIPIENT)


def test_a_missing_file_and_an_unwritable_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissing, match="nowhere"):
        keys.load_private(tmp_path / "nowhere", Purpose.SIGNING)
    with pytest.raises(KeyFileMissing, match="nowhere"):
        keys.save(keys.make_signing_key(), tmp_path / "nowhere" / "key")


def test_a_disk_that_is_full_leaves_no_half_key_in_the_way_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    key = keys.make_signing_key()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KeyFileMissing, match="No space"):
        keys.save(key, tmp_path / "key")
    monkeypatch.undo()
    keys.save(key, tmp_path / "key")
    with pytest.raises(KeyFileExists):
        keys.save(key, tmp_path / "key")
    assert keys.load_private(tmp_path / "key", Purpose.SIGNING).public.kid == key.public.kid


def test_no_private_byte_shows_in_a_repr_or_an_error(tmp_path: Path) -> None:
    key = keys.make_signing_key()
    keys.save(key, tmp_path / "key", b"passphrase")
    assert "Private" not in repr(key).replace("PrivateKey(public", "")
    with pytest.raises(KeyFileError) as caught:
        keys.load_private(tmp_path / "key", Purpose.SIGNING, b"hunter2")
    assert "hunter2" not in str(caught.value)
