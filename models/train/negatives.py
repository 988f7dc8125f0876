"""What the present detector takes for plates in photographs, and is none: the reader must learn to refuse it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.reading.bundle import load_bundle
from edge.reading.detector import Detector, iou
from edge.reading.ocr import Ocr
from models.train.evaluate import read
from models.train.photos import Photo, context, is_held_out
from models.train.pool import NO_PLATE, Labelled
from models.train.scene import SCENE_SETS, load_scenes

SET = "no plate"
HELD_OUT_SCENES = 4
"""One scene in so many is left out: how much evidence makes a plate is fitted on those."""
TOUCHED = 0.1
"""IoU with a labelled plate below which a proposal has nothing to do with it."""
LEGIBLE = 0.8
"""A text with a digit whose weakest character is this sure is likely to be on a plate that nobody labelled."""


def mined(models: Path, folder: Path) -> list[Photo]:
    """Every false proposal of the detector in `models` on the training scenes."""
    bundle = load_bundle(models, threads=1)
    detector, ocr = Detector(bundle.detector), Ocr(bundle.ocr)
    found = []
    for scene in load_scenes(folder, dev=False, sets=[*SCENE_SETS, "neg_coco"], max_side=4096):
        if is_held_out(scene.name, one_in=HELD_OUT_SCENES):
            continue
        proposals = [p.box for p in detector.detect(scene.image)]
        false = [b for b in proposals if all(iou(b, box) < TOUCHED for box in (*scene.boxes, *scene.ignored))]
        if not false:
            continue
        colour = np.asarray(cv2.imread(str(folder / scene.source / scene.name)), np.uint8)
        for x0, y0, x1, y1 in false:
            picture, box = context(colour, (x0, y0, x1 - x0, y1 - y0))
            plate = Labelled(picture, box, "", frozenset({NO_PLATE}))
            seen = read(ocr, plate)
            if seen.weakest < LEGIBLE or not any(c.isdigit() for c in seen.text):
                found.append(Photo(SET, plate, cropped=False))
    return found
