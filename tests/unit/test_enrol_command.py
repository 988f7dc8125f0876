"""`sealane enrol` on a box that was enrolled before: what stays, and what does not."""

import datetime
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from central.enrolments import Enrolments
from central.repository import Repository
from edge import enrolment, keeper
from edge.commands.enrol import command
from edge.config import load
from edge.errors import (
    ReplyUnfit,
    RequestInvalid,
    TrustError,
    TrustNotAsShown,
    TrustNotSetUp,
    TrustRefused,
    TrustUnconfirmed,
    TrustUnkept,
)
from edge.keeper import tls_public
from edge.policy import Recipient, Revocation
from edge.seal.keys import KeyType, PublicKey
from edge.seal.signer import FileSigner
from edge.user import as_owner_of
from tests.sealing import recipient_key, signing_key

NOW = datetime.datetime.now(datetime.UTC)
TARGETS, ONLINE = (FileSigner(signing_key(name=name)) for name in ("targets", "online"))
SERVICE = 64321
"""The user of the lane's unit."""
CONFIG = """
lane.id = "lane-1"
loop.driver = "contact"
camera.driver = "files"
broker = { host = "localhost", ca_file = "ca.pem", certificate_file = "tls.pem", key_file = "tls.key" }
keys.signing_key_file = "signing"
trust = { root_file = "root.json", source = "broker" }
state.directory = "state"
"""


class Box:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        self.config = folder / "lane.toml"
        self.config.write_text(CONFIG)

    @property
    def trust(self) -> Path:
        return self.folder / "state" / "trust"

    def ask(self, *how: str) -> bytes:
        self.asks(*how)
        return (self.folder / "request").read_bytes()

    def asks(self, *how: str, charset: str = "utf-8") -> str:
        """What is shown meanwhile."""
        return self._enrol("--request", self.folder / "request", *how, charset=charset)

    def finish(self, reply: Path, said: str | None = None) -> str:
        """With the fingerprint that the owner says; that of the reply if not given."""
        return self._enrol("--finish", reply, "--root-fingerprint", said or fingerprint_of(reply))

    def finish_without_a_terminal(self, reply: Path) -> str:
        return self._enrol("--finish", reply)

    def finish_at_a_terminal(self, reply: Path, answer: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("typer.testing.make_input_stream", lambda _, charset: Terminal(answer.encode(charset)))
            return self._invoke("--finish", reply)

    def hears(self, owner: "Owner") -> keeper.Standing:
        """What the lane goes by once it fetched what the owner says now."""
        self.config.write_text(CONFIG.replace('"broker"', f'"{owner.repository.published}"'))
        held, _ = keeper.stand(load(self.config))
        assert held is not None
        return held.step(datetime.datetime.now(datetime.UTC))

    def signs_with(self) -> PublicKey:
        return keeper.stand(load(self.config))[1].sealer.signer.public

    def shows(self) -> Path:
        """The certificate that the lane would show."""
        return keeper.stand(load(self.config))[1].certificate_file

    def _enrol(self, *words: object, charset: str = "utf-8") -> str:
        result = self._invoke(*words, charset=charset)
        assert result.exit_code == 0, result.output
        return result.output

    def _invoke(self, *words: object, charset: str = "utf-8") -> Result:
        app = typer.Typer()
        app.command()(command)
        given = ["--config", str(self.config), *map(str, words)]
        return CliRunner(charset=charset).invoke(app, given, catch_exceptions=False)


class Terminal(io.BytesIO):
    """Somebody there who answers."""

    def isatty(self) -> bool:
        return True


def fingerprint_of(reply: Path) -> str:
    return enrolment.fingerprint((reply / "root.json").read_bytes())


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Owner:
    """An authority with lane-1 enrolled by what the box asks for, and so many policies signed."""

    def __init__(self, folder: Path, asked: bytes, editions: int = 1) -> None:
        self.root = FileSigner(signing_key(name=f"root of {folder.name}"))
        self.repository = Repository.create(folder, [self.root], 1, TARGETS.public, ONLINE.public, NOW)
        readers = tuple(Recipient(key=recipient_key(name=name).public) for name in ("owner", "escrow"))
        self.repository.edit(recipients=readers)
        self.enrolments = Enrolments(self.repository)
        self.enrol(asked)
        for number in range(editions - 1):
            self.repository.edit(aim_picture=number % 2 == 0)
            self.sign()

    def enrol(self, asked: bytes) -> None:
        self.enrolments.enrol(enrolment.parse(asked), asked, NOW)
        self.sign()

    def sign(self) -> None:
        self.repository.publish(TARGETS, ONLINE, NOW)

    def rotate_root(self, name: str) -> None:
        """Another root key in the place of the one there is."""
        old, self.root = self.root, FileSigner(signing_key(name=name))
        self.repository.roots.propose(NOW, add=[self.root.public], remove=[old.public.kid.hex()])
        assert self.repository.roots.sign([old, self.root])
        self.sign()

    def reply(self) -> Path:
        return self.enrolments.reply("lane-1")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "box")


