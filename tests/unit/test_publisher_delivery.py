"""What to send and when to send it again, without a broker."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.config import Broker
from edge.errors import MqttNoSubscriber, MqttNotAuthorised, ReceiptRefused
from edge.mqtt import NO_SUBSCRIBER, Message, Publication, topic
from edge.outbox import Sealed
from edge.publisher import MAX_PATIENCE_S, MAX_REFUSED_PAUSE_S, Delivery, Publisher
from edge.record import Kind


def test_what_waits_is_sent_once_and_in_order() -> None:
    delivery = Delivery(10)
    assert delivery.next([1, 2], 0) == [1, 2]
    assert delivery.next([1, 2, 3], 1) == [3]
    assert delivery.next([1, 2, 3], 9.9) == []


def test_what_no_receipt_came_for_is_sent_again_all_of_it_in_order() -> None:
    delivery = Delivery(10)
    delivery.next([1, 2], 0)
    delivery.next([1, 2, 3], 5)
    assert delivery.idle_s(5) == 5
    assert delivery.next([1, 2, 3], 10) == [1, 2, 3]


def test_a_receipt_starts_the_wait_anew() -> None:
    delivery = Delivery(10)
    delivery.next([1, 2, 3], 0)
    assert delivery.next([2, 3], 9) == []
    assert delivery.next([2, 3], 18.9) == []
    assert delivery.next([2, 3], 19) == [2, 3]


def test_the_wait_doubles_while_nothing_moves_and_falls_back_when_something_does() -> None:
    delivery, now, waits = Delivery(10), 0.0, []
    delivery.next([1, 2], now)
    for _ in range(6):
        waits.append(delivery.idle_s(now))
        now += waits[-1]
        assert delivery.next([1, 2], now) == [1, 2]
    assert waits == [10, 20, 40, MAX_PATIENCE_S, MAX_PATIENCE_S, MAX_PATIENCE_S]
    delivery.next([2], now)
    assert delivery.idle_s(now) == 10


def test_a_longer_timeout_than_the_cap_is_kept() -> None:
    delivery = Delivery(600)
    delivery.next([1], 0)
    delivery.next([1], 600)
    assert delivery.idle_s(600) == 600


def test_a_lost_session_sends_all_again_and_a_kept_one_does_not() -> None:
    delivery = Delivery(10)
    delivery.next([1, 2], 0)
    delivery.connected(session_present=True)
    assert delivery.next([1, 2], 1) == []
    delivery.connected(session_present=False)
    assert delivery.next([1, 2], 2) == [1, 2]


def test_a_refusal_is_tried_again_soon_and_then_less_and_less_often() -> None:
    delivery, now, pauses = Delivery(60), 0.0, []
    delivery.next([1, 2], now)
    for _ in range(7):
        delivery.refused(now)
        delivery.refused(now)
        pauses.append(delivery.idle_s(now))
        now += pauses[-1]
        assert delivery.next([1, 2], now) == [1, 2]
    assert pauses == [1, 2, 4, 8, 16, MAX_REFUSED_PAUSE_S, MAX_REFUSED_PAUSE_S]


def test_with_nothing_under_way_there_is_nothing_to_wait_for() -> None:
    delivery = Delivery(10)
    assert delivery.next([], 0) == []
    assert delivery.idle_s(0) == float("inf")


@given(st.lists(st.integers(1, 5)))
def test_everything_is_sent_before_it_is_sent_again(batches: list[int]) -> None:
    delivery = Delivery(10)
    sent: list[int] = []
    waiting: list[int] = []
    for batch in batches:
        waiting += range(len(waiting) + 1, len(waiting) + 1 + batch)
        sent += delivery.next(waiting, 0)
    assert sent == waiting


class Wire(RuleBasedStateMachine):
    """A lossy broker: whatever it does, all is confirmed in the end, and a message is only forgotten once confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery = Delivery(10)
        self.now, self.made, self.confirmed = 0.0, 0, 0
        self.arrived: set[int] = set()
        self.last: int | None = None

    @property
    def waiting(self) -> list[int]:
        return list(range(self.confirmed + 1, self.made + 1))[:8]

    def send(self, lost: bool) -> None:
        sent = list(self.delivery.next(self.waiting, self.now))
        assert sent == sorted(sent)
        assert set(sent) <= set(self.waiting)
        if not lost:
            self.arrived |= set(sent)

    @rule(count=st.integers(1, 5), lost=st.booleans())
    def append(self, count: int, lost: bool) -> None:
        self.made += count
        self.send(lost)

    @rule(seconds=st.floats(0, 30), lost=st.booleans())
    def wait(self, seconds: float, lost: bool) -> None:
        self.now += seconds
        self.send(lost)

    @rule(present=st.booleans(), lost=st.booleans())
    def reconnect(self, present: bool, lost: bool) -> None:
        self.delivery.connected(session_present=present)
        self.send(lost)

    @rule()
    def refuse(self) -> None:
        self.delivery.refused(self.now)

    @precondition(lambda self: self.confirmed + 1 in self.arrived)
    @rule()
    def receipt(self) -> None:
        while self.confirmed + 1 in self.arrived:
            self.confirmed += 1
        self.send(lost=False)

    @invariant()
    def what_waits_is_due(self) -> None:
        assert not self.waiting or self.delivery.idle_s(self.now) <= MAX_PATIENCE_S + 1e-6

    def teardown(self) -> None:
        for _ in range(1000):
            if self.confirmed == self.made:
                return
            self.now += min(self.delivery.idle_s(self.now), MAX_PATIENCE_S)
            self.send(lost=False)
            while self.confirmed + 1 in self.arrived:
                self.confirmed += 1
        raise AssertionError("not all was delivered")


