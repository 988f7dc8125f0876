"""Publisher: sends what the outbox holds to the broker, in order, until a collector's receipt lets the outbox forget.

For the daemon: one thread runs `Publisher.run(stop, alive)`; whoever appends to the outbox calls `wake()` afterwards;
`announce()` has the lane's state published at once; `status` is a snapshot for health. After `stop.set()`, `wake()`.
While it connects it may be silent for as long as the broker's name is looked up, and edge.mqtt.CONNECT_SILENCE_S more.

A broker's acknowledgement is not delivery: only a receipt moves the window, so that never more than `in_flight`
messages are at the broker's mercy. `Delivery` decides, without I/O, what to send and when to send it again.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge import logs
from edge.config import Broker
from edge.errors import (
    MqttError,
    MqttNoSubscriber,
    MqttNotAuthorised,
    MqttPublicationRefused,
    ReceiptRefused,
    SealaneError,
    SealError,
)
from edge.mqtt import (
    NO_SUBSCRIBER,
    NOT_AUTHORISED,
    SUCCESS,
    TICK_S,
    Acknowledged,
    Message,
    Publication,
    Session,
    keep_connected,
    topic,
    trust_topic,
)
from edge.outbox import Outbox, Sealed
from edge.record import Kind
from edge.seal import receipt
from edge.seal.keys import PublicKey

RECORD_TYPE = 'application/cose; cose-type="cose-sign1"'
RECORD_EXPIRY_S = 7 * 24 * 3600
STATE_INTERVAL_S = 30.0
MAX_PATIENCE_S = 60.0
MAX_REFUSED_PAUSE_S = 30.0
LOG_AGAIN_S = 60.0
"""A broker may cause trouble of several kinds in turn, without end: each kind is logged no oftener than this."""

log = logging.getLogger(__name__)


class Delivery:
    """Which of the waiting messages to send now. Pure: time comes in as monotonic seconds.

    A message is sent once, and again when the broker lost its session, when the broker refused one, or when no receipt
    came for the receipt timeout (twice as long each time that nothing moved). Again means everything unconfirmed, in
    order, so that the retained checkpoint stays the newest.
    """

    def __init__(self, receipt_timeout_s: float) -> None:
        self._timeout_s = receipt_timeout_s
        self._sent: list[int] = []
        self._rounds = 0
        self._again_at = float("inf")

    def connected(self, *, session_present: bool) -> None:
        """A new connection. Without its session the broker may have lost all that no receipt covers."""
        if not session_present:
            self._sent.clear()

    def refused(self, now: float) -> None:
        """The broker did not take something that was sent, or had nobody to pass it on to."""
        self._again_at = min(self._again_at, now + min(2.0**self._rounds, MAX_REFUSED_PAUSE_S))

    def next(self, waiting: Sequence[int], now: float) -> Sequence[int]:
        """What to send of `waiting`: places of the outbox's first messages, in order, as many as may be unconfirmed."""
        known = set(waiting)
        unconfirmed = [place for place in self._sent if place in known]
        if len(unconfirmed) < len(self._sent):  # a receipt came
            self._rounds = 0
            self._again_at = now + self._timeout_s
        elif unconfirmed and now >= self._again_at:
            self._rounds = min(self._rounds + 1, 16)
            unconfirmed = []
        if not unconfirmed:
            patience_s = min(self._timeout_s * 2**self._rounds, max(self._timeout_s, MAX_PATIENCE_S))
            self._again_at = now + patience_s
        fresh = [place for place in waiting if place not in set(unconfirmed)]
        self._sent = [*unconfirmed, *fresh]
        return fresh

    def idle_s(self, now: float) -> float:
        """Seconds until something is to be sent again."""
        return max(0.0, self._again_at - now) if self._sent else float("inf")


@dataclass(frozen=True, slots=True)
class Status:
    """What health says of delivery. error: code of the last trouble, None while all is well; waits_since: monotonic
    seconds of when something began to wait for a receipt, or went on waiting after one; None if nothing waits."""

    connected: bool = False
    error: str | None = None
    unconfirmed: int = 0
    confirmed: int = 0
    sent: int = 0
    connects: int = 0
    waits_since: float | None = None


