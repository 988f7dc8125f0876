"""Why was this not read? The numbers of one visit, in words, with what is needed and what to do about it.

Pure: numbers in, words out. A `Visit` holds nothing of a plate but its measures, so it may be shown to a technician who
may not read records.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from edge.errors import VisitUnknown
from edge.record import Ending, NoRead, ReadRecord

PLATE_HEIGHT_PX = 20.0
"""A plate at least this high is read reliably; below 11 px not at all (edge.reading.reader)."""
SHARPNESS = 0.3
CLIPPED_SHARE = 0.05
"""Most of a plate that may be at full white before characters thin out."""
BRIGHTNESS = 35.0
"""Least mean grey of a frame, 0-255."""
BLUR_M = 0.01
"""Most that a vehicle may move during an exposure: about a seventh of a character's height."""
DEFAULT_SPEED_KMH = 30.0
"""Taken where no second loop measured it: a slow lane."""
FRAMES = 5
SETTLED_FRAMES = 3
"""So many that agree settle a visit, and no more are looked at (edge.reading.fuse)."""
PRESENCE_MS = 150.0
"""A car of 4 m at 60 km/h holds a 2 m loop for 360 ms; shorter calls are a loop that lets go too early."""
CONFIDENCE = 0.9

Count = Annotated[int, Field(ge=0, le=65_535)]


@dataclass(frozen=True, slots=True)
class Visit:
    """The numbers that explain one visit; names, units and bounds as in `edge.record`. no_read: None if a plate was
    read."""

    arrival_utc_ns: Annotated[int, Field(ge=0, lt=2**63)]
    presence_ms: float
    ending: Ending
    restarted: bool
    no_read: NoRead | None
    confidence: float
    frames_seen: Count
    frames_used: Count
    frames_agreeing: Count
    plates_in_frame: Count
    speed_kmh: float | None
    loop_faults: tuple[Count, ...]
    clock_synchronised: bool
    plate_height_px: float | None
    sharpness: float | None
    clipped_share: float | None
    brightness: float | None
    exposure_us: float | None
    gain: float | None


_VISIT = TypeAdapter(Visit)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was not as it should be: what was found (with what is needed), and what to do."""

    found: str
    do: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """outcome: one sentence; findings: most telling first, empty when all is as it should be."""

    outcome: str
    findings: tuple[Finding, ...]


def visit_of(record: ReadRecord) -> Visit:
    """What of a record explains it."""
    return from_fields(asdict(record))


def from_fields(record: Mapping[str, Any]) -> Visit:
    """The same from a record's fields by name, as `sealane tail --json` has them. Raises VisitUnknown."""
    try:
        reading, arrival, departure = record["reading"], record["arrival"], record["departure"]
        numbers = {
            **reading,
            **reading["quality"],
            **record,
            "arrival_utc_ns": arrival["utc_ns"],
            "presence_ms": (departure["monotonic_ns"] - arrival["monotonic_ns"]) / 1e6,
            "clock_synchronised": record["clock"]["synchronised"],
        }
        return from_json({field.name: numbers[field.name] for field in fields(Visit)})
    except (KeyError, TypeError, OverflowError) as error:
        raise VisitUnknown("these are not the fields of a read record") from error


def to_json(visit: Visit) -> dict[str, Any]:
    """For the control socket."""
    return asdict(visit)


def from_json(value: object) -> Visit:
    """Back again. Raises VisitUnknown where a field is missing or of another type."""
    try:
        return _VISIT.validate_python(value)
    except ValidationError as error:
        raise VisitUnknown("these are not the numbers of a visit") from error


