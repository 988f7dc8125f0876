"""The connection to the broker: MQTT 5 over TLS with a client certificate, driven by the thread of its one owner.

Lane, collector and tail share it. Certificate files are read anew at every connect, so that a renewed one is taken up.
What the broker says is an event or an error of ours; nothing it sends raises anything else.
"""

import os
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import Broker
from edge.errors import (
    MqttError,
    MqttFiles,
    MqttLost,
    MqttNotAuthorised,
    MqttRefused,
    MqttTakenOver,
    MqttTls,
    MqttUnreachable,
    clean,
)
from edge.mqtt_client import MAX_PACKET_BYTES, Client

ROOT = "lanes/v1"
CONNECT_TIMEOUT_S = 8.0
CONNECT_SILENCE_S = 4 * CONNECT_TIMEOUT_S
"""Connecting may block its thread for this long once the name is looked up: TCP, TLS, the broker's answers. The look-up
itself has no bound here."""
STEADY_S = 10.0
"""A connection that held for this long was a good one."""
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
TICK_S = 1.0
"""Longest time between two signs of life while connected or pausing."""
SESSION_EXPIRY_S = 7 * 24 * 3600
MAX_QUEUED = 1000
"""Publications that wait for their turn."""
MAX_HELD_BYTES = 20 << 20
"""Most that a broker may send before the connection's owner gets to see it: while it is still asked to subscribe."""
RECEIVE_MAXIMUM = 64
"""Publications of QoS 1 that a broker may have under way: a backlog that comes before its grant fits in the above."""
MESSAGE_BYTES = 500
"""What a message takes beside its topic and payload, and more."""
SUCCESS = 0x00
REFUSED = 0x80
"""Reason codes from here on are failures."""
NO_SUBSCRIBER = 0x10
NOT_AUTHORISED = 0x87
TAKEN_OVER = 0x8E


