"""`sealane authority`: what it refuses before anything is in the draft."""

import datetime
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from central.authority import app
from central.keys import app as keys_app
from central.repository import Repository
from central.roots import tuf_key
from edge import enrolment
from edge.carrier import DirectoryCarrier
from edge.errors import (
    AuthorityBusy,
    AuthorityError,
    AuthorityExists,
    AuthorityInvalid,
    AuthorityKeyInUse,
    AuthorityKeyOfRoot,
    AuthorityKeyRevoked,
    AuthorityKeyShared,
    AuthorityMissing,
    AuthorityNothingToSign,
    AuthorityRefuses,
    AuthorityRootUnfit,
    AuthorityThreshold,
    AuthorityThresholdUnreachable,
    AuthorityUnconfirmed,
    AuthorityUnknown,
    AuthorityUnusable,
    KeyFileMissing,
    KeyFilePassphrase,
    KeyFileWrongKind,
    ManifestInvalid,
    ManifestMismatch,
    MqttNotAuthorised,
    MqttPublicationRefused,
    OptionMissing,
    RequestInvalid,
    RequestNotAsShown,
)
from edge.mqtt import MAX_PACKET_BYTES, Acknowledged, Event, Message, Publication, topic, trust_topic
from edge.policy import Terms, parse_policy
from edge.seal.keys import Purpose, load_private, load_public
from edge.seal.signer import FileSigner
from edge.trust import CURRENT_POLICY, Trust
from tests.sealing import recipient_key, signing_key


def authority(*words: object) -> str:
    """What `sealane authority WORDS` shows; an error of ours is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority("init", tmp_path / "authority", "--no-passphrase")
    return tmp_path / "authority"


def request_of(lane: str, folder: Path) -> tuple[Path, str]:
    """A lane's request in a file, and its fingerprint."""
    data = enrolment.make(lane, FileSigner(signing_key()), ec.generate_private_key(ec.SECP256R1()).public_key())
    path = folder / f"{lane}.request"
    path.write_bytes(data)
    return path, enrolment.parse(data).fingerprint


def test_an_enrolled_lane_has_its_epoch_its_certificate_and_a_folder_to_carry(folder: Path) -> None:
    request, fingerprint = request_of("lane-1", folder)
    told = authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", "00000000000000AB")
    (lane,) = Repository(folder).draft.lanes.values()
    assert [one.key.kid for one in lane.keys] == [signing_key().public.kid]
    assert lane.epochs == ("00000000000000ab",)
    assert {path.name for path in (folder / "lane-1.enrolled").iterdir()} == {
        "root.json", "ca.pem", "certificate.pem", "repository",
    }  # fmt: skip
    assert (folder / "requests" / "lane-1").read_bytes() == request.read_bytes()
    brought = enrolment.fingerprint((folder / "lane-1.enrolled" / "root.json").read_bytes())
    assert all(brought in shown for shown in (told, authority("status", folder)))


@pytest.mark.parametrize("epoch", ["", "ab", "00000000000000zz", "00000000000000ab0"])
def test_an_epoch_that_is_none_changes_no_draft(folder: Path, epoch: str) -> None:
    request, fingerprint = request_of("lane-1", folder)
    with pytest.raises(AuthorityUnknown, match="an epoch has 16 hex digits"):
        authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", epoch)
    authority("add-lane", folder, request, "--fingerprint", fingerprint)
    with pytest.raises(AuthorityUnknown, match="an epoch has 16 hex digits"):
        authority("announce-epoch", folder, "lane-1", epoch)
    assert Repository(folder).draft.lanes["lane-1"].epochs == ()


def test_an_epoch_announced_by_mistake_is_taken_back(folder: Path) -> None:
    request, fingerprint = request_of("lane-1", folder)
    authority("add-lane", folder, request, "--fingerprint", fingerprint)
    for epoch in ("00000000000000AB", "00000000000000ac", "00000000000000ac"):
        authority("announce-epoch", folder, "lane-1", epoch)
    assert Repository(folder).draft.lanes["lane-1"].epochs == ("00000000000000ab", "00000000000000ac")
    authority("announce-epoch", folder, "lane-1", "00000000000000ab", "--take-back")
    assert Repository(folder).draft.lanes["lane-1"].epochs == ("00000000000000ac",)
    with pytest.raises(AuthorityUnknown):
        authority("announce-epoch", folder, "lane-1", "00000000000000ab", "--take-back")


def test_a_lane_nobody_enrolled_has_neither_epoch_nor_key_to_change(folder: Path) -> None:
    with pytest.raises(AuthorityUnknown, match="no lane lane-9"):
        authority("announce-epoch", folder, "lane-9", "00000000000000ab")
    with pytest.raises(AuthorityUnknown, match="no lane lane-9"):
        authority("rotate-lane", folder, "lane-9")


