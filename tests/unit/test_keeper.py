"""The keeper in bad times: a disk that takes nothing, a power cut, a slow carrier. The lane goes on all the same."""

import dataclasses
import datetime
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from central.repository import Repository
from edge import enrolment
from edge.carrier import Carrier, DirectoryCarrier, RetainedCarrier
from edge.errors import KeyFileExposed, KeyFileMissing, TrustRefused, TrustUnkept
from edge.keeper import Keeper, make_later_key, make_tls_key, signers_of
from edge.mqtt_client import MAX_PACKET_BYTES
from edge.policy import Lane, LaneKey, ModelBundle, Recipient, Revocation
from edge.seal import envelope, keys
from edge.seal.keys import KeyType
from edge.seal.signer import FileSigner, Signer
from edge.trust import MAX_ROOT_ROTATIONS, Trust
from tests.sealing import READ, recipient_key, signing_key

NOW = datetime.datetime.now(datetime.UTC)
TARGETS, ONLINE = (FileSigner(signing_key(name=name)) for name in ("targets", "online"))
ROLES = ("timestamp", "snapshot", "targets")


@pytest.fixture
def owner(tmp_path: Path) -> Repository:
    root = FileSigner(signing_key(name="root"))
    made = Repository.create(tmp_path / "owner", [root], 1, TARGETS.public, ONLINE.public, NOW)
    readers = tuple(Recipient(key=recipient_key(name=name).public) for name in ("owner", "escrow"))
    made.edit(recipients=readers, lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))})
    made.publish(TARGETS, ONLINE, NOW)
    return made


def keeper(folder: Path, owner: Repository, carries: Carrier | None = None) -> Keeper:
    """The keeper of lane-1, as a start of the daemon makes it."""
    tls_key = folder / "tls.key"
    if not tls_key.exists():
        make_tls_key(tls_key)
    return Keeper(
        "lane-1",
        Trust(folder / "trust", owner.roots.first_bytes),
        carries or DirectoryCarrier(owner.published),
        FileSigner(signing_key()),
        folder / "trust",
        tls_key_file=tls_key,
        certificate_file=folder / "certificate.pem",
        refresh_s=60,
    )


def tell_to_rotate(owner: Repository) -> None:
    owner.edit(lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),), rotate=True)})
    owner.publish(TARGETS, ONLINE, NOW)


@pytest.mark.parametrize("file", ["policy.json", "state.json"])
def test_a_disk_that_takes_nothing_is_a_fault_and_the_policy_in_force_is_kept(
    tmp_path: Path, owner: Repository, file: str
) -> None:
    watch = keeper(tmp_path, owner)
    first = watch.step(NOW)
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    (tmp_path / "trust" / f"{file}.{os.getpid()}.part").mkdir()
    refused = watch.step(NOW)
    assert refused.fault == TrustUnkept.code
    assert refused.sealer == first.sealer
    (tmp_path / "trust" / f"{file}.{os.getpid()}.part").rmdir()
    assert watch.step(NOW).fault is None


def test_a_model_that_cannot_be_written_is_a_fault(tmp_path: Path, owner: Repository) -> None:
    watch = keeper(tmp_path, owner)
    owner.add_target("models/m-1/manifest.json", b"{}")
    owner.edit(model=ModelBundle(name="m-1", files=("manifest.json",)))
    owner.publish(TARGETS, ONLINE, NOW)
    (tmp_path / "trust" / "models").write_bytes(b"no folder")
    assert watch.step(NOW).fault == TrustUnkept.code


def name_model(owner: Repository, name: str | None, content: bytes = b"{}") -> None:
    if name is not None:
        owner.add_target(f"models/{name}/manifest.json", content)
    owner.edit(model=name and ModelBundle(name=name, files=("manifest.json",)))
    owner.publish(TARGETS, ONLINE, NOW)


def test_models_are_read_with_until_those_that_follow_are_here(tmp_path: Path, owner: Repository) -> None:
    models = tmp_path / "trust" / "models"
    name_model(owner, "m-1")
    assert keeper(tmp_path, owner).step(NOW).model_folder == models / "m-1"
    name_model(owner, "m-2")
    (owner.published / "targets" / "models" / "m-2").rename(tmp_path / "late")
    watch = keeper(tmp_path, owner)
    assert watch.step(NOW).model_folder == models / "m-1"
    (tmp_path / "late").rename(owner.published / "targets" / "models" / "m-2")
    assert watch.step(NOW).model_folder == models / "m-2"
    assert [folder.name for folder in models.iterdir()] == ["m-2"]


def test_models_that_a_kill_left_beside_those_that_follow_them_are_removed(tmp_path: Path, owner: Repository) -> None:
    models = tmp_path / "trust" / "models"
    name_model(owner, "m-2")
    keeper(tmp_path, owner).step(NOW)
    (models / "m-1").mkdir()
    assert keeper(tmp_path, owner).step(NOW).model_folder == models / "m-2"
    assert [folder.name for folder in models.iterdir()] == ["m-2"]


