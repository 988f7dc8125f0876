"""A straight plate in, the probability of every text out: an int8 network and CTC decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ManifestInvalid
from edge.manifest import OcrEntry
from edge.reading.bundle import Model
from edge.reading.runtime import decode

BEAM = 6
"""Texts kept while decoding, and alternatives known of one plate."""
LEAST = 0.005
"""A symbol that is less probable than this at a step is not followed."""
HOPELESS = 1e-3
"""A text that is this much less probable than the best at any step is dropped."""
SURELY_BLANK = 0.998
MAX_LENGTH = 10

Candidates = list[tuple[str, float]]
"""Texts with their probabilities, best first."""


@dataclass(frozen=True, slots=True, eq=False)
class Characters:
    """What the network says of one plate.

    log_probs: (steps, symbols) float32, natural logarithms, the alphabet's symbols and then blank; runs of steps that
    are surely blank are one step. region_log_probs: (issuers,) float32, natural logarithms, in the order of `regions`,
    given that it is a plate; plausible: the probability that it is one, 0-1.
    """

    log_probs: NDArray[np.float32]
    alphabet: str
    region_log_probs: NDArray[np.float32]
    regions: tuple[str, ...]
    plausible: float


class Ocr:
    """Reads plates made straight. Not thread-safe.

    size: (width, height) of the picture it wants; margin: share of the plate's sides around it.
    """

    def __init__(self, model: Model[OcrEntry]) -> None:
        """ManifestInvalid if the network isn't a reader as the manifest describes it."""
        entry, inputs, outputs = model.entry, model.network.inputs, model.network.outputs
        self._alphabet, self._regions, self.margin = entry.alphabet, entry.regions, entry.margin
        self._temperature, self._issuer_temperature = entry.temperature, entry.issuer_temperature
        shapes = [spec.shape[-1] for spec in outputs]
        if len(inputs) != 1 or inputs[0].shape[-1] != 3 or shapes != [len(self._alphabet) + 1, len(self._regions) + 1]:
            raise ManifestInvalid(
                "the reader must take one BGR picture and give characters, blank last, and regions, no plate last"
            )
        if abs(inputs[0].scale * 255 - 1) > 1e-3 or inputs[0].zero_point != -128:
            raise ManifestInvalid("the reader's input must code levels 0-255 as -128-127")
        self._network = model.network
        self._steps, self._issuers = outputs
        self.size = (inputs[0].shape[2], inputs[0].shape[1])

    def read(self, plate: NDArray[np.uint8]) -> Characters:
        """plate: (height, width) grey or (height, width, 3) BGR uint8 of `size`."""
        picture = cv2.cvtColor(plate, cv2.COLOR_GRAY2BGR) if plate.ndim == 2 else plate
        steps, issuers = self._network.run((np.asarray(picture, np.uint8) ^ 0x80).view(np.int8)[None])
        issued = _log_softmax(decode(issuers.reshape(-1), self._issuers) / self._issuer_temperature)
        return Characters(
            condense(_log_softmax(decode(steps[0], self._steps) / self._temperature)),
            self._alphabet,
            _log_softmax(issued[:-1]),
            self._regions,
            1 - float(np.exp(issued[-1])),
        )


