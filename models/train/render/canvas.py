"""What a plate is drawn on: a sheet measured in millimetres, and the serial that goes on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import faces

Image = NDArray[np.uint8]
Rgb = tuple[int, int, int]

Letter = tuple[str, float, float]
"""A letter A-Z, and the x, y of its middle."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class RenderedPlate:
    """One plate, seen straight on, edge to edge.

    image        (h, w, 3) uint8 BGR, one pixel a millimetre
    alpha        (h, w) uint8, 0 outside the plate's rounded corners
    text         what a reader must say: A-Z0-9, top line first, without stacked codes, slogans and stickers
    region       issuer: "US-CA", "DE", "GB"
    style        name in STYLES
    char_boxes   (len(text), 4) float32 x, y, w, h in pixels, in the order of `text`
    two_line     the serial stands on two lines
    spelt        the letters of the issuer's name ("Virginia", "PENNA.") wherever it stands: each with the x, y of its
                 middle as shares of the plate's width and height
    """

    image: Image
    alpha: Image
    text: str
    region: str
    style: str
    char_boxes: NDArray[np.float32]
    two_line: bool
    spelt: tuple[Letter, ...]


@dataclass(slots=True)
class Canvas:
    """A sheet of w x h millimetres; colours are RGB, boxes are x, y, w, h in millimetres."""

    w: int
    h: int
    image: NDArray[np.float32] = field(init=False)
    relief: NDArray[np.float32] = field(init=False)
    text: str = ""
    name: str = ""
    spelt: list[Letter] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = np.full((self.h, self.w, 3), 255, np.float32)
        self.relief = np.zeros((self.h, self.w), np.float32)

    def fill(self, colour: Rgb) -> None:
        self.image[:] = colour

    def gradient(self, colours: list[Rgb], *, sideways: bool = False) -> None:
        """Blend the colours from top to bottom (or left to right)."""
        stops = np.linspace(0, 1, len(colours))
        run = np.linspace(0, 1, self.w if sideways else self.h)
        ramp = np.stack([np.interp(run, stops, [c[i] for c in colours]) for i in range(3)], axis=1)
        self.image[:] = ramp[None] if sideways else ramp[:, None]

    def rect(self, x: float, y: float, w: float, h: float, colour: Rgb) -> None:
        x0, y0 = max(round(x), 0), max(round(y), 0)
        self.image[y0 : max(round(y + h), y0), x0 : max(round(x + w), x0)] = colour

    def polygon(self, points: NDArray[np.float64], colour: Rgb, opacity: float = 1.0) -> None:
        mask = np.zeros((self.h, self.w), np.uint8)
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
        self.blend(mask, 0, 0, colour, opacity)

    def blend(self, mask: NDArray[np.uint8], x: int, y: int, colour: Rgb, opacity: float = 1.0) -> None:
        """Lay a colour through a mask whose top left corner is at x, y; what falls outside the sheet is cut."""
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + mask.shape[1], self.w), min(y + mask.shape[0], self.h)
        if x1 <= x0 or y1 <= y0:
            return
        alpha = mask[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) * (opacity / 255)
        part = self.image[y0:y1, x0:x1]
        part += (np.asarray(colour, np.float32) - part) * alpha

    def border(self, inset: float, thickness: float, colour: Rgb, radius: float) -> None:
        outer = rounded(self.w - 2 * inset, self.h - 2 * inset, radius)
        inner = rounded(self.w - 2 * (inset + thickness), self.h - 2 * (inset + thickness), max(radius - thickness, 1))
        at, gap = round(inset), round(inset + thickness) - round(inset)
        ring = outer.copy()
        hole = ring[gap : gap + inner.shape[0], gap : gap + inner.shape[1]]
        np.subtract(hole, inner[: hole.shape[0], : hole.shape[1]], out=hole)
        self.blend(ring, at, at, colour)
        self.emboss(ring, at, at, 0.5)

    def emboss(self, mask: NDArray[np.uint8], x: int, y: int, height: float) -> None:
        """Raise the sheet through a mask; `lit` turns the relief into light and shade."""
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + mask.shape[1], self.w), min(y + mask.shape[0], self.h)
        if x1 > x0 and y1 > y0:
            part = self.relief[y0:y1, x0:x1]
            np.maximum(part, mask[y0 - y : y1 - y, x0 - x : x1 - x] * np.float32(height / 255), out=part)

    def words(
        self, face: str, text: str, box: tuple[float, float, float, float], colour: Rgb, *, tracking: int = 0
    ) -> None:
        """Running text, laid in the box.

        Where it holds `name`, its letters are noted. tracking: see faces.line.
        """
        placed = self.lay(faces.line(face, text, tracking), box, colour)
        if placed is None:
            return
        left, top, width, height = placed
        start = text.upper().find(self.name.upper()) if self.name else -1
        if start >= 0:
            for i, at in list(enumerate(faces.centres(face, text, tracking)))[start : start + len(self.name)]:
                if "A" <= (letter := text[i].upper()) <= "Z":
                    self.spelt.append((letter, (left + at * width) / self.w, (top + height / 2) / self.h))

    def lay(
        self, mask: NDArray[np.uint8], box: tuple[float, float, float, float], colour: Rgb
    ) -> tuple[float, float, float, float] | None:
        """A colour through a mask, as large as fits the box without more than a fifth of distortion, in its middle;
        where that is, or None: what would be smaller than 3 mm is left out."""
        x, y, w, h = box
        height = min(h, w / mask.shape[1] * mask.shape[0] * 1.2)
        width = min(mask.shape[1] * height / mask.shape[0], w)
        if height < 3 or width < 3:
            return None
        left, top = x + (w - width) / 2, y + (h - height) / 2
        self.blend(scaled(mask, width, height), round(left), round(top), colour)
        return left, top, width, height

    def character(
        self, face: str, char: str, box: tuple[float, float, float, float], colour: Rgb, relief: float
    ) -> None:
        """One character that is no part of the serial, as high as the box and at most as wide, centred in it."""
        x, y, w, h = box
        mask = faces.glyph(face, char)
        wide = min(_wide(mask, h), w)
        self._stamp(scaled(mask, wide, h), x + (w - wide) / 2, y, colour, relief)

    def serial(
        self,
        face: str,
        groups: str,
        box: tuple[float, float, float, float],
        colour: Rgb,
        *,
        height: float,
        width: float,
        gap: float,
        space: float,
        relief: float = 1.0,
        spread: float = 0.0,
        stroke: int = 0,
        second: Rgb | None = None,
    ) -> list[float]:
        """Stamp a serial, centred in the box; return the x of the middle of every space.

        `groups` holds characters, " " (a space), "-" and "." (drawn, not read). Characters are `height` tall and at
        most `width` wide, `gap` apart; the line is squeezed where it would not fit the box. `spread` stretches
        the spaces towards the box's ends (0 to 1); `stroke` thickens (or, negative, thins) by pixels; `second`
        colours what follows the first space.
        """
        x, y, w, h = box
        cells = [_cell(face, char, width, height, space) for char in groups]
        total = sum(cells) + gap * (len(cells) - 1)
        squeeze = min(1.0, w / total)
        spaces = sum(char in " -." for char in groups)
        extra = max(0.0, (w - total)) * spread / spaces if spaces else 0.0
        at = x + (w - (total + extra * spaces) * squeeze) / 2
        top = y + (h - height) / 2
        middles = []
        ink = colour
        for char, cell in zip(groups, cells, strict=True):
            advance = (cell + gap + (extra if char in " -." else 0.0)) * squeeze
            if char == " ":
                middles.append(at + (advance - gap) / 2)
                ink = second or colour
            elif char in "-.":
                middle = at + (advance - gap * squeeze) / 2
                middles.append(middle)
                wide, high = (width * 0.34, height * 0.10) if char == "-" else (height * 0.13, height * 0.13)
                self._stamp(np.full((max(2, int(high)), max(2, int(wide))), 255, np.uint8),
                            middle - wide / 2, top + height * 0.5 - high / 2, ink, relief)  # fmt: skip
            else:
                mask = faces.glyph(face, char)
                wide = min(_wide(mask, height), width) * squeeze
                small = scaled(mask, wide, height)
                if stroke:
                    kernel = np.ones((1 + abs(stroke), 1 + abs(stroke)), np.uint8)
                    small = (cv2.dilate if stroke > 0 else cv2.erode)(small, kernel).astype(np.uint8)
                left = at + (cell * squeeze - wide) / 2
                self._stamp(small, left, top, ink, relief)
                self.text += char
                self.boxes.append((left, top, wide, height))
            at += advance
        return middles

    def _stamp(self, mask: NDArray[np.uint8], x: float, y: float, colour: Rgb, relief: float) -> None:
        self.blend(mask, round(x), round(y), colour)
        if relief:
            self.emboss(mask, round(x), round(y), relief)

    def lit(self, angle: float, strength: float) -> None:
        """Shade the relief as light from `angle` (radians) does; strength 0 (print) to about 1 (deep stamping)."""
        soft = cv2.GaussianBlur(self.relief, (0, 0), 1.1)
        slope = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.25) * np.cos(angle)
        slope += cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.25) * np.sin(angle)
        self.image *= np.clip(1 + strength * slope, 0.3, 1.8)[..., None]

    def done(self, style: str, region: str, *, radius: float, two_line: bool = False) -> RenderedPlate:
        image = np.clip(self.image[..., ::-1], 0, 255).astype(np.uint8)
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        alpha = rounded(self.w, self.h, radius)
        return RenderedPlate(
            np.ascontiguousarray(image), alpha, self.text, region, style, boxes, two_line, tuple(self.spelt)
        )


