"""Other people's test vectors: those of a package, and those in the folder that SEALANE_VECTORS names."""

import json
import os
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest

LOUD = "SEALANE_VECTORS does not name the folder of third-party vectors: these were NOT run"


def packaged(*path: str) -> Any:
    """A JSON file of cryptography_vectors."""
    return json.loads(Path(cryptography_vectors.__file__).parent.joinpath(*path).read_text())


def folder(name: str) -> Path:
    """A folder of third-party vectors; the test is skipped, loudly, where there is none."""
    root = os.environ.get("SEALANE_VECTORS")
    if not root:
        pytest.skip(LOUD)
    path = Path(root, name)
    assert path.is_dir(), f"SEALANE_VECTORS has no folder {name}"
    return path
