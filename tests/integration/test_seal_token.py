"""Keys in a real PKCS#11 token: SoftHSM2."""

import datetime
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from central.keys import app as keys_app
from central.repository import Repository
from edge.carrier import DirectoryCarrier
from edge.commands.enrol import command
from edge.errors import (
    KeyFileExists,
    KeyFileExposed,
    KeyFileMalformed,
    KeyFileMissing,
    KeyFileWrongKind,
    OpeningFailed,
    TokenKeyMissing,
    TokenRefused,
    TokenUnavailable,
)
from edge.seal import custody, envelope, keys, receipt, token
from edge.seal.envelope import Sealer
from edge.seal.keys import KeyType, Purpose
from edge.seal.opener import kem_public
from edge.seal.receipt import Receipt
from edge.trust import Trust
from tests.sealing import NOW, READ, outbox, recipient_key, sealer
from tests.unit.test_authority import authority
from tests.unit.test_enrol_command import Box, Owner

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = b"1234"
PREV = bytes(range(32))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a fresh token of label `box`, and its PIN in a file."""
    assert MODULE.exists(), "softhsm2 is not installed: sh tests/system-packages.sh"
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "box", "--pin", PIN, "--so-pin", "5678"],
            check=True,
            capture_output=True,
        )
        write(folder / "pin", PIN.decode() + "\n")
        yield folder


def write(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def uri(home: Path, name: str, *, token_label: str = "box", module: Path = MODULE, pin: str | None = "pin") -> str:
    source = f"&pin-source=file:{home / pin}" if pin else ""
    return f"pkcs11:token={token_label};object={name}?module-path={module}{source}"


def made(home: Path, name: str, purpose: Purpose, kind: KeyType) -> Path:
    """A key file that names a key of that name, made in the token at first."""
    path = home / f"{name}.key"
    if not path.exists():
        write(path, uri(home, name) + "\n")
        token.make_key(token.parse_uri(path.read_text()), purpose, kind)
    return path


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.P256])
def test_a_lane_signs_with_a_key_in_its_token(home: Path, kind: KeyType) -> None:
    signer = custody.signer(made(home, f"lane-{kind}", Purpose.SIGNING, kind))
    message = Sealer("lane-1", signer, (recipient_key().public,), now_ns=lambda: NOW.utc_ns).seal(READ, 7, 12, PREV)
    found = envelope.parse(message.data)
    envelope.verify(found, signer.public)
    assert signer.public.type is kind
    assert found.kid == signer.public.kid


def test_a_box_that_signs_with_its_token_gets_no_new_key_in_a_file(home: Path, tmp_path: Path) -> None:
    config = Box(tmp_path).config
    in_token = made(home, f"lane-{KeyType.P256}", Purpose.SIGNING, KeyType.P256)
    config.write_text(config.read_text().replace('"signing"', f'"{in_token}"'))
    app = typer.Typer()
    app.command()(command)
    refused = CliRunner().invoke(app, ["--config", str(config), "--new-key"])
    assert refused.exit_code == 2
    assert "make another there" in refused.output
    assert {path.name for path in tmp_path.iterdir()} == {"lane.toml", "state"}


def test_an_outbox_seals_through_a_token_and_a_collector_confirms_through_one(home: Path, tmp_path: Path) -> None:
    signer = custody.signer(made(home, f"lane-{KeyType.P256}", Purpose.SIGNING, KeyType.P256))
    with outbox(tmp_path) as box:
        box.use(Sealer("lane-1", signer, (recipient_key().public,)))
        epoch, seq = box.append(READ)
        found = envelope.parse(box.pending()[0].payload)
        envelope.verify(found, signer.public)
        signed = receipt.sign(Receipt("lane-1", epoch, seq, found.digest, NOW.utc_ns), signer)
        assert box.confirm(receipt.verify(receipt.parse(signed), [signer.public])) == 1


def test_the_owner_opens_with_a_key_that_never_leaves_the_token(home: Path) -> None:
    opener = custody.opener(made(home, "owner", Purpose.RECIPIENT, KeyType.P256))
    lane = sealer()
    both = Sealer("lane-1", lane.signer, (recipient_key().public, opener.public))
    found = envelope.parse(both.seal(READ, 7, 12, PREV).data)
    assert envelope.open_record(found, opener) == READ
    assert opener.half.public == kem_public(opener.public)


def test_what_is_no_point_of_the_curve_is_refused_before_the_token_sees_it(home: Path) -> None:
    opener = custody.opener(made(home, "owner", Purpose.RECIPIENT, KeyType.P256))
    found = envelope.parse(Sealer("lane-1", sealer().signer, (opener.public,)).seal(READ, 7, 12, PREV).data)
    one = found.inner.recipients[0]
    one.headers.unprotected[-4] = b"\x04" + bytes(64)  # type: ignore[index]
    with pytest.raises(OpeningFailed):
        one.unwrap(opener.half, 3)


def test_a_key_made_twice_under_one_name_is_refused(home: Path) -> None:
    path = made(home, "owner", Purpose.RECIPIENT, KeyType.P256)
    with pytest.raises(TokenKeyMissing):
        token.make_key(token.parse_uri(path.read_text()), Purpose.RECIPIENT, KeyType.P256)


@pytest.mark.parametrize("kind", [KeyType.X25519, KeyType.MLKEM768_X25519, KeyType.ED25519])
def test_only_p256_opens_in_a_token(home: Path, kind: KeyType) -> None:
    with pytest.raises(KeyFileWrongKind):
        token.make_key(token.parse_uri(uri(home, "never")), Purpose.RECIPIENT, kind)


def test_a_signing_key_in_a_token_opens_nothing(home: Path) -> None:
    with pytest.raises(KeyFileWrongKind):
        custody.opener(made(home, f"lane-{KeyType.ED25519}", Purpose.SIGNING, KeyType.ED25519))


def test_a_pin_is_typed_where_no_file_holds_it_and_a_wrong_one_is_named(home: Path) -> None:
    made(home, "owner", Purpose.RECIPIENT, KeyType.P256)
    asks = write(home / "asks.key", uri(home, "owner", pin=None))
    assert custody.opener(asks, PIN).public.type is KeyType.P256
    with pytest.raises(TokenRefused, match="no PIN"):
        custody.opener(asks)
    write(home / "wrong-pin", "9999")
    wrong = write(home / "wrong.key", uri(home, "owner", pin="wrong-pin"))
    code = "import sys, pathlib, edge.seal.custody; edge.seal.custody.opener(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, wrong], capture_output=True, text=True)  # here it is logged in
    assert done.stderr.splitlines()[-1] == "edge.errors.TokenRefused: SEAL-09 token box: PinIncorrect"
    (home / "shown-pin").write_text("1234")
    (home / "shown-pin").chmod(0o644)
    with pytest.raises(KeyFileExposed):
        custody.opener(write(home / "shown.key", uri(home, "owner", pin="shown-pin")))
    with pytest.raises(KeyFileMissing):
        custody.opener(write(home / "gone.key", uri(home, "owner", pin="gone-pin")))
    with pytest.raises(TokenRefused, match="is no text"):
        custody.opener(asks, b"\xff1234")
    write(home / "no-text-pin", "").write_bytes(b"\xff1234")
    with pytest.raises(KeyFileMalformed, match="no-text-pin"):
        custody.opener(write(home / "no-text.key", uri(home, "owner", pin="no-text-pin")))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("pkcs11:token=box;object=nobody?module-path={module}&pin-source=file:{home}/pin", TokenKeyMissing),
        ("pkcs11:token=other;object=owner?module-path={module}&pin-source=file:{home}/pin", TokenUnavailable),
        ("pkcs11:token=box;object=owner?module-path=/nowhere.so&pin-source=file:{home}/pin", TokenUnavailable),
        ("pkcs11:token=box;object=owner", KeyFileMalformed),
        ("pkcs11:token=box?module-path={module}", KeyFileMalformed),
        ("pkcs11:token=box;object=?module-path={module}&pin-source=file:{home}/pin", KeyFileMalformed),
        ("pkcs11:token=box;id=?module-path={module}&pin-source=file:{home}/pin", KeyFileMalformed),
        ("pkcs11:token=box;object=owner;id=?module-path={module}&pin-source=file:{home}/pin", KeyFileMalformed),
        ("pkcs11:object=owner?module-path={module}", KeyFileMalformed),
        ("pkcs11:token=box;object=owner?module-path={module}&pin-value=1234", KeyFileMalformed),
        ("pkcs11:token=box;slot=owner?module-path={module}", KeyFileMalformed),
    ],
)
def test_a_key_that_is_not_to_be_had_is_named_with_a_code(home: Path, text: str, error: type[Exception]) -> None:
    path = write(home / "bad.key", text.format(home=home, module=MODULE))
    with pytest.raises(error) as caught:
        custody.signer(path)
    assert "1234" not in str(caught.value)


def test_a_key_made_in_a_token_leaves_a_file_that_names_it_and_its_public_half(home: Path, tmp_path: Path) -> None:
    asked = uri(home, "made-whole")
    public_file = custody.make_in_token(tmp_path / "lane.key", asked, Purpose.SIGNING, KeyType.P256)
    signer = custody.signer(tmp_path / "lane.key")
    assert keys.load_public(public_file, Purpose.SIGNING).kid == signer.public.kid
    with pytest.raises(KeyFileExists):
        custody.make_in_token(tmp_path / "lane.key", uri(home, "never"), Purpose.SIGNING, KeyType.P256)


def test_no_key_is_made_in_a_token_that_no_file_can_name(home: Path, tmp_path: Path) -> None:
    asked, path = uri(home, "made-later"), tmp_path / "later" / "root.key"
    with pytest.raises(KeyFileMissing, match="cannot write"):
        custody.make_in_token(path, asked, Purpose.SIGNING, KeyType.P256)
    path.parent.mkdir()
    with pytest.raises(KeyFileMalformed):
        custody.make_in_token(path, asked.replace("later", "sp\u00e4ter"), Purpose.SIGNING, KeyType.P256)
    assert custody.make_in_token(path, asked, Purpose.SIGNING, KeyType.P256).exists()


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.P256])
def test_the_owners_keys_move_into_a_token_and_lanes_follow_what_they_sign(
    home: Path, tmp_path: Path, kind: KeyType
) -> None:
    folder = tmp_path / "authority"
    authority("init", folder, "--no-passphrase")
    first = Repository(folder).roots.first_bytes
    for name in ("owner", "escrow"):
        (tmp_path / f"{name}.pub").write_text(recipient_key(name=name).public.pem())
        authority("add-recipient", folder, tmp_path / f"{name}.pub")
    made = {name: tmp_path / name for name in ("root", "targets", "online")}
    for name, path in made.items():
        words = ["owner", str(path), "--type", kind, "--token", uri(home, f"{name}-{kind}")]
        assert CliRunner().invoke(keys_app, words, catch_exceptions=False).exit_code == 0
    for option, name in (("--add", "root"), ("--targets", "targets"), ("--online", "online")):
        authority("rotate-root", folder, option, made[name].with_suffix(".pub"))
        second = folder / "keys" / "root-2" if name == "root" else made["root"]
        authority("sign", folder, "--root-key", folder / "keys" / "root-1", "--root-key", second, "--yes")
    given = ("--targets-key", made["targets"], "--online-key", made["online"])
    assert "policy 1 is signed" in authority("sign", folder, *given)
    trust = Trust(tmp_path / "lane", first)
    assert trust.refresh(DirectoryCarrier(folder / "repository"), datetime.datetime.now(datetime.UTC))
    assert trust.version == 1


def test_a_lanes_key_in_a_token_is_replaced_by_another_there_and_counts_until_it_is_revoked(
    home: Path, tmp_path: Path
) -> None:
    box = Box(tmp_path / "box")

    def make(name: str) -> None:
        for path in box.folder.glob("signing*"):
            path.unlink()
        words = ["lane", str(box.folder / "signing"), "--type", KeyType.P256, "--token", uri(home, name)]
        assert CliRunner().invoke(keys_app, words, catch_exceptions=False).exit_code == 0

    make("replaced-1")
    owner = Owner(tmp_path / "owner", box.ask())
    box.finish(owner.reply())
    before = box.signs_with()
    make("replaced-2")
    owner.enrol(box.ask())
    box.finish(owner.reply())
    after = box.signs_with()
    assert owner.repository.policy is not None
    assert owner.repository.policy.lane_keys_at("lane-1", datetime.datetime.now(datetime.UTC)) == (before, after)
