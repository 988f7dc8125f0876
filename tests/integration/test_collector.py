"""The collector over a real broker: what it refuses, what it confirms, and several of them on one PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from central.collector import Collector
from central.store import Store
from edge.errors import MessageForked, StoreFailed
from edge.mqtt import Message, Publication, Session, topic
from edge.outbox import Outbox
from edge.seal import envelope, receipt
from edge.seal.envelope import Envelope, EpochLink, Sealer
from tests.integration.lane_site import CANARY, Lane, Site, checkpoint, free_port, read, until
from tests.unit.test_store import chain

POSTGRES_BIN = Path("/usr/local/bin"), *Path("/usr/lib/postgresql").glob("*/bin")


@pytest.fixture
def lane(site: Site) -> Lane:
    site.enrol("lane-1")
    return site.lane("lane-1")


def say(session: Session, lane_id: str, *payloads: bytes) -> None:
    """Publish as the lane's record topic and wait until the broker has it."""
    for payload in payloads:
        session.publish(Publication(topic(lane_id, "record"), payload))
    left = len(payloads)
    while left:
        left -= len(session.wait(5))


def test_altered_foreign_moved_and_malformed_messages_are_refused_and_counted(site: Site, lane: Lane) -> None:
    site.enrol("lane-2")
    site.enrol("stranger")
    (site.lane_keys / "stranger.pub").unlink()
    other, stranger = site.lane("lane-2"), site.lane("stranger")
    for one in (lane, other, stranger):
        one.append(read())
    good, moved, strange = (one.outbox.pending()[0].payload for one in (lane, other, stranger))
    with site.collecting() as collector, site.session_of("lane-1") as session, site.session_of("stranger") as outside:
        say(session, "lane-1", good[:-1] + bytes([good[-1] ^ 1]), good[: len(good) // 2], b"", b"\xff" * 40_000)
        say(session, "lane-1", moved)
        say(outside, "stranger", strange)
        until(lambda: sum(collector.counts.values()) == 6)
        assert collector.counts == {"COL-03": 4, "COL-02": 1, "COL-01": 1}
        say(session, "lane-1", good)
        until(lambda: collector.counts["stored"] == 1)
    store = Store(site.store_address, read_only=True)
    alarms = [(alarm.lane, alarm.code) for alarm in store.alarms()]
    assert sorted(alarms) == [("lane-1", "COL-02")] + [("lane-1", "COL-03")] * 4
    assert not any(CANARY in alarm.what for alarm in store.alarms())


def test_every_flipped_bit_is_refused(site: Site, lane: Lane) -> None:
    lane.append(read())
    good = lane.outbox.pending()[0].payload
    flips = [good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(0, len(good), 7)]
    with site.collecting() as collector, site.session_of("lane-1") as session:
        say(session, "lane-1", *flips)
        until(lambda: sum(collector.counts.values()) == len(flips))
        assert collector.counts["stored"] == 0


def test_a_replayed_message_is_stored_once_and_confirmed_again(site: Site, lane: Lane) -> None:
    lane.append(read())
    good = lane.outbox.pending()[0].payload
    with site.session_of("owner.central") as owner, site.collecting() as collector:
        owner.subscribe([topic("lane-1", "receipt")])
        with site.session_of("lane-1") as session:
            say(session, "lane-1", good, good, good)
        until(lambda: collector.counts["stored"] + collector.counts["duplicate"] == 3)
        receipts = [event.payload for event in owner.wait(5) if isinstance(event, Message)]
    said = receipt.verify(receipt.parse(receipts[-1]), [site.collector.public])
    assert (said.lane, said.up_to_seq, said.head) == ("lane-1", 1, envelope.parse(good).digest)
    assert len(list(Store(site.store_address, read_only=True).messages())) == 1


def test_a_copied_card_shows_as_a_fork_and_the_honest_lane_keeps_its_records(site: Site, lane: Lane) -> None:
    lane.append(read())
    lane.outbox.close()
    shutil.copy(site.root / "lane-1.outbox", site.root / "clone.outbox")
    lane = site.lane("lane-1", receipt_timeout_s=0.5)
    sealer = Sealer("lane-1", lane.signer, (site.owner.public,))
    clone = Outbox.open(site.root / "clone.outbox", sealer)
    clone.append(read("XCL0NE99"))
    copied = [sealed.payload for sealed in clone.pending()]
    lane.append(read(), read())
    with site.collecting() as collector, site.session_of("lane-1") as thief:
        say(thief, "lane-1", *copied)
        until(lambda: collector.counts["stored"] == 2)
        thief.close()
        with lane.run():
            until(lambda: lane.publisher.status.error == "OUT-06")
            until(lambda: collector.counts["fork"] > 0)
    store = Store(site.store_address, read_only=True)
    assert "COL-04" in {alarm.code for alarm in store.alarms()}
    assert lane.outbox.depth == 3


def test_a_key_that_is_enrolled_while_the_collector_runs_counts(site: Site, lane: Lane) -> None:
    public = (site.lane_keys / "lane-1.pub").read_text()
    (site.lane_keys / "lane-1.pub").unlink()
    lane.append(read())
    with site.collecting() as collector, lane.run():
        until(lambda: collector.counts["COL-01"] > 0)
        (site.lane_keys / "lane-1.pub").write_text(public)
        until(lambda: lane.outbox.depth == 0)


def test_nothing_is_confirmed_that_could_not_be_stored(site: Site, lane: Lane) -> None:
    store = Store(site.store_address)
    real_add = store.add
    failures: list[int] = []

    def add(*arguments: object) -> object:
        if len(failures) < 2:
            failures.append(1)
            raise StoreFailed("disk full")
        return real_add(*arguments)  # type: ignore[arg-type]

    store.add = add  # type: ignore[method-assign,assignment]
    with site.collecting(store) as collector, lane.run():
        lane.append(read())
        until(lambda: len(failures) == 2)
        assert lane.outbox.depth == 1
        until(lambda: lane.outbox.depth == 0)
        assert collector.counts["stored"] == 1


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The address of a throw-away PostgreSQL. It refuses to run as root, so then it runs as nobody."""
    path = os.pathsep.join(map(str, POSTGRES_BIN))
    initdb, server = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    assert initdb and server, "tests/system-packages.sh installs postgresql"  # noqa: PT018
    data, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()  # pytest's own folders are closed to nobody
    user: dict[str, object] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "sealane"], check=True, capture_output=True, **user)  # type: ignore[call-overload]
    log = (tmp_path / "postgres.log").open("wb")
    process = subprocess.Popen(
        [server, "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(data)],
        stderr=log,
        stdout=log,
        **user,  # type: ignore[call-overload]
    )
    address = f"postgresql+psycopg://sealane@127.0.0.1:{port}/postgres"
    try:
        until(lambda: _opens(address))
        yield address
    finally:
        process.terminate()
        process.wait(20)
        log.close()
        shutil.rmtree(data)


def _opens(address: str) -> bool:
    try:
        Store(address).close()
    except StoreFailed:
        return False
    return True


def test_two_collectors_share_the_lanes_and_one_postgresql(site: Site, postgres: str) -> None:
    """No collector sees a whole lane; receipts still cover unbroken chains, and each record is stored once."""
    site.certify("collector2.central")
    site.broker.allow("collector2.central", "read lanes/v1/#", "write lanes/v1/+/receipt")
    lanes = []
    for number in range(3):
        site.enrol(f"lane-{number}")
        lanes.append(site.lane(f"lane-{number}"))
    with ExitStack() as running:
        collectors: list[Collector] = [
            running.enter_context(site.collecting(Store(postgres, shared=True), name=name, share="all"))
            for name in ("collector.central", "collector2.central")
        ]
        for lane in lanes:
            running.enter_context(lane.run())
        for _ in range(20):
            for lane in lanes:
                lane.append(read())
        until(lambda: all(lane.outbox.depth == 0 for lane in lanes))
    assert all(collector.counts["stored"] > 0 for collector in collectors)
    store = Store(postgres)
    assert [(message.lane, message.seq) for message in store.messages()] == [
        (lane.name, seq) for lane in lanes for seq in range(1, 21)
    ]
    assert not store.alarms()
    assert CANARY.encode() not in b"".join(message.sealed for message in store.messages())
    store.close()


def test_both_ends_of_a_fork_that_two_collectors_commit_at_once_are_seen(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One epoch goes on from its eighth message, and another one follows it there: each end comes to a collector of its
    own, and neither commits before the other has begun."""
    ten = chain(10)
    first = Store(postgres)
    first.add(ten[:8], 1)
    began, judged = threading.Barrier(2), threading.Barrier(2)
    judge = Store._judge_links

    def both_at_once(self: Store, *given: Any) -> None:
        judge(self, *given)
        with suppress(threading.BrokenBarrierError):
            judged.wait(1)  # the other one can't come here before this one commits

    monkeypatch.setattr(Store, "_judge_links", both_at_once)

    def add(messages: list[Envelope]) -> None:
        store = Store(postgres)
        began.wait()
        store.add(messages, 2)
        store.close()

    ends = ten[8:], chain(2, epoch=2, link=EpochLink(1, ten[7].digest))
    with ThreadPoolExecutor() as collectors:
        list(collectors.map(add, ends))
    assert [alarm.code for alarm in first.alarms()] == [MessageForked.code]
    first.close()


def test_a_lane_that_asks_for_receipts_without_end_costs_no_other_lane_its_own(
    site: Site, lane: Lane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each epoch has one: who has a lane's key begins as many as he likes, here while the collector is away."""
    site.enrol("lane-2")
    other = site.lane("lane-2")
    other.append(read())
    epochs = [lane.outbox._sealer.seal(checkpoint(), number, 1, None).data for number in range(1, 100)]
    with site.collecting():
        pass
    with site.session_of("lane-1") as session:
        say(session, "lane-1", *epochs)
    monkeypatch.setattr("edge.mqtt.MAX_QUEUED", 3)
    with site.collecting() as collector, other.run():
        until(lambda: other.outbox.depth == 0)
        until(lambda: collector.counts["stored"] == len(epochs) + 1)
    assert "MQTT-" not in caplog.text


def test_a_collector_that_was_away_gets_what_the_broker_kept(site: Site, lane: Lane) -> None:
    with site.collecting() as collector, lane.run():
        lane.append(read())
        until(lambda: lane.outbox.depth == 0)
    with lane.run():
        lane.append(read())
        until(lambda: lane.publisher.status.sent == 2)
        time.sleep(0.2)
    assert lane.outbox.depth == 1
    with site.collecting() as collector:
        until(lambda: collector.counts["stored"] == 1)
