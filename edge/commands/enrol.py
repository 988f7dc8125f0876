"""`sealane enrol`: makes the box's keys and a request for the owner; `--finish` installs what the owner gives back.

Run as root beside a systemd unit, or as the user that the lane runs as. In the state directory, where that user may
have planted links, root works as that user.
"""

import datetime
import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.user import as_owner_of

if TYPE_CHECKING:
    from edge.carrier import RetainedCarrier
    from edge.config import LaneConfig
    from edge.seal.keys import KeyType
    from edge.seal.signer import Signer
    from edge.trust import Trust


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane's configuration.")] = Path(
        "/etc/sealane/lane.toml"
    ),
    request: Annotated[Path | None, typer.Option(help="Where the request goes; without it LANE.request.")] = None,
    finish: Annotated[Path | None, typer.Option(help="The folder LANE.enrolled that the owner gave back.")] = None,
    root_fingerprint: Annotated[
        str | None,
        typer.Option(help="As the owner says it, in quotes; with --finish, which asks if it is not given."),
    ] = None,
    p256: Annotated[bool, typer.Option("--p256", help="Sign with P-256 in place of Ed25519.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Ask with a new signing key: the owner revoked the one that the box has.")
    ] = False,
) -> None:
    """Make this box's keys, and ask the owner to enrol it."""
    from edge.config import load
    from edge.errors import TrustNotSetUp
    from edge.seal.keys import KeyType

    settings = load(config)
    if settings.trust is None:
        raise TrustNotSetUp(f"{config} has no [trust] table: what the owner gives back has no place to go")
    signing_file = _on_disk(settings.keys.signing_key_file, config.parent)
    tls_file = _on_disk(settings.broker.key_file, config.parent)
    if finish is not None:
        _finish(settings, settings.trust.root_file, finish, signing_file, tls_file, root_fingerprint)
    else:
        _make_keys(settings, signing_file, tls_file, KeyType.P256 if p256 else KeyType.ED25519, anew=new_key)
        _ask(settings, request or Path(f"{settings.lane.id}.request"), signing_file, tls_file)


def _on_disk(path: Path, folder: Path) -> Path:
    """Where a private key is kept that the unit hands to the service: LoadCredential=private:FOLDER/private."""
    handed_over = path.parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials"))
    prefix = "private_"
    return folder / "private" / path.name.removeprefix(prefix) if handed_over and path.name.startswith(prefix) else path


def _signers(settings: "LaneConfig", signing_file: Path) -> "list[Signer]":
    from edge.keeper import TRUST_FOLDER, signers_of
    from edge.seal import custody

    named = custody.signer(signing_file)
    with as_owner_of(settings.state.directory):
        return signers_of(named, settings.state.directory / TRUST_FOLDER)


def _make_keys(settings: "LaneConfig", signing_file: Path, tls_file: Path, kind: "KeyType", *, anew: bool) -> None:
    """The keys that aren't there yet; `anew`: a signing key in any case, beside those in files that are there."""
    from edge.keeper import TRUST_FOLDER, make_later_key, make_tls_key
    from edge.seal import keys
    from edge.seal.signer import FileSigner

    made = not signing_file.exists()
    if made:
        keys.save(keys.make_signing_key(kind), signing_file)
    if anew and not (made and len(_signers(settings, signing_file)) == 1):
        if not isinstance(_signers(settings, signing_file)[-1], FileSigner):
            raise typer.BadParameter(f"{signing_file} names a key in a token: make another there, and name that one")
        with as_owner_of(settings.state.directory):
            make_later_key(settings.state.directory / TRUST_FOLDER, kind)
    if not tls_file.exists():
        make_tls_key(tls_file)


def _ask(settings: "LaneConfig", path: Path, signing_file: Path, tls_file: Path) -> None:
    from edge import enrolment
    from edge.keeper import tls_public

    lane = settings.lane.id
    data = enrolment.make(lane, _signers(settings, signing_file)[-1], tls_public(tls_file))
    _write(path, data)
    fingerprint = enrolment.parse(data).fingerprint
    sys.stdout.write(f"{path} is the request of lane {lane}. The owner must compare its fingerprint:\n\n")
    sys.stdout.write(f"    {fingerprint}\n\n")
    if _counts_for_nobody(settings, signing_file):
        sys.stdout.write("don't start the lane before `--finish`: what it seals until then counts for nobody\n\n")
    _show_qr(f"sealane:{lane}:{fingerprint.replace(' ', '')}")


def _counts_for_nobody(settings: "LaneConfig", signing_file: Path) -> bool:
    """Whether the last policy lists keys of this lane, and none that the box has now: one was replaced by hand."""
    from edge.errors import TrustError
    from edge.keeper import TRUST_FOLDER
    from edge.trust import Trust

    lane, now = settings.lane.id, datetime.datetime.now(datetime.UTC)
    mine = {signer.public.kid for signer in _signers(settings, signing_file)}
    kept = settings.state.directory / TRUST_FOLDER
    if not kept.exists():
        return False
    with suppress(TrustError), as_owner_of(settings.state.directory):
        policy = Trust(kept, b"").policy
        listed = lane in policy.lanes and policy.lanes[lane].keys
        return bool(listed) and mine.isdisjoint(key.kid for key in policy.lane_keys_at(lane, now))
    return False


def _show_qr(text: str) -> None:
    """Where the terminal's character set has the blocks that it is made of."""
    import segno

    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, compact=True)
    with suppress(UnicodeEncodeError):
        drawn.getvalue().encode(sys.stdout.encoding)
        sys.stdout.write(drawn.getvalue())


