"""The owner's TUF repository: plain files that others carry, and the draft of the next policy. Says who signs what.

repository/   metadata/ and targets/: what is carried to lanes and collectors
draft.json    the terms of the next policy
pending-root.json   a new root that lacks signatures
"""

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pydantic import ValidationError
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]
from securesystemslib.signer import Signer as SslibSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from edge.errors import (
    AuthorityExists,
    AuthorityInvalid,
    AuthorityMissing,
    AuthorityNothingToSign,
    AuthorityRefuses,
    AuthorityThreshold,
    AuthorityUnknown,
    AuthorityUnusable,
    PolicyMalformed,
    wrong_fields,
)
from edge.policy import Policy, Terms, parse_policy
from edge.seal.keys import PublicKey, fingerprint
from edge.seal.signer import Signer
from edge.trust import CURRENT_POLICY

ROOT_DAYS = 730
TARGETS_DAYS = 365
FRESH_DAYS = 30
"""Timestamp and snapshot: how long the owner may be silent before lanes say so."""
LEAST_RECIPIENTS = 2
PART = ".part"
"""What a file is called until it is whole."""


class Repository:
    """The repository in a folder. AuthorityMissing if there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.published = directory / "repository"
        self._metadata = self.published / "metadata"
        self._targets = self.published / "targets"
        self._pending = directory / "pending-root.json"
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

        `targets` signs policies, `online` only that they are fresh. AuthorityExists, AuthorityThreshold.
        """
        cls.refuse_existing(directory)
        if not 1 <= threshold <= len(roots):
            raise AuthorityThreshold(f"a threshold of {threshold} with {len(roots)} root keys")
        root = Root(version=1, expires=_in_days(now, ROOT_DAYS), consistent_snapshot=False)
        for signer in roots:
            root.add_key(_tuf_key(signer.public), "root")
        root.roles["root"].threshold = threshold
        root.add_key(_tuf_key(targets), "targets")
        root.add_key(_tuf_key(online), "snapshot")
        root.add_key(_tuf_key(online), "timestamp")
        metadata = Metadata(root)
        for signer in roots:
            metadata.sign(_TufSigner(signer), append=True)
        for name in ("1.root.json", "root.json"):
            write(directory / "repository" / "metadata" / name, metadata.to_bytes())
        return cls(directory)

    @staticmethod
    def refuse_existing(directory: Path) -> None:
        """AuthorityExists if there is one in the folder already."""
        if (directory / "repository").exists():
            raise AuthorityExists(f"there is an authority in {directory}")

    @property
    def root(self) -> Metadata[Root]:
        return _opened(self._metadata / "root.json")

    @property
    def root_bytes(self) -> bytes:
        """What a lane starts from; it never changes for it."""
        return (self._metadata / "1.root.json").read_bytes()

    @property
    def pending_root(self) -> Metadata[Root] | None:
        """The next root, if one was drafted that is not published yet."""
        pending = _opened(self._pending) if self._pending.exists() else None
        return pending if pending is not None and pending.signed.version > self.root.signed.version else None

    @property
    def root_until(self) -> datetime.datetime:
        """When lanes begin to say so all the same, until enough root keys have signed a new root."""
        return self.root.signed.expires

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
        """The newest that was published."""
        path = self._targets / CURRENT_POLICY
        return parse_policy(path.read_bytes()) if path.exists() else None

    @property
    def editions(self) -> Iterator[Policy]:
        """All that were published, the newest first."""
        newest = self.policy
        for version in range(newest.version if newest else 0, 0, -1):
            yield parse_policy((self._targets / f"policy/{version}").read_bytes())

    @property
    def draft(self) -> Terms:
        """The terms of the next policy; those of the newest one if nothing was changed."""
        path = self.directory / "draft.json"
        if path.exists():
            try:
                return Terms.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise AuthorityUnusable(f"{path} is no draft: {wrong_fields(error)}") from error
        return Terms() if self.policy is None else _terms(self.policy)

    def edit(self, **changes: object) -> Terms:
        """Change fields of the draft. AuthorityInvalid, with the draft as it was, for what no policy can say."""
        changed = Terms.model_construct(**{**dict(self.draft), **changes}).model_dump_json(indent=1)
        try:
            draft = Terms.model_validate_json(changed)
        except ValidationError as error:
            raise AuthorityInvalid(wrong_fields(error)) from error
        write(self.directory / "draft.json", changed.encode())
        return draft

    def add_target(self, name: str, content: bytes) -> None:
        """A file to be signed with the next publication: a certificate, a part of a model bundle."""
        write(self._targets / name, content)

    def publish(self, targets: Signer, online: Signer, now: datetime.datetime, *, force: bool = False) -> Policy:
        """Sign the draft as the next policy, all targets, and that this is the newest.

        AuthorityRefuses for a policy with a single reader, AuthorityInvalid for one that lanes could not go by,
        AuthorityThreshold if a key is not the root's choice; nothing is published then.
        """
        for role, signer in (("targets", targets), ("snapshot", online)):
            if signer.public.kid.hex() not in self.root.signed.roles[role].keyids:
                raise AuthorityThreshold(f"the key {signer.public.fingerprint} is not the one for {role}")
        policy = self._next_policy(now, force)
        if policy != self.policy:
            self.add_target(f"policy/{policy.version}", policy.to_json())
            self.add_target(CURRENT_POLICY, policy.to_json())
        files = {
            path.relative_to(self._targets).as_posix(): path
            for path in sorted(self._targets.rglob("*"))
            if path.is_file() and path.suffix != PART
        }
        found = {name: TargetFile.from_file(name, str(path)) for name, path in files.items()}
        signed = Targets(self._version("targets") + 1, expires=_in_days(now, TARGETS_DAYS), targets=found)
        self._sign("targets", Metadata(signed), targets)
        self.freshen(online, now)
        (self.directory / "draft.json").unlink(missing_ok=True)
        return policy

    def freshen(self, online: Signer, now: datetime.datetime) -> None:
        """Sign anew that what is published is the newest, for FRESH_DAYS. AuthorityNothingToSign."""
        if not self._version("targets"):
            raise AuthorityNothingToSign("no policy was published yet")
        expires = _in_days(now, FRESH_DAYS)
        snapshot = Snapshot(
            self._version("snapshot") + 1,
            expires=expires,
            meta={"targets.json": MetaFile(self._version("targets"))},
        )
        timestamp = Timestamp(self._version("timestamp") + 1, expires=expires, snapshot_meta=MetaFile(snapshot.version))
        self._sign("snapshot", Metadata(snapshot), online)
        self._sign("timestamp", Metadata(timestamp), online)

    def propose_root(
        self,
        now: datetime.datetime,
        *,
        add: Iterable[PublicKey] = (),
        remove: Iterable[str] = (),
        threshold: int | None = None,
        targets: PublicKey | None = None,
        online: PublicKey | None = None,
    ) -> None:
        """Draft a new root: root keys that come and go, another targets or online key.

        It counts once enough old and enough new root keys have signed it. AuthorityUnknown, AuthorityThreshold;
        AuthorityExists if one is pending: the signatures that it has would be lost.
        """
        if self.pending_root is not None:
            raise AuthorityExists(f"a new root is pending: have it signed, or remove {self._pending} to give it up")
        root = self.root.signed
        for kid in remove:
            if kid not in root.roles["root"].keyids:
                raise AuthorityUnknown(f"no root key {fingerprint(bytes.fromhex(kid))}")
            root.revoke_key(kid, "root")
        for key in add:
            root.add_key(_tuf_key(key), "root")
        for name, chosen in (("targets", targets), ("snapshot", online), ("timestamp", online)):
            if chosen is not None:
                for kid in list(root.roles[name].keyids):
                    root.revoke_key(kid, name)
                root.add_key(_tuf_key(chosen), name)
        role = root.roles["root"]
        role.threshold = threshold or role.threshold
        if not 1 <= role.threshold <= len(role.keyids):
            raise AuthorityThreshold(f"a threshold of {role.threshold} with {len(role.keyids)} root keys")
        root.version += 1
        root.expires = _in_days(now, ROOT_DAYS)
        write(self._pending, Metadata(root).to_bytes())

    def sign_root(self, signers: Iterable[Signer]) -> bool:
        """Add signatures to the pending root; True once it has enough and is published.

        AuthorityNothingToSign; AuthorityThreshold for a key that neither the old nor the new root names.
        """
        pending = self.pending_root
        if pending is None:
            raise AuthorityNothingToSign(f"no new root is pending after root {self.root.signed.version}")
        named = {kid for root in (self.root, pending) for kid in root.signed.roles["root"].keyids}
        for signer in signers:
            if signer.public.kid.hex() not in named:
                raise AuthorityThreshold(f"the key {signer.public.fingerprint} is no root key, old or new")
            pending.sign(_TufSigner(signer), append=True)
        result = pending.signed.get_root_verification_result(self.root.signed, pending.signed_bytes, pending.signatures)
        if not result:
            write(self._pending, pending.to_bytes())
            return False
        for name in (f"{pending.signed.version}.root.json", "root.json"):
            write(self._metadata / name, pending.to_bytes())
        self._pending.unlink()
        return True

    def files(self) -> Mapping[str, bytes]:
        """All that is carried, by name; the timestamp last, as the others must be there before it."""
        names = sorted(
            (
                path.relative_to(self.published).as_posix()
                for path in self.published.rglob("*")
                if path.is_file() and path.suffix != PART
            ),
            key=lambda name: (name.endswith("timestamp.json"), name),
        )
        return {name: (self.published / name).read_bytes() for name in names}

    def _next_policy(self, now: datetime.datetime, force: bool) -> Policy:
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

    def _sign(self, role: str, metadata: "Metadata[Any]", by: Signer) -> None:
        metadata.sign(_TufSigner(by))
        result = self.root.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if not result:
            raise AuthorityThreshold(f"the key {by.public.fingerprint} is not the one for {role}")
        write(self._metadata / f"{role}.json", metadata.to_bytes())

    def _expires(self, role: str) -> datetime.datetime | None:
        path = self._metadata / f"{role}.json"
        return _opened(path).signed.expires if path.exists() else None

    def _version(self, role: str) -> int:
        """Of the published metadata; 0 if there is none."""
        path = self._metadata / f"{role}.json"
        return _opened(path).signed.version if path.exists() else 0


class _TufSigner(SslibSigner):
    """A signer of ours, as python-tuf asks for it."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Any:
        return _tuf_key(self._signer.public)

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> "_TufSigner":
        raise NotImplementedError("sealane opens its own key files")

    def sign(self, payload: bytes) -> Signature:
        raw = self._signer.sign(payload)
        if isinstance(self._signer.public.parts[0], ec.EllipticCurvePublicKey):  # TUF has ASN.1, COSE has not
            raw = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        return Signature(self._signer.public.kid.hex(), raw.hex())


def _tuf_key(public: PublicKey) -> Any:
    return SSlibKey.from_crypto(public.parts[0], keyid=public.kid.hex())


def _terms(policy: Policy) -> Terms:
    return Terms.model_validate({name: getattr(policy, name) for name in Terms.model_fields})


def _in_days(now: datetime.datetime, days: int) -> datetime.datetime:
    return now.replace(microsecond=0) + datetime.timedelta(days=days)


def write(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, in a folder that is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _opened(path: Path) -> "Metadata[Any]":
    """AuthorityUnusable."""
    try:
        return Metadata.from_file(str(path))
    except DeserializationError as error:
        raise AuthorityUnusable(f"{path} is no metadata") from error
