"""The connection to a broker that says what it likes: only errors of ours come out, and each says what happened."""

import random
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edge.errors import (
    MqttError,
    MqttFiles,
    MqttLost,
    MqttNotAuthorised,
    MqttRefused,
    MqttTakenOver,
    MqttTls,
    MqttUnreachable,
)
from edge.mqtt import MAX_HELD_BYTES, MESSAGE_BYTES, RECEIVE_MAXIMUM, Session
from edge.mqtt_client import MAX_PACKET_BYTES
from tests.integration.lane_site import Site, free_port

CONNACK = bytes.fromhex("20 03 00 00 00")
CONNACK_WITHOUT_KEEPALIVE = bytes.fromhex("20 06 00 00 03 13 00 00")
SUBACK = bytes.fromhex("90 04 00 01 00 01")
DISCONNECT_TAKEN_OVER = bytes.fromhex("e0 02 8e 00")
PUBLISH_TO_A = bytes.fromhex("30 06 00 01 61 00 68 69")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose broker does not run: the tests play its part."""
    made = Site(tmp_path / "site")
    made.certify("lane-1")
    return made


@contextmanager
def broker_that_says(site: Site, *answers: bytes) -> Iterator[Session]:
    """A session with a TLS server that answers each thing it reads with the next of `answers`, and then hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.tls / "broker.pem", site.tls / "broker.key")
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as connection:
            for answer in answers:
                connection.recv(4096)
                connection.sendall(answer)
            connection.settimeout(0.3)
            connection.recv(4096)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Session(site.connection("lane-1", server.getsockname()[1]), "lane-1", resume=False)
    server.close()
    thread.join(5)


def use(session: Session, *, connected: bool = True) -> None:
    """Listen until the connection is lost."""
    if not connected:
        session.connect()
    for _ in range(20):
        session.wait(0.5)


@pytest.mark.parametrize(
    ("connack", "error"),
    [
        ("20 03 00 87 00", MqttNotAuthorised),
        ("20 03 00 84 00", MqttRefused),
        ("20 03 00 88 00", MqttRefused),
        ("", MqttTls),
    ],
)
def test_a_refused_connection_says_why(site: Site, connack: str, error: type[MqttError]) -> None:
    with broker_that_says(site, bytes.fromhex(connack)) as session, pytest.raises(error):
        session.connect()


def test_a_second_client_with_the_same_name_is_told_apart_from_a_lost_line(site: Site) -> None:
    with broker_that_says(site, CONNACK + DISCONNECT_TAKEN_OVER) as session:
        session.connect()
        with pytest.raises(MqttTakenOver):
            use(session)


@pytest.mark.parametrize(
    ("suback", "error"),
    [("90 05 00 01 00 01 87", MqttNotAuthorised), ("90 04 00 01 00 01", MqttLost), ("e0 02 8b 00", MqttLost)],
)
def test_a_subscription_is_granted_whole_or_is_an_error(site: Site, suback: str, error: type[MqttError]) -> None:
    with broker_that_says(site, CONNACK, bytes.fromhex(suback)) as session:
        session.connect()
        with pytest.raises(error):
            session.subscribe(["a", "b"])
        with pytest.raises(MqttError):
            use(session)
        with pytest.raises(MqttError):
            session.subscribe(["a"])


def test_what_came_before_the_line_broke_is_handed_over_first(site: Site) -> None:
    with broker_that_says(site, CONNACK + PUBLISH_TO_A) as session:
        session.connect()
        heard = session.wait(1) or session.wait(1)
        assert heard[0].payload == b"hi"  # type: ignore[union-attr]
        with pytest.raises(MqttLost):
            use(session)


def test_nobody_listening_is_unreachable(site: Site) -> None:
    with pytest.raises(MqttUnreachable):
        Session(site.connection("lane-1", free_port()), "lane-1", resume=False).connect()


@pytest.mark.parametrize("missing", ["lane-1.pem", "lane-1.key", "ca.pem"])
def test_a_file_that_is_missing_or_no_certificate_is_named(site: Site, missing: str) -> None:
    session = Session(site.connection("lane-1", free_port()), "lane-1", resume=False)
    (site.tls / missing).write_text("no certificate")
    with pytest.raises(MqttFiles):
        session.connect()
    (site.tls / missing).unlink()
    with pytest.raises(MqttFiles):
        session.connect()


@pytest.mark.parametrize(
    ("packet", "what"),
    [
        ("30 80 80 80 7f 00 01 61", "packet of 266338304 bytes"),
        ("30 81 80 10 00 01 61", "packet of 262145 bytes"),
        ("34 08 00 01 61 00 01 00 68 69", "QoS 2"),
        ("90 81 20 00 01 00", "packet of 4097 bytes"),
    ],
)
def test_a_broker_that_sends_more_than_was_asked_for_is_left(site: Site, packet: str, what: str) -> None:
    """Else it could fill the lane's memory."""
    with broker_that_says(site, CONNACK + bytes.fromhex(packet)) as session, pytest.raises(MqttLost, match=what):
        use(session, connected=False)


def test_a_broker_that_sends_but_never_grants_the_subscription_is_left(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.mqtt.MAX_HELD_BYTES", 100_000)
    with broker_that_says(site, CONNACK, PUBLISH_TO_A * 250) as session:
        session.connect()
        with pytest.raises(MqttLost, match="more than can be taken in"):
            session.subscribe(["a"])


def test_a_backlog_of_the_largest_messages_that_a_broker_may_send_before_its_grant_is_taken_in() -> None:
    assert RECEIVE_MAXIMUM * (MAX_PACKET_BYTES + MESSAGE_BYTES) < MAX_HELD_BYTES


def test_a_broker_that_reads_nothing_of_what_it_is_sent_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr("edge.mqtt_client.MAX_UNREAD", 3)
    to_acknowledge = bytes.fromhex("32 08 00 01 61 00 01 00 68 69")
    with broker_that_says(site, CONNACK, SUBACK + to_acknowledge * 20) as session:
        session.connect()
        session.subscribe(["a"])
        monkeypatch.setattr(session._client, "_sock_send", full)
        with pytest.raises(MqttLost, match="reads nothing"):
            use(session)


def test_a_broker_that_wants_no_keep_alive_has_its_way_for_one_connection_only(site: Site) -> None:
    with broker_that_says(site, CONNACK_WITHOUT_KEEPALIVE) as session, pytest.raises(MqttError):
        use(session, connected=False)
    assert session._client.keepalive == 0
    with pytest.raises(MqttUnreachable):
        session.connect()
    assert session._client.keepalive == site.connection("lane-1", 1).keepalive_s


@pytest.mark.parametrize("seed", range(40))
def test_garbage_from_the_broker_is_a_lost_connection_and_nothing_else(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    packet = bytes([chance.choice(range(0x10, 0x100, 0x10)) | chance.getrandbits(4)])
    body = chance.randbytes(chance.randrange(60))
    garbage = packet + bytes([len(body)]) + body
    with broker_that_says(site, CONNACK + garbage) as session, pytest.raises(MqttError):
        use(session, connected=False)
