"""The owner's TUF repository: plain files that others carry, and the draft of the next policy. Says who signs what.

repository/   metadata/ and targets/: what is carried to lanes and collectors
draft.json    the terms of the next policy
unsigned/     files that become targets with it
pending-root.json   a new root, to be signed; and once it is, to be carried back to where it was drafted
.turn         held by the command that changes any of these
"""

import datetime
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from central.folder import PART, Turn, in_turn, read, whole_files, write
from central.metadata import TufSigner, in_days, opened
from central.roots import Roots, first_root
from edge.errors import (
    AuthorityExists,
    AuthorityInvalid,
    AuthorityMissing,
    AuthorityNothingToSign,
    AuthorityRefuses,
    AuthorityThreshold,
    AuthorityUnusable,
    PolicyMalformed,
    wrong_fields,
)
from edge.policy import Policy, Terms, parse_policy
from edge.seal.keys import PublicKey
from edge.seal.signer import Signer
from edge.trust import CURRENT_POLICY

TARGETS_DAYS = 365
FRESH_DAYS = 30
"""Timestamp and snapshot: how long the owner may be silent before lanes say so."""
LEAST_RECIPIENTS = 2
EDITION = re.compile(r"policy/([1-9][0-9]*)")


class Repository:
    """The repository in a folder. AuthorityMissing if there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.published = directory / "repository"
        self._metadata = self.published / "metadata"
        self._targets = self.published / "targets"
        self._unsigned = directory / "unsigned"
        self.turn = Turn(directory)
        self.roots = Roots(self._metadata, directory / "pending-root.json", self.turn)
        if not (self._metadata / "root.json").exists():
            raise AuthorityMissing(f"there is no authority in {directory}")

    @classmethod
    def create(
        cls,
        directory: Path,
        roots: Sequence[Signer],
        threshold: int,
        targets: PublicKey,
        online: PublicKey,
        now: datetime.datetime,
    ) -> "Repository":
        """A new repository, its root signed by all of `roots`, of which any `threshold` will do later.

        `targets` signs policies, `online` only that they are fresh. AuthorityExists, AuthorityThresholdUnreachable.
        """
        cls.refuse_existing(directory)
        root = first_root(roots, threshold, targets, online, now).to_bytes()
        part = directory / f"repository.{os.getpid()}{PART}"
        for name in ("1.root.json", "root.json"):
            write(part / "metadata" / name, root)
        part.rename(directory / "repository")
        return cls(directory)

    @staticmethod
    def refuse_existing(directory: Path) -> None:
        """AuthorityExists if there is one in the folder already."""
        if (directory / "repository").exists():
            raise AuthorityExists(f"there is an authority in {directory}")

    @property
    def fresh_until(self) -> datetime.datetime | None:
        """When lanes begin to say that the owner is silent."""
        return self._expires("timestamp")

    @property
    def policy_until(self) -> datetime.datetime | None:
        """When lanes begin to say so all the same, until a policy is signed with the targets key."""
        return self._expires("targets")

    @property
    def policy(self) -> Policy | None:
        """The newest that was signed."""
        return next(self.editions, None)

    @property
    def editions(self) -> Iterator[Policy]:
        """All that were signed, the newest first. AuthorityUnusable for one that is not here as it was signed."""
        signed = self._signed
        for version in sorted((int(found[1]) for found in map(EDITION.fullmatch, signed) if found), reverse=True):
            name = f"policy/{version}"
            data = read(self._targets / name)
            try:
                signed[name].verify_length_and_hashes(data)
            except LengthOrHashMismatchError as error:
                raise AuthorityUnusable(f"{self._targets / name} is not as it was signed") from error
            yield parse_policy(data)

    @property
    def draft(self) -> Terms:
        """The terms of the next policy; those of the newest one if nothing was changed."""
        path = self.directory / "draft.json"
        if path.exists():
            try:
                return Terms.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise AuthorityUnusable(f"{path} is no draft: {wrong_fields(error)}") from error
        return self._signed_terms

    @property
    def has_unsigned(self) -> bool:
        """Whether the draft says something else than the newest policy, or a file waits to be signed with it."""
        return bool(whole_files(self._unsigned)) or self.draft != self._signed_terms

    @in_turn
    def edit(self, /, **changes: object) -> Terms:
        """Change fields of the draft. AuthorityInvalid, with the draft as it was, for what no policy can say.

        Whoever makes them of what the draft says has the `turn` since it read that.
        """
        draft = self.edited(**changes)
        write(self.directory / "draft.json", draft.model_dump_json(indent=1).encode())
        return draft

    def edited(self, **changes: object) -> Terms:
        """What the draft would be. AuthorityInvalid."""
        changed = Terms.model_construct(**{**dict(self.draft), **changes}).model_dump_json()
        try:
            return Terms.model_validate_json(changed)
        except ValidationError as error:
            raise AuthorityInvalid(wrong_fields(error)) from error

    @in_turn
    def add_target(self, name: str, content: bytes) -> None:
        """A file to be signed with the next publication: a certificate, a part of a model bundle.

        Until then it is not among what is carried: lanes would refuse it in the place of the one that is signed.
        """
        write(self._unsigned / name, content)

    def next_policy(self, now: datetime.datetime, *, force: bool = False) -> Policy:
        """What `publish` would sign; the newest if the draft says the same. AuthorityRefuses, AuthorityInvalid."""
        before, draft = self.policy, self.draft
        if not draft.recipients:
            raise AuthorityInvalid("a policy needs recipients: `add-recipient` names those who may read")
        if before is not None and _terms(before) == draft:
            return before
        version = 1 if before is None else before.version + 1
        try:
            policy = parse_policy(Policy.model_construct(**dict(draft), version=version, issued=now).to_json())
        except PolicyMalformed as error:
            raise AuthorityInvalid(error.what) from error
        readers = len({key.kid for key in policy.readers_at(now)})
        if not readers:
            raise AuthorityInvalid("nobody could read: every recipient is revoked, over, or not yet valid")
        if readers < LEAST_RECIPIENTS and not force:
            raise AuthorityRefuses(f"the policy has {readers} reader; there must be {LEAST_RECIPIENTS}, one in escrow")
        return policy

    @in_turn
    def publish(self, targets: Signer, online: Signer, now: datetime.datetime, *, force: bool = False) -> Policy:
        """Sign the draft as the next policy, all targets, and that this is the newest.

        AuthorityRefuses for a policy with a single reader, AuthorityInvalid for one that lanes could not go by,
        AuthorityThreshold if a key is not the root's choice; nothing is published then.
        """
        for role, signer in (("targets", targets), ("snapshot", online)):
            if signer.public.kid.hex() not in self.roots.current.signed.roles[role].keyids:
                raise AuthorityThreshold(f"the key {signer.public.fingerprint} is not the one for {role}")
        policy = self.next_policy(now, force=force)
        edition = f"policy/{policy.version}"
        if policy != self.policy:
            write(self._targets / edition, policy.to_json())
        self.add_target(CURRENT_POLICY, read(self._targets / edition))
        files = whole_files(self._targets) | whole_files(self._unsigned)
        known = {*self._signed, edition}  # an edition that a failed attempt left behind was never signed
        found = {
            name: TargetFile.from_file(name, str(path))
            for name, path in files.items()
            if name in known or not EDITION.fullmatch(name)
        }
        signed = Targets(self._version("targets") + 1, expires=in_days(now, TARGETS_DAYS), targets=found)
        self._sign("targets", Metadata(signed), targets)
        self.freshen(online, now)
        (self.directory / "draft.json").unlink(missing_ok=True)
        return policy

    @in_turn
    def freshen(self, online: Signer, now: datetime.datetime) -> None:
        """Sign anew that what is published is the newest, for FRESH_DAYS. AuthorityNothingToSign."""
        if not self._version("targets"):
            raise AuthorityNothingToSign("no policy was published yet")
        self._carry_what_is_signed()
        expires = in_days(now, FRESH_DAYS)
        snapshot = Snapshot(
            self._version("snapshot") + 1,
            expires=expires,
            meta={"targets.json": MetaFile(self._version("targets"))},
        )
        timestamp = Timestamp(self._version("timestamp") + 1, expires=expires, snapshot_meta=MetaFile(snapshot.version))
        self._sign("snapshot", Metadata(snapshot), online)
        self._sign("timestamp", Metadata(timestamp), online)

    @in_turn
    def files(self) -> Mapping[str, bytes]:
        """All that is carried, by name; the timestamp last, as the others must be there before it."""
        files = sorted(whole_files(self.published).items(), key=lambda item: (item[0].endswith("timestamp.json"), item))
        return {name: path.read_bytes() for name, path in files}

    def _carry_what_is_signed(self) -> None:
        """Put the files that the newest targets metadata lists to what is carried; which may be another file system."""
        signed = self._signed
        for name, path in whole_files(self._unsigned).items():
            content = read(path)
            with suppress(KeyError, LengthOrHashMismatchError):
                signed[name].verify_length_and_hashes(content)
                write(self._targets / name, content)
                path.unlink()

    def _sign(self, role: str, metadata: "Metadata[Any]", by: Signer) -> None:
        metadata.sign(TufSigner(by))
        result = self.roots.current.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if not result:
            raise AuthorityThreshold(f"the key {by.public.fingerprint} is not the one for {role}")
        write(self._metadata / f"{role}.json", metadata.to_bytes())

    @property
    def _signed_terms(self) -> Terms:
        policy = self.policy
        return Terms() if policy is None else _terms(policy)

    @property
    def _signed(self) -> Mapping[str, TargetFile]:
        """The targets that are signed."""
        signed = self._published("targets")
        return {} if signed is None else signed.targets

    def _expires(self, role: str) -> datetime.datetime | None:
        signed = self._published(role)
        return None if signed is None else signed.expires

    def _version(self, role: str) -> int:
        """Of the published metadata; 0 if there is none."""
        signed = self._published(role)
        return 0 if signed is None else signed.version

    def _published(self, role: str) -> Any:
        path = self._metadata / f"{role}.json"
        return opened(path, role).signed if path.exists() else None


def _terms(policy: Policy) -> Terms:
    return Terms.model_validate({name: getattr(policy, name) for name in Terms.model_fields})
