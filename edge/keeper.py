"""Keeper: holds a lane to the owner's word. New readers, collectors and keys come in force without touching the box.

`Keeper.step` decides from what was verified what the lane does from now on (`Standing`); `run` repeats it. The daemon
applies a standing: seals with its sealer, counts its collectors' receipts, shows its certificate, sends its request.
"""

import datetime
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from edge import enrolment
from edge.carrier import Carrier, RetainedCarrier, carrier
from edge.certificate import parse_certificate
from edge.config import LaneConfig
from edge.errors import (
    KeyFileError,
    KeyFileMalformed,
    NotEnrolled,
    TrustError,
    TrustExpired,
    TrustMissing,
    TrustRefused,
    TrustUnkept,
)
from edge.policy import ModelBundle
from edge.seal import custody, keys
from edge.seal.envelope import Sealer
from edge.seal.keys import KeyType, PrivateKey, PublicKey, Purpose
from edge.seal.signer import FileSigner, Signer
from edge.trust import CURRENT_POLICY, Trust, write_whole

TICK_S = 0.5
SETTLE_S = 1.0
FROM_BROKER = "broker"
PART = ".part"
TRUST_FOLDER = "trust"
"""In the state directory: what was verified, and what the keeper makes."""


@dataclass(frozen=True)
class Standing:
    """What holds for the lane now.

    request: to be published for the owner, None to take it back; fault: code of what is wrong with trust, None if
    nothing; aim_picture: as the owner allows it; model_folder: the bundle to read with, None for the shipped one.
    """

    sealer: Sealer
    collectors: tuple[PublicKey, ...]
    certificate_file: Path
    request: bytes | None
    fault: str | None
    aim_picture: bool
    model_folder: Path | None = None

    @property
    def version(self) -> int:
        """Of the policy in force."""
        return self.sealer.trust_version

    @property
    def certified_until(self) -> datetime.datetime | None:
        """When the certificate that the lane shows ends; None if it can't be read."""
        try:
            shown = parse_certificate(self.certificate_file.read_bytes())
        except OSError:
            return None
        return None if shown is None else shown.not_valid_after_utc


