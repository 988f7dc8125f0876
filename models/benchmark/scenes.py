"""What is measured on: photographs in labelled sets (models/train/README.md says how), or scenes drawn here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import Optics, degrade, render_plate, weather

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 px."""


@dataclass(frozen=True, slots=True)
class Plate:
    """One labelled plate; text None where nobody transcribed it."""

    box: Box
    text: str | None


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph: its labelled plates, and boxes that must not be judged."""

    path: Path
    source: str
    plates: tuple[Plate, ...]
    ignored: tuple[Box, ...]


def labelled(folder: Path) -> Iterator[Picture]:
    """Pictures with boxes of one set (a folder with labels.jsonl) or of a folder of sets.

    Where a set marks a development split (`dev`), only that is taken: the rest may have trained the reader.
    """
    for labels in sorted([*folder.glob("labels.jsonl"), *folder.glob("*/labels.jsonl")]):
        rows = [json.loads(line) for line in labels.read_text().splitlines()]
        rows = [row for row in rows if row.get("box")]
        if any(row.get("dev") for row in rows):
            rows = [row for row in rows if row.get("dev")]
        by_image: dict[str, list[dict[str, object]]] = {}
        for row in rows:
            by_image.setdefault(row["image"], []).append(row)
        for image, mine in by_image.items():
            good = tuple(Plate(_corners(row["box"]), _text(row["text"])) for row in mine if not row.get("bad"))
            bad = tuple(_corners(row["box"]) for row in mine if row.get("bad"))
            yield Picture(labels.parent / image, labels.parent.name, good, bad)


def rendered(folder: Path, count: int, seed: int = 5) -> Iterator[Picture]:
    """Draws `count` scenes of 1280 x 720 into `folder`: one rendered plate each on bodywork, day and night."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        image, box, text = _scene(rng)
        path = folder / f"{number:04d}.png"
        cv2.imwrite(str(path), image)
        yield Picture(path, "rendered", (Plate(box, text),), ())


def _corners(box: object) -> Box:
    x, y, w, h = (float(v) for v in box)  # type: ignore[attr-defined]
    return x, y, x + w, y + h


def _text(text: object) -> str | None:
    """A transcription in our alphabet, or None: a province's sign can't be said in it."""
    return text if isinstance(text, str) and text.isascii() and text else None


def _scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Box, str]:
    height, width = 720, 1280
    image = np.empty((height, width, 3), np.float32)
    image[:] = np.linspace(rng.uniform(60, 200), rng.uniform(40, 140), height)[:, None, None]
    body = rng.uniform(10, 220, 3)
    left, right = int(rng.uniform(0.1, 0.3) * width), int(rng.uniform(0.7, 0.9) * width)
    top = int(rng.uniform(0.2, 0.4) * height)
    cv2.rectangle(image, (left, top), (right, height - 60), body.tolist(), -1)
    cv2.rectangle(image, (left + 60, top + 20), (right - 60, top + 140), (body * 0.3).tolist(), -1)
    for x in (left + 80, right - 80):
        cv2.circle(image, (x, top + 240), 40, rng.uniform(120, 255, 3).tolist(), -1)
    plate = render_plate(rng)
    flat = weather(rng, plate.image)
    h, w = flat.shape[:2]
    wide = float(np.exp(rng.uniform(np.log(70), np.log(320))))
    tilt, lean = rng.normal(0, 0.06), rng.normal(0, 0.12)
    unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * [wide, wide * h / w]
    unit = unit @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt) + lean, np.cos(tilt)]])
    centre = [rng.uniform(left + 200, right - 200), rng.uniform(top + 300, height - 120)]
    quad = (unit + centre).astype(np.float32)
    shrink = min(1.0, 1.5 * wide / w)
    flat = np.asarray(cv2.resize(flat, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
    h, w = flat.shape[:2]
    perspective = cv2.getPerspectiveTransform(np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32), quad)
    mask = cv2.warpPerspective(np.ones((h, w), np.float32), perspective, (width, height))[..., None]
    warped = cv2.warpPerspective(flat.astype(np.float32), perspective, (width, height), borderMode=cv2.BORDER_REPLICATE)
    image = image * (1 - mask) + warped * mask
    seen = degrade(rng, image.clip(0, 255).astype(np.uint8), Optics(motion_px=3, lowres=0.6, focus_px=1.0, noise=10))
    (x0, y0), (x1, y1) = quad.min(0), quad.max(0)
    return seen, (float(x0), float(y0), float(x1), float(y1)), plate.text