def test_models_are_kept_once(tmp_path: Path, owner: Repository) -> None:
    for name in ("m-1", "m-2"):
        name_model(owner, name, content=name.encode())
        assert keeper(tmp_path, owner).step(NOW).fault is None
    assert {path.name for path in (tmp_path / "trust" / "targets").iterdir()} == {"policy%2Fcurrent"}


def test_models_that_a_kill_left_half_removed_are_fetched_again(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, **_: object) -> None:
        if path.exists():
            (path / "manifest.json").unlink()
            raise OSError("killed")

    name_model(owner, "m-1")
    keeper(tmp_path, owner).step(NOW)
    name_model(owner, "m-2")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(OSError, match="killed"):
            keeper(tmp_path, owner).step(NOW)
    name_model(owner, "m-1")
    folder = keeper(tmp_path, owner).step(NOW).model_folder
    assert folder == tmp_path / "trust" / "models" / "m-1"
    assert [kept.name for kept in folder.parent.iterdir()] == ["m-1"]
    assert (folder / "manifest.json").read_bytes() == b"{}"


def test_models_that_were_taken_back_are_not_those_before_others(tmp_path: Path, owner: Repository) -> None:
    name_model(owner, "m-1")
    watch = keeper(tmp_path, owner)
    assert watch.step(NOW).model_folder is not None
    name_model(owner, None)
    assert watch.step(NOW).model_folder is None
    name_model(owner, "m-2")
    (owner.published / "targets" / "models" / "m-2").rename(tmp_path / "late")
    assert watch.step(NOW).model_folder is None


def test_a_key_that_the_owner_revoked_is_asked_for_no_more(tmp_path: Path, owner: Repository) -> None:
    tell_to_rotate(owner)
    watch = keeper(tmp_path, owner)
    first = watch.step(NOW).request
    assert first is not None
    refused = enrolment.parse(first).signing_key
    owner.edit(revoked=(Revocation(kid=refused.kid.hex(), at=NOW),))
    owner.publish(TARGETS, ONLINE, NOW)
    second = watch.step(NOW).request
    assert second is not None
    assert enrolment.parse(second).signing_key != refused


def test_a_lane_signs_with_the_key_that_the_owner_named_last(tmp_path: Path, owner: Repository) -> None:
    (tmp_path / "trust").mkdir()
    made = make_later_key(tmp_path / "trust", KeyType.ED25519).public
    for order in ((signing_key().public, made), (made, signing_key().public)):
        owner.edit(lanes={"lane-1": Lane(keys=tuple(LaneKey(key=key) for key in order))})
        owner.publish(TARGETS, ONLINE, NOW)
        assert keeper(tmp_path, owner).step(NOW).sealer.signer.public == order[-1]


def test_beside_a_key_in_a_token_none_in_a_file_counts(tmp_path: Path) -> None:
    token = cast("Signer", SimpleNamespace(public=signing_key().public))
    make_later_key(tmp_path, KeyType.ED25519)
    assert signers_of(token, tmp_path) == [token]
    assert len(signers_of(FileSigner(signing_key()), tmp_path)) == 2


def test_a_key_that_a_power_cut_left_half_written_is_made_again(tmp_path: Path, owner: Repository) -> None:
    tell_to_rotate(owner)
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "signing-1").touch(0o600)
    standing = keeper(tmp_path, owner).step(NOW)
    assert standing.fault is None
    assert standing.request is not None
    asked = enrolment.parse(standing.request)
    assert asked.vouched_by(signing_key().public)
    again = keeper(tmp_path, owner).standing(NOW).request  # the same key after a restart
    assert again is not None
    assert enrolment.parse(again).signing_key == asked.signing_key


def test_a_key_that_cannot_be_written_is_a_fault(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise KeyFileMissing("cannot write: no space left")

    tell_to_rotate(owner)
    watch = keeper(tmp_path, owner)
    monkeypatch.setattr(keys, "save", full)
    standing = watch.step(NOW)
    assert (standing.fault, standing.request) == (KeyFileMissing.code, None)
    monkeypatch.undo()
    assert watch.step(NOW).request is not None


class Slow:
    """Brings each file byte by byte."""

    def __init__(self, carries: Carrier) -> None:
        self._carries = carries
        self.pieces = 0

    def fetch(self, name: str) -> Iterator[bytes] | None:
        whole = self._carries.fetch(name)
        return None if whole is None else self._drip(b"".join(whole))

    def _drip(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), 64):
            self.pieces += 1
            yield data[at : at + 64]


def test_a_tls_key_that_others_can_read_is_refused(tmp_path: Path, owner: Repository) -> None:
    keeper(tmp_path, owner)
    (tmp_path / "tls.key").chmod(0o644)
    with pytest.raises(KeyFileExposed, match="tls"):
        keeper(tmp_path, owner)


def test_a_slow_carrier_is_no_stage_that_hangs(tmp_path: Path, owner: Repository) -> None:
    slow = Slow(DirectoryCarrier(owner.published))
    lives: list[int] = []
    keeper(tmp_path, owner, slow).step(NOW, lambda: lives.append(slow.pieces))
    assert len(lives) == slow.pieces > 20


