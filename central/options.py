"""Options that several central commands take, also from the environment, and what they stand for."""

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import (
    AuthorityInvalid,
    AuthorityUnconfirmed,
    ConfigInvalid,
    KeyFileExposed,
    KeyFileMissing,
    KeyFilePassphrase,
    MqttFiles,
    OptionMissing,
    clean,
)
from edge.seal.keys import KeyType

if TYPE_CHECKING:
    from edge.config import Broker

BROKER = typer.Option("--broker", envvar="SEALANE_BROKER", help="HOST:PORT, as in the broker's certificate.")
CA = typer.Option("--ca", envvar="SEALANE_CA", help="Certificate of the authority.")
CERTIFICATE = typer.Option("--certificate", envvar="SEALANE_CERTIFICATE", help="Own certificate for TLS.")
KEY = typer.Option("--key", envvar="SEALANE_KEY", help="Key of that certificate.")
BrokerAddress = Annotated[str, BROKER]
CaFile = Annotated[Path, CA]
CertificateFile = Annotated[Path, CERTIFICATE]
KeyFile = Annotated[Path, KEY]

Lanes = Annotated[
    Path | None, typer.Option("--lanes", envvar="SEALANE_LANES", help="Folder of the lanes' public keys: LANE.pub.")
]
TrustSource = Annotated[
    str | None,
    typer.Option("--trust", envvar="SEALANE_TRUST", help="The owner's repository (folder, http) instead of --lanes."),
]
RootFile = Annotated[
    Path | None, typer.Option("--root", envvar="SEALANE_ROOT", help="The owner's newest root.json, with --trust.")
]
TrustState = Annotated[
    Path, typer.Option("--trust-state", envvar="SEALANE_TRUST_STATE", help="Where verified metadata is kept.")
]
TRUST_STATE = Path("~/.local/state/sealane")

Fingerprint = Annotated[
    list[str], typer.Argument(help="Fingerprint of a lane, collector or recipient key, as it is shown.")
]
AuthorityFolder = Annotated[Path, typer.Argument(help="The authority's folder.")]
SigningType = Annotated[KeyType, typer.Option("--type", help="ed25519 or p256.")]


def _printable(text: str | None) -> str | None:
    if text is not None and not text.isprintable():
        raise AuthorityInvalid("a text for people has control characters in it")
    return text


DAY = "YYYY-MM-DD[THH:MM:SS]"
"""How a time is given: UTC, midnight if only the day is."""
FOR_PEOPLE = typer.Option(help="For people.", callback=_printable)
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="A file (mode 0600) whose first line is the passphrase, instead of asking."),
]
NoPassphrase = Annotated[bool, typer.Option("--no-passphrase", help="Leave private halves in clear.")]


def broker(address: str, ca: Path, certificate: Path, key: Path) -> "Broker":
    """The options as what `edge.mqtt.Session` takes. ConfigInvalid."""
    from edge import config

    host, _, port = address.rpartition(":")
    if not host:
        raise ConfigInvalid(f"--broker: HOST:PORT is needed, not {clean(address)}")
    table = {"host": host, "port": port, "ca_file": ca, "certificate_file": certificate, "key_file": key}
    return config.check(config.Broker, table, where="--broker")


def own_name(certificate: Path) -> str:
    """The name (CN) in a certificate, which is the MQTT client's. MqttFiles."""
    from cryptography.x509.oid import NameOID

    from edge.certificate import parse_certificate

    try:
        own = parse_certificate(certificate.read_bytes())
    except OSError as error:
        raise MqttFiles(f"cannot read {certificate}: {error.strerror}") from error
    if own is None:
        raise MqttFiles(f"{certificate} holds no certificate")
    names = own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise MqttFiles(f"the certificate in {certificate} has no name (CN)")
    return str(names[0].value)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def typed(question: str, option: str) -> str:
    """What the person at the terminal says; OptionMissing without one, naming the option to give instead."""
    if not sys.stdin.isatty():
        raise OptionMissing(f"no terminal to ask: {question}; give {option}")
    answer: str = typer.prompt(question, err=True)
    return answer


def confirm(question: str) -> None:
    """Go on if the person at the terminal says so. AuthorityUnconfirmed without one: a script has looked at nothing."""
    if not sys.stdin.isatty():
        raise AuthorityUnconfirmed(f"no terminal to ask: {question}")
    typer.confirm(question, abort=True, err=True)


def one_passphrase_option(passphrase_file: Path | None, no_passphrase: bool) -> None:
    if no_passphrase and passphrase_file is not None:
        raise typer.BadParameter("--passphrase-file and --no-passphrase contradict each other")


def passphrase(file: Path | None, of: Path | str, *, confirm: bool = False) -> bytes:
    """From the first line of `file`, or from the person at the terminal, who is asked for that `of` a key or token.

    KeyFileMissing, KeyFilePassphrase; KeyFileExposed if others may read `file`.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise KeyFilePassphrase(f"no terminal to ask for the passphrase of {of}; give --passphrase-file")
        typed: str = typer.prompt(f"Passphrase of {of}", hide_input=True, confirmation_prompt=confirm, err=True)
        secret = typed.encode()
    else:
        try:
            with file.open("rb") as opened:
                exposed = os.fstat(opened.fileno()).st_mode & 0o077
                secret = (opened.read().splitlines() or [b""])[0]
        except OSError as error:
            raise KeyFileMissing(f"cannot read {file}: {error.strerror}") from error
        if exposed:
            raise KeyFileExposed(f"{file} may be read by others")
    if not secret:
        raise KeyFilePassphrase("an empty passphrase protects nothing")
    return secret
