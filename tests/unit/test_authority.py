"""`sealane authority`: what it refuses before anything is in the draft."""

import datetime
import json
import shutil
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from central.authority import app
from central.keys import app as keys_app
from central.repository import Repository
from edge import enrolment
from edge.errors import (
    AuthorityExists,
    AuthorityInvalid,
    AuthorityKeyInUse,
    AuthorityKeyRevoked,
    AuthorityNothingToSign,
    AuthorityThreshold,
    AuthorityUnknown,
    AuthorityUnusable,
    ManifestInvalid,
    ManifestMismatch,
    MqttPublicationRefused,
    RequestInvalid,
)
from edge.mqtt import MAX_PACKET_BYTES, Acknowledged, Event, Message, Publication, topic, trust_topic
from edge.seal.keys import Purpose, load_public
from edge.seal.signer import FileSigner
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
    authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", "00000000000000AB")
    (lane,) = Repository(folder).draft.lanes.values()
    assert [one.key.kid for one in lane.keys] == [signing_key().public.kid]
    assert lane.epochs == ("00000000000000ab",)
    assert {path.name for path in (folder / "lane-1.enrolled").iterdir()} == {
        "root.json", "ca.pem", "certificate.pem", "repository",
    }  # fmt: skip
    assert (folder / "requests" / "lane-1").read_bytes() == request.read_bytes()


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


class Broker:
    """A session of `edge.mqtt` that takes few publications at a time, and says `said` to who listens."""

    window, room = 8, 40

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
        return [*said, *(Acknowledged(publication, 0) for publication in taken)]


def with_broker(monkeypatch: pytest.MonkeyPatch, broker: Broker, *words: object) -> None:
    monkeypatch.setattr("edge.mqtt.Session", broker)
    monkeypatch.setattr("central.options.own_name", lambda certificate: "owner.central")
    authority(*words, "--broker", "localhost:8883", "--ca", "ca.pem", "--certificate", "c.pem", "--key", "c.key")


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


def test_whatever_lanes_fetch_is_put_on_the_broker_however_many_they_are(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(Broker.room):
        signed.add_target(f"certificates/many-{number}.pem", b"certificate")
    signed.add_target("models/m/ocr.tflite", b"model")
    broker = Broker()
    with_broker(monkeypatch, broker, "publish", folder)
    carried = {name for name in signed.files() if not name.startswith(("targets/models/", "targets/policy/1"))}
    assert set(broker.held) == {trust_topic(name) for name in carried}
    assert list(broker.held)[-1] == trust_topic("metadata/timestamp.json")


def test_a_policy_too_large_for_the_broker_is_told_before_anything_is_published(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed.add_target("policy/current", bytes(MAX_PACKET_BYTES))
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


def test_a_disk_that_takes_nothing_is_an_error_of_ours(folder: Path) -> None:
    (folder / "draft.json.part").mkdir()
    with pytest.raises(AuthorityUnusable, match=r"draft\.json"):
        authority("allow-picture", folder, "true")


def test_a_root_that_ends_soon_is_told_by_whatever_runs_often(
    folder: Path, signed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*words: str) -> bool:
        return "the root ends" in CliRunner().invoke(app, [*words, str(folder)], catch_exceptions=False).output

    commands = ["status"], ["sign", "--fresh"], ["sign"]
    assert not any(told(*words) for words in commands)
    soon = signed.root_until - datetime.timedelta(days=59)
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
    assert "root 2 is published" in authority("sign", folder, *roots)
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
    added = Repository(folder).published / "targets" / "models" / model.name
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
        ("a name with blanks", {}, AuthorityInvalid),
    ],
)
def test_a_model_that_lanes_would_refuse_writes_nothing(
    folder: Path, tmp_path: Path, name: str, said: dict[str, object], refusal: type[Exception]
) -> None:
    bundle = bundle_of(tmp_path / name, **said)
    (bundle / "stolen").write_bytes(b"a vendor's")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(refusal):
        authority("add-model", folder, bundle)
    assert set(tmp_path.rglob("*")) == before
    assert Repository(folder).draft.model is None
