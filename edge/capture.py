"""FrameRing: the only place pixels live. CameraFeed: the loop that keeps it filled from a camera.

A frame waits in the ring as it came off the wire (encoded, if that is what came) until it is leased for a visit,
overwritten by a newer one, or too old to matter. Nothing here decodes, and nothing here imports numpy.
"""

import mmap
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from drivers.backoff import STEADY_S, Backoff
from drivers.camera.base import Camera, FrameInfo
from edge.errors import CameraError, CameraFrameError, CameraSilent, FrameMemoryRefused

CAPTURE_TIMEOUT_S = 0.25
FORGET_S = 0.25
"""How often frames are looked at for their age."""


class _Slot:
    """One frame's room. A slot that holds no frame is all zeros."""

    __slots__ = ("info", "leases", "memory")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.info: FrameInfo | None = None
        self.leases = 0


class FrameLease:
    """One frame, kept from being overwritten until `release()` or the end of the `with` block.

    `data`: read-only, `info.nbytes` long; using it after the release raises ValueError. A view made of it (numpy)
    must be let go by then: the memory belongs to another frame soon.
    """

    __slots__ = ("_give_back", "data", "info")

    def __init__(self, info: FrameInfo, data: memoryview, give_back: Callable[[], None]) -> None:
        self.info = info
        self.data = data
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the frame back; a second call does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
            self.data.release()

    def __enter__(self) -> "FrameLease":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class FrameRing:
    """Room for the newest `frames` frames of at most `frame_bytes` each, in one block of memory that no core dump and
    no forked child holds (locking it is the process's business: mlockall).

    One thread captures; any thread leases. A leased frame is never overwritten: the oldest frame that is not leased
    makes room, and while all are leased the newest capture is the one that is lost (`dropped`). A frame is zeroed when
    it makes room, when it is older than what `forget_before` names and no lease holds it, and on close.

    Raises FrameMemoryRefused when the memory can't be had or not be kept out of core dumps.
    """

    def __init__(self, frames: int, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self.dropped = 0
        """Captures lost because every frame was leased."""
        rooms = frames + 1  # one more, so that there is always one to capture into
        try:
            block = mmap.mmap(-1, rooms * frame_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            block.madvise(mmap.MADV_DONTDUMP)
            block.madvise(mmap.MADV_DONTFORK)
        except OSError as error:
            raise FrameMemoryRefused(f"{rooms} frames of {frame_bytes} bytes: {error.strerror}") from error
        memory = memoryview(block)
        slots = [_Slot(memory[at : at + frame_bytes]) for at in range(0, rooms * frame_bytes, frame_bytes)]
        self._zeros = memoryview(bytes(frame_bytes))
        self._changed = threading.Condition()
        self._writing = slots.pop()
        self._free = slots
        self._held: deque[_Slot] = deque()  # oldest first
        self._horizon_ns = 0
        self._closed = False

    def capture(self, camera: Camera, timeout_s: float) -> FrameInfo | None:
        """Wait for the camera's next frame and put it into the ring. None when none came in time.

        Raises what `Camera.capture` raises; the ring is as before then. To be called from one thread only.
        """
        slot = self._writing
        info = None
        try:
            info = camera.capture(slot.memory, timeout_s)
            if info is not None and not 0 < info.nbytes <= self.frame_bytes:
                raise ValueError(f"the camera driver claims {info.nbytes} bytes in a buffer of {self.frame_bytes}")
        except BaseException:
            slot.memory[:] = self._zeros
            raise
        if info is not None:
            slot.info = info
            with self._changed:
                self._commit(slot)
                self._changed.notify_all()
        return info

    def lease_since(self, since_ns: int) -> list[FrameLease]:
        """Every frame taken at or after `since_ns` (CLOCK_MONOTONIC), oldest first; the caller releases each."""
        with self._changed:
            return [
                self._lease(slot, slot.info) for slot in self._held if slot.info and slot.info.captured_ns >= since_ns
            ]

    def lease_next(self, after_ns: int, timeout_s: float) -> FrameLease | None:
        """The oldest frame taken after `after_ns`; waits for one, at most `timeout_s`. None then, or once closed."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._closed:
                for slot in self._held:
                    if slot.info and slot.info.captured_ns > after_ns:
                        return self._lease(slot, slot.info)
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return None
            return None

    def lease_before(self, before_ns: int, since_ns: int) -> FrameLease | None:
        """The newest frame taken before `before_ns` and not before `since_ns`, or None."""
        with self._changed:
            for slot in reversed(self._held):
                if slot.info and since_ns <= slot.info.captured_ns < before_ns:
                    return self._lease(slot, slot.info)
            return None

    def forget_before(self, ns: int) -> None:
        """Wipe every frame taken before `ns` (CLOCK_MONOTONIC): now, or when its last lease ends."""
        with self._changed:
            self._horizon_ns = max(self._horizon_ns, ns)
            for slot in [slot for slot in self._held if self._is_outdated(slot)]:
                self._held.remove(slot)
                self._free.append(self._wiped(slot))

    def close(self) -> None:
        """Wipe everything, leased frames too, and hand out nothing more."""
        with self._changed:
            self._closed = True
            for slot in (self._writing, *self._held, *self._free):
                slot.memory[:] = self._zeros
            self._changed.notify_all()
            self._held.clear()

    def _commit(self, slot: _Slot) -> None:
        if self._closed:
            self._wiped(slot)
        elif self._free:
            self._writing = self._free.pop()
            self._held.append(slot)
        elif oldest := next((held for held in self._held if not held.leases), None):
            self._held.remove(oldest)
            self._writing = self._wiped(oldest)
            self._held.append(slot)
        else:
            self.dropped += 1
            self._wiped(slot)

    def _lease(self, slot: _Slot, info: FrameInfo) -> FrameLease:
        slot.leases += 1
        return FrameLease(info, slot.memory[: info.nbytes].toreadonly(), lambda: self._return(slot))

    def _return(self, slot: _Slot) -> None:
        with self._changed:
            slot.leases -= 1
            if not self._closed and self._is_outdated(slot):
                self._held.remove(slot)
                self._free.append(self._wiped(slot))

    def _is_outdated(self, slot: _Slot) -> bool:
        return not slot.leases and slot.info is not None and slot.info.captured_ns < self._horizon_ns

    def _wiped(self, slot: _Slot) -> _Slot:
        if slot.info is not None:
            slot.memory[: slot.info.nbytes] = self._zeros[: slot.info.nbytes]
            slot.info = None
        return slot


@dataclass(frozen=True, slots=True)
class CameraState:
    """Whether frames come. `error`: what is wrong while they don't; None before the first attempt was over."""

    live: bool
    error: CameraError | None = None


class CameraFeed:
    """Keeps `ring` filled from `camera`: opens it, captures, reconnects; and keeps no unleased frame longer than
    `keep_s` (the time before a loop's edge that belongs to a visit, and the time it takes to hear of the edge),
    whatever the driver does meanwhile. Retries start small again after STEADY_S of frames.

    A camera that gives no whole frame for `silent_after_s` is taken for lost. `clock`: CLOCK_MONOTONIC ns.
    """

    def __init__(
        self,
        camera: Camera,
        ring: FrameRing,
        *,
        keep_s: float,
        silent_after_s: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._camera = camera
        self._ring = ring
        self._keep_ns = int(keep_s * 1e9)
        self._silent_after_ns = int(silent_after_s * 1e9)
        self._clock = clock
        self._backoff = Backoff()
        self._live_since_ns: int | None = None
        self.frames = 0
        """Whole frames captured."""
        self.damaged = 0
        """Frames lost one by one: truncated, too large."""
        self.losses = 0
        """Times the camera failed to open or was lost."""

    def run(self, stop: threading.Event, alive: Callable[[], None], report: Callable[[CameraState], None]) -> None:
        """Until `stop` is set. `alive` is called at least every CAPTURE_TIMEOUT_S, save while the driver opens or
        closes the camera or waits longer for a frame; `report` when frames begin to come, and after every failure. An
        error that no retry can mend is reported, then raised. The ring stays open: whoever made it closes it when no
        frame is leased any more."""
        done = threading.Event()
        forget = threading.Thread(target=self._forget, args=(done,), name="forget", daemon=True)
        forget.start()  # a driver may block for long, and what it gave before grows old all the same
        try:
            while not stop.is_set():
                alive()
                self._connect(stop, alive, report)
                self._rest(stop, alive)
        finally:
            done.set()
            forget.join()

    def _connect(self, stop: threading.Event, alive: Callable[[], None], report: Callable[[CameraState], None]) -> None:
        """One connection, from opening the camera until it is lost."""
        try:
            self._camera.open()
            self._stream(stop, alive, report)
        except CameraError as error:
            if self._live_since_ns is not None and self._clock() - self._live_since_ns > STEADY_S * 1e9:
                self._backoff.succeeded()
            self._live_since_ns = None
            self.losses += 1
            report(CameraState(live=False, error=error))
            alive()  # closing it may take time too
            if not error.retryable:
                raise
        finally:
            self._camera.close()

    def _forget(self, done: threading.Event) -> None:
        while not done.wait(FORGET_S):
            self._ring.forget_before(self._clock() - self._keep_ns)

    def _stream(self, stop: threading.Event, alive: Callable[[], None], report: Callable[[CameraState], None]) -> None:
        last_frame_ns = self._clock()
        trouble: CameraError | None = None
        while not stop.is_set():
            alive()
            try:
                info = self._ring.capture(self._camera, CAPTURE_TIMEOUT_S)
            except CameraFrameError as error:
                self.damaged += 1
                info, trouble = None, error
            now_ns = self._clock()
            if info is not None:
                last_frame_ns, trouble = now_ns, None
                self.frames += 1
                if self._live_since_ns is None:
                    self._live_since_ns = now_ns
                    report(CameraState(live=True))
            elif now_ns - last_frame_ns >= self._silent_after_ns:
                silent = CameraSilent(f"no frame for {(now_ns - last_frame_ns) / 1e9:.1f} s")
                raise trouble or silent

    def _rest(self, stop: threading.Event, alive: Callable[[], None]) -> None:
        until_ns = self._clock() + int(self._backoff.failed() * 1e9)
        while not stop.is_set() and (left_s := (until_ns - self._clock()) / 1e9) > 0:
            alive()
            stop.wait(min(left_s, CAPTURE_TIMEOUT_S))