def keep_connected(
    serve: Callable[[], None],
    stop: threading.Event,
    *,
    trouble: Callable[[MqttError], None],
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Run `serve`, one connection from birth to loss, again and again until `stop`, with growing pauses between."""
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            serve()
        except MqttError as error:
            trouble(error)
        failures = 1 if time.monotonic() - began > STEADY_S + CONNECT_SILENCE_S else failures + 1
        again_at = time.monotonic() + PAUSES_S[min(failures, len(PAUSES_S)) - 1]
        while not stop.is_set() and time.monotonic() < again_at:
            alive()
            stop.wait(min(TICK_S, max(0.0, again_at - time.monotonic())))


def topic(lane_id: str, leaf: str) -> str:
    """The topic `leaf` of one lane: record, checkpoint, state or receipt."""
    return f"{ROOT}/{lane_id}/{leaf}"


def trust_topic(name: str) -> str:
    """The topic of a file of the owner's repository, or "#" for all of them."""
    return f"{ROOT}/trust/{name}"


def lane_filter(leaf: str) -> str:
    """The filter for the topics `leaf` of all lanes."""
    return topic("+", leaf)


def split(of: str) -> tuple[str, str] | None:
    """Lane and leaf of a topic, or None if it is none of ours."""
    parts = of.split("/")
    return (parts[2], parts[3]) if len(parts) == 4 and "/".join(parts[:2]) == ROOT else None


@dataclass(frozen=True, slots=True)
class Message:
    """A publication that came in. Everything in it is whatever its sender and the broker made of it."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish, always with QoS 1. `labels` are user properties: for people, never to be believed."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str = ""
    expiry_s: int | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def properties(self, packet_type: int) -> Properties:
        properties = Properties(packet_type)  # type: ignore[no-untyped-call]
        if self.content_type:
            properties.ContentType = self.content_type
        if self.expiry_s is not None:
            properties.MessageExpiryInterval = self.expiry_s
        if self.labels:
            properties.UserProperty = list(self.labels)
        return properties


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's word on a publication: an MQTT 5 reason code; from 0x80 on it was refused."""

    publication: Publication
    reason: int


Event = Message | Acknowledged


class Session:
    """One client of one broker.

    resume: keep the broker's session from before this process (a receiver wants what was queued for it); a sender that
    knows itself what is unconfirmed starts clean. expiry_s: how long the broker keeps the session of a client that is
    away.
    """

    def __init__(self, broker: Broker, client_id: str, *, resume: bool, expiry_s: int = SESSION_EXPIRY_S) -> None:
        self.client_id = client_id
        self.certificate_file = broker.certificate_file
        """Read at each connection; may be another one at the next."""
        self._broker = broker
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._resume = resume
        self._expiry_s = expiry_s
        self._window = broker.in_flight
        self._queued: deque[Publication] = deque()
        self._unacknowledged: dict[int, Publication] = {}
        self._session_present: bool | None = None
        self._refusal: ReasonCode | None = None
        self._lost: ReasonCode | None = None
        self._last_trouble = ""
        self._events: list[Event] = []
        self._held_bytes = 0
        self._subscribing: int | None = None
        self._granted: list[ReasonCode] | None = None
        self._client = self._new_client()

    def connect(self, will: Publication | None = None) -> bool:
        """Connect and wait for the broker's answer; True if it still had this client's session.

        Publications that the broker lost with its session are forgotten here. Raises MqttFiles, MqttUnreachable,
        MqttTls, MqttRefused, MqttNotAuthorised, MqttLost.
        """
        self._load_files()
        self._session_present = self._refusal = self._lost = None
        self._last_trouble = ""
        self._take_events()
        client = self._client
        if will is not None:
            client.will_set(will.topic, will.payload, 1, will.retain, will.properties(PacketTypes.WILLMESSAGE))
        try:
            client.connect_async(  # every time: the broker may have had the keep-alive changed for the last connection
                self._broker.host,
                self._broker.port,
                self._broker.keepalive_s,
                clean_start=False if self._resume else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=self._connect_properties(),
            )
            client.reconnect()
        except ssl.SSLError as error:
            raise MqttTls(f"{self._where}: {clean(error.reason or error)}") from error
        except OSError as error:
            raise MqttUnreachable(f"{self._where}: {clean(error.strerror or error)}") from error
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while self._session_present is None:
            self._raise_if_refused()
            if time.monotonic() > deadline:
                self.close()
                raise MqttUnreachable(f"{self._where} did not answer within {CONNECT_TIMEOUT_S:.0f} s")
            self._turn(0.2)
        return self._session_present

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1 and wait for the grant. Raises MqttNotAuthorised, MqttLost, MqttUnreachable."""
        self._granted = None
        _, self._subscribing = self._client.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while (reasons := self._granted) is None:
            if self._subscribing is None or self._lost is not None:
                raise self._lost_error()
            if time.monotonic() > deadline:
                raise MqttUnreachable(f"{self._where} did not answer a subscription")
            self._turn(0.2)
        if len(reasons) != len(filters):
            raise MqttLost(f"{self._where} answered another number of subscriptions")
        for name, reason in zip(filters, reasons, strict=True):
            if reason.is_failure:
                raise MqttNotAuthorised(f"{self._where} refused the subscription to {name}: {clean(reason)}")

    @property
    def has_room(self) -> bool:
        """Whether one more publication may wait for its turn."""
        return len(self._queued) < MAX_QUEUED

    def publish(self, publication: Publication) -> None:
        """Send `publication` as soon as the window allows; an Acknowledged event follows. Never blocks.

        Raises MqttUnreachable when MAX_QUEUED wait for a broker that acknowledges nothing.
        """
        if not self.has_room:
            raise MqttUnreachable(f"{self._where} does not acknowledge what it is sent")
        self._queued.append(publication)
        self._flush()

    def wait(self, timeout_s: float) -> list[Event]:
        """What came in, at most `timeout_s` later, or earlier after `wake`. Raises MqttLost or MqttTakenOver."""
        if not self._events:
            if self._lost is not None:
                raise self._lost_error()
            self._turn(timeout_s)
        events = self._take_events()
        if not events and self._lost is not None:
            raise self._lost_error()
        return events

    def wake(self) -> None:
        """Let a running `wait` return at once. The only method for other threads."""
        os.eventfd_write(self._wake, 1)

    def close(self, farewell: Publication | None = None) -> None:
        """Say goodbye and close the connection; the will is not sent. `farewell` is published before, if it can be."""
        if self._lost is None and self._session_present is not None and farewell is not None:
            self.publish(farewell)
            deadline = time.monotonic() + 1.0
            while (self._queued or self._unacknowledged) and self._lost is None and time.monotonic() < deadline:
                self._turn(0.1)
        self._client.disconnect()
        deadline = time.monotonic() + 1.0
        while self._client.socket() is not None and time.monotonic() < deadline:
            self._turn(0.1)

    # --- paho ---------------------------------------------------------------------------------------------------

    def _new_client(self) -> paho.Client:
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.tls_set_context(self._context)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # the window is ours: paho knows nothing of the broker's Receive Maximum
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        return client

    def _take_events(self) -> list[Event]:
        events, self._events, self._held_bytes = self._events, [], 0
        return events

    @property
    def _where(self) -> str:
        return f"broker {self._broker.host}:{self._broker.port}"

    def _load_files(self) -> None:
        try:
            self._context.load_verify_locations(self._broker.ca_file)
            self._context.load_cert_chain(self.certificate_file, self._broker.key_file)
        except ssl.SSLError as error:
            raise MqttFiles(f"certificate or key of {self.client_id}: {clean(error.reason or error)}") from error
        except OSError as error:
            raise MqttFiles(
                f"cannot read {self._broker.ca_file}, {self.certificate_file} or {self._broker.key_file}: "
                f"{clean(error.strerror or error)}"
            ) from error

    def _connect_properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._expiry_s
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        return properties

    def _flush(self) -> None:
        while self._queued and len(self._unacknowledged) < self._window:
            publication = self._queued.popleft()
            info = self._client.publish(
                publication.topic,
                publication.payload,
                qos=1,
                retain=publication.retain,
                properties=publication.properties(PacketTypes.PUBLISH),
            )
            self._unacknowledged[info.mid] = publication

    def _turn(self, timeout_s: float) -> None:
        """Let paho read and write once, when there is something to or at the latest after `timeout_s`."""
        sock = self._client.socket()
        if not isinstance(sock, ssl.SSLSocket):
            return
        if sock.pending():
            timeout_s = 0.0
        writable = [sock.fileno()] if self._client.want_write() else []
        readable, _, _ = select.select([sock.fileno(), self._wake], writable, [], max(0.0, timeout_s))
        if self._wake in readable:
            os.eventfd_read(self._wake)
        try:
            # not loop(): it wakes itself through a TCP connection, which a confined process may not make
            if sock.fileno() in readable or sock.pending():
                self._client.loop_read()
            if self._client.want_write():
                self._client.loop_write()
            self._client.loop_misc()
            self._flush()
        except (MQTTException, ValueError, LookupError, TypeError, struct.error) as error:
            # paho's decoder on bytes that are no MQTT; what the peer sent is not worth more than a new connection
            self._leave(f"it sent what is no MQTT ({type(error).__name__})")
        if self._held_bytes > MAX_HELD_BYTES:
            self._leave("it sends more than can be taken in")

    def _leave(self, why: str) -> None:
        self._client.disconnect()
        self._last_trouble = why
        self._lost = self._lost or ReasonCode(PacketTypes.DISCONNECT, identifier=0x81)

    def _raise_if_refused(self) -> None:
        if self._refusal is not None:
            refusal = self._refusal
            self.close()
            kind = MqttNotAuthorised if refusal.value == NOT_AUTHORISED else MqttRefused
            raise kind(f"{self._where} refused {self.client_id}: {clean(refusal)}")
        if self._lost is not None:
            raise self._lost_error()

    def _lost_error(self) -> MqttError:
        trouble = f" ({self._last_trouble})" if self._last_trouble else ""
        if self._lost is not None and self._lost.value == TAKEN_OVER:
            return MqttTakenOver(f"{self._where} gave the session of {self.client_id} to another client")
        if self._session_present is None:  # TLS 1.3 says only after the handshake that a certificate is refused
            return MqttTls(f"{self._where} closed the connection before it answered{trouble}")
        return MqttLost(f"{self._where}: {clean(self._lost)}{trouble}")

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._refusal = reason
            return
        self._window = min(self._broker.in_flight, getattr(properties, "ReceiveMaximum", self._broker.in_flight))
        if not flags.session_present:
            client.drop_out_messages()
            self._unacknowledged.clear()
            self._queued.clear()
        self._session_present = flags.session_present

    def _on_disconnect(self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._lost = self._lost or reason  # paho reports the broker's own word first, then the closed socket

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            return
        self._events.append(Message(name, bytes(message.payload), message.retain))
        self._held_bytes += len(name) + len(message.payload) + MESSAGE_BYTES

    def _on_publish(self, client: paho.Client, _: Any, packet_id: int, reason: ReasonCode, properties: Any) -> None:
        publication = self._unacknowledged.pop(packet_id, None)
        if publication is not None:
            self._events.append(Acknowledged(publication, reason.value))

    def _on_subscribe(
        self, client: paho.Client, _: Any, packet_id: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        if packet_id == self._subscribing:
            self._granted = reasons

    def _on_log(self, client: paho.Client, _: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._last_trouble = clean(text)


def _send_at_once(client: paho.Client, _: Any, sock: Any) -> None:
    """Without this a small packet waits up to 40 ms for the acknowledgement of the one before it."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
