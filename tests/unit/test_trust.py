"""The trust client against a repository that somebody else carries: what it takes, what it refuses, what it keeps."""

import datetime
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.repository import FRESH_DAYS, Repository
from edge.carrier import DirectoryCarrier, RetainedCarrier
from edge.carrier import carrier as carrier_of
from edge.errors import (
    AuthorityExists,
    AuthorityInvalid,
    AuthorityMissing,
    AuthorityNothingToSign,
    AuthorityRefuses,
    AuthorityRootPending,
    AuthorityRootUnfit,
    AuthorityThreshold,
    AuthorityThresholdUnreachable,
    AuthorityUnknown,
    AuthorityUnusable,
    PolicyMalformed,
    TrustClock,
    TrustError,
    TrustExpired,
    TrustMissing,
    TrustRefused,
    TrustUnreachable,
)
from edge.policy import Collector, Lane, LaneKey, Policy, Recipient, Revocation, parse_policy
from edge.seal.keys import KeyType, PublicKey
from edge.seal.signer import FileSigner
from edge.trust import Trust, write_whole
from tests.sealing import recipient_key, signing_key

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def signer(name: str, kind: KeyType = KeyType.ED25519) -> FileSigner:
    return FileSigner(signing_key(kind, name))


TARGETS, ONLINE = signer("targets"), signer("online", KeyType.P256)
ROOTS = [signer("root-1"), signer("root-2", KeyType.P256), signer("root-3")]


def reader(name: str, **dates: object) -> Recipient:
    return Recipient.model_validate({"key": recipient_key(name=name).public, **dates})


@pytest.fixture
def owner(tmp_path: Path) -> Repository:
    """A repository whose first policy names two readers and lane-1."""
    made = Repository.create(tmp_path / "owner", ROOTS, 2, TARGETS.public, ONLINE.public, NOW)
    made.edit(
        recipients=(reader("owner"), reader("escrow")),
        collectors=(Collector(key=signer("collector").public),),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))},
    )
    made.publish(TARGETS, ONLINE, NOW)
    return made


@pytest.fixture
def trust(tmp_path: Path, owner: Repository) -> Trust:
    """A client that has verified the first policy."""
    made = Trust(tmp_path / "lane", owner.roots.first_bytes)
    made.refresh(DirectoryCarrier(owner.published), NOW)
    return made


def again(tmp_path: Path, owner: Repository) -> Trust:
    """The same client after a restart."""
    return Trust(tmp_path / "lane", owner.roots.first_bytes)


def carried(owner: Repository) -> DirectoryCarrier:
    return DirectoryCarrier(owner.published)


def names(keys: tuple[PublicKey, ...]) -> set[bytes]:
    return {key.kid for key in keys}


def test_what_the_owner_signed_comes_in_force(trust: Trust) -> None:
    policy = trust.policy
    assert policy.version == 1
    assert names(policy.recipients_at(NOW)) == {recipient_key(name=one).public.kid for one in ("owner", "escrow")}
    assert names(policy.collectors_at(NOW)) == {signer("collector").public.kid}
    assert names(policy.lane_keys_at("lane-1", NOW)) == {signing_key().public.kid}
    assert policy.lane_keys_at("lane-2", NOW) == ()


def test_a_new_edition_replaces_the_old_one_and_both_stay_readable(trust: Trust, owner: Repository) -> None:
    assert trust.refresh(carried(owner), NOW) is False
    owner.edit(recipients=(*owner.draft.recipients, reader("auditor")))
    owner.publish(TARGETS, ONLINE, NOW)
    assert trust.refresh(carried(owner), NOW) is True
    assert trust.version == 2
    assert len(trust.policy.recipients_at(NOW)) == 3
    first = trust.target("policy/1")
    assert first is not None
    assert len(parse_policy(first).recipients) == 2


