"""Enrolments: the lanes of an authority with their keys and TLS certificates, and what goes back to their boxes.

tls/                   issues the certificates
certificates/LANE.pem  the newest one of a lane
requests/LANE          the request that it was issued for
LANE.enrolled/         to carry back to the box
"""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

from central.certificates import Authority
from central.folder import PART, in_turn, write
from central.repository import Repository
from edge import enrolment
from edge.certificate import parse_certificate
from edge.enrolment import Request
from edge.errors import AuthorityUnknown, RequestInvalid
from edge.policy import Lane, LaneKey
from edge.trust import CURRENT_POLICY

RESERVED = "trust"
DRAIN = datetime.timedelta(days=60)
"""For so long a key may sign on after another was enrolled to follow it: its lane may lose the newer one. What it
signed under the policies before counts by those, however late it comes."""
NEW = Lane(keys=())


class Enrolments:
    """Changes the lanes in a repository's draft, and keeps files in its folder."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._folder = repository.directory
        self.turn = repository.turn

    def vouched(self, asked: Request, now: datetime.datetime) -> bool:
        """Whether its lane was told to rotate, and the newest of the lane's keys signed that this one follows it."""
        draft = self._repository.draft
        lane = draft.lanes.get(asked.lane, NEW)
        newest = lane.keys[-1:]  # a key that was replaced has no more say in who comes next
        return lane.rotate and any(not draft.over(one, now) and asked.vouched_by(one.key) for one in newest)

    @in_turn
    def enrol(self, asked: Request, data: bytes, now: datetime.datetime, epoch: str | None = None) -> None:
        """Take the key that `asked` names into the draft, issue a certificate, and keep the request's `data`.

        The key that it follows ends after DRAIN; keys whose time is over are left out. epoch: one that rightly begins
        without a link, in hex. RequestInvalid if no lane can be called that, or the key is revoked.
        """
        if asked.lane == RESERVED:
            raise RequestInvalid(f"no lane can be called {RESERVED}: the owner's metadata has that topic")
        draft, key = self._repository.draft, asked.signing_key
        if draft.revokes(key, now):
            raise RequestInvalid(f"the key {key.fingerprint} is revoked: `sealane enrol --new-key` on the box")
        lane = draft.lanes.get(asked.lane, NEW)
        others = [one for one in lane.keys if one.key.kid != key.kid]
        ends = now + DRAIN
        kept = (
            one.model_copy(update={"until": min(one.until or ends, ends)}) if asked.vouched_by(one.key) else one
            for one in others
            if not draft.over(one, now)
        )
        lane = lane.model_copy(
            update={
                "keys": (*kept, LaneKey(key=key, since=now)),
                "epochs": lane.epochs if epoch is None else (*lane.epochs, epoch),
                "rotate": lane.rotate and len(others) < len(lane.keys),
            }
        )
        lanes = {**draft.lanes, asked.lane: lane}
        self._repository.edited(lanes=lanes)
        self._certify(asked)
        write(self._folder / "requests" / asked.lane, data)
        self._repository.edit(lanes=lanes)  # last: nothing is asked for again once the key is in the draft

    @in_turn
    def take_up(self, data: bytes, now: datetime.datetime) -> Request | None:
        """Enrol the key that a published request asks for; None if nobody told its lane to rotate.

        RequestInvalid for a key that is not new (somebody brings an old request again) or not vouched for.
        """
        asked = enrolment.parse(data)
        known = self._repository.draft.lanes.get(asked.lane)
        if known is None or not known.rotate:
            return None
        if asked.signing_key.kid in {one.key.kid for one in known.keys}:
            raise RequestInvalid(f"{asked.signing_key.fingerprint} is a key of {asked.lane} already")
        if not self.vouched(asked, now):
            raise RequestInvalid(f"the newest key of {asked.lane} does not vouch for {asked.signing_key.fingerprint}")
        self.enrol(asked, data, now)
        return asked

    @in_turn
    def rotate(self, name: str) -> None:
        """Tell a lane to make itself a new key. AuthorityUnknown."""
        self._put(name, self._lane(name).model_copy(update={"rotate": True}))

    @in_turn
    def announce(self, name: str, epoch: str, *, take_back: bool = False) -> None:
        """Name an epoch of a lane that rightly begins without a link, or do so no more. AuthorityUnknown."""
        lane = self._lane(name)
        if take_back and epoch not in lane.epochs:
            raise AuthorityUnknown(f"epoch {epoch} of {name} was not announced")
        others = tuple(one for one in lane.epochs if one != epoch)
        self._put(name, lane.model_copy(update={"epochs": others if take_back else (*others, epoch)}))

    def renew(self, now: datetime.datetime, within: datetime.timedelta) -> Iterator[str]:
        """Issue new certificates for those that end within that time, or are damaged, and name their lanes.

        None for a box whose signing key counts no more. RequestInvalid, naming the lane, for a damaged request.
        """
        with self.turn():
            draft = self._repository.draft
            for name, lane in draft.lanes.items():
                request = self._folder / "requests" / name
                if not request.exists():
                    continue
                try:
                    asked = enrolment.parse(request.read_bytes())
                except RequestInvalid as error:
                    raise RequestInvalid(f"{request}: {error.what}") from error
                counts = any(one.key.kid == asked.signing_key.kid and not draft.over(one, now) for one in lane.keys)
                ends = self.certified_until(name)
                if counts and (ends is None or ends < now + within):
                    self._certify(asked)
                    yield name

    @in_turn
    def reply(self, name: str) -> Path:
        """The folder to carry back to a box, written anew: what it starts to trust from, and the newest policy.

        Models and other lanes' certificates are not in it.
        """
        reply = self._reply(name)
        published, carried = self._repository.published, reply / "repository"
        shutil.rmtree(reply, ignore_errors=True)
        shutil.copytree(published / "metadata", carried / "metadata", ignore=shutil.ignore_patterns(f"*{PART}"))
        current = carried / "targets" / CURRENT_POLICY
        current.parent.mkdir(parents=True)
        policy = self._repository.policy
        if policy is not None:
            shutil.copy(published / "targets" / f"policy/{policy.version}", current)
        (reply / "root.json").write_bytes(self._repository.roots.newest_bytes)
        shutil.copy(self._folder / "tls" / "ca.pem", reply / "ca.pem")
        shutil.copy(self._certificate(name), reply / "certificate.pem")
        return reply

    @in_turn
    def reply_again(self) -> None:
        """Write those anew that are there: the repository has changed."""
        for certificate in sorted((self._folder / "certificates").glob("*.pem")):
            if self._reply(certificate.stem).exists():
                self.reply(certificate.stem)

    def _lane(self, name: str) -> Lane:
        lane = self._repository.draft.lanes.get(name)
        if lane is None:
            raise AuthorityUnknown(f"no lane {name}")
        return lane

    def _put(self, name: str, lane: Lane) -> None:
        self._repository.edit(lanes={**self._repository.draft.lanes, name: lane})

    def _certify(self, asked: Request) -> None:
        certificate = Authority.open_or_make(self._folder / "tls").issue(asked.lane, asked.tls_key)
        self._repository.add_target(f"certificates/{asked.lane}.pem", certificate)
        write(self._certificate(asked.lane), certificate)

    def certified_until(self, name: str) -> datetime.datetime | None:
        """When the newest certificate of a lane ends; None if there is none that can be read."""
        try:
            found = parse_certificate(self._certificate(name).read_bytes())
        except FileNotFoundError:
            return None
        return None if found is None else found.not_valid_after_utc

    def _certificate(self, name: str) -> Path:
        return self._folder / "certificates" / f"{name}.pem"

    def _reply(self, name: str) -> Path:
        return self._folder / f"{name}.enrolled"
