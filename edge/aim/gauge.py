"""The gauges of aim mode: which measure, in what unit, and what is needed. The same for terminal and page."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge import explain


@dataclass(frozen=True, slots=True)
class Gauge:
    """`measure`: a field of `edge.aim.view.Measures`, shown times `scale` with `digits` and `unit`; needed is at least
    `limit` where `more` is better, else at most that, either way of zero; the bar is full at `full`."""

    measure: str
    label: str
    unit: str
    limit: float
    full: float
    more: bool
    scale: float = 1.0
    digits: int = 0

    def value(self, measures: Mapping[str, float | None]) -> float | None:
        """What to show, or None where nothing was measured."""
        measured = measures[self.measure]
        return None if measured is None else measured * self.scale

    def good(self, value: float) -> bool:
        return value >= self.limit if self.more else abs(value) <= self.limit

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}".strip()


GAUGES = (
    Gauge("plate_height_px", "plate height", "px", explain.PLATE_HEIGHT_PX, 80, more=True),
    Gauge("sharpness", "sharpness", "", explain.SHARPNESS, 1, more=True, digits=2),
    Gauge("clipped_share", "clipped", "%", explain.CLIPPED_SHARE * 100, 50, more=False, scale=100),
    Gauge("skew_deg", "skew", "°", 15, 45, more=False),
    Gauge("brightness", "brightness", "of 255", explain.BRIGHTNESS, 255, more=True),
    Gauge("exposure_us", "exposure", "ms", 1.0, 10, more=False, scale=0.001, digits=2),
)
