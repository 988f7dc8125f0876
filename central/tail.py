"""`sealane tail`: what the lanes say, for people or for programs. Verifies always, opens with the owner's key."""

import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from central import options
from central.lanes import LEAVES, open_lane_keys, refuse_unknown
from central.prefix import Epoch
from central.screen import Lines, Screen
from central.store import Store, Stored
from central.watcher import Line, Watcher
from edge.errors import KeyFilePassphrase, OptionMissing, SealaneError, TokenRefused
from edge.mqtt import TICK_S, Message, Session, keep_connected, lane_filter, split
from edge.record import Kind
from edge.seal import custody, keys, receipt
from edge.seal.keys import PublicKey, Purpose
from edge.seal.opener import Opener

FOLLOW_S = 1.0
LATE_COMMIT_NS = 10_000_000_000
"""A collector's commit may become visible this much later than one that was begun after it."""


class KindName(StrEnum):
    """The kinds of `edge.record.Kind` as people say them."""

    READ = "read"
    CHECKPOINT = "checkpoint"
    GAP = "gap"
    AUDIT = "audit"


def command(
    lanes: options.Lanes = None,
    trust: options.TrustSource = None,
    root: options.RootFile = None,
    trust_state: options.TrustState = options.TRUST_STATE,
    broker: Annotated[str | None, options.BROKER] = None,
    ca: Annotated[Path | None, options.CA] = None,
    certificate: Annotated[Path | None, options.CERTIFICATE] = None,
    key: Annotated[Path | None, options.KEY] = None,
    store: Annotated[str | None, typer.Option(help="Read a collector's store instead of listening.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --store: go on with what comes.")] = False,
    owner_key: Annotated[Path | None, typer.Option(help="Private key of a recipient; without it only verify.")] = None,
    passphrase_file: options.PassphraseFile = None,
    collector_key: Annotated[list[Path] | None, typer.Option(help="Public key of a collector, for receipts.")] = None,
    lane: Annotated[list[str] | None, typer.Option(help="Show only this lane.")] = None,
    kind: Annotated[list[KindName] | None, typer.Option(help="Show only this kind; alarms are always shown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each message.")] = False,
) -> None:
    """Show what the lanes say: verified always, opened with the owner's key.

    Times are UTC, of the sealing. With a plate: its region, how sure the whole
    text is (1.000 at most), how many frames agreed of those that were read,
    and km/h if two loops measured it. Then how long after its sealing it came,
    and its number in the lane's chain: "ok 18" goes on from 17, "joined" is
    the first that is heard of a lane, "new-epoch" the first of an outbox,
    "late" what had been missed, and "declared-gap" tells what was given up.
    """
    opener = _opener(owner_key, passphrase_file) if owner_key is not None else None
    patient = store is not None and not follow
    lane_keys = open_lane_keys(lanes, trust, root, trust_state, patient=patient)
    refuse_unknown(lane or (), lane_keys)
    watcher = Watcher(lane_keys, opener)
    collectors = [keys.load_public(path, Purpose.SIGNING) for path in collector_key or []]
    wanted = _Wanted(frozenset(lane or ()), frozenset(Kind[name.name] for name in kind or ()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    screen: Lines | Screen = Lines() if as_json else Screen(watcher, opener is not None)
    with screen:
        try:
            if store is not None:
                _from_store(Store(store, read_only=True), watcher, screen, wanted, stop if follow else None)
            elif broker and ca and certificate and key:
                name = f"{options.own_name(certificate)}-tail-{time.monotonic_ns() & 0xFFFFFF:06x}"
                session = Session(options.broker(broker, ca, certificate, key), name, resume=False, expiry_s=0)
                _from_broker(session, watcher, screen, wanted, collectors, stop)
            else:
                raise OptionMissing("tail needs --broker with --ca, --certificate and --key, or --store")
        except KeyboardInterrupt:
            stop.set()
    if watcher.unopened is not None and not watcher.counts["opened"]:
        raise watcher.unopened


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to show; alarms always. Empty: everything."""

    lanes: frozenset[str]
    kinds: frozenset[Kind]

    def shows(self, line: Line) -> bool:
        of_lane = not self.lanes or line.lane in self.lanes
        return of_lane and (line.alarm is not None or not self.kinds or line.kind in self.kinds)


def _opener(path: Path, passphrase_file: Path | None) -> Opener:
    secret = options.passphrase(passphrase_file, path) if passphrase_file is not None else None
    try:
        return custody.opener(path, secret)
    except (KeyFilePassphrase, TokenRefused):
        if secret is not None:
            raise
        return custody.opener(path, options.passphrase(None, path))


def _from_store(
    store: Store, watcher: Watcher, screen: Lines | Screen, wanted: _Wanted, follow_until: threading.Event | None
) -> None:
    """All of a store in the order of its coming; with `follow_until` also what comes later."""
    after = (0, "", "", 0)
    shown: set[tuple[int, str, str, int]] = set()
    ends: dict[tuple[str, Epoch], int] = {}

    def show(message: Stored) -> None:
        if message.place in shown:
            return
        shown.add(message.place)
        ends[message.lane, message.epoch] = max(message.seq, ends.get((message.lane, message.epoch), 0))
        line = watcher.message(message.lane, message.sealed, message.received_ns)
        if line is not None and wanted.shows(line):
            screen.line(line)

    while True:
        found = store.received(after)
        for message in found:
            show(message)
        after = found[-1].place if found else after
        shown = {place for place in shown if place[0] >= after[0] - LATE_COMMIT_NS}
        if found:
            continue
        if follow_until is None or follow_until.wait(FOLLOW_S):
            return
        after = (max(0, after[0] - LATE_COMMIT_NS), "", "", 0)
        for head in store.heads():  # what came after the collector's clock was set back is not behind `after`
            if head.up_to > (end := ends.get((head.lane, head.epoch), 0)):
                for message in store.messages(head.lane, head.epoch, end):
                    show(message)


def _from_broker(
    session: Session,
    watcher: Watcher,
    screen: Lines | Screen,
    wanted: _Wanted,
    collectors: list[PublicKey],
    stop: threading.Event,
) -> None:
    def serve() -> None:
        session.connect()
        session.subscribe([lane_filter(leaf) for leaf in (*LEAVES, "receipt")])
        while not stop.is_set():
            for event in session.wait(TICK_S):
                if isinstance(event, Message) and (place := split(event.topic)) is not None:
                    hear(*place, event.payload)
        session.close()

    def hear(lane: str, leaf: str, data: bytes) -> None:
        if leaf == "receipt":
            if collectors and (said := _receipt(lane, data, collectors)) is not None:
                screen.receipt(said)
            return
        line = watcher.message(lane, data, time.time_ns())
        if line is not None and wanted.shows(line):
            screen.line(line)

    keep_connected(serve, stop, trouble=screen.trouble)


def _receipt(lane: str, data: bytes, collectors: list[PublicKey]) -> receipt.Receipt | None:
    """A receipt that one of `collectors` signed for `lane`; the lane itself refuses any other."""
    try:
        said = receipt.verify(receipt.parse(data), collectors)
    except SealaneError:
        return None
    return said if said.lane == lane else None