class Untouched:
    """Nobody may be asked."""

    def fetch(self, name: str) -> Iterator[bytes] | None:
        raise AssertionError(name)


def test_a_lane_stands_by_what_was_verified_without_asking_anybody(tmp_path: Path, owner: Repository) -> None:
    first = keeper(tmp_path, owner).step(NOW)
    assert keeper(tmp_path, owner, Untouched()).standing(NOW).sealer.recipients == first.sealer.recipients


def test_only_what_this_lane_asks_for_takes_up_room(tmp_path: Path, owner: Repository) -> None:
    retained = RetainedCarrier()
    watch = keeper(tmp_path, owner, retained)
    assert watch.carried is not None
    whole = bytes(MAX_PACKET_BYTES)
    for number in range(200):
        watch.carried(f"targets/certificates/other-{number}.pem", whole)
        watch.carried(f"junk/{number}", whole)
        watch.carried(f"metadata/{number}.json", whole)
        watch.carried(f"metadata/{number}.snapshot.json", whole)
        watch.carried(f"metadata/{number}.root.json", whole)
        watch.carried(f"metadata/{10**number}.root.json", whole)
    new_online = FileSigner(signing_key(name="another"))
    owner.roots.propose(NOW, online=new_online.public)
    owner.roots.sign([FileSigner(signing_key(name="root"))])
    owner.publish(TARGETS, new_online, NOW)
    for name, data in owner.files().items():
        watch.carried(name, data)
    for name in (*(f"metadata/{role}.json" for role in ROLES), "metadata/2.root.json", "targets/policy/current"):
        assert b"".join(retained.fetch(name) or ()) == owner.files()[name]
    held = [number for number in range(200) if retained.fetch(f"metadata/{number}.root.json") is not None]
    assert held == list(range(2, 2 + MAX_ROOT_ROTATIONS))


def test_what_was_held_before_a_new_connection_counts_no_more(tmp_path: Path, owner: Repository) -> None:
    watch = keeper(tmp_path, owner, RetainedCarrier())

    def hear(files: dict[str, bytes]) -> str | None:
        for name, data in files.items():
            assert watch.carried is not None
            watch.carried(name, data)
        return watch.step(NOW).fault

    assert hear(owner.files()) is None
    assert hear(owner.files() | {"metadata/2.root.json": b"junk"}) == TrustRefused.code
    assert hear(owner.files()) == TrustRefused.code
    watch.connected()
    watch.settle()
    assert watch.step(NOW).fault == TrustRefused.code  # nothing came: nothing is known better
    watch.connected()
    assert hear(owner.files()) == TrustRefused.code
    watch.settle()
    assert watch.step(NOW).fault is None
    watch.connected()
    assert hear({"targets/policy/current": owner.files()["targets/policy/current"]}) is None  # the rest is to come


def test_what_came_with_a_new_connection_counts_once_no_more_comes(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.keeper.TICK_S", 0.01)
    monkeypatch.setattr("edge.keeper.SETTLE_S", 0.1)
    watch, stop, faults = keeper(tmp_path, owner, RetainedCarrier()), threading.Event(), list[str | None]()
    assert watch.carried is not None
    for name, data in owner.files().items():
        watch.carried(name, data)
    thread = threading.Thread(
        target=watch.run, args=(stop, lambda: None, lambda standing: faults.append(standing.fault)), daemon=True
    )
    thread.start()
    watch.connected()
    for name, data in (owner.files() | {"metadata/timestamp.json": b"junk"}).items():
        watch.carried(name, data)
    deadline = time.monotonic() + 10
    while faults[-1:] != [TrustRefused.code] and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert faults[-1] == TrustRefused.code
    assert set(faults[:-1]) <= {None}


def test_a_reader_that_ends_or_begins_does_so_between_two_refreshes_too(tmp_path: Path, owner: Repository) -> None:
    change = NOW + datetime.timedelta(seconds=100)
    old, new, escrow = (recipient_key(name=name).public for name in ("old", "new", "escrow"))
    owner.edit(recipients=(Recipient(key=old, until=change), Recipient(key=new, since=change), Recipient(key=escrow)))
    owner.publish(TARGETS, ONLINE, NOW)
    sealer = keeper(tmp_path, owner).step(NOW).sealer
    for seconds, readers in ((99, {old.kid, escrow.kid}), (100, {new.kid, escrow.kid})):
        at_ns = int((NOW.timestamp() + seconds) * 1e9)
        sealed = envelope.parse(
            dataclasses.replace(sealer, now_ns=lambda at_ns=at_ns: at_ns).seal(READ, 5, 1, None).data
        )
        named = owner.policy.recipients_at(sealed.header.time) if owner.policy else ()
        assert set(sealed.recipients) == {key.kid for key in named} == readers


def test_a_new_standing_by_the_same_policy_is_no_news(tmp_path: Path, owner: Repository) -> None:
    watch = keeper(tmp_path, owner)
    assert watch.step(NOW).sealer == watch.step(NOW).sealer
