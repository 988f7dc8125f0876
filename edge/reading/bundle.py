"""The models as one unit: manifest.json and the files it names, refused unless everything matches."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Generic, TypeVar

from edge import manifest
from edge.errors import ManifestMismatch
from edge.manifest import DetectorEntry, NetworkEntry, OcrEntry, TensorEntry
from edge.reading.runtime import Network, TensorSpec

Entry = TypeVar("Entry", bound=NetworkEntry)

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
    said, content = manifest.load(place)
    detector = _model(content[said.detector.file], said.detector, threads)
    ocr = _model(content[said.ocr.file], said.ocr, threads)
    return Bundle(hashlib.sha256(content[manifest.NAME]).hexdigest(), said.version, detector, ocr)


def _model(content: bytes, entry: Entry, threads: int) -> Model[Entry]:
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
