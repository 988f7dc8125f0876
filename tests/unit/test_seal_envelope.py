import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import cbor, record
from edge.cbor import Tag
from edge.errors import (
    KeyFileWrongKind,
    MessageMalformed,
    NotARecipient,
    OpeningFailed,
    RecordInvalid,
    SealaneError,
    SealError,
    SignatureInvalid,
    VersionUnsupported,
)
from edge.record import LaneRecord
from edge.seal import cose, envelope, keys
from edge.seal.envelope import LANE_HEADER, EpochLink
from edge.seal.keys import KeyType
from edge.seal.opener import FileOpener
from edge.seal.signer import FileSigner
from tests.sealing import EVERY_KIND, GAP, NOW, READ, recipient_key, sealer, signing_key

SIGNERS = (KeyType.ED25519, KeyType.P256)
RECIPIENTS = (KeyType.X25519, KeyType.P256, KeyType.MLKEM768_X25519)
PREV = bytes(range(32))


def message(said: LaneRecord = READ) -> bytes:
    return sealer().seal(said, 7, 12, PREV).data


@pytest.mark.parametrize("signs_with", SIGNERS)
@pytest.mark.parametrize("kind", RECIPIENTS)
@pytest.mark.parametrize("said", EVERY_KIND, ids=lambda said: type(said).__name__)
def test_the_owner_reads_what_the_lane_said(said: LaneRecord, kind: KeyType, signs_with: KeyType) -> None:
    made = sealer("lane-1", kind, signs_with=signs_with).seal(said, 2**64 - 1, 12, PREV)
    found = envelope.parse(made.data)
    envelope.verify(found, signing_key(signs_with).public)
    assert envelope.open_record(found, FileOpener(recipient_key(kind))) == said
    assert found.digest == made.digest
    assert found.header.kind == record.kind_of(said)
    assert (found.header.lane, found.header.epoch, found.header.seq) == ("lane-1", 2**64 - 1, 12)
    assert (found.header.prev, found.header.time_ns, found.header.trust_version) == (PREV, NOW.utc_ns, 3)


def test_each_of_several_recipients_reads_it_alone() -> None:
    found = envelope.parse(sealer("lane-1", *RECIPIENTS).seal(READ, 7, 12, PREV).data)
    assert found.recipients == tuple(recipient_key(kind).public.kid for kind in RECIPIENTS)
    for kind in RECIPIENTS:
        assert envelope.open_record(found, FileOpener(recipient_key(kind))) == READ


def test_a_gap_is_seen_without_any_key() -> None:
    header = envelope.parse(sealer().seal(GAP, 7, 12, PREV).data).header
    assert header.gap == envelope.Gap(GAP.first_seq, GAP.last_seq, GAP.last_hash)


def test_the_first_message_of_an_epoch_names_the_end_of_the_epoch_before_or_says_none() -> None:
    link = EpochLink(6, bytes(32))
    assert envelope.parse(sealer().seal(READ, 7, 1, link).data).header.prev == link
    assert envelope.parse(sealer().seal(READ, 7, 1, None).data).header.prev is None
    for seq, prev in ((1, PREV), (2, None), (2, link)):
        with pytest.raises(MessageMalformed, match="links"):
            sealer().seal(READ, 7, seq, prev)


def test_somebody_elses_key_opens_nothing() -> None:
    found = envelope.parse(message())
    with pytest.raises(NotARecipient):
        envelope.open_record(found, FileOpener(recipient_key(KeyType.X25519, "stranger")))


def test_a_key_of_the_right_name_and_the_wrong_bytes_opens_nothing() -> None:
    stranger = recipient_key(KeyType.X25519, "stranger")
    impostor = FileOpener(stranger)
    impostor.public = recipient_key().public
    with pytest.raises(OpeningFailed):
        envelope.open_record(envelope.parse(message()), impostor)


def test_another_lanes_key_does_not_verify() -> None:
    for kind in SIGNERS:
        with pytest.raises(SignatureInvalid):
            envelope.verify(envelope.parse(message()), signing_key(kind, "another").public)


