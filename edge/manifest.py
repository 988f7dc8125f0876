"""manifest.json: what two models are, and what the reader must know of them; the files it names, held against it.

models/train writes it; the owner's side and `edge.reading.bundle` read it.
"""

import hashlib
from importlib.resources.abc import Traversable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import ManifestInvalid, ManifestMismatch, wrong_fields

FORMAT = 1
NAME = "manifest.json"
MAX_MODEL_BYTES = 16_000_000
MAX_MANIFEST_BYTES = 256_000

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorEntry(_Part):
    """Shape and affine coding of one int8 tensor: value = (code - zero_point) * scale."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class NetworkEntry(_Part):
    """One model file, which lies beside the manifest; outputs ordered by their tensors' names."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


class Evidence(_Part):
    """What makes a plate: the detector's log-odds and, so many times each, how legible it is, the reader's own log-odds
    and the logarithm of its width, at least `least` together (`evidence` in reader.py). Fitted by
    models/train/evidence.py."""

    least: float
    legible: float
    plausible: float
    wide: float


class DetectorEntry(NetworkEntry):
    """threshold: score below which nothing is a candidate."""

    threshold: float = Field(gt=0, lt=1)
    evidence: Evidence


class OcrEntry(NetworkEntry):
    """models/train/README.md says what each means."""

    colour: Literal["bgr"]
    margin: _Share
    alphabet: str = Field(min_length=1)
    blank: int
    regions: tuple[str, ...] = Field(min_length=1)
    characters_output: Literal[0]
    issuer_output: Literal[1]
    temperature: _Positive
    issuer_temperature: _Positive

    @model_validator(mode="after")
    def _blank_is_last(self) -> "OcrEntry":
        if self.blank != len(self.alphabet):
            raise ValueError("blank must follow the alphabet")
        return self


class Manifest(_Part):
    format: int = Field(ge=FORMAT, le=FORMAT)
    version: str = Field(max_length=64)
    detector: DetectorEntry
    ocr: OcrEntry


def parse(text: bytes) -> Manifest:
    """ManifestInvalid, naming the fields that are wrong."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ManifestInvalid(f"model manifest: {wrong_fields(error)}") from error


def load(place: Traversable) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest in a folder, and the files of the bundle by name, the manifest's own among them.

    ManifestInvalid if it says too little or a file can't be read; ManifestMismatch if one isn't what it names.
    """
    text = _read(place, NAME, MAX_MANIFEST_BYTES)
    said = parse(text)
    content = {NAME: text}
    for entry in (said.detector, said.ocr):
        content[entry.file] = _read(place, entry.file, MAX_MODEL_BYTES)
        if hashlib.sha256(content[entry.file]).hexdigest() != entry.sha256:
            raise ManifestMismatch(f"{entry.file} is not the file that the manifest names (SHA-256 differs)")
    return said, content


def _read(place: Traversable, name: str, limit: int) -> bytes:
    try:
        content = (place / name).read_bytes()
    except OSError as error:
        raise ManifestInvalid(f"{name} can't be read: {error.strerror}") from error
    if len(content) > limit:
        raise ManifestInvalid(f"{name} has more than {limit} bytes")
    return content