def explain(visit: Visit) -> Explanation:
    """The outcome of a visit and everything about it that could be better."""
    at = datetime.fromtimestamp(visit.arrival_utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if visit.no_read is None:
        outcome = (
            f"{at}: read with confidence {visit.confidence:.2f}; {_frames(visit.frames_agreeing)} of "
            f"{visit.frames_used} agreed."
        )
    else:
        outcome = f"{at}: not read, {_REASONS[visit.no_read]}."
    return Explanation(outcome, tuple(finding for rule in _RULES for finding in rule(visit)))


_REASONS = {
    NoRead.NO_PLATE: "because no plate was found in any frame",
    NoRead.TOO_SMALL: "because the plate was too small",
    NoRead.TOO_DARK: "because it was too dark",
    NoRead.BLOOMED: "because the plate was overexposed",
    NoRead.BLURRED: "because the plate was blurred",
    NoRead.OCCLUDED: "because the plate was covered, dirty or cut off",
    NoRead.UNSURE: "because the frames did not agree on one text",
    NoRead.CAMERA_SILENT: "because the camera gave no frame",
    NoRead.FRAMES_DAMAGED: "because no frame could be decoded",
    NoRead.INTERRUPTED: "because the daemon ended before the vehicle was read",
}


def _loop(visit: Visit) -> Iterator[Finding]:
    if visit.ending in (Ending.FAULT, Ending.LOST) or visit.loop_faults:
        yield Finding(
            "the loop detector was at fault or silent" + _of_loops(visit.loop_faults),
            "read the detector's own display; check the loop's feeder for breaks and the serial line",
        )
    if visit.ending == Ending.GATE_TIME:
        yield Finding(
            f"the loop was still occupied after {visit.presence_ms / 1000:.0f} s",
            "look for a parked vehicle; if the lane is empty, reset the detector (it may be locked up)",
        )
    if visit.ending == Ending.NEXT:
        yield Finding(
            "the next vehicle came before this one was seen to leave",
            "shorten the detector's hold time, or lower its sensitivity a step",
        )
    if visit.presence_ms < PRESENCE_MS and visit.ending == Ending.LEFT:
        yield Finding(
            f"loop presence {visit.presence_ms:.0f} ms (needs {PRESENCE_MS:.0f})",
            "raise the detector's sensitivity: it lets go too early, or it heard a motorcycle, a trailer or noise",
        )
    if visit.restarted:
        yield Finding(
            "the visit was under way when the daemon started", "nothing, unless it happens again: see the log"
        )


def _camera(visit: Visit) -> Iterator[Finding]:
    if visit.no_read in (NoRead.CAMERA_SILENT, NoRead.INTERRUPTED):
        if visit.no_read == NoRead.CAMERA_SILENT:
            yield Finding("no frame came", "check the camera's power, cable and address; then the log for its code")
        return
    if visit.no_read == NoRead.FRAMES_DAMAGED:
        yield Finding(
            f"none of {_frames(visit.frames_seen)} could be decoded",
            "check the network to the camera; let the camera send fewer or smaller frames",
        )
        return
    if visit.frames_seen < FRAMES and not _settled(visit):
        yield Finding(
            f"only {_frames(visit.frames_seen)} (needs {FRAMES})",
            "raise the camera's frame rate, or before_s and after_s in lane.toml",
        )
    if visit.brightness is not None and visit.brightness < BRIGHTNESS:
        yield Finding(
            f"frame brightness {visit.brightness:.0f} of 255 (needs {BRIGHTNESS:.0f})",
            f"more infrared light on the lane, a wider aperture{_gain(visit)}; not a longer exposure",
        )


def _plate(visit: Visit) -> Iterator[Finding]:
    if visit.no_read == NoRead.NO_PLATE:
        yield Finding(
            f"no plate in {_frames(visit.frames_seen)}",
            "check with `sealane aim` that the plate passes through the picture while the vehicle is on the loop; "
            "a vehicle may also carry none on this side",
        )
    if visit.plate_height_px is not None and visit.plate_height_px < PLATE_HEIGHT_PX:
        yield Finding(
            f"plate height {visit.plate_height_px:.0f} px (needs {PLATE_HEIGHT_PX:.0f})",
            "zoom in, or bring the camera lower or nearer",
        )
    if visit.sharpness is not None and visit.sharpness < SHARPNESS:
        yield Finding(f"sharpness {visit.sharpness:.2f} (needs {SHARPNESS:.2f}){_shutter(visit)}", _sharpen(visit))
    elif visit.exposure_us is not None and visit.exposure_us > _longest_us(visit):
        yield Finding(f"exposure{_shutter(visit)} (at most {_as_fraction(_longest_us(visit))})", _sharpen(visit))
    if visit.clipped_share is not None and visit.clipped_share > CLIPPED_SHARE:
        yield Finding(
            f"{visit.clipped_share:.0%} of the plate clipped (at most {CLIPPED_SHARE:.0%})",
            "less infrared, less gain or a shorter exposure: reflective plates outshine the rest of the picture",
        )
    if visit.no_read == NoRead.OCCLUDED:
        yield Finding(
            "characters could not be made out at this size and light", "look for dirt, a tow bar, glare or rain"
        )
    if visit.plates_in_frame > 1:
        yield Finding(
            f"up to {visit.plates_in_frame} plates in one frame",
            "narrow roi in lane.toml to this lane, so that a neighbour's plate can't be taken",
        )
    if visit.no_read is None and visit.confidence < CONFIDENCE and visit.frames_agreeing < visit.frames_used:
        yield Finding(
            f"only {visit.frames_agreeing} of {_frames(visit.frames_used)} agreed",
            "improve what stands above; else the plate may be damaged",
        )


def _clock(visit: Visit) -> Iterator[Finding]:
    if not visit.clock_synchronised:
        yield Finding("the clock was not synchronised", "check the time server (chronyc sources)")


_RULES: tuple[Callable[[Visit], Iterator[Finding]], ...] = (_camera, _plate, _loop, _clock)


def _settled(visit: Visit) -> bool:
    """Whether more frames would hardly have changed anything."""
    return visit.no_read is None and visit.frames_agreeing >= SETTLED_FRAMES and visit.confidence >= CONFIDENCE


def _longest_us(visit: Visit) -> float:
    """The longest exposure in which a vehicle moves no more than BLUR_M, at its own speed or a slow lane's."""
    metres_per_s = (visit.speed_kmh or DEFAULT_SPEED_KMH) / 3.6
    return BLUR_M / metres_per_s * 1e6


def _sharpen(visit: Visit) -> str:
    if visit.exposure_us is None:
        return "focus at the place where plates are read; set a fixed shutter of 1/1000 s or shorter"
    if visit.exposure_us > _longest_us(visit):
        return f"shorten the exposure to {_as_fraction(_longest_us(visit))}, with more light instead"
    return "the exposure is short enough: focus at the place where plates are read, and clean the window"


def _shutter(visit: Visit) -> str:
    return "" if visit.exposure_us is None else f" at {_as_fraction(visit.exposure_us)}"


def _as_fraction(exposure_us: float) -> str:
    return f"1/{1e6 / exposure_us:.0f} s" if exposure_us > 0 else "0 s"


def _gain(visit: Visit) -> str:
    return "" if visit.gain is None else f", more gain (now {visit.gain:.1f})"


def _of_loops(loops: tuple[int, ...]) -> str:
    return f" (loop {', '.join(str(loop + 1) for loop in loops)})" if loops else ""


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
