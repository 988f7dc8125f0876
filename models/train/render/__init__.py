"""Plates as they come from the maker, and what roads, weather and cameras do to them.

    plate = render_plate(rng)                      # any issuer, as often as it matters
    plate = render_plate(rng, "de")                # one style of STYLES
    sign = render_sign(rng)                        # what might be taken for a plate, and is none
    seen = degrade(rng, plate.image)               # wear, dirt, light, lens, sensor, codec

Needs numpy, OpenCV and Pillow only, so that the simulator can draw vehicles with it.
"""

from models.train.render.canvas import RenderedPlate
from models.train.render.degrade import Optics, degrade, weather
from models.train.render.signs import SIGN, render_sign
from models.train.render.styles import REGIONS, STYLES, Style, render_plate

__all__ = [
    "REGIONS",
    "SIGN",
    "STYLES",
    "Optics",
    "RenderedPlate",
    "Style",
    "degrade",
    "render_plate",
    "render_sign",
    "weather",
]
