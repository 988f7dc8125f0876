"""Photographs that stand in for vehicles: a folder of them, with what their plates say where somebody wrote it down."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.errors import PhotosMissing

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_WIDTH_PX = 1920
QUALITY = 95


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph as the camera shows it, and the text of its largest labelled plate (None: not labelled)."""

    name: str
    jpeg: bytes
    text: str | None


def photos(folder: Path) -> Iterator[Photo]:
    """The folder's photographs in the order of their names, read one at a time. Raises PhotosMissing.

    `folder` holds the images, or images/; labels.jsonl lies in it or beside it, one row a plate: image, text, box.
    """
    images = folder / "images" if (folder / "images").is_dir() else folder
    paths = sorted(p for p in images.glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise PhotosMissing(f"no photographs in {images}")
    labels = _labels(folder / "labels.jsonl") or _labels(images.parent / "labels.jsonl")
    return (Photo(path.name, _jpeg(path), labels.get(path.name)) for path in paths)


def _labels(path: Path) -> dict[str, str]:
    """Image name -> text of its largest plate that has one."""
    if not path.is_file():
        return {}
    found: dict[str, tuple[float, str]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row.get("text"):
            box = row.get("box") or (0, 0, 0, 0)
            name = Path(row["image"]).name
            found[name] = max(found.get(name, (-1.0, "")), (float(box[2] * box[3]), str(row["text"])))
    return {name: text for name, (_, text) in found.items()}


def _jpeg(path: Path) -> bytes:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise PhotosMissing(f"{path.name} cannot be decoded")
    if image.shape[1] > MAX_WIDTH_PX:
        scale = MAX_WIDTH_PX / image.shape[1]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
