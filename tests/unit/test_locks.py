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


def locked(lock: str) -> set[str]:
    """The packages that a lock file names, each with a hash."""
    blocks = re.split(r"\n(?=\S)", (ROOT / "locks" / f"{lock}.txt").read_text())
    assert all("--hash=sha256:" in block for block in blocks if NAME.match(block))
    return names(blocks)


@pytest.mark.parametrize(("lock", "extra"), [("lane", "litert"), ("lane-tflite", "tflite"), ("central", "central")])
def test_every_package_is_locked_with_its_hash(lock: str, extra: str) -> None:
    assert names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra], "hatchling"]) <= locked(lock)


def test_what_a_token_needs_is_locked_to_be_put_beside_any_of_them() -> None:
    assert names(PROJECT["optional-dependencies"]["hsm"]) <= locked("hsm")
    assert not any(locked("hsm") & locked(lock) for lock in ("lane", "lane-tflite", "central"))
