import ctypes
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.camera.base import Camera, Encoding, FrameInfo
from edge.capture import FrameLease, FrameRing
from edge.errors import FrameDamaged, FrameMemoryRefused

ROOM = 64


class Hand(Camera):
    """Gives the frames that a test puts into its hand."""

    def __init__(self) -> None:
        self.next: tuple[int, bytes] | None = None
        self.fails: Exception | None = None

    def open(self) -> None:
        pass

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo | None:
        if self.next is None:
            return None
        at_ns, data = self.next
        assert bytes(into) == bytes(len(into)), "a frame's room is all zeros before it is used"
        into[: len(data)] = data
        if self.fails:
            raise self.fails
        return FrameInfo(at_ns, Encoding.JPEG, len(data))

    def close(self) -> None:
        pass


def put(ring: FrameRing, at_ns: int, data: bytes = b"frame") -> None:
    hand = Hand()
    hand.next = (at_ns, data)
    assert ring.capture(hand, 0) is not None


def times(leases: list[FrameLease]) -> list[int]:
    found = [lease.info.captured_ns for lease in leases]
    for lease in leases:
        lease.release()
    return found


def memory(ring: FrameRing) -> bytes:
    return b"".join(bytes(s.memory) for s in (ring._writing, *ring._held, *ring._free))


def test_a_lease_holds_the_bytes_as_they_came_and_can_not_be_written() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 10, b"abc")
    (lease,) = ring.lease_since(0)
    with lease:
        assert bytes(lease.data) == b"abc"
        assert lease.data.readonly
        assert lease.info == FrameInfo(10, Encoding.JPEG, 3)
    with pytest.raises(ValueError, match="released"):
        bytes(lease.data)


def test_the_newest_frames_stay_and_the_oldest_make_room() -> None:
    ring = FrameRing(4, ROOM)
    for at in range(1, 8):
        put(ring, at)
    assert times(ring.lease_since(0)) == [4, 5, 6, 7]
    assert times(ring.lease_since(6)) == [6, 7]
    assert ring.dropped == 0


def test_a_leased_frame_is_never_overwritten() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 1, b"kept")
    (lease,) = ring.lease_since(0)
    for at in range(2, 20):
        put(ring, at, b"other")
    with lease:
        assert bytes(lease.data) == b"kept"


def test_while_every_frame_is_leased_the_newest_capture_is_lost_and_counted() -> None:
    ring = FrameRing(4, ROOM)
    for at in (1, 2, 3, 4):
        put(ring, at)
    leases = ring.lease_since(0)
    put(ring, 5, b"secret")
    assert ring.dropped == 1
    assert b"secret" not in memory(ring)
    assert times(leases) == [1, 2, 3, 4]
    put(ring, 6)
    assert times(ring.lease_since(0)) == [2, 3, 4, 6]


def test_a_frame_that_makes_room_leaves_nothing_behind() -> None:
    ring = FrameRing(1, ROOM)
    put(ring, 1, b"long secret frame")
    put(ring, 2, b"short")
    assert memory(ring).replace(b"short", b"").strip(b"\0") == b""


def test_an_old_frame_is_wiped_at_once_or_when_its_last_lease_ends() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 1, b"unleased")
    put(ring, 2, b"leased")
    put(ring, 3, b"young")
    first, second = ring.lease_since(2)[0], ring.lease_since(2)[0]
    ring.forget_before(3)
    assert b"unleased" not in memory(ring)
    first.release()
    first.release()
    assert bytes(second.data) == b"leased"
    second.release()
    assert b"leased" not in memory(ring)
    assert b"young" in memory(ring)


def test_a_young_frame_stays_after_one_visit_for_the_next_one() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 5)
    ring.forget_before(5)
    assert times(ring.lease_since(0)) == times(ring.lease_since(0)) == [5]