def test_a_box_is_enrolled_anew_under_a_new_authority_with_fewer_policies(tmp_path: Path, box: Box) -> None:
    box.finish(Owner(tmp_path / "first", box.ask(), editions=3).reply())
    (box.trust / "certificate.pem").write_bytes((box.folder / "tls.pem").read_bytes())
    second = Owner(tmp_path / "second", box.ask()).reply()
    assert "another authority" in box.finish(second)
    assert (box.folder / "root.json").read_bytes() == (second / "root.json").read_bytes()
    assert box.shows() == box.folder / "tls.pem"
    assert "another authority" not in box.finish(second)


def test_a_root_is_taken_only_once_somebody_compared_its_fingerprint(tmp_path: Path, box: Box) -> None:
    reply = Owner(tmp_path / "owner", box.ask()).reply()
    before = files_of(box.folder)
    with pytest.raises(TrustUnconfirmed):
        box.finish_without_a_terminal(reply)
    assert box.finish_at_a_terminal(reply, "n\n").exit_code == 1
    assert files_of(box.folder) == before
    told = box.finish_at_a_terminal(reply, "y\n")
    assert told.exit_code == 0
    assert fingerprint_of(reply) in told.output
    assert "another authority" not in told.output
    assert "fingerprint" not in box.finish_without_a_terminal(reply)


def test_a_folder_that_was_swapped_on_the_way_is_not_taken_silently(tmp_path: Path, box: Box) -> None:
    """Whoever carries it can make an authority of his own that names this lane, the true readers, and himself."""
    true, swapped = (Owner(tmp_path / name, box.ask()).reply() for name in ("true", "swapped"))
    for first in (True, False):
        before = files_of(box.folder)
        with pytest.raises(TrustUnconfirmed):
            box.finish_without_a_terminal(swapped)
        with pytest.raises(TrustNotAsShown) as refused:
            box.finish(swapped, said=fingerprint_of(true))
        assert fingerprint_of(swapped) not in refused.value.what
        told = box.finish_at_a_terminal(swapped, "n\n")
        assert told.exit_code == 1
        assert fingerprint_of(swapped) in told.output
        assert ("replaces another authority" in told.output) is not first
        assert files_of(box.folder) == before
        box.finish(true)


def test_a_new_box_starts_from_the_newest_root_and_keys_that_went_have_no_say_there(tmp_path: Path, box: Box) -> None:
    owner = Owner(tmp_path / "owner", asked := box.ask())
    thief = shutil.copytree(tmp_path / "owner", tmp_path / "thief")
    owner.rotate_root("newer")
    reply = owner.reply()
    assert fingerprint_of(reply) == owner.repository.roots.fingerprint
    box.finish(reply)
    assert (box.folder / "root.json").read_bytes() == owner.repository.roots.newest_bytes
    with pytest.raises(TrustUnconfirmed):
        box.finish_without_a_terminal(forged(thief, owner, asked))


