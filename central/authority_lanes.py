"""`sealane authority`, the commands on lanes: enrol their boxes, have their keys rotated and certificates renewed."""

import datetime
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from central import options
from central.enrolments import Enrolments
from central.repository import Repository
from edge import enrolment
from edge.errors import AuthorityError, EpochMalformed, KeyFileMissing, RequestNotAsShown

app = typer.Typer()

RENEW_DAYS = 60


@app.command()
def add_lane(
    folder: options.AuthorityFolder,
    request: Annotated[Path, typer.Argument(help="The request that `sealane enrol` wrote.")],
    confirmed: Annotated[
        str | None, typer.Option("--fingerprint", help="As the box showed it, in quotes; asked for if not given.")
    ] = None,
    new_epoch: Annotated[
        str | None, typer.Option(help="Announce an epoch (16 hex digits) that begins without a link.")
    ] = None,
) -> None:
    """Countersign a box's request: its key goes into the draft, its TLS certificate into the repository.

    The fingerprint must be that which the box shows, unless the lane was told to rotate and its newest key vouches.
    Writes NAME.enrolled, the folder to carry back to the box.
    """
    repository, now = Repository(folder), options.utc_now()
    enrolments = Enrolments(repository)
    data, epoch = _read(request), None if new_epoch is None else _epoch(new_epoch)
    asked = enrolment.parse(data)
    if confirmed is None and not enrolments.vouched(asked, now):
        confirmed = options.typed(f"The fingerprint that {asked.lane} shows", "--fingerprint")
    shown = None if confirmed is None else enrolment.fingerprint_digits(confirmed)
    with repository.turn():
        if shown != enrolment.fingerprint_digits(asked.fingerprint) and not enrolments.vouched(asked, now):
            # never the right one: whoever is in a hurry would copy it, and nobody had asked the box
            raise RequestNotAsShown(f"this request of {asked.lane} has another fingerprint than the one given")
        enrolments.enrol(asked, data, now, epoch)
        reply = enrolments.reply(asked.lane)
    typer.echo(f"lane {asked.lane} signs with {asked.signing_key.fingerprint}; sign the draft, then carry")
    typer.echo(f"{reply} to the box: sealane enrol --finish {asked.lane}.enrolled")
    typer.echo(f"the root's fingerprint, to be compared at the box: {repository.roots.fingerprint}")


@app.command()
def rotate_lane(folder: options.AuthorityFolder, lane: Annotated[str, typer.Argument(help="The lane.")]) -> None:
    """Tell a lane to make itself a new signing key; `accept-requests` then takes what it asks for.

    A lane whose key is in a token makes none: docs/hardware-keys.md says how that one is replaced.
    """
    Enrolments(Repository(folder)).rotate(lane)
    typer.echo(f"{lane} will be told to make a new key")


@app.command()
def accept_requests(
    folder: options.AuthorityFolder,
    broker: options.BrokerAddress,
    ca: options.CaFile,
    certificate: options.CertificateFile,
    key: options.KeyFile,
    listen_s: Annotated[float, typer.Option(min=0, help="How long to listen.")] = 3.0,
) -> None:
    """Take up the requests of lanes that were told to rotate, if the key they have vouches for the new one."""
    from edge.mqtt import Message, Session, lane_filter

    enrolments = Enrolments(Repository(folder))
    session = Session(
        options.broker(broker, ca, certificate, key), options.own_name(certificate), resume=False, expiry_s=0
    )
    session.connect()
    session.subscribe([lane_filter("request")])
    end, heard = time.monotonic() + listen_s, False
    while (left_s := end - time.monotonic()) > 0:
        for event in session.wait(left_s):
            if isinstance(event, Message) and event.payload:
                try:
                    asked = enrolments.take_up(event.payload, options.utc_now())
                except AuthorityError as error:  # one lane's must not stand in the way of another's
                    heard = True
                    typer.echo(f"{error}. {error.hint}", err=True)
                    continue
                if asked is not None:
                    heard = True
                    typer.echo(f"{asked.lane} will sign with {asked.signing_key.fingerprint}; sign the draft")
    session.close()
    if not heard:
        typer.echo(f"in {listen_s:g} s no lane that was told to rotate has asked for a key")


@app.command()
def announce_epoch(
    folder: options.AuthorityFolder,
    lane: Annotated[str, typer.Argument(help="The lane.")],
    epoch: Annotated[str, typer.Argument(help="16 hex digits, as the alarm shows them.")],
    take_back: Annotated[bool, typer.Option("--take-back", help="It was announced by mistake.")] = False,
) -> None:
    """Say that a lane rightly began anew without a link, for example with a new card."""
    Enrolments(Repository(folder)).announce(lane, _epoch(epoch), take_back=take_back)
    typer.echo(f"epoch {_epoch(epoch)} of {lane} is {'taken out of' if take_back else 'in'} the draft")


@app.command()
def renew(
    folder: options.AuthorityFolder,
    days: Annotated[int, typer.Option(min=0, max=36500, help="Renew what expires within this many days.")] = RENEW_DAYS,
) -> None:
    """Issue new TLS certificates for lanes whose old ones end soon. `sign` publishes them; lanes fetch them."""
    lane: str | None = None
    for lane in Enrolments(Repository(folder)).renew(options.utc_now(), datetime.timedelta(days=days)):
        typer.echo(f"{lane}: a new certificate")
    if lane is None:
        typer.echo(f"no certificate to renew ends within {days} days")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileMissing(f"cannot read {path}: {error.strerror}") from error


def _epoch(text: str) -> str:
    """An epoch in hex, as it is written everywhere. EpochMalformed if it is none."""
    if re.fullmatch("[0-9a-f]{16}", text.lower()) is None:
        raise EpochMalformed("an epoch has 16 hex digits")
    return text.lower()
