"""How well the issuers' formats (edge/reading/region.py) know labelled plates, and which look-alikes stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from edge.reading.region import FORMATS, LOOK_ALIKES, WORD_SELLERS, alike, fitting, fold, spelt
from models.train.photos import Photo

_GROUP = {character: group for group in LOOK_ALIKES for character in group}


@dataclass(slots=True)
class Fits:
    """Distinct plates of one group of issuers: how many there are; fit their issuer's formats; fit them, and would not
    with another look-alike anywhere; don't fit them, and would with others. Of those that do neither, where an issuer
    sells words: have an O or I in a word; have a digit in its place."""

    plates: int = 0
    fit: int = 0
    only_so: int = 0
    only_otherwise: int = 0
    letter_in_word: int = 0
    digit_in_word: int = 0


def fits(photos: Iterable[Photo]) -> dict[str, Fits]:
    """Of the United States and elsewhere; plates of one known issuer with formats count."""
    groups = {"United States": Fits(), "elsewhere": Fits()}
    for text, regions in {(photo.plate.text or "", photo.plate.regions) for photo in photos}:
        issuer, *others = regions or ("",)
        if others or issuer not in FORMATS:
            continue
        mine = groups["United States" if issuer.startswith("US-") else "elsewhere"]
        mine.plates += 1
        if fitting(text, issuer):
            mine.fit += 1
            alternatives = ["".join(each) for each in product(*(_GROUP.get(c, c) for c in text))]
            mine.only_so += len(alternatives) > 1 and sum(bool(fitting(each, issuer)) for each in alternatives) == 1
        elif any(fitting(other, issuer) for other in alike(text, {issuer: 1.0})):
            mine.only_otherwise += 1
        elif issuer in WORD_SELLERS:
            mine.digit_in_word += spelt(text) != text
            mine.letter_in_word += spelt(text) == text and any(spelt(other) != other for other in _with_a_digit(text))
    return groups


def _with_a_digit(text: str) -> Iterator[str]:
    for at, letter in enumerate(text):
        if letter in "OI":
            yield text[:at] + fold(letter) + text[at + 1 :]
