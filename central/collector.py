"""`sealane collector`: takes sealed messages from the broker, verifies them, stores them and signs receipts.

It holds the lanes' public keys and its own signing key; none of that opens a record. What it can't verify it refuses
and counts. A receipt goes out after the commit that it speaks of, never before.
"""

import hashlib
import logging
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from central import options
from central.lanes import LEAVES, LaneKeys, PolicyKeys, admit, open_lane_keys, refuse_unknown
from central.prefix import Epoch, Head
from central.store import Alarm, Outcome, Store
from edge import logs, notify
from edge.errors import (
    ChainBroken,
    CollectorError,
    CollectorUnnamed,
    MqttPublicationRefused,
    RecordsMissing,
    StoreFailed,
)
from edge.mqtt import (
    REFUSED,
    TICK_S,
    Acknowledged,
    Event,
    Message,
    Publication,
    Session,
    keep_connected,
    lane_filter,
    split,
    topic,
)
from edge.seal import custody, receipt
from edge.seal.envelope import MAX_MESSAGE_BYTES, Envelope
from edge.seal.receipt import Receipt
from edge.seal.signer import Signer

MAX_BATCH = 500
"""Messages in one commit."""
MISSING_PATIENCE_S = 60.0
"""Numbers that are missing for longer than this are an alarm: messages may only have come out of order."""
MAX_WATCHED = 64
"""Epochs of one lane that are watched for what they lack: who has its key begins as many as he likes."""
REPORT_S = 30.0
RECEIPT_TYPE = 'application/cose; cose-type="cose-sign1"'
RECEIPT_EXPIRY_S = 3600
IN_FLIGHT = 100
NO_EPOCH = Epoch("")

log = logging.getLogger(__name__)


class Collector:
    """One collector. `share`: name of the group whose members divide the lanes' messages among them."""

    def __init__(
        self, session: Session, store: Store, lane_keys: LaneKeys, signer: Signer, *, share: str | None = None
    ) -> None:
        self._session = session
        self._store = store
        self._lane_keys = lane_keys
        self._signer = signer
        self._prefix = f"$share/{share}/" if share else ""
        self._unsent: dict[str, Receipt] = {}
        """What goes out once the session has room: of each lane the newest; for any other the lane asks again."""
        self._missing_since: dict[str, dict[Epoch, tuple[int, float]]] = {}
        """Where a lane's chains stand still, and since when: those that were looked at last."""
        self._said_at: dict[str, float] = {}
        self._reported_at = 0.0
        self._reported: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """Messages by what became of them: an Outcome, or the code of the error they were refused with."""

    def run(self, stop: threading.Event) -> None:
        """Collect until `stop`. Trouble with broker and database is logged and tried again."""
        keep_connected(
            lambda: self._serve(stop), stop, trouble=lambda error: logs.error(log, error), alive=notify.alive
        )

    def _serve(self, stop: threading.Event) -> None:
        session_present = self._session.connect()
        self._session.subscribe([self._prefix + lane_filter(leaf) for leaf in LEAVES])
        logs.event(log, logging.INFO, "collecting", "from the broker", session_present=session_present)
        notify.ready()
        while not stop.is_set():
            notify.alive()
            events = self._session.wait(TICK_S)
            while events and len(events) < MAX_BATCH and (more := self._session.wait(0.0)):
                events += more
            self._take(events)
            self._send_receipts()
            self._report()
        self._session.close()

    def _take(self, events: list[Event]) -> None:
        try:
            admitted = [envelope for event in events if (envelope := self._admit(event)) is not None]
            if not admitted:
                return
            outcomes, heads = self._store.add(admitted, time.time_ns(), self._lane_keys.epochs)
            for envelope, outcome in zip(admitted, outcomes, strict=True):
                self._count(outcome, envelope.header.lane)
            for head in heads:
                self._confirm(head)
                self._watch(head)
        except StoreFailed as error:  # nothing was confirmed that is not stored; the lanes send it again
            logs.error(log, error)

    def _admit(self, event: Event) -> Envelope | None:
        """The verified message in an event, or None for what is refused, or is no message of a lane."""
        match event:
            case Message(name, data):
                place = split(name)
                if place is None or place[1] not in LEAVES:
                    return None
                try:
                    return admit(place[0], data, self._lane_keys, time.time_ns())
                except CollectorError as error:
                    self._refuse(place[0], data, error)
            case Acknowledged(publication, reason) if reason >= REFUSED:
                self._count(MqttPublicationRefused.code, publication.topic)
        return None

    def _refuse(self, lane: str, data: bytes, error: CollectorError) -> None:
        self._count(error.code, lane, error.what)
        if self._lane_keys.knows(lane):  # nobody can fill the store in names that nobody enrolled
            digest = hashlib.sha256(data).digest()
            evidence = data[:MAX_MESSAGE_BYTES]
            self._store.alarm(Alarm(lane, error.code, NO_EPOCH, 0, error.what, time.time_ns(), digest, evidence))

    def _confirm(self, head: Head) -> None:
        if head.digest is not None:
            said = Receipt(head.lane, int(head.epoch, 16), head.up_to, head.digest, time.time_ns())
            self._unsent[head.lane] = said
            self._send_receipts()

    def _send_receipts(self) -> None:
        while self._unsent and self._session.has_room:
            lane = next(iter(self._unsent))
            said = self._unsent.pop(lane)
            self._session.publish(
                Publication(
                    topic(lane, "receipt"),
                    receipt.sign(said, self._signer),
                    content_type=RECEIPT_TYPE,
                    expiry_s=RECEIPT_EXPIRY_S,
                    labels=(("lane", lane), ("up-to", str(said.up_to_seq))),
                )
            )

    def _watch(self, head: Head) -> None:
        """Keep an alarm for a chain that is broken, or that has lacked something for too long."""
        watched, now = self._missing_since.setdefault(head.lane, {}), time.monotonic()
        at, since = watched.pop(head.epoch, (head.up_to, now))
        if at != head.up_to:
            since = now
        if head.missing:
            watched[head.epoch] = head.up_to, since
            if len(watched) > MAX_WATCHED:
                del watched[next(iter(watched))]
        if head.broken:
            kind: type[CollectorError] = ChainBroken
        elif head.missing and now - since > MISSING_PATIENCE_S:
            kind = RecordsMissing
        else:
            return
        what = f"after number {head.up_to}"
        self._count(kind.code, head.lane, what)
        self._store.alarm(Alarm(head.lane, kind.code, head.epoch, head.up_to + 1, what, time.time_ns()))

    def _count(self, what: str, where: str, why: str = "see docs/errors.md") -> None:
        """Count, and say it at once the first time in a while if it is bad. why: without payloads."""
        self.counts[what] += 1
        now = time.monotonic()
        if what not in (Outcome.STORED, Outcome.DUPLICATE) and now - self._said_at.get(what, -REPORT_S) >= REPORT_S:
            self._said_at[what] = now
            logs.event(log, logging.ERROR, what, why, at=where, times=self.counts[what])

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S and self.counts != self._reported:
            self._reported_at, self._reported = now, self.counts.copy()
            counts = {name.lower().replace("-", "_"): count for name, count in self.counts.items()}
            logs.event(log, logging.INFO, "collected", "messages since the start", **counts)