def test_nothing_but_plain_files_is_kept_as_a_confined_lane_may_make_no_links(tmp_path: Path, trust: Trust) -> None:
    kept = list((tmp_path / "lane").rglob("*"))
    assert trust.version == 1
    assert len(kept) > 6
    assert not [path for path in kept if path.is_symlink()]


def test_after_a_restart_the_last_policy_counts_without_anybody_bringing_it(
    tmp_path: Path, trust: Trust, owner: Repository
) -> None:
    assert again(tmp_path, owner).policy == trust.policy


def test_without_any_policy_there_is_nothing_to_go_by(tmp_path: Path, owner: Repository) -> None:
    fresh = Trust(tmp_path / "new", owner.roots.first_bytes)
    assert fresh.version == 0
    assert fresh.expired(NOW)
    with pytest.raises(TrustMissing):
        _ = fresh.policy


def keep_old_copy(owner: Repository) -> Path:
    old = owner.directory / "old"
    shutil.copytree(owner.published, old)
    return old


def test_an_older_repository_is_refused_and_the_newer_policy_stays(
    tmp_path: Path, trust: Trust, owner: Repository
) -> None:
    old = keep_old_copy(owner)
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    trust.refresh(carried(owner), NOW)
    for client in (trust, again(tmp_path, owner)):
        with pytest.raises(TrustRefused):
            client.refresh(DirectoryCarrier(old), NOW)
        assert client.version == 2


@pytest.mark.parametrize("file", ["metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json"])
def test_one_older_file_among_new_ones_is_refused(trust: Trust, owner: Repository, file: str) -> None:
    old = keep_old_copy(owner)
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    shutil.copy(old / file, owner.published / file)
    if file == "metadata/timestamp.json":  # nothing is newer then: it is the old state, consistently
        assert trust.refresh(carried(owner), NOW) is False
    else:
        with pytest.raises(TrustRefused):
            trust.refresh(carried(owner), NOW)
    assert trust.version == 1


def test_a_stranger_cannot_sign_any_role(trust: Trust, owner: Repository) -> None:
    stranger = signer("stranger")
    for targets, online in ((stranger, ONLINE), (TARGETS, stranger)):
        owner.edit(aim_picture=not owner.draft.aim_picture)
        with pytest.raises(AuthorityThreshold):
            owner.publish(targets, online, NOW)


