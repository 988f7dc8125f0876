"""Lanes in the owner's draft: whose word a new key needs, and what becomes of the keys before it."""

import datetime
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from central.enrolments import DRAIN, Enrolments
from central.lanes import PolicyKeys, admit
from central.repository import Repository
from edge import enrolment
from edge.carrier import DirectoryCarrier
from edge.enrolment import Request
from edge.errors import AuthorityInvalid, LaneForeign, RequestInvalid
from edge.policy import Recipient, Revocation
from edge.seal.envelope import Sealer
from edge.seal.signer import FileSigner
from edge.trust import Trust
from tests.sealing import READ, recipient_key, signing_key

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
TLS_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
TARGETS, ONLINE = (FileSigner(signing_key(name=name)) for name in ("targets", "online"))


def key(number: int) -> FileSigner:
    """The lane's key of that number."""
    return FileSigner(signing_key(name=f"key-{number}"))


def asking(number: int, *, old: int | None = None) -> bytes:
    return enrolment.make("lane-1", key(number), TLS_KEY, old=None if old is None else key(old))


def sign(owner: Repository, at: datetime.datetime = NOW) -> int:
    return owner.publish(TARGETS, ONLINE, at).version


@pytest.fixture
def owner(tmp_path: Path) -> Repository:
    made = Repository.create(
        tmp_path / "owner", [FileSigner(signing_key(name="root"))], 1, TARGETS.public, ONLINE.public, NOW
    )
    made.edit(recipients=tuple(Recipient(key=recipient_key(name=name).public) for name in ("owner", "escrow")))
    return made


@pytest.fixture
def lanes(owner: Repository) -> Enrolments:
    """With lane-1 enrolled by its key 0, and signed."""
    made = Enrolments(owner)
    enrol(made, asking(0))
    sign(owner)
    return made


def enrol(lanes: Enrolments, data: bytes, at: datetime.datetime = NOW) -> None:
    lanes.enrol(enrolment.parse(data), data, at)


def rotate(lanes: Enrolments, data: bytes, at: datetime.datetime = NOW) -> Request | None:
    lanes.rotate("lane-1")
    return lanes.take_up(data, at)


def listed(owner: Repository) -> dict[int, datetime.datetime | None]:
    """The numbers of the lane's keys, and when they end."""
    kids = {key(number).public.kid: number for number in range(20)}
    return {kids[one.key.kid]: one.until for one in owner.draft.lanes["lane-1"].keys}


def test_a_key_ends_some_time_after_another_followed_it(owner: Repository, lanes: Enrolments) -> None:
    assert rotate(lanes, asking(1, old=0))
    assert listed(owner) == {0: NOW + DRAIN, 1: None}
    assert rotate(lanes, asking(2, old=1), NOW + DAY)
    assert listed(owner) == {0: NOW + DRAIN, 1: NOW + DAY + DRAIN, 2: None}


def test_what_was_sealed_before_a_rotation_counts_however_late_it_comes(
    tmp_path: Path, owner: Repository, lanes: Enrolments
) -> None:
    rotate(lanes, asking(1, old=0))
    assert sign(owner) == 2
    long_after = NOW + 3 * DRAIN

    def sealed(number: int, version: int, at: datetime.datetime) -> bytes:
        sealer = Sealer("lane-1", key(number), (recipient_key().public,), version, lambda: int(at.timestamp() * 1e9))
        return sealer.seal(READ, 1, 1, None).data

    keys = PolicyKeys(Trust(tmp_path / "trust", owner.roots.first_bytes), DirectoryCarrier(owner.published))
    received = int(long_after.timestamp() * 1e9)
    for number, version, at in ((0, 1, NOW), (0, 1, long_after), (0, 2, NOW + DRAIN - DAY), (1, 2, long_after)):
        admit("lane-1", sealed(number, version, at), keys, received)
    with pytest.raises(LaneForeign):
        admit("lane-1", sealed(0, 2, NOW + DRAIN), keys, received)


def test_keys_whose_time_is_over_make_room_for_new_ones(owner: Repository, lanes: Enrolments) -> None:
    for number in range(1, 20):
        assert rotate(lanes, asking(number, old=number - 1), NOW + number * DRAIN)
        sign(owner, NOW + number * DRAIN)
    assert list(listed(owner)) == [18, 19]
    first = next(edition for edition in owner.editions if edition.version == 1)
    assert [one.key.kid for one in first.lanes["lane-1"].keys] == [key(0).public.kid]


def test_a_key_vouches_only_for_a_lane_that_was_told_to_rotate(owner: Repository, lanes: Enrolments) -> None:
    asked = enrolment.parse(asking(1, old=0))
    assert not lanes.vouched(asked, NOW)
    assert lanes.take_up(asking(1, old=0), NOW) is None
    lanes.rotate("lane-1")
    assert lanes.vouched(asked, NOW)