def command(
    broker: options.BrokerAddress,
    ca: options.CaFile,
    certificate: options.CertificateFile,
    key: options.KeyFile,
    store: Annotated[str, typer.Option(envvar="SEALANE_STORE", help="A file, or postgresql+psycopg://user@host/name.")],
    signing_key: Annotated[Path, typer.Option(envvar="SEALANE_SIGNING_KEY", help="Key that signs the receipts.")],
    lanes: options.Lanes = None,
    trust: options.TrustSource = None,
    root: options.RootFile = None,
    trust_state: options.TrustState = options.TRUST_STATE,
    share: Annotated[
        str | None, typer.Option(help="Divide the work with the other collectors of this name; needs PostgreSQL.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="LANE whose missing records are lost for good; the alarm stays.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Verify and store what the lanes send, and sign receipts. It can't open a record."""
    logs.setup(verbose)
    settings = options.broker(broker, ca, certificate, key).model_copy(update={"in_flight": IN_FLIGHT})
    signer = custody.signer(signing_key)
    lane_keys = open_lane_keys(lanes, trust, root, trust_state)
    if isinstance(lane_keys, PolicyKeys) and not lane_keys.names_collector(signer.public):
        logs.error(log, CollectorUnnamed(f"the owner's policy names no collector {signer.public.fingerprint}"))
    refuse_unknown(accept or (), lane_keys)
    database = Store(store, shared=share is not None)
    for lane in accept or ():
        heads = database.accept_missing(lane, time.time_ns())
        if not heads:
            logs.event(log, logging.WARNING, "accepted", "nothing, for nothing is known to be missing", lane=lane)
        for head in heads:
            logs.event(log, logging.WARNING, "accepted", "what was missing", lane=lane, up_to=head.up_to)
    session = Session(settings, options.own_name(certificate), resume=True)
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        session.wake()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    Collector(session, database, lane_keys, signer, share=share).run(stop)
    notify.stopping()
    database.close()
