"""`sealane authority`: the data owner's side. Edits a draft; `sign` makes it the next policy; others carry the files.

Root keys stay off line and are needed for `init` and `rotate-root` only; the targets key signs policies; the online key
signs, from a timer if you like, that the newest policy is the newest.
"""

import datetime
import hashlib
import re
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from central import authority_lanes, authority_status, options
from central.authority_status import Listed, dates, listed, moment
from central.certificates import Authority
from central.enrolments import Enrolments
from central.folder import PART, in_turn
from central.repository import Repository
from central.roots import ROLES, changes
from edge import enrolment, manifest
from edge.errors import (
    AuthorityExists,
    AuthorityInvalid,
    AuthorityKeyInUse,
    AuthorityKeyOfRoot,
    AuthorityKeyRevoked,
    AuthorityThresholdUnreachable,
    AuthorityUnknown,
    AuthorityUnusable,
    KeyFilePassphrase,
    MqttNotAuthorised,
    MqttPublicationRefused,
    TokenRefused,
    wrong_fields,
)
from edge.policy import Collector, ModelBundle, Recipient, Revocation, Terms
from edge.seal import custody, keys
from edge.seal.keys import KeyType, Purpose, fingerprint
from edge.seal.signer import FileSigner, Signer


class _Commands(TyperGroup):
    """All of them write into one folder: whatever its disk refuses is an error of ours. AuthorityUnusable."""

    def invoke(self, ctx: Any) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise AuthorityUnusable(f"{error.filename or ctx.info_name}: {error.strerror or error}") from error


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, help="Say who may read, who may confirm, which lanes there are; and sign it."
)

app.add_typer(authority_lanes.app)

ONLINE_KEY, TARGETS_KEY = "online", "targets"
PUBLISHED_AT_ONCE = 20
PATIENCE_S = 60.0
"""With a broker that acknowledges nothing."""
NOT_BY_BROKER = re.compile(r"targets/(models/|policy/[0-9])")

AnyListed = TypeVar("AnyListed", bound=Listed)

At = datetime.datetime | None
Since = Annotated[At, typer.Option(metavar=options.DAY, help="UTC; a new key: from now on if not given.")]
Until = Annotated[At, typer.Option(metavar=options.DAY, help="UTC; a new key: open if not given.")]
Open = Annotated[bool, typer.Option("--open", help="Without an end again.")]
Note = Annotated[str | None, options.FOR_PEOPLE]


@app.command()
def init(
    folder: options.AuthorityFolder,
    root_keys: Annotated[int, typer.Option(min=1, max=9, help="How many root keys to make.")] = 3,
    threshold: Annotated[int, typer.Option(min=1, max=9, help="How many of them must sign.")] = 2,
    kind: options.SigningType = KeyType.ED25519,
    passphrase_file: options.PassphraseFile = None,
    no_passphrase: options.NoPassphrase = False,
) -> None:
    """Make the keys and an empty repository, and the authority for TLS certificates."""
    options.one_passphrase_option(passphrase_file, no_passphrase)
    if threshold > root_keys:
        raise AuthorityThresholdUnreachable(f"a threshold of {threshold} with {root_keys} root keys")
    Repository.refuse_existing(folder)
    if any((folder / "keys").glob("*")):
        raise AuthorityExists(
            f"{folder / 'keys'} holds keys, but {folder} no authority: if `init` was interrupted, they count nowhere. "
            "Move them away and run it again"
        )
    made = {name: keys.make_signing_key(kind) for name in (TARGETS_KEY, ONLINE_KEY)}
    made |= {f"root-{number}": keys.make_signing_key(kind) for number in range(1, root_keys + 1)}
    secret = None if no_passphrase else options.passphrase(passphrase_file, folder / "keys", confirm=True)
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    for name, key in made.items():
        keys.save(key, folder / "keys" / name, secret)
    roots = [FileSigner(key) for name, key in made.items() if name.startswith("root-")]
    repository = Repository.create(
        folder, roots, threshold, made[TARGETS_KEY].public, made[ONLINE_KEY].public, options.utc_now()
    )
    Authority.open_or_make(folder / "tls")
    typer.echo(f"{folder / 'keys'} holds {root_keys} root keys, of which {threshold} must sign a change of keys.")
    typer.echo("Move each root key to a place of its own, off line, and leave none of them here.")
    typer.echo(
        f"{folder / 'tls' / 'ca.key'} is in clear: whoever has it can issue certificates and so connect to the broker, "
        "but neither read nor sign records. Keep the folder accordingly."
    )
    typer.echo(f"The root's fingerprint, to be compared at each box: {repository.roots.fingerprint}")
    typer.echo("Next: add-recipient (two at least), add-collector, add-lane, sign.")


