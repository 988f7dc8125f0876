"""What the running lane and its box lack, each with what to do. Pure: what the daemon said in, checks out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.clock import ClockReading
from edge.errors import catalogue
from edge.passage import FaultKind

MANY_WAITING = 100
LONG_UNCONFIRMED_S = 120
"""More messages than this that wait for a receipt, or a longer time without any receipt, are a sign, not a moment."""

_HINTS = {error.code: error.hint for error in catalogue()}
_LOOP_FAULTS = {
    FaultKind.DETECTOR: "Read the detector's own display; check the loop's feeder for breaks.",
    FaultKind.STUCK: "Look for a parked vehicle; if the lane is empty, reset the detector.",
}
_MEASURES = {
    "writes": "Start it with systemd/sealane@.service, or use a kernel with Landlock.",
    "memory-locked": "Start it with systemd/sealane@.service (LimitMEMLOCK=infinity).",
    "syscall-filter": "Start it with systemd/sealane@.service.",
}
_NEWER_KERNEL = "Nothing is wrong; a kernel with a newer Landlock would have it."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `do`: what to do about it, empty where it is good."""

    what: str
    good: bool
    found: str
    do: str = ""


def checks(
    status: Mapping[str, Any], measures: Sequence[Mapping[str, Any]], clock: ClockReading, swaps: Sequence[str]
) -> Iterator[Check]:
    """status, measures: as the daemon answers the verbs "status" and "confinement"; clock, swaps: this box's clock now,
    and places that it swaps to."""
    faults = dict(status["faults"])
    if (broker := status.get("broker", "ok")) != "ok":
        faults["broker"] = broker
    for source in sorted({"loop", "camera", "broker"} - {source.partition("-")[0] for source in faults}):
        yield Check(source, True, "ok")
    for source, code in sorted(faults.items()):
        yield Check(source, False, code, _HINTS.get(code) or _LOOP_FAULTS.get(code, "The log has more."))
    waiting, silent_s = status.get("outbox", 0), status.get("unconfirmed_s", 0)
    if waiting > MANY_WAITING or silent_s > LONG_UNCONFIRMED_S:
        do = (
            "See that the broker and a collector run, and in the collector's log that it knows this lane's key and has "
            "the owner's newest policy."
        )
        since = f", none came for {silent_s / 60:.0f} min" if silent_s > LONG_UNCONFIRMED_S else ""
        yield Check("outbox", False, f"{waiting} messages wait for a receipt{since}", do)
    else:
        yield Check("outbox", True, f"{waiting} waiting")
    yield _clock(clock)
    if not measures:
        yield Check("confinement", False, "off", 'Take confine = "off" out of lane.toml.')
    for measure in measures:
        good = measure["on"] or not measure["needed"]
        do = "" if measure["on"] else _MEASURES.get(measure["name"], _NEWER_KERNEL)
        yield Check(measure["name"], good, measure["why"] if measure["on"] else f"off: {measure['why']}", do)
    if swaps:
        do = "A box beside a lane needs no swap: sudo swapoff -a, and take it out of /etc/fstab."
        yield Check("swap", False, ", ".join(swaps), do)
    else:
        yield Check("swap", True, "none")


def _clock(clock: ClockReading) -> Check:
    source = f", by {clock.source}" if clock.source else ""
    if clock.synchronised:
        return Check("clock", True, f"synchronised within {clock.bound_ms:.0f} ms{source}")
    do = "Give this box a time server or a receiver; then see what it says: chronyc sources, or timedatectl."
    return Check("clock", False, f"not synchronised, may be wrong by {clock.bound_ms / 1000:.0f} s or more", do)
