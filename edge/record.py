"""LaneRecord: what a lane says of one passage, and of itself; its CBOR coding follows docs/record.cddl.

Plain values only: no numpy, no pixels, and no field for anything about the people in a vehicle.
"""

from dataclasses import dataclass
from enum import StrEnum


class PlateText(str):
    """The characters of a plate (0-9 A-Z). Its repr is masked, so that no stray log line or traceback shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"PlateText(<{len(self)} characters>)"


class NoRead(StrEnum):
    """Why a visit has no plate text."""

    NO_PLATE = "no-plate"
    TOO_SMALL = "too-small"
    TOO_DARK = "too-dark"
    BLOOMED = "bloomed"
    BLURRED = "blurred"
    OCCLUDED = "occluded"
    UNSURE = "unsure"  # characters seen, none agreed on
    CAMERA_SILENT = "camera-silent"  # no frame came while the vehicle was there
    FRAMES_DAMAGED = "frames-damaged"  # frames came, none could be decoded


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another reading of the same plate, with its probability."""

    text: PlateText
    probability: float


@dataclass(frozen=True, slots=True)
class Quality:
    """What explains a read or a missing one. None where it could not be measured.

    plate_height_px: height of the plate in the frame; sharpness: 0 (blurred) to 1; clipped_share: share of the plate's
    pixels at full white; brightness: mean grey of the frame, 0-255; exposure_us and gain as the camera reported.
    """

    plate_height_px: float | None = None
    sharpness: float | None = None
    clipped_share: float | None = None
    brightness: float | None = None
    exposure_us: float | None = None
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class PlateReading:
    """The outcome of one visit's reading: a text, or None and the reason.

    confidence: probability that the whole text is right; chars: one probability per character; alternatives: best
    first, without `text` itself; region: issuer ("US-CA", "DE", ...) or "unknown"; syntax: name of the matched
    plate format or None (an annotation, never a filter); detector_score: 0-1; plates_in_frame: most plates seen in
    one frame.
    """

    text: PlateText | None
    no_read: NoRead | None
    confidence: float = 0.0
    chars: tuple[float, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    region: str = "unknown"
    region_confidence: float = 0.0
    syntax: str | None = None
    frames_seen: int = 0
    frames_used: int = 0
    frames_agreeing: int = 0
    detector_score: float = 0.0
    plates_in_frame: int = 0
    quality: Quality = Quality()


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks, ns."""

    utc_ns: int
    monotonic_ns: int


@dataclass(frozen=True, slots=True)
class ClockQuality:
    """How far UTC can be trusted: the kernel's word on it, error bound in ms, name of the source ("" unknown)."""

    synchronised: bool
    bound_ms: float
    source: str = ""


class Ending(StrEnum):
    """What closed a visit."""

    LEFT = "left"
    NEXT = "next"  # a second start: the leaving edge was missed
    GATE_TIME = "gate-time"  # still occupied after the longest time allowed
    FAULT = "fault"  # the detector reported a fault
    LOST = "lost"  # the detector stopped answering
    STOPPED = "stopped"  # the daemon was told to stop


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """Kind `r`: one visit, whatever came of it.

    restarted: the loop was occupied already when the daemon started. speed_kmh: from two loops, not evidential.
    direction: "forward", "reverse" or "unknown". model_id: hash of the model manifest.
    """

    passage_id: bytes  # 16 random bytes
    arrival: Instant
    departure: Instant
    ending: Ending
    restarted: bool
    clock: ClockQuality
    reading: PlateReading
    direction: str = "unknown"
    speed_kmh: float | None = None
    loop_faults: tuple[int, ...] = ()
    model_id: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """Kind `c`: still here, with nothing to say; makes a cut-off tail show."""

    at: Instant
    clock: ClockQuality
    outbox_depth: int


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Kind `g`: `count` records from `first_seq` to `last_seq` were given up; the chain goes on from `last_hash`."""

    first_seq: int
    last_seq: int
    count: int
    reason: str
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Kind `a`: something an auditor must know. `event` is a stable word (boot, config, clock-step, fault, aim, trust,
    confinement...); `facts` are short keys with text or whole numbers."""

    event: str
    at: Instant
    clock: ClockQuality
    facts: tuple[tuple[str, str | int], ...] = ()


LaneRecord = ReadRecord | CheckpointRecord | GapRecord | AuditRecord


# --- coding ---------------------------------------------------------------------------------------------------------
#
# docs/record.cddl says the same for other languages; a test holds the two together.

BLOCK_BYTES = 128
"""A coded record is a multiple of this long: its length must not tell the length of the plate."""
MAX_RECORD_BYTES = 4096
_PADDING_KEY = 23


class Kind(StrEnum):
    """What sort of record a message carries; said in its signed header. Only a READ may be given up."""

    READ = "r"
    CHECKPOINT = "c"
    GAP = "g"
    AUDIT = "a"


def kind_of(record: LaneRecord) -> Kind:
    """The kind that the record's message says in its header."""
    return _KINDS[type(record)]


def encode(record: LaneRecord) -> bytes:
    """Deterministic CBOR of `record`, padded to a multiple of BLOCK_BYTES. RecordInvalid if a field is out of bounds."""
    try:
        fields = _CODECS[kind_of(record)].put(record)
        data = _padded(fields)
    except cbor.Malformed as error:
        raise RecordInvalid(f"{type(record).__name__}: {error}") from error
    if len(data) > MAX_RECORD_BYTES:
        raise RecordInvalid(f"{type(record).__name__}: {len(data)} bytes, more than {MAX_RECORD_BYTES}")
    return data


def decode(kind: str, data: bytes) -> LaneRecord:
    """The record that `data` codes, given the kind its header says. RecordMalformed unless `encode` could have made it."""
    if kind not in _CODECS:
        raise RecordMalformed("a kind of record that this version does not know")
    if len(data) > MAX_RECORD_BYTES:
        raise RecordMalformed(f"{len(data)} bytes, more than {MAX_RECORD_BYTES}")
    try:
        fields = cbor.decode(data)
        if not isinstance(fields, dict):
            raise cbor.Malformed("must be a map")
        fields.pop(_PADDING_KEY, None)
        record = _CODECS[Kind(kind)].get(fields)
    except cbor.Malformed as error:
        raise RecordMalformed(f"kind {kind}: {error}") from error
    if _padded(fields) != data:
        raise RecordMalformed(f"kind {kind}: padding is wrong")
    return record


def _padded(fields: cbor.Value) -> bytes:
    assert isinstance(fields, dict)  # noqa: S101 - both callers built it
    for size in range(2 * BLOCK_BYTES):
        data = cbor.encode({**fields, _PADDING_KEY: bytes(size)})
        if len(data) % BLOCK_BYTES == 0:
            return data
    raise cbor.Malformed("cannot be padded")


def _read(text: PlateText | None, no_read: NoRead | None, chars: tuple[float, ...], **rest: Any) -> PlateReading:
    return _consistent(PlateReading(text=text, no_read=no_read, chars=chars, **rest))
