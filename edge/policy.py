"""Policy: one edition of the data owner's word on who may read, who may confirm, which lanes there are. Values only.

A JSON file, signed as a target of the owner's repository (`edge.trust`); keys are in it as the text of key files.
"""

import datetime
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from edge.errors import KeyFileError, PolicyMalformed, wrong_fields
from edge.seal import keys
from edge.seal.envelope import MAX_RECIPIENTS
from edge.seal.keys import PublicKey, Purpose

MAX_POLICY_BYTES = 1 << 20


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _key_of(purpose: Purpose) -> object:
    def parse(value: object) -> PublicKey:
        if isinstance(value, PublicKey):
            return value
        try:
            return keys.parse_public(str(value), purpose)
        except KeyFileError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(parse)


_as_pem = PlainSerializer(lambda key: key.pem())
SigningKey = Annotated[PublicKey, _key_of(Purpose.SIGNING), _as_pem]
RecipientKey = Annotated[PublicKey, _key_of(Purpose.RECIPIENT), _as_pem]


class Validity(Part):
    """When a key counts: from `since` until before `until`; None is open."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    note: str = Field("", max_length=200)

    def holds(self, at: datetime.datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


class Recipient(Validity):
    key: RecipientKey


class Collector(Validity):
    key: SigningKey


class LaneKey(Validity):
    key: SigningKey


class Lane(Part):
    """keys: those the lane may sign with; epochs: beginnings without a link that the owner knows of, in hex; rotate:
    the lane shall make itself a new key and ask for it."""

    keys: tuple[LaneKey, ...] = Field(max_length=16)
    epochs: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...] = Field((), max_length=256)
    rotate: bool = False


class Revocation(Part):
    """A key that counts for nothing that was signed from `at` on."""

    kid: str = Field(pattern=r"^[0-9a-f]{32}$")
    at: AwareDatetime
    reason: str = Field("", max_length=200)


class ModelBundle(Part):
    """The models that lanes read plates with: targets `models/NAME/FILE`. The name changes with the content."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    files: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], ...] = Field(max_length=8)


class Terms(Part):
    """What a policy says."""

    recipients: tuple[Recipient, ...] = Field((), max_length=32)
    collectors: tuple[Collector, ...] = Field((), max_length=64)
    lanes: dict[str, Lane] = Field({}, max_length=10_000)
    revoked: tuple[Revocation, ...] = Field((), max_length=10_000)
    aim_picture: bool = False
    """Whether a technician may see the mosaic of `sealane aim --picture`."""
    model: ModelBundle | None = None
    """None: the models that come with the software."""

    def revokes(self, key: PublicKey, at: datetime.datetime) -> bool:
        return any(one.kid == key.kid.hex() and one.at <= at for one in self.revoked)

    def over(self, one: Recipient | Collector | LaneKey, at: datetime.datetime) -> bool:
        """Whether the time of a key is over at `at`. A policy that is issued later says the same without it."""
        return (one.until is not None and one.until <= at) or self.revokes(one.key, at)


class Policy(Terms):
    """One edition of the owner's word. Append-only: a record names the edition (`version`) that it was sealed under.

    What it says of a time before it was issued it says of the time when it was: a lane whose clock is behind seals for
    the same readers, and its messages count. At no time are there more readers than a message has places for.
    """

    version: int = Field(ge=1)
    issued: AwareDatetime
    recipients: tuple[Recipient, ...] = Field(min_length=1, max_length=32)

    def readers_at(self, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Who holds as a recipient at that time: it may be nobody."""
        return tuple(one.key for one in self.recipients if one.holds(at) and not self.revokes(one.key, at))

    def recipients_at(self, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Whom to seal for. If none holds at that time, those that held last: a record must never have no reader."""
        at = max(at, self.issued)
        if holding := self.readers_at(at):
            return holding
        kept = [one for one in self.recipients if not self.revokes(one.key, at)] or list(self.recipients)
        last = max((one.until or at for one in kept), default=at)
        return tuple(one.key for one in kept if (one.until or at) == last)

    def collectors_at(self, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Whose receipts count."""
        at = max(at, self.issued)
        return tuple(one.key for one in self.collectors if one.holds(at) and not self.revokes(one.key, at))

    def lane_keys_at(self, lane: str, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Which keys `lane` may sign with."""
        at = max(at, self.issued)
        enrolled = self.lanes.get(lane)
        if enrolled is None:
            return ()
        return tuple(one.key for one in enrolled.keys if one.holds(at) and not self.revokes(one.key, at))

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    @model_validator(mode="after")
    def _readers_fit(self) -> "Policy":
        kids = {one.key.kid.hex() for one in self.recipients}
        changes = {self.issued, *(one.at for one in self.revoked if one.kid in kids)}
        changes |= {at for one in self.recipients for at in (one.since, one.until) if at is not None}
        if any(len(self.recipients_at(at)) > MAX_RECIPIENTS for at in changes):
            raise ValueError(f"more than {MAX_RECIPIENTS} recipients hold at a time")
        return self


def parse_policy(data: bytes) -> Policy:
    """The policy in a target file. PolicyMalformed, naming the fields that are wrong."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyMalformed(f"{len(data)} bytes, more than {MAX_POLICY_BYTES}")
    try:
        return Policy.model_validate_json(data)
    except ValidationError as error:
        raise PolicyMalformed(wrong_fields(error)) from error
