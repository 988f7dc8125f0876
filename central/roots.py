"""Roots: what the next one changes, told to whoever signs it, and held against what a root of ours can say."""

from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import Root  # type: ignore[attr-defined]

from edge.errors import AuthorityRootUnfit, KeyFileError, clean
from edge.seal import keys
from edge.seal.keys import PublicKey, Purpose, fingerprint

ROLES = {"root": "root", "targets": "targets", "snapshot": "online", "timestamp": "online"}
"""What TUF calls them, and what they are called here."""


def tuf_key(public: PublicKey) -> Any:
    return SSlibKey.from_crypto(public.parts[0], keyid=public.kid.hex())


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


def refuse_misnamed(root: Root) -> None:
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
