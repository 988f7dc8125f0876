"""An independent COSE-HPKE implementation opens what we seal, and we open what it seals."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge import record
from edge.record import LaneRecord
from edge.seal import envelope
from edge.seal.keys import KeyType
from edge.seal.opener import FileOpener
from tests.sealing import EVERY_KIND, GAP, NOW, READ, recipient_key, sealer, signing_key

CWT = Path(sys.prefix).with_name(".venv-cwt") / "bin" / "python"
PEER = Path(__file__).with_name("cwt_peer.py")
SIGNERS = {KeyType.ED25519: -19, KeyType.P256: -9}
RECIPIENTS = {KeyType.X25519: 50, KeyType.P256: 53}
"""HPKE-4-KE and HPKE-7-KE; cwt has no hybrid."""
PREV = bytes(range(32))


def ask(**request: Any) -> dict[str, Any]:
    if not CWT.exists():
        pytest.skip(f"{CWT} is not there (make test makes it): interoperation with cwt was NOT tested")
    done = subprocess.run([CWT, PEER], input=json.dumps(request), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def private_pem(kind: KeyType) -> str:
    return recipient_key(kind).parts[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def signer_pem(kind: KeyType) -> str:
    return signing_key(kind).parts[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: Any) -> str:
    return key.public.parts[0].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("signs_with", SIGNERS)
@pytest.mark.parametrize("kind", RECIPIENTS)
def test_cwt_verifies_and_opens_what_we_seal(kind: KeyType, signs_with: KeyType) -> None:
    for said in EVERY_KIND if kind is KeyType.X25519 else (READ,):
        answer = ask(
            do="open",
            data=sealer("lane-1", *RECIPIENTS, signs_with=signs_with).seal(said, 7, 12, PREV).data.hex(),
            signer=public_pem(signing_key(signs_with)),
            signer_alg=SIGNERS[signs_with],
            signer_kid=signing_key(signs_with).public.kid.hex(),
            recipient=private_pem(kind),
            recipient_alg=RECIPIENTS[kind],
            recipient_kid=recipient_key(kind).public.kid.hex(),
        )
        assert record.decode(record.kind_of(said), bytes.fromhex(answer["plaintext"])) == said
        assert answer["header"]["1"] == "lane-1"
        assert answer["header"]["4"] == PREV.hex()
        if said is GAP:
            assert answer["header"]["8"][:2] == [5, 9]


@pytest.mark.parametrize("signs_with", SIGNERS)
@pytest.mark.parametrize("kind", RECIPIENTS)
def test_we_verify_and_open_what_cwt_seals(kind: KeyType, signs_with: KeyType) -> None:
    said: LaneRecord = READ
    header = [(0, 1), (1, "lane-1"), (2, 7), (3, 12), (4, f"h{PREV.hex()}"), (5, NOW.utc_ns), (6, "r"), (7, 3)]
    answer = ask(
        do="make",
        header=header,
        plaintext=record.encode(said).hex(),
        signer=signer_pem(signs_with),
        signer_alg=SIGNERS[signs_with],
        signer_kid=signing_key(signs_with).public.kid.hex(),
        recipient=public_pem(recipient_key(kind)),
        recipient_alg=RECIPIENTS[kind],
        recipient_kid=recipient_key(kind).public.kid.hex(),
    )
    found = envelope.parse(bytes.fromhex(answer["data"]))
    envelope.verify(found, signing_key(signs_with).public)
    assert envelope.open_record(found, FileOpener(recipient_key(kind))) == said
    assert (found.header.lane, found.header.epoch, found.header.seq, found.header.prev) == ("lane-1", 7, 12, PREV)