@pytest.mark.parametrize("heard", [True, False])
def test_a_box_that_was_enrolled_under_an_older_root_goes_on_unasked_and_only_with_what_followed_it(
    tmp_path: Path, box: Box, heard: bool
) -> None:
    owner = Owner(tmp_path / "owner", asked := box.ask(), editions=2)
    thief = shutil.copytree(tmp_path / "owner", tmp_path / "thief")
    box.finish(owner.reply())
    began = (box.folder / "root.json").read_bytes()
    owner.rotate_root("newer")
    old = shutil.copytree(owner.reply(), tmp_path / "old")
    owner.rotate_root("newest")
    if heard:
        box.hears(owner)
    for _ in range(2):
        assert "under policy 2" in box.finish_without_a_terminal(owner.reply())
    assert (box.folder / "root.json").read_bytes() == began
    assert box.signs_with() == enrolment.parse(asked).signing_key
    with pytest.raises(TrustRefused):
        box.finish_without_a_terminal(old)
    with pytest.raises(TrustUnconfirmed):
        box.finish_without_a_terminal(forged(thief, owner, asked))


def forged(folder: Path, owner: Owner, asked: bytes) -> Path:
    """What somebody makes of an older copy of the authority with the root key that it had."""
    thief = copy(owner)
    thief.repository = Repository(folder)
    thief.enrolments = Enrolments(thief.repository)
    thief.root = FileSigner(signing_key(name="root of owner"))
    thief.rotate_root("thief")
    return thief.reply()


def test_under_the_same_authority_nothing_older_is_taken(tmp_path: Path, box: Box) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    old = owner.reply().rename(tmp_path / "old")
    owner.repository.edit(aim_picture=True)
    owner.sign()
    box.finish(owner.reply())
    before = files_of(box.trust)
    with pytest.raises(TrustRefused):
        box.finish(old)
    assert files_of(box.trust) == before


def test_what_was_verified_stays_until_the_new_authoritys_word_is(tmp_path: Path, box: Box) -> None:
    asked = box.ask()
    box.finish(Owner(tmp_path / "first", asked).reply())
    before = files_of(box.folder)
    other = Owner(tmp_path / "second", asked)
    other.repository.edit(lanes={})
    other.sign()
    with pytest.raises(RequestInvalid):
        box.finish(other.reply())
    assert files_of(box.folder) == before


@pytest.mark.parametrize("kept", [True, False])
def test_a_certificate_that_is_brought_takes_the_place_of_a_renewed_one(tmp_path: Path, box: Box, kept: bool) -> None:
    """The renewed one may have ended while the lane was away, or be for a key that is gone."""
    owner = Owner(tmp_path / "owner", box.ask())
    box.finish(owner.reply())
    renewed = box.trust / "certificate.pem"
    renewed.write_bytes((box.folder / "tls.pem").read_bytes())
    if not kept:
        for name in ("tls.key", "signing", "signing.pub"):
            (box.folder / name).unlink()
    owner.enrol(box.ask())
    box.finish(owner.reply())
    assert box.shows() == box.folder / "tls.pem"
    assert tls_public(box.folder / "tls.key") == enrolment.parse(box.ask()).tls_key


def test_a_box_that_was_told_to_rotate_asks_with_its_newest_key_and_keeps_it_under_another_authority(
    tmp_path: Path, box: Box
) -> None:
    owner = Owner(tmp_path / "owner", first := box.ask())
    box.finish(owner.reply())
    owner.enrolments.rotate("lane-1")
    owner.sign()
    owner.enrolments.take_up(rotated(box, owner), NOW)
    owner.sign()
    asked = box.ask()
    assert enrolment.parse(asked).signing_key != enrolment.parse(first).signing_key
    owner.enrol(asked)
    owner.enrolments.rotate("lane-1")
    owner.sign()
    owner.enrolments.take_up(rotated(box, owner), NOW)  # its newest key vouches for the next one
    box.finish(Owner(tmp_path / "second", asked := box.ask()).reply())
    assert box.ask() == asked