def test_a_whole_repository_of_somebody_else_is_refused(tmp_path: Path, trust: Trust) -> None:
    other = [signer("evil-1"), signer("evil-2")]
    evil = Repository.create(tmp_path / "evil", other, 1, signer("evil-t").public, signer("evil-o").public, NOW)
    evil.edit(recipients=(reader("spy"), reader("spy-2")))
    for _ in range(3):
        evil.edit(aim_picture=not evil.draft.aim_picture)
        evil.publish(signer("evil-t"), signer("evil-o"), NOW)
    with pytest.raises(TrustRefused):
        trust.refresh(carried(evil), NOW)
    assert trust.version == 1


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
@pytest.mark.parametrize("change", ["flip", "cut", "empty", "junk", "unsigned"])
def test_altered_metadata_is_refused(trust: Trust, owner: Repository, name: str, change: str) -> None:
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    path = owner.published / "metadata" / name
    data = path.read_bytes()
    altered = {
        "flip": data.replace(b'"version":2', b'"version":3', 1),
        "cut": data[: len(data) // 2],
        "empty": b"",
        "junk": b"\xff" * 500,
        "unsigned": json.dumps({**json.loads(data), "signatures": []}).encode(),
    }[change]
    assert altered != data
    path.write_bytes(altered)
    with pytest.raises(TrustRefused):
        trust.refresh(carried(owner), NOW)
    assert trust.version == 1


def test_an_altered_policy_is_refused(trust: Trust, owner: Repository) -> None:
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    path = owner.published / "targets" / "policy" / "current"
    path.write_bytes(path.read_bytes().replace(b"true", b"null"))
    with pytest.raises(TrustRefused):
        trust.refresh(carried(owner), NOW)
    assert trust.version == 1


class Endless:
    """Brings files without end."""

    def fetch(self, name: str) -> Iterator[bytes] | None:
        return (b"x" * 65536 for _ in range(100_000)) if name.endswith("timestamp.json") else None


def test_a_file_without_end_is_refused(trust: Trust) -> None:
    with pytest.raises(TrustRefused):
        trust.refresh(Endless(), NOW)


def test_nobody_there_is_unreachable_and_changes_nothing(tmp_path: Path, trust: Trust) -> None:
    for carrier in (RetainedCarrier(), DirectoryCarrier(tmp_path / "none")):
        with pytest.raises(TrustUnreachable):
            trust.refresh(carrier, NOW)
    assert trust.version == 1


def test_a_freeze_is_noticed_and_the_policy_stays_in_force(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner signed last long ago, or somebody holds back what is newer."""
    long_ago = NOW - (FRESH_DAYS + 1) * DAY
    owner.freshen(ONLINE, long_ago)
    client = Trust(tmp_path / "lane", owner.roots.first_bytes)
    with pytest.raises(TrustExpired):
        client.refresh(carried(owner), NOW)
    owner.freshen(ONLINE, NOW)
    client.refresh(carried(owner), NOW)
    later = NOW + (FRESH_DAYS + 1) * DAY
    assert not client.expired(NOW)
    assert client.expired(later)
    assert client.policy.recipients_at(later)


def test_a_clock_that_went_back_stops_refreshing_but_not_sealing(trust: Trust, owner: Repository) -> None:
    with pytest.raises(TrustClock):
        trust.refresh(carried(owner), NOW - DAY)
    assert trust.policy.recipients_at(NOW - DAY)
    trust.refresh(carried(owner), NOW + DAY)


def test_root_keys_rotate_with_enough_signatures_of_old_and_new(trust: Trust, owner: Repository) -> None:
    new = signer("root-4")
    owner.roots.propose(NOW, add=[new.public], remove=[ROOTS[0].public.kid.hex()])
    assert owner.roots.sign([new]) is False
    assert owner.roots.sign([ROOTS[1]]) is False
    assert owner.roots.sign([ROOTS[2]]) is True
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    assert trust.refresh(carried(owner), NOW) is True


def test_a_key_that_is_no_root_key_is_told_and_signs_no_root(owner: Repository) -> None:
    owner.roots.propose(NOW, add=[signer("root-4").public])
    with pytest.raises(AuthorityThreshold):
        owner.roots.sign([TARGETS])
    pending = owner.roots.pending
    assert pending is not None
    assert pending.signatures == {}


def test_a_pending_root_and_the_signatures_it_has_are_not_drafted_over(owner: Repository) -> None:
    owner.roots.propose(NOW, add=[signer("root-4").public])
    owner.roots.sign([ROOTS[0]])
    with pytest.raises(AuthorityRootPending, match="a new root is pending"):
        owner.roots.propose(NOW, remove=[ROOTS[2].public.kid.hex()])
    assert owner.roots.sign([ROOTS[1]]) is True


def test_a_root_that_was_published_is_pending_no_more(owner: Repository) -> None:
    """Whoever signed was killed before the draft was put away."""
    pending = owner.directory / "pending-root.json"
    owner.roots.propose(NOW, threshold=1)
    drafted = pending.read_bytes()
    owner.roots.sign(ROOTS)
    pending.write_bytes(drafted)
    assert owner.roots.pending is None
    with pytest.raises(AuthorityNothingToSign):
        owner.roots.sign(ROOTS)
    owner.roots.propose(NOW, threshold=2)
    assert owner.roots.sign(ROOTS) is True
    assert owner.roots.current.signed.version == 3


@pytest.mark.parametrize(
    "file", ["repository/metadata/root.json", "repository/metadata/timestamp.json", "pending-root.json", "draft.json"]
)
def test_a_damaged_file_of_the_authority_is_named(owner: Repository, file: str) -> None:
    (owner.directory / file).write_bytes(b"{")
    with pytest.raises((AuthorityUnusable, AuthorityRootUnfit), match=file):
        _ = owner.roots.current, owner.fresh_until, owner.roots.pending, owner.draft


def test_a_file_that_cannot_be_read_or_is_another_one_is_named(owner: Repository) -> None:
    snapshot, timestamp = (owner.published / "metadata" / f"{role}.json" for role in ("snapshot", "timestamp"))
    shutil.copy(snapshot, timestamp)
    with pytest.raises(AuthorityUnusable, match=r"timestamp\.json is metadata of another kind: snapshot"):
        _ = owner.fresh_until
    timestamp.unlink()
    timestamp.mkdir()
    with pytest.raises(AuthorityUnusable, match=r"cannot read .*timestamp\.json"):
        _ = owner.fresh_until
    (owner.published / "targets" / "policy" / "1").write_bytes(b"")
    with pytest.raises(AuthorityUnusable, match="policy/1 is not as it was signed"):
        _ = owner.draft


@pytest.mark.parametrize("again", [reader("later"), None])
def test_an_edition_whose_signing_failed_is_never_signed_with_another(
    trust: Trust, owner: Repository, again: Recipient | None
) -> None:
    """The owner takes back what was wrong in it."""
    readers = owner.draft.recipients
    owner.edit(recipients=(*readers, reader("wrong")))
    in_the_way = owner.published / "metadata" / f"targets.json.{os.getpid()}.part"
    in_the_way.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        owner.publish(TARGETS, ONLINE, NOW)
    in_the_way.rmdir()
    assert owner.policy == trust.policy
    assert trust.refresh(carried(owner), NOW) is False
    owner.edit(recipients=readers if again is None else (*readers, again))
    assert owner.publish(TARGETS, ONLINE, NOW).version == (1 if again is None else 2)
    trust.refresh(carried(owner), NOW)
    assert [edition.version for edition in owner.editions] == list(range(trust.version, 0, -1))
    second = trust.target("policy/2")
    named = () if second is None else parse_policy(second).recipients
    assert recipient_key(name="wrong").public.kid not in {one.key.kid for one in named}
    assert (second is None) == (again is None)


def test_a_folder_from_a_backup_goes_on_with_the_newest_repository(
    tmp_path: Path, trust: Trust, owner: Repository
) -> None:
    owner.edit(aim_picture=True)
    shutil.copytree(owner.directory, tmp_path / "backup")
    owner.edit(recipients=(*owner.draft.recipients, reader("auditor")))
    assert owner.publish(TARGETS, ONLINE, NOW).version == 2
    other = Trust(tmp_path / "other", owner.roots.first_bytes)
    for client in (trust, other):
        client.refresh(carried(owner), NOW)
    restored = Repository(tmp_path / "backup")
    restored.publish(TARGETS, ONLINE, NOW)
    assert other.refresh(carried(restored), NOW) is False
    restored.publish(TARGETS, ONLINE, NOW)
    with pytest.raises(TrustRefused):
        other.refresh(carried(restored), NOW)
    shutil.rmtree(restored.published)
    shutil.copytree(owner.published, restored.published)
    restored.edit(aim_picture=False)
    assert restored.publish(TARGETS, ONLINE, NOW).version == 3
    assert trust.refresh(carried(restored), NOW) is True
    assert len(trust.policy.recipients) == 3


def test_a_lost_targets_or_online_key_is_replaced_by_the_root(trust: Trust, owner: Repository) -> None:
    targets, online = signer("targets-2", KeyType.P256), signer("online-2")
    owner.roots.propose(NOW, targets=targets.public, online=online.public)
    assert owner.roots.sign(ROOTS[:2]) is True
    owner.edit(aim_picture=True)
    with pytest.raises(AuthorityThreshold):
        owner.publish(TARGETS, ONLINE, NOW)
    owner.publish(targets, online, NOW)
    assert trust.refresh(carried(owner), NOW) is True
    assert trust.version == 2


def test_a_root_with_too_few_old_signatures_is_refused_by_the_lane(trust: Trust, owner: Repository) -> None:
    """One root key was stolen, and the thief makes himself the root."""
    thief = signer("thief")
    owner.roots.propose(NOW, add=[thief.public], threshold=1)
    owner.roots.sign([thief, ROOTS[0]])
    shutil.copy(owner.directory / "pending-root.json", owner.published / "metadata" / "2.root.json")
    with pytest.raises(TrustRefused):
        trust.refresh(carried(owner), NOW)


def test_readers_roll_over_without_a_gap_and_there_is_always_one(owner: Repository) -> None:
    until = NOW + 10 * DAY
    owner.edit(
        recipients=(
            reader("old", until=until),
            reader("new", since=until - DAY),
            reader("gone", until=NOW - DAY),
            reader("escrow", until=until + 5 * DAY),
        )
    )
    policy = owner.publish(TARGETS, ONLINE, NOW)
    old, new, escrow = (recipient_key(name=name).public.kid for name in ("old", "new", "escrow"))
    assert names(policy.recipients_at(NOW)) == {old, escrow}
    assert names(policy.recipients_at(until - DAY / 2)) == {old, new, escrow}
    assert names(policy.recipients_at(until + DAY)) == {new, escrow}


def test_if_every_reader_has_ended_those_that_held_last_are_kept(owner: Repository) -> None:
    owner.edit(recipients=(reader("old", until=NOW + DAY), reader("late", until=NOW + 2 * DAY)))
    policy = owner.publish(TARGETS, ONLINE, NOW)
    assert names(policy.recipients_at(NOW + 30 * DAY)) == {recipient_key(name="late").public.kid}


def test_a_revoked_key_counts_for_nothing_from_then_on(owner: Repository) -> None:
    kids = [recipient_key(name="owner").public.kid, signer("collector").public.kid, signing_key().public.kid]
    owner.edit(revoked=tuple(Revocation(kid=kid.hex(), at=NOW) for kid in kids))
    policy = owner.publish(TARGETS, ONLINE, NOW, force=True)
    assert names(policy.recipients_at(NOW)) == {recipient_key(name="escrow").public.kid}
    assert policy.collectors_at(NOW) == ()
    assert policy.lane_keys_at("lane-1", NOW) == ()


def test_a_clock_behind_the_policy_has_the_readers_collectors_and_keys_of_its_issue(owner: Repository) -> None:
    owner.edit(
        recipients=(reader("old", until=NOW + DAY), reader("new", since=NOW - DAY), reader("escrow")),
        collectors=(Collector(key=signer("collector").public, since=NOW),),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public, since=NOW),))},
    )
    policy = owner.publish(TARGETS, ONLINE, NOW)
    for behind in (NOW - datetime.timedelta(seconds=5), datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)):
        assert policy.recipients_at(behind) == policy.recipients_at(NOW)
        assert policy.collectors_at(behind) == policy.collectors_at(NOW)
        assert policy.lane_keys_at("lane-1", behind) == (signing_key().public,)


def test_a_policy_with_more_readers_than_a_message_has_places_is_neither_signed_nor_taken(owner: Repository) -> None:
    before = owner.published / "targets" / "policy"
    kept = sorted(before.iterdir())
    owner.edit(recipients=tuple(reader(f"reader-{number}") for number in range(9)))
    with pytest.raises(AuthorityInvalid):
        owner.publish(TARGETS, ONLINE, NOW)
    assert sorted(before.iterdir()) == kept
    with pytest.raises(PolicyMalformed):
        parse_policy(Policy.model_construct(**dict(owner.draft), version=2, issued=NOW).to_json())
    one_at_a_time = [NOW + number * DAY for number in range(12)]
    rolling = (reader(f"reader-{at:%d}", since=at, until=at + DAY) for at in one_at_a_time)
    owner.edit(recipients=(reader("escrow"), *rolling))
    assert len(owner.publish(TARGETS, ONLINE, NOW).recipients) == 13


def test_a_policy_whose_readers_are_all_revoked_or_over_is_refused_even_if_forced(owner: Repository) -> None:
    ended = owner.draft.recipients
    owner.edit(revoked=tuple(Revocation(kid=one.key.kid.hex(), at=NOW) for one in ended))
    with pytest.raises(AuthorityInvalid):
        owner.publish(TARGETS, ONLINE, NOW, force=True)
    owner.edit(revoked=(), recipients=(reader("old", until=NOW), reader("older", until=NOW)))
    with pytest.raises(AuthorityInvalid):
        owner.publish(TARGETS, ONLINE, NOW, force=True)


def test_a_policy_with_one_reader_is_refused_unless_forced(owner: Repository) -> None:
    owner.edit(recipients=(reader("owner"),))
    with pytest.raises(AuthorityRefuses):
        owner.publish(TARGETS, ONLINE, NOW)
    assert owner.publish(TARGETS, ONLINE, NOW, force=True).version == 2


def test_a_policy_without_readers_is_refused_even_if_forced(owner: Repository) -> None:
    owner.edit(recipients=())
    with pytest.raises(AuthorityInvalid):
        owner.publish(TARGETS, ONLINE, NOW, force=True)


def test_a_wrong_key_leaves_what_is_published_as_it_was(trust: Trust, owner: Repository) -> None:
    before = owner.files()
    owner.edit(aim_picture=True)
    for targets, online in ((signer("stranger"), ONLINE), (TARGETS, signer("stranger"))):
        with pytest.raises(AuthorityThreshold):
            owner.publish(targets, online, NOW)
    assert owner.files() == before
    assert trust.refresh(carried(owner), NOW) is False


def test_a_published_policy_is_signed_again_as_the_bytes_it_was(trust: Trust, owner: Repository) -> None:
    """An earlier version of this program may have written them."""
    current = owner.published / "targets" / "policy" / "current"
    written = json.dumps(json.loads(current.read_bytes())).encode()
    owner.add_target("policy/1", written)
    owner.publish(TARGETS, ONLINE, NOW)
    owner.publish(TARGETS, ONLINE, NOW)
    assert current.read_bytes() == written


def test_a_draft_that_no_policy_can_follow_is_refused_and_the_draft_stays(owner: Repository) -> None:
    kept = owner.draft
    lane = kept.lanes["lane-1"]
    for bad in (
        {"epochs": ("soon",)},
        {"keys": tuple(LaneKey(key=signing_key(name=f"k{n}").public) for n in range(17))},
    ):
        with pytest.raises(AuthorityInvalid):
            owner.edit(lanes={"lane-1": lane.model_copy(update=bad)})
    with pytest.raises(AuthorityInvalid):
        owner.edit(recipients=tuple(reader(f"reader-{number}") for number in range(33)))
    assert owner.draft == kept


def test_signing_without_a_change_makes_no_new_edition(owner: Repository, trust: Trust) -> None:
    assert owner.publish(TARGETS, ONLINE, NOW).version == 1
    assert trust.refresh(carried(owner), NOW) is False


def test_a_repository_is_neither_overwritten_nor_invented(tmp_path: Path, owner: Repository) -> None:
    with pytest.raises(AuthorityExists):
        Repository.create(owner.directory, ROOTS, 2, TARGETS.public, ONLINE.public, NOW)
    with pytest.raises(AuthorityMissing):
        Repository(tmp_path / "none")
    with pytest.raises(AuthorityThresholdUnreachable):
        Repository.create(tmp_path / "new", ROOTS, 4, TARGETS.public, ONLINE.public, NOW)
    with pytest.raises(AuthorityUnknown):
        owner.roots.propose(NOW, remove=["00" * 16])


def test_retained_messages_carry_the_repository_and_empty_ones_take_away(trust: Trust, owner: Repository) -> None:
    owner.edit(aim_picture=True)
    owner.publish(TARGETS, ONLINE, NOW)
    carrier = RetainedCarrier()
    for name, data in owner.files().items():
        carrier.put(name, data)
    assert list(owner.files())[-1] == "metadata/timestamp.json"
    assert trust.refresh(carrier, NOW) is True
    carrier.put("metadata/timestamp.json", b"")
    with pytest.raises(TrustUnreachable):
        trust.refresh(carrier, NOW)


def test_why_nothing_could_be_fetched_is_said(trust: Trust) -> None:
    class Broken:
        def fetch(self, name: str) -> Iterator[bytes] | None:
            raise OSError("the server answers with status 500")

    with pytest.raises(TrustUnreachable, match=r"2\.root\.json: the server answers with status 500"):
        trust.refresh(Broken(), NOW)


def test_a_file_that_was_half_written_is_not_carried(owner: Repository) -> None:
    before = owner.files()
    (owner.published / "metadata" / "timestamp.json.part").write_bytes(b"{")
    assert owner.files() == before


@pytest.mark.parametrize("source", ["http://[::1", "https://[", "/media/\0/owner"])
def test_a_source_that_is_no_folder_and_no_address_is_named(source: str) -> None:
    with pytest.raises(TrustUnreachable):
        carrier_of(source)


@pytest.mark.parametrize("address", ["http://bob:s3cret@host/", "https://s3cret@[::1", "http://bob:s3/cret@host/"])
def test_an_address_with_a_user_in_it_is_refused_without_a_word_of_it(address: str) -> None:
    with pytest.raises(TrustUnreachable, match="no user or password is sent") as caught:
        carrier_of(address)
    assert "cret" not in str(caught.value)


def test_what_is_carried_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.carrier.MAX_CARRIED_BYTES", 10)
    carrier = RetainedCarrier()
    carrier.put("a", b"12345678")
    carrier.put("b", b"123")
    assert carrier.fetch("a") is not None
    assert carrier.fetch("b") is None
    carrier.put("a", b"1")
    carrier.put("b", b"123")
    assert carrier.fetch("b") is not None


@pytest.mark.parametrize("name", ["../secret", "metadata/../../secret", "/etc/hostname"])
def test_a_folder_carries_nothing_from_outside_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "stick").mkdir()
    assert DirectoryCarrier(tmp_path / "stick").fetch(name) is None


def test_a_pipe_on_a_stick_is_no_file_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "timestamp.json")
    assert DirectoryCarrier(tmp_path).fetch("timestamp.json") is None


@given(st.binary(max_size=300) | st.dictionaries(st.text(), st.none() | st.integers()).map(json.dumps).map(str.encode))
def test_no_bytes_but_a_policy_make_a_policy(data: bytes) -> None:
    with pytest.raises(PolicyMalformed):
        parse_policy(data)


def test_a_policy_survives_its_coding(owner: Repository) -> None:
    policy = owner.policy
    assert policy is not None
    assert parse_policy(policy.to_json()) == policy


def test_two_programs_with_one_folder_do_not_write_into_each_others_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, kept = os.fsync, tmp_path / "policy.json"

    def fsync(file: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            write_whole(kept, b"B" * 10)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(kept, b"A" * 100)
    assert kept.read_bytes() == b"A" * 100
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("junk", [b"not json", b"[]", b'{"floor": "yesterday"}'])
def test_a_damaged_trust_directory_is_an_error_of_ours(tmp_path: Path, owner: Repository, junk: bytes) -> None:
    (tmp_path / "lane").mkdir()
    (tmp_path / "lane" / "state.json").write_bytes(junk)
    with pytest.raises(TrustError):
        again(tmp_path, owner)