class Keeper:
    """One lane's. `directory` holds what it is given and makes: a renewed certificate, later signing keys.

    Raises KeyFileError for keys that can't be read.
    """

    def __init__(
        self,
        lane: str,
        trust: Trust,
        carries: Carrier,
        signer: Signer,
        directory: Path,
        *,
        tls_key_file: Path,
        certificate_file: Path,
        refresh_s: float,
    ) -> None:
        self._lane = lane
        self._trust = trust
        self._carrier = carries
        self._directory = directory
        self._tls_key = tls_public(tls_key_file)
        self._certificate_file = certificate_file
        self._refresh_s = refresh_s
        self._renewed_file = directory / "certificate.pem"
        self._models = directory / "models"
        self._signers = signers_of(signer, directory)
        self._came = threading.Event()
        self._fault: str | None = None

    @property
    def carried(self) -> Callable[[str, bytes], None] | None:
        """Takes the files that come as retained messages, from any thread; None if they come another way."""
        return self._take if isinstance(self._carrier, RetainedCarrier) else None

    def connected(self) -> None:
        """Retained messages come anew: junk that is no longer one of them must not be held for ever. For any thread."""
        if isinstance(self._carrier, RetainedCarrier):
            self._carrier.begin()
            self._came.set()

    def settle(self) -> None:
        """What came since `connected` is all of it."""
        if isinstance(self._carrier, RetainedCarrier):
            self._carrier.settle()

    def run(self, stop: threading.Event, alive: Callable[[], None], apply: Callable[[Standing], None]) -> None:
        """Step until `stop`: every `every_s`, and soon after files came, once no more come."""
        every_s = self._refresh_s
        at_latest = due = settled = time.monotonic()
        while not stop.is_set():
            alive()
            now = time.monotonic()
            if self._came.is_set():
                self._came.clear()
                settled = now + SETTLE_S
                due = min(at_latest, settled)
            if now >= due:
                if now >= settled:
                    self.settle()
                apply(self.step(datetime.datetime.now(datetime.UTC), alive))
                at_latest = due = time.monotonic() + every_s
            stop.wait(TICK_S)

    def step(self, now: datetime.datetime, alive: Callable[[], None] = lambda: None) -> Standing:
        """Refresh, and say what holds. TrustMissing if no policy was ever verified; other trouble is a fault.

        alive: called with each piece that comes.
        """
        if not (isinstance(self._carrier, RetainedCarrier) and self._carrier.empty):
            try:
                self._trust.refresh(_Lively(self._carrier, alive), now)
                self._renew(now)
                self._fetch_model()
                self._fault = None
            except TrustError as error:
                self._fault = error.code
        return self.standing(now, self._fault)

    def standing(self, now: datetime.datetime, fault: str | None = None) -> Standing:
        """What holds by what was verified last, without asking anybody. TrustMissing."""
        if self._trust.expired(now):
            fault = TrustExpired.code
        policy = self._trust.policy
        held = {one.public.kid: one for one in self._signers}
        allowed = [held[key.kid] for key in policy.lane_keys_at(self._lane, now) if key.kid in held]
        signer = allowed[-1] if allowed else self._signers[0]
        if not allowed:
            fault = fault or NotEnrolled.code
        try:
            request = self._request(signer)
        except KeyFileError as error:
            request, fault = None, fault or error.code
        return Standing(
            Sealer(self._lane, signer, policy.recipients_at(now), policy.version, recipients_at=policy.recipients_at),
            policy.collectors_at(now),
            self._renewed_file if self._renewed_file.exists() else self._certificate_file,
            request,
            fault,
            policy.aim_picture,
            self._model_folder,
        )

    def _take(self, name: str, data: bytes) -> None:
        """Only what this lane asks for: other lanes' certificates, or anybody's junk, must not take up the room."""
        mine = name in (f"targets/{CURRENT_POLICY}", f"targets/certificates/{self._lane}.pem")
        if isinstance(self._carrier, RetainedCarrier) and (mine or self._trust.asks_for(name)):
            self._carrier.put(name, data)
            self._came.set()

    def _request(self, signer: Signer) -> bytes | None:
        """What to ask of the owner: to enrol a key that it told this lane to make. A token's keys are made by hand."""
        policy = self._trust.policy
        lane = policy.lanes.get(self._lane)
        answered = {one.key.kid.hex() for one in (lane.keys if lane else ())} | {one.kid for one in policy.revoked}
        waiting = self._signers[-1].public.kid.hex() not in answered and len(self._signers) > 1
        if lane is not None and lane.rotate and not waiting and isinstance(signer, FileSigner):
            self._signers.append(FileSigner(make_later_key(self._directory, signer.public.type)))
            waiting = True
        return enrolment.make(self._lane, self._signers[-1], self._tls_key, old=signer) if waiting else None

    @property
    def _model_folder(self) -> Path | None:
        """The models to read with: until those that the policy names are here, the ones before. None: the shipped."""
        model = self._trust.policy.model
        if model is None:
            return None
        folder = self._models / model.name
        return folder if folder.exists() else next(iter(self._fetched()), None)

    def _fetched(self) -> list[Path]:
        return [folder for folder in self._models.glob("*") if folder.suffix != PART] if self._models.is_dir() else []

    def _fetch_model(self) -> None:
        """Bring the models that the policy names, whole or not at all, and only then forget those before."""
        model = self._trust.policy.model
        folder = None if model is None else self._models / model.name
        if model is not None and folder is not None and not folder.exists():
            self._fetch(model, folder)
        for other in self._fetched():
            if other != folder:
                self._forget_model(other)
        for part in self._models.glob(f"*{PART}"):
            shutil.rmtree(part, ignore_errors=True)
        self._trust.forget("models")  # they are kept in their folder

    def _forget_model(self, folder: Path) -> None:
        """A kill in the midst of it must not leave half a bundle under the name of a whole one."""
        part = folder.with_name(folder.name + PART)
        with suppress(OSError):
            shutil.rmtree(part, ignore_errors=True)
            folder.rename(part)

    def _fetch(self, model: ModelBundle, folder: Path) -> None:
        part = folder.with_name(folder.name + PART)
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            for file in model.files:
                content = self._trust.target(f"models/{model.name}/{file}")
                if content is None:
                    raise TrustRefused(f"the owner signed no {file} of model {model.name}")
                write_whole(part / file, content)
            part.rename(folder)
        except OSError as error:
            raise TrustUnkept(f"cannot write {folder}: {error.strerror}") from error

    def _renew(self, now: datetime.datetime) -> None:
        """Keep the certificate that the owner signed for this box's TLS key, if it is another one."""
        data = self._trust.target(f"certificates/{self._lane}.pem")
        if data is None:
            return
        offered = parse_certificate(data)
        if offered is None:
            return
        held = self._renewed_file if self._renewed_file.exists() else self._certificate_file
        with suppress(OSError):
            if held.read_bytes() == data:
                return
        if offered.public_key() == self._tls_key and offered.not_valid_before_utc <= now:
            write_whole(self._renewed_file, data)


