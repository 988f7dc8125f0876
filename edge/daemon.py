"""The one place that wires the stages of a lane together, starts them, watches them and stops them.

Threads: loop (hears the detector), camera (fills the ring), reader (reads visits), publisher, control socket, and main,
which turns loop events into visits, keeps the books and feeds the watchdog. A stage that fails ends the process: the
outbox is already safe, and systemd starts it again.
"""

import datetime
import hashlib
import logging
import queue
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from drivers.camera.base import Camera
from drivers.clock import Clock
from drivers.loop.base import LoopDetector, LoopEvent, LoopEventKind
from drivers.loop.watch import LoopWatcher, WatchState
from edge import config, keeper, logs, notify
from edge.aim.eye import Eye
from edge.aim.session import AimSession
from edge.books import Books, Fact
from edge.capture import CameraFeed, CameraState, FrameLease, FrameRing
from edge.confine import ConfineReport
from edge.control import ControlServer, socket_path
from edge.errors import DriverUnknown, ModelError, MqttCertificateEnds, RecordInvalid, StageStuck
from edge.explain import to_json, visit_of
from edge.frames import FrameDecoder
from edge.health import Health
from edge.keeper import Standing
from edge.outbox import Limits, Outbox
from edge.passage import (
    Change,
    Closed,
    FaultChanged,
    FaultKind,
    Opened,
    Passage,
    PassageMachine,
    PassageSettings,
    State,
)
from edge.publisher import Publisher
from edge.reading.fuse import Vote
from edge.reading.reader import FrameReading, PlateReader
from edge.record import Ending, Instant, NoRead, PlateReading, ReadRecord
from edge.visit import VisitReader, VisitSettings

SOFTWARE = f"sealane {version('sealane')}"
MAX_EVENTS = 1000
TICK_S = 0.25
ALIVE_S = 2.0
"""How often the time is noted in the outbox: the bound on what a boot record can be wrong about."""
STATE_S = 10.0
"""How often the state message is renewed when nothing happened."""
CERTIFICATE_SOON = datetime.timedelta(days=30)
"""Before its TLS certificate ends, the lane says so."""
VISITS_KEPT = 100
"""Visits whose numbers `sealane explain` can ask for."""
SPENT_NOTE, STUCK_NOTE = "spent loops", "stuck loops"
"""In the outbox, for the next process: numbers of the loops whose call opens no visit, and of those stuck on."""
ENDED_NOTE = "ended visit"
"""Likewise: the visit that was seen to end last. It may have no record yet, but it doesn't go on."""
STOP_S = 5.0
"""Longest wait for the stages to end; systemd or the kernel ends what is left."""
STAGE_PATIENCE_S = 20.0
"""More than a driver that works as it should is allowed to wait for a frame or an answer."""
OPEN_PATIENCE_S = 300.0
"""A stage that opens what it talks to may be silent for this long. Looking up a name can't be bounded from here: where
no name server answers, glibc takes up to 28 s for the name and again for each search domain, systemd-resolved 120 s."""

log = logging.getLogger(__name__)


