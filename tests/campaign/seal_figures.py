"""Bytes and milliseconds of the seal, as tables for docs/benchmarks.md: `make benchmark-seal`.

Milliseconds are of processor time (one core), the median of ROUNDS; the record is a read with every field filled.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cryptography

from edge import record
from edge.outbox import Limits
from edge.seal import envelope
from edge.seal.chain import ChainVerifier
from edge.seal.envelope import Sealer
from edge.seal.keys import KeyType
from edge.seal.opener import FileOpener
from edge.seal.signer import FileSigner
from tests.sealing import CHECKPOINT, READ, outbox, read, recipient_key, signing_key

ROUNDS = 400
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
    for signs_with in SIGNERS:
        signer = FileSigner(signing_key(signs_with))
        sealer = Sealer("lane-1", signer, (recipient_key().public, recipient_key(name="escrow").public))
        prev, messages = None, []
        for seq in range(1, 2001):
            made = sealer.seal(READ if seq % 10 else CHECKPOINT, 7, seq, prev)
            prev = made.digest
            messages.append(made.data)
        verifier = ChainVerifier("lane-1", from_start=True)
        start = time.process_time()
        for data in messages:
            found = envelope.parse(data)
            envelope.verify(found, signer.public)
            assert not verifier.accept(found).alarm
        rate = len(messages) / (time.process_time() - start)
        print(f"Parsed, verified and judged by the chain, {signs_with}: {rate:,.0f} messages a second and core.")


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
