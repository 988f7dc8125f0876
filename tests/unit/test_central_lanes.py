"""Whose signatures count: keys in a folder, and the owner's policy with its editions and revocations."""

import datetime
from pathlib import Path

import pytest

from central.lanes import KeyDirectory, PolicyKeys, admit, open_lane_keys
from central.repository import Repository
from edge.carrier import DirectoryCarrier, RetainedCarrier
from edge.errors import KeyFileError, LaneForeign, OptionMissing, TrustMissing
from edge.policy import Lane, LaneKey, Recipient, Revocation
from edge.seal import envelope
from edge.seal.envelope import Sealer
from edge.seal.signer import FileSigner
from edge.trust import Trust
from tests.sealing import NOW, READ, recipient_key, signing_key

THEN = datetime.datetime.fromtimestamp(NOW.utc_ns / 1e9, datetime.UTC)
DAY = datetime.timedelta(days=1)
NS_A_DAY = 86_400_000_000_000


def message(name: str = "lane", version: int = 1) -> envelope.Envelope:
    """A message of lane-1, sealed under a policy."""
    by = Sealer("lane-1", FileSigner(signing_key(name=name)), (recipient_key().public,), version, lambda: NOW.utc_ns)
    return envelope.parse(by.seal(READ, 1, 1, None).data)


@pytest.fixture
def owner(tmp_path: Path) -> Repository:
    names = ("root", "targets", "online")
    root, targets, online = (FileSigner(signing_key(name=name)) for name in names)
    made = Repository.create(tmp_path / "owner", [root], 1, targets.public, online.public, _now())
    made.edit(
        recipients=(Recipient(key=recipient_key().public), Recipient(key=recipient_key(name="escrow").public)),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),), epochs=("00000000000000ff",))},
    )
    sign(made)
    return made


def sign(owner: Repository) -> None:
    owner.publish(FileSigner(signing_key(name="targets")), FileSigner(signing_key(name="online")), _now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def policy_keys(tmp_path: Path, owner: Repository) -> PolicyKeys:
    return PolicyKeys(Trust(tmp_path / "trust", owner.root_bytes), DirectoryCarrier(owner.published))


def test_a_folder_holds_one_or_more_keys_for_each_lane(tmp_path: Path) -> None:
    for name, key in (("lane-1.pub", "lane"), ("lane-1.new.pub", "next"), ("lane-2.pub", "other"), ("junk.txt", "x")):
        (tmp_path / name).write_text(signing_key(name=key).public.pem())
    keys = KeyDirectory(tmp_path)
    assert {key.kid for key in keys.of(message(), 0)} == {signing_key(name=one).public.kid for one in ("lane", "next")}
    assert keys.knows("lane-2")
    assert not keys.knows("junk")


def test_a_damaged_key_stops_the_start_but_not_a_running_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.lanes.RESCAN_S", -1)
    (tmp_path / "lane-1.pub").write_text(signing_key().public.pem())
    keys = KeyDirectory(tmp_path)
    (tmp_path / "lane-2.pub").write_text("half a key")
    assert keys.of(message(), 0) == (signing_key().public,)
    with pytest.raises(KeyFileError):
        KeyDirectory(tmp_path)
    (tmp_path / "lane-2.pub").unlink()
    (tmp_path / "lane-1.pub").unlink()
    assert keys.of(message(), 0) == ()


def test_a_message_is_judged_by_the_edition_that_it_names(tmp_path: Path, owner: Repository) -> None:
    old = LaneKey(key=signing_key().public, until=_now() + DAY)
    owner.edit(lanes={"lane-1": Lane(keys=(old, LaneKey(key=signing_key(name="next").public, since=THEN - DAY)))})
    sign(owner)
    owner.edit(lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key(name="next").public),))})
    sign(owner)
    keys = policy_keys(tmp_path, owner)
    admit("lane-1", message("lane", 1).data, keys, NOW.utc_ns)
    admit("lane-1", message("lane", 2).data, keys, NOW.utc_ns)
    admit("lane-1", message("next", 2).data, keys, NOW.utc_ns)
    admit("lane-1", message("next", 3).data, keys, NOW.utc_ns)
    for name, version in (("next", 1), ("lane", 3), ("lane", 4), ("lane", 0)):
        with pytest.raises(LaneForeign):
            admit("lane-1", message(name, version).data, keys, NOW.utc_ns)


