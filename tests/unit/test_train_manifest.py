"""The manifest is written as edge.reading.bundle reads it."""

import hashlib
import json
from pathlib import Path

from models.train.manifest import update


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    for name in ("detector", "ocr"):
        (tmp_path / f"{name}.tflite").write_bytes(name.encode())
        update(name, {"file": f"{name}.tflite", "margin": 1}, version="7", path=manifest)
    (tmp_path / "ocr.tflite").write_bytes(b"newer")
    update("ocr", {"file": "ocr.tflite", "margin": 2}, path=manifest)
    content = json.loads(manifest.read_text())
    assert content["format"] == 1
    assert content["version"] == "7"
    assert content["detector"]["sha256"] == hashlib.sha256(b"detector").hexdigest()
    assert content["ocr"] == {
        "file": "ocr.tflite", "sha256": hashlib.sha256(b"newer").hexdigest(), "margin": 2,
    }  # fmt: skip