class Publisher:
    """The lane's MQTT client.

    collectors: keys whose receipts count; state: content of the state message, JSON values by name; carried: takes the
    files of the owner's repository (name, content) that come as retained messages, from the publisher's thread;
    connected: called before those that come with a new connection.
    """

    def __init__(
        self,
        broker: Broker,
        lane_id: str,
        outbox: Outbox,
        collectors: Sequence[PublicKey],
        *,
        receipt_timeout_s: float,
        state: Callable[[], Mapping[str, Any]],
        carried: Callable[[str, bytes], None] | None = None,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._broker = broker
        self._lane_id = lane_id
        self._outbox = outbox
        self._collectors = collectors
        self._state = state
        self._carried = carried
        self._connected = connected
        self._request: bytes | None = None  # empty: nothing to ask; None: nobody said yet
        self._session = Session(broker, lane_id, resume=False)
        self._delivery = Delivery(receipt_timeout_s)
        self._number = 0
        self._announce_at = 0.0
        self._status = Status()
        self._logged: dict[str, float] = {}

    @property
    def status(self) -> Status:
        return self._status

    @property
    def unconfirmed_s(self) -> int:
        """For how long messages have waited, as far as there was a connection, and none was confirmed."""
        since = self._status.waits_since
        return 0 if since is None else round(time.monotonic() - since)

    def wake(self) -> None:
        """Something was appended to the outbox, or `stop` was set. For any thread."""
        self._session.wake()

    def announce(self) -> None:
        """Publish the lane's state soon. For any thread."""
        self._announce_at = 0.0
        self._session.wake()

    def follow(self, collectors: Sequence[PublicKey], certificate_file: Path, request: bytes | None) -> None:
        """Go by a new standing: whose receipts count, which certificate to show at the next connection, and what to ask
        of the owner (None takes a request back). For any thread."""
        self._collectors = collectors
        self._session.certificate_file = certificate_file
        if (request or b"") != self._request:
            self._request = request or b""
            self.announce()

    def run(self, stop: threading.Event, alive: Callable[[], None]) -> None:
        """Deliver until `stop`. Trouble with the broker is logged, shown in `status` and tried again; anything else,
        such as an outbox that can't be read, is raised."""
        keep_connected(lambda: self._serve(stop, alive), stop, trouble=self._disconnected, alive=alive)

    def _serve(self, stop: threading.Event, alive: Callable[[], None]) -> None:
        """One connection, from birth to loss or stop."""
        self._number = secrets.randbits(32)
        alive()
        session_present = self._session.connect(will=self._state_message(online=False))
        alive()
        self._connected()
        self._session.subscribe(
            [topic(self._lane_id, "receipt"), *([trust_topic("#")] if self._carried is not None else [])]
        )
        asked: bytes | None = None
        self._delivery.connected(session_present=session_present)
        self._status = replace(self._status, connected=True, error=None, connects=self._status.connects + 1)
        logs.event(log, logging.INFO, "connected", "to the broker", session_present=session_present)
        self._announce_at = 0.0
        while not stop.is_set():
            alive()
            now = time.monotonic()
            if now >= self._announce_at:
                self._announce_at = now + STATE_INTERVAL_S
                self._session.publish(self._state_message(online=True))
            if (request := self._request) is not None and request != asked:
                self._session.publish(Publication(topic(self._lane_id, "request"), request, retain=True))
                asked = request
            self._send(now)
            for event in self._session.wait(min(TICK_S, self._delivery.idle_s(now))):
                match event:
                    case Message():
                        self._receive(event)
                    case Acknowledged(publication, reason) if reason != SUCCESS:
                        self._refused(publication, reason)
        self._session.close(farewell=self._state_message(online=False))

    def _send(self, now: float) -> None:
        waiting = self._outbox.pending(limit=self._broker.in_flight)
        by_place = {sealed.place: sealed for sealed in waiting}
        fresh = self._delivery.next(list(by_place), now)
        for place in fresh:
            self._session.publish(self._message(by_place[place]))
        since = self._status.waits_since
        self._status = replace(
            self._status,
            unconfirmed=len(waiting),
            sent=self._status.sent + len(fresh),
            waits_since=None if not waiting else now if since is None else since,
        )

    def _receive(self, message: Message) -> None:
        if message.topic.startswith(trust_topic("")):
            if self._carried is not None:
                self._carried(message.topic.removeprefix(trust_topic("")), message.payload)
            return
        try:
            confirmed = self._outbox.confirm(receipt.verify(receipt.parse(message.payload), self._collectors))
        except SealError as error:
            self._trouble(ReceiptRefused(error.what))
        except ReceiptRefused as error:
            self._trouble(error)
        else:
            if confirmed:  # whoever holds an old receipt could hide trouble with it
                known = self._status.confirmed
                self._status = replace(self._status, error=None, confirmed=known + confirmed, waits_since=None)

    def _refused(self, publication: Publication, reason: int) -> None:
        kind: type[MqttError] = MqttPublicationRefused
        if reason == NO_SUBSCRIBER:
            if publication.topic in (topic(self._lane_id, "state"), topic(self._lane_id, "request")):
                return  # retained: whoever wants it comes later
            kind = MqttNoSubscriber
        elif reason == NOT_AUTHORISED:
            kind = MqttNotAuthorised
        self._delivery.refused(time.monotonic())
        self._trouble(kind(f"{publication.topic}: reason code 0x{reason:02x}"))

    def _disconnected(self, error: MqttError) -> None:
        self._status = replace(self._status, connected=False)
        self._trouble(error)

    def _trouble(self, error: SealaneError) -> None:
        now = time.monotonic()
        if error.code != self._status.error and now >= self._logged.get(error.code, -LOG_AGAIN_S) + LOG_AGAIN_S:
            logs.error(log, error, logging.WARNING)
            self._logged[error.code] = now
        self._status = replace(self._status, error=error.code)

    def _message(self, sealed: Sealed) -> Publication:
        checkpoint = sealed.kind is Kind.CHECKPOINT
        return Publication(
            topic(self._lane_id, "checkpoint" if checkpoint else "record"),
            sealed.payload,
            retain=checkpoint,
            content_type=RECORD_TYPE,
            expiry_s=RECORD_EXPIRY_S,
            labels=(
                ("lane", self._lane_id),
                ("kind", sealed.kind),
                ("epoch", f"{sealed.epoch:016x}"),
                ("seq", str(sealed.seq)),
            ),
        )

    def _state_message(self, *, online: bool) -> Publication:
        """The same session number is in birth and will, so that a late will of an earlier connection is told apart."""
        content = {**(self._state() if online else {}), "online": online, "session": self._number}
        return Publication(
            topic(self._lane_id, "state"),
            json.dumps(content, separators=(",", ":")).encode(),
            retain=True,
            content_type="application/json",
        )