def test_a_key_that_was_replaced_or_revoked_has_no_say_in_who_comes_next(owner: Repository, lanes: Enrolments) -> None:
    rotate(lanes, asking(1, old=0))
    with pytest.raises(RequestInvalid, match="does not vouch"):
        rotate(lanes, asking(2, old=0))
    owner.edit(revoked=(Revocation(kid=key(1).public.kid.hex(), at=NOW),))
    with pytest.raises(RequestInvalid, match="does not vouch"):
        rotate(lanes, asking(2, old=1))
    assert set(listed(owner)) == {0, 1}


def test_a_request_that_comes_again_changes_nothing(owner: Repository, lanes: Enrolments) -> None:
    """A broker kept it, and brings it when the lane is told to rotate the next time."""
    first, second = asking(1, old=0), asking(2, old=1)
    rotate(lanes, first)
    rotate(lanes, second)
    before = listed(owner)
    for again in (first, second):
        with pytest.raises(RequestInvalid, match="already"):
            rotate(lanes, again)
    assert listed(owner) == before
    assert (owner.directory / "requests" / "lane-1").read_bytes() == second


def test_a_key_that_the_owner_confirms_anew_has_no_end_any_more(owner: Repository, lanes: Enrolments) -> None:
    """The box lost the newer one."""
    rotate(lanes, asking(1, old=0))
    enrol(lanes, asking(0), NOW + DAY)
    assert listed(owner) == {1: None, 0: None}
    assert rotate(lanes, asking(2, old=0), NOW + DAY)


def test_a_revoked_key_is_not_enrolled_again(owner: Repository, lanes: Enrolments) -> None:
    owner.edit(revoked=(Revocation(kid=key(0).public.kid.hex(), at=NOW),))
    with pytest.raises(RequestInvalid, match="is revoked"):
        enrol(lanes, asking(0))


def certificate(owner: Repository) -> bytes:
    """What the lane would fetch once it is signed."""
    sign(owner)
    return (owner.published / "targets" / "certificates" / "lane-1.pem").read_bytes()


def renewed(lanes: Enrolments, days: int) -> list[str]:
    return list(lanes.renew(NOW, days * DAY))


def test_certificates_are_renewed_when_they_end_soon(owner: Repository, lanes: Enrolments) -> None:
    before = certificate(owner)
    assert renewed(lanes, 300) == []
    assert certificate(owner) == before
    assert renewed(lanes, 400) == ["lane-1"]
    assert certificate(owner) != before


def test_a_lane_that_has_no_certificate_yet_fetches_the_signed_one_until_a_new_one_is_signed(
    tmp_path: Path, owner: Repository, lanes: Enrolments
) -> None:
    before = certificate(owner)
    assert renewed(lanes, 400) == ["lane-1"]

    def fetched() -> bytes | None:
        trust = Trust(tmp_path / "lane", owner.roots.first_bytes)
        trust.refresh(DirectoryCarrier(owner.published), NOW)
        return trust.target("certificates/lane-1.pem")

    assert fetched() == before
    sign(owner)
    assert fetched() != before


def test_a_request_whose_taking_up_was_interrupted_is_taken_up_again(owner: Repository, lanes: Enrolments) -> None:
    in_the_way = owner.directory / "requests" / f"lane-1.{os.getpid()}.part"
    in_the_way.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        rotate(lanes, asking(1, old=0))
    in_the_way.rmdir()
    assert lanes.take_up(asking(1, old=0), NOW)
    sign(owner)
    assert list(lanes.renew(NOW + 320 * DAY, 60 * DAY)) == ["lane-1"]


def test_a_key_that_the_draft_has_no_room_for_leaves_the_lanes_request_as_it_was(
    owner: Repository, lanes: Enrolments
) -> None:
    for number in range(1, 16):
        enrol(lanes, asking(number))
    with pytest.raises(AuthorityInvalid):
        enrol(lanes, asking(16))
    assert (owner.directory / "requests" / "lane-1").read_bytes() == asking(15)


@pytest.mark.parametrize("left", [b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_certificate_that_was_half_written_is_issued_anew(owner: Repository, lanes: Enrolments, left: bytes) -> None:
    (owner.directory / "certificates" / "lane-1.pem").write_bytes(left)
    assert renewed(lanes, 60) == ["lane-1"]
    assert renewed(lanes, 60) == []


def test_a_box_whose_key_counts_no_more_gets_no_certificate(owner: Repository, lanes: Enrolments) -> None:
    owner.edit(revoked=(Revocation(kid=key(0).public.kid.hex(), at=NOW),))
    assert renewed(lanes, 400) == []
    enrol(lanes, asking(1))
    assert renewed(lanes, 400) == ["lane-1"]