def test_the_text_of_the_boxs_qr_code_is_taken_for_the_fingerprint_in_it(folder: Path) -> None:
    request, fingerprint = request_of("lane-1", folder)
    authority("add-lane", folder, request, "--fingerprint", f"sealane:lane-1:{fingerprint.replace(' ', '')}\n")
    assert "lane-1" in Repository(folder).draft.lanes


def test_a_wrong_fingerprint_is_refused_without_the_right_one(folder: Path) -> None:
    request, fingerprint = request_of("lane-1", folder)
    with pytest.raises(RequestNotAsShown, match="another fingerprint") as refused:
        authority("add-lane", folder, request, "--fingerprint", "00" * 16)
    told = f"{refused.value} {refused.value.hint}"
    assert not any(group in told for group in fingerprint.split())


def test_without_a_terminal_the_fingerprint_is_an_option(folder: Path) -> None:
    request, _ = request_of("lane-1", folder)
    with pytest.raises(OptionMissing, match="--fingerprint"):
        authority("add-lane", folder, request)


def test_no_lane_is_called_as_the_owners_own_topic(folder: Path) -> None:
    request, fingerprint = request_of("trust", folder)
    with pytest.raises(RequestInvalid, match="no lane can be called trust"):
        authority("add-lane", folder, request, "--fingerprint", fingerprint)
    assert Repository(folder).draft.lanes == {}


def test_a_second_init_makes_no_keys_beside_those_that_count(folder: Path) -> None:
    for key in (folder / "keys").iterdir():
        key.unlink()
    with pytest.raises(AuthorityExists):
        authority("init", folder, "--no-passphrase")
    assert not list((folder / "keys").iterdir())