@pytest.mark.parametrize(("how", "kind"), [((), KeyType.ED25519), (("--p256",), KeyType.P256)])
def test_a_box_whose_key_was_revoked_is_enrolled_with_a_new_one(
    tmp_path: Path, box: Box, how: tuple[str, ...], kind: KeyType
) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    box.finish(owner.reply())
    revoked = box.signs_with()
    owner.repository.edit(revoked=(Revocation(kid=revoked.kid.hex(), at=NOW),))
    owner.sign()
    with pytest.raises(RequestInvalid, match="--new-key"):
        owner.enrol(box.ask())
    owner.enrol(asked := box.ask("--new-key", *how))
    assert "restart" in box.finish(owner.reply())
    assert box.signs_with() == enrolment.parse(asked).signing_key != revoked
    assert box.signs_with().type is kind


def test_keys_that_a_box_made_outlast_any_trouble_while_it_changes_to_another_authority(
    tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    box.finish(owner.reply())
    owner.enrolments.rotate("lane-1")
    owner.sign()
    rotated(box, owner)
    second = Owner(tmp_path / "second", asked := box.ask())
    rmtree, kills = shutil.rmtree, iter(range(1, 10))

    def killed(path: Path, **_: object) -> None:
        if Path(path).parent == box.trust and next(kills) < 4:
            raise OSError("killed")
        rmtree(path, ignore_errors=True)

    monkeypatch.setattr(shutil, "rmtree", killed)
    for _ in range(3):
        with pytest.raises(TrustUnkept):
            box.finish(second.reply())
    box.finish(second.reply())
    assert box.signs_with() == enrolment.parse(asked).signing_key
    assert box.ask() == asked


@pytest.fixture
def beside_the_unit() -> Iterator[Box]:
    """A box as root enrols it: the state directory is the service's user's."""
    if os.geteuid() != 0:
        pytest.skip("only root works as another user")
    with tempfile.TemporaryDirectory() as folder:  # that user may come to it, as pytest's own are closed to others
        Path(folder).chmod(0o755)
        box = Box(Path(folder) / "box")
        os.chown(box.folder / "state", SERVICE, SERVICE)
        yield box


def test_what_root_leaves_in_the_state_directory_is_the_services_and_all_else_is_roots(
    tmp_path: Path, beside_the_unit: Box
) -> None:
    owner = Owner(tmp_path / "owner", beside_the_unit.ask())
    beside_the_unit.finish(owner.reply())
    owner.enrol(beside_the_unit.ask("--new-key"))
    beside_the_unit.finish(owner.reply())
    beside_the_unit.finish(Owner(tmp_path / "second", beside_the_unit.ask()).reply())
    users = {path: path.stat().st_uid for path in beside_the_unit.folder.rglob("*")}
    assert {path for path, user in users.items() if user == SERVICE} == {
        path for path in users if path.is_relative_to(beside_the_unit.folder / "state")
    }
    assert len(files_of(beside_the_unit.trust)) > 5
    assert os.geteuid() == 0


@pytest.mark.parametrize(
    "planted",
    ["trust", "trust/metadata", "trust/metadata/root_history", "trust/targets", "trust/targets/policy%2Fcurrent",
     f"trust/policy.json.{os.getpid()}.part"],
)  # fmt: skip
def test_root_writes_nothing_through_a_link_that_the_service_planted(
    tmp_path: Path, beside_the_unit: Box, planted: str
) -> None:
    reply = Owner(tmp_path / "owner", beside_the_unit.ask()).reply()
    link = beside_the_unit.folder / "state" / planted
    target = beside_the_unit.folder / "roots"
    with as_owner_of(beside_the_unit.folder / "state"):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    if link.suffix == ".part" or "%" in link.name:
        target.write_text("root's")
    else:
        target.mkdir()
    with pytest.raises(TrustError):
        beside_the_unit.finish(reply)
    assert list(target.iterdir()) == [] if target.is_dir() else target.read_text() == "root's"


def test_a_new_key_is_new_though_the_named_one_is_gone_and_a_later_one_is_not(tmp_path: Path, box: Box) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    box.finish(owner.reply())
    before = enrolment.parse(box.ask("--new-key")).signing_key
    for name in ("signing", "signing.pub"):
        (box.folder / name).unlink()
    assert enrolment.parse(box.ask("--new-key")).signing_key != before


def rotated(box: Box, owner: Owner) -> bytes:
    """What the lane asks for when it hears what the owner says now."""
    request = box.hears(owner).request
    assert request is not None
    return request


@pytest.mark.parametrize("signed_before", [True, False])
def test_a_folder_from_before_the_draft_was_signed_is_told_as_such(
    tmp_path: Path, box: Box, signed_before: bool
) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    if signed_before:
        for name in ("signing", "signing.pub"):
            (box.folder / name).unlink()
        asked = box.ask()
        owner.enrolments.enrol(enrolment.parse(asked), asked, NOW)
    else:
        shutil.rmtree(owner.repository.published / "targets")
        for role in ("targets", "snapshot", "timestamp"):
            (owner.repository.published / "metadata" / f"{role}.json").unlink()
    with pytest.raises(ReplyUnfit, match="was the draft signed"):
        box.finish(owner.reply())


@pytest.mark.parametrize("damage", [b"", b'{"signed"', b"{}"])
def test_a_box_whose_root_file_was_damaged_is_enrolled_again(tmp_path: Path, box: Box, damage: bytes) -> None:
    reply = Owner(tmp_path / "owner", box.ask()).reply()
    box.finish(reply)
    (box.folder / "root.json").write_bytes(damage)
    with pytest.raises(TrustUnconfirmed):
        box.finish_without_a_terminal(reply)
    box.finish(reply)
    assert (box.folder / "root.json").read_bytes() == (reply / "root.json").read_bytes()


def test_roots_that_the_service_put_beside_those_that_were_verified_are_not_looked_at(tmp_path: Path, box: Box) -> None:
    first, other = (Owner(tmp_path / name, box.ask()).reply() for name in ("first", "other"))
    box.finish(first)
    history = box.trust / "metadata" / "root_history"
    (history / "99.root.json").write_bytes((other / "root.json").read_bytes())
    os.mkfifo(history / "98.root.json")
    with pytest.raises(TrustUnconfirmed):
        box.finish_without_a_terminal(other)


def test_a_folder_whose_certificates_do_not_belong_together_is_refused(tmp_path: Path, box: Box) -> None:
    reply, other = (Owner(tmp_path / name, box.ask()).reply() for name in ("owner", "other"))
    for wrong in (b"junk", (other / "ca.pem").read_bytes()):
        (reply / "ca.pem").write_bytes(wrong)
        with pytest.raises(ReplyUnfit, match="do not belong together"):
            box.finish(reply)


@pytest.mark.parametrize(("charset", "drawn"), [("utf-8", True), ("latin-1", False), ("ascii", False)])
def test_a_terminal_without_blocks_shows_the_fingerprint_and_no_qr_code(box: Box, charset: str, drawn: bool) -> None:
    shown = box.asks(charset=charset)
    assert enrolment.parse(box.ask()).fingerprint in shown
    assert ("\u2588" in shown) is drawn


def test_a_lane_whose_key_was_replaced_by_hand_is_not_to_be_started_before_the_policy_lists_it(
    tmp_path: Path, box: Box
) -> None:
    owner = Owner(tmp_path / "owner", box.ask())
    assert "don't start" not in box.asks()
    box.finish(owner.reply())
    assert "don't start" not in box.asks()
    assert "don't start" not in box.asks("--new-key")  # until that one is listed the lane signs with the old one
    for path in (*box.folder.glob("signing*"), *box.trust.glob("signing-*")):
        path.unlink()
    assert "don't start the lane before" in box.asks()
    owner.enrol((box.folder / "request").read_bytes())
    box.finish(owner.reply())
    assert "don't start" not in box.asks()


def test_a_box_that_has_no_place_for_the_owners_word_asks_for_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path / "box")
    lines = CONFIG.replace("trust = { root", 'keys.recipient_files = ["a"]\nkeys.collector_files = ["b"]\n# { root')
    box.config.write_text(lines)
    with pytest.raises(TrustNotSetUp):
        box.ask()
    assert {path.name for path in box.folder.iterdir()} == {"lane.toml", "state"}
