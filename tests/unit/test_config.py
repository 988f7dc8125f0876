import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from edge.config import Broker, Camera, Keys, Lane, LaneConfig, Loop, Reading, State, Trust, check, load
from edge.errors import ConfigInvalid, ConfigMissing, ConfigNotToml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "lane.toml"
TABLES = (Lane, Loop, Camera, Reading, Broker, Keys, Trust, State)
SECTIONS = {*LaneConfig.model_fields, "device"} - {"confine"}
DRIVERS = ("sealane.loop", "sealane.camera")

WRONG_ROIS = [
    [0.5, 0.5, 0.5, 0.5],  # nothing
    [0.8, 0.0, 0.2, 1.0],  # from right to left
    [0.0, 0.9, 1.0, 0.1],
    [100, 100, 500, 400],  # pixels
    [float("nan"), 0.0, 1.0, 1.0],
    [0.0, 0.0, 1.0, float("inf")],
    [-0.1, 0.0, 1.0, 1.0],
    [0.2, 0.0, 0.24, 1.0],  # a crack
]


def test_the_example_in_the_documentation_is_valid() -> None:
    config = load(EXAMPLE)
    assert config.lane.id == "gate-7"
    assert config.loop.driver == "contact"


def test_the_example_names_every_setting_with_its_default() -> None:
    shown: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(?:# )?(\w+) = (.*?)(?: +#.*)?$", EXAMPLE.read_text(), re.MULTILINE):
        shown.setdefault(name, []).append(value)
    for model in (
        LaneConfig,
        *TABLES,
        *(driver.load().Settings for kind in DRIVERS for driver in entry_points(group=kind)),
    ):
        for name, field in model.model_fields.items():
            if name in SECTIONS:
                continue
            assert name in shown, f"{model.__name__}.{name}"
            if isinstance(field.default, (bool, int, float, str)):
                assert field.default in [tomllib.loads(f"x = {value}")["x"] for value in shown[name]], name


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lane.toml"
    file.write_text(EXAMPLE.read_text().replace('"/etc/sealane/keys/', '"keys/'))
    assert load(file).broker.ca_file == tmp_path / "keys" / "ca.crt"


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("lane", "id", "Gate 7!"),
        ("loop", "debounce_ms", -1),
        ("loop", "gate_time_s", 1),
        ("camera", "ring_frames", 100_000),
        *(("reading", "roi", roi) for roi in WRONG_ROIS),
        *(
            ("broker", "host", host)
            for host in ("", "a..b", ".example", f"{'x' * 64}.example", "gate\0x", "a b", "gäte")
        ),
        *(("trust", "source", f"https://{host}/x") for host in ("", "a..b", "[fe80::1", "a b", "bob:s3cret@a")),
        ("trust", "source", "brokr"),
        ("trust", "source", "/srv/own\0er"),
        ("broker", "port", 0),
        ("broker", "portt", 8883),
        ("keys", "recipient_files", []),
        ("keys", "signing_key_file", "keys/la\0ne.key"),
        ("keys", "signing_key_file", "$CREDENTIALS_DIRECTORY/la\0ne"),
        ("state", "directory", "/var/lib/\0"),
        ("state", "checkpoint_s", "often"),
    ],
)
def test_a_wrong_or_unknown_key_is_named_with_what_it_may_hold(table: str, key: str, value: object) -> None:
    tables: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    tables.setdefault(table, {})[key] = value
    with pytest.raises(ConfigInvalid, match=rf"lane\.toml: {table}\.{key}: ") as caught:
        check(LaneConfig, tables, where="lane.toml")
    assert caught.value.code == "CFG-03"
    assert "s3cret" not in str(caught.value)


def test_a_wrong_roi_says_what_roi_is() -> None:
    with pytest.raises(
        ConfigInvalid, match=r"left, top, right, bottom as shares 0 to 1, the latter two at least 0\.05 more$"
    ):
        check(Reading, {"roi": [0, 0, 640, 480]}, where="lane.toml")


@pytest.mark.parametrize("host", ["broker", "broker.example", "a_b.example.", "192.0.2.10", "fe80::1%eth0", "::1"])
def test_names_and_addresses_of_brokers_are_taken(host: str) -> None:
    files = {"ca_file": "a", "certificate_file": "b", "key_file": "c"}
    assert check(Broker, {"host": host, **files}, where="lane.toml").host == host


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissing, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "content", [b"[lane\nid = 1", b"id = \xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 5000, b"a = " + b"1" * 5000]
)
def test_a_file_that_is_not_toml_says_where_it_breaks(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "lane.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigNotToml, match=r"lane\.toml: "):
        load(file)


def test_an_endless_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "lane.toml"
    file.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigInvalid, match="larger than 65536 bytes"):
        load(file)
