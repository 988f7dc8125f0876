"""The registry of plate styles, and the one call that draws a plate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from models.train.render.canvas import RenderedPlate
from models.train.render.us import ISSUERS, render_us
from models.train.render.world import DESIGNS, render_world


@dataclass(frozen=True, slots=True)
class Style:
    """A way of drawing plates: the region it stands for, how often it is drawn, and how."""

    name: str
    region: str
    weight: float
    draw: Callable[[np.random.Generator], RenderedPlate]


def _registry() -> dict[str, Style]:
    us = {
        f"us-{code.lower()}": Style(f"us-{code.lower()}", f"US-{code}", 0.8, partial(render_us, code=code))
        for code in ISSUERS
    }
    world = {
        name: Style(name, design.region, design.weight, partial(render_world, name=name))
        for name, design in DESIGNS.items()
    }
    return us | world


STYLES: dict[str, Style] = _registry()
REGIONS: tuple[str, ...] = ("unknown", *sorted({style.region for style in STYLES.values()} - {"unknown"}))

_NAMES = tuple(STYLES)
_SHARES = np.array([STYLES[name].weight for name in _NAMES]) / sum(style.weight for style in STYLES.values())


def render_plate(rng: np.random.Generator, style: str | None = None) -> RenderedPlate:
    """Draw one plate of the named style, or of any (by weight); the same generator state draws the same plate.

    Raises KeyError for a style that STYLES does not name and FaceMissingError when a style has no face to draw with.
    """
    name = style if style is not None else str(rng.choice(_NAMES, p=_SHARES))
    return STYLES[name].draw(rng)
