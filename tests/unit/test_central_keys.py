"""`sealane keys`: what it writes, and what it refuses."""

import ssl
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from central.certificates import Authority
from central.keys import app
from edge.errors import KeyFileExists, KeyFileExposed, KeyFileMalformed, KeyFileMissing, KeyFilePassphrase
from edge.seal import keys
from edge.seal.keys import KeyType, Purpose


def run(*words: object) -> str:
    """Output of `sealane keys WORDS`; an error of ours is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("role", ["lane", "collector"])
@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.P256])
def test_a_signing_key_is_readable_by_its_owner_only_and_needs_no_passphrase(
    tmp_path: Path, role: str, kind: KeyType
) -> None:
    path = tmp_path / "key"
    shown = run(role, path, "--type", kind)
    key = keys.load_private(path, Purpose.SIGNING)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.public.fingerprint in shown
    assert keys.load_public(tmp_path / "key.pub", Purpose.SIGNING) == key.public


def secret(folder: Path, content: bytes) -> Path:
    """A file that holds a passphrase."""
    path = folder / "word"
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("role", "purpose"), [("recipient", Purpose.RECIPIENT), ("owner", Purpose.SIGNING)])
def test_a_persons_key_is_encrypted_unless_said_otherwise(tmp_path: Path, role: str, purpose: Purpose) -> None:
    word = secret(tmp_path, b"correct horse\n")
    run(role, tmp_path / "locked", "--passphrase-file", word)
    run(role, tmp_path / "open", "--no-passphrase")
    keys.load_private(tmp_path / "open", purpose)
    with pytest.raises(KeyFilePassphrase):
        keys.load_private(tmp_path / "locked", purpose)
    keys.load_private(tmp_path / "locked", purpose, b"correct horse")


def test_a_passphrase_that_others_may_read_protects_nothing(tmp_path: Path) -> None:
    word = secret(tmp_path, b"correct horse\n")
    word.chmod(0o644)
    with pytest.raises(KeyFileExposed, match="word"):
        run("owner", tmp_path / "key", "--passphrase-file", word)
    assert list(tmp_path.iterdir()) == [word]


def test_without_a_terminal_a_passphrase_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(KeyFilePassphrase):
        run("recipient", tmp_path / "key")
    assert not list(tmp_path.iterdir())


def test_nobody_types_a_passphrase_for_a_key_that_has_no_place(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissing, match="nowhere"):
        run("owner", tmp_path / "nowhere" / "key")


def test_a_passphrase_is_whatever_bytes_the_first_line_holds(tmp_path: Path) -> None:
    word = secret(tmp_path, b"\xff\xfe\x00secret\nnot this")
    run("recipient", tmp_path / "key", "--passphrase-file", word)
    assert keys.load_private(tmp_path / "key", Purpose.RECIPIENT, b"\xff\xfe\x00secret")


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    word = secret(tmp_path, b"\n")
    with pytest.raises(KeyFilePassphrase):
        run("recipient", tmp_path / "key", "--passphrase-file", word)


@pytest.mark.parametrize(
    "words",
    [["lane", "one"], ["recipient", "one", "--no-passphrase"], ["tls", "--ca", ".", "--name", "one", "--client"]],
)
def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    run(*words)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyFileExists):
        run(*words)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_fingerprints_are_shown_for_both_kinds_of_public_key(tmp_path: Path) -> None:
    run("lane", tmp_path / "lane")
    run("recipient", tmp_path / "owner", "--no-passphrase", "--type", KeyType.MLKEM768_X25519)
    shown = run("fingerprint", tmp_path / "lane.pub", tmp_path / "owner.pub").splitlines()
    assert "signing ed25519" in shown[0]
    assert "recipient mlkem768-x25519" in shown[1]


def test_certificates_of_one_authority_accept_each_other_under_strict_rules(tmp_path: Path) -> None:
    run("tls", "--ca", tmp_path, "--name", "broker", "--server", "--host", "broker.example")
    run("tls", "--ca", tmp_path, "--name", "lane-1", "--client")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, name in ((server, "broker"), (client, "lane-1")):
        context.load_verify_locations(tmp_path / "ca.pem")
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    server.verify_mode = ssl.CERT_REQUIRED
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, server_hostname="broker.example")
    for _ in range(4):
        for end in (there, here):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    subject = here.getpeercert()
    assert subject is not None
    assert subject["subject"] == ((("commonName", "lane-1"),),)


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "x" * 65, "--client"],
        ["--name", "../x", "--client"],
        ["--name", "Gate 7", "--client"],
        ["--name", "broker", "--server", "--host", "b\u00fccher.example"],
    ],
)
def test_a_name_that_no_certificate_or_file_should_have_is_a_wrong_option_and_leaves_no_key(
    tmp_path: Path, words: list[str]
) -> None:
    Authority.open_or_make(tmp_path / "ca")
    result = CliRunner().invoke(app, ["tls", "--ca", str(tmp_path / "ca"), *words], catch_exceptions=False)
    assert result.exit_code == 2
    assert {path.name for path in tmp_path.rglob("*")} == {"ca", "ca.pem", "ca.key"}


def test_an_authority_that_is_made_because_there_was_none_is_told(tmp_path: Path) -> None:
    told = [
        CliRunner().invoke(app, ["tls", "--ca", str(tmp_path / "ca"), "--name", name, "--client"]).stderr
        for name in ("one", "two")
    ]
    assert ["nobody trusts it yet" in said for said in told] == [True, False]


def test_half_an_authority_is_an_error_and_not_a_new_one(tmp_path: Path) -> None:
    Authority.open_or_make(tmp_path)
    (tmp_path / "ca.pem").write_bytes(b"not a certificate")
    with pytest.raises(KeyFileMalformed):
        Authority.open_or_make(tmp_path)
