"""Whether the reader's probabilities mean what they say: stated against right, by character and by plate."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from math import log10
from pathlib import Path

from edge.reading.region import fold
from models.train.evaluate import Read, share, wilson

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.000001)

Told = tuple[float, bool]
"""A stated probability, and whether it came true (folded: O = 0 = Q, I = 1)."""


@dataclass(frozen=True, slots=True)
class Bin:
    """What was stated between `low` and `high`: how often, with what mean, and how often it was right."""

    low: float
    high: float
    count: int
    mean: float
    right: int


def of_plates(reads: list[Read]) -> list[Told]:
    """Every plate: the probability of its text, and whether the text is right."""
    return [(read.confidence, read.folded) for read in reads]


def of_characters(reads: list[Read]) -> list[Told]:
    """Every character read: its probability, and whether it is one of the truth's, in order."""
    told = []
    for read in reads:
        matcher = SequenceMatcher(None, fold(read.text), fold(read.photo.plate.text or ""), autojunk=False)
        right = {i for block in matcher.get_matching_blocks() for i in range(block.a, block.a + block.size)}
        told += [(p, i in right) for i, p in enumerate(read.characters)]
    return told


def bins(told: list[Told]) -> list[Bin]:
    """Those of EDGES' bins that hold something."""
    found = []
    for low, high in pairwise(EDGES):
        mine = [(p, right) for p, right in told if low <= p < high]
        if mine:
            mean = sum(p for p, _ in mine) / len(mine)
            found.append(Bin(low, min(high, 1.0), len(mine), mean, sum(right for _, right in mine)))
    return found


def table(told: list[Told]) -> list[tuple[str, ...]]:
    """Rows of (from, to, how many, mean stated, right % with its interval)."""
    return [(f"{b.low:g}", f"{b.high:g}", str(b.count), f"{b.mean:.3f}", share(b.right, b.count)) for b in bins(told)]


_W, _H, _LEFT, _TOP, _SIDE = 560, 470, 70, 30, 390
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
_COLOURS = ("#1f6fb4", "#c4501b")


def diagram(curves: dict[str, list[Bin]], file: Path) -> None:
    """The bins of each curve as SVG: stated probability across, share that was right up, with 95 % intervals.

    Both axes count nines, for almost all that is read is stated above 0.9.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="white"/>',
    ]
    for tick in _TICKS:
        at = _across(tick)
        parts += [
            f'<path d="M{at:.1f} {_TOP}V{_TOP + _SIDE}M{_LEFT} {_up(tick):.1f}H{_LEFT + _SIDE}" stroke="#ddd"/>',
            f'<text x="{at:.1f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{_LEFT - 6}" y="{_up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    middle = _LEFT + _SIDE / 2, _TOP + _SIDE / 2
    parts += [
        f'<path d="M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}" stroke="#888" stroke-dasharray="5 4"/>',
        f'<text x="{middle[0]}" y="{_TOP + _SIDE + 36}" text-anchor="middle">probability stated</text>',
        f'<text transform="translate(18 {middle[1]}) rotate(-90)" text-anchor="middle">share that was right</text>',
    ]
    for number, (name, found) in enumerate(curves.items()):
        colour, shift = _COLOURS[number % 2], 3 * (2 * number - 1)
        points = [(_across(b.mean) + shift, b) for b in found]
        line = " ".join(f"{x:.1f},{_up(b.right / b.count):.1f}" for x, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for x, b in points:
            low, high = wilson(b.right, b.count)
            parts += [
                f'<path d="M{x:.1f} {_up(low):.1f}V{_up(high):.1f}" stroke="{colour}"/>',
                f'<circle cx="{x:.1f}" cy="{_up(b.right / b.count):.1f}" r="3.5" fill="{colour}"/>',
            ]
        y = _TOP + 14 + 18 * number
        words = f"{name} ({sum(b.count for b in found)})"
        parts.append(f'<circle cx="{_LEFT + 12}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 22}" y="{y}">{words}</text>')
    file.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _nines(p: float) -> float:
    return -log10(max(1 - p, 10**-3.2)) / 3.2


def _across(p: float) -> float:
    return _LEFT + _SIDE * _nines(p)


def _up(p: float) -> float:
    return _TOP + _SIDE * (1 - _nines(p))
