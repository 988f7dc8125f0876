"""Rendered plates on disk: mounted on something, worn by weather, ready to be photographed a thousand ways.

Rendering costs more than training on the result, so it is done once, ahead. A pool is a folder of parts; each is
one `.npy` of pictures, mapped and never loaded whole, with a `.json` that names texts and regions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import SIGN, RenderedPlate, render_plate, render_sign, weather
from models.train.render.canvas import Letter
from models.train.render.faces import installed, line

Image = NDArray[np.uint8]

PLATE_W, PLATE_H = 192, 64
MARGIN_X, MARGIN_Y = 28, 14
POOL_SHAPE = (PLATE_H + 2 * MARGIN_Y, PLATE_W + 2 * MARGIN_X, 3)
PART_SIZE = 2000
SIGNS = 0.06
"""Share of a pool that is no plate at all."""
NO_PLATE = "no plate"
"""Stands for an issuer where what is seen is no plate at all."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One plate to learn from: where it lies in its picture, what it says, who may have issued it.

    box x, y, w, h in pixels of the picture; text is "" where nothing is to be read and None where nobody knows; regions
    is the set of issuers that are possible (empty: any); names are the ways the issuer's name may stand there, as
    `letters` (empty: it may not stand there at all); spelt are the letters of that name with the x, y of their middles
    in pixels, where it is known how it stands there.
    """

    picture: Image
    box: tuple[float, float, float, float]
    text: str | None
    regions: frozenset[str]
    names: tuple[str, ...] = ()
    spelt: tuple[Letter, ...] = ()


def letters(name: str) -> str:
    """An issuer's name reduced to A-Z."""
    return "".join(c for c in name.upper() if "A" <= c <= "Z")


_BOX = (float(MARGIN_X), float(MARGIN_Y), float(PLATE_W), float(PLATE_H))


def mounted(rng: np.random.Generator, plate: RenderedPlate) -> Labelled:
    """A rendered plate as the pool would hold it."""
    return Labelled(mount(rng, plate), _BOX, plate.text, frozenset({plate.region}), spelt=_placed(plate.spelt))


def _placed(spelt: Iterable[Sequence[Any]]) -> tuple[Letter, ...]:
    """Letters at shares of a plate, as they lie in the pool's pictures."""
    return tuple((letter, MARGIN_X + x * PLATE_W, MARGIN_Y + y * PLATE_H) for letter, x, y in spelt)


