"""The systemd files: checked as systemd reads them, and installed into an empty root."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from central import collector
from edge import config
from edge.confine import policy_for

SYSTEMD = Path(__file__).parents[2] / "systemd"
MAX_EXPOSURE = {"sealane@.service": 20, "sealane-collector.service": 10}
"""Tenths: 2.0 and 1.0 of 10."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="NO systemd-analyze HERE (Debian: systemd): the units were not checked",
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def exposure_is_bounded(unit: Path) -> tuple[bool, str]:
    threshold = f"--threshold={MAX_EXPOSURE[unit.name]}"
    done = analyze("security", "--offline=true", threshold, "--no-pager", str(unit))
    return done.returncode == 0, done.stdout


@pytest.fixture(params=MAX_EXPOSURE)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Each unit with a program that exists on this machine."""
    copy = tmp_path / str(request.param)
    copy.write_text((SYSTEMD / copy.name).read_text().replace("/opt/sealane/bin/sealane", "/bin/true"))
    return copy


@needs_systemd
def test_the_unit_is_verified_with_recursive_errors(unit: Path) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=yes", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_verification_catches_a_misspelt_key(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert analyze("verify", "--man=no", "--recursive-errors=yes", str(unit)).returncode != 0


@needs_systemd
def test_the_exposure_score_is_low(unit: Path) -> None:
    bounded, said = exposure_is_bounded(unit)
    assert bounded, said


@needs_systemd
def test_the_score_catches_a_unit_without_its_hardening(unit: Path) -> None:
    unit.write_text(re.sub(r"(?m)^(Protect|Restrict|SystemCall|Capability).*\n", "", unit.read_text()))
    assert not exposure_is_bounded(unit)[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def install(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYSTEMD / "install.sh"), *arguments],
        env={**os.environ, "DESTDIR": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("what", "unit"), [("north-1", "sealane@"), ("--collector", "sealane-collector")])
def test_installing_twice_changes_nothing_the_second_time(root: Path, what: str, unit: str) -> None:
    first = install(root, what, "192.0.2.10")
    assert f"written   /etc/systemd/system/{unit}.service" in first.stdout
    before = contents(root)
    second = install(root, what, "192.0.2.10")
    assert second.returncode == 0
    assert "written" not in second.stdout
    assert contents(root) == before


def test_a_lane_gets_its_folder_its_hosts_and_a_configuration_that_loads(root: Path) -> None:
    assert install(root, "north-1", "192.0.2.10", "198.51.100.0/28").returncode == 0
    hosts = root / "etc/systemd/system/sealane@north-1.service.d/hosts.conf"
    assert hosts.read_text().splitlines()[1:] == [
        "[Service]",
        "IPAddressAllow=192.0.2.10",
        "IPAddressAllow=198.51.100.0/28",
    ]
    settings = config.load(root / "etc/sealane/north-1/lane.toml")
    assert settings.lane.id == "north-1"
    assert policy_for(settings).write_beneath == (Path("/var/lib/sealane/north-1"),)
    assert settings.keys.signing_key_file == Path("/run/credentials/private_lane.key")
    assert oct((root / "etc/sealane/north-1/private").stat().st_mode)[-3:] == "700"


def test_a_collector_gets_its_hosts_options_that_it_knows_and_a_folder_for_its_keys(root: Path) -> None:
    assert install(root, "--collector", "192.0.2.10").returncode == 0
    hosts = root / "etc/systemd/system/sealane-collector.service.d/hosts.conf"
    assert hosts.read_text().splitlines()[1:] == ["[Service]", "IPAddressAllow=192.0.2.10"]
    assert oct((root / "etc/sealane-collector/private").stat().st_mode)[-3:] == "700"
    app = typer.Typer()
    app.command()(collector.command)
    known = {option.envvar for option in typer.main.get_command(app).params} | {"SEALANE_OPTIONS"}
    given = "".join((SYSTEMD / name).read_text() for name in ("sealane-collector.service", "collector.env"))
    assert set(re.findall(r"\bSEALANE_\w+(?==)", given)) <= known


@pytest.mark.parametrize(
    ("what", "file"),
    [("north-1", "etc/sealane/north-1/lane.toml"), ("--collector", "etc/sealane-collector/collector.env")],
)
def test_a_configuration_that_is_there_is_kept(root: Path, what: str, file: str) -> None:
    mine = root / file
    mine.parent.mkdir(parents=True)
    mine.write_text("# mine")
    assert install(root, what).returncode == 0
    assert mine.read_text() == "# mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("../etc",),
        ("--colector",),
        ("n" * 33,),
        ("north-1", "broker.example"),
        ("north-1", "192.0.2"),
        ("north-1", "192.0.2.10/33"),
    ],
)
def test_a_name_that_could_leave_its_folder_and_a_host_without_an_address_are_refused(
    root: Path, arguments: tuple[str, ...]
) -> None:
    assert install(root, *arguments).returncode == 1
    assert not root.exists()
