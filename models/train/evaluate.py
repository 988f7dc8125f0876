"""Scores the shipped reader on photographs: per set exact and folded, with intervals, issuers, calibration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

import cv2
import numpy as np

from edge.manifest import DetectorEntry, OcrEntry
from edge.reading.bundle import Model
from edge.reading.detector import Detector
from edge.reading.look import look, look_closer
from edge.reading.ocr import Ocr, beam_search, character_confidence
from edge.reading.region import fold
from edge.reading.runtime import Network
from models.train import views
from models.train.photos import Photo
from models.train.pool import Labelled, mounted
from models.train.render import render_plate
from models.train.sheet import tiled


@dataclass(frozen=True, slots=True)
class Seen:
    """What the reader says of one plate: the best text, its probability and its characters', the most probable issuer
    and its probability."""

    text: str
    confidence: float
    characters: tuple[float, ...]
    region: str
    region_confidence: float

    @property
    def weakest(self) -> float:
        """The probability of the least sure character."""
        return min(self.characters, default=0.0)


@dataclass(frozen=True, slots=True)
class Read(Seen):
    """One photograph read."""

    photo: Photo

    @property
    def exact(self) -> bool:
        return self.text == self.photo.plate.text

    @property
    def folded(self) -> bool:
        """Right but for O = 0 = Q and I = 1."""
        return fold(self.text) == fold(self.photo.plate.text or "")

    @property
    def region_right(self) -> bool:
        return self.region in self.photo.plate.regions


def read(ocr: Ocr, plate: Labelled, detector: Detector | None = None) -> Seen:
    """A labelled plate read as `sealane read --crop` reads it; without a detector its box is taken for its corners."""
    x, y, w, h = plate.box
    box = np.array([x, y, x + w, y + h], np.float32)
    if detector is None:
        seen = look(ocr, plate.picture, box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2))
    else:
        seen, _ = look_closer(ocr, detector, plate.picture, box)
    (text, confidence), (region, probability) = seen.texts[0], next(iter(seen.regions.items()))
    return Seen(text, confidence, character_confidence(seen.texts), region, probability)


def read_all(ocr: Ocr, photos: Iterable[Photo], detector: Detector | None = None) -> list[Read]:
    """Read every photograph, cut by its labelled box."""
    return [Read(**asdict(read(ocr, photo.plate, detector)), photo=photo) for photo in photos]


def load_ocr(models: Path) -> Ocr:
    """The reader of a folder of models as the daemon runs it, on one thread."""
    entry = json.loads((models / "manifest.json").read_text())["ocr"]
    return Ocr(Model(Network((models / entry["file"]).read_bytes(), threads=1), OcrEntry(**entry)))


def load_detector(models: Path) -> Detector | None:
    """The detector of a folder of models, or None where there is only a reader."""
    entry = json.loads((models / "manifest.json").read_text()).get("detector")
    if entry is None:
        return None
    return Detector(Model(Network((models / entry["file"]).read_bytes(), threads=1), DetectorEntry(**entry)))


def table(reads: list[Read]) -> list[tuple[str, ...]]:
    """Rows of (set, plates, distinct, exact, folded with interval, region): every set, then the US ones, then all."""
    groups: dict[str, list[Read]] = {name: [] for name in sorted({read.photo.name for read in reads})}
    for read in reads:
        groups[read.photo.name].append(read)
    groups["US crops"] = [read for read in reads if read.photo.name.startswith("us_")]
    groups["all but cn"] = [read for read in reads if read.photo.name != "cn_lprnet_crop"]
    groups["all"] = reads
    rows: list[tuple[str, ...]] = []
    for name, mine in groups.items():
        if mine:
            named = [read for read in mine if len(read.photo.plate.regions) == 1]
            rows.append((
                name, str(len(mine)), str(len({read.photo.plate.text for read in mine})),
                share(sum(read.exact for read in mine), len(mine)), share(sum(read.folded for read in mine), len(mine)),
                share(sum(read.region_right for read in named), len(named)) if named else "",
            ))  # fmt: skip
    return rows


def failures(ocr: Ocr, file: Path, *, tried: int = 600, seed: int = 17) -> tuple[int, int]:
    """Read `tried` rendered plates through bad optics; a sheet of those misread, and (misread, tried)."""
    rng = np.random.default_rng(seed)
    cells = []
    wrong = 0
    for _ in range(tried):
        view = views.rendered_view(rng, plate := mounted(rng, render_plate(rng)))
        seen = ocr.read(view)
        text, confidence = beam_search(seen.log_probs, seen.alphabet)[0]
        if fold(text) != fold(plate.text or ""):
            wrong += 1
            cells.append((view, f"{plate.text} > {text} {confidence:.2f}"))
    cv2.imwrite(str(file), tiled(cells[:54], 9), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return wrong, tried


def sheet(reads: list[Read], file: Path) -> None:
    """The reads as the network saw them, what it said beside what stands there: real plates, so for your eyes only."""
    cells = [(views.straight(r.photo.plate), f"{r.photo.plate.text} > {r.text} {r.confidence:.2f}") for r in reads]
    cv2.imwrite(str(file), tiled(cells, 8))


def share(hits: int, of: int) -> str:
    """A percentage with its 95 % Wilson interval."""
    low, high = wilson(hits, of)
    return f"{100 * hits / of:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson, 1927, "Probable Inference"."""
    p, z = hits / of, 1.96
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, centre - half), min(1.0, centre + half)