def test_a_message_re_signed_by_another_lane_does_not_open() -> None:
    """The inner layer is bound to the outer headers: a stripped signature cannot be replaced by somebody else's."""
    stolen = envelope.parse(message())
    other = FileSigner(signing_key(name="another"))
    fields: Any = dict(stolen.outer.headers.protected_map)
    fields[cose.Label.KID] = other.public.kid
    forged = cose.Sign1.sign(cose.Headers.of(fields), stolen.outer.payload, other)
    found = envelope.parse(forged.encode())
    envelope.verify(found, other.public)
    with pytest.raises(OpeningFailed):
        envelope.open_record(found, FileOpener(recipient_key()))


def test_two_sealings_of_one_record_share_no_ciphertext() -> None:
    one, two = envelope.parse(message()).inner, envelope.parse(message()).inner
    assert one.ciphertext[:16] != two.ciphertext[:16]
    assert one.recipients[0].ciphertext != two.recipients[0].ciphertext


def test_the_length_of_a_message_does_not_tell_the_length_of_the_plate() -> None:
    def length(plate: str) -> int:
        reading = dataclasses.replace(
            READ.reading, text=record.PlateText(plate), chars=(0.5,) * len(plate), alternatives=()
        )
        return len(message(dataclasses.replace(READ, reading=reading)))

    assert length("A12CD") == length("AB12CDE")


def test_the_plate_is_nowhere_in_the_bytes() -> None:
    assert b"AB12CDE" not in message()


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    changed = bytearray(message())
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        envelope.verify(envelope.parse(bytes(changed)), signing_key().public)


@given(st.binary(max_size=400))
def test_bytes_from_anywhere_are_refused_with_a_code_and_nothing_else(data: bytes) -> None:
    with pytest.raises(MessageMalformed):
        envelope.parse(data)


@settings(max_examples=200)
@given(st.data())
def test_a_spliced_message_never_raises_outside_the_error_tree(data: st.DataObject) -> None:
    whole = message()
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    with contextlib.suppress(SealaneError):
        envelope.parse(whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])


def test_a_message_too_long_is_refused_unread() -> None:
    with pytest.raises(MessageMalformed, match="bytes, more than"):
        envelope.parse(bytes(envelope.MAX_MESSAGE_BYTES + 1))


def _outer(change: Callable[[dict[Any, Any]], object]) -> bytes:
    """The message with its outer protected headers changed and signed anew, as its own lane could."""
    whole = envelope.parse(message())
    fields: dict[Any, Any] = dict(whole.outer.headers.protected_map)
    fields[LANE_HEADER] = dict(fields[LANE_HEADER])
    change(fields)
    signer = FileSigner(signing_key())
    return cose.Sign1.sign(cose.Headers.of(fields), whole.outer.payload, signer).encode()


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("another content type", lambda fields: fields.update({3: 97})),
        ("no content type", lambda fields: fields.pop(3)),
        ("crit asks for more", lambda fields: fields.update({2: [LANE_HEADER, -70000], -70000: 1})),
        ("crit asks for nothing", lambda fields: fields.update({2: []})),
        ("crit asks for what is no label", lambda fields: fields.update({2: [[1], {}]})),
        ("no crit", lambda fields: fields.pop(2)),
        ("an unknown header", lambda fields: fields.update({99: 1})),
        ("an algorithm that is not ours", lambda fields: fields.update({1: -8})),
        ("a short kid", lambda fields: fields.update({4: b"kid"})),
        ("a lane id that no topic could hold", lambda fields: fields[LANE_HEADER].update({1: "lane/1"})),
        ("a negative number", lambda fields: fields[LANE_HEADER].update({3: -1})),
        ("a short digest", lambda fields: fields[LANE_HEADER].update({4: b"x" * 31})),
        ("an unknown kind", lambda fields: fields[LANE_HEADER].update({6: "x"})),
        ("a gap in a read", lambda fields: fields[LANE_HEADER].update({8: [1, 2, bytes(32)]})),
        ("no gap in kind g", lambda fields: fields[LANE_HEADER].update({6: "g"})),
        ("a gap that lies ahead", lambda fields: fields[LANE_HEADER].update({6: "g", 8: [3, 12, bytes(32)]})),
        ("a gap turned round", lambda fields: fields[LANE_HEADER].update({6: "g", 8: [4, 3, bytes(32)]})),
        ("a lane header of another shape", lambda fields: fields.update({LANE_HEADER: [1]})),
    ],
)
def test_a_signed_message_of_another_shape_is_refused(why: str, change: Callable[[dict[Any, Any]], object]) -> None:
    with pytest.raises(MessageMalformed):
        envelope.parse(_outer(change))