def rounded(w: float, h: float, radius: float) -> NDArray[np.uint8]:
    """A filled rectangle with rounded corners as a mask."""
    width, height, r = round(w), round(h), round(radius)
    mask = np.zeros((height, width), np.uint8)
    cv2.rectangle(mask, (r, 0), (width - 1 - r, height - 1), 255, -1)
    cv2.rectangle(mask, (0, r), (width - 1, height - 1 - r), 255, -1)
    for x in (r, width - 1 - r):
        for y in (r, height - 1 - r):
            cv2.circle(mask, (x, y), r, 255, -1, cv2.LINE_AA)
    return mask


def scaled(mask: NDArray[np.uint8], w: float, h: float) -> NDArray[np.uint8]:
    size = (max(1, round(w)), max(1, round(h)))
    return cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def drawn(rng: np.random.Generator, pattern: str, *, letters: str = LETTERS, digits: str = DIGITS) -> str:
    """A serial for a pattern: "@" is a letter, "#" a digit, anything else stands for itself."""
    pick = {"@": letters, "#": digits}
    return "".join(str(rng.choice(list(pick[c]))) if c in pick else c for c in pattern)


def _wide(mask: NDArray[np.uint8], height: float) -> float:
    return float(mask.shape[1] * height / mask.shape[0])


def _cell(face: str, char: str, width: float, height: float, space: float) -> float:
    if char == " ":
        return space
    if char in "-.":
        return max(space, width * 0.5) if char == "-" else max(space, width * 0.3)
    natural = _wide(faces.glyph(face, char), height)
    return width if char not in "1IJ" else min(width, max(natural, width * 0.55))