@dataclass(frozen=True, slots=True)
class _Lively:
    """A carrier that gives a sign of life with each piece: a slow server must not look like a stage that hangs."""

    carries: Carrier
    alive: Callable[[], None]

    def fetch(self, name: str) -> Iterator[bytes] | None:
        pieces = self.carries.fetch(name)
        return None if pieces is None else self._passed_on(pieces)

    def _passed_on(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.alive()
            yield piece


def stand(settings: LaneConfig) -> tuple[Keeper | None, Standing]:
    """How a lane starts: with a keeper where lane.toml has a [trust] table, else for good with the keys it names.

    It starts with what was verified before, and asks nobody unless there is nothing. Raises KeyFileError, TrustError.
    """
    signer = custody.signer(settings.keys.signing_key_file)
    if settings.trust is None:
        readers = tuple(keys.load_public(path, Purpose.RECIPIENT) for path in settings.keys.recipient_files)
        collectors = tuple(keys.load_public(path, Purpose.SIGNING) for path in settings.keys.collector_files)
        sealer = Sealer(settings.lane.id, signer, readers)
        return None, Standing(sealer, collectors, settings.broker.certificate_file, None, None, aim_picture=False)
    directory = settings.state.directory / TRUST_FOLDER
    try:
        root = settings.trust.root_file.read_bytes()
    except OSError as error:
        raise TrustMissing(f"cannot read {settings.trust.root_file}: {error.strerror}") from error
    trust = Trust(directory, root)
    keeper = Keeper(
        settings.lane.id,
        trust,
        RetainedCarrier() if settings.trust.source == FROM_BROKER else carrier(settings.trust.source),
        signer,
        directory,
        tls_key_file=settings.broker.key_file,
        certificate_file=settings.broker.certificate_file,
        refresh_s=settings.trust.refresh_s,
    )
    now = datetime.datetime.now(datetime.UTC)
    return keeper, keeper.standing(now) if trust.version else keeper.step(now)


def signers_of(named: Signer, directory: Path) -> list[Signer]:
    """The signing keys of a box, the newest last: the one that lane.toml names, and those that were made to follow it.

    Beside one in a token none in a file counts: whoever names a token wants no key that can be copied.
    """
    if not isinstance(named, FileSigner):
        return [named]
    return [named, *(FileSigner(keys.load_private(path, Purpose.SIGNING)) for path in later_keys(directory))]


def later_keys(directory: Path) -> list[Path]:
    """The signing keys beside the one that lane.toml names, the newest last."""
    found: list[Path] = []
    while (path := directory / f"signing-{len(found) + 1}").with_suffix(".pub").exists():
        found.append(path)  # the public half is written last: without it the key was not finished
    return found


def make_later_key(directory: Path, kind: KeyType) -> PrivateKey:
    """One more signing key, the newest of `later_keys`."""
    path = directory / f"signing-{len(later_keys(directory)) + 1}"
    path.unlink(missing_ok=True)  # a power cut left it without its public half
    key = keys.make_signing_key(kind)
    keys.save(key, path)
    return key


def make_tls_key(key_file: Path) -> None:
    """A new TLS key in a file that is not there yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_whole(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def tls_public(key_file: Path) -> ec.EllipticCurvePublicKey:
    """The public half of a TLS key. KeyFileMissing, KeyFileMalformed, KeyFileExposed."""
    try:
        key = load_pem_private_key(keys.read(key_file, private=True).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileMalformed(f"{key_file} holds no TLS key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileMalformed(f"{key_file} holds no key on P-256")
    return key.public_key()
