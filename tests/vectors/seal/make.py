"""Makes the vectors beside it again: `python -m tests.vectors.seal.make`. Sealing is random, so every run differs.

The keys are for these vectors only. docs/wire-format.md says what the bytes mean.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge import cbor, record
from edge.record import GapRecord, LaneRecord, NoRead
from edge.seal import cose, envelope, receipt
from edge.seal.chain import ChainState
from edge.seal.envelope import LANE_HEADER, EpochLink, Sealer
from edge.seal.keys import KeyType, PrivateKey
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.sealing import AUDIT, CHECKPOINT, NO_READ, NOW, READ, recipient_key, signing_key

HERE = Path(__file__).parent
LANE = FileSigner(signing_key(KeyType.ED25519))
LANE_P256 = FileSigner(signing_key(KeyType.P256))
COLLECTOR = FileSigner(signing_key(KeyType.ED25519, "collector"))
X25519, P256, HYBRID = (recipient_key(kind) for kind in (KeyType.X25519, KeyType.P256, KeyType.MLKEM768_X25519))


def sealer(signer: FileSigner, *recipients: PrivateKey) -> Sealer:
    return Sealer("lane-1", signer, tuple(key.public for key in recipients), 3, now_ns=lambda: NOW.utc_ns)


def number(epoch: int) -> str:
    """An epoch as 16 hex digits: JSON's numbers end at 2^53 in many languages."""
    return f"{epoch:016x}"


def message(said: LaneRecord, data: bytes) -> dict[str, Any]:
    found = envelope.parse(data)
    header = found.header
    link = header.prev
    return {
        "message": data.hex(),
        "digest": found.digest.hex(),
        "signer": found.kid.hex(),
        "recipients": [kid.hex() for kid in found.recipients],
        "header": {
            "version": header.version,
            "lane": header.lane,
            "epoch": number(header.epoch),
            "seq": header.seq,
            "prev": {"epoch": number(link.epoch), "head": link.head.hex()}
            if isinstance(link, EpochLink)
            else link and link.hex(),
            "time_ns": header.time_ns,
            "kind": str(header.kind),
            "trust_version": header.trust_version,
            "gap": header.gap and [header.gap.first_seq, header.gap.last_seq, header.gap.last_hash.hex()],
        },
        "plaintext": record.encode(said).hex(),
    }


def suites() -> Iterator[dict[str, Any]]:
    """Each signature algorithm with each recipient, then with all three at once."""
    for signer in (LANE, LANE_P256):
        for recipients in ((X25519,), (P256,), (HYBRID,), (X25519, P256, HYBRID)):
            yield message(READ, sealer(signer, *recipients).seal(READ, 2**64 - 1, 12, bytes(range(32))).data)


def chain() -> Iterator[dict[str, Any]]:
    """Two linked epochs; in the first, 4 and 5 are given up and declared by 7."""
    state = ChainState.start(0x1122334455667788)
    gone = b""
    for said in (AUDIT, READ, CHECKPOINT, READ, NO_READ, replace(READ, restarted=True), None, CHECKPOINT):
        record_ = said or GapRecord(4, 5, 2, "outbox-full", gone)
        made = sealer(LANE, X25519).seal(record_, state.epoch, state.next_seq, state.prev)
        if state.next_seq not in (4, 5):
            yield message(record_, made.data)
        if state.next_seq == 5:
            gone = made.digest
        state = state.after(made.digest)
    assert isinstance(state.prev, bytes)
    state = ChainState.start(0x99AABBCCDDEEFF00, EpochLink(state.epoch, state.prev))
    for said in (AUDIT, READ):
        made = sealer(LANE, X25519).seal(said, state.epoch, state.next_seq, state.prev)
        state = state.after(made.digest)
        yield message(said, made.data)


