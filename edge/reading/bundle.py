"""The models as one unit: manifest.json and the files it names, refused unless everything matches.

manifest.json:
    {"format": 1, "version": "...",
     "detector": {"file", "sha256", "inputs": [spec], "outputs": [spec], "threshold", "evidence"},
     "ocr":      {"file", "sha256", "inputs": [spec], "outputs": [spec], ... what ocr.py asks for}}
with spec = {"shape": [...], "dtype": "int8", "scale": s, "zero_point": z}; outputs ordered by their tensors' names.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from edge.errors import ManifestInvalid, ManifestMismatch
from edge.reading.runtime import Network, TensorSpec

FORMAT = 1
MAX_MODEL_BYTES = 16_000_000
MAX_MANIFEST_BYTES = 256_000
SCALE_TOLERANCE = 1e-6  # relative; JSON carries a float32


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded network and the manifest's entry for it."""

    network: Network
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Both networks; `model_id` is the SHA-256 of the manifest, which names the hashes of the models."""

    model_id: str
    version: str
    detector: Model
    ocr: Model


def load_bundle(folder: Path | None, *, threads: int) -> Bundle:
    """The bundle in `folder`, or the one that is shipped.

    ManifestInvalid if the manifest can't be read or says too little; ManifestMismatch if a file isn't the one that it
    names; ModelRefused or RuntimeMissing from the runtime.
    """
    place: Traversable = files("models") if folder is None else folder
    text = _read(place / "manifest.json", MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ManifestInvalid(f"model manifest has format {manifest['format']!r}, this software reads {FORMAT}")
        detector, ocr = (_load(place, manifest[name], threads) for name in ("detector", "ocr"))
        return Bundle(hashlib.sha256(text).hexdigest(), str(manifest["version"]), detector, ocr)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestInvalid(f"model manifest is not as expected: {type(error).__name__} {error}") from error


def _load(place: Traversable, entry: dict[str, Any], threads: int) -> Model:
    name = str(entry["file"])
    if Path(name).name != name:
        raise ManifestInvalid("model manifest names a file outside its own folder")
    content = _read(place / name, MAX_MODEL_BYTES)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ManifestMismatch(f"{name} is not the file that the manifest names (SHA-256 differs)")
    network = Network(content, threads=threads)
    for side, specs in (("inputs", network.inputs), ("outputs", network.outputs)):
        wanted = [
            TensorSpec(tuple(s["shape"]), str(s["dtype"]), float(s["scale"]), int(s["zero_point"])) for s in entry[side]
        ]
        if len(wanted) != len(specs) or not all(map(_same, wanted, specs)):
            raise ManifestMismatch(f"{name} has other {side} than the manifest says")
    return Model(network, entry)


def _same(a: TensorSpec, b: TensorSpec) -> bool:
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
