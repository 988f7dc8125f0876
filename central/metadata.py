"""TUF metadata as python-tuf has it: our keys and signers in its terms, and files of it opened."""

import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]
from securesystemslib.signer import Signer as SslibSigner  # type: ignore[attr-defined]
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from central.folder import read
from edge.errors import AuthorityUnusable
from edge.seal.keys import PublicKey
from edge.seal.signer import Signer


def tuf_key(public: PublicKey) -> Any:
    return SSlibKey.from_crypto(public.parts[0], keyid=public.kid.hex())


class TufSigner(SslibSigner):
    """A signer of ours, as python-tuf asks for it."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Any:
        return tuf_key(self._signer.public)

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> "TufSigner":
        raise NotImplementedError("sealane opens its own key files")

    def sign(self, payload: bytes) -> Signature:
        raw = self._signer.sign(payload)
        if isinstance(self._signer.public.parts[0], ec.EllipticCurvePublicKey):  # TUF has ASN.1, COSE has not
            raw = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        return Signature(self._signer.public.kid.hex(), raw.hex())


def opened(path: Path, role: str) -> "Metadata[Any]":
    """AuthorityUnusable."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(read(path))
    except DeserializationError as error:
        raise AuthorityUnusable(f"{path} is no metadata") from error
    if metadata.signed.type != role:
        raise AuthorityUnusable(f"{path} is metadata of another kind: {metadata.signed.type}")
    return metadata


def in_days(now: datetime.datetime, days: int) -> datetime.datetime:
    """When what is signed now ends."""
    return now.replace(microsecond=0) + datetime.timedelta(days=days)