@app.command()
def add_recipient(
    folder: options.AuthorityFolder, key: Annotated[Path, typer.Argument(help="A recipient's .pub file.")],
    since: Since = None, until: Until = None, open_ended: Open = False, note: Note = None,
) -> None:  # fmt: skip
    """Name somebody who may read. The same key again changes what is given: so recipients roll over without a gap."""
    new = Recipient(key=keys.load_public(key, Purpose.RECIPIENT))
    _put(Repository(folder), "recipients", new, since, until, open_ended, note)


@app.command()
def add_collector(
    folder: options.AuthorityFolder, key: Annotated[Path, typer.Argument(help="A collector's .pub file.")],
    since: Since = None, until: Until = None, open_ended: Open = False, note: Note = None,
) -> None:  # fmt: skip
    """Name a collector whose receipts let lanes forget. The same key again changes what is given."""
    new = Collector(key=keys.load_public(key, Purpose.SIGNING))
    _put(Repository(folder), "collectors", new, since, until, open_ended, note)


@app.command()
def add_model(
    folder: options.AuthorityFolder,
    bundle: Annotated[Path, typer.Argument(help="Folder with manifest.json and the files it names.")],
) -> None:
    """Have lanes read with this model bundle. They fetch it from a folder or http(s), not the broker, and restart."""
    repository = Repository(folder)
    _, content = manifest.load(bundle)
    name = f"{bundle.resolve().name}-{hashlib.sha256(content[manifest.NAME]).hexdigest()[:12]}"
    try:
        model = ModelBundle(name=name, files=tuple(content))
    except ValidationError as error:
        raise AuthorityInvalid(f"the folder of a model gives it its name: {wrong_fields(error)}") from error
    if part := next((file for file in content if file.endswith(PART)), None):
        raise AuthorityInvalid(f"{part}: what ends with {PART} is taken for half a file, and not signed")
    with repository.turn():
        for file, data in content.items():
            repository.add_target(f"models/{model.name}/{file}", data)
        repository.edit(model=model)
    typer.echo(f"model {model.name} is in the draft")


@app.command()
def shipped_model(folder: options.AuthorityFolder) -> None:
    """Have lanes read with the models that come with the software."""
    Repository(folder).edit(model=None)
    typer.echo("the shipped models are in the draft")


@app.command()
def revoke(
    folder: options.AuthorityFolder,
    key: options.Fingerprint,
    at: Annotated[
        At, typer.Option(metavar=options.DAY, help="UTC; what was signed from then on counts not. Now if not given.")
    ] = None,
    reason: Annotated[str, options.FOR_PEOPLE] = "",
    take_back: Annotated[bool, typer.Option("--take-back", help="It was a mistake, and is not signed yet.")] = False,
) -> None:
    """Let a key count for nothing from some time on: a stolen box, a lost key.

    That holds for all that comes from then on, whatever policy it names and however long it waited in its box.
    """
    repository, kid = Repository(folder), enrolment.fingerprint_digits(*key)
    if take_back:
        _take_back(repository, kid)
        return
    with repository.turn():
        draft = repository.draft
        _named(repository, chain((draft,), repository.editions), kid)
        one = Revocation(kid=kid, at=_utc(at) or options.utc_now(), reason=reason)
        repository.edit(revoked=(*draft.revoked, one))
    typer.echo(f"{fingerprint(bytes.fromhex(kid))} is revoked in the draft")


