"""The units under a real systemd: booted in namespaces of its own over a throw-away copy of this machine's files.

What no offline check can tell: that a service lives under this system-call filter, with these mounts, credentials and
limits, and that the lane is as confined there as it says, with Landlock and without.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hw_sim.detector import ModbusEnd, Outputs

from edge.confine import landlock_abi
from tests.integration.lane_site import Site

REPOSITORY = Path(__file__).parents[2]
PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
"""Of the system: the unit hides home directories, where a developer's own may be."""
BOOT = """
set -eu
mount --make-rprivate /
mount -t tmpfs none {work}/copy
mkdir {work}/copy/upper {work}/copy/scratch {work}/copy/root
cd {work}/copy
mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=scratch root
cd root
mount -t proc none proc
mount -t sysfs none sys
mount -t tmpfs none run
mount -t tmpfs none tmp
mount --rbind /dev dev
mount -t cgroup2 none sys/fs/cgroup
mkdir -p opt/sealane/bin oldroot srv/proof srv/house srv/packages
mount --bind {work}/proof srv/proof
mount --bind {repository} srv/house
mount --bind {packages} srv/packages
cp {work}/proof/sealane opt/sealane/bin/
cp {work}/proof/proof.service etc/systemd/system/
pivot_root . oldroot
cd /
umount -l oldroot
mount --make-rshared /
exec env -i container=proof PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=proof.service
"""
PROOF_SERVICE = """
[Unit]
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=90
ExecStart=/bin/sh -c 'sh /srv/proof/proof.sh > /srv/proof/out 2>&1; systemctl exit 0'
"""
PROOF = """
set -eu
unit={unit}
/srv/house/systemd/install.sh {install} 127.0.0.1
cp -r /srv/proof/etc/. {etc}/
mkdir -p /etc/systemd/system/$unit.service.d
cp /srv/proof/test.conf /etc/systemd/system/$unit.service.d/
systemctl daemon-reload
systemctl start $unit || true
echo "active: $(systemctl is-active $unit)"
pid=$(systemctl show -p MainPID --value $unit)
grep -E '^(Uid|NoNewPrivs|Seccomp|VmSwap|CapEff):' /proc/$pid/status || true
ls /run/credentials/ || true
systemctl stop $unit || true
echo "result: $(systemctl show -p Result --value $unit)"
ls -n {state}/
journalctl --no-pager -o cat _SYSTEMD_UNIT=$unit.service
"""
SEALANE = f"""#!{PYTHON}
import sys
sys.path[:0] = ["/srv/house", "/srv/packages"]
from edge.__main__ import main
main()
"""


def why_not() -> str:
    """Why this machine can't boot a systemd of its own, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("/lib/systemd/systemd", PYTHON, "/usr/bin/unshare", "/usr/sbin/pivot_root"):
        if not Path(program).exists():
            return f"no {program} here"
    if "nodev\toverlay" not in Path("/proc/filesystems").read_text():
        return "no overlay file system here"
    if not landlock_abi():
        return "this kernel has no Landlock"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"THE UNITS WERE NOT STARTED HERE: {why_not()}")


@dataclass
class Machine:
    """A machine with one service: its unit, what install.sh calls it, its folder in /etc, its state directory."""

    work: Path
    unit: str
    install: str
    etc: str
    state: str

    @property
    def proof(self) -> Path:
        """What the booted machine sees as /srv/proof; `etc` beneath it becomes the service's folder in /etc."""
        return self.work / "proof"

    def boot(self, drop_in: str = "") -> str:
        """What proof.sh said, of the service with `drop_in` among its settings."""
        proof = PROOF.format(unit=self.unit, install=self.install, etc=self.etc, state=self.state)
        files = {"sealane": SEALANE, "proof.service": PROOF_SERVICE, "proof.sh": proof}
        for name, content in {**files, "test.conf": f"[Service]\n{drop_in}"}.items():
            (self.proof / name).write_text(content)
        (self.proof / "sealane").chmod(0o755)
        (self.work / "copy").mkdir(exist_ok=True)
        script = BOOT.format(work=self.work, repository=REPOSITORY, packages=sysconfig.get_path("purelib"))
        namespaces = ("--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup")
        subprocess.run(["unshare", *namespaces, "sh", "-c", script], capture_output=True, timeout=100, check=False)
        out = self.proof / "out"
        assert out.exists(), "systemd did not come up"
        return out.read_text()


def _lock_without_limits() -> str:
    """In a sandbox where root may not raise limits, LimitMEMLOCK= has no effect: one capability stands in for it."""
    raised = subprocess.run(["prlimit", "--memlock=unlimited:unlimited", "true"], capture_output=True, check=False)
    if raised.returncode == 0:
        return ""
    return "PrivateUsers=no\nCapabilityBoundingSet=CAP_IPC_LOCK\nAmbientCapabilities=CAP_IPC_LOCK\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    site.enrol("lane-1")
    return site