def refused() -> Iterator[dict[str, str]]:
    """Messages of a wrong shape, most of them rightly signed, with the code of the refusal."""
    whole = envelope.parse(sealer(LANE, X25519).seal(READ, 7, 12, bytes(range(32))).data)
    headers: Any = dict(whole.outer.headers.protected_map)

    def signed(protected: Any, payload: bytes = whole.outer.payload) -> bytes:
        return cose.Sign1.sign(cose.Headers(cbor.encode(protected)), payload, LANE).encode()

    def lane(**changed: Any) -> Any:
        fields = {**headers[LANE_HEADER], **{int(key[1:]): value for key, value in changed.items()}}
        return {**headers, LANE_HEADER: fields}

    cases = {
        "a byte after the message": whole.data + b"\0",
        "a message cut short": whole.data[:-1],
        "no tag": whole.data[1:],
        "crit asks for another header": signed({**headers, 2: [LANE_HEADER, 99], 99: 1}),
        "crit is missing": signed({key: value for key, value in headers.items() if key != 2}),
        "an unknown header": signed({**headers, 99: 1}),
        "an unknown field of the lane's header": signed(lane(_9=1)),
        "another content type": signed({**headers, 3: 97}),
        "EdDSA, which is not fully specified": signed({**headers, 1: -8}),
        "a gap in a read": signed(lane(_8=[2, 3, bytes(32)])),
        "no digest of the message before": signed(lane(_4=None)),
        "a number of zero": signed(lane(_3=0)),
        "another kind": signed(lane(_6="x")),
        "a payload that is no COSE_Encrypt": signed(headers, b"\xa0"),
        "bytes after the inner layer": signed(headers, whole.outer.payload + b"\0"),
    }
    for why, data in cases.items():
        yield {"why": why, "message": data.hex(), "code": "SEAL-01"}
    yield {"why": "format version 2", "message": signed(lane(_0=2)).hex(), "code": "SEAL-06"}


def wrong_records() -> Iterator[dict[str, str]]:
    """Plaintexts that are no record, each for the one reason that it names: all are whole blocks, as long as a read."""
    good = record.encode(READ)
    fields: Any = cbor.decode(good)
    bare = {key: value for key, value in fields.items() if key != 23}
    filled = cbor.encode({**bare, 11: ""})
    cases = {
        "padding that is not zero": good[:-1] + b"\1",
        "a block more of padding than needed": padded(bare, len(good) + record.BLOCK_BYTES),
        "no padding": cbor.encode({**bare, 11: "0" * (len(good) - len(filled) - 1)}),  # a text's longer head takes one
        "a text and a reason for none": padded({**bare, 6: {**bare[6], 1: str(NoRead.UNSURE)}}),
        "a plate in small letters": good.replace(b"AB12CDE", b"ab12cde"),
        "a map with a key twice": twice(bare, 4),
    }
    for why, data in cases.items():
        yield {"why": why, "kind": "r", "plaintext": data.hex(), "code": "REC-02"}


def padded(values: Any, size: int = record.LEAST_READ_BYTES) -> bytes:
    """A map with the padding that makes it `size` bytes long."""
    every = (cbor.encode({**values, 23: bytes(padding)}) for padding in range(size))
    return next(data for data in every if len(data) == size)


def twice(values: Any, key: int) -> bytes:
    """A map of fewer than 23 entries, padded, in which `key` comes twice, with the same value."""
    entry = cbor.encode({key: values[key]})[1:]
    whole = padded(values, record.LEAST_READ_BYTES - len(entry))
    end = len(cbor.encode({number: value for number, value in values.items() if number <= key}))
    return bytes([whole[0] + 1]) + whole[1:end] + entry + whole[end:]


def receipts() -> Iterator[dict[str, Any]]:
    for signer in (COLLECTOR, FileSigner(signing_key(KeyType.P256, "collector"))):
        said = Receipt("lane-1", 2**64 - 1, 42, bytes(range(32)), NOW.utc_ns)
        yield {
            "receipt": receipt.sign(said, signer).hex(),
            "signer": signer.public.kid.hex(),
            "lane": said.lane,
            "epoch": number(said.epoch),
            "up_to_seq": said.up_to_seq,
            "head": said.head.hex(),
            "time_ns": said.time_ns,
        }


def key(private: PrivateKey) -> dict[str, Any]:
    pem = [part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for part in private.parts]
    return {
        "purpose": str(private.public.purpose),
        "type": str(private.public.type),
        "kid": private.public.kid.hex(),
        "public": private.public.pem(),
        "private": "".join(pem),
    }


def main() -> None:
    signers = [signing_key(kind, name) for name in ("lane", "collector") for kind in (KeyType.ED25519, KeyType.P256)]
    vectors = {
        "keys": [key(one) for one in (*signers, X25519, P256, HYBRID)],
        "suites": list(suites()),
        "chain": list(chain()),
        "refused": list(refused()),
        "wrong_records": list(wrong_records()),
        "receipts": list(receipts()),
    }
    (HERE / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
