"""How central programs reach the broker: the same four options for each, also from the environment."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.x509.oid import NameOID

from edge import config
from edge.errors import ConfigInvalid, MqttFiles, clean

BrokerAddress = Annotated[
    str, typer.Option("--broker", envvar="SEALANE_BROKER", help="HOST:PORT, as in the broker's certificate.")
]
CaFile = Annotated[Path, typer.Option("--ca", envvar="SEALANE_CA", help="Certificate of the authority.")]
CertificateFile = Annotated[
    Path, typer.Option("--certificate", envvar="SEALANE_CERTIFICATE", help="Own certificate for TLS.")
]
KeyFile = Annotated[Path, typer.Option("--key", envvar="SEALANE_KEY", help="Key of that certificate.")]

Lanes = Annotated[
    Path | None, typer.Option("--lanes", envvar="SEALANE_LANES", help="Folder of the lanes' public keys: LANE.pub.")
]
TrustSource = Annotated[
    str | None,
    typer.Option("--trust", envvar="SEALANE_TRUST", help="The owner's repository (folder, http) instead of --lanes."),
]
RootFile = Annotated[
    Path | None, typer.Option("--root", envvar="SEALANE_ROOT", help="The owner's first root metadata, with --trust.")
]
TrustState = Annotated[
    Path, typer.Option("--trust-state", envvar="SEALANE_TRUST_STATE", help="Where verified metadata is kept.")
]
TRUST_STATE = Path("~/.local/state/sealane")


def broker(address: str, ca: Path, certificate: Path, key: Path) -> config.Broker:
    """The options as what `edge.mqtt.Session` takes. ConfigInvalid."""
    host, _, port = address.rpartition(":")
    if not host:
        raise ConfigInvalid(f"--broker: HOST:PORT is needed, not {clean(address)}")
    table = {"host": host, "port": port, "ca_file": ca, "certificate_file": certificate, "key_file": key}
    return config.check(config.Broker, table, where="--broker")


def own_name(certificate: Path) -> str:
    """The name (CN) in a certificate, which is the MQTT client's. MqttFiles."""
    try:
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    except OSError as error:
        raise MqttFiles(f"cannot read {certificate}: {error.strerror}") from error
    except ValueError as error:
        raise MqttFiles(f"{certificate} holds no certificate") from error
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise MqttFiles(f"the certificate in {certificate} has no name (CN)")
    return str(names[0].value)
