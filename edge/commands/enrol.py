"""`sealane enrol`: makes the box's keys and a request for the owner; `--finish` installs what the owner gives back.

Run as root beside a systemd unit, or as the user that the lane runs as.
"""

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge.config import LaneConfig


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane's configuration.")] = Path(
        "/etc/sealane/lane.toml"
    ),
    request: Annotated[Path | None, typer.Option(help="Where the request goes; without it LANE.request.")] = None,
    finish: Annotated[Path | None, typer.Option(help="The folder LANE.enrolled that the owner gave back.")] = None,
    p256: Annotated[bool, typer.Option("--p256", help="Sign with P-256 in place of Ed25519.")] = False,
) -> None:
    """Make this box's keys, and ask the owner to enrol it."""
    from edge.config import load

    settings = load(config)
    signing_file = _on_disk(settings.keys.signing_key_file, config.parent)
    tls_file = _on_disk(settings.broker.key_file, config.parent)
    if finish is not None:
        _finish(settings, finish, signing_file, tls_file)
    else:
        _ask(settings.lane.id, request or Path(f"{settings.lane.id}.request"), signing_file, tls_file, p256)


def _on_disk(path: Path, folder: Path) -> Path:
    """Where a private key is kept that the unit hands to the service: LoadCredential=private:FOLDER/private."""
    handed_over = path.parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials"))
    prefix = "private_"
    return folder / "private" / path.name.removeprefix(prefix) if handed_over and path.name.startswith(prefix) else path


def _ask(lane: str, path: Path, signing_file: Path, tls_file: Path, p256: bool) -> None:
    from edge import enrolment
    from edge.keeper import make_tls_key, tls_public
    from edge.seal import custody, keys
    from edge.seal.keys import KeyType

    if not signing_file.exists():
        keys.save(keys.make_signing_key(KeyType.P256 if p256 else KeyType.ED25519), signing_file)
    if not tls_file.exists():
        make_tls_key(tls_file)
    data = enrolment.make(lane, custody.signer(signing_file), tls_public(tls_file))
    _write(path, data)
    fingerprint = enrolment.parse(data).fingerprint
    sys.stdout.write(f"{path} is the request of lane {lane}. The owner must compare its fingerprint:\n\n")
    sys.stdout.write(f"    {fingerprint}\n\n")
    _show_qr(f"sealane:{lane}:{fingerprint.replace(' ', '')}")


def _show_qr(text: str) -> None:
    import segno

    segno.make(text, micro=False).terminal(sys.stdout, compact=True)


def _finish(settings: "LaneConfig", folder: Path, signing_file: Path, tls_file: Path) -> None:
    from cryptography import x509

    from edge.carrier import DirectoryCarrier
    from edge.errors import ConfigInvalid, RequestInvalid, TrustMissing
    from edge.keeper import TRUST_FOLDER, tls_public
    from edge.seal import custody
    from edge.trust import Trust

    if settings.trust is None:
        raise ConfigInvalid("lane.toml has no [trust] table; enrolment needs one")
    try:
        root, ca, certificate = ((folder / name).read_bytes() for name in ("root.json", "ca.pem", "certificate.pem"))
        issued = x509.load_pem_x509_certificate(certificate)
    except OSError as error:
        raise TrustMissing(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise RequestInvalid(f"{folder / 'certificate.pem'} holds no certificate") from error
    if issued.public_key() != tls_public(tls_file):
        raise RequestInvalid("the certificate is for another box's key")
    now = datetime.datetime.now(datetime.UTC)
    trust = Trust(settings.state.directory / TRUST_FOLDER, root)
    trust.refresh(DirectoryCarrier(folder / "repository"), now)
    mine = custody.signer(signing_file).public.kid
    listed = trust.policy.lane_keys_at(settings.lane.id, now)
    if mine not in {key.kid for key in listed}:
        raise RequestInvalid("the owner's policy does not list this box's key: was the draft signed?")
    for path, content in (
        (settings.trust.root_file, root),
        (settings.broker.ca_file, ca),
        (settings.broker.certificate_file, certificate),
    ):
        _write(path, content)
    _hand_over(settings.state.directory)
    sys.stdout.write(f"lane {settings.lane.id} is enrolled under policy {trust.version}\n")
    for key in trust.policy.recipients_at(now):
        sys.stdout.write(f"  readable by {key.fingerprint}\n")


def _write(path: Path, content: bytes) -> None:
    from edge.errors import KeyFileMissing

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    except OSError as error:
        raise KeyFileMissing(f"cannot write {path}: {error.strerror}") from error


def _hand_over(state: Path) -> None:
    """Give what root put into the state directory to the user whose directory it is."""
    from edge.keeper import TRUST_FOLDER

    owner = state.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (state / TRUST_FOLDER, *(state / TRUST_FOLDER).rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
