"""models/manifest.json: what the daemon holds every model file against (read by edge.reading.bundle)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge.manifest import FORMAT

MANIFEST = Path(__file__).resolve().parent.parent / "manifest.json"


def update(section: str, entry: dict[str, Any], *, version: str | None = None, path: Path = MANIFEST) -> None:
    """Replace one section ("detector" or "ocr") of the manifest; `entry["file"]` must lie beside it.

    "sha256" is taken from that file here; `inputs` and `outputs` are the file's tensors (`tensors` reads them).
    The manifest's own `version` changes only where one is given.
    """
    manifest: dict[str, Any] = {"format": FORMAT, "version": "0"}
    if path.exists():
        manifest = json.loads(path.read_text())
    digest = hashlib.sha256((path.parent / entry["file"]).read_bytes()).hexdigest()
    manifest[section] = {"file": entry["file"], "sha256": digest, **{k: v for k, v in entry.items() if k != "file"}}
    if version is not None:
        manifest["version"] = version
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    partial.replace(path)


def tensors(model: bytes) -> dict[str, list[dict[str, Any]]]:
    """{"inputs": [spec], "outputs": [spec]} of a TFLite file; outputs in the order of their tensors' names."""
    from edge.reading.runtime import Network

    network = Network(model, threads=1)
    return {
        side: [
            {"shape": list(spec.shape), "dtype": spec.dtype, "scale": spec.scale, "zero_point": spec.zero_point}
            for spec in specs
        ]
        for side, specs in (("inputs", network.inputs), ("outputs", network.outputs))
    }