class Daemon:
    """One lane; `folder` is where its lane.toml is. Construct, then run(); both raise a SealaneError when something
    configured is missing or fails."""

    def __init__(self, settings: config.LaneConfig, confinement: ConfineReport, folder: Path) -> None:
        self._config = settings
        self._confinement = confinement
        self._stop = threading.Event()
        self._stopping = False
        self._failure: BaseException | None = None
        self._health = Health()
        self._clock = Clock()
        self._events: queue.Queue[LoopEvent] = queue.Queue(MAX_EVENTS)
        detector: LoopDetector = _driver("loop", settings.loop, folder)
        camera: Camera = _driver("camera", settings.camera, folder)
        self._ring = FrameRing(settings.camera.ring_frames, settings.camera.ring_frame_kib * 1024)
        self._feed = CameraFeed(
            camera,
            self._ring,
            keep_s=settings.camera.before_s + 1.0,
            silent_after_s=settings.camera.silent_after_s,
        )
        self._keeper, self._standing = keeper.stand(settings)
        self._plates, self._model_fault = _plate_reader(self._standing.model_folder, settings.reading.threads)
        self._decoder = FrameDecoder()
        self._visits = VisitReader(
            self._ring,
            self._read_frame,
            Vote,
            self._finish,
            VisitSettings(settings.camera.before_s, settings.camera.after_s, settings.reading.max_frames),
            heard=self._heard,
        )
        self._outbox = Outbox.open(
            settings.state.directory / "outbox.sqlite",
            self._standing.sealer,
            Limits(bytes=settings.state.outbox_mib << 20),
        )
        self._noted = {name: self._outbox.noted(name) or "" for name in (SPENT_NOTE, STUCK_NOTE)}
        spent, stuck = ([int(loop) for loop in self._noted[name].split()] for name in (SPENT_NOTE, STUCK_NOTE))
        self._machine = PassageMachine(
            PassageSettings(detector.loops, settings.loop.gate_time_s, settings.loop.spacing_m),
            new_id=lambda: secrets.token_bytes(16),
            spent=spent,
            stuck=stuck,
        )
        for loop in self._machine.stuck:
            self._health.fault(_source(FaultKind.STUCK, loop), FaultKind.STUCK)  # told before; its end is news
        self._watcher = LoopWatcher(detector, debounce_ms=settings.loop.debounce_ms, occupied=self._machine.spent)
        self._publisher = Publisher(
            settings.broker,
            settings.lane.id,
            self._outbox,
            self._standing.collectors,
            receipt_timeout_s=settings.state.receipt_timeout_s,
            state=self._health.state,
            carried=None if self._keeper is None else self._keeper.carried,
            connected=(lambda: None) if self._keeper is None else self._keeper.connected,
        )
        self._books = Books(self._outbox, self._publisher, self._health, self._clock)
        self._aim = AimSession(
            self._ring,
            lambda: Eye(settings.reading.roi, self._plates.bundle_dir),
            loop=lambda: str(self._machine.state),
            picture_allowed=lambda: self._standing.aim_picture,
            audit=lambda *facts: self._books.audit("aim", *facts),
        )
        self._control = ControlServer(
            socket_path(settings.state.directory),
            {
                "status": self._health.state,
                "visits": lambda: list(self._recent),
                "confinement": lambda: [asdict(measure) for measure in self._confinement.measures],
                **self._aim.handlers(),
            },
        )
        self._recent: deque[dict[str, Any]] = deque(maxlen=VISITS_KEPT)
        self._interrupted = list(self._outbox.interrupted)
        self._ended = self._outbox.noted(ENDED_NOTE)
        self._arrivals: dict[bytes, Instant] = {}
        self._visit_id = b""
        self._restarted = False
        self._heard_ns = 0
        self._camera_live = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT, or until a stage fails: then that failure is raised."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        stages: dict[str, tuple[Callable[[Callable[[], None]], None], Callable[[], float]]] = {
            "loop": (
                lambda alive: self._watcher.run(self._hear, self._stop, alive),
                lambda: OPEN_PATIENCE_S if self._watcher.state is WatchState.CONNECTING else STAGE_PATIENCE_S,
            ),
            "camera": (
                lambda alive: self._feed.run(self._stop, alive, self._camera_changed),
                lambda: STAGE_PATIENCE_S if self._camera_live else OPEN_PATIENCE_S,
            ),
            "reader": (lambda alive: self._visits.run(self._stop, alive), lambda: STAGE_PATIENCE_S),
            "publisher": (lambda alive: self._publisher.run(self._stop, alive), lambda: OPEN_PATIENCE_S),
        }
        if self._keeper is not None:
            watch_over = self._keeper.run
            stages["trust"] = (lambda alive: watch_over(self._stop, alive, self._follow), lambda: OPEN_PATIENCE_S)
        with self._control:
            self._boot()
            threads = [
                threading.Thread(target=self._stage, args=(work, self._health.stage(name, patience)), name=name)
                for name, (work, patience) in stages.items()
            ]
            for thread in threads:
                thread.daemon = True  # a camera call that never returns must not keep the process
                thread.start()
            notify.ready()
            logs.event(log, logging.INFO, "ready", "the lane is watched", lane=self._config.lane.id)
            try:
                self._main()
            finally:
                notify.stopping()
                self._stop.set()
                self._aim.stop()
                self._publisher.wake()
                deadline = time.monotonic() + STOP_S
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
                self._ring.close()
                self._alive()
                self._outbox.close()
        if self._failure is not None:
            raise self._failure

    def _told_to_stop(self, *_: object) -> None:
        """A signal comes in between any two steps of the main thread, which may be setting the event just then and hold
        its lock: so this is no more than a note for it."""
        self._stopping = True

    def _stage(self, work: Callable[[Callable[[], None]], None], alive: Callable[[], None]) -> None:
        try:
            work(alive)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process, in run()
            self._failure = self._failure or error
            self._stop.set()

    def _main(self) -> None:
        every = {
            _Every(ALIVE_S): self._alive,
            _Every(self._config.state.checkpoint_s): self._books.checkpoint,
            _Every(STATE_S): self._publisher.announce,
            _Every(STATE_S): self._watch_certificate,
            _Every(TICK_S): self._watch,
        }
        try:
            while not (self._stopping or self._stop.is_set()):
                with suppress(queue.Empty):
                    self._apply(self._machine.on(self._events.get(timeout=TICK_S)))
                    self._events.task_done()
                heard_ns = self._heard()
                self._apply(self._machine.tick(heard_ns))
                self._settle_interrupted(heard_ns)
                for timer, work in every.items():
                    if timer.due():
                        work()
        finally:
            self._books.tell_faults(everything=True)

    def _heard(self) -> int:
        """Whatever the loops told of the time before this has been worked on. For any thread."""
        settled_ns = self._watcher.settled_ns  # asked first: what began before it is in the queue by now, or was
        if self._events.unfinished_tasks == 0:
            self._heard_ns = settled_ns
        return self._heard_ns

    def _apply(self, changes: tuple[Change, ...]) -> None:
        """Changes of the passage machine become faults, notes, visits and records, in this order: a process that is
        killed in between may leave a fault to be told twice, but none untold, and no vehicle two records."""
        for change in changes:
            if isinstance(change, FaultChanged):
                what = change.detail if change.fault is FaultKind.LOST else str(change.fault)
                self._books.fault(_source(change.fault, change.loop), what, active=change.active)
        if any(isinstance(change, Opened | Closed) for change in changes):
            self._note_loops()
        for change in changes:
            match change:
                case Opened(passage):
                    self._open(passage)
                case Closed(passage):
                    self._outbox.note({ENDED_NOTE: self._visit_id.hex()})
                    self._visits.close(replace(passage, id=self._visit_id, restarted=self._restarted))
        self._visits.left(self._machine.left_ns)

    def _open(self, passage: Passage) -> None:
        """A visit begins; if the daemon ended during one, the last that it saw, and the loop is still occupied, that
        one goes on."""
        if passage.restarted and self._interrupted and self._interrupted[-1].passage_id.hex() != self._ended:
            interrupted = self._interrupted.pop()
            passage = replace(passage, id=interrupted.passage_id)
            self._arrivals[passage.id] = interrupted.arrival
        else:
            self._arrivals[passage.id] = self._books.instant(passage.arrival_ns)
            self._outbox.open_visit(passage.id, self._arrivals[passage.id])
        self._visit_id, self._restarted = passage.id, passage.restarted
        self._visits.open(passage)

    def _note_loops(self) -> None:
        """Before a visit that was closed with its vehicle still there can have its record: a process that finds that
        vehicle at its start must not make another."""
        loops = {SPENT_NOTE: self._machine.spent, STUCK_NOTE: self._machine.stuck}
        said = {name: " ".join(map(str, numbers)) for name, numbers in loops.items()}
        if said != self._noted:
            self._outbox.note(said)
            self._noted = said

    def _alive(self) -> None:
        """A call that chatters under a fault opens no visit: what it changes is noted here, and no oftener."""
        self._note_loops()
        self._outbox.alive(self._clock.read().utc_ns)

    def _settle_interrupted(self, heard_ns: int) -> None:
        """Visits that the daemon did not see the end of, once it is clear that the loop is free: they get their records
        all the same."""
        if self._machine.state is not State.BLIND and heard_ns > self._machine.sighted_ns:
            for interrupted in self._interrupted:
                self._record(
                    ReadRecord(
                        passage_id=interrupted.passage_id,
                        arrival=interrupted.arrival,
                        departure=self._books.instant(time.monotonic_ns()),
                        ending=Ending.STOPPED,
                        restarted=True,
                        clock=self._books.clock_quality(),
                        reading=PlateReading(text=None, no_read=NoRead.INTERRUPTED),
                        model_id=self._plates.model_id,
                        software=SOFTWARE,
                    )
                )
            self._interrupted.clear()

    def _finish(self, passage: Passage, reading: PlateReading) -> None:
        """Runs in the reader's thread. A reading that no record can hold must not cost the visit its record."""
        record = ReadRecord(
            passage_id=passage.id,
            arrival=self._arrivals.pop(passage.id),
            departure=self._books.instant(passage.departure_ns or passage.arrival_ns),
            ending=passage.ending or Ending.LEFT,
            restarted=passage.restarted,
            clock=self._books.clock_quality(),
            reading=reading,
            direction=passage.direction,
            speed_kmh=passage.speed_kmh,
            loop_faults=passage.loop_faults,
            model_id=self._plates.model_id,
            software=SOFTWARE,
        )
        try:
            self._record(record)
        except RecordInvalid as error:
            logs.error(log, error)
            self._record(replace(record, reading=PlateReading(text=None, no_read=NoRead.UNSURE)))
            self._books.fault("reader", error.code, active=True)
        else:
            self._books.fault("reader", "", active=False)

    def _record(self, record: ReadRecord) -> None:
        self._outbox.append(record)
        self._publisher.wake()
        self._recent.append(to_json(visit_of(record)))
        self._health.count("visits")
        if record.reading.no_read is not None:
            self._health.reject(str(record.reading.no_read))
        logs.event(
            log,
            logging.INFO,
            "visit",
            "recorded",
            outcome=str(record.reading.no_read or "read"),
            frames=record.reading.frames_used,
            plate_height_px=record.reading.quality.plate_height_px,
            restarted=record.restarted,
        )

    def _boot(self) -> None:
        """Sign the interval that the lane was down, and what it runs with."""
        self._health.set(confinement=dict(self._confinement.facts()))
        now = self._clock.read()
        facts: list[Fact] = [
            ("software", SOFTWARE),
            ("model", self._plates.model_id),
            ("down_to", now.utc_ns),
            *self._confinement.facts(),
        ]
        if self._outbox.last_alive_ns is not None:
            facts.insert(2, ("down_from", self._outbox.last_alive_ns))
        self._books.audit("boot", *facts)
        if self._model_fault is not None:
            logs.error(log, self._model_fault)
            self._books.fault("model", self._model_fault.code, active=True)
        configured = hashlib.sha256(self._config.model_dump_json().encode()).hexdigest()[:32]
        before = self._outbox.noted("configuration")
        if before in (None, configured) or self._books.audit("config", ("from", before), ("to", configured)):
            self._outbox.note({"configuration": configured})  # only now: whoever is killed before says it the next time

    def _follow(self, standing: Standing) -> None:
        """Go by what the owner says now. Runs in the trust stage's thread."""
        before, self._standing = self._standing, standing
        if standing.sealer != before.sealer:
            self._outbox.use(standing.sealer)
            readers = len(standing.sealer.recipients)
            signer = standing.sealer.signer.public.fingerprint
            self._books.audit("trust", ("policy", standing.version), ("readers", readers), ("signer", signer))
        self._publisher.follow(standing.collectors, standing.certificate_file, standing.request)
        self._health.set(policy=standing.version)
        if standing.model_folder != before.model_folder:
            logs.event(log, logging.WARNING, "restart", "the owner named other models")
            self._stop.set()
        self._books.fault("trust", standing.fault or "", active=standing.fault is not None)

    def _camera_changed(self, state: CameraState) -> None:
        """Runs in the camera's thread."""
        self._camera_live = state.live
        if state.error is not None:
            logs.error(log, state.error, logging.WARNING)
        self._health.set(camera="ok" if state.live else "silent")
        self._books.fault("camera", "" if state.error is None else state.error.code, active=not state.live)

    def _watch(self) -> None:
        """Feed the watchdog while every stage makes progress; leave at once when one does not."""
        stuck = self._health.stuck()
        if stuck:
            raise StageStuck(f"no progress: {', '.join(stuck)}")
        notify.alive()
        self._books.tell_faults()
        if step_ns := self._clock.step_ns():
            self._books.audit("clock-step", ("by_ms", round(step_ns / 1e6)))
        self._health.set(
            loop="lost" if self._machine.state is State.BLIND else "ok",
            outbox=self._outbox.depth,
            unconfirmed_s=self._publisher.unconfirmed_s,
            frames=self._feed.frames,
            broker=self._publisher.status.error or "ok",
        )

    def _watch_certificate(self) -> None:
        until, now = self._standing.certified_until, datetime.datetime.now(datetime.UTC)
        soon = until is not None and until < now + CERTIFICATE_SOON
        self._books.fault("certificate", MqttCertificateEnds.code, active=soon)

    def _hear(self, event: LoopEvent) -> None:
        """Runs in the loop's thread."""
        if event.kind is LoopEventKind.LOST and self._watcher.trouble is not None:
            logs.error(log, self._watcher.trouble, logging.WARNING)
        self._events.put(event, timeout=STAGE_PATIENCE_S)

    def _read_frame(self, lease: FrameLease) -> FrameReading:
        """Runs in the reader's thread. Only the lane's part of the picture is looked at."""
        picture = self._decoder.colour(lease)
        try:
            return self._plates.read_frame(_cropped(picture, self._config.reading.roi))
        finally:
            self._decoder.wipe()


