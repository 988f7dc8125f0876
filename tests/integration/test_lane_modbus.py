"""The daemon itself with Modbus detectors on a pseudo terminal: what passes is what the owner reads at the end."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.control import ask, socket_path
from edge.errors import SealaneError
from tests.integration.lane_site import Site, until

HW_SIM = str(Path(sys.executable).with_name("hw-sim"))
LD120 = 'profile = "ld120"'
INPUT_MODULE = 'profile = "generic"\npresence = [1, 2]\nfault = [3, 4]'


@contextmanager
def road(folder: Path, scenario: str) -> Iterator[subprocess.Popen[str]]:
    """The simulated lane, held, with its detector at folder/loop."""
    (folder / "scenario.toml").write_text(scenario)
    options = ("--scenario", folder / "scenario.toml", "--pty", folder / "loop", "--style", "de", "--start-held")
    with subprocess.Popen([HW_SIM, "lane", *options], stdin=-1, stdout=-1, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def hear(process: subprocess.Popen[str], event: str) -> Iterator[dict[str, Any]]:
    """What the simulated lane says, up to and with `event`."""
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        yield said
        if said["event"] == event:
            return


@contextmanager
def daemon(site: Site, camera: str, module: str, gate_time_s: int = 120) -> Iterator[Path]:
    """`sealane run`; gives its state directory."""
    (site.root / "lane.toml").write_text(f"""
confine = "try"
[lane]
id = "gate"
[loop]
driver = "modbus"
spacing_m = 2.5
gate_time_s = {gate_time_s}
[loop.device]
port = "{site.root / "loop"}"
address = 1
{module}
[camera]
driver = "network"
[camera.device]
url = "{camera}"
[broker]
host = "localhost"
port = {site.broker.port}
ca_file = "tls/ca.pem"
certificate_file = "tls/gate.pem"
key_file = "tls/gate.key"
[keys]
signing_key_file = "gate.signing"
recipient_files = ["owner.pub"]
collector_files = ["collector.pub"]
[state]
directory = "state"
""")
    command = [sys.executable, "-m", "edge", "run", "--config", site.root / "lane.toml"]
    with (site.root / "daemon.log").open("ab") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield site.root / "state"
        finally:
            process.terminate()
            assert process.wait(10) == 0, (site.root / "daemon.log").read_text()


def ready(state: Path) -> bool:
    try:
        said = ask(socket_path(state), "status")
    except SealaneError:
        return False
    return bool((said.get("loop"), said.get("camera")) == ("ok", "ok"))


def records(site: Site) -> list[tuple[str, dict[str, Any]]]:
    """Kind and content of every message in the store, opened by the owner."""
    command = [sys.executable, "-m", "edge", "tail", "--json", "--store", site.store_address]
    command += ["--lanes", str(site.lane_keys), "--owner-key", str(site.root / "owner")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(line["kind"], line["record"]) for line in map(json.loads, lines)]


def drive(folder: Path, scenario: str, module: str, count: int) -> tuple[list[dict[str, Any]], Site]:
    """Let `count` vehicles pass and wait until the collector has a record of each; gives the truth of each."""
    site = Site(folder)
    site.enrol("gate")
    site.broker.start()
    try:
        with site.collecting(), road(folder, scenario) as process:
            (start,) = hear(process, "ready")
            with daemon(site, start["camera"], module) as state:
                until(lambda: ready(state))
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                passed = [said for said in hear(process, "end") if said["event"] == "vehicle"]
                until(lambda: sum(kind == "r" for kind, _ in records(site)) >= count)
    finally:
        site.broker.stop()
    return passed, site


def test_an_ld120s_vehicles_and_its_fault_become_records(tmp_path: Path) -> None:
    scenario = '[traffic]\nvehicles = 3\nspeed_kmh = [50, 60]\n[[trouble]]\nafter = 2\nkind = "fault"\nseconds = 2\n'
    passed, site = drive(tmp_path, scenario, LD120, 3)
    seen = records(site)
    reads = [record for kind, record in seen if kind == "r"]
    assert len(reads) == len(passed) == 3
    for read, truth in zip(reads, passed, strict=True):
        assert abs(read["arrival"]["monotonic_ns"] - truth["arrival_ns"]) < 300e6
        assert read["ending"] == "left"
        assert read["reading"]["frames_used"] > 0
    faults = [dict(record["facts"]) for kind, record in seen if kind == "a" and record["event"] == "fault"]
    from_detector = [fault for fault in faults if fault["what"] == "detector"]
    assert {fault["source"] for fault in from_detector} == {"loop-0-detector"}
    assert [fault["active"] for fault in from_detector] == [1, 0]


def test_two_inputs_of_a_module_give_direction_and_speed(tmp_path: Path) -> None:
    scenario = "[traffic]\nvehicles = 2\nspeed_kmh = [40, 50]\n[detector]\nloops = 2\nbounce_ms = 0\n"
    passed, site = drive(tmp_path, scenario, INPUT_MODULE, 2)
    reads = [record for kind, record in records(site) if kind == "r"]
    assert [read["direction"] for read in reads] == ["forward"] * 2
    for read, truth in zip(reads, passed, strict=True):
        assert read["speed_kmh"] == pytest.approx(truth["speed_kmh"], rel=0.25)


def test_what_stands_on_a_stuck_loop_is_one_visit_across_a_restart(tmp_path: Path) -> None:
    scenario = '[traffic]\nvehicles = 1\nspeed_kmh = [50, 60]\n[[trouble]]\nafter = 1\nkind = "stuck"\nseconds = 600\n'
    site = Site(tmp_path)
    site.enrol("gate")
    site.broker.start()

    def stuck(state: Path) -> bool:
        return ready(state) and ask(socket_path(state), "status")["faults"].get("loop-0-stuck-on") == "stuck-on"

    try:
        with site.collecting(), road(tmp_path, scenario) as process:
            (start,) = hear(process, "ready")
            with daemon(site, start["camera"], LD120, gate_time_s=5) as state:
                until(lambda: ready(state))
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                until(lambda: stuck(state))
                until(lambda: any(record.get("ending") == "gate-time" for _, record in records(site)))
            reads = sum(kind == "r" for kind, _ in records(site))
            with daemon(site, start["camera"], LD120, gate_time_s=5) as state:
                until(lambda: stuck(state))
                time.sleep(7)
                assert stuck(state)
            assert sum(kind == "r" for kind, _ in records(site)) == reads
    finally:
        site.broker.stop()
