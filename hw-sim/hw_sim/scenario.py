"""What drives through the lane and how: a TOML file in scenarios/, or the command's own options."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from edge.config import Table, check
from edge.errors import ScenarioMissing, clean

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"

Line = Literal["cts", "dsr", "dcd", "ri"]


def _span(value: object) -> object:
    """ "5-130" as a command line has it, or the two numbers."""
    return tuple(value.split("-")) if isinstance(value, str) else value


class Camera(Table):
    width: int = Field(1280, ge=320, le=1920)
    height: int = Field(720, ge=240, le=1080)
    fps: float = Field(25, ge=1, le=60)
    night: bool = False
    exposure_us: float = Field(1000, ge=50, le=20000)
    jpeg_quality: int = Field(85, ge=30, le=100)
    rain: float = Field(0, ge=0, le=1)
    """0: dry; 1: a cloudburst."""


class Detector(Table):
    loops: int = Field(1, ge=1, le=2)
    spacing_m: float = Field(2.5, gt=0.2, le=20)
    """Between the leading edges of two loops."""
    bounce_ms: float = Field(3, ge=0, le=50)
    """How long the relay's contact chatters at each change; solid-state outputs: 0."""
    presence_lines: tuple[Line, ...] = ("cts", "dcd")
    """The modem line of each loop's relay."""
    fault_lines: tuple[Line, ...] = ("dsr", "ri")


class Trouble(Table):
    """Something that goes wrong after vehicle `after` has left: the detector reports a fault (and, being fail-safe, a
    constant call), or the call just stays on."""

    after: int = Field(ge=1)
    kind: Literal["fault", "stuck"]
    seconds: float = Field(5, gt=0, le=600)
    loop: int = Field(0, ge=0, le=1)


class Traffic(Table):
    vehicles: int = Field(0, ge=0)
    """How many, then the lane stays empty; 0: without end."""
    seed: int = Field(1, ge=0)
    speed_kmh: Annotated[tuple[float, float], BeforeValidator(_span)] = (5, 130)
    """Slowest and fastest; spread evenly over the logarithm, as most traffic at a gate is slow."""
    headway_s: float = Field(2, ge=0.1, le=600)
    """From one vehicle leaving the loop to the next one coming onto it, at least."""
    stand_s: float = Field(0, ge=0, le=600)
    """How long each vehicle stands on the loop, as before a barrier."""
    styles: tuple[str, ...] = ()
    """Plate styles to draw from; any if empty."""

    @model_validator(mode="after")
    def _speeds(self) -> "Traffic":
        if not 1 <= self.speed_kmh[0] <= self.speed_kmh[1] <= 250:
            raise ValueError("speed_kmh holds the slowest and the fastest speed, between 1 and 250")
        return self


class Scenario(Table):
    """All of a scenario file."""

    camera: Camera = Camera()
    detector: Detector = Detector()
    traffic: Traffic = Traffic()
    trouble: tuple[Trouble, ...] = ()


def load(name: str) -> Scenario:
    """A scenario by its name in scenarios/ or by the path of a TOML file. Raises ScenarioMissing, ConfigInvalid."""
    path = Path(name) if name.endswith(".toml") else SCENARIOS / f"{name}.toml"
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise ScenarioMissing(f"no scenario {clean(name)}; there are: {there or 'none'}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioMissing(f"{path.name} is not TOML: {clean(error)}") from error
    return check(Scenario, tables, where=path.name)


def changed(scenario: Scenario, **tables: dict[str, object]) -> Scenario:
    """The scenario with a command's options in it; None leaves a value as it is. Raises ConfigInvalid."""
    values = scenario.model_dump()
    for table, options in tables.items():
        values[table].update({key: value for key, value in options.items() if value is not None})
    return check(Scenario, values, where="the command line")
