from pathlib import Path

import pytest
from hw_sim.scenario import SCENARIOS, Scenario, Traffic, changed, load
from hw_sim.traffic import rides

from edge.errors import ConfigInvalid, PlateStyleUnknown, ScenarioMissing


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_scenario_that_is_shipped_can_be_loaded_by_its_name(path: Path) -> None:
    assert load(path.stem) == load(str(path))


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ScenarioMissing, match="day, fault, night"):
        load("dusk")


@pytest.mark.parametrize(
    "text",
    [
        "[camera]\nnihgt = true",
        "[traffic]\nspeed_kmh = [90, 20]",
        "[traffic]\nspeed_kmh = [5, 900]",
        "[detector]\nloops = 3",
    ],
)
def test_a_scenario_with_a_wrong_value_or_an_unknown_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid):
        load(str(path))


@pytest.mark.parametrize("content", [b"[camera", b"\xff\xfe"])
def test_a_scenario_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioMissing):
        load(str(path))


def test_options_of_the_command_line_go_over_the_scenario_and_none_leaves_it() -> None:
    scenario = changed(load("night"), traffic={"speed_kmh": "20-60", "seed": None}, camera={"rain": 0.5})
    assert scenario.traffic.speed_kmh == (20, 60)
    assert scenario.traffic.seed == 1
    assert scenario.camera.night
    assert scenario.camera.rain == 0.5


@pytest.mark.parametrize("speed", ["60-20", "fast", "5", "5-130-200", ""])
def test_a_span_of_speeds_that_is_none_is_refused(speed: str) -> None:
    with pytest.raises(ConfigInvalid):
        changed(Scenario(), traffic={"speed_kmh": speed})


def test_a_plate_style_that_nobody_draws_is_refused_before_anything_starts() -> None:
    with pytest.raises(PlateStyleUnknown, match="us-ny"):
        rides(Scenario(traffic=Traffic(styles=("atlantis",))), None)