def condense(log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same probabilities in fewer steps: a run of surely blank steps becomes one."""
    blank = log_probs[:, -1] > np.log(SURELY_BLANK)
    keep = ~blank | ~np.concatenate([[False], blank[:-1]])
    return np.asarray(log_probs[keep], np.float32)


def beam_search(log_probs: NDArray[np.float32], alphabet: str) -> Candidates:
    """The most probable texts, at most BEAM, summed over their alignments: CTC prefix beam search.

    log_probs: (steps, symbols), blank last.
    A text of more than MAX_LENGTH is not followed. Source: Hannun et al., "First-Pass Large Vocabulary Continuous
    Speech Recognition using Bi-Directional Recurrent DNNs", 2014, algorithm 1 without a language model.
    """
    probs = np.exp(log_probs)
    followed: list[list[tuple[str, float]]] = [[] for _ in probs]
    steps, indexes = np.nonzero(probs[:, :-1] >= LEAST)
    for step, index, p in zip(steps.tolist(), indexes.tolist(), probs[steps, indexes].tolist(), strict=True):
        followed[step].append((alphabet[index], p))
    beams: dict[str, tuple[float, float]] = {"": (1.0, 0.0)}  # text -> probability ending in blank, in its last symbol
    for blank, symbols in zip(probs[:, -1].tolist(), followed, strict=True):
        grown: dict[str, tuple[float, float]] = {}
        for text, (in_blank, in_symbol) in beams.items():
            old = grown.get(text, (0.0, 0.0))
            grown[text] = (old[0] + (in_blank + in_symbol) * blank, old[1])
            for symbol, p in symbols:
                repeated = text[-1:] == symbol
                if repeated:
                    old = grown[text]
                    grown[text] = (old[0], old[1] + in_symbol * p)
                if len(text) < MAX_LENGTH:
                    longer = text + symbol
                    old = grown.get(longer, (0.0, 0.0))
                    grown[longer] = (old[0], old[1] + (in_blank if repeated else in_blank + in_symbol) * p)
        best = sorted(((a + b, text) for text, (a, b) in grown.items()), reverse=True)[:BEAM]
        beams = {text: grown[text] for p, text in best if p > best[0][0] * HOPELESS}
    return [(text, a + b) for text, (a, b) in beams.items()]


def character_confidence(candidates: Candidates) -> tuple[float, ...]:
    """One probability for each character of the first text: what is left by the texts that differ there.

    candidates: best first. Probability that no listed text holds may lie anywhere, but mostly lies where listed texts
    differ: one half is shared by all characters, the other by the listed texts as they stand.
    """
    best, p = candidates[0]
    others = sum(share for _, share in candidates[1:])
    if not others:
        return (p,) * len(best)
    unlisted = max(0.0, 1 - p - others)
    doubt = [unlisted / 2 / max(len(best), 1)] * len(best)
    more = 1 + unlisted / 2 / others
    for text, share in candidates[1:]:
        shorter = min(len(best), len(text))
        start = next((i for i in range(shorter) if best[i] != text[i]), shorter)
        tail = next((i for i in range(shorter - start) if best[-1 - i] != text[-1 - i]), shorter - start)
        first = max(min(start, len(best) - 1), 0)
        for i in range(first, min(max(len(best) - tail, first + 1), len(best))):
            doubt[i] += share * more
    return tuple(max(0.0, 1 - d) for d in doubt)


def log_likelihood(log_probs: NDArray[np.float32], texts: Sequence[str], alphabet: str) -> NDArray[np.float64]:
    """Natural logarithm of each text's exact CTC probability, shape (len(texts),); -inf where it can't be.

    Source: Graves et al., "Connectionist Temporal Classification", 2006, section 4.1 (the forward variable).
    """
    blank = log_probs.shape[1] - 1
    longest = max(map(len, texts), default=0)
    labels = np.full((len(texts), 2 * longest + 1), blank)
    for row, text in zip(labels, texts, strict=True):
        row[1 : 2 * len(text) : 2] = [alphabet.index(symbol) for symbol in text]
    skip = np.zeros(labels.shape, np.bool_)
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    probs = np.exp(log_probs.astype(np.float64))
    forward = np.zeros(labels.shape)
    forward[:, 0] = 1.0
    total = np.zeros(len(texts))
    first = True
    for row in probs:
        moved = forward.copy()
        if first:
            moved[:, 1:2] = 1.0
            first = False
        else:
            moved[:, 1:] += forward[:, :-1]
            moved[:, 2:] += np.where(skip[:, 2:], forward[:, :-2], 0)
        forward = moved * row[labels]
        scale = forward.max(axis=1, keepdims=True)
        scale[scale == 0] = 1.0
        forward /= scale
        total += np.log(scale[:, 0])
    ends = 2 * np.array([len(text) for text in texts])
    at = np.arange(len(texts))
    last = forward[at, ends] + np.where(ends > 0, forward[at, ends - 1], 0)
    with np.errstate(divide="ignore"):
        return np.asarray(total + np.log(last), np.float64)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)
