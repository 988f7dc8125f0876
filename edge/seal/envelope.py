"""The message of a lane: a record, encrypted for its recipients, then signed by the lane (docs/wire-format.md).

This is a strict profile of COSE: one shape, one coding, every size bounded. What `parse` accepts, `Envelope` can be
asked about without any key; `verify` needs the lane's public key, `open_record` a recipient's private one.
"""

import datetime
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edge import record
from edge.cbor import Malformed, Value, encode
from edge.errors import KeyFileWrongKind, MessageMalformed, NotARecipient, SignatureInvalid, VersionUnsupported
from edge.record import GapRecord, Kind, LaneRecord
from edge.schema import Codec, blob, many, member, optional, row, shape, whole
from edge.seal import cose, fields
from edge.seal.keys import PublicKey, Purpose, fingerprint
from edge.seal.opener import ALGORITHMS, Opener, kem_public
from edge.seal.signer import Signer, algorithm_of, check

FORMAT_VERSION = 1
READABLE_VERSIONS = range(1, 2)
"""This program's own format version and the one before it."""
MAX_MESSAGE_BYTES = 32 * 1024
MAX_RECIPIENTS = 8
CONTENT_TYPE = 96
"""The payload is a COSE_Encrypt: header parameter 3 as CoAP content format."""
LANE_HEADER = -65537
CONTENT_KEY_BYTES = 32
TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class EpochLink:
    """The end of the epoch before this one: its number and the digest of its last message."""

    epoch: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """What a message of kind `g` declares given up: `first_seq` to `last_seq`, and the digest of the last of them."""

    first_seq: int
    last_seq: int
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What everybody may see of a message, signed.

    seq: from 1 within the epoch; prev: digest of the message before, and in an epoch's first message the end of the
    epoch before, or None for "none known"; time_ns: UTC when sealed; trust_version: of the policy that named the
    recipients; gap: in kind `g` only.
    """

    lane: str
    epoch: int
    seq: int
    prev: bytes | EpochLink | None
    time_ns: int
    kind: Kind
    trust_version: int = 0
    gap: Gap | None = None
    version: int = FORMAT_VERSION

    @property
    def time(self) -> datetime.datetime:
        """When it was sealed, to the microsecond: what the policy's dates are held against."""
        return datetime.datetime.fromtimestamp(self.time_ns / 1e9, datetime.UTC)


@dataclass(frozen=True)
class Envelope:
    """One message, well formed. Whether its signature holds is for `verify` to say."""

    data: bytes
    header: Header
    kid: bytes
    algorithm: int
    outer: cose.Sign1
    inner: cose.Encrypt

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the Sig_structure: what the next message's `prev` names."""
        return hashlib.sha256(self.outer.signed_bytes()).digest()

    @property
    def recipients(self) -> tuple[bytes, ...]:
        """The kids of those who can open it."""
        return tuple(_kid(one.headers) for one in self.inner.recipients)


@dataclass(frozen=True, slots=True)
class SealedMessage:
    """A message just made, and its digest for the next one's `prev`."""

    data: bytes
    digest: bytes


@dataclass(frozen=True)
class Sealer:
    """Who seals for this lane, and for whom. Made new when the policy changes; KeyFileWrongKind for keys of no use.

    recipients_at: who they are at a time, where that changes by itself; `recipients` are then those of the beginning.
    """

    lane: str
    signer: Signer
    recipients: tuple[PublicKey, ...]
    trust_version: int = 0
    now_ns: Callable[[], int] = time.time_ns
    recipients_at: Callable[[datetime.datetime], tuple[PublicKey, ...]] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.recipients) <= MAX_RECIPIENTS:
            raise KeyFileWrongKind(f"a record has 1 to {MAX_RECIPIENTS} recipients, not {len(self.recipients)}")
        if any(key.purpose is not Purpose.RECIPIENT for key in self.recipients):
            raise KeyFileWrongKind("a signing key cannot be a recipient")

    def seal(self, said: LaneRecord, epoch: int, seq: int, prev: bytes | EpochLink | None) -> SealedMessage:
        """`said` as the message (epoch, seq). RecordInvalid if a field of it is out of bounds."""
        gap = Gap(said.first_seq, said.last_seq, said.last_hash) if isinstance(said, GapRecord) else None
        header = Header(self.lane, epoch, seq, prev, self.now_ns(), record.kind_of(said), self.trust_version, gap)
        recipients = self.recipients if self.recipients_at is None else self.recipients_at(header.time)
        return seal(record.encode(said), header, recipients, self.signer)


