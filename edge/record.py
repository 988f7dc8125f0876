"""LaneRecord: what a lane says of one passage, and of itself; its CBOR coding follows docs/record.cddl.

Plain values only: no numpy, no pixels, and no field for anything about the people in a vehicle.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge import cbor
from edge.errors import RecordInvalid, RecordMalformed
from edge.schema import Codec, blob, either, flag, many, member, optional, pair, real, row, shape, text, whole

MOST_PX = 10_000
"""More than this no record says of a plate's height, and no frame has."""


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
    INTERRUPTED = "interrupted"  # the daemon ended before the vehicle was read


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


# --- coding: docs/record.cddl says the same for other languages, and a test holds the two together -------------------

BLOCK_BYTES = 128
"""A coded record is a multiple of this long: its length must not tell the length of the plate,"""
LEAST_READ_BYTES = 384
"""nor, as every read is at least this long, whether one was read."""
MAX_RECORD_BYTES = 4096
_PADDING_KEY = 23


class Kind(StrEnum):
    """What sort of record a message carries; said in its signed header. Only a READ may be given up."""

    READ = "r"
    CHECKPOINT = "c"
    GAP = "g"
    AUDIT = "a"


def kind_of(record: LaneRecord) -> Kind:
    """The kind that the header of the record's message says."""
    return _KINDS[type(record)]


def encode(record: LaneRecord) -> bytes:
    """Deterministic CBOR, padded to whole blocks. RecordInvalid, naming the field, if one is out of bounds."""
    try:
        data = _padded(kind_of(record), record)
    except cbor.Malformed as error:
        raise RecordInvalid(f"{type(record).__name__}: {error}") from error
    if len(data) > MAX_RECORD_BYTES:
        raise RecordInvalid(f"{type(record).__name__}: {len(data)} bytes, more than {MAX_RECORD_BYTES}")
    return data


def decode(kind: str, data: bytes) -> LaneRecord:
    """The record in `data`, of the kind that the header says. RecordMalformed unless `encode` can have made `data`."""
    if kind not in _CODECS:
        raise RecordMalformed("a kind of record that this version does not know")
    if len(data) > MAX_RECORD_BYTES:
        raise RecordMalformed(f"{len(data)} bytes, more than {MAX_RECORD_BYTES}")
    try:
        fields = cbor.decode(data)
        if not isinstance(fields, dict) or not isinstance(fields.pop(_PADDING_KEY, None), bytes):
            raise cbor.Malformed("must be a map with padding")
        record: LaneRecord = _CODECS[Kind(kind)].get(fields)
        if _padded(Kind(kind), record) != data:
            raise cbor.Malformed("is not in the one form that it has")
    except cbor.Malformed as error:
        raise RecordMalformed(f"kind {kind}: {error}") from error
    return record


def _padded(kind: Kind, record: LaneRecord) -> bytes:
    """The record's map with the fewest zero bytes of padding that fill whole blocks."""
    fields: Any = _CODECS[kind].put(record)
    bare = len(cbor.encode({**fields, _PADDING_KEY: b""}))
    least = max(bare, LEAST_READ_BYTES if kind is Kind.READ else 0)
    size = least + -least % BLOCK_BYTES - bare
    for padding in range(max(size - 2, 0), size + BLOCK_BYTES):  # a longer byte string has a head longer by 1 or 2
        data = cbor.encode({**fields, _PADDING_KEY: bytes(padding)})
        if len(data) % BLOCK_BYTES == 0:
            return data
    raise cbor.Malformed("cannot be padded")


def _check_reading(reading: PlateReading) -> None:
    if (reading.text is None) == (reading.no_read is None):
        raise cbor.Malformed("must have a text or the reason why there is none")


def _check_gap(gap: GapRecord) -> None:
    if gap.count != gap.last_seq - gap.first_seq + 1:
        raise cbor.Malformed("must count what it gives up")


_INT64 = 2**63 - 1
_plate = text("[0-9A-Z]{1,16}", PlateText)
_word: Codec[str] = text("[a-z0-9][a-z0-9._-]{0,31}")
_line: Codec[str] = text("[ -~]{0,128}")
_share = real(1, per_unit=10_000)
_pixels = real(MOST_PX, per_unit=10)
_frames = whole(0, 65_535)
_instant = row(Instant, utc_ns=whole(0, _INT64), monotonic_ns=whole(0, _INT64))
_clock = row(ClockQuality, synchronised=flag(), bound_ms=real(1e9, per_unit=1000), source=text("[ -~]{0,32}"))
_quality = shape(
    Quality,
    {
        0: ("plate_height_px", optional(_pixels)),
        1: ("sharpness", optional(_share)),
        2: ("clipped_share", optional(_share)),
        3: ("brightness", optional(real(255, per_unit=10))),
        4: ("exposure_us", optional(real(1e9, per_unit=10))),
        5: ("gain", optional(real(10_000, per_unit=100))),
    },
)
_plate_reading = shape(
    PlateReading,
    {
        0: ("text", optional(_plate)),
        1: ("no_read", optional(member(NoRead))),
        2: ("confidence", _share),
        3: ("chars", many(_share, 16)),
        4: ("alternatives", many(row(Alternative, text=_plate, probability=_share), 8)),
        5: ("region", text("[A-Za-z0-9-]{1,16}")),
        6: ("region_confidence", _share),
        7: ("syntax", optional(text("[ -~]{1,32}"))),
        8: ("frames_seen", _frames),
        9: ("frames_used", _frames),
        10: ("frames_agreeing", _frames),
        11: ("detector_score", _share),
        12: ("plates_in_frame", _frames),
        13: ("quality", _quality),
    },
    _check_reading,
)
_KINDS: dict[type[LaneRecord], Kind] = {
    ReadRecord: Kind.READ,
    CheckpointRecord: Kind.CHECKPOINT,
    GapRecord: Kind.GAP,
    AuditRecord: Kind.AUDIT,
}
_CODECS: dict[str, Codec[Any]] = {
    Kind.READ: shape(
        ReadRecord,
        {
            0: ("passage_id", blob(16, 16)),
            1: ("arrival", _instant),
            2: ("departure", _instant),
            3: ("ending", member(Ending)),
            4: ("restarted", flag()),
            5: ("clock", _clock),
            6: ("reading", _plate_reading),
            7: ("direction", text("forward|reverse|unknown")),
            8: ("speed_kmh", optional(real(1000, per_unit=10))),
            9: ("loop_faults", many(whole(0, 65_535), 8)),
            10: ("model_id", _line),
            11: ("software", _line),
        },
    ),
    Kind.CHECKPOINT: shape(
        CheckpointRecord, {0: ("at", _instant), 1: ("clock", _clock), 2: ("outbox_depth", whole(0, _INT64))}
    ),
    Kind.GAP: shape(
        GapRecord,
        {
            0: ("first_seq", whole(1, _INT64)),
            1: ("last_seq", whole(1, _INT64)),
            2: ("count", whole(1, _INT64)),
            3: ("reason", _word),
            4: ("last_hash", blob(32, 32)),
        },
        _check_gap,
    ),
    Kind.AUDIT: shape(
        AuditRecord,
        {
            0: ("event", _word),
            1: ("at", _instant),
            2: ("clock", _clock),
            3: ("facts", many(pair(_word, either(whole(-_INT64, _INT64), _line)), 16)),
        },
    ),
}
