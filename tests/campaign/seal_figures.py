"""Bytes and milliseconds of the seal, as tables for docs/benchmarks.md: `make benchmark-seal`.

Milliseconds are of processor time (one core), the median of ROUNDS; the record is a read with every field filled.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cryptography

from central.lanes import PolicyKeys, admit
from central.options import utc_now
from central.repository import Repository
from central.store import Outcome, Store
from edge import record
from edge.carrier import DirectoryCarrier
from edge.outbox import Limits
from edge.policy import Lane, LaneKey, Recipient
from edge.seal import envelope
from edge.seal.chain import ChainVerifier
from edge.seal.envelope import Envelope, Sealer
from edge.seal.keys import KeyType, PublicKey
from edge.seal.opener import FileOpener
from edge.seal.signer import FileSigner
from edge.trust import Trust
from tests.sealing import CHECKPOINT, READ, outbox, read, recipient_key, signing_key

ROUNDS = 400
MESSAGES = 2000
BATCH = 64
"""Messages in one commit of a collector; it takes what is there, so a busier one has more."""
PREV = bytes(32)
SIGNERS = (KeyType.ED25519, KeyType.P256)
RECIPIENTS = (KeyType.X25519, KeyType.P256, KeyType.MLKEM768_X25519)


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median processor time of one call, ms."""
    taken = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        taken.append(time.process_time_ns() - start)
    return statistics.median(taken) / 1e6


def sealing() -> None:
    print("| recipients | signer | message bytes | seal + sign ms | parse + verify ms | open ms |")
    print("|---|---|---|---|---|---|")
    for signs_with in SIGNERS:
        signer = FileSigner(signing_key(signs_with))
        for kind in RECIPIENTS:
            for count in (1, 2, 3):
                recipients = [recipient_key(kind, f"recipient {number}") for number in range(count)]
                sealer = Sealer("lane-1", signer, tuple(key.public for key in recipients))
                made = sealer.seal(READ, 7, 12, PREV)
                found = envelope.parse(made.data)
                opener = FileOpener(recipients[-1])
                print(
                    f"| {count} x {kind} | {signs_with} | {len(made.data)}"
                    f" | {median_ms(lambda sealer=sealer: sealer.seal(READ, 7, 12, PREV)):.2f}"
                    f" | {median_ms(lambda made=made, signer=signer: _check(made.data, signer)):.2f}"
                    f" | {median_ms(lambda found=found, opener=opener: envelope.open_record(found, opener)):.2f} |"
                )


def _check(data: bytes, signer: FileSigner) -> None:
    envelope.verify(envelope.parse(data), signer.public)


def coding() -> None:
    data = record.encode(READ)
    print(f"\nRecord: {len(data)} bytes padded; encode {median_ms(lambda: record.encode(READ)):.3f} ms,", end=" ")
    print(f"decode {median_ms(lambda: record.decode('r', data)):.3f} ms.")


def collecting() -> None:
    """The audit's path beside the collector's own, in turn over the same messages: so their ratio holds on a machine
    that is busy with other things."""
    for signs_with in SIGNERS:
        signer = FileSigner(signing_key(signs_with))
        messages = _chain(signer)
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            lane_keys = _policy(Path(folder), signer.public)
            taken = [_ways(messages, signer, lane_keys, Path(folder, f"{turn}.sqlite")) for turn in range(5)]
        audit, *others = (statistics.median(way) for way in zip(*taken, strict=True))
        rate = f"{MESSAGES / audit:,.0f} messages a second and core"
        print(f"Parsed, verified and judged by the chain, {signs_with}: {rate}.")
        for what, seconds in zip(("admitted", f"admitted and stored, {BATCH} in a commit"), others, strict=True):
            print(f"- {what}: {MESSAGES / seconds:,.0f}, {audit / seconds:.2f} of that.")


def _policy(folder: Path, lane: PublicKey) -> PolicyKeys:
    """The owner's policy that names a lane's key: what a collector goes by."""
    targets, online, now = FileSigner(signing_key(name="targets")), FileSigner(signing_key(name="online")), utc_now()
    root = FileSigner(signing_key(name="root"))
    owner = Repository.create(folder / "owner", [root], 1, targets.public, online.public, now)
    owner.edit(
        recipients=(Recipient(key=recipient_key().public), Recipient(key=recipient_key(name="escrow").public)),
        lanes={"lane-1": Lane(keys=(LaneKey(key=lane),))},
    )
    owner.publish(targets, online, now)
    return PolicyKeys(Trust(folder / "trust", owner.roots.first_bytes), DirectoryCarrier(owner.published))


def _chain(signer: FileSigner) -> list[bytes]:
    sealer = Sealer("lane-1", signer, (recipient_key().public, recipient_key(name="escrow").public), 1)
    prev, messages = None, []
    for seq in range(1, MESSAGES + 1):
        made = sealer.seal(READ if seq % 10 else CHECKPOINT, 7, seq, prev)
        prev = made.digest
        messages.append(made.data)
    return messages


def _ways(messages: list[bytes], signer: FileSigner, lane_keys: PolicyKeys, file: Path) -> tuple[float, ...]:
    """Seconds of processor time: as `sealane audit` judges, as a collector admits, and as it admits and stores."""
    times = [time.process_time()]
    _judge(messages, signer)
    times.append(time.process_time())
    _admit(messages, lane_keys)
    times.append(time.process_time())
    store = Store(str(file))
    for first in range(0, MESSAGES, BATCH):
        admitted = _admit(messages[first : first + BATCH], lane_keys)
        outcomes, _ = store.add(admitted, time.time_ns(), lane_keys.epochs)
        assert set(outcomes) == {Outcome.STORED}
    store.close()
    times.append(time.process_time())
    return tuple(after - before for before, after in pairwise(times))


def _judge(messages: list[bytes], signer: FileSigner) -> None:
    verifier = ChainVerifier("lane-1", from_start=True)
    for data in messages:
        found = envelope.parse(data)
        envelope.verify(found, signer.public)
        assert not verifier.accept(found).alarm


def _admit(messages: list[bytes], lane_keys: PolicyKeys) -> list[Envelope]:
    return [admit("lane-1", data, lane_keys, time.time_ns()) for data in messages]


def storing() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder, outbox(Path(folder), Limits()) as box:
        wall, processor = time.monotonic(), time.process_time()
        for _ in range(ROUNDS):
            box.append(read())
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        print(
            f"Outbox: {1e3 * processor / ROUNDS:.2f} ms of processor and {1e3 * wall / ROUNDS:.1f} ms in all for each"
            " append (one transaction, synced to this disk)."
        )


if __name__ == "__main__":
    print(f"{platform.machine()}, Python {platform.python_version()}, cryptography {cryptography.__version__}\n")
    sealing()
    coding()
    collecting()
    storing()