def seal(plaintext: bytes, header: Header, recipients: Sequence[PublicKey], signer: Signer) -> SealedMessage:
    """A coded record, encrypted for `recipients`, signed by `signer`. MessageMalformed if a header is out of bounds."""
    try:
        protected = encode(_outer.put(_Outer(signer.algorithm, signer.public.kid, header)))
    except Malformed as error:
        raise MessageMalformed(str(error)) from error
    content_key = os.urandom(CONTENT_KEY_BYTES)
    inner = cose.Encrypt.encrypt(
        cose.Headers.of({cose.Label.ALG: cose.ContentAlgorithm.A256GCM}, {cose.Label.IV: os.urandom(12)}),
        plaintext,
        content_key,
        [
            cose.Recipient.wrap(
                ALGORITHMS[key.type], kem_public(key), key.kid, content_key, cose.ContentAlgorithm.A256GCM
            )
            for key in recipients
        ],
        external_aad=protected,
    )
    outer = cose.Sign1.sign(cose.Headers(protected), inner.encode(), signer)
    return SealedMessage(outer.encode(), hashlib.sha256(outer.signed_bytes()).digest())


def parse(data: bytes) -> Envelope:
    """The message in `data`. MessageMalformed, or VersionUnsupported for a format version this program cannot read."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageMalformed(f"{len(data)} bytes, more than {MAX_MESSAGE_BYTES}")
    try:
        outer = cose.Sign1.parse(data, critical=(LANE_HEADER,))
        _check_version(outer)
        return _profile(data, outer, cose.Encrypt.parse(outer.payload))
    except Malformed as error:
        raise MessageMalformed(str(error)) from error


def verify(envelope: Envelope, public: PublicKey) -> None:
    """SignatureInvalid unless the holder of `public` signed this very message."""
    if envelope.kid != public.kid or envelope.algorithm != algorithm_of(public):
        raise SignatureInvalid("the message names another signing key")
    check(envelope.algorithm, public.parts[0], envelope.outer.signed_bytes(), envelope.outer.signature)


def open_record(envelope: Envelope, opener: Opener) -> LaneRecord:
    """The record inside. NotARecipient, OpeningFailed, RecordMalformed. Verify first: opening proves no sender."""
    return record.decode(envelope.header.kind, open_plaintext(envelope, opener))


def open_plaintext(envelope: Envelope, opener: Opener) -> bytes:
    """The coded record inside. NotARecipient, OpeningFailed."""
    for one in envelope.inner.recipients:
        if _kid(one.headers) == opener.public.kid and one.headers.algorithm() == ALGORITHMS[opener.public.type]:
            content_key = one.unwrap(opener.half, cose.ContentAlgorithm.A256GCM)
            return envelope.inner.decrypt(content_key, external_aad=envelope.outer.headers.protected)
    names = ", ".join(fingerprint(kid) for kid in envelope.recipients)
    raise NotARecipient(f"sealed for {names}, not for {opener.public.fingerprint}")


def _check_version(outer: cose.Sign1) -> None:
    header = outer.headers.protected_map.get(LANE_HEADER)
    version = header.get(0) if isinstance(header, dict) else None
    if isinstance(version, int) and version not in READABLE_VERSIONS:
        raise VersionUnsupported(f"format version {version}")


def _profile(data: bytes, outer: cose.Sign1, inner: cose.Encrypt) -> Envelope:
    """The message, if both layers have exactly the shape that `seal` gives them."""
    said = _outer.get(outer.headers.protected_map)
    if outer.headers.unprotected or len(outer.signature) != fields.SIGNATURE_BYTES:
        raise Malformed("the outer layer has not the shape of this format")
    if inner.headers.protected != _INNER_PROTECTED or inner.headers.unprotected.keys() != {cose.Label.IV}:
        raise Malformed("the inner layer has not the shape of this format")
    _iv.get(inner.headers.unprotected[cose.Label.IV])
    if (len(inner.ciphertext) - TAG_BYTES) % record.BLOCK_BYTES or len(inner.ciphertext) <= TAG_BYTES:
        raise Malformed("the ciphertext is no whole number of blocks")
    if not 1 <= len(inner.recipients) <= MAX_RECIPIENTS:
        raise Malformed(f"must have 1 to {MAX_RECIPIENTS} recipients")
    for one in inner.recipients:
        _check_recipient(one)
    return Envelope(data, said.header, said.kid, said.algorithm, outer, inner)


def _check_recipient(one: cose.Recipient) -> None:
    protected, unprotected = one.headers.protected_map, one.headers.unprotected
    if protected.keys() != {cose.Label.ALG, cose.Label.KID} or unprotected.keys() != {cose.Label.EK}:
        raise Malformed("a recipient has not the shape of this format")
    _kid(one.headers)
    size = _ENCAPSULATED_BYTES.get(one.headers.algorithm())
    if size is None:
        raise Malformed("a recipient's algorithm is none of this format")
    blob(size, size).get(unprotected[cose.Label.EK])
    blob(CONTENT_KEY_BYTES + TAG_BYTES, CONTENT_KEY_BYTES + TAG_BYTES).get(one.ciphertext)


def _check_header(header: Header) -> None:
    if (header.seq == 1) == isinstance(header.prev, bytes):
        raise Malformed("the first message of an epoch links epochs, every other one links messages")
    if (header.gap is None) == (header.kind is Kind.GAP):
        raise Malformed("a gap is declared by messages of kind g, and by no others")
    if header.gap and not 2 <= header.gap.first_seq <= header.gap.last_seq < header.seq:
        raise Malformed("a gap must lie before the message that declares it, and spare the epoch's first")


@dataclass(frozen=True, slots=True)
class _Outer:
    algorithm: int
    kid: bytes
    header: Header
    critical: tuple[int, ...] = (LANE_HEADER,)
    content_type: int = CONTENT_TYPE


def _put_prev(prev: bytes | EpochLink | None) -> Value:
    return _link.put(prev) if isinstance(prev, EpochLink) else prev


def _get_prev(value: Value) -> bytes | EpochLink | None:
    if value is None:
        return None
    return fields.digest.get(value) if isinstance(value, bytes) else _link.get(value)


def _kid(headers: cose.Headers) -> bytes:
    return fields.kid.get(headers.get(cose.Label.KID))


_INNER_PROTECTED = encode({cose.Label.ALG: cose.ContentAlgorithm.A256GCM})
_ENCAPSULATED_BYTES = {cose.HPKE_4_KE: 32, cose.HPKE_7_KE: 65, cose.HPKE_9_KE: 1120}
_iv = blob(12, 12)
_link = row(EpochLink, epoch=fields.epoch, head=fields.digest)
_gap = row(Gap, first_seq=fields.seq, last_seq=fields.seq, last_hash=fields.digest)
_header: Codec[Header] = shape(
    Header,
    {
        0: ("version", whole(1, 255)),
        1: ("lane", fields.lane),
        2: ("epoch", fields.epoch),
        3: ("seq", fields.seq),
        4: ("prev", Codec(_put_prev, _get_prev)),
        5: ("time_ns", fields.time_ns),
        6: ("kind", member(Kind)),
        7: ("trust_version", whole(0, 2**63 - 1)),
        8: ("gap", optional(_gap)),
    },
    _check_header,
)
_outer: Codec[_Outer] = shape(
    _Outer,
    {
        cose.Label.ALG: ("algorithm", fields.algorithm),
        cose.Label.CRIT: ("critical", many(whole(LANE_HEADER, LANE_HEADER), 1)),
        cose.Label.CONTENT_TYPE: ("content_type", whole(CONTENT_TYPE, CONTENT_TYPE)),
        cose.Label.KID: ("kid", fields.kid),
        LANE_HEADER: ("header", _header),
    },
)