@pytest.mark.parametrize("fails", [FrameDamaged("half"), KeyboardInterrupt()])
def test_what_a_failed_capture_wrote_is_wiped(fails: Exception) -> None:
    ring, hand = FrameRing(4, ROOM), Hand()
    hand.next, hand.fails = (1, b"half a frame"), fails
    with pytest.raises(type(fails)):
        ring.capture(hand, 0)
    assert memory(ring).strip(b"\0") == b""
    assert ring.lease_since(0) == []


def test_a_driver_that_claims_more_than_it_was_given_is_found_out() -> None:
    class Liar(Hand):
        def capture(self, into: memoryview, timeout_s: float) -> FrameInfo:
            return FrameInfo(1, Encoding.JPEG, len(into) + 1)

    with pytest.raises(ValueError, match="claims"):
        FrameRing(4, ROOM).capture(Liar(), 0)


def test_a_silent_camera_changes_nothing() -> None:
    ring = FrameRing(4, ROOM)
    assert ring.capture(Hand(), 0) is None
    assert ring.lease_since(0) == []


def test_lease_next_waits_for_a_newer_frame() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 1)
    thread = threading.Timer(0.05, put, (ring, 2))
    thread.start()
    lease = ring.lease_next(after_ns=1, timeout_s=5)
    thread.join()
    assert lease is not None
    assert times([lease]) == [2]


def test_lease_next_gives_up_after_its_timeout() -> None:
    assert FrameRing(4, ROOM).lease_next(after_ns=0, timeout_s=0.01) is None


def test_close_wipes_everything_and_wakes_whoever_waits() -> None:
    ring = FrameRing(4, ROOM)
    put(ring, 1, b"leased")
    put(ring, 2, b"unleased")
    lease = ring.lease_since(0)[0]
    thread = threading.Timer(0.05, ring.close)
    thread.start()
    began = time.monotonic()
    assert ring.lease_next(after_ns=2, timeout_s=5) is None
    assert time.monotonic() - began < 2
    thread.join()
    assert lease.data.tobytes().strip(b"\0") == b""
    lease.release()
    put(ring, 3, b"late")
    assert ring.lease_since(0) == []
    assert memory(ring).strip(b"\0") == b""


def test_memory_that_can_not_be_had_is_a_coded_error() -> None:
    with pytest.raises(FrameMemoryRefused, match=r"^CAM-01 "):
        FrameRing(4, 1 << 60)


def test_the_rings_memory_is_left_out_of_core_dumps_and_of_forked_children() -> None:
    ring = FrameRing(4, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(ring._writing.memory))
    for region in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)[1:]:
        first, last = (int(end, 16) for end in region.split(" ", 1)[0].split("-"))
        if first <= address < last:
            assert {"dd", "dc"} <= set(region.split("VmFlags:")[1].split())
            break
    else:
        pytest.fail("the kernel does not show the ring's memory")


@given(st.lists(st.tuples(st.sampled_from(["put", "lease", "release", "forget"]), st.integers(0, 7)), max_size=60))
def test_whatever_the_order_leases_stay_whole_and_nothing_unheld_is_left_in_memory(
    steps: list[tuple[str, int]],
) -> None:
    ring = FrameRing(3, ROOM)
    leases: list[FrameLease] = []
    at = 0
    do: dict[str, Callable[[int], None]] = {
        "lease": lambda n: leases.extend(ring.lease_since(at - n)),
        "release": lambda n: leases.pop(n % len(leases)).release() if leases else None,
        "forget": lambda n: ring.forget_before(at - n),
    }
    for what, n in steps:
        if what == "put":
            at += 1
            put(ring, at, bytes([at]) * (n + 1))
        else:
            do[what](n)
        for lease in leases:
            assert set(lease.data) == {lease.info.captured_ns}
        slots = [ring._writing, *ring._held, *ring._free]
        assert len({id(slot) for slot in slots}) == 4
        for slot in (ring._writing, *ring._free):
            assert not slot.leases
            assert bytes(slot.memory) == bytes(ROOM)
    for lease in leases:
        lease.release()
    ring.close()
    assert memory(ring).strip(b"\0") == b""
