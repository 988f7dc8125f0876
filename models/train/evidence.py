"""How much evidence makes a plate: fitted to the false plates that are allowed, on training scenes.

A candidate is a plate by its detector's score, its width, the reader's word and how surely it is read, together
(`evidence` in edge/reading/reader.py). What each counts, by a logistic regression, and the level go into the manifest,
for they belong to these two models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.manifest import Evidence
from edge.reading.bundle import load_bundle
from edge.reading.detector import Detector, iou
from edge.reading.look import look
from edge.reading.ocr import Ocr
from edge.reading.reader import MAX_READ, Clues, clues, evidence
from models.benchmark.score import FOUND, WIDE_PX
from models.train.material import SCENE_SETS, Grey, load_scenes
from models.train.negatives import HELD_OUT_SCENES, PARTLY_LABELLED, TOUCHED
from models.train.photos import is_held_out
from models.train.sheet import tiled

RIDGE, NEWTON_STEPS = 1.0, 25


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the detector proposed: what speaks for it, which labelled plate it finds (its number, or None), a view."""

    clues: Clues
    plate: int | None
    view: Grey


@dataclass(frozen=True, slots=True)
class Level:
    """What makes a plate, the false plates a picture that come with it, and how many labelled plates are found."""

    evidence: Evidence
    false: float
    found: int


def propose(models: Path, plates: Path) -> Iterator[list[Candidate]]:
    """The candidates of one training scene after the other; `Candidate.plate` counts on over the scenes.

    Only scenes are taken whose false proposals the reader was not taught to refuse, of sets with every plate labelled
    (see negatives.py).
    Candidates on plates that are narrower than WIDE_PX, or must not be judged, are left out.
    """
    bundle = load_bundle(models, threads=1)
    detector, ocr = Detector(bundle.detector), Ocr(bundle.ocr)
    number = 0
    sets = [name for name in SCENE_SETS if name not in PARTLY_LABELLED]
    for scene in load_scenes(plates, dev=False, sets=sets, max_side=4096):
        if not is_held_out(scene.name, one_in=HELD_OUT_SCENES):
            continue
        wide = [box for box in scene.boxes if box[2] - box[0] >= WIDE_PX]
        found = []
        for proposal in detector.detect(scene.image)[:MAX_READ]:
            overlaps = [iou(proposal.box, box) for box in wide]
            best = max(overlaps, default=0.0)
            if best < FOUND and any(iou(proposal.box, box) >= TOUCHED for box in (*scene.boxes, *scene.ignored)):
                continue
            seen = look(ocr, scene.image, proposal.quad)
            plate = number + int(np.argmax(overlaps)) if best >= FOUND else None
            found.append(
                Candidate(clues(proposal, seen, scene.image.shape[1]), plate, _view(scene.image, proposal.box))
            )
        number += len(wide)
        yield found


def fit(scenes: list[list[Candidate]], false: float) -> Level:
    """What each clue counts, and the least evidence with which there are at most `false` false plates a picture."""
    candidates = [candidate for scene in scenes for candidate in scene]
    weights = _weights(candidates)
    wrong, found, level = 0, set[int](), Level(weights.model_copy(update={"least": np.inf}), 0.0, 0)
    for sure, candidate in sorted(((evidence(c.clues, weights), c) for c in candidates), key=lambda pair: -pair[0]):
        if candidate.plate is not None:
            found.add(candidate.plate)
        elif (wrong := wrong + 1) > false * len(scenes):
            break
        least = math.floor(sure * 1000) / 1000
        level = Level(weights.model_copy(update={"least": least}), wrong / len(scenes), len(found))
    return level


def _weights(candidates: list[Candidate]) -> Evidence:
    """Logistic regression of being a plate on the clues (Newton's method), as multiples of what the score counts."""
    x = np.array([(*astuple(c.clues), 1.0) for c in candidates])  # in the order of Clues' fields
    y = np.array([c.plate is not None for c in candidates], float)
    w, ridge = np.zeros(x.shape[1]), RIDGE * np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-x @ w))
        w += np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, x.T @ (y - p) - ridge @ w)
    legible, plausible, wide = (w[1:4] / w[0]).round(3).tolist()
    return Evidence(least=0.0, legible=legible, plausible=plausible, wide=wide)


def sheet(scenes: list[list[Candidate]], level: Level, file: Path) -> None:
    """The false plates of a level, to see which of them are plates that nobody labelled; for your eyes only."""
    judged = [(c, evidence(c.clues, level.evidence)) for scene in scenes for c in scene if c.plate is None]
    cells = [
        (np.asarray(cv2.cvtColor(c.view, cv2.COLOR_GRAY2BGR), np.uint8), f"{sure:.2f}")
        for c, sure in judged
        if sure >= level.evidence.least
    ]
    cv2.imwrite(str(file), tiled(cells, 12))


def _view(image: Grey, box: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Grey:
    reach = 0.4 * (box[2] - box[0])
    x0, y0, x1, y1 = (int(v) for v in (box[0] - reach, box[1] - reach / 2, box[2] + reach, box[3] + reach / 2))
    return image[max(y0, 0) : max(y1, 1), max(x0, 0) : max(x1, 1)].copy()
