"""What the confinement asks for, before any kernel is asked."""

from pathlib import Path

import pytest

from edge.config import LaneConfig
from edge.confine import ConfineReport, Measure, Mode, policy_for, writable_mounts
from edge.errors import ConfigInvalid

KEYS = {"signing_key_file": "/k/lane.key", "recipient_files": ["/k/owner.pub"], "collector_files": ["/k/collector.pub"]}


def lane(loop: dict[str, object], camera: dict[str, object], **top: object) -> LaneConfig:
    return LaneConfig.model_validate(
        {
            "lane": {"id": "north-1"},
            "loop": {"driver": "contact", "device": loop},
            "camera": {"driver": "network", "device": camera},
            "broker": {
                "host": "broker.example",
                "port": 8884,
                "ca_file": "/k/ca.pem",
                "certificate_file": "/k/lane.pem",
                "key_file": "/k/lane-tls.key",
            },
            "keys": KEYS,
            "state": {"directory": "/var/lib/sealane/north-1"},
            **top,
        }
    )


def test_only_the_ports_that_lane_toml_names_may_be_connected_to() -> None:
    config = lane({"port": "rfc2217://10.0.0.7:2217"}, {"url": "rtsp://10.0.0.8/stream1"})
    assert policy_for(config, {}).connect_ports == {8884, 2217, 554}


def test_a_device_path_adds_no_port() -> None:
    config = lane({"port": "/dev/serial/by-id/usb-detector"}, {"folder": "/photos"})
    assert policy_for(config, {}).connect_ports == {8884}


@pytest.mark.parametrize("host", ["cam:99999", "cam:rtsp", "[fe80::1", "viewer:geheim@cam:x"])
def test_a_url_with_a_host_or_port_that_can_not_be_is_named_and_not_repeated(host: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^CFG-03 lane\.toml: camera\.device\.url: ") as raised:
        policy_for(lane({}, {"url": f"rtsp://{host}/x"}), {})
    assert host not in str(raised.value)


def test_only_the_state_directory_may_be_written_beneath() -> None:
    assert policy_for(lane({}, {}), {}).write_beneath == (Path("/var/lib/sealane/north-1"),)


@pytest.mark.parametrize(
    ("in_file", "environ", "mode"),
    [
        ({}, {}, Mode.TRY),
        ({}, {"NOTIFY_SOCKET": "/run/systemd/notify"}, Mode.REQUIRE),
        ({"confine": "try"}, {"NOTIFY_SOCKET": "/run/systemd/notify"}, Mode.TRY),
        ({"confine": "require"}, {}, Mode.REQUIRE),
        ({"confine": "off"}, {}, Mode.OFF),
    ],
)
def test_a_systemd_service_must_be_confined_unless_lane_toml_says_otherwise(
    in_file: dict[str, object], environ: dict[str, str], mode: Mode
) -> None:
    assert policy_for(lane({}, {}, **in_file), environ).mode is mode


def test_a_report_names_what_is_needed_and_off_and_its_facts_fit_an_audit_record() -> None:
    report = ConfineReport(
        Mode.TRY,
        (
            Measure("writes", True, "Landlock ABI 7"),
            Measure("memory-locked", False, "the limit is 8192 KiB"),
            Measure("tcp-ports", False, "Landlock ABI 3 lacks it", needed=False),
        ),
    )
    assert [m.name for m in report.missing] == ["memory-locked"]
    assert report.facts() == (("mode", "try"), ("writes", 1), ("memory-locked", 0), ("tcp-ports", 0))


MOUNTS = """\
22 28 0:21 / /proc rw,nosuid - proc proc rw
23 28 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw
25 28 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw
26 25 0:5 / /dev/pts rw,nosuid - devpts devpts rw
27 25 8:1 /var/lib/sealane /var/lib/sealane rw,relatime - ext4 /dev/sda1 rw
28 25 8:2 / /media/usb\\040stick rw,relatime - vfat /dev/sdb1 rw
"""


def test_a_mount_is_writable_by_its_own_options_not_its_file_systems() -> None:
    assert writable_mounts(MOUNTS) == [Path("/var/lib/sealane"), Path("/media/usb stick")]


def test_a_writable_mount_that_a_read_only_one_covers_does_not_count() -> None:
    covered = MOUNTS + "29 25 8:1 /empty /media/usb\\040stick ro - ext4 /dev/sda1 rw\n"
    assert writable_mounts(covered) == [Path("/var/lib/sealane")]
