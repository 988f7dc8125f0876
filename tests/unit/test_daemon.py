"""What becomes of visits and faults in the daemon; its stages are left out, and the outbox is a list."""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from annotated_types import Le

from central.certificates import Authority, make_key
from drivers.camera.network import NetworkSettings
from drivers.clock import Clock
from drivers.loop.asked import ATTEMPTS, LineSettings
from drivers.loop.base import LoopEvent, LoopEventKind
from drivers.loop.wire import WRITE_TIMEOUT_S
from drivers.settings import DriverSettings
from edge.books import Books
from edge.capture import CAPTURE_TIMEOUT_S
from edge.daemon import ENDED_NOTE, SPENT_NOTE, STAGE_PATIENCE_S, STUCK_NOTE, Daemon
from edge.errors import LoopPortMissing, MqttCertificateEnds, OutboxFull, StageStuck
from edge.faults import BURST
from edge.health import Health
from edge.keeper import Standing
from edge.outbox import Outbox
from edge.passage import FaultChanged, FaultKind, Passage, PassageMachine, PassageSettings
from edge.record import AuditRecord, Ending, Instant, LaneRecord, NoRead, PlateReading, PlateText, ReadRecord, encode
from edge.seal import envelope
from edge.seal.opener import FileOpener
from tests.sealing import outbox, recipient_key, sealer

ARRIVE, LEAVE, FAULT, CLEAR, LOST, RESTORED = LoopEventKind
VISIT = Passage(bytes(16), 1, 2, Ending.LEFT)
IDLE_VISITS = SimpleNamespace(left=lambda _: None)


class Kept(list[LaneRecord]):
    """An outbox that holds what a record can hold, and nothing more when it is full."""

    full = False
    depth = 0
    checkpointed = None

    def append(self, record: LaneRecord) -> tuple[int, int]:  # type: ignore[override]
        encode(record)
        if self.full:
            raise OutboxFull("full")
        super().append(record)
        return 1, len(self)

    def waits(self, seq: int) -> bool:
        return False


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def daemon(kept: Kept) -> Daemon:
    return daemon_with(kept)


def daemon_with(kept: Kept | Outbox) -> Daemon:
    daemon, publisher = Daemon.__new__(Daemon), SimpleNamespace(wake=lambda: None, announce=lambda: None)
    health, clock = Health(), Clock()
    vars(daemon).update(
        _outbox=kept,
        _publisher=publisher,
        _health=health,
        _clock=clock,
        _books=Books(kept, publisher, health, clock),  # type: ignore[arg-type]
        _plates=SimpleNamespace(model_id="model"),
        _arrivals={VISIT.id: Instant(1, 1)},
        _recent=deque(),
        _visit_id=b"",
        _restarted=False,
    )
    return daemon


def test_a_reading_that_no_record_can_hold_costs_the_visit_its_text_and_not_its_record(
    daemon: Daemon, kept: Kept
) -> None:
    daemon._finish(VISIT, PlateReading(PlateText("b 123"), None))
    read, fault = kept
    assert isinstance(read, ReadRecord)
    assert isinstance(fault, AuditRecord)
    assert (read.passage_id, read.reading) == (VISIT.id, PlateReading(None, NoRead.UNSURE))
    assert dict(fault.facts) == {"source": "reader", "what": "REC-01", "active": 1}
    daemon._arrivals[VISIT.id] = Instant(3, 3)
    daemon._finish(VISIT, PlateReading(PlateText("B123"), None))
    assert isinstance(over := kept[-1], AuditRecord)
    assert dict(over.facts) == {"source": "reader", "what": "", "active": 0}


def test_a_fault_that_chatters_fills_no_outbox_and_its_last_state_is_told_all_the_same(
    daemon: Daemon, kept: Kept
) -> None:
    for n in range(1001):
        daemon._books.fault("loop-0-detector", "detector", active=n % 2 == 0)
    assert len(kept) == BURST
    assert daemon._health.state()["counts"]["fault_changes"] == 1001
    daemon._books.tell_faults(everything=True)
    assert isinstance(last := kept[-1], AuditRecord)
    assert dict(last.facts) == {"source": "loop-0-detector", "what": "detector", "active": 1, "changes": 1001 - BURST}


