"""`sealane read` as a process, on drawn scenes and on damaged files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.benchmark.scenes import rendered
from models.train.render import render_plate

Run = subprocess.CompletedProcess[str]


def read(*arguments: object) -> Run:
    command = [sys.executable, "-m", "edge", "read", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str, tuple[float, ...]]]:
    """Drawn scenes: path, text, box."""
    folder = tmp_path_factory.mktemp("scenes")
    return [(p.path, p.plates[0].text or "", p.plates[0].box) for p in rendered(folder, 12)]


def test_most_drawn_plates_are_read_at_their_place(scenes: list[tuple[Path, str, tuple[float, ...]]]) -> None:
    run = read("--json", *(path for path, _, _ in scenes))
    assert run.returncode == 0, run.stderr
    right = 0
    for line, (path, text, box) in zip(lines(run), scenes, strict=True):
        assert line["image"] == str(path)
        assert line["ms"] > 0
        assert (line["no_read"] is None) == bool(line["plates"])
        for plate in line["plates"]:
            assert len(plate["chars"]) == len(plate["text"])
            assert 0 <= plate["confidence"] <= 1
            assert len(plate["quad"]) == 4
        if line["plates"] and line["plates"][0]["text"] == text:
            right += 1
            top_left, _, bottom_right, _ = line["plates"][0]["quad"]
            assert top_left[0] < (box[0] + box[2]) / 2 < bottom_right[0]
    assert right >= 8


def test_a_folder_is_read_by_name_and_other_files_are_left(
    tmp_path: Path, scenes: list[tuple[Path, str, tuple[float, ...]]]
) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(scenes[0][0].read_bytes())
    (tmp_path / "notes.txt").write_text("not an image")
    assert [Path(line["image"]).name for line in lines(read("--json", tmp_path))] == ["a.png", "b.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_cut_plate_is_read_in_every_format(tmp_path: Path, suffix: str) -> None:
    texts = []
    for number in range(8):
        plate = render_plate(np.random.default_rng(number), "gb-rear")
        cv2.imwrite(str(tmp_path / f"{number}{suffix}"), plate.image)
        texts.append(plate.text)
    seen = [line["plates"][0]["text"] if line["plates"] else "" for line in lines(read("--crop", "--json", tmp_path))]
    assert sum(a == b for a, b in zip(seen, texts, strict=True)) >= 6


def test_damaged_images_are_named_and_the_others_are_read(
    tmp_path: Path, scenes: list[tuple[Path, str, tuple[float, ...]]]
) -> None:
    whole = scenes[0][0].read_bytes()
    good = tmp_path / "good.png"
    good.write_bytes(whole)
    bad = {"text.jpg": b"not an image", "empty.png": b"", "cut.png": whole[:60]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    run = read("--json", *(tmp_path / name for name in bad), tmp_path / "absent.jpg", good)
    assert run.returncode == 1
    results = lines(run)
    assert [line["error"]["code"] for line in results[:4]] == ["READ-01"] * 4
    assert [(line["plates"], line["no_read"]) for line in results[:4]] == [([], "unreadable")] * 4
    assert "error" not in results[4]
    assert run.stderr.count("READ-01") == 4


def test_a_thin_image_in_a_folder_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    for name, height in (("a.png", 1), ("b.png", 100)):
        cv2.imwrite(str(tmp_path / name), np.full((height, 1200), 99, np.uint8))
    run = read("--json", tmp_path)
    assert run.returncode == 0, run.stderr
    assert [line["no_read"] for line in lines(run)] == ["no-plate", "no-plate"]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    run = read("--json", tmp_path)
    assert run.returncode == 1
    assert "a folder without JPEG, PNG or WebP images" in run.stderr
    assert [line["image"] for line in lines(run)] == [str(tmp_path)]


def test_people_see_a_table(scenes: list[tuple[Path, str, tuple[float, ...]]]) -> None:
    run = read(scenes[0][0])
    assert run.returncode == 0
    assert scenes[0][0].name in run.stdout


def test_people_are_told_of_each_image_why_no_plate_was_read_and_that_none_was(
    tmp_path: Path, scenes: list[tuple[Path, str, tuple[float, ...]]]
) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((480, 640), 120, np.uint8))
    (tmp_path / "cut.png").write_bytes(scenes[0][0].read_bytes()[:30])
    run = read(tmp_path)
    rows = {row.split()[1]: row.split()[3] for row in run.stdout.splitlines() if ".png" in row}
    assert rows == {"cut.png": "unreadable", "grey.png": "no-plate"}
    assert run.stdout.endswith("No plate was read.\n")
    assert [line.split()[0] for line in run.stderr.splitlines()] == ["READ-01", "hint:"]


def test_images_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for folder, name in (("a", "one.png"), ("b", "one.png"), ("b", "two.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / name), np.full((480, 640), 120, np.uint8))
    shown = [row.split()[1] for row in read(tmp_path / "a", tmp_path / "b").stdout.splitlines() if ".png" in row]
    assert shown == [str(tmp_path / "a" / "one.png"), str(tmp_path / "b" / "one.png"), "two.png"]


def test_an_image_without_a_plate_says_so(tmp_path: Path) -> None:
    images: dict[str, NDArray[np.uint8]] = {
        "grey.png": np.full((480, 640), 120, np.uint8),
        "night.png": np.full((480, 640), 2, np.uint8),
    }
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image)
    found = {Path(line["image"]).name: line for line in lines(read("--json", tmp_path))}
    assert found["grey.png"]["no_read"] == "no-plate"
    assert found["night.png"]["no_read"] == "too-dark"
    assert found["grey.png"]["plates"] == []
