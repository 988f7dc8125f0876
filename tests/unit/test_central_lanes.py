"""Whose signatures count: keys in a folder, and the owner's policy with its editions and revocations."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from central.audit import ENDED_READER, MISSING_READER, UNNAMED_READER, Audit, command
from central.heard import Heard
from central.lanes import KeyDirectory, PolicyKeys, admit, open_lane_keys
from central.repository import Repository
from central.store import Store
from edge.carrier import DirectoryCarrier, RetainedCarrier
from edge.errors import KeyFileError, LaneForeign, OptionMissing, TrustExpired, TrustMissing, TrustUnreachable
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
    return PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), DirectoryCarrier(owner.published))


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


def test_a_refused_key_is_told_why(tmp_path: Path, owner: Repository) -> None:
    def why(key: str = "lane", version: int = 1) -> str:
        with pytest.raises(LaneForeign) as refused:
            admit("lane-1", message(key, version).data, keys, NOW.utc_ns)
        return refused.value.what.partition(": ")[2]

    keys = policy_keys(tmp_path, owner)
    assert why("stranger") == "policy 1 does not list the key for that time"
    assert why(version=9) == "policy 9 is not known here, the newest is 1"
    with pytest.raises(LaneForeign, match="no lane of that name is enrolled"):
        admit("lane-1", message().data, KeyDirectory(tmp_path), 0)
    owner.edit(revoked=(Revocation(kid=signing_key().public.kid.hex(), at=THEN - DAY),))
    sign(owner)
    keys = policy_keys(tmp_path, owner)
    assert why() == why(version=2) == "the key is revoked"


def test_an_older_edition_that_makes_no_sense_any_more_names_no_key(tmp_path: Path, owner: Repository) -> None:
    owner.add_target("policy/1", b'{"of": "another version of this program"}')
    owner.edit(aim_picture=True)
    sign(owner)
    keys = policy_keys(tmp_path, owner)
    with pytest.raises(LaneForeign):
        admit("lane-1", message(version=1).data, keys, NOW.utc_ns)
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)


def test_a_lane_counts_as_enrolled_until_its_last_key_is_taken_out(tmp_path: Path, owner: Repository) -> None:
    over = Lane(keys=(LaneKey(key=signing_key(name="other").public, until=_now() - DAY),))
    owner.edit(
        lanes={**owner.draft.lanes, "lane-2": over, "lane-3": Lane(keys=())},
        revoked=(Revocation(kid=signing_key().public.kid.hex(), at=_now() - DAY),),
    )
    sign(owner)
    assert list(policy_keys(tmp_path, owner).enrolled()) == ["lane-1", "lane-2"]


LONG_AGO = datetime.timedelta(days=31)


def test_an_owner_who_fell_silent_is_judged_by_what_was_verified_whoever_starts_anew(
    tmp_path: Path, owner: Repository
) -> None:
    owner.edit(aim_picture=True)
    sign(owner)
    policy_keys(tmp_path, owner)
    owner.freshen(FileSigner(signing_key(name="online")), _now() - LONG_AGO)
    keys = policy_keys(tmp_path, owner)  # the source answers, with what is no longer fresh
    for version in (1, 2):
        admit("lane-1", message(version=version).data, keys, NOW.utc_ns)


def test_only_who_asks_for_an_archive_takes_a_word_that_is_no_longer_fresh_and_is_told_so(
    tmp_path: Path, owner: Repository
) -> None:
    owner.freshen(FileSigner(signing_key(name="online")), _now() - LONG_AGO)
    with pytest.raises(TrustMissing):
        policy_keys(tmp_path, owner)
    trust = Trust(tmp_path / "archive", owner.roots.first_bytes)
    keys = PolicyKeys(trust, DirectoryCarrier(owner.published), archive=True)
    admit("lane-1", message().data, keys, NOW.utc_ns)
    ended = _now() - LONG_AGO + datetime.timedelta(days=30)
    assert f"policy 1 of {_now():%Y-%m-%d}, fresh until {ended:%Y-%m-%d}" in (keys.silence() or "")
    assert trust.expired(_now())
    with pytest.raises(TrustExpired):
        trust.refresh(DirectoryCarrier(owner.published), _now())
    owner.freshen(FileSigner(signing_key(name="online")), _now())
    assert PolicyKeys(trust, DirectoryCarrier(owner.published), archive=True).silence() is None


def test_who_audits_by_a_kept_word_is_told_of_which_day_it_is_and_what_source_did_not_answer(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.lanes.time.sleep", lambda _: None)
    (tmp_path / "root.json").write_bytes(owner.roots.first_bytes)
    source, words = owner.published, ["--root", str(tmp_path / "root.json"), "--trust-state", str(tmp_path / "state")]
    Store(str(tmp_path / "store.sqlite")).add([message()], NOW.utc_ns)
    app = typer.Typer()
    app.command()(command)

    def audit(trust: object) -> str:
        result = CliRunner().invoke(app, [str(tmp_path / "store.sqlite"), "--trust", str(trust), *words])
        assert "1 message (1 read), " in result.stdout
        return result.stderr

    assert audit(source) == ""
    source.rename(tmp_path / "elsewhere")
    for gone in (source, "http://127.0.0.1:9/repository"):
        assert f"policy 1 of {_now():%Y-%m-%d}, " in (told := audit(gone))
        assert f"kept here, as {gone} could not be reached" in told
        assert "revocations too, is not known here" in told


def test_an_archive_is_signed_by_the_owner_all_the_same(tmp_path: Path, owner: Repository) -> None:
    targets = owner.published / "metadata" / "targets.json"
    targets.write_bytes(
        targets.read_bytes().replace(b'"version": 1', b'"version": 2').replace(b'"version":1', b'"version":2')
    )
    with pytest.raises(TrustMissing):
        PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), DirectoryCarrier(owner.published), archive=True)


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
    monkeypatch.setattr("central.lanes.RESTS", 0)
    keys = policy_keys(tmp_path, owner)
    owner.edit(aim_picture=True)
    sign(owner)
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)


class Dead:
    """A source that stopped answering, and takes its time for that."""

    def __init__(self, clock: list[float]) -> None:
        self.asked = 0
        self._clock = clock

    def fetch(self, name: str) -> None:
        self.asked += 1
        self._clock[0] += 10
        raise OSError("timed out")


def test_messages_that_name_an_edition_nobody_has_do_not_keep_a_collector_asking_a_dead_source(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.edit(aim_picture=True)
    sign(owner)
    policy_keys(tmp_path, owner)
    clock = [0.0]
    monkeypatch.setattr("central.lanes.time.monotonic", lambda: clock[0])
    source = Dead(clock)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), source)
    assert source.asked == 1
    for version, times in ((99, 1), (99, 1), (1, 2), (1, 2)):  # a new edition, and an old one that was never asked for
        with pytest.raises(LaneForeign):
            admit("lane-1", message(version=version).data, keys, NOW.utc_ns)
        assert source.asked == times
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)
    clock[0] += 91
    with pytest.raises(LaneForeign):
        admit("lane-1", message(version=99).data, keys, NOW.utc_ns)
    assert source.asked == 3


class Halting:
    """A source that fails so many times to bring an edition, and takes its time for that."""

    def __init__(self, source: DirectoryCarrier, fails: int, clock: list[float]) -> None:
        self.fails = fails
        self._source = source
        self._clock = clock

    def fetch(self, name: str) -> Iterator[bytes] | None:
        if "policy" in name and "current" not in name and self.fails:
            self.fails -= 1
            self._clock[0] += 10
            raise ConnectionResetError
        return self._source.fetch(name)


def two_more(tmp_path: Path, owner: Repository) -> None:
    """Policies, of which the second one was never asked for."""
    policy_keys(tmp_path, owner)
    for _ in range(2):
        owner.edit(aim_picture=not owner.draft.aim_picture)
        sign(owner)
    policy_keys(tmp_path, owner)


def test_who_judges_what_is_kept_asks_again_and_accuses_nobody_for_an_edition_that_cannot_be_had(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_more(tmp_path, owner)
    monkeypatch.setattr("central.lanes.time.sleep", lambda _: None)
    trust, source = Trust(tmp_path / "trust", owner.roots.first_bytes), DirectoryCarrier(owner.published)
    keys = PolicyKeys(trust, Halting(source, 3, [0.0]), patient=True)
    with pytest.raises(TrustUnreachable):
        admit("lane-1", message(version=2).data, keys, NOW.utc_ns)
    keys = PolicyKeys(trust, Halting(source, 2, [0.0]), patient=True)
    admit("lane-1", message(version=2).data, keys, NOW.utc_ns)
    with pytest.raises(LaneForeign):
        admit("lane-1", message(version=4).data, keys, NOW.utc_ns)
    keys = PolicyKeys(trust, Dead([0.0]), patient=True)
    with pytest.raises(TrustUnreachable):  # there may be such an edition
        admit("lane-1", message(version=4).data, keys, NOW.utc_ns)


def test_a_slow_edition_gets_a_tenth_of_the_time_however_quick_a_refresh_is(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_more(tmp_path, owner)
    clock = [0.0]
    monkeypatch.setattr("central.lanes.time.monotonic", lambda: clock[0])
    source = Halting(DirectoryCarrier(owner.published), 9, clock)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), source)
    for waited, fails in ((0, 8), (0, 8), (60, 8), (29, 8), (2, 7)):  # a refresh after 60 seconds takes no time
        clock[0] += waited
        assert keys.edition(2) is None
        assert source.fails == fails


def test_what_an_archive_said_is_nothing_that_others_go_by(tmp_path: Path, owner: Repository) -> None:
    owner.freshen(FileSigner(signing_key(name="online")), _now() - LONG_AGO)
    (tmp_path / "root.json").write_bytes(owner.roots.first_bytes)
    options = None, str(owner.published), tmp_path / "root.json", tmp_path / "state"
    assert open_lane_keys(*options, archive=True).knows("lane-1")
    with pytest.raises(TrustMissing):
        open_lane_keys(*options)


def test_a_lane_that_nobody_enrolled_makes_nobody_ask(
    tmp_path: Path, owner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.lanes.HASTE_S", 0)
    monkeypatch.setattr("central.lanes.RESTS", 0)
    keys = policy_keys(tmp_path, owner)
    by = Sealer("lane-9", FileSigner(signing_key()), (recipient_key().public,), 9, lambda: NOW.utc_ns)
    owner.edit(aim_picture=True)
    sign(owner)
    with pytest.raises(LaneForeign):
        admit("lane-9", by.seal(READ, 1, 1, None).data, keys, NOW.utc_ns)
    assert keys.edition(2) is None


def test_what_was_verified_once_counts_while_nobody_carries_it(tmp_path: Path, owner: Repository) -> None:
    policy_keys(tmp_path, owner)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), RetainedCarrier())
    admit("lane-1", message().data, keys, NOW.utc_ns)
    for _ in range(2):
        owner.edit(aim_picture=not owner.draft.aim_picture)
        sign(owner)
    policy_keys(tmp_path, owner)
    keys = PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), RetainedCarrier())
    admit("lane-1", message(version=1).data, keys, NOW.utc_ns)
    with pytest.raises(LaneForeign):  # nobody here ever had that edition: refused, and sent again by the lane
        admit("lane-1", message(version=2).data, keys, NOW.utc_ns)
    with pytest.raises(TrustMissing):
        PolicyKeys(Trust(tmp_path / "fresh", owner.roots.first_bytes), RetainedCarrier())


def test_a_program_is_told_one_way_or_the_other(tmp_path: Path, owner: Repository) -> None:
    (tmp_path / "root.json").write_bytes(owner.roots.first_bytes)
    source = str(owner.published)
    opened = open_lane_keys(None, source, tmp_path / "root.json", tmp_path / "state")
    assert isinstance(opened, PolicyKeys)
    assert isinstance(open_lane_keys(tmp_path, None, None, tmp_path), KeyDirectory)
    for lanes, trust, root in ((None, None, None), (tmp_path, source, None), (None, source, None)):
        with pytest.raises(OptionMissing):
            open_lane_keys(lanes, trust, root, tmp_path)
    with pytest.raises(TrustMissing):
        open_lane_keys(None, source, tmp_path / "none.json", tmp_path)
    with pytest.raises(OptionMissing, match="--trust-state"):
        open_lane_keys(None, source, tmp_path / "root.json", Path("~nobody-of-that-name/state"))


def test_another_lanes_key_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "lane-2.pub").write_text(signing_key().public.pem())
    (tmp_path / "lane-1.pub").write_text(signing_key(name="other").public.pem())
    with pytest.raises(LaneForeign):
        admit("lane-1", message().data, KeyDirectory(tmp_path), 0)


def test_a_reader_counts_as_unnamed_thirty_days_after_an_edition_revoked_it_whatever_edition_is_named(
    tmp_path: Path,
) -> None:
    signers = {name: FileSigner(signing_key(name=name)) for name in ("root", "targets", "online")}
    revoked_at = _now() - 400 * DAY
    readers = [recipient_key(name=name) for name in ("owner", "escrow", "integrator")]
    owner = Repository.create(
        tmp_path / "owner", [signers["root"]], 1, signers["targets"].public, signers["online"].public, revoked_at
    )
    owner.edit(
        recipients=tuple(Recipient(key=one.public) for one in readers),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))},
    )
    owner.publish(signers["targets"], signers["online"], revoked_at)
    owner.edit(revoked=(Revocation(kid=readers[2].public.kid.hex(), at=revoked_at - 300 * DAY),))
    owner.publish(signers["targets"], signers["online"], revoked_at)
    owner.edit(aim_picture=True)
    sign(owner)
    keys = policy_keys(tmp_path, owner)

    def found(days: int, version: int = 1, names: int = 3) -> list[str]:
        sealed_ns = int((revoked_at + days * DAY).timestamp()) * 1_000_000_000
        to = tuple(one.public for one in readers[:names])
        message = Sealer("lane-1", FileSigner(signing_key()), to, version, lambda: sealed_ns).seal(READ, 1, 1, None)
        audit = Audit(keys, from_start=True)
        audit.take(Heard("lane-1", message.data))
        return [problem.what for report in audit.reports() for problem in report.problems if report.epoch[-1:] == "1"]

    assert found(29) == []
    assert found(29, names=2) == [MISSING_READER]
    assert found(31) == [ENDED_READER]
    assert found(31, names=2) == []
    assert found(31, version=2) == [UNNAMED_READER]
    assert found(31, version=2, names=2) == []
    assert found(31, version=2, names=1) == [MISSING_READER]


@pytest.mark.parametrize("left_out", [True, False])
def test_a_reader_whom_the_owner_ended_or_left_out_counts_no_more_30_days_after_that_policy(
    tmp_path: Path, left_out: bool
) -> None:
    signers = {name: FileSigner(signing_key(name=name)) for name in ("root", "targets", "online")}
    began = _now() - 400 * DAY
    readers = [recipient_key(name=name).public for name in ("owner", "escrow", "integrator")]
    owner = Repository.create(
        tmp_path / "owner", [signers["root"]], 1, signers["targets"].public, signers["online"].public, began
    )
    kept = tuple(Recipient(key=key) for key in readers[:2])
    owner.edit(
        recipients=(*kept, Recipient(key=readers[2])),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))},
    )
    owner.publish(signers["targets"], signers["online"], began)
    owner.edit(recipients=kept if left_out else (*kept, Recipient(key=readers[2], until=began + DAY)))
    owner.publish(signers["targets"], signers["online"], began)
    owner.edit(recipients=(*kept, Recipient(key=readers[2])))
    owner.publish(signers["targets"], signers["online"], began + 100 * DAY)
    sign(owner)
    keys = policy_keys(tmp_path, owner)

    def found(days: int, version: int) -> list[str]:
        sealed_ns = int((began + days * DAY).timestamp()) * 1_000_000_000
        message = Sealer("lane-1", FileSigner(signing_key()), tuple(readers), version, lambda: sealed_ns)
        audit = Audit(keys, from_start=True)
        audit.take(Heard("lane-1", message.seal(READ, 1, 1, None).data))
        return [problem.what for report in audit.reports() for problem in report.problems if report.epoch[-1:] == "1"]

    assert [found(days, 1) for days in (29, 31)] == [[], [ENDED_READER]]
    assert found(101, 3) == []  # named anew: what was said before that counts no more


def test_editions_that_no_message_names_are_missed_by_nobody_once_the_source_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An auditor's machine without a network: what it kept is what it judges by."""
    monkeypatch.setattr("central.lanes.PAUSES_S", ())
    signers = {name: FileSigner(signing_key(name=name)) for name in ("root", "targets", "online")}
    began = _now() - 100 * DAY
    owner = Repository.create(
        tmp_path / "owner", [signers["root"]], 1, signers["targets"].public, signers["online"].public, began
    )
    readers = tuple(recipient_key(name=name).public for name in ("owner", "escrow"))
    owner.edit(
        recipients=tuple(Recipient(key=key) for key in readers),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))},
    )
    owner.publish(signers["targets"], signers["online"], began)
    owner.freshen(signers["online"], _now())
    policy_keys(tmp_path, owner)
    for days in (1, 2):
        owner.edit(aim_picture=days == 1)
        owner.publish(signers["targets"], signers["online"], began + days * DAY)
    owner.edit(aim_picture=True)
    sign(owner)
    trust = Trust(tmp_path / "trust", owner.roots.first_bytes)
    PolicyKeys(trust, DirectoryCarrier(owner.published))
    keys = PolicyKeys(trust, DirectoryCarrier(tmp_path / "gone"), patient=True)
    for version in (1, 4):
        audit = Audit(keys, from_start=True)
        audit.take(
            Heard("lane-1", Sealer("lane-1", FileSigner(signing_key()), readers, version).seal(READ, 1, 1, None).data)
        )
        assert not [problem for report in audit.reports() for problem in report.problems]