def render_pool(folder: Path, count: int, seed: int) -> Iterator[int]:
    """Render `count` plates into parts; parts that exist are kept. Yields the number of plates there, part by part."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in range((count + PART_SIZE - 1) // PART_SIZE):
        stem = folder / f"plates-{seed}-{part:04d}"
        if not stem.with_suffix(".json").exists():
            rng = np.random.default_rng((seed, part))
            pictures = np.empty((PART_SIZE, *POOL_SHAPE), np.uint8)
            rows = []
            for i in range(PART_SIZE):
                sign = rng.random() < SIGNS
                plate = render_sign(rng) if sign else render_plate(rng)
                pictures[i] = mount(rng, plate)
                text, region = (None, NO_PLATE) if sign else (plate.text, plate.region)
                rows.append({"text": text, "region": region, "spelt": plate.spelt})
            np.save(stem.with_suffix(".npy"), pictures)
            stem.with_suffix(".json").write_text(json.dumps(rows))
        yield (part + 1) * PART_SIZE


def pool_parts(folder: Path) -> list[Path]:
    """The finished parts of a pool, in order."""
    return sorted(path.with_suffix(".npy") for path in folder.glob("plates-*.json"))


def pool_plates(parts: list[Path]) -> list[Labelled]:
    """Every plate of the parts; the pictures stay on disk until they are looked at."""
    plates = []
    for part in parts:
        pictures = np.load(part, mmap_mode="r")
        rows = json.loads(part.with_suffix(".json").read_text())
        for picture, row in zip(pictures, rows, strict=True):
            plates.append(Labelled(picture, _BOX, row["text"], frozenset({row["region"]}), spelt=_placed(row["spelt"])))
    return plates


def mount(rng: np.random.Generator, plate: RenderedPlate) -> Image:
    """The plate worn, with what is around it; POOL_SHAPE uint8 BGR, the plate PLATE_W x PLATE_H in its middle."""
    h, w = POOL_SHAPE[:2]
    ground = np.full((h, w, 3), rng.uniform(5, 235), np.float32) + rng.normal(0, 18, 3).astype(np.float32)
    slope = np.linspace(0, rng.normal(0, 60), h, dtype=np.float32)
    ground += slope[:, None, None]
    for _ in range(int(rng.integers(0, 5))):
        a, b = rng.uniform([0, 0], [w, h], (2, 2))
        shade = [float(v) for v in rng.uniform(0, 230) + rng.normal(0, 15, 3)]
        cv2.rectangle(ground, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), shade, -1)
    ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.5, 3)).astype(np.float32)
    face = weather(rng, plate.image) if rng.random() < 0.75 else plate.image
    small = cv2.resize(face, (PLATE_W, PLATE_H), interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = (
        cv2.resize(plate.alpha, (PLATE_W, PLATE_H), interpolation=cv2.INTER_AREA)[..., None].astype(np.float32) / 255
    )
    aspect = plate.image.shape[1] / plate.image.shape[0]
    framed = plate.style != SIGN
    if framed and rng.random() < 0.45:
        _frame(rng, ground, aspect, behind=True)
    part = ground[MARGIN_Y : MARGIN_Y + PLATE_H, MARGIN_X : MARGIN_X + PLATE_W]
    part += (small - part) * alpha
    if framed and aspect < 2.6 and rng.random() < 0.22:
        _frame(rng, ground, aspect, behind=False)
    return np.clip(ground, 0, 255).astype(np.uint8)


def _frame(rng: np.random.Generator, ground: NDArray[np.float32], aspect: float, *, behind: bool) -> None:
    """A plate frame or holder, with a dealer's or club's words above or below; `behind` keeps off the plate."""
    shade = float(rng.choice([rng.uniform(5, 50), rng.uniform(150, 240)]))
    tint = [shade + float(v) for v in rng.normal(0, 12, 3)]
    scale = PLATE_W / PLATE_H / aspect
    reach_x, reach_y = rng.uniform(2, 6) * min(scale, 1.6), rng.uniform(2, 9)
    inside = 0.0 if behind else rng.uniform(1.5, 4.5)
    x0, y0, x1, y1 = float(MARGIN_X), float(MARGIN_Y), float(MARGIN_X + PLATE_W), float(MARGIN_Y + PLATE_H)
    bars = [
        (x0 - reach_x, y0 - reach_y, x1 + reach_x, y0 + inside * rng.uniform(0.6, 1.6)),
        (x0 - reach_x, y1 - inside * rng.uniform(0.6, 1.6), x1 + reach_x, y1 + reach_y),
        (x0 - reach_x, y0, x0 + inside * 0.8, y1),
        (x1 - inside * 0.8, y0, x1 + reach_x, y1),
    ]
    for left, top, right, bottom in bars:
        cv2.rectangle(ground, (round(left), round(top)), (round(right) - 1, round(bottom) - 1), tint, -1)
    ink = 235.0 if shade < 100 else 20.0
    for left, top, right, bottom in bars[:2]:
        if bottom - top >= 6 and rng.random() < 0.7:
            words = "".join(str(rng.choice(list("ABCDEFGHIKLMNOPRSTUVWY  "))) for _ in range(int(rng.integers(5, 20))))
            mask = line(
                str(rng.choice(installed(("overpass", "barlow-bold", "zilla", "oswald")))), words.strip() or "AUTO"
            )
            height = max(3, int((bottom - top) * 0.7))
            width = min(int(mask.shape[1] * height / mask.shape[0] * scale), int(right - left) - 8)
            small = cv2.resize(mask, (max(width, 4), height), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255)
            y, x = round(top + (bottom - top - height) / 2), round((left + right - small.shape[1]) / 2)
            part = ground[max(y, 0) : y + height, x : x + small.shape[1]]
            part += (ink - part) * small[height - part.shape[0] :]
