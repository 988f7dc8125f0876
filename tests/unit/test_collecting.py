"""The collector without a broker: what it calls missing, and what it keeps of junk."""

import os
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from central.certificates import Authority, make_key
from central.collector import MISSING_PATIENCE_S, Collector, command
from central.repository import Repository
from central.store import Store
from edge.errors import CollectorUnnamed, LaneUnknown
from edge.mqtt import Event, Message, Publication, topic
from edge.outbox import Limits, Outbox
from edge.seal import keys, receipt
from edge.seal.envelope import MAX_MESSAGE_BYTES
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.sealing import read, sealer, signing_key
from tests.unit.test_audit import Enrolled, audit_of, chain, problems
from tests.unit.test_keeper import owner as owner

LANES = "lane-1", "lane-2"


class Receipts:
    """A session that only publishes, `room` receipts: what the collector confirms, `outbox` forgets."""

    def __init__(self, outbox: Outbox | None = None, room: int = sys.maxsize) -> None:
        self._outbox = outbox
        self.room = room
        self.said: list[Receipt] = []

    @property
    def has_room(self) -> bool:
        return len(self.said) < self.room

    def publish(self, publication: Publication) -> None:
        assert self.has_room
        said = receipt.verify(receipt.parse(publication.payload), [signing_key().public])
        self.said.append(said)
        if self._outbox is not None:
            self._outbox.confirm(said)


def collector(store: Store, outbox: Outbox | None = None, session: Receipts | None = None) -> Collector:
    return Collector(session or Receipts(outbox), store, Enrolled(), FileSigner(signing_key()))  # type: ignore[arg-type]


def came(*payloads: bytes, lane: str = "lane-1") -> list[Event]:
    return [Message(topic(lane, "record"), payload, False) for payload in payloads]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("central.collector.time.monotonic", lambda: now[0])
    return now


def test_a_lane_that_drains_a_full_outbox_lacks_nothing(tmp_path: Path, clock: list[float]) -> None:
    """Its declared gap, with the highest number of all, comes first."""
    outbox = Outbox.open(tmp_path / "outbox.sqlite", sealer(), Limits(bytes=56 * 4096, ballast_bytes=1 << 16))
    for _ in range(200):
        outbox.append(read())
    store = Store(str(tmp_path / "store.sqlite"))
    collecting = collector(store, outbox)
    awaited = 0
    while waiting := outbox.pending(limit=20):
        collecting._take(came(*(message.payload for message in waiting)))
        clock[0] += MISSING_PATIENCE_S / 2
        (report,) = audit_of(tmp_path / "store.sqlite")
        assert report.problems == []
        awaited += bool(report.awaited)
    assert awaited > 1
    assert store.alarms() == []
    assert problems(audit_of(tmp_path / "store.sqlite")) == []


def test_what_stays_missing_while_the_chain_stands_still_is_an_alarm(tmp_path: Path, clock: list[float]) -> None:
    messages = chain(5, 9)
    store = Store(str(tmp_path / "store.sqlite"))
    collecting = collector(store)
    for late in (2, 4, 6):  # something is missing all the time, but it is not the same
        collecting._take(came(messages[late].data))
        clock[0] += MISSING_PATIENCE_S
        collecting._take(came(*(message.data for message in messages[late - 2 : late])))
    assert store.alarms() == []
    collecting._take(came(messages[8].data))
    clock[0] += MISSING_PATIENCE_S + 1
    collecting._take(came(messages[8].data))
    assert [(alarm.code, alarm.seq) for alarm in store.alarms()] == [("COL-07", 8)]


def test_of_chains_that_lack_something_those_seen_last_are_watched(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.collector.MAX_WATCHED", 3)
    store = Store(str(tmp_path / "store.sqlite"))
    collecting = collector(store)
    seconds = {(number, lane): chain(number, 2, lane=lane)[1].data for number in range(1, 6) for lane in LANES}
    collecting._take(came(seconds[1, "lane-2"], lane="lane-2"))
    for number in range(1, 6):
        collecting._take(came(seconds[number, "lane-1"]))
    clock[0] += MISSING_PATIENCE_S + 1
    collecting._take(came(seconds[1, "lane-2"], lane="lane-2"))
    for number in range(5, 0, -1):
        collecting._take(came(seconds[number, "lane-1"]))
    found = {(alarm.lane, int(alarm.epoch, 16)) for alarm in store.alarms() if alarm.code == "COL-07"}
    assert found == {("lane-2", 1), ("lane-1", 3), ("lane-1", 4), ("lane-1", 5)}


def test_receipts_wait_for_room_the_newest_of_each_lane(tmp_path: Path) -> None:
    session = Receipts(room=2)
    collecting = collector(Store(str(tmp_path / "store.sqlite")), session=session)
    for number in range(1, 6):
        collecting._take(came(chain(number, 1)[0].data))
    collecting._take(came(chain(1, 1, lane="lane-2")[0].data, lane="lane-2"))
    collecting._take(came(chain(6, 1)[0].data))
    assert [said.epoch for said in session.said] == [1, 2]
    session.room = 9
    collecting._send_receipts()
    assert [(said.lane, said.epoch) for said in session.said[2:]] == [("lane-1", 6), ("lane-2", 1)]


def test_the_log_says_why_a_lanes_message_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    store = Store(str(tmp_path / "store.sqlite"))
    other = sealer("lane-9")
    collector(store)._take([Message(topic("lane-9", "record"), other.seal(read(), 1, 1, None).data, False)])
    (line,) = caplog.messages
    assert line.startswith("COL-01 lane-9 with key")
    assert line.endswith("not enrolled at=lane-9 times=1")


def test_of_junk_no_more_is_kept_than_a_message_may_have(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.sqlite"))
    collector(store)._take(came(os.urandom(255 * 1024)))
    (alarm,) = store.alarms()
    assert alarm.evidence is not None
    assert len(alarm.evidence) == MAX_MESSAGE_BYTES


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Repository, *more: str) -> int:
    """How `sealane collector` ends that gets as far as the broker and no further."""
    keys.save(signing_key(), tmp_path / "collector")
    monkeypatch.setattr(Collector, "run", lambda *_: None)
    monkeypatch.setattr("central.collector.logs.setup", lambda _: None)
    certificate = Authority.open_or_make(tmp_path / "tls").issue("collector.central", make_key().public_key())
    (tmp_path / "certificate.pem").write_bytes(certificate)
    (tmp_path / "root.json").write_bytes(owner.roots.first_bytes)
    app = typer.Typer()
    app.command()(command)
    words = ["--broker", "localhost:1", "--ca", "ca.pem", "--key", "key", "--store", tmp_path / "store.sqlite"]
    words += ["--certificate", tmp_path / "certificate.pem", "--signing-key", tmp_path / "collector"]
    words += ["--trust", owner.published, "--root", tmp_path / "root.json", "--trust-state", tmp_path / "trust", *more]
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False).exit_code


def test_a_collector_whose_key_the_owner_does_not_name_says_so_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: Repository
) -> None:
    assert start(tmp_path, monkeypatch, owner) == 0
    assert CollectorUnnamed.code in caplog.text
    assert signing_key().public.fingerprint in caplog.text


def test_only_an_enrolled_lane_has_anything_that_could_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: Repository
) -> None:
    with pytest.raises(LaneUnknown, match="no lane lane-9"):
        start(tmp_path, monkeypatch, owner, "--accept", "lane-9")
    (tmp_path / "collector").unlink()
    (tmp_path / "collector.pub").unlink()
    assert start(tmp_path, monkeypatch, owner, "--accept", "lane-1") == 0
    assert "nothing is known to be missing" in caplog.text