@app.command()
def remove(folder: options.AuthorityFolder, key: options.Fingerprint) -> None:
    """Take out a key whose time is over: there is room for so many. Earlier policies, which judge its time, keep it."""
    repository, kid, now = Repository(folder), enrolment.fingerprint_digits(*key), options.utc_now()

    def others(known: tuple[AnyListed, ...]) -> tuple[AnyListed, ...]:
        return tuple(one for one in known if one.key.kid.hex() != kid)

    with repository.turn():
        draft = repository.draft
        for one in _named(repository, (draft,), kid):
            if not draft.over(one, now):
                raise AuthorityKeyInUse(f"{one.key.fingerprint} still counts")
        repository.edit(
            recipients=others(draft.recipients),
            collectors=others(draft.collectors),
            lanes={name: lane.model_copy(update={"keys": others(lane.keys)}) for name, lane in draft.lanes.items()},
        )
    typer.echo(f"{fingerprint(bytes.fromhex(kid))} is taken out of the draft")


@app.command()
def allow_picture(
    folder: options.AuthorityFolder,
    allowed: Annotated[bool, typer.Argument(help="Whether `sealane aim --picture` may be used.")],
) -> None:
    """Allow or forbid technicians the coarse mosaic of `sealane aim --picture`."""
    Repository(folder).edit(aim_picture=allowed)
    typer.echo(f"aim --picture is {'allowed' if allowed else 'forbidden'} in the draft")


