"""What scenes for the detector are made of: labelled photographs, pictures without plates, flat plates and signs.

Everything is grey: a lane camera is grey at night, and one domain serves day and night.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import RenderedPlate, render_plate, render_sign, weather

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

SCENE_SETS = ("oi_plates_scene", "ro_scene", "kaggle_cars_scene", "expplates_scene")
TEXTURE_SETS = ("us_state_crop", "us_more_crop")
MAX_SIDE = 960


@dataclass(frozen=True, slots=True)
class Scene:
    """One photograph: grey image, boxes (n, 4) x0 y0 x1 y1 px, and boxes whose content must not be judged."""

    image: Grey
    boxes: Floats
    ignored: Floats
    source: str
    name: str


def read_labels(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a labelled set, by image."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "labels.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["image"], []).append(row)
    return rows


def load_scenes(plates: Path, *, dev: bool, sets: Sequence[str] = SCENE_SETS, max_side: int = MAX_SIDE) -> list[Scene]:
    """Every scene of one side of the split, no side longer than max_side; a set without boxes yields negatives."""
    scenes = []
    for name in sets:
        for image_name, rows in read_labels(plates / name).items():
            if rows[0]["dev"] is not dev:
                continue
            image = cv2.imread(str(plates / name / image_name), cv2.IMREAD_GRAYSCALE)
            if image is None:
                raise SystemExit(f"{name}/{image_name} can't be decoded")
            scale = min(1.0, max_side / max(image.shape))
            if scale < 1.0:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            boxes: dict[bool, list[list[float]]] = {False: [], True: []}
            for row in rows:
                if row["box"] is not None:
                    x, y, w, h = row["box"]
                    boxes[bool(row.get("bad"))].append([x * scale, y * scale, (x + w) * scale, (y + h) * scale])
            good, bad = (np.array(boxes[k], np.float32).reshape(-1, 4) for k in (False, True))
            scenes.append(Scene(np.asarray(image, np.uint8), good, bad, name, image_name))
    return scenes


def load_textures(plates: Path) -> list[Grey]:
    """Close crops of real US plates (training side), to be pasted as flat plates."""
    textures = []
    for name in TEXTURE_SETS:
        for image_name, rows in read_labels(plates / name).items():
            if not rows[0]["dev"]:
                image = np.asarray(cv2.imread(str(plates / name / image_name), cv2.IMREAD_GRAYSCALE), np.uint8)
                textures.append(image[2:-2, 2:-2])
    return textures


def render_textures(count: int, seed: int) -> Iterator[Grey]:
    """Rendered and weathered plates of any issuer, straight on, two millimetres a pixel."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield _texture(rng, render_plate(rng))


def render_signs(count: int, seed: int) -> Iterator[Grey]:
    """Signs, drawn alike: what is no plate, and might be taken for one. (2, h, w): grey, and where the sign is."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        sign = render_sign(rng)
        yield np.stack([_texture(rng, sign), _halved(sign.alpha)])


def _texture(rng: np.random.Generator, plate: RenderedPlate) -> Grey:
    image = weather(rng, plate.image) if rng.random() < 0.5 else plate.image
    return _halved(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8))


def _halved(image: Grey) -> Grey:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def drawn_backdrops(count: int, seed: int) -> Iterator[Scene]:
    """Pictures without plates, drawn: ground, bodies, lamps, grilles and signs. For training without photographs."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = np.empty((480, 640), np.float32)
        image[:] = np.linspace(rng.uniform(20, 230), rng.uniform(20, 160), 480)[:, None]
        for _ in range(int(rng.integers(4, 14))):
            x, y = rng.uniform(-0.1, 1.0, 2) * (640, 480)
            w, h = np.exp(rng.uniform(np.log(15), np.log(320), 2))
            shade, low, high = float(rng.uniform(0, 255)), (int(x), int(y)), (int(x + w), int(y + h))
            shape = rng.random()
            if shape < 0.5:
                cv2.rectangle(image, low, high, shade, -1)
            elif shape < 0.7:
                cv2.ellipse(
                    image, low, (int(w / 2), int(h / 2)), float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA
                )
            elif shape < 0.85:
                for step in range(0, int(h), int(rng.integers(4, 12))):
                    cv2.line(image, (low[0], low[1] + step), (high[0], low[1] + step), shade, int(rng.integers(1, 4)))
            else:
                words = "".join(rng.choice(list("ABCDEFGHIKLMNOPRSTUVWXYZ 0123456789"), int(rng.integers(2, 14))))
                cv2.putText(
                    image, words, low, cv2.FONT_HERSHEY_DUPLEX, float(rng.uniform(0.4, 2.5)), shade, 2, cv2.LINE_AA
                )
        image += cv2.resize(rng.normal(0, 25, (24, 32)).astype(np.float32), (640, 480)) + rng.normal(0, 4, (480, 640))
        grey = np.clip(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2)), 0, 255).astype(np.uint8)
        nothing = np.zeros((0, 4), np.float32)
        yield Scene(grey, nothing, nothing, "drawn", str(number))
