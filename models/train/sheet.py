"""Contact sheets: many small pictures in one, each with a line of words."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import STYLES, render_plate, weather

Image = NDArray[np.uint8]
_CELL_W, _CELL_H, _WORDS_H = 176, 96, 16


def tiled(pictures: list[tuple[Image, str]], columns: int) -> Image:
    """Pictures scaled into equal cells, row by row, each above its words."""
    cells = []
    for picture, words in pictures:
        scale = min(_CELL_W / picture.shape[1], _CELL_H / picture.shape[0])
        size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
        cell = np.full((_CELL_H + _WORDS_H, _CELL_W, 3), 255, np.uint8)
        cell[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        cv2.putText(cell, words, (2, _CELL_H + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (60, 60, 60), 1, cv2.LINE_AA)
        cells.append(cell)
    while len(cells) % columns:
        cells.append(np.full((_CELL_H + _WORDS_H, _CELL_W, 3), 255, np.uint8))
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    return np.vstack(rows)


def contact_sheet(file: Path, seed: int = 5) -> None:
    """One plate of every style, worn, as a JPEG: what the model card shows."""
    rng = np.random.default_rng(seed)
    pictures = []
    for style in STYLES:
        plate = render_plate(rng, style)
        pictures.append((weather(rng, plate.image), f"{plate.text}  {plate.region}"))
    cv2.imwrite(str(file), tiled(pictures, 9), [cv2.IMWRITE_JPEG_QUALITY, 82])
