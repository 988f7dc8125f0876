"""What systemd is told: ready, alive, stopping, and one line of status. Silent when systemd did not ask.

The protocol of sd_notify(3): datagrams to the unix socket that NOTIFY_SOCKET names. One that is not taken is logged and
let go: systemd acts by itself on what it misses for too long.
"""

import logging
import os
import socket

from edge import logs

log = logging.getLogger(__name__)


def ready() -> None:
    """The lane is up (Type=notify)."""
    _send("READY=1")


def alive() -> None:
    """Feed the watchdog; only while every stage makes progress."""
    _send("WATCHDOG=1")


def stopping() -> None:
    _send("STOPPING=1")


def status(text: str) -> None:
    """One line for `systemctl status`."""
    _send("STATUS=" + text.replace("\n", " "))


def watchdog_s() -> float | None:
    """How often, at the latest, `alive` is expected (WatchdogSec), or None without a watchdog."""
    interval_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(interval_us) / 1e6 if interval_us.isdecimal() and meant_for_us else None


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
            to_systemd.sendto(message.encode(), address)
    except OSError as error:
        logs.event(log, logging.WARNING, "systemd", "could not be told", why=error.strerror)