def test_an_older_edition_that_makes_no_sense_any_more_names_no_key(tmp_path: Path, owner: Repository) -> None:
    owner.add_target("policy/1", b'{"of": "another version of this program"}')
    owner.edit(aim_picture=True)
    sign(owner)
    keys = policy_keys(tmp_path, owner)
    with pytest.raises(LaneForeign):
        admit("lane-1", message(version=1).data, keys, NOW.utc_ns)
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)


def test_the_lanes_that_may_sign_now_are_the_enrolled_ones(tmp_path: Path, owner: Repository) -> None:
    over = Lane(keys=(LaneKey(key=signing_key(name="other").public, until=_now() - DAY),))
    owner.edit(lanes={**owner.draft.lanes, "lane-2": over})
    sign(owner)
    assert list(policy_keys(tmp_path, owner).enrolled()) == ["lane-1"]


def test_a_lane_whose_clock_is_behind_the_owners_is_heard(tmp_path: Path, owner: Repository) -> None:
    owner.edit(lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public, since=_now()),))})
    sign(owner)
    admit("lane-1", message(version=2).data, policy_keys(tmp_path, owner), NOW.utc_ns)


def test_a_revoked_key_counts_by_when_the_message_came_not_by_what_it_says(tmp_path: Path, owner: Repository) -> None:
    owner.edit(revoked=(Revocation(kid=signing_key().public.kid.hex(), at=THEN + DAY),))
    sign(owner)
    keys = policy_keys(tmp_path, owner)
    admit("lane-1", message().data, keys, NOW.utc_ns)
    with pytest.raises(LaneForeign):
        admit("lane-1", message().data, keys, NOW.utc_ns + 2 * NS_A_DAY)


def test_announced_epochs_and_known_lanes_come_from_the_newest_edition(tmp_path: Path, owner: Repository) -> None:
    keys = policy_keys(tmp_path, owner)
    assert list(keys.epochs("lane-1")) == [255]
    assert list(keys.epochs("lane-2")) == []
    assert keys.knows("lane-1")
    assert not keys.knows("lane-2")


def test_an_edition_not_heard_of_yet_is_looked_for_at_once(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.lanes.HASTE_S", 0)
    keys = policy_keys(tmp_path, owner)
    owner.edit(aim_picture=True)
    sign(owner)
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)


def test_what_was_verified_once_counts_while_nobody_carries_it(tmp_path: Path, owner: Repository) -> None:
    policy_keys(tmp_path, owner)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.root_bytes), RetainedCarrier())
    admit("lane-1", message().data, keys, NOW.utc_ns)
    owner.edit(aim_picture=True)
    sign(owner)
    policy_keys(tmp_path, owner)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.root_bytes), RetainedCarrier())
    with pytest.raises(LaneForeign):  # an older edition can't be had: refused, and sent again by the lane
        admit("lane-1", message(version=1).data, keys, NOW.utc_ns)
    with pytest.raises(TrustMissing):
        PolicyKeys(Trust(tmp_path / "fresh", owner.root_bytes), RetainedCarrier())


def test_a_program_is_told_one_way_or_the_other(tmp_path: Path, owner: Repository) -> None:
    (tmp_path / "root.json").write_bytes(owner.root_bytes)
    source = str(owner.published)
    opened = open_lane_keys(None, source, tmp_path / "root.json", tmp_path / "state")
    assert isinstance(opened, PolicyKeys)
    assert isinstance(open_lane_keys(tmp_path, None, None, tmp_path), KeyDirectory)
    for lanes, trust, root in ((None, None, None), (tmp_path, source, None), (None, source, None)):
        with pytest.raises(OptionMissing):
            open_lane_keys(lanes, trust, root, tmp_path)
    with pytest.raises(TrustMissing):
        open_lane_keys(None, source, tmp_path / "none.json", tmp_path)


def test_another_lanes_key_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "lane-2.pub").write_text(signing_key().public.pem())
    (tmp_path / "lane-1.pub").write_text(signing_key(name="other").public.pem())
    with pytest.raises(LaneForeign):
        admit("lane-1", message().data, KeyDirectory(tmp_path), 0)
