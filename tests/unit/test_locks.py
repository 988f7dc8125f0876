"""What a box is installed from holds every package that sealane asks for there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = re.compile(r"^[A-Za-z0-9._-]+", re.MULTILINE)


def names(lines: list[str]) -> set[str]:
    return {found[0].lower() for line in lines if (found := NAME.match(line))}


@pytest.mark.parametrize(("lock", "extra"), [("lane", "litert"), ("lane-tflite", "tflite"), ("central", "central")])
def test_every_package_is_locked_with_its_hash(lock: str, extra: str) -> None:
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text)
    assert names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra], "hatchling"]) <= names(blocks)
    assert all("--hash=sha256:" in block for block in blocks if NAME.match(block))
