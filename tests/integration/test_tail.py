"""`sealane tail` as people and programs run it: over a real broker, from a store, with and without the owner's key."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.mqtt import Publication, topic
from edge.seal import keys
from tests.integration.lane_site import CANARY, Lane, Site, checkpoint, read, until


@pytest.fixture
def lane(site: Site) -> Lane:
    site.enrol("lane-1")
    return site.lane("lane-1")


def tail(site: Site, *words: object) -> list[str]:
    return [sys.executable, "-m", "edge", "tail", "--lanes", str(site.lane_keys), *map(str, words)]


def over_broker(site: Site) -> tuple[object, ...]:
    files = site.tls / "owner.central.pem", site.tls / "owner.central.key"
    address = f"localhost:{site.broker.port}"
    return ("--broker", address, "--ca", site.tls / "ca.pem", "--certificate", files[0], "--key", files[1])


@contextmanager
def listening(site: Site, *words: object) -> Iterator["_Heard"]:
    """The JSON lines of a running `sealane tail --json`."""
    command = tail(site, "--json", *over_broker(site), *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    heard = _Heard(process.stdout.fileno())
    until(lambda: "owner.central 1 lanes/v1/+/receipt" in site.broker.log.read_text())
    try:
        yield heard
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class _Heard(list[dict[str, Any]]):
    def __init__(self, file: int) -> None:
        self._file = file
        self._rest = b""

    def look(self) -> "_Heard":
        """What came until now."""
        try:
            self._rest += os.read(self._file, 1 << 20)
        except BlockingIOError:
            return self
        *lines, self._rest = self._rest.split(b"\n")
        self.extend(json.loads(line) for line in lines)
        return self


def run(site: Site, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(tail(site, *words), capture_output=True, text=True, timeout=30, check=False)


def messages(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "message"]


def test_with_the_owners_key_records_are_opened_and_receipts_told(site: Site, lane: Lane) -> None:
    words = ("--owner-key", site.root / "owner", "--collector-key", site.root / "collector.pub")
    with listening(site, *words) as heard, site.collecting(), lane.run():
        lane.append(read(), checkpoint(1))
        until(lambda: any(line["event"] == "receipt" and line["up_to"] == 2 for line in heard.look()))
    first, second = messages(heard)
    assert (first["lane"], first["seq"], first["kind"], first["alarm"]) == ("lane-1", 1, "r", None)
    assert first["record"]["reading"]["text"] == CANARY
    assert 0 <= first["delay_ms"] < 20_000
    assert second["record"]["outbox_depth"] == 1


def test_without_a_key_order_is_verified_and_nothing_is_opened(site: Site, lane: Lane) -> None:
    lane.append(read(), read())
    with site.collecting(), lane.run():
        until(lambda: lane.outbox.depth == 0)
    shown = run(site, "--store", site.store_address)
    assert shown.returncode == 0, shown.stderr
    assert "contents stay sealed" in shown.stdout
    assert shown.stdout.count("sealed") >= 3
    assert CANARY not in shown.stdout
    lines = run(site, "--store", site.store_address, "--json").stdout.splitlines()
    assert [json.loads(line)["record"] for line in lines] == [None, None]


def test_the_wrong_key_is_an_error_that_says_so(site: Site, lane: Lane) -> None:
    lane.append(read())
    with site.collecting(), lane.run():
        until(lambda: lane.outbox.depth == 0)
    keys.save(keys.make_recipient_key(), site.root / "other")
    shown = run(site, "--store", site.store_address, "--owner-key", site.root / "other")
    assert shown.returncode == 2
    assert "SEAL-03" in shown.stderr
    assert "hint:" in shown.stderr
    assert CANARY not in shown.stdout + shown.stderr


def test_an_encrypted_key_needs_its_passphrase(site: Site, lane: Lane) -> None:
    lane.append(read())
    with site.collecting(), lane.run():
        until(lambda: lane.outbox.depth == 0)
    keys.save(site.owner, site.root / "locked", b"correct horse")
    (site.root / "word").write_text("correct horse\n")
    (site.root / "wrong").write_text("incorrect horse\n")
    for name in ("word", "wrong"):
        (site.root / name).chmod(0o600)
    reads = ("--store", site.store_address, "--owner-key", site.root / "locked", "--json")
    assert CANARY in run(site, *reads, "--passphrase-file", site.root / "word").stdout
    for words in ((), ("--passphrase-file", site.root / "wrong")):
        refused = run(site, *reads, *words)
        assert refused.returncode == 2
        assert "KEY-02" in refused.stderr


def test_kind_and_lane_choose_what_is_shown(site: Site, lane: Lane) -> None:
    site.enrol("lane-2")
    other = site.lane("lane-2")
    lane.append(read(), checkpoint())
    other.append(read())
    with site.collecting(), lane.run(), other.run():
        until(lambda: lane.outbox.depth == other.outbox.depth == 0)
    stored = ("--store", site.store_address, "--json")
    lines = [json.loads(line) for line in run(site, *stored, "--kind", "read", "--lane", "lane-1").stdout.splitlines()]
    assert [(line["lane"], line["kind"]) for line in lines] == [("lane-1", "r")]


@pytest.mark.parametrize(("name", "told"), [("Lane-1", "Lane-1"), ("lane-9", "lane-9"), ("l\x1b[31m", "l?[31m")])
def test_a_lane_that_is_not_enrolled_is_named_beside_those_that_are(
    site: Site, lane: Lane, name: str, told: str
) -> None:
    shown = run(site, "--store", site.store_address, "--lane", name)
    assert shown.returncode == 2
    assert f"CFG-07 no lane {told} is enrolled; these are: lane-1" in shown.stderr


def test_altered_foreign_and_moved_messages_are_alarms(site: Site, lane: Lane) -> None:
    stranger = site.enrol("lane-2")
    (site.lane_keys / "lane-2.pub").unlink()
    assert stranger
    foreign = site.lane("lane-2")
    lane.append(read())
    foreign.append(read())
    message, strange = lane.outbox.pending()[0].payload, foreign.outbox.pending()[0].payload
    with listening(site) as heard, site.session_of("lane-1") as one, site.session_of("lane-2") as two:
        one.publish(Publication(topic("lane-1", "record"), message[:-1] + bytes([message[-1] ^ 1])))
        one.publish(Publication(topic("lane-1", "record"), b"garbage\x1b[31m"))
        one.publish(Publication(topic("lane-1", "record"), strange))
        two.publish(Publication(topic("lane-2", "record"), strange))
        until(lambda: not (one.wait(0.05) or two.wait(0.05)) and len(heard.look()) >= 4)
    assert sorted(line["code"] for line in heard) == ["COL-01", "COL-02", "COL-03", "COL-03"]
    assert all(line["alarm"] for line in heard)


def test_a_terminal_shows_a_live_table_with_alarms_above(site: Site, lane: Lane) -> None:
    lane.append(read(), read(), checkpoint())
    with site.collecting(), lane.run():
        until(lambda: lane.outbox.depth == 0)
    ours, theirs = pty.openpty()
    words = ("--store", site.store_address, "--owner-key", site.root / "owner")
    process = subprocess.Popen(
        tail(site, *words), stdout=theirs, env={**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.wait(10) == 0
    for word in (CANARY, "US-CA", "lane-1", "checkpoint", "verified", "3 verified"):
        assert word.encode() in shown


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # the other end of a pty is gone
        return b""


def test_without_broker_or_store_the_command_says_what_it_needs(site: Site) -> None:
    shown = run(site)
    assert shown.returncode == 2
    assert "--broker" in shown.stderr


def test_a_store_that_is_not_there_is_named_and_not_made(site: Site, tmp_path: Path) -> None:
    shown = run(site, "--store", tmp_path / "none.sqlite")
    assert "STORE-03" in shown.stderr
    assert not (tmp_path / "none.sqlite").exists()
