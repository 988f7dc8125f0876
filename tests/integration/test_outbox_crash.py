"""The outbox against real ends of processes and a real full file system."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from edge.errors import OutboxDiskFull, OutboxFull
from edge.outbox import Limits, Outbox
from edge.record import ReadRecord
from edge.seal import envelope, keys
from edge.seal.chain import ChainVerifier
from edge.seal.opener import FileOpener
from edge.seal.receipt import Receipt
from tests.sealing import CHECKPOINT, NOW, outbox, read, recipient_key, sealer, signing_key

ROOT = Path(__file__).parents[2]
KILLS = 8


def run_until_killed(folder: Path, after_s: float) -> list[list[str]]:
    """Start the process, end it by SIGKILL in the middle of its work, and return what it had said."""
    log = folder / "said"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.outbox_process", str(folder)], stdout=said, cwd=ROOT
        )
        deadline = time.monotonic() + 30
        while log.stat().st_size == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after_s)
        assert process.poll() is None
        process.kill()
        process.wait()
    lines = log.read_text().split("\n")
    return [line.split() for line in lines[:-1]]


def test_a_process_killed_in_the_middle_loses_nothing_it_had_said(tmp_path: Path) -> None:
    keys.save(signing_key(), tmp_path / "lane")
    keys.save(recipient_key(), tmp_path / "owner")
    moments = Random(5)
    opened: list[str] = []
    said: dict[int, str] = {}
    for _ in range(KILLS):
        for word, *rest in run_until_killed(tmp_path, moments.uniform(0.05, 0.4)):
            if word == "opened":
                opened.append(rest[0])
            elif word == "read":
                said[int(rest[1])] = rest[0]
            elif word == "checkpoint":
                said[int(rest[0])] = "checkpoint"
    assert len(opened) > KILLS

    found: dict[int, str] = {}
    visits: list[str] = []
    verifier = ChainVerifier("lane-1", from_start=True)
    opener = FileOpener(recipient_key())
    with outbox(tmp_path, Limits()) as box:
        waiting = box.pending(limit=1_000_000)
        owed = [visit.passage_id.hex() for visit in box.interrupted]
    for one in waiting:
        message = envelope.parse(one.payload)
        envelope.verify(message, signing_key().public)
        assert not verifier.accept(message).alarm
        record = envelope.open_record(message, opener)
        found[one.seq] = "checkpoint"
        if isinstance(record, ReadRecord):
            visits.append(record.passage_id.hex())
            found[one.seq] = record.passage_id.hex()
    assert verifier.complete_up_to(waiting[0].epoch) == len(waiting)
    assert said.items() <= found.items()
    assert sorted(visits) == sorted(set(visits))
    assert set(visits) | set(owed) >= set(opened)
    assert len(owed) <= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, all of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "sealane-test", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_file_system_costs_reads_as_a_declared_gap_and_never_the_outbox(small_disk: Path) -> None:
    with Outbox.open(small_disk / "outbox.sqlite", sealer(), Limits(64 << 20, 1280 << 10)) as box:
        ballast = small_disk / "outbox.sqlite.ballast"
        assert ballast.stat().st_blocks * 512 >= 1280 << 10
        box.append(CHECKPOINT)
        for _ in range(2500):
            box.append(read())
        assert not ballast.exists()
        assert box.given_up > 0

        verifier = ChainVerifier("lane-1", from_start=True)
        digests = {}
        for _ in range(2000):
            batch = box.pending(limit=50)
            if not batch:
                break
            for one in batch:
                message = envelope.parse(one.payload)
                assert not verifier.accept(message).alarm
                digests[one.seq] = message.digest
            epoch = batch[0].epoch
            up_to = verifier.complete_up_to(epoch)
            box.confirm(Receipt("lane-1", epoch, up_to, digests[up_to], NOW.utc_ns))
        assert box.depth == 0
        assert verifier.complete_up_to(box.position.epoch) == box.position.next_seq - 1

        subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        box.append(read())
        last = envelope.parse(box.pending()[0].payload)
        box.confirm(Receipt("lane-1", last.header.epoch, last.header.seq, last.digest, NOW.utc_ns))
        assert ballast.exists()


def fill(disk: Path) -> Path:
    """Take all that is free."""
    hog = disk / "hog"
    with hog.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return hog
    return hog


def test_on_a_full_file_system_a_receipt_still_lets_the_outbox_forget(small_disk: Path) -> None:
    with Outbox.open(small_disk / "outbox.sqlite", sealer(), Limits(64 << 20, 1280 << 10)) as box:
        for _ in range(400):
            box.append(read())
        fill(small_disk)
        last = box.pending(limit=1000)[-1]
        receipt = Receipt("lane-1", last.epoch, last.seq, envelope.parse(last.payload).digest, NOW.utc_ns)
        assert box.confirm(receipt) == 400
        box.alive(NOW.utc_ns)
        box.open_visit(bytes(16), NOW)
        box.append(read(passage_id=bytes(16)))
        assert box.depth == 1


def test_a_disk_that_others_fill_is_named_and_the_outbox_goes_on_when_there_is_room(small_disk: Path) -> None:
    with Outbox.open(small_disk / "outbox.sqlite", sealer(), Limits(64 << 20, 64 << 10)) as box:
        box.append(CHECKPOINT)
        hog = fill(small_disk)
        with pytest.raises((OutboxDiskFull, OutboxFull)):  # noqa: PT012 - the room runs out somewhere in here
            for _ in range(3000):
                box.append(CHECKPOINT)
                fill(small_disk)
        made = box.position.next_seq
        hog.unlink()
        assert box.append(CHECKPOINT)[1] == made
