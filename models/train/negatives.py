"""What the present models take for plates where nobody labelled one: some are plates all the same.

What is none, the reader must learn to refuse; what may be one must not teach the detector that it is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.reading.bundle import load_bundle
from edge.reading.detector import Detector, iou
from edge.reading.look import look
from edge.reading.ocr import Ocr
from edge.reading.reader import clues, evidence
from models.train.material import SCENE_SETS, Scene, load_scenes
from models.train.photos import Photo, context, is_held_out
from models.train.pool import NO_PLATE, Labelled

SET = "no plate"
HELD_OUT_SCENES = 4
"""One scene in so many is left out: how much evidence makes a plate is fitted on those."""
TOUCHED = 0.1
"""IoU with a labelled plate below which a proposal has nothing to do with it."""
PARTLY_LABELLED = ("ro_scene",)
"""Sets where only the nearest vehicle's plate is labelled: most that is proposed elsewhere is a plate too."""
LIKELY = 0.5
"""Evidence beyond the least from which a proposal is more likely a plate that nobody labelled than none."""


def mined(models: Path, folder: Path) -> list[Photo]:
    """Every false proposal of the detector in `models` on the training scenes, but for what may be a plate."""
    scenes = load_scenes(folder, dev=False, sets=[*SCENE_SETS, "neg_coco"], max_side=4096)
    found = []
    for scene, boxes in _proposals(models, [s for s in scenes if not is_held_out(s.name, one_in=HELD_OUT_SCENES)]):
        if not (false := [box for box, likely in boxes if not likely]):
            continue
        colour = np.asarray(cv2.imread(str(folder / scene.source / scene.name)), np.uint8)
        for x0, y0, x1, y1 in false:
            picture, box = context(colour, (x0, y0, x1 - x0, y1 - y0))
            found.append(Photo(SET, Labelled(picture, box, "", frozenset({NO_PLATE})), cropped=False))
    return found


def unjudged(models: Path, scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes, with what may be a plate that nobody labelled added to what is not judged."""
    return [
        replace(
            scene, ignored=np.array([*scene.ignored, *(b for b, likely in boxes if likely)], np.float32).reshape(-1, 4)
        )
        for scene, boxes in _proposals(models, scenes)
    ]


def _proposals(models: Path, scenes: Sequence[Scene]) -> Iterator[tuple[Scene, list[tuple[NDArray[np.float32], bool]]]]:
    """The boxes proposed in each scene where none is labelled, and whether each is likely a plate all the same."""
    bundle = load_bundle(models, threads=1)
    detector, ocr, weights = Detector(bundle.detector), Ocr(bundle.ocr), bundle.detector.entry.evidence
    for scene in scenes:
        boxes = []
        for proposal in detector.detect(scene.image):
            if any(iou(proposal.box, box) >= TOUCHED for box in (*scene.boxes, *scene.ignored)):
                continue
            seen = look(ocr, scene.image, proposal.quad)
            beyond = evidence(clues(proposal, seen, scene.image.shape[1]), weights) - weights.least
            boxes.append((proposal.box, scene.source in PARTLY_LABELLED or beyond >= LIKELY))
        yield scene, boxes
