"""From outbox to receipt over a real broker: what is lost on the way is sent again, and nothing is readable there."""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from central.store import Store
from edge.errors import MqttNotAuthorised, MqttTls
from edge.mqtt import Acknowledged, Event, Message, Publication, topic
from edge.seal import envelope, keys, receipt
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.integration.lane_site import CANARY, Relay, Site, checkpoint, read, until

GUIDE = Path(__file__).parents[2] / "docs" / "owner-guide.md"


def test_every_record_is_stored_once_and_the_outbox_forgets_it(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    with site.collecting() as collector, lane.run():
        lane.append(checkpoint(), *(read() for _ in range(100)), checkpoint())
        until(lambda: lane.outbox.depth == 0)
    assert collector.counts["stored"] == 102
    assert lane.publisher.status.confirmed == 102
    store = Store(site.store_address, read_only=True)
    stored = [envelope.parse(message.sealed) for message in store.messages("lane-1")]
    assert [message.header.seq for message in stored] == list(range(1, 103))
    opened = envelope.open_record(stored[1], site.opener())
    assert opened.reading.text == CANARY  # type: ignore[union-attr]
    assert not store.alarms()


def test_a_killed_broker_costs_nothing_but_time(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    with site.collecting() as collector, lane.run():
        lane.append(*(read() for _ in range(30)))
        until(lambda: collector.counts["stored"] > 5)
        site.broker.kill()
        lane.append(*(read() for _ in range(30)))
        site.broker.start()
        until(lambda: lane.outbox.depth == 0)
    assert collector.counts["stored"] == 60
    assert lane.publisher.status.connects >= 2


def test_a_killed_collector_goes_on_where_it_was(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    with lane.run():
        first = site.collector_process()
        lane.append(*(read() for _ in range(40)))
        until(lambda: lane.publisher.status.confirmed > 5)
        first.kill()
        first.wait()
        lane.append(*(read() for _ in range(40)))
        second = site.collector_process()
        try:
            until(lambda: lane.outbox.depth == 0)
        finally:
            second.terminate()
            assert second.wait(10) == 0
    assert len(list(Store(site.store_address, read_only=True).messages())) == 80


def test_receipts_lost_on_the_way_come_again_with_the_messages(site: Site) -> None:
    """The collector died between commit and receipt."""
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    lane.append(*(read() for _ in range(5)))
    store = Store(site.store_address)
    store.add([envelope.parse(sealed.payload) for sealed in lane.outbox.pending()], time.time_ns())
    with site.collecting(store) as collector, lane.run():
        until(lambda: lane.outbox.depth == 0)
    assert collector.counts == {"duplicate": 5}


def test_a_restarted_lane_sends_what_it_held(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    lane.append(read(), read())
    lane.outbox.close()
    lane = site.lane("lane-1")
    with site.collecting(), lane.run():
        until(lambda: lane.outbox.depth == 0)


def test_without_a_collector_the_lane_says_so_and_waits(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1", receipt_timeout_s=0.5)
    with lane.run():
        lane.append(read())
        until(lambda: lane.publisher.status.error == "MQTT-08")
        assert lane.outbox.depth == 1
        with site.collecting():
            until(lambda: lane.outbox.depth == 0)
    assert lane.publisher.status.error is None


def test_more_waits_than_may_be_under_way_and_nothing_is_lost_in_the_brokers_queue(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1", receipt_timeout_s=5)
    lane.append(*(read() for _ in range(50)))
    with site.collecting(), site.session_of("owner.central") as owner:
        owner.subscribe(["lanes/v1/+/record"])
    with lane.run():
        until(lambda: lane.publisher.status.sent >= 20)
        time.sleep(0.5)
        assert lane.publisher.status.sent == 20


def test_a_certificate_of_another_authority_does_not_connect(site: Site) -> None:
    site.certify("stranger", authority=site.other_authority())
    with pytest.raises(MqttTls) as caught:
        site.session("stranger").connect()
    assert caught.value.code == "MQTT-03"


def test_a_broker_with_another_authority_is_not_trusted(site: Site) -> None:
    site.certify("lane-1")
    (site.tls / "ca.pem").write_bytes(site.other_authority().pem)
    with pytest.raises(MqttTls):
        site.session("lane-1").connect()


def test_a_lane_can_not_write_for_another_lane(site: Site) -> None:
    site.certify("lane-1")
    with site.session_of("lane-1") as session:
        foreign = Publication(topic("lane-2", "record"), b"x")
        session.publish(foreign)
        assert Acknowledged(foreign, 0x87) in session.wait(5)


def test_a_refused_publication_shows_as_an_error_of_the_lane(site: Site) -> None:
    """The certificate's name is not the lane's."""
    site.enrol("lane-1")
    site.certify("lane-2")
    for end in ("pem", "key"):
        (site.tls / f"lane-2.{end}").replace(site.tls / f"lane-1.{end}")
    lane = site.lane("lane-1")
    with lane.run():
        lane.append(read())
        until(lambda: lane.publisher.status.error == MqttNotAuthorised.code)
    assert lane.outbox.depth == 1


def test_a_lane_does_not_get_another_lanes_receipts(site: Site) -> None:
    site.certify("lane-1")
    with site.session_of("lane-1") as spy, site.session_of("collector.central") as collector:
        spy.subscribe(["lanes/v1/+/receipt", "lanes/v1/#"])
        for name in ("lane-2", "lane-1"):
            collector.publish(Publication(topic(name, "receipt"), name.encode()))
        heard: list[Event] = []

        def hear() -> bool:
            heard.extend(spy.wait(0.1))
            collector.wait(0.0)
            return bool(heard)

        until(hear)
        heard.extend(spy.wait(0.5))
    assert [event.payload for event in heard if isinstance(event, Message)] == [b"lane-1"] * 2


def test_birth_and_will_carry_the_same_session_number(site: Site) -> None:
    site.enrol("lane-1")
    relay = Relay(site.broker.port)
    lane = site.lane("lane-1", port=relay.port)
    states: list[dict[str, object]] = []

    def hear() -> int:
        states.extend(json.loads(event.payload) for event in owner.wait(0.1) if isinstance(event, Message))
        return len(states)

    with site.session_of("owner.central") as owner:
        owner.subscribe([topic("lane-1", "state")])
        with lane.run():
            until(lambda: hear() == 1)
            relay.cut()
            until(lambda: hear() == 2)
            relay.mend()
            # a birth whose acknowledgement was cut off comes once more before the new one (QoS 1)
            until(lambda: hear() >= 3 and states[-1]["session"] != states[0]["session"])
    birth, will, again = states[0], states[1], states[-1]
    assert (birth["online"], will["online"], again["online"]) == (True, False, True)
    assert birth["session"] == will["session"] != again["session"]
    assert birth["software"] == "test"


def test_nothing_readable_is_on_the_wire_at_the_broker_or_on_any_disk(site: Site) -> None:
    site.enrol("lane-1")
    relay = Relay(site.broker.port)
    lane = site.lane("lane-1", port=relay.port)
    heard: list[Message] = []

    def heard_records() -> int:
        heard.extend(event for event in owner.wait(0.05) if isinstance(event, Message))
        return len([message for message in heard if message.topic.endswith("/record")])

    with site.session_of("owner.central") as owner, site.collecting():
        owner.subscribe(["lanes/v1/#"])
        with lane.run():
            lane.append(*(read() for _ in range(10)), checkpoint())
            until(lambda: heard_records() >= 10 and lane.outbox.depth == 0)
    site.broker.stop()
    said = b"".join(message.payload for message in heard) + bytes(relay.carried)
    kept = b"".join(path.read_bytes() for path in site.root.rglob("*") if path.is_file())
    assert len(said) > 10_000
    assert len(kept) > 10_000
    for form in (CANARY.encode(), CANARY.lower().encode(), b"US-CA"):
        assert form not in said
        assert form not in kept


def test_a_plain_mosquitto_sub_shows_something_useful(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1")
    form = "%t|%P|%C|%E"
    tls = ("--cafile", site.tls / "ca.pem", "--cert", site.tls / "owner.central.pem", "--key")
    command: list[str | Path] = ["mosquitto_sub", "-V", "5", "-h", "localhost", "-p", str(site.broker.port), *tls]
    command += [site.tls / "owner.central.key", "-q", "1", "-t", "lanes/v1/+/record", "-F", form, "-C", "1", "-W", "10"]
    listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with site.collecting(), lane.run():
        time.sleep(0.5)
        lane.append(read())
        line, _ = listener.communicate(timeout=15)
    where, labels, content_type, _ = line.split("|")
    assert where == "lanes/v1/lane-1/record"
    assert "lane:lane-1" in labels
    assert "kind:r" in labels
    assert content_type.startswith("application/cose")


@pytest.mark.parametrize("retained", [False, True])
def test_a_capture_by_the_guides_command_accuses_nobody_and_one_with_what_was_retained_says_what_that_may_mean(
    site: Site, retained: bool
) -> None:
    site.enrol("lane-1")
    site.certify("screen.central")
    lane = site.lane("lane-1")
    said = (GUIDE.read_text().split("\n```\nmosquitto_sub")[1]).split(" > gate-7.log")[0].replace("\\\n", "")
    here = {"broker.example": "localhost", "8883": str(site.broker.port)}
    here |= {name: str(site.tls / name) for name in ("ca.pem", "screen.central.pem", "screen.central.key")}
    words = [here.get(word, word) for word in shlex.split(said) if not (retained and word == "-R")]
    capture = site.root / "gate-7.log"
    with site.collecting(), lane.run():
        lane.append(read(), checkpoint(), read(), read())
        until(lambda: lane.outbox.depth == 0)
        with capture.open("wb") as file, subprocess.Popen(["mosquitto_sub", *words], stdout=file) as listener:
            until(lambda: "screen.central 1 lanes/v1/+/checkpoint" in site.broker.log.read_text())
            lane.append(read(), checkpoint(), read())
            until(lambda: len(capture.read_text().splitlines()) == (4 if retained else 3))
            listener.terminate()
    audit = [sys.executable, "-m", "edge", "audit", "--capture", str(capture), "--lanes", str(site.lane_keys)]
    told = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert told.returncode == retained, told.stdout
    if retained:
        assert (
            "numbers 3 to 4 are missing and not declared given up, or went by before the capture began" in told.stdout
        )
    else:
        assert "numbers 5 to 7," in told.stdout


def test_forged_and_replayed_receipts_make_no_lane_forget(site: Site) -> None:
    site.enrol("lane-1")
    lane = site.lane("lane-1", receipt_timeout_s=30)
    lane.append(read(), read())
    first, second = (envelope.parse(sealed.payload) for sealed in lane.outbox.pending())
    honest, forger = FileSigner(site.collector), FileSigner(keys.make_signing_key())
    epoch = first.header.epoch

    def says(signer: FileSigner, **changed: object) -> bytes:
        said = Receipt("lane-1", epoch, 2, second.digest, 1)
        return receipt.sign(replace(said, **changed), signer)  # type: ignore[arg-type]

    bad = {
        "not signed by a collector": says(forger),
        "signed by the lane itself": says(lane.signer),
        "of another lane": says(honest, lane="lane-2"),
        "of another epoch": says(honest, epoch=epoch ^ 1),
        "for another message": says(honest, head=bytes(32)),
        "for a number not reached": says(honest, up_to_seq=3),
        "altered": says(honest)[:-1] + bytes(1),
        "empty": b"",
    }
    with site.session_of("collector.central") as collector, lane.run():
        collector.subscribe(["lanes/v1/+/record"])
        until(lambda: lane.publisher.status.sent == 2)
        for how, forged in bad.items():
            collector.publish(Publication(topic("lane-1", "receipt"), forged))
            until(lambda: collector.wait(0.05) or lane.publisher.status.error)
            assert lane.outbox.depth == 2, how
        collector.publish(Publication(topic("lane-1", "receipt"), says(honest, up_to_seq=1, head=first.digest)))
        until(lambda: collector.wait(0.05) is not None and lane.outbox.depth == 1)
        for _ in range(3):
            collector.publish(Publication(topic("lane-1", "receipt"), says(honest, up_to_seq=1, head=first.digest)))
        until(lambda: not collector.wait(0.3))
        assert lane.outbox.depth == 1


def test_a_renewed_certificate_is_taken_up_at_the_next_connection(site: Site) -> None:
    site.certify("lane-1", authority=site.other_authority())
    session = site.session("lane-1")
    with pytest.raises(MqttTls):
        session.connect()
    for end in ("pem", "key"):
        (site.tls / f"lane-1.{end}").unlink()
    site.certify("lane-1")
    session.connect()
    session.close()