TestWire = Wire.TestCase
TestWire.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def publisher() -> Publisher:
    file = Path("unread.pem")
    broker = Broker(host="broker", ca_file=file, certificate_file=file, key_file=file)
    outbox = SimpleNamespace(pending=lambda limit: [])
    return Publisher(broker, "lane-1", outbox, [], receipt_timeout_s=1, state=dict)  # type: ignore[arg-type]


class Line:
    """A connection that holds for two turns; what was published on it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.published: list[Publication] = []

    def connect(self, will: Publication) -> bool:
        return True

    def subscribe(self, filters: object) -> None: ...

    def wake(self) -> None: ...

    def wait(self, timeout_s: float) -> list[object]:
        if len(self.published) > 1:
            self.stop.set()
        self.published.append(Publication("", b""))
        return []

    def publish(self, publication: Publication) -> None:
        self.published.append(publication)

    def close(self, farewell: Publication) -> None: ...


def asked(lane: Publisher) -> list[bytes]:
    """What the lane asks of the owner over one connection."""
    line = Line()
    vars(lane)["_session"] = line
    lane._serve(line.stop, lambda: None)
    return [one.payload for one in line.published if one.topic == topic("lane-1", "request")]


def test_a_request_that_was_answered_while_the_line_or_the_lane_was_down_is_taken_back() -> None:
    lane = publisher()
    assert asked(lane) == []
    lane.follow([], Path("certificate"), b"a key")
    assert asked(lane) == [b"a key"]
    lane.follow([], Path("certificate"), None)
    assert asked(lane) == [b""]
    restarted = publisher()
    restarted.follow([], Path("certificate"), None)
    assert asked(restarted) == [b""]


def test_how_long_nothing_was_confirmed_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, now, waiting = publisher(), 100.0, [Sealed(1, 1, 1, Kind.READ, b"")]
    vars(lane)["_outbox"] = SimpleNamespace(pending=lambda limit: waiting, confirm=lambda said: 1)
    vars(lane)["_session"] = Line()
    monkeypatch.setattr("edge.publisher.time.monotonic", lambda: now)
    monkeypatch.setattr("edge.publisher.receipt", SimpleNamespace(parse=bytes, verify=lambda said, keys: said))
    lane._send(now)
    now = 400.0
    lane._send(now)
    assert lane.unconfirmed_s == 300
    lane._receive(Message(topic("lane-1", "receipt"), b"", retained=False))
    lane._send(now)
    assert lane.unconfirmed_s == 0
    waiting.clear()
    now = 900.0
    lane._send(now)
    assert lane.unconfirmed_s == 0


def test_only_a_receipt_that_confirms_something_ends_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, heard = publisher(), Message(topic("lane-1", "receipt"), b"", retained=False)
    confirms = iter([0, 2])
    vars(lane)["_outbox"] = SimpleNamespace(confirm=lambda said: next(confirms))
    monkeypatch.setattr("edge.publisher.receipt", SimpleNamespace(parse=bytes, verify=lambda said, keys: said))
    lane._trouble(ReceiptRefused("a lie"))
    lane._receive(heard)
    assert (lane.status.error, lane.status.confirmed) == (ReceiptRefused.code, 0)
    lane._receive(heard)
    assert (lane.status.error, lane.status.confirmed) == (None, 2)


def test_trouble_of_two_kinds_in_turn_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    lane = publisher()
    with caplog.at_level("WARNING"):
        for _ in range(1000):
            lane._trouble(MqttNoSubscriber("nobody"))
            lane._trouble(MqttNotAuthorised("not you"))
    assert len(caplog.records) == 2
    assert lane.status.error == MqttNotAuthorised.code


@pytest.mark.parametrize(
    ("leaf", "said"),
    [("record", MqttNoSubscriber.code), ("checkpoint", MqttNoSubscriber.code), ("state", None), ("request", None)],
)
def test_only_of_what_a_collector_must_hear_it_is_trouble_that_nobody_listens(leaf: str, said: str | None) -> None:
    lane = publisher()
    lane._refused(Publication(topic("lane-1", leaf), b"", retain=True), NO_SUBSCRIBER)
    assert lane.status.error == said
