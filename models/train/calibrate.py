"""Temperatures that make the reader's probabilities mean what they say, fitted on plates it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.reading.ocr import condense, log_likelihood
from edge.reading.runtime import Network, decode
from models.train import views
from models.train.net import ALPHABET
from models.train.photos import Photo
from models.train.pool import Labelled, pool_parts, pool_plates
from models.train.render import REGIONS

_VIEWS_OF_A_PLATE = 2


def temperatures(model: Path, pool: Path, photos: list[Photo]) -> dict[str, float]:
    """{"temperature", "issuer_temperature"} of an int8 model: least negative log likelihood of the right answer.

    photos: held-out ones, each cut straight and twice as a detector would; without any, views of rendered plates.
    """
    rng = np.random.default_rng(11)
    examples: list[tuple[views.Image, Labelled]] = []
    for photo in photos:
        examples.append((views.straight(photo.plate), photo.plate))
        examples += [(views.loose(rng, photo.plate), photo.plate) for _ in range(_VIEWS_OF_A_PLATE - 1)]
    if not photos:
        plates = pool_plates(pool_parts(pool)[-1:])
        examples = [(views.rendered_view(rng, plates[i]), plates[i]) for i in rng.integers(len(plates), size=600)]
    network = Network(model.read_bytes(), threads=1)
    steps, issuers = [], []
    for view, _ in examples:
        codes = network.run((view ^ 0x80).view(np.int8)[None])
        steps.append(decode(codes[0][0], network.outputs[0]))
        issuers.append(decode(codes[1].reshape(-1), network.outputs[1])[:-1])  # who issued it, given that it is a plate
    texts = [plate.text or "" for _, plate in examples]
    possible = [np.array([name in plate.regions for name in REGIONS]) for _, plate in examples]

    def text_loss(temperature: float) -> float:
        seen = (condense(_log_softmax(logits / temperature)) for logits in steps)
        likely = (log_likelihood(log, [text], ALPHABET)[0] for log, text in zip(seen, texts, strict=True))
        return -float(np.mean([max(value, -20.0) for value in likely]))

    def issuer_loss(temperature: float) -> float:
        likely = [
            np.logaddexp.reduce(_log_softmax(i / temperature)[p])
            for i, p in zip(issuers, possible, strict=True)
            if p.any()
        ]
        return -float(np.mean(likely))

    return {"temperature": _least(text_loss), "issuer_temperature": _least(issuer_loss)}


def _least(loss: Callable[[float], float]) -> float:
    grid = np.exp(np.linspace(np.log(0.5), np.log(3), 13))
    return round(float(grid[int(np.argmin([loss(float(t)) for t in grid]))]), 3)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)