def test_a_loop_may_be_stuck_on_and_at_fault_and_the_end_of_one_is_not_the_end_of_the_other(daemon: Daemon) -> None:
    vars(daemon).update(_machine=PassageMachine(PassageSettings(), new_id=bytes), _visits=IDLE_VISITS)

    def told(kind: FaultKind, active: bool) -> dict[str, str]:
        daemon._apply((FaultChanged(kind, active, 1, 0),))
        return dict(daemon._health.state()["faults"])

    stuck, at_fault = {"loop-0-stuck-on": "stuck-on"}, {"loop-0-detector": "detector"}
    assert told(FaultKind.STUCK, True) == stuck
    assert told(FaultKind.DETECTOR, True) == stuck | at_fault
    assert told(FaultKind.DETECTOR, False) == stuck
    assert told(FaultKind.DETECTOR, True) == stuck | at_fault
    assert told(FaultKind.STUCK, False) == at_fault


def test_loops_whose_occupancy_had_its_record_are_noted_for_the_next_process_before_that_record(
    daemon: Daemon, kept: Kept
) -> None:
    done: list[object] = []
    vars(daemon._books)["fault"] = lambda source, what, active: done.append(f"fault {source} {active:d}")
    vars(kept)["note"] = lambda values: done.append(tuple(values.values()))
    vars(kept)["open_visit"] = lambda *_: done.append(("opened",))
    visits = SimpleNamespace(
        open=lambda _: None, left=lambda _: None, close=lambda passage: done.append((str(passage.ending),))
    )
    machine = PassageMachine(PassageSettings(gate_time_s=10), new_id=lambda: bytes(16))
    vars(daemon).update(_machine=machine, _visits=visits, _interrupted=[], _noted={SPENT_NOTE: "", STUCK_NOTE: ""})
    for kind, at_ns in [(RESTORED, 1), (ARRIVE, 2), (FAULT, 3), (CLEAR, 4), (LEAVE, 5)]:
        daemon._apply(machine.on(LoopEvent(kind, 0, at_ns)))
    assert done == [
        ("opened",),
        "fault loop-0-detector 1",
        ("0", ""),
        (bytes(16).hex(),),
        ("fault",),
        "fault loop-0-detector 0",
    ]
    done.clear()
    daemon._apply(machine.on(LoopEvent(ARRIVE, 0, 6)))
    daemon._apply(machine.tick(20_000_000_000))
    assert done == [("", ""), ("opened",), "fault loop-0-stuck-on 1", ("0", "0"), (bytes(16).hex(),), ("gate-time",)]


class Box:
    """One box with a real outbox, whose daemon is killed and started again: visits are read when the test says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = iter(bytes([n]) * 16 for n in range(1, 100))
        self.start()

    def start(self) -> None:
        self.outbox = outbox(self._folder)
        self.closed: list[Passage] = []
        self.daemon = daemon_with(self.outbox)
        self._machine = PassageMachine(PassageSettings(), new_id=lambda: next(self._ids))
        vars(self.daemon).update(
            _machine=self._machine,
            _visits=SimpleNamespace(open=lambda _: None, left=lambda _: None, close=self.closed.append),
            _noted={SPENT_NOTE: "", STUCK_NOTE: ""},
            _interrupted=list(self.outbox.interrupted),
            _ended=self.outbox.noted(ENDED_NOTE),
        )

    def kill(self) -> None:
        self.outbox.close()
        self.start()

    def hear(self, *events: tuple[LoopEventKind, int]) -> None:
        for kind, second in events:
            self.daemon._apply(self._machine.on(LoopEvent(kind, 0, second * 10**9)))

    def records(self) -> list[tuple[int, bool]]:
        """Each visit's record, once all that were closed are read: the first byte of its id, and if it was read."""
        self.daemon._settle_interrupted(10**18)
        for passage in self.closed:
            self.daemon._finish(passage, PlateReading(PlateText("B123"), None))
        kept = [envelope.parse(message.payload) for message in self.outbox.pending()]
        said = [envelope.open_record(one, FileOpener(recipient_key())) for one in kept]
        return sorted((one.passage_id[0], one.reading.text is not None) for one in said if isinstance(one, ReadRecord))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.outbox.close()