class _Every:
    """Due once each `period_s`, first after one period."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self.restart()

    def restart(self) -> None:
        self._next = time.monotonic() + self._period_s

    def due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self.restart()
        return True


def _source(kind: FaultKind, loop: int | None) -> str:
    """Whose fault that is: a loop may be both stuck on and at fault, and each ends for itself."""
    return "loop" if loop is None else f"loop-{loop}-{kind}"


def _driver(kind: str, chosen: config.Loop | config.Camera, folder: Path) -> Any:
    """The driver that lane.toml names, built from its table."""
    found = {point.name: point for point in entry_points(group=f"sealane.{kind}")}
    if chosen.driver not in found:
        raise DriverUnknown(f"no {kind} driver {chosen.driver!r}; there are: {', '.join(sorted(found))}")
    driver = found[chosen.driver].load()
    return driver(config.check(driver.Settings, chosen.device, where=f"{kind}.device", base=folder))


def _plate_reader(folder: Path | None, threads: int) -> tuple[PlateReader, ModelError | None]:
    """The reader with the models that the owner named. If they do not load: with the shipped ones, and what is wrong.

    The owner can take back only what does not keep the lane from hearing it.
    """
    try:
        return PlateReader(folder, threads=threads), None
    except ModelError as error:
        if folder is None:
            raise
        return PlateReader(threads=threads), error


def _cropped(picture: Any, roi: tuple[float, float, float, float] | None) -> Any:
    if roi is None:
        return picture
    height, width = picture.shape[:2]
    left, top, right, bottom = roi
    return picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