@app.command()
def rotate_root(
    folder: options.AuthorityFolder,
    add: Annotated[list[Path] | None, typer.Option(help="Public file of a new root key.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Fingerprint of a root key that goes, in quotes or without blanks.")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many must sign from then on.")] = None,
    targets: Annotated[Path | None, typer.Option(help="Public file of another targets key.")] = None,
    online: Annotated[Path | None, typer.Option(help="Public file of another online key.")] = None,
) -> None:
    """Draft another set of keys. It counts once enough old and new root keys have signed: sign --root-key."""
    Repository(folder).roots.propose(
        options.utc_now(),
        add=[keys.load_public(path, Purpose.SIGNING) for path in add or []],
        remove=[enrolment.fingerprint_digits(kid) for kid in remove or []],
        threshold=threshold,
        targets=None if targets is None else keys.load_public(targets, Purpose.SIGNING),
        online=None if online is None else keys.load_public(online, Purpose.SIGNING),
    )
    typer.echo("the new root is drafted; sign it with `sealane authority sign --root-key FILE`")


@app.command()
def sign(
    folder: options.AuthorityFolder,
    root_key: Annotated[list[Path] | None, typer.Option(help="Sign the pending root with this key.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Only say that the newest is the newest: for a timer.")
    ] = False,
    targets_key: Annotated[Path | None, typer.Option(help="If it is not in the authority's folder.")] = None,
    online_key: Annotated[Path | None, typer.Option(help="If it is not in the authority's folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Sign a policy with a single reader.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Sign the pending root without being asked.")] = False,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Make the draft the next policy, and sign that it is the newest.

    With --root-key, sign the pending root instead, once what it changes was shown and confirmed: --yes in a script.
    """
    repository = Repository(folder)
    secret = _Secret(passphrase_file)
    if root_key:
        _sign_root(repository, secret, root_key, yes=yes)
        return
    if not fresh and repository.roots.pending is None:  # nobody types a passphrase for what is refused
        repository.next_policy(options.utc_now(), force=force)
    online = secret.signer(online_key or folder / "keys" / ONLINE_KEY)
    if fresh:
        with repository.turn():
            repository.freshen(online, options.utc_now())
            Enrolments(repository).reply_again()
        typer.echo(f"signed as fresh until {repository.fresh_until:%Y-%m-%d}")
        _warn(authority_status.endings(repository, options.utc_now()))  # all that a machine of the online key may have
        return
    targets = secret.signer(targets_key or folder / "keys" / TARGETS_KEY)
    with repository.turn():
        if repository.roots.take():
            typer.echo(f"root {repository.roots.current.signed.version} has all its signatures, and is published")
        before, waited = repository.policy, repository.has_unsigned
        policy = repository.publish(targets, online, options.utc_now(), force=force)
        Enrolments(repository).reply_again()
    if policy == before:
        files = ", files beside it are signed" if waited else ""
        typer.echo(
            f"policy {policy.version} stays as it is{files}; it holds until {repository.policy_until:%Y-%m-%d}, and is "
            f"signed as the newest until {repository.fresh_until:%Y-%m-%d}"
        )
    else:
        typer.echo(f"policy {policy.version} is signed; {repository.published} is what lanes and collectors fetch")
    _warn_of_all(repository)


@app.command()
def publish(
    folder: options.AuthorityFolder,
    broker: options.BrokerAddress,
    ca: options.CaFile,
    certificate: options.CertificateFile,
    key: options.KeyFile,
) -> None:
    """Put the repository's files on the broker as retained messages: all but models and past policies."""
    from edge.mqtt import NOT_AUTHORISED, REFUSED, Acknowledged, Publication, Session, trust_topic
    from edge.mqtt_client import MAX_PACKET_BYTES

    repository = Repository(folder)
    files = {name: data for name, data in repository.files().items() if not NOT_BY_BROKER.match(name)}
    for name, data in files.items():
        if len(data) > MAX_PACKET_BYTES - 1024:
            raise MqttPublicationRefused(f"{name} has {len(data)} bytes: let lanes fetch from a folder or http(s)")
    session = Session(options.broker(broker, ca, certificate, key), options.own_name(certificate), resume=False)
    session.connect()
    left, waiting = deque(files.items()), 0
    heard = time.monotonic()
    while left or waiting:
        while left and waiting < PUBLISHED_AT_ONCE:
            name, data = left.popleft()
            session.publish(Publication(trust_topic(name), data, retain=True))
            waiting += 1
        for event in session.wait(5):
            if isinstance(event, Acknowledged):
                heard = time.monotonic()
                if event.reason >= REFUSED:
                    kind = MqttNotAuthorised if event.reason == NOT_AUTHORISED else MqttPublicationRefused
                    raise kind(f"{event.publication.topic}: reason code 0x{event.reason:02x}")
                waiting -= 1
        if time.monotonic() - heard > PATIENCE_S:
            raise MqttPublicationRefused(f"the broker has acknowledged nothing for {PATIENCE_S:.0f} s")
    session.close()
    typer.echo(f"{len(files)} files are on the broker")
    if repository.has_unsigned:
        typer.echo(
            "what the draft changes is not among them: run `sealane authority sign`, and publish again", err=True
        )


@app.command()
def status(folder: options.AuthorityFolder) -> None:
    """Show what is in force, what the draft changes, and when something ends."""
    repository = Repository(folder)
    typer.echo(f"the root's fingerprint, to be compared at a box: {repository.roots.fingerprint}")
    authority_status.show(repository, options.utc_now())
    _warn_of_all(repository)


def _sign_root(repository: Repository, secret: "_Secret", root_keys: list[Path], *, yes: bool) -> None:
    shown = repository.roots.to_sign()
    typer.echo(f"root {shown.signed.version} is pending:")
    for line in changes(repository.roots.current.signed, shown.signed):
        typer.echo(f"  {line}")
    if not yes:
        options.confirm(f"Sign root {shown.signed.version}?")
    if repository.roots.sign([secret.signer(path) for path in root_keys], shown=shown):
        Enrolments(repository).reply_again()
        typer.echo(
            f"root {shown.signed.version} is published in {repository.published}. Was it drafted in another folder?"
        )
        typer.echo("Then carry pending-root.json back there, and run `sealane authority sign`.")
    else:
        typer.echo("the new root needs more signatures; carry pending-root.json to the other keys")


def _warn_of_all(repository: Repository) -> None:
    now = options.utc_now()
    _warn(chain(authority_status.endings(repository, now), authority_status.shortages(repository, now)))


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _named(repository: Repository, said: Iterable[Terms], kid: str) -> list[Listed]:
    """What the first that names it says of the key of that fingerprint. AuthorityUnknown, AuthorityKeyOfRoot."""
    for terms in said:
        if found := [one for _, _, one in listed(terms) if one.key.kid.hex() == kid]:
            return found
    for role, name in ROLES.items():
        if kid in repository.roots.current.signed.roles[role].keyids:
            raise AuthorityKeyOfRoot(f"{fingerprint(bytes.fromhex(kid))} is a {name} key, which only a root takes away")
    raise AuthorityUnknown(f"no key has the fingerprint {fingerprint(bytes.fromhex(kid))}")


@in_turn
def _take_back(repository: Repository, kid: str) -> None:
    """Drop what the draft alone says of that key's end. AuthorityKeyRevoked if it is signed, AuthorityUnknown."""
    name, signed = fingerprint(bytes.fromhex(kid)), () if repository.policy is None else repository.policy.revoked
    kept = tuple(one for one in repository.draft.revoked if one.kid != kid or one in signed)
    if len(kept) == len(repository.draft.revoked):
        if any(one.kid == kid for one in kept):
            raise AuthorityKeyRevoked(f"that the key {name} is revoked is signed already")
        raise AuthorityUnknown(f"the draft revokes no key with the fingerprint {name}")
    repository.edit(revoked=kept)
    typer.echo(f"{name} is not revoked in the draft any more")


@in_turn
def _put(
    repository: Repository, field: str, new: Recipient | Collector, since: Since, until: Until, open_ended: Open,
    note: Note,
) -> None:  # fmt: skip
    """Put a key into that field of the draft; if it is there already, what isn't given stays.

    AuthorityKeyRevoked; AuthorityInvalid if it would never count, unless it is there and ends.
    """
    if open_ended and until is not None:
        raise typer.BadParameter("--until and --open contradict each other")
    known, kid = getattr(repository.draft, field), new.key.kid
    now = options.utc_now()
    if repository.draft.revokes(new.key, now):
        raise AuthorityKeyRevoked(f"the key {new.key.fingerprint} is revoked")
    given = {"since": _utc(since), "until": _utc(until), "note": note}
    before = next((one for one in known if one.key.kid == kid), None)
    changed = {name: value for name, value in given.items() if value is not None}
    one = (before or new).model_copy(update=changed | ({"until": None} if open_ended else {}))
    if (ends := _utc(until)) is not None and ends <= now:
        if before is None:
            raise AuthorityInvalid(f"a new key that ended on {moment(ends)} would never count")
    elif one.since is not None and one.until is not None and one.until <= one.since:
        raise AuthorityInvalid(f"it would end ({moment(one.until)}) before it begins ({moment(one.since)})")
    repository.edit(**{field: (*(other for other in known if other.key.kid != kid), one)})
    said = f"{field.removesuffix('s')} {one.key.fingerprint} is in the draft"
    typer.echo(", ".join((said, *(f"{word} {at}" for word, at in dates(one).items()))))


class _Secret:
    """Asks for a passphrase only if a key needs it, and for another only if the last one does not open a key."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: bytes | None = None

    def signer(self, path: Path) -> Signer:
        """Who signs with the key at `path`: a file, or one that names a key in a token."""
        with suppress(KeyFilePassphrase):
            try:
                return custody.signer(path)
            except TokenRefused:  # a PIN of its own, and a few wrong ones lock the token
                return custody.signer(path, options.passphrase(self._file, path))
        if self._known is not None:
            with suppress(KeyFilePassphrase):
                return custody.signer(path, self._known)
        self._known = options.passphrase(self._file, path)
        return custody.signer(path, self._known)


def _utc(at: datetime.datetime | None) -> datetime.datetime | None:
    return None if at is None else at.replace(tzinfo=datetime.UTC)
