"""`sealane enrol`: makes the box's keys and a request for the owner; `--finish` installs what the owner gives back."""

import datetime
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
    if finish is not None:
        _finish(settings, finish)
    else:
        _ask(settings, request or Path(f"{settings.lane.id}.request"), p256)


def _ask(settings: "LaneConfig", path: Path, p256: bool) -> None:
    from edge import enrolment
    from edge.keeper import make_tls_key, tls_public
    from edge.seal import keys
    from edge.seal.keys import KeyType, Purpose
    from edge.seal.signer import FileSigner

    signing_file, tls_file = settings.keys.signing_key_file, settings.broker.key_file
    if not signing_file.exists():
        keys.save(keys.make_signing_key(KeyType.P256 if p256 else KeyType.ED25519), signing_file)
    if not tls_file.exists():
        make_tls_key(tls_file)
    signer = FileSigner(keys.load_private(signing_file, Purpose.SIGNING))
    data = enrolment.make(settings.lane.id, signer, tls_public(tls_file))
    path.write_bytes(data)
    fingerprint = enrolment.parse(data).fingerprint
    sys.stdout.write(f"{path} is the request of lane {settings.lane.id}. The owner must compare its fingerprint:\n\n")
    sys.stdout.write(f"    {fingerprint}\n\n")
    _show_qr(f"sealane:{settings.lane.id}:{fingerprint.replace(' ', '')}")


def _show_qr(text: str) -> None:
    import segno

    segno.make(text, micro=False).terminal(sys.stdout, compact=True)


def _finish(settings: "LaneConfig", folder: Path) -> None:
    from cryptography import x509

    from edge.errors import ConfigInvalid, RequestInvalid, TrustMissing
    from edge.keeper import TRUST_FOLDER, tls_public
    from edge.seal import keys
    from edge.seal.keys import Purpose
    from edge.trust import DirectoryCarrier, Trust

    if settings.trust is None:
        raise ConfigInvalid("lane.toml has no [trust] table; enrolment needs one")
    try:
        root, ca, certificate = ((folder / name).read_bytes() for name in ("root.json", "ca.pem", "certificate.pem"))
        issued = x509.load_pem_x509_certificate(certificate)
    except OSError as error:
        raise TrustMissing(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise RequestInvalid(f"{folder / 'certificate.pem'} holds no certificate") from error
    if issued.public_key() != tls_public(settings.broker.key_file):
        raise RequestInvalid("the certificate is for another box's key")
    now = datetime.datetime.now(datetime.UTC)
    trust = Trust(settings.state.directory / TRUST_FOLDER, root)
    trust.refresh(DirectoryCarrier(folder / "repository"), now)
    mine = keys.load_private(settings.keys.signing_key_file, Purpose.SIGNING).public.kid
    listed = trust.policy.lane_keys_at(settings.lane.id, now)
    if mine not in {key.kid for key in listed}:
        raise RequestInvalid("the owner's policy does not list this box's key: was the draft signed?")
    for path, content in (
        (settings.trust.root_file, root),
        (settings.broker.ca_file, ca),
        (settings.broker.certificate_file, certificate),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    sys.stdout.write(f"lane {settings.lane.id} is enrolled under policy {trust.version}\n")
    for key in trust.policy.recipients_at(now):
        sys.stdout.write(f"  readable by {key.fingerprint}\n")