def test_a_vehicle_that_stands_there_at_the_start_is_not_the_one_that_was_seen_to_leave(box: Box) -> None:
    box.hear((RESTORED, 1), (ARRIVE, 10), (LEAVE, 12))
    box.kill()
    box.hear((RESTORED, 40), (ARRIVE, 40), (LEAVE, 45))
    assert box.records() == [(1, False), (2, True)]


def test_a_visit_goes_on_though_one_before_it_had_no_record_yet(box: Box) -> None:
    box.hear((RESTORED, 1), (ARRIVE, 10), (LEAVE, 12), (ARRIVE, 15))
    box.kill()
    box.hear((RESTORED, 40), (ARRIVE, 40))
    box.kill()
    box.hear((RESTORED, 60), (ARRIVE, 60), (LEAVE, 70))
    assert box.records() == [(1, False), (2, True)]


def test_a_visit_goes_on_whatever_the_clock_said_when_it_began(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.hear((RESTORED, 1), (ARRIVE, 10), (LEAVE, 12))
    monkeypatch.setattr(box.daemon._books, "instant", lambda at_ns: Instant(1, at_ns))
    box.hear((ARRIVE, 15))
    box.kill()
    box.hear((RESTORED, 40), (ARRIVE, 40), (LEAVE, 45))
    assert box.records() == [(1, False), (2, True)]


def test_a_call_that_chatters_under_a_fault_is_noted_no_oftener_than_that_the_process_lives(
    daemon: Daemon, kept: Kept
) -> None:
    done: list[str] = []
    vars(kept).update(note=lambda values: done.append(values[SPENT_NOTE]), alive=lambda _: done.append("alive"))
    machine = PassageMachine(PassageSettings(), new_id=lambda: bytes(16))
    vars(daemon).update(_machine=machine, _visits=IDLE_VISITS, _noted={SPENT_NOTE: "", STUCK_NOTE: ""})
    daemon._apply(machine.on(LoopEvent(RESTORED, 0, 1)))
    daemon._apply(machine.on(LoopEvent(FAULT, 0, 2)))
    for n in range(3, 1000):
        daemon._apply(machine.on(LoopEvent(ARRIVE if n % 2 else LEAVE, 0, n)))
    daemon._alive()
    daemon._alive()
    assert done == ["0", "alive", "alive"]


def test_a_fault_that_could_not_be_written_down_is_written_once_there_is_room(daemon: Daemon, kept: Kept) -> None:
    kept.full = True
    daemon._books.checkpoint()
    daemon._books.fault("camera", "CAM-02", active=True)
    daemon._books.fault("camera", "CAM-02", active=False)
    daemon._books.fault("trust", "TRUST-01", active=True)
    assert (daemon._health.state()["counts"], len(kept)) == ({"fault_changes": 4}, 0)
    kept.full = False
    daemon._books.checkpoint()
    assert [dict(record.facts) for record in kept if isinstance(record, AuditRecord)] == [
        {"source": "outbox", "what": "OUT-01", "active": 0},
        {"source": "camera", "what": "CAM-02", "active": 0, "changes": 2},
        {"source": "trust", "what": "TRUST-01", "active": 1},
    ]
    daemon._books.checkpoint()
    assert len(kept) == 5


def test_what_is_held_back_of_a_fault_is_told_when_a_stage_hangs(daemon: Daemon, kept: Kept) -> None:
    for n in range(BURST + 1):
        daemon._books.fault("camera", "CAM-02", active=n % 2 == 0)
    daemon._health.stage("camera", lambda: -1.0)
    machine, config = PassageMachine(PassageSettings(), new_id=bytes), SimpleNamespace(checkpoint_s=60)
    vars(daemon).update(
        _machine=machine,
        _visits=IDLE_VISITS,
        _config=SimpleNamespace(state=config),
        _stop=threading.Event(),
        _stopping=False,
        _events=queue.Queue(),
        _watcher=SimpleNamespace(settled_ns=0),
        _heard_ns=0,
    )
    with pytest.raises(StageStuck):
        daemon._main()
    assert isinstance(last := kept[-1], AuditRecord)
    assert (len(kept), dict(last.facts)["active"]) == (BURST + 1, 1)


def most(settings: type[DriverSettings], name: str) -> float:
    (bound,) = (each for each in settings.model_fields[name].metadata if isinstance(each, Le))
    assert isinstance(bound.le, int | float)
    return bound.le


def test_no_driver_may_be_told_to_wait_for_as_long_as_makes_its_stage_count_as_hanging() -> None:
    frame_s = most(NetworkSettings, "read_timeout_s") + CAPTURE_TIMEOUT_S
    sample_s = 3 * ATTEMPTS * most(LineSettings, "answer_timeout_ms") / 1000 + ATTEMPTS * WRITE_TIMEOUT_S
    assert max(frame_s, sample_s) < STAGE_PATIENCE_S - 4


def test_why_the_detector_does_not_answer_is_logged_and_its_code_is_the_fault(
    daemon: Daemon, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    machine = PassageMachine(PassageSettings(), new_id=bytes)
    watcher = SimpleNamespace(trouble=LoopPortMissing("/dev/ttyX is not there"))
    vars(daemon).update(_watcher=watcher, _events=queue.Queue(), _machine=machine, _visits=IDLE_VISITS)
    with caplog.at_level("WARNING"):
        daemon._hear(LoopEvent(LOST, 0, 1, LoopPortMissing.code))
    assert "/dev/ttyX is not there" in caplog.text
    daemon._apply(machine.on(daemon._events.get()))
    assert daemon._health.state()["faults"] == {"loop": LoopPortMissing.code}
    daemon._apply(machine.on(LoopEvent(RESTORED, 0, 2)))
    assert daemon._health.state()["faults"] == {}
    assert [dict(one.facts)["what"] for one in kept if isinstance(one, AuditRecord)] == [LoopPortMissing.code, ""]


def test_a_lane_says_that_its_tls_certificate_ends_soon_until_it_shows_another(daemon: Daemon, tmp_path: Path) -> None:
    authority, file = Authority.open_or_make(tmp_path / "tls"), tmp_path / "certificate.pem"
    vars(daemon).update(_standing=Standing(sealer(), (), file, None, None, aim_picture=False))

    def faults() -> dict[str, str]:
        daemon._watch_certificate()
        found: dict[str, str] = daemon._health.state()["faults"]
        return found

    assert faults() == {}  # what can't be read is the broker's to say
    for days, said in ((29, {"certificate": MqttCertificateEnds.code}), (31, {})):
        file.write_bytes(authority.issue("lane-1", make_key().public_key(), days=days))
        assert faults() == said


def test_time_is_heard_of_only_as_far_as_the_loops_events_have_been_worked_on(daemon: Daemon) -> None:
    watcher, events = SimpleNamespace(settled_ns=5), queue.Queue[LoopEvent]()
    vars(daemon).update(_watcher=watcher, _events=events, _heard_ns=0)
    assert daemon._heard() == 5
    events.put(LoopEvent(LoopEventKind.ARRIVE, 0, 6))
    watcher.settled_ns = 7
    assert daemon._heard() == 5
    events.get()
    assert daemon._heard() == 5
    events.task_done()
    assert daemon._heard() == 7
