"""The settings of the contact detector; its wire is in the contract suite."""

import pytest
from pydantic import ValidationError

from drivers.loop.contact import ContactDetector, ContactSettings

PORT = "rfc2217://192.0.2.7:4001"


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"port": "socket://192.0.2.7:4001"}, "rfc2217://"),
        ({"port": "/dev/ttyUSB0"}, "/dev/serial/by-id"),
        ({"port": "/dev/ttyACM1"}, "/dev/serial/by-id"),
        ({"presence": ("rts",)}, "cts"),
        ({"presence": ()}, "at least 1"),
        ({"presence": ("cts", "cts")}, "one contact only"),
        ({"fault": ("cts",)}, "one contact only"),
        ({"fault": ("dcd", "ri")}, "one per loop"),
        ({"poll_hz": 5000}, "2000"),
    ],
)
def test_wrong_settings_say_what_to_do(table: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        ContactSettings(**{"port": PORT, "presence": ("cts",), **table})  # type: ignore[arg-type]


def test_one_or_two_presence_lines_are_one_or_two_loops() -> None:
    assert ContactDetector(ContactSettings(port=PORT, presence=("cts",))).loops == 1
    assert ContactDetector(ContactSettings(port=PORT, presence=("cts", "dsr"), fault=("dcd",))).loops == 2
