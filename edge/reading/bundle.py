"""The models as one unit: manifest.json and the files it names, refused unless everything matches."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Generic, TypeVar

from edge.errors import ManifestInvalid, ManifestMismatch
from edge.reading import manifest
from edge.reading.manifest import DetectorEntry, NetworkEntry, OcrEntry, TensorEntry
from edge.reading.runtime import Network, TensorSpec

Entry = TypeVar("Entry", bound=NetworkEntry)

MAX_MODEL_BYTES = 16_000_000
MAX_MANIFEST_BYTES = 256_000
SCALE_TOLERANCE = 1e-6  # relative; JSON carries a float32


@dataclass(frozen=True, slots=True)
class Model(Generic[Entry]):
    """One loaded network and the manifest's entry for it."""

    network: Network
    entry: Entry


@dataclass(frozen=True, slots=True)
class Bundle:
    """Both networks; `model_id` is the SHA-256 of the manifest, which names the hashes of the models."""

    model_id: str
    version: str
    detector: Model[DetectorEntry]
    ocr: Model[OcrEntry]


def load_bundle(folder: Path | None, *, threads: int) -> Bundle:
    """The bundle in `folder`, or the one that is shipped.

    ManifestInvalid if the manifest can't be read or says too little; ManifestMismatch if a file isn't the one that it
    names; ModelRefused or RuntimeMissing from the runtime.
    """
    place: Traversable = files("models") if folder is None else folder
    text = _read(place / "manifest.json", MAX_MANIFEST_BYTES)
    said = manifest.parse(text)
    detector, ocr = _load(place, said.detector, threads), _load(place, said.ocr, threads)
    return Bundle(hashlib.sha256(text).hexdigest(), said.version, detector, ocr)


def _load(place: Traversable, entry: Entry, threads: int) -> Model[Entry]:
    content = _read(place / entry.file, MAX_MODEL_BYTES)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ManifestMismatch(f"{entry.file} is not the file that the manifest names (SHA-256 differs)")
    network = Network(content, threads=threads)
    for side, wanted, specs in (
        ("inputs", entry.inputs, network.inputs),
        ("outputs", entry.outputs, network.outputs),
    ):
        if len(wanted) != len(specs) or not all(map(_same, wanted, specs)):
            raise ManifestMismatch(f"{entry.file} has other {side} than the manifest says")
    return Model(network, entry)


def _same(a: TensorEntry, b: TensorSpec) -> bool:
    return (a.shape, a.dtype, a.zero_point) == (b.shape, b.dtype, b.zero_point) and (
        abs(a.scale - b.scale) <= SCALE_TOLERANCE * abs(b.scale)
    )


def _read(file: Traversable, limit: int) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ManifestInvalid(f"{file.name} can't be read: {error.strerror}") from error
    if len(content) > limit:
        raise ManifestInvalid(f"{file.name} has more than {limit} bytes")
    return content
