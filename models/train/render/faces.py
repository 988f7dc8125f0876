"""Type faces for plates: where each face is found, and its glyphs as masks.

FE-Schrift ships beside this package; the OFL faces come as ordinary Python packages (fontpkg-*); the US Highway
Gothic and DIN faces are Debian packages. A face that is not installed is reported by `missing()`, and a style
draws with the first of its faces that is there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Mask = NDArray[np.uint8]

_OWN = Path(__file__).resolve().parent.parent / "fonts"
_DEBIAN = Path("/usr/share/fonts/truetype")
_GLYPH_PX, _LINE_PX = 112, 48

_DEBIAN_FACES = {
    "din": ("opendin/OSP-DIN.ttf", "fonts-opendin"),
    "highway-b": ("roadgeek/RG2014B.ttf", "fonts-roadgeek"),
    "highway-c": ("roadgeek/RG2014C.ttf", "fonts-roadgeek"),
    "highway-d": ("roadgeek/RG2014D.ttf", "fonts-roadgeek"),
    "highway-e": ("roadgeek/RG2014E.ttf", "fonts-roadgeek"),
    "highway-em": ("roadgeek/RG2014EM.ttf", "fonts-roadgeek"),
}
_PACKAGED_FACES = {
    "overpass": ("fontpkg_overpass", "Overpass[wght].ttf"),
    "saira": ("fontpkg_saira_condensed", "SairaCondensed-Medium.ttf"),
    "saira-bold": ("fontpkg_saira_condensed", "SairaCondensed-Bold.ttf"),
    "barlow": ("fontpkg_barlow_condensed", "BarlowCondensed-Medium.ttf"),
    "barlow-bold": ("fontpkg_barlow_condensed", "BarlowCondensed-Bold.ttf"),
    "oswald": ("fontpkg_oswald", "Oswald[wght].ttf"),
    "share": ("fontpkg_share_tech", "ShareTech-Regular.ttf"),
    "yellowtail": ("fontpkg_yellowtail", "Yellowtail-Regular.ttf"),
    "oleo": ("fontpkg_oleo_script", "OleoScript-Regular.ttf"),
    "lobster": ("fontpkg_lobster", "Lobster-Regular.ttf"),
    "pacifico": ("fontpkg_pacifico", "Pacifico-Regular.ttf"),
    "dancing": ("fontpkg_dancing_script", "DancingScript[wght].ttf"),
    "zilla": ("fontpkg_zilla_slab", "ZillaSlab-Bold.ttf"),
    "merriweather": ("fontpkg_merriweather", "Merriweather[opsz,wdth,wght].ttf"),
    # on signs only
    "alfa": ("fontpkg_alfa_slab_one", "AlfaSlabOne-Regular.ttf"),
    "anton": ("fontpkg_anton", "Anton-Regular.ttf"),
    "archivo": ("fontpkg_archivo_black", "ArchivoBlack-Regular.ttf"),
    "black-ops": ("fontpkg_black_ops_one", "BlackOpsOne-Regular.ttf"),
    "bungee": ("fontpkg_bungee", "Bungee-Regular.ttf"),
    "cinzel": ("fontpkg_cinzel", "Cinzel[wght].ttf"),
    "luckiest": ("fontpkg_luckiest_guy", "LuckiestGuy-Regular.ttf"),
    "marker": ("fontpkg_permanent_marker", "PermanentMarker-Regular.ttf"),
    "montserrat": ("fontpkg_montserrat", "Montserrat[wght].ttf"),
    "playfair": ("fontpkg_playfair_display", "PlayfairDisplay[wght].ttf"),
    "righteous": ("fontpkg_righteous", "Righteous-Regular.ttf"),
    "titan": ("fontpkg_titan_one", "TitanOne-Regular.ttf"),
}
FACES: tuple[str, ...] = ("fe", *_DEBIAN_FACES, *_PACKAGED_FACES)


class FaceMissingError(LookupError):
    """None of the faces a style can draw with is installed."""


def missing() -> dict[str, str]:
    """Face -> the package that would bring it, for every face that is not installed."""
    sources = {face: package for face, (_, package) in _DEBIAN_FACES.items()}
    sources |= {face: package.replace("_", "-") for face, (package, _) in _PACKAGED_FACES.items()}
    return {face: sources.get(face, "sealane") for face in FACES if path(face) is None}


@cache
def path(face: str) -> Path | None:
    """The file of a face, or None where its package is not installed."""
    if face == "fe":
        found = _OWN / "GlNummernschildEng-XgWd.ttf"
    elif face in _DEBIAN_FACES:
        found = _DEBIAN / _DEBIAN_FACES[face][0]
    else:
        package, file = _PACKAGED_FACES[face]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin).parent / "files" / file
    return found if found.exists() else None


def installed(faces: Sequence[str]) -> tuple[str, ...]:
    """Those of the faces that are installed; raises FaceMissingError when none is."""
    there = tuple(face for face in faces if path(face) is not None)
    if not there:
        raise FaceMissingError(f"no face of {', '.join(faces)} is installed (see models.train.render.faces.missing)")
    return there


@cache
def glyph(face: str, char: str) -> Mask:
    """One character as a mask (h, w) uint8, cropped to its ink."""
    font = _font(face, _GLYPH_PX)
    left, top, right, bottom = (int(v) for v in font.getbbox(char))
    canvas = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(canvas).text((-left, -top), char, font=font, fill=255)
    return _cropped(np.asarray(canvas))


@lru_cache(maxsize=4096)
def line(face: str, text: str, tracking: int = 0) -> Mask:
    """A line of running text as a mask (h, w) uint8, cropped to its ink; for names, slogans, dealers.

    tracking: how far its letters stand apart beyond what the face says, in 48ths of its size.
    """
    font = _font(face, _LINE_PX)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    canvas = Image.new("L", (max(right - left + tracking * len(text), 1), max(bottom - top, 1)))
    pen = ImageDraw.Draw(canvas)
    if tracking:
        for number, char in enumerate(text):
            pen.text((font.getlength(text[:number]) + tracking * number - left, -top), char, font=font, fill=255)
    else:
        pen.text((-left, -top), text, font=font, fill=255)
    return _cropped(np.asarray(canvas))


@lru_cache(maxsize=4096)
def centres(face: str, text: str, tracking: int = 0) -> tuple[float, ...]:
    """Where the middle of each character of `line(face, text, tracking)` lies, as a share of its width."""
    font = _font(face, _LINE_PX)
    left, _, right, _ = font.getbbox(text)
    ends = [font.getlength(text[:i]) for i in range(len(text) + 1)]
    wide = max(right - left + tracking * (len(text) - 1), 1)
    return tuple(((a + b) / 2 + i * tracking - left) / wide for i, (a, b) in enumerate(pairwise(ends)))


@cache
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    file = path(face)
    if file is None:
        raise FaceMissingError(f"face {face} is not installed: {missing()[face]}")
    font = ImageFont.truetype(str(file), size)
    if "wght" in file.name:
        weights = [650 if axis["name"] == b"Weight" else axis["default"] or 0 for axis in font.get_variation_axes()]
        font.set_variation_by_axes([float(weight) for weight in weights])
    return font


def _cropped(mask: Mask) -> Mask:
    rows, columns = np.flatnonzero(mask.max(axis=1) > 40), np.flatnonzero(mask.max(axis=0) > 40)
    if not rows.size:
        return np.zeros((8, 4), np.uint8)
    return np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
