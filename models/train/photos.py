"""Real plates from a folder laid out as its README says: sets of `images/` with a `labels.jsonl`.

Development rows (`dev`) are only ever returned by `development`, and rows held out only by `held_out`; nothing trains
on either.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.pool import Labelled, letters
from models.train.render import REGIONS
from models.train.render.us import ISSUERS

Image = NDArray[np.uint8]

_STATES = {
    "alabama": "AL", "alaska": "AK", "arizona": "AZ", "arkansas": "AR", "california": "CA", "colorado": "CO",
    "connecticut": "CT", "delaware": "DE", "florida": "FL", "georgia": "GA", "hawai": "HI", "idaho": "ID",
    "illinois": "IL", "indiana": "IN", "iowa": "IA", "kansas": "KS", "kentucky": "KY", "louisiana": "LA",
    "maine": "ME", "maryland": "MD", "massachusetts": "MA", "michigan": "MI", "minnesota": "MN", "missippi": "MS",
    "missouri": "MO", "montana": "MT", "nebraska": "NE", "nevada": "NV", "new_hampshire": "NH", "new_jersey": "NJ",
    "new_mexico": "NM", "new_york": "NY", "north_carolina": "NC", "north_dakota": "ND", "ohio": "OH",
    "oklahoma": "OK", "oregon": "OR", "pennsylvania": "PA", "rhode_island": "RI", "south_carolina": "SC",
    "south_dakota": "SD", "tennessee": "TN", "texas": "TX", "utah": "UT", "vermont": "VT", "virginia": "VA",
    "washington": "WA", "west_virginia": "WV", "wisconsin": "WI", "wyoming": "WY", "washington_dc": "DC",
    "puerto_rico": "PR", "guam": "GU", "u_s_virgin_islands": "VI", "american_samoa": "AS", "cnmi": "MP",
}  # fmt: skip
_READABLE_PX = 7.0
_STACKED = 3.0
"""Weight of a plate with a stacked code: few have one, and it takes a look at many to know what is part of a serial."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A labelled real plate and the set it belongs to; weight: how often it is drawn beside others of its set."""

    name: str
    plate: Labelled
    cropped: bool
    weight: float = 1.0


def training(folder: Path) -> list[Photo]:
    """Every transcribed row that is not of the development split, but for those held out."""
    return [photo for photo in _load(folder, dev=False) if not is_held_out(photo.plate.text or "")]


def held_out(folder: Path) -> list[Photo]:
    """One text in twenty of what could have been trained on: temperatures are fitted on these."""
    return [photo for photo in _load(folder, dev=False) if is_held_out(photo.plate.text or "")]


def development(folder: Path) -> list[Photo]:
    """Every transcribed row of the development split; for reports only."""
    return _load(folder, dev=True)


def unread(folder: Path) -> list[Photo]:
    """Every row with a box that nobody transcribed, development rows apart; their text is None."""
    return _load(folder, dev=False, transcribed=False)


def possible_regions(country: str | None, state: str | None) -> frozenset[str]:
    """What a row's labels leave possible; empty where they say nothing."""
    if state:
        return frozenset({f"US-{_STATES[state]}"})
    if country is None or country == "mixed":
        return frozenset()
    code = country.removeprefix("eu-").upper().replace("UK", "GB")
    if code == "US":
        return frozenset(region for region in REGIONS if region.startswith("US-"))
    return frozenset({code if code in REGIONS else "unknown"})


def possible_names(state: str | None) -> tuple[str, ...]:
    """How the name of a labelled United States issuer may stand on its plates: written out, or short as on old ones."""
    if not state:
        return ()
    issuer = ISSUERS[_STATES[state]]
    return tuple(sorted({letters(name) for name in (*issuer.names, issuer.short)} - {""}))


def is_held_out(name: str, *, one_in: int = 20) -> bool:
    """Whether a text (or a scene) of this name is kept from training, to fit the few numbers that follow it."""
    return crc32(name.encode()) % one_in == 0


def _load(folder: Path, *, dev: bool, transcribed: bool = True) -> list[Photo]:
    photos = []
    for labels in sorted(folder.glob("*/labels.jsonl")):
        for raw in labels.read_text().splitlines():
            row = json.loads(raw)
            text = re.sub(r"[^0-9A-Z]", "", row.get("text") or "")
            if bool(text) != transcribed or len(text) > 10 or bool(row.get("dev")) != dev or row.get("bad"):
                continue
            if not transcribed and row["box"] is None:
                continue
            picture = cv2.imread(str(labels.parent / row["image"]), cv2.IMREAD_COLOR)
            if picture is None:
                raise FileNotFoundError(f"{labels.parent / row['image']} is named in {labels} and can't be read")
            regions = possible_regions(row.get("country"), row.get("state"))
            if row["box"] is None:
                box = (0.0, 0.0, float(picture.shape[1]), float(picture.shape[0]))
            else:
                picture, box = context(picture.astype(np.uint8), tuple(row["box"]))
            if box[3] >= _READABLE_PX:
                plate = Labelled(picture.astype(np.uint8), box, text or None, regions, possible_names(row.get("state")))
                weight = _STACKED if row.get("stacked") else 1.0
                photos.append(Photo(labels.parent.name, plate, row["box"] is None, weight))
    return photos


def context(picture: Image, box: tuple[float, ...]) -> tuple[Image, tuple[float, float, float, float]]:
    """The part of a scene around a box, at most about 256 px wide, and the box in it."""
    x, y, w, h = box
    x0, y0 = max(0, int(x - 0.4 * w)), max(0, int(y - 0.5 * h))
    x1, y1 = min(picture.shape[1], int(x + 1.4 * w) + 1), min(picture.shape[0], int(y + 1.5 * h) + 1)
    part = picture[y0:y1, x0:x1]
    scale = min(1.0, 256 / w)
    if scale < 1:
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return np.ascontiguousarray(part), ((x - x0) * scale, (y - y0) * scale, w * scale, h * scale)
