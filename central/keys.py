"""`sealane keys`: makes the files that hold keys and certificates, and shows fingerprints. Never overwrites one."""

import re
from pathlib import Path
from typing import Annotated

import typer

from central import options
from edge.errors import KeyFileWrongKind
from edge.seal import custody, keys
from edge.seal.keys import KeyType, Purpose

app = typer.Typer(no_args_is_help=True, help="Make key files and certificates; show fingerprints.")

SERVER_HOSTS = ("localhost", "127.0.0.1")

KeyPath = Annotated[Path, typer.Argument(help="Where the private half goes; the public half is PATH.pub.")]
Token = Annotated[
    str | None, typer.Option(help="Make the key in this PKCS#11 token (docs/hardware-keys.md); PATH then names it.")
]


@app.command()
def lane(path: KeyPath, kind: options.SigningType = KeyType.ED25519, token: Token = None) -> None:
    """The key that a lane signs with. It has no passphrase: the service starts without anybody typing."""
    _made(_signing(path, kind, token), Purpose.SIGNING)


@app.command()
def collector(path: KeyPath, kind: options.SigningType = KeyType.ED25519, token: Token = None) -> None:
    """The key that a collector signs receipts with. It opens no record."""
    _made(_signing(path, kind, token), Purpose.SIGNING)


@app.command()
def recipient(
    path: KeyPath,
    kind: Annotated[KeyType, typer.Option("--type", help="x25519, p256 or mlkem768-x25519.")] = KeyType.X25519,
    passphrase_file: options.PassphraseFile = None,
    no_passphrase: options.NoPassphrase = False,
    token: Token = None,
) -> None:
    """The key of somebody who may read records. Whoever loses it can't read what was sealed for it alone.

    With --token the passphrase is the token's PIN, unless the URI has a pin-source; only p256 can be in a token.
    """
    secret = _secret(path, token, passphrase_file, no_passphrase)
    if token is not None:
        _made(custody.make_in_token(path, token, Purpose.RECIPIENT, kind, secret), Purpose.RECIPIENT)
        return
    _made(keys.save(keys.make_recipient_key(kind), path, secret), Purpose.RECIPIENT)


@app.command()
def owner(
    path: KeyPath,
    kind: options.SigningType = KeyType.ED25519,
    passphrase_file: options.PassphraseFile = None,
    no_passphrase: options.NoPassphrase = False,
    token: Token = None,
) -> None:
    """A key that the owner signs with: a further root key, or another targets or online key, for `rotate-root`.

    With --token the passphrase is the token's PIN, unless the URI has a pin-source.
    """
    _made(_signing(path, kind, token, _secret(path, token, passphrase_file, no_passphrase)), Purpose.SIGNING)


@app.command()
def fingerprint(files: Annotated[list[Path], typer.Argument(help="Public key files.")]) -> None:
    """What people compare to know that they mean the same key."""
    for file in files:
        try:
            key = keys.load_public(file, Purpose.SIGNING)
        except KeyFileWrongKind:
            key = keys.load_public(file, Purpose.RECIPIENT)
        typer.echo(f"{key.fingerprint}  {key.purpose} {key.type}  {file}")


@app.command()
def tls(
    ca: Annotated[Path, typer.Option(help="Folder of the authority (ca.pem, ca.key); made if there is none.")],
    name: Annotated[str, typer.Option(help="Name in the certificate: the lane's id, collector.central, ...")],
    server: Annotated[bool, typer.Option("--server/--client", help="For the broker, or for who connects to it.")],
    host: Annotated[list[str] | None, typer.Option(help="Name or address that the server is reached as.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for NAME.pem and NAME.key; without it, that of --ca.")
    ] = None,
) -> None:
    """A TLS certificate from an authority of one's own, for benches and small sites."""
    from central import certificates

    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", name) is None:
        raise typer.BadParameter("--name: up to 64 letters, digits, dots and dashes, as a lane's id or a host's name")
    if not (ca / "ca.pem").exists():
        typer.echo(f"a new authority is made in {ca}: nobody trusts it yet", err=True)
    authority = certificates.Authority.open_or_make(ca)
    key = certificates.make_key()
    hosts = tuple(host or SERVER_HOSTS) if server else ()
    folder = out or ca
    try:
        issued = authority.issue(name, key.public_key(), hosts=hosts)
    except ValueError as error:  # cryptography's, in its words
        raise typer.BadParameter(f"--name or --host: {error}") from error
    certificates.write_new(folder / f"{name}.key", certificates.private_pem(key), 0o600)
    certificates.write_new(folder / f"{name}.pem", issued, 0o644)
    typer.echo(f"{folder / name}.pem for {'the server ' + ', '.join(hosts) if hosts else 'the client ' + name}")


def _secret(path: Path, token: str | None, passphrase_file: Path | None, no_passphrase: bool) -> bytes | None:
    options.one_passphrase_option(passphrase_file, no_passphrase)
    if no_passphrase or (token is not None and "pin-source=" in token):
        return None
    keys.check_place(path)  # before anybody types
    return options.passphrase(passphrase_file, path if token is None else "the token", confirm=token is None)


def _signing(path: Path, kind: KeyType, token: str | None, secret: bytes | None = None) -> Path:
    if token is not None:
        return custody.make_in_token(path, token, Purpose.SIGNING, kind, secret)
    return keys.save(keys.make_signing_key(kind), path, secret)


def _made(public_file: Path, purpose: Purpose) -> None:
    typer.echo(f"{public_file.with_suffix('')} and {public_file}")
    typer.echo(f"fingerprint {keys.load_public(public_file, purpose).fingerprint}")
