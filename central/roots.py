"""Roots: the one in force, the next one until enough have signed it, and what that one changes.

The next root is a file that root signers carry to one another; once it has its signatures it is carried back to where
it was drafted.
"""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]
from tuf.api.serialization import SerializationError

from central.folder import Turn, in_turn, write
from central.metadata import TufSigner, in_days, opened, tuf_key
from edge import enrolment
from edge.errors import (
    AuthorityBusy,
    AuthorityKeyShared,
    AuthorityNothingToSign,
    AuthorityRootPending,
    AuthorityRootUnfit,
    AuthorityThreshold,
    AuthorityThresholdUnreachable,
    AuthorityUnknown,
    AuthorityUnusable,
    KeyFileError,
    clean,
)
from edge.seal import keys
from edge.seal.keys import PublicKey, Purpose, fingerprint
from edge.seal.signer import Signer

ROOT_DAYS = 730
ROLES = {"root": "root", "targets": "targets", "snapshot": "online", "timestamp": "online"}
"""What TUF calls them, and what they are called here."""


class Roots:
    """Those of a repository. metadata: the folder of what is published; file: the next one; turn: who changes them."""

    def __init__(self, metadata: Path, file: Path, turn: Turn) -> None:
        self._metadata = metadata
        self._file = file
        self.turn = turn

    @property
    def current(self) -> Metadata[Root]:
        return opened(self._metadata / "root.json", "root")

    @property
    def first_bytes(self) -> bytes:
        """What lanes started from before there was another."""
        return (self._metadata / "1.root.json").read_bytes()

    @property
    def newest_bytes(self) -> bytes:
        """What a lane starts from that is enrolled now: keys that went with an older one have no say there."""
        return (self._metadata / "root.json").read_bytes()

    @property
    def fingerprint(self) -> str:
        """Of what a lane starts from, for people to compare at the box: whoever carries that there may swap it."""
        return enrolment.fingerprint(self.newest_bytes)

    @property
    def until(self) -> datetime.datetime:
        """When lanes begin to say so all the same, until enough root keys have signed a new root."""
        return self.current.signed.expires

    @property
    def pending(self) -> Metadata[Root] | None:
        """The next root, if one was drafted that is not published yet. AuthorityRootUnfit if it can't be the next."""
        if not self._file.exists():
            return None
        try:
            pending: Metadata[Root] = opened(self._file, "root")
            _ = pending.signed_bytes  # what it says may have no canonical form, such as a fraction
        except AuthorityUnusable as error:
            raise AuthorityRootUnfit(error.what) from error
        except SerializationError as error:
            raise AuthorityRootUnfit(f"nobody can sign what {self._file} says") from error
        version, known = pending.signed.version, self.current.signed.version
        if version <= known:
            return None
        if version > known + 1:
            raise AuthorityRootUnfit(f"root {version} is pending, and this folder is at root {known}")
        if pending.signed.consistent_snapshot:
            raise AuthorityRootUnfit("the pending root would have every file called by another name")
        _refuse_misnamed(pending.signed)
        return pending

    def to_sign(self) -> Metadata[Root]:
        """The pending root. AuthorityNothingToSign without one."""
        pending = self.pending
        if pending is None:
            raise AuthorityNothingToSign(f"no new root is pending after root {self.current.signed.version}")
        return pending

    @in_turn
    def propose(
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

        It counts once enough old and enough new root keys have signed it. AuthorityUnknown,
        AuthorityThresholdUnreachable; AuthorityKeyShared if one would have two roles; AuthorityRootPending if one is
        pending: the signatures that it has would be lost.
        """
        if self.pending is not None:
            raise AuthorityRootPending(f"a new root is pending in {self._file}")
        root = self.current.signed
        for kid in remove:
            if kid not in root.roles["root"].keyids:
                raise AuthorityUnknown(f"no root key {fingerprint(bytes.fromhex(kid))}")
            root.revoke_key(kid, "root")
        for key in add:
            root.add_key(tuf_key(key), "root")
        for name, chosen in (("targets", targets), ("snapshot", online), ("timestamp", online)):
            if chosen is not None:
                for kid in list(root.roles[name].keyids):
                    root.revoke_key(kid, name)
                root.add_key(tuf_key(chosen), name)
        role = root.roles["root"]
        role.threshold = _reachable(threshold or role.threshold, len(role.keyids))
        _refuse_shared(root)
        root.version += 1
        root.expires = in_days(now, ROOT_DAYS)
        write(self._file, Metadata(root).to_bytes())

    @in_turn
    def sign(self, signers: Iterable[Signer], *, shown: Metadata[Root] | None = None) -> bool:
        """Add signatures to the pending root; True once it has enough and is published.

        The file stays, for the folder where it was drafted. shown: what it must still say. AuthorityNothingToSign;
        AuthorityThreshold for a key that neither the old nor the new root names; AuthorityBusy.
        """
        pending = self.to_sign()
        if shown is not None and shown.signed != pending.signed:
            raise AuthorityBusy(f"{self._file} is not what was shown any more")
        named = {kid for root in (self.current, pending) for kid in root.signed.roles["root"].keyids}
        for signer in signers:
            if signer.public.kid.hex() not in named:
                raise AuthorityThreshold(f"the key {signer.public.fingerprint} is no root key, old or new")
            pending.sign(TufSigner(signer), append=True)
        write(self._file, pending.to_bytes())
        if not self._is_complete(pending):
            return False
        for name in (f"{pending.signed.version}.root.json", "root.json"):
            write(self._metadata / name, pending.to_bytes())
        return True

    @in_turn
    def take(self) -> bool:
        """Publish a pending root that was brought with enough signatures; False if there is none."""
        pending = self.pending
        return pending is not None and self._is_complete(pending) and self.sign(())

    def _is_complete(self, root: Metadata[Root]) -> bool:
        return bool(root.signed.get_root_verification_result(self.current.signed, root.signed_bytes, root.signatures))


def first_root(
    roots: Sequence[Signer], threshold: int, targets: PublicKey, online: PublicKey, now: datetime.datetime
) -> Metadata[Root]:
    """The root that a repository begins with, signed by all of `roots`. AuthorityThresholdUnreachable."""
    root = Root(version=1, expires=in_days(now, ROOT_DAYS), consistent_snapshot=False)
    for signer in roots:
        root.add_key(tuf_key(signer.public), "root")
    root.roles["root"].threshold = _reachable(threshold, len(roots))
    for role, key in (("targets", targets), ("snapshot", online), ("timestamp", online)):
        root.add_key(tuf_key(key), role)
    metadata = Metadata(root)
    for signer in roots:
        metadata.sign(TufSigner(signer), append=True)
    return metadata


def changes(before: Root, after: Root) -> Iterator[str]:
    """Keys that come and go and thresholds, a line each: what who signs `after` must know of it."""
    lines = []
    for role, name in ROLES.items():
        old, new = before.roles[role], after.roles[role]
        lines += [f"{name} key goes: {fingerprint(bytes.fromhex(kid))}" for kid in old.keyids if kid not in new.keyids]
        lines += [f"{name} key comes: {fingerprint(bytes.fromhex(kid))}" for kid in new.keyids if kid not in old.keyids]
        if role == "root" or old.threshold != new.threshold:
            told = f"{old.threshold} of {len(old.keyids)} {name} keys must sign"
            lines.append(f"{told}, from then on {new.threshold} of {len(new.keyids)}")
    lines.append(f"it holds until {after.expires:%Y-%m-%d}")
    yield from dict.fromkeys(lines)


def _reachable(threshold: int, count: int) -> int:
    if not 1 <= threshold <= count:
        raise AuthorityThresholdUnreachable(f"a threshold of {threshold} with {count} root keys")
    return threshold


def _refuse_shared(root: Root) -> None:
    """AuthorityKeyShared for a key of two roles."""
    roles: dict[str, str] = {}
    for role, name in ROLES.items():
        for kid in root.roles[role].keyids:
            if (other := roles.setdefault(kid, name)) != name:
                raise AuthorityKeyShared(f"{fingerprint(bytes.fromhex(kid))} would be a key of {other} and of {name}")


def _refuse_misnamed(root: Root) -> None:
    """AuthorityRootUnfit unless each key is called by its own fingerprint, which is all that a person compares."""
    named = {kid for role in root.roles.values() for kid in role.keyids}
    for kid in named | root.keys.keys():
        if kid not in root.keys or not _is_named_right(kid, root.keys[kid]):
            raise AuthorityRootUnfit(f"the pending root calls a key {clean(kid, 40)} that is another one")


def _is_named_right(kid: str, key: Any) -> bool:
    try:
        text = str(key.keyval["public"])
        if key.keytype == "ed25519":
            half = Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
            text = half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        known = tuf_key(keys.parse_public(text, Purpose.SIGNING))
    except (KeyFileError, KeyError, ValueError):
        return False
    return bool(known == key and known.keyid == kid)