@pytest.mark.parametrize("version", [0, 2, 200])
def test_a_format_version_of_another_time_is_named(version: int) -> None:
    with pytest.raises(VersionUnsupported, match=str(version)):
        envelope.parse(_outer(lambda fields: fields[LANE_HEADER].update({0: version, 77: "new"})))


def _inner(change: Callable[[list[Any]], object]) -> bytes:
    """The message with its inner layer changed and signed anew."""
    whole = envelope.parse(message())
    tag = cbor.decode(whole.outer.payload)
    assert isinstance(tag, Tag)
    fields: Any = tag.value
    change(fields)
    return cose.Sign1.sign(whole.outer.headers, cbor.encode(Tag(96, fields)), FileSigner(signing_key())).encode()


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("another content algorithm", lambda fields: fields.__setitem__(0, cbor.encode({1: 1}))),
        ("a short IV", lambda fields: fields.__setitem__(1, {5: bytes(11)})),
        ("a second unprotected header", lambda fields: fields[1].update({6: b""})),
        ("a ciphertext that is no whole number of blocks", lambda fields: fields.__setitem__(2, fields[2][:-1])),
        ("no ciphertext", lambda fields: fields.__setitem__(2, bytes(16))),
        ("no recipients", lambda fields: fields.__setitem__(3, [])),
        ("too many recipients", lambda fields: fields.__setitem__(3, fields[3] * 9)),
        ("an algorithm not ours", lambda fields: fields[3][0].__setitem__(0, cbor.encode({1: 46, 4: PREV[:16]}))),
        ("a recipient without kid", lambda fields: fields[3][0].__setitem__(0, cbor.encode({1: 50}))),
        ("a recipient's kid unprotected", lambda fields: fields[3][0][1].update({4: bytes(16)})),
        ("an encapsulated key of the wrong length", lambda fields: fields[3][0].__setitem__(1, {-4: bytes(31)})),
        ("a wrapped key of the wrong length", lambda fields: fields[3][0].__setitem__(2, bytes(47))),
        ("a PSK", lambda fields: fields[3][0][1].update({-5: b"psk"})),
    ],
)  # fmt: skip
def test_a_signed_message_with_another_inside_is_refused(why: str, change: Callable[[list[Any]], object]) -> None:
    with pytest.raises(MessageMalformed):
        envelope.parse(_inner(change))


def test_an_encapsulated_key_that_is_no_point_opens_nothing() -> None:
    for value in (bytes(32), b"\x01" + bytes(31)):
        found = envelope.parse(_inner(lambda fields, value=value: fields[3][0].__setitem__(1, {-4: value})))
        with pytest.raises(OpeningFailed):
            envelope.open_record(found, FileOpener(recipient_key()))


def test_a_sealer_takes_only_keys_of_the_right_purpose_and_one_to_eight_of_them() -> None:
    signer = FileSigner(signing_key())
    with pytest.raises(KeyFileWrongKind):
        FileSigner(recipient_key())
    with pytest.raises(KeyFileWrongKind):
        FileOpener(signing_key())
    for recipients in ((), (signing_key().public,), (recipient_key().public,) * 9):
        with pytest.raises(KeyFileWrongKind):
            envelope.Sealer("lane-1", signer, recipients)
    with pytest.raises(KeyFileWrongKind):
        keys.make_signing_key(KeyType.X25519)
    with pytest.raises(KeyFileWrongKind):
        keys.make_recipient_key(KeyType.ED25519)


def test_a_record_out_of_bounds_is_not_sealed() -> None:
    with pytest.raises(RecordInvalid):
        sealer().seal(dataclasses.replace(READ, direction="up"), 7, 12, PREV)
