"""The bench's broker as its own process: the embedded one (iotcore), or a real mosquitto with the files of docs/broker.

Both speak TLS with the certificate they are given. Only mosquitto checks who connects and what they may do.
"""

import getpass
import logging
import os
import shutil
import signal
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import BrokerMissing

SAMPLES = Path(__file__).parents[2] / "docs" / "broker"
MAX_PACKET_BYTES = 262_144


class Kind(StrEnum):
    IOTCORE = "iotcore"
    MOSQUITTO = "mosquitto"


SAYS = {
    Kind.IOTCORE: (
        "broker: iotcore, embedded. It checks no client certificate, has no access list, keeps sessions and retained "
        "messages in memory only, and says Success when nobody is subscribed. BROKER=mosquitto checks all of that."
    ),
    Kind.MOSQUITTO: "broker: mosquitto. Client certificates and the access list are checked.",
}
"""What each checks."""


def command(
    tls_ca: Annotated[Path, typer.Option(help="Certificate of the authority that signed the clients'.")],
    tls_cert: Annotated[Path, typer.Option(help="The broker's certificate.")],
    tls_key: Annotated[Path, typer.Option(help="Its key.")],
    kind: Annotated[Kind, typer.Option(envvar="BROKER")] = Kind.IOTCORE,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8883,
    state: Annotated[Path | None, typer.Option(help="Folder for what mosquitto keeps over a restart.")] = None,
) -> None:
    """Run a broker on 127.0.0.1 until it is told to end."""
    sys.stdout.write(f"{SAYS[kind]}\n")
    sys.stdout.flush()
    directory = state or Path(tempfile.mkdtemp(prefix="hw-sim-broker-"))
    directory.mkdir(parents=True, exist_ok=True)
    match kind:
        case Kind.IOTCORE:
            _iotcore(directory, port, tls_ca, tls_cert, tls_key)
        case Kind.MOSQUITTO:
            _mosquitto(directory, port, tls_ca, tls_cert, tls_key)


def mosquitto() -> str:
    """The real broker's program. Raises BrokerMissing."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BrokerMissing("mosquitto is not installed")
    return program


def mosquitto_conf(directory: Path, port: int, ca: Path, cert: Path, key: Path) -> Path:
    """docs/broker/mosquitto.conf with this bench's port and files, written into `directory`."""
    ours = {
        "listener 8883": f"listener {port} 127.0.0.1",
        "/etc/sealane/broker/ca.pem": str(ca.resolve()),
        "/etc/sealane/broker/broker.pem": str(cert.resolve()),
        "/etc/sealane/broker/broker.key": str(key.resolve()),
        "/etc/sealane/broker/acl": str(SAMPLES / "acl"),
        "# persistence_location /var/lib/mosquitto/": f"persistence_location {directory.resolve()}/",
    }
    text = (SAMPLES / "mosquitto.conf").read_text()
    for theirs, mine in ours.items():
        if theirs not in text:
            raise typer.BadParameter(f"{SAMPLES / 'mosquitto.conf'} lacks: {theirs}")
        text = text.replace(theirs, mine)
    conf = directory / "mosquitto.conf"
    conf.write_text(f"{text}\nuser {getpass.getuser()}\n")
    return conf


def _mosquitto(directory: Path, port: int, ca: Path, cert: Path, key: Path) -> None:
    program = mosquitto()
    os.execv(program, [program, "-c", str(mosquitto_conf(directory, port, ca, cert, key))])  # noqa: S606 - no shell is meant


def _iotcore(directory: Path, port: int, ca: Path, cert: Path, key: Path) -> None:
    from iotcore import IotCoreBroker

    conf = directory / "iotcore.toml"
    conf.write_text(
        f"""id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "bench"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.tls]
capath = "{ca.resolve()}"
certpath = "{cert.resolve()}"
keypath = "{key.resolve()}"
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PACKET_BYTES}
max_inflight_count = 200
"""
    )
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)  # it logs each packet as an error
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # its loop never comes back to Python
    IotCoreBroker(config_path=str(conf)).run_forever()