@pytest.mark.parametrize(("after", "error"), [(3, KeyFileMissing), (11, AuthorityUnusable)])
def test_an_init_that_was_interrupted_has_made_no_authority_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, error: type[Exception]
) -> None:
    """Among the keys, or once they are there."""
    folder = tmp_path / "authority"
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk(after))
        with pytest.raises(error):
            authority("init", folder, "--no-passphrase")
    left = sorted((folder / "keys").iterdir())
    assert left
    with pytest.raises(AuthorityMissing):
        authority("status", folder)


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--type", "x25519"), KeyFileWrongKind),
        (("--root-keys", "2", "--threshold", "3"), AuthorityThresholdUnreachable),
    ],
)
def test_an_init_that_can_only_be_refused_asks_for_no_passphrase(
    tmp_path: Path, words: tuple[str, ...], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        authority("init", tmp_path / "authority", *words)
    assert not (tmp_path / "authority").exists()


def test_a_policy_that_is_refused_is_refused_before_anybody_types_a_passphrase(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    folder = tmp_path / "authority"
    assert "ca.key is in clear" in authority("init", folder, "--passphrase-file", tmp_path / "secret")
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    authority("add-recipient", folder, tmp_path / "owner.pub")
    with pytest.raises(AuthorityRefuses):
        authority("sign", folder)
    with pytest.raises(KeyFilePassphrase):
        authority("sign", folder, "--force")


def test_a_text_with_control_characters_is_in_no_draft(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    with pytest.raises(AuthorityInvalid, match="control characters"):
        authority("add-recipient", folder, tmp_path / "owner.pub", "--note", "\x1b[2J")
    authority("add-recipient", folder, tmp_path / "owner.pub", "--note", "J\u00f6rg, 2nd floor")
    with pytest.raises(AuthorityInvalid, match="control characters"):
        authority("revoke", folder, recipient_key().public.fingerprint, "--reason", "lost\n")
    assert Repository(folder).draft.revoked == ()


def test_an_end_is_said_to_the_second_where_it_was_given_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    said = authority("add-recipient", folder, tmp_path / "owner.pub", "--since", "2026-01-01", "--until",
                     "2099-11-28T10:22:15")  # fmt: skip
    assert "from 2026-01-01, until 2099-11-28 10:22:15" in said


def full_disk(after: int) -> Callable[[int], None]:
    """An fsync that fails once so many files are written."""
    written = count()

    def fsync(file: int) -> None:
        if next(written) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


class Broker:
    """A session of `edge.mqtt` that takes few publications at a time, and says `said` to who listens."""

    window, room = 8, 40
    reason = 0

    def __init__(self, *said: Message) -> None:
        self.said: list[Event] = list(said)
        self.held: dict[str, bytes] = {}
        self._queued: list[Publication] = []

    def __call__(self, *_: object, **options: object) -> "Broker":
        return self

    def connect(self) -> None: ...

    def subscribe(self, filters: list[str]) -> None: ...

    def close(self) -> None: ...

    def publish(self, publication: Publication) -> None:
        assert len(self._queued) < self.room
        self._queued.append(publication)

    def wait(self, timeout_s: float) -> list[Event]:
        taken, self._queued = self._queued[: self.window], self._queued[self.window :]
        self.held |= {publication.topic: publication.payload for publication in taken}
        said, self.said = self.said, []
        return [*said, *(Acknowledged(publication, self.reason) for publication in taken)]


def with_broker(monkeypatch: pytest.MonkeyPatch, broker: Broker, *words: object) -> str:
    monkeypatch.setattr("edge.mqtt.Session", broker)
    monkeypatch.setattr("central.options.own_name", lambda certificate: "owner.central")
    return authority(*words, "--broker", "localhost:8883", "--ca", "ca.pem", "--certificate", "c.pem", "--key", "c.key")


@pytest.fixture
def signed(folder: Path, tmp_path: Path) -> Repository:
    """With one policy, for two readers and lanes 1 and 2."""
    for name in ("owner", "escrow"):
        (tmp_path / f"{name}.pub").write_text(recipient_key(name=name).public.pem())
        authority("add-recipient", folder, tmp_path / f"{name}.pub")
    for lane in ("lane-1", "lane-2"):
        request, fingerprint = request_of(lane, folder)
        authority("add-lane", folder, request, "--fingerprint", fingerprint)
    authority("sign", folder)
    return Repository(folder)


def test_whoever_publishes_before_signing_hears_what_is_missing(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the draft" not in with_broker(monkeypatch, Broker(), "publish", folder)
    authority("allow-picture", folder, "true")
    assert "what the draft changes is not among them" in with_broker(monkeypatch, Broker(), "publish", folder)


def test_signing_again_without_a_change_says_that_the_policy_stays(folder: Path, signed: Repository) -> None:
    assert "policy 1 stays as it is; it holds until" in authority("sign", folder)
    authority("renew", folder, "--days", "4000")
    assert "policy 1 stays as it is, files beside it are signed" in authority("sign", folder)


def test_nothing_to_renew_and_nobody_who_asks_are_said(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no certificate to renew ends within 60 days" in authority("renew", folder)
    assert "lane-1" in authority("renew", folder, "--days", "4000")
    shown = with_broker(monkeypatch, Broker(), "accept-requests", folder, "--listen-s", "0")
    assert "no lane that was told to rotate has asked" in shown


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("init", "NEW", "--root-keys", "2", "--threshold", "3"), "--root-keys"),
        (("rotate-root", "FOLDER", "--threshold", "4"), "--threshold"),
        (("announce-epoch", "FOLDER", "lane-1", "ab"), "COL-06"),
    ],
)
def test_a_hint_is_of_what_was_refused(
    folder: Path, signed: Repository, command: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    where = {"NEW": tmp_path / "new", "FOLDER": folder}
    with pytest.raises(AuthorityError) as refused:
        authority(*(where.get(word, word) for word in command))
    assert hint in refused.value.hint


def test_whatever_lanes_fetch_is_put_on_the_broker_however_many_they_are(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(Broker.room):
        signed.add_target(f"certificates/many-{number}.pem", b"certificate")
    signed.add_target("models/m/ocr.tflite", b"model")
    authority("sign", folder)
    broker = Broker()
    with_broker(monkeypatch, broker, "publish", folder)
    carried = {name for name in signed.files() if not name.startswith(("targets/models/", "targets/policy/1"))}
    assert set(broker.held) == {trust_topic(name) for name in carried}
    assert list(broker.held)[-1] == trust_topic("metadata/timestamp.json")


def test_a_policy_too_large_for_the_broker_is_told_before_anything_is_published(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (signed.published / "targets" / "policy" / "current").write_bytes(bytes(MAX_PACKET_BYTES))
    broker = Broker()
    with pytest.raises(MqttPublicationRefused, match="targets/policy/current"):
        with_broker(monkeypatch, broker, "publish", folder)
    assert not broker.held


def test_a_broker_that_acknowledges_nothing_is_given_up(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.authority.PATIENCE_S", 0.01)
    broker = Broker()
    broker.window = 0
    with pytest.raises(MqttPublicationRefused, match="acknowledged nothing"):
        with_broker(monkeypatch, broker, "publish", folder)


@pytest.mark.parametrize(("reason", "refusal"), [(0x87, MqttNotAuthorised), (0x97, MqttPublicationRefused)])
def test_a_broker_that_refuses_a_publication_is_told_apart_by_why(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch, reason: int, refusal: type[Exception]
) -> None:
    broker = Broker()
    broker.reason = reason
    with pytest.raises(refusal, match=f"reason code 0x{reason:02x}") as refused:
        with_broker(monkeypatch, broker, "publish", folder)
    assert type(refused.value) is refusal


def test_a_disk_that_takes_nothing_is_an_error_of_ours(folder: Path) -> None:
    (folder / f"draft.json.{os.getpid()}.part").mkdir()
    with pytest.raises(AuthorityUnusable, match=r"draft\.json"):
        authority("allow-picture", folder, "true")


def test_a_root_that_ends_soon_is_told_by_whatever_runs_often(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*words: str) -> bool:
        return "the root ends" in CliRunner().invoke(app, [*words, str(folder)], catch_exceptions=False).output

    commands = ["status"], ["sign", "--fresh"], ["sign"]
    assert not any(told(*words) for words in commands)
    soon = signed.roots.until - datetime.timedelta(days=59)
    monkeypatch.setattr("central.options.utc_now", lambda: soon)
    assert all(told(*words) for words in commands)


def test_what_goes_back_to_a_box_does_not_grow_with_models_or_other_lanes(folder: Path, signed: Repository) -> None:
    signed.add_target("models/m/ocr.tflite", b"model")
    authority("sign", folder)
    carried = folder / "lane-1.enrolled" / "repository"
    assert {path.relative_to(carried).as_posix() for path in carried.rglob("*") if path.is_file()} == {
        "metadata/1.root.json", "metadata/root.json", "metadata/targets.json", "metadata/snapshot.json",
        "metadata/timestamp.json", "targets/policy/current",
    }  # fmt: skip


def test_one_lanes_junk_stands_in_no_other_lanes_way(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority("rotate-lane", folder, "lane-2")
    new = FileSigner(signing_key(name="new"))
    tls_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    good = enrolment.make("lane-2", new, tls_key, old=FileSigner(signing_key()))
    unvouched = enrolment.make("lane-2", FileSigner(signing_key(name="stranger")), tls_key)
    said = (("lane-1", b"junk"), ("lane-2", unvouched), ("lane-2", good))
    broker = Broker(*(Message(topic(lane, "request"), data, retained=True) for lane, data in said))
    with_broker(monkeypatch, broker, "accept-requests", folder, "--listen-s", "0.05")
    assert new.public in [one.key for one in Repository(folder).draft.lanes["lane-2"].keys]


@pytest.mark.parametrize("command", ["revoke", "remove"])
def test_a_fingerprint_is_taken_as_it_is_shown(folder: Path, signed: Repository, command: str, tmp_path: Path) -> None:
    key = recipient_key(name="owner").public.fingerprint
    authority("add-recipient", folder, tmp_path / "owner.pub", "--until", "2026-01-01")
    assert key in authority(command, folder, *key.upper().split())


@pytest.mark.parametrize(
    ("typed", "refusal"), [("48c1 9ada", "has 32 hex digits, not 8"), ("0" * 34, "not 34"), ("xy" * 16, "made of")]
)
def test_what_is_no_fingerprint_is_told_what_one_is(folder: Path, typed: str, refusal: str) -> None:
    with pytest.raises(AuthorityUnknown, match=refusal):
        authority("revoke", folder, typed)
    with pytest.raises(AuthorityUnknown, match=refusal):
        authority("rotate-root", folder, "--remove", typed)


@pytest.mark.parametrize("name", ["root-1", "targets", "online"])
def test_a_key_that_the_root_names_is_not_revoked_but_rotated(folder: Path, name: str) -> None:
    key = load_public(folder / "keys" / f"{name}.pub", Purpose.SIGNING)
    for command in ("revoke", "remove"):
        with pytest.raises(AuthorityKeyOfRoot, match=f"a {name.removesuffix('-1')} key"):
            authority(command, folder, key.fingerprint)


def test_only_a_key_whose_time_is_over_is_taken_out(folder: Path) -> None:
    files = {name: folder / f"{name}.pub" for name in ("old", "new")}
    for name, path in files.items():
        path.write_text(recipient_key(name=name).public.pem())
        authority("add-recipient", folder, path)
    request, fingerprint = request_of("lane-1", folder)
    authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", "00000000000000ab")
    old, signs = recipient_key(name="old").public.fingerprint, signing_key().public.fingerprint
    for key in (old, signs):
        with pytest.raises(AuthorityKeyInUse):
            authority("remove", folder, key)
    authority("add-recipient", folder, files["old"], "--until", "2026-01-01")
    authority("revoke", folder, signs)
    for key in (old, signs):
        authority("remove", folder, key)
        with pytest.raises(AuthorityUnknown):
            authority("remove", folder, key)
    draft = Repository(folder).draft
    assert [one.key.kid for one in draft.recipients] == [recipient_key(name="new").public.kid]
    assert draft.lanes["lane-1"].keys == ()
    assert draft.lanes["lane-1"].epochs == ("00000000000000ab",)
    assert [one.kid for one in draft.revoked] == [signing_key().public.kid.hex()]


def test_a_key_that_was_taken_out_can_still_be_revoked(folder: Path, signed: Repository, tmp_path: Path) -> None:
    gone = recipient_key(name="owner").public
    authority("add-recipient", folder, tmp_path / "owner.pub", "--until", "2026-01-01")
    authority("remove", folder, gone.fingerprint)
    authority("sign", folder, "--force")
    authority("revoke", folder, gone.fingerprint)
    assert [one.kid for one in signed.draft.revoked] == [gone.kid.hex()]
    with pytest.raises(AuthorityUnknown):
        authority("revoke", folder, "00" * 16)


def test_a_key_named_again_keeps_what_is_not_said_anew(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    authority("add-recipient", folder, tmp_path / "owner.pub", "--since", "2026-01-01", "--note", "owner")
    shown = authority("add-recipient", folder, tmp_path / "owner.pub", "--until", "2099-01-01")
    assert "from 2026-01-01, until 2099-01-01" in shown
    (one,) = Repository(folder).draft.recipients
    assert (one.note, str(one.since), str(one.until)) == (
        "owner", "2026-01-01 00:00:00+00:00", "2099-01-01 00:00:00+00:00",
    )  # fmt: skip


def test_a_keys_end_is_taken_back_as_it_was_set(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    add = "add-recipient", folder, tmp_path / "owner.pub"
    authority(*add, "--until", "2099-01-01", "--note", "Ada")
    assert "until" not in authority(*add, "--open")
    (one,) = Repository(folder).draft.recipients
    assert (one.until, one.note) == (None, "Ada")
    with pytest.raises(SystemExit):
        app([*map(str, add), "--open", "--until", "2099-01-01"])


def test_a_revocation_by_mistake_is_taken_back_until_it_is_signed(
    folder: Path, signed: Repository, tmp_path: Path
) -> None:
    key = recipient_key(name="owner").public.fingerprint
    with pytest.raises(AuthorityUnknown, match="revokes no key"):
        authority("revoke", folder, key, "--take-back")
    before = signed.draft
    authority("revoke", folder, key)
    assert signed.draft != before
    authority("revoke", folder, key, "--take-back")
    assert signed.draft == before
    authority("revoke", folder, key)
    authority("sign", folder, "--force")
    with pytest.raises(AuthorityKeyRevoked, match="signed already"):
        authority("revoke", folder, key, "--take-back")


def test_a_revoked_key_is_not_named_again(folder: Path, tmp_path: Path) -> None:
    for role, key in (("recipient", recipient_key().public), ("collector", signing_key().public)):
        (tmp_path / "key.pub").write_text(key.pem())
        authority(f"add-{role}", folder, tmp_path / "key.pub")
        authority("revoke", folder, key.fingerprint)
        before = Repository(folder).draft
        with pytest.raises(AuthorityKeyRevoked, match=key.fingerprint):
            authority(f"add-{role}", folder, tmp_path / "key.pub", "--until", "2099-01-01")
        assert Repository(folder).draft == before


def test_a_revocation_said_while_another_command_signs_is_in_the_draft_that_follows(
    folder: Path, signed: Repository
) -> None:
    targets, online = (
        FileSigner(load_private(folder / "keys" / name, Purpose.SIGNING)) for name in ("targets", "online")
    )
    kid = recipient_key(name="owner").public.kid.hex()
    with ThreadPoolExecutor(1) as pool:
        with signed.turn():
            signed.edit(aim_picture=True)
            revoking = pool.submit(authority, "revoke", folder, kid)
            with pytest.raises(TimeoutError):
                revoking.result(0.3)
            signed.publish(targets, online, datetime.datetime.now(datetime.UTC))
        assert "is revoked in the draft" in revoking.result(10)
    assert [one.kid for one in signed.draft.revoked] == [kid]
    assert signed.draft.aim_picture


def test_a_command_that_waits_for_another_says_so_and_gives_up_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("central.folder.SAID_AFTER_S", 0.0)
    monkeypatch.setattr("central.folder.PATIENCE_S", 0.2)
    with Repository(folder).turn(), pytest.raises(AuthorityBusy):
        authority("allow-picture", folder, "true")
    assert [record.getMessage() for record in caplog.records] == [
        "AUTH-12 waiting for another command in this folder"
    ]  # fmt: skip
    authority("allow-picture", folder, "true")


def has_turn(folder: Path) -> bool:
    """Whether a command has its turn."""
    opened = os.open(folder / ".turn", os.O_RDWR)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


def test_whoever_makes_a_draft_of_the_draft_has_its_turn_since_it_was_read(
    folder: Path, signed: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "collector.pub").write_text(signing_key(name="collector").public.pem())
    request, fingerprint = request_of("lane-3", folder)
    turns: list[bool] = []
    real = Repository.edit

    def edit(repository: Repository, /, **changes: object) -> Terms:
        turns.append(has_turn(folder))
        return real(repository, **changes)

    monkeypatch.setattr(Repository, "edit", edit)
    commands = (
        ("add-recipient", tmp_path / "owner.pub"), ("add-collector", tmp_path / "collector.pub"),
        ("revoke", recipient_key(name="owner").public.fingerprint, "--at", "2026-01-01"),
        ("revoke", recipient_key(name="owner").public.fingerprint, "--take-back"),
        ("add-lane", request, "--fingerprint", fingerprint), ("rotate-lane", "lane-3"),
        ("announce-epoch", "lane-3", "00000000000000ab"),
        ("revoke", signing_key(name="collector").public.fingerprint, "--at", "2026-01-01"),
        ("remove", signing_key(name="collector").public.fingerprint),
    )  # fmt: skip
    for command, *words in commands:
        authority(command, folder, *words)
    assert turns == [True] * len(commands)


def test_nobody_waits_while_a_person_types(
    folder: Path, signed: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, fingerprint = request_of("lane-3", folder)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    root, targets = tmp_path / "root", tmp_path / "targets"
    for path in (root, targets):
        made = CliRunner().invoke(keys_app, ["owner", str(path), "--passphrase-file", str(tmp_path / "secret")])
        assert made.exit_code == 0
    turns: list[bool] = []

    def typed(text: str, **_: object) -> str:
        turns.append(has_turn(folder))
        return fingerprint if "fingerprint" in text else "secret"

    monkeypatch.setattr("central.options.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr("typer.prompt", typed)
    monkeypatch.setattr("typer.confirm", typed)
    authority("add-lane", folder, request)
    authority("rotate-root", folder, "--add", tmp_path / "root.pub", "--targets", tmp_path / "targets.pub")
    roots = (root, *(folder / "keys" / f"root-{number}" for number in (1, 2)))
    authority("sign", folder, *(word for path in roots for word in ("--root-key", path)))
    authority("sign", folder, "--targets-key", targets)
    assert turns == [False] * 4


@pytest.mark.parametrize("days", ["-1", "99999999999"])
def test_certificates_are_renewed_some_years_ahead_at_most(folder: Path, days: str) -> None:
    assert CliRunner().invoke(app, ["renew", str(folder), "--days", days]).exit_code == 2


def test_a_root_is_signed_on_several_machines_time_and_again(folder: Path, tmp_path: Path, signed: Repository) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)

    def drafted(name: str) -> None:
        (tmp_path / f"{name}.pub").write_text(signing_key(name=name).public.pem())
        authority("rotate-root", folder, "--add", tmp_path / f"{name}.pub")

    def sign_root(where: Path, number: int) -> str:
        return authority("sign", where, "--root-key", folder / "keys" / f"root-{number}", "--yes")

    drafted("new-1")
    sign_root(folder, 1)
    sign_root(folder, 2)
    drafted("new-2")
    assert "carry pending-root.json to the other keys" in sign_root(folder, 1)
    shutil.copy(folder / "pending-root.json", other)
    with pytest.raises(AuthorityRootUnfit, match="root 3 is pending, and this folder is at root 1"):
        sign_root(other, 2)
    for path in (folder / "repository" / "metadata").glob("*root.json"):
        shutil.copy(path, other / "repository" / "metadata")
    assert "carry pending-root.json back" in sign_root(other, 2)
    shutil.copy(other / "pending-root.json", folder)
    assert signed.roots.current.signed.version == 2
    assert "root 3 has all its signatures" in authority("sign", folder)
    assert "root 3: 5 keys, 2 must sign" in authority("status", folder)
    trust = Trust(tmp_path / "lane", signed.roots.first_bytes)
    assert trust.refresh(DirectoryCarrier(signed.published), datetime.datetime.now(datetime.UTC))


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--add", "online"),
        ("--add", "targets"),
        ("--targets", "online"),
        ("--online", "root-1"),
        ("--online", "targets"),
    ],
)
def test_a_key_has_one_role(folder: Path, option: str, name: str) -> None:
    with pytest.raises(AuthorityKeyShared, match=name.removesuffix("-1")):
        authority("rotate-root", folder, option, folder / "keys" / f"{name}.pub")
    assert Repository(folder).roots.pending is None


def test_a_key_goes_from_one_role_to_another(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new.pub").write_text(signing_key(name="new").public.pem())
    gone = load_public(folder / "keys" / "root-1.pub", Purpose.SIGNING)
    authority("rotate-root", folder, "--add", tmp_path / "new.pub", "--remove", gone.fingerprint,
              "--targets", folder / "keys" / "root-1.pub")  # fmt: skip
    assert f"targets key comes: {gone.fingerprint}" in authority("status", folder)


def test_whoever_signs_a_root_is_shown_what_it_changes_and_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, targets = (signing_key(name=name).public for name in ("new", "new-targets"))
    gone = load_public(folder / "keys" / "targets.pub", Purpose.SIGNING)
    (tmp_path / "new.pub").write_text(new.pem())
    (tmp_path / "targets.pub").write_text(targets.pem())
    authority("rotate-root", folder, "--add", tmp_path / "new.pub", "--targets", tmp_path / "targets.pub",
              "--threshold", "1")  # fmt: skip
    told = (
        f"root key comes: {new.fingerprint}", f"targets key goes: {gone.fingerprint}",
        f"targets key comes: {targets.fingerprint}", "2 of 3 root keys must sign, from then on 1 of 4",
    )  # fmt: skip
    shown = authority("status", folder)
    assert all(line in shown for line in told)
    sign = ["sign", str(folder), "--root-key", str(folder / "keys" / "root-1")]
    refused = CliRunner().invoke(app, sign)
    assert isinstance(refused.exception, AuthorityUnconfirmed)
    assert all(line in refused.output for line in told)
    monkeypatch.setattr("central.options.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    assert CliRunner().invoke(app, sign, input="n\n").exit_code == 1
    pending = Repository(folder).roots.to_sign()
    assert pending.signatures == {}
    assert CliRunner().invoke(app, sign, input="y\n").exit_code == 0
    assert len(Repository(folder).roots.to_sign().signatures) == 1
    assert all(line in authority(*sign, "--yes") for line in told)


def test_what_goes_back_to_a_box_is_as_fresh_as_what_lanes_fetch(folder: Path, signed: Repository) -> None:
    authority("sign", folder, "--fresh")
    carried = folder / "lane-1.enrolled" / "repository" / "metadata" / "timestamp.json"
    assert carried.read_bytes() == (signed.published / "metadata" / "timestamp.json").read_bytes()


def test_once_a_root_is_published_boxes_start_from_it(folder: Path, signed: Repository) -> None:
    authority("rotate-root", folder)
    before = signed.roots.fingerprint
    authority(
        "sign", folder, "--root-key", folder / "keys" / "root-1", "--root-key", folder / "keys" / "root-2", "--yes"
    )
    brought = enrolment.fingerprint((folder / "lane-1.enrolled" / "root.json").read_bytes())
    assert brought != before
    assert brought in authority("status", folder)


def test_a_root_that_is_not_the_one_that_was_shown_is_not_signed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority("rotate-root", folder)
    shown = Repository(folder).roots.to_sign()
    (folder / "pending-root.json").unlink()
    authority("rotate-root", folder, "--threshold", "1")
    with pytest.raises(AuthorityBusy):
        Repository(folder).roots.sign(
            [FileSigner(load_private(folder / "keys" / "root-1", Purpose.SIGNING))], shown=shown
        )
    assert Repository(folder).roots.to_sign().signatures == {}


def test_a_root_that_calls_a_key_by_another_ones_fingerprint_is_refused(folder: Path) -> None:
    authority("rotate-root", folder)
    pending = Repository(folder).roots.to_sign()
    for name in ("online", "targets"):
        role = "targets" if name == "targets" else "timestamp"
        (kid,) = pending.signed.roles[role].keyids
        pending.signed.keys[kid].keyval["public"] = tuf_key(signing_key(name="thief").public).keyval["public"]
        (folder / "pending-root.json").write_bytes(pending.to_bytes())
        with pytest.raises(AuthorityRootUnfit, match="that is another one"):
            Repository(folder).roots.to_sign()


def test_a_wrong_file_in_place_of_the_pending_root_is_told(folder: Path, signed: Repository) -> None:
    authority("sign", folder, "--fresh")
    shutil.copy(signed.published / "metadata" / "timestamp.json", folder / "pending-root.json")
    for words in (
        ("status", folder),
        ("sign", folder, "--root-key", folder / "keys" / "root-1"),
        ("rotate-root", folder),
    ):
        with pytest.raises(AuthorityRootUnfit, match="metadata of another kind: timestamp"):
            authority(*words)


@pytest.mark.parametrize("note", [1.5, float("nan"), {"of": [float("inf")]}])
def test_a_pending_root_that_has_no_form_to_be_signed_is_told(folder: Path, note: object) -> None:
    authority("rotate-root", folder)
    pending = json.loads((folder / "pending-root.json").read_bytes())
    pending["signed"]["note"] = note
    (folder / "pending-root.json").write_text(json.dumps(pending))
    for words in (("status", folder), ("sign", folder), ("sign", folder, "--root-key", folder / "keys" / "root-1")):
        with pytest.raises(AuthorityRootUnfit, match="nobody can sign"):
            authority(*words)


def test_there_is_nothing_to_sign_before_a_root_or_a_policy_is_made(folder: Path) -> None:
    with pytest.raises(AuthorityNothingToSign, match="no new root is pending"):
        authority("sign", folder, "--root-key", folder / "keys" / "root-1")
    with pytest.raises(AuthorityNothingToSign, match="no policy"):
        authority("sign", folder, "--fresh")


def test_owners_keys_are_made_anew_and_take_the_place_of_old_ones(
    folder: Path, signed: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each under a passphrase of its own, which is asked for by the key's name."""
    new = {name: tmp_path / f"new-{name}" for name in ("root", "targets", "online")}
    asked: list[str] = []

    def typed(text: str, **_: object) -> str:
        asked.append(text)
        return f"secret of {text.rpartition('/')[2]}"

    monkeypatch.setattr("central.options.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr("typer.prompt", typed)
    for path in new.values():
        assert CliRunner().invoke(keys_app, ["owner", str(path)], catch_exceptions=False).exit_code == 0
    public = {name: path.with_name(path.name + ".pub") for name, path in new.items()}
    gone = load_public(folder / "keys" / "root-1.pub", Purpose.SIGNING).fingerprint
    assert gone in authority("status", folder)
    authority("rotate-root", folder, "--add", public["root"], "--remove", gone,
              "--targets", public["targets"], "--online", public["online"])  # fmt: skip
    asked.clear()
    old = (folder / "keys" / f"root-{number}" for number in (2, 3))
    roots = [word for path in (new["root"], *old) for word in ("--root-key", path)]
    assert "root 2 is published" in authority("sign", folder, *roots, "--yes")
    with pytest.raises(AuthorityThreshold):
        authority("sign", folder)
    authority("sign", folder, "--targets-key", new["targets"], "--online-key", new["online"])
    assert asked == [f"Passphrase of {new[name]}" for name in ("root", "online", "targets")]
    shown = authority("status", folder)
    assert gone not in shown
    assert all(load_public(path, Purpose.SIGNING).fingerprint in shown for path in public.values())


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_fingerprint_is_shown_on_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    (tmp_path / "owner.pub").write_text(recipient_key().public.pem())
    authority("add-recipient", folder, tmp_path / "owner.pub", "--since", "2026-01-01", "--until", "2099-01-01",
              "--note", "whoever reads on behalf of the owner at night")  # fmt: skip
    assert recipient_key().public.fingerprint in authority("status", folder)


def test_whoever_brings_a_vouched_request_shows_the_fingerprint_unless_the_lane_was_told_to_rotate(
    folder: Path, signed: Repository, tmp_path: Path
) -> None:
    tls_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    request = tmp_path / "request"
    request.write_bytes(
        enrolment.make("lane-1", FileSigner(signing_key(name="new")), tls_key, old=FileSigner(signing_key()))
    )
    with pytest.raises(RequestInvalid):
        authority("add-lane", folder, request, "--fingerprint", "00" * 16)
    authority("rotate-lane", folder, "lane-1")
    authority("add-lane", folder, request)
    assert len(signed.draft.lanes["lane-1"].keys) == 2


def bundle_of(folder: Path, **said: object) -> Path:
    """The shipped models in a folder, the entry of the reader as `said`."""
    folder.mkdir()
    shipped = Path(str(files("models")))
    manifest = json.loads((shipped / "manifest.json").read_text())
    for part in ("detector", "ocr"):
        shutil.copy(shipped / manifest[part]["file"], folder)
    manifest["ocr"] |= said
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_model_is_added_whole(folder: Path, tmp_path: Path) -> None:
    authority("add-model", folder, bundle_of(tmp_path / "vendor-2"))
    model = Repository(folder).draft.model
    assert model is not None
    assert model.name.startswith("vendor-2-")
    added = folder / "unsigned" / "models" / model.name
    assert {path.name: path.read_bytes() for path in added.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "vendor-2").iterdir()
    }


@pytest.mark.parametrize(
    ("name", "said", "refusal"),
    [
        ("vendor", {"file": "../../../../stolen"}, ManifestInvalid),
        ("vendor", {"file": "absent"}, ManifestInvalid),
        ("vendor", {"sha256": "0" * 64}, ManifestMismatch),
        ("vendor", {"blank": 0}, ManifestInvalid),
        ("vendor", {"file": "ocr.part"}, AuthorityInvalid),
        ("a name with blanks", {}, AuthorityInvalid),
    ],
)
def test_a_model_that_lanes_would_refuse_writes_nothing(
    folder: Path, tmp_path: Path, name: str, said: dict[str, object], refusal: type[Exception]
) -> None:
    bundle = bundle_of(tmp_path / name, **said)
    (bundle / "stolen").write_bytes(b"a vendor's")
    shutil.copy(bundle / "ocr.tflite", bundle / "ocr.part")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(refusal):
        authority("add-model", folder, bundle)
    assert set(tmp_path.rglob("*")) == before
    assert Repository(folder).draft.model is None


def test_a_repository_on_another_file_system_is_signed_like_any(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def within_one(path: Path, target: Path) -> Path:
        if path.is_relative_to(signed.published) != Path(target).is_relative_to(signed.published):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", within_one)
    authority("allow-picture", folder, "true")
    authority("sign", folder)
    assert Repository(folder).policy == parse_policy((signed.published / "targets" / CURRENT_POLICY).read_bytes())


def test_what_a_sign_that_broke_off_left_behind_is_carried_by_the_next_that_says_what_is_newest(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority("allow-picture", folder, "true")
    with monkeypatch.context() as broken:
        broken.setattr(Repository, "freshen", lambda *_: None)
        authority("sign", folder)
    authority("sign", folder, "--fresh")
    carried = parse_policy((signed.published / "targets" / CURRENT_POLICY).read_bytes())
    assert carried == Repository(folder).policy
    assert carried.aim_picture
    assert list((folder / "unsigned").rglob("*.*")) == []


def test_a_pending_root_that_would_have_all_files_called_otherwise_is_no_next_root(
    folder: Path, signed: Repository
) -> None:
    authority("rotate-root", folder)
    pending = Repository(folder).roots.to_sign()
    pending.signed.consistent_snapshot = True
    (folder / "pending-root.json").write_bytes(pending.to_bytes())
    with pytest.raises(AuthorityRootUnfit, match="another name"):
        authority("status", folder)