@pytest.fixture
def lane(tmp_path: Path, site: Site) -> Iterator[Machine]:
    machine = Machine(tmp_path, "sealane@lane-1", "lane-1", "/etc/sealane/lane-1", "/var/lib/sealane/lane-1")
    etc = machine.proof / "etc"
    (etc / "private").mkdir(parents=True)
    for name, source in {
        "ca.crt": site.tls / "ca.pem",
        "lane-1.crt": site.tls / "lane-1.pem",
        "private/tls.key": site.tls / "lane-1.key",
        "private/lane.key": site.root / "lane-1.signing",
    }.items():
        shutil.copy(source, etc / name)
    (etc / "owner.pub").write_text(site.owner.public.pem())
    (etc / "collector.pub").write_text(site.collector.public.pem())
    (etc / "frames").mkdir()
    cv2.imwrite(str(etc / "frames" / "0.jpg"), np.full((360, 640), 90, np.uint8))
    end = ModbusEnd(Outputs(1), tmp_path / "detector")
    detector = (tmp_path / "detector").resolve()
    detector.chmod(0o666)
    (etc / "lane.toml").write_text(f"""
[lane]
id = "lane-1"
[loop]
driver = "modbus"
[loop.device]
port = "{detector}"
profile = "ld120"
address = 1
[camera]
driver = "files"
[camera.device]
path = "frames"
[broker]
host = "127.0.0.1"
port = {site.broker.port}
ca_file = "ca.crt"
certificate_file = "lane-1.crt"
key_file = "$CREDENTIALS_DIRECTORY/private_tls.key"
[keys]
signing_key_file = "$CREDENTIALS_DIRECTORY/private_lane.key"
recipient_files = ["owner.pub"]
collector_files = ["collector.pub"]
[state]
directory = "/var/lib/sealane/lane-1"
""")
    yield machine
    end.close()


@pytest.fixture
def collector(tmp_path: Path, site: Site) -> Iterator[Machine]:
    name = "sealane-collector"
    machine = Machine(tmp_path, name, "--collector", f"/etc/{name}", f"/var/lib/{name}")
    etc = machine.proof / "etc"
    (etc / "private").mkdir(parents=True)
    for file in ("ca.pem", "collector.central.pem"):
        shutil.copy(site.tls / file, etc)
    for secret in (site.tls / "collector.central.key", site.root / "collector"):
        shutil.copy(secret, etc / "private")
    shutil.copytree(site.lane_keys, etc / "lanes")
    (etc / "collector.env").write_text(f"""
SEALANE_BROKER=127.0.0.1:{site.broker.port}
SEALANE_CA={machine.etc}/ca.pem
SEALANE_CERTIFICATE={machine.etc}/collector.central.pem
SEALANE_LANES={machine.etc}/lanes
""")
    site.broker.start()
    yield machine
    site.broker.stop()


def test_the_lane_starts_confined_in_every_way_and_stops_cleanly(lane: Machine) -> None:
    said = lane.boot(_lock_without_limits())
    assert "active: active" in said, said
    assert "result: success" in said, said
    assert "NoNewPrivs:\t1" in said
    assert "Seccomp:\t2" in said
    assert "sealane@lane-1.service" in said  # its credentials
    assert f'writes="Landlock ABI {landlock_abi()}"' in said
    assert "memory-locked=mlockall" in said
    assert "syscall-filter=seccomp" in said
    assert "ready the lane is watched" in said
    assert "outbox.sqlite" in said
    assert "confine off" not in said


def test_without_landlock_the_lanes_mounts_carry_it(lane: Machine) -> None:
    said = lane.boot(_lock_without_limits() + "SystemCallFilter=~landlock_create_ruleset\n")
    assert "active: active" in said, said
    assert 'writes="read-only mounts"' in said
    assert 'confine off measure=no-exec why="this kernel has no Landlock"' in said


def test_a_lane_that_leaves_a_place_writable_is_refused_without_landlock(lane: Machine) -> None:
    said = lane.boot(_lock_without_limits() + "SystemCallFilter=~landlock_create_ruleset\nReadWritePaths=/srv\n")
    assert "active: active" not in said
    assert "CONF-01 writes: this kernel has no Landlock, and /srv" in said, said


def test_the_collector_starts_without_privileges_reaches_the_broker_and_stops_cleanly(collector: Machine) -> None:
    said = collector.boot()
    assert "active: active" in said, said
    assert "result: success" in said, said
    assert "Uid:\t0" not in said
    assert "CapEff:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert "Seccomp:\t2" in said
    assert "sealane-collector.service" in said  # its credentials
    assert "collecting from the broker" in said
    assert "store.sqlite" in said