def _finish(
    settings: "LaneConfig", root_file: Path, folder: Path, signing_file: Path, tls_file: Path, confirmed: str | None
) -> None:
    from edge.certificate import is_issued_by, parse_certificate
    from edge.errors import ReplyUnfit, TrustMissing
    from edge.keeper import TRUST_FOLDER, tls_public
    from edge.trust import Trust, check_root

    try:
        root, ca, certificate = ((folder / name).read_bytes() for name in ("root.json", "ca.pem", "certificate.pem"))
        brought = _brought(folder / "repository")
    except OSError as error:
        raise TrustMissing(f"cannot read {error.filename}: {error.strerror}") from error
    check_root(root)
    tls_key = tls_public(tls_file)
    if (certified := parse_certificate(certificate)) is None:
        raise ReplyUnfit(f"{folder / 'certificate.pem'} holds no certificate")
    if certified.public_key() != tls_key:
        raise ReplyUnfit("the certificate is for another box's key")
    if not is_issued_by(certified, ca):
        raise ReplyUnfit("ca.pem and certificate.pem do not belong together")
    if brought.fetch("metadata/timestamp.json") is None:
        raise ReplyUnfit(f"{folder} brings no policy: was the draft signed?")
    state = settings.state.directory
    kept = state / TRUST_FOLDER
    before = root_file.read_bytes() if root_file.exists() else None
    with as_owner_of(state):
        known = before is not None and Trust(kept, before).leads_to(root, brought)
    _compare(root, before, confirmed, known=known)
    begun = before if before is not None and known else root  # what the box has verified stays, and goes on from there
    now = datetime.datetime.now(datetime.UTC)
    mine = {signer.public.kid for signer in _signers(settings, signing_file)}

    def verified(directory: Path) -> Trust:
        trust = Trust(directory, begun)
        trust.refresh(brought, now)
        if mine.isdisjoint(key.kid for key in trust.policy.lane_keys_at(settings.lane.id, now)):
            raise ReplyUnfit("the owner's policy does not list this box's key: was the draft signed?")
        return trust

    with as_owner_of(state):
        trust = verified(kept) if known or before is None else _instead_of(kept, verified)
    for path, content in (
        (root_file, begun),
        (settings.broker.ca_file, ca),
        (settings.broker.certificate_file, certificate),
    ):
        _write(path, content)
    with as_owner_of(state):
        # none that was fetched is newer, and it may be another key's
        (kept / "certificate.pem").unlink(missing_ok=True)
    sys.stdout.write(f"lane {settings.lane.id} is enrolled under policy {trust.version}\n")
    for key in trust.policy.recipients_at(now):
        sys.stdout.write(f"  readable by {key.fingerprint}\n")
    sys.stdout.write("start the lane now, or restart it where it runs\n")


def _brought(repository: Path) -> "RetainedCarrier":
    """What the folder brings of the owner's repository. It is read by root, as the lane's user may not. OSError."""
    from edge.carrier import CHUNK_BYTES, MAX_CARRIED_BYTES, DirectoryCarrier, RetainedCarrier
    from edge.trust import CURRENT_POLICY

    files, brought = DirectoryCarrier(repository), RetainedCarrier()
    for path in (*repository.glob("metadata/*.json"), repository / "targets" / CURRENT_POLICY):
        name = path.relative_to(repository).as_posix()
        if (pieces := files.fetch(name)) is not None:
            brought.put(name, b"".join(islice(pieces, MAX_CARRIED_BYTES // CHUNK_BYTES + 1)))
    return brought


def _compare(root: bytes, before: bytes | None, confirmed: str | None, *, known: bool) -> None:
    """Have the fingerprint of a root compared, as anybody may carry it; not if it is `known`: `before` led to it.

    confirmed: the one that the owner said, if it was given. TrustNotAsShown, TrustUnconfirmed.
    """
    from edge.enrolment import fingerprint, fingerprint_digits
    from edge.errors import TrustNotAsShown, TrustUnconfirmed

    shown = fingerprint(root)
    if confirmed is not None:
        if fingerprint_digits(confirmed) != fingerprint_digits(shown):
            # never the right one: whoever is in a hurry would copy it, and nobody had asked the owner
            raise TrustNotAsShown("the root that the folder brings has another fingerprint than the one given")
    elif not known:
        sys.stdout.write(f"The folder brings a root with the fingerprint\n\n    {shown}\n\n")
        sys.stdout.flush()
        question = "Does the owner say the same fingerprint, over the phone?"
        if before is not None:
            question = f"It replaces another authority, whose root is {fingerprint(before)}. {question}"
        if not sys.stdin.isatty():
            raise TrustUnconfirmed(f"no terminal to ask: {question}")
        typer.confirm(question, abort=True, err=True)


def _instead_of(kept: Path, verified: Callable[[Path], "Trust"]) -> "Trust":
    """Begin anew under another authority: its word replaces all that one before it said and gave, once it is verified.

    The keys that the box made stay where they are. Whatever `verified` raises; TrustUnkept.
    """
    from edge.errors import TrustUnkept

    trial = kept.with_name(kept.name + ".new")
    shutil.rmtree(trial, ignore_errors=True)  # a kill may have left one
    try:
        verified(trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    try:
        for path in list(kept.iterdir()) if kept.exists() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not path.name.startswith("signing-"):
                path.unlink()
    except OSError as error:
        raise TrustUnkept(f"cannot empty {kept}: {error.strerror}") from error
    trust = verified(kept)
    sys.stdout.write("this is another authority than before: what was kept of that one is gone\n")
    return trust


def _write(path: Path, content: bytes) -> None:
    from edge.errors import KeyFileMissing

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    except OSError as error:
        raise KeyFileMissing(f"cannot write {path}: {error.strerror}") from error
