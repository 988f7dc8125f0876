"""Trust: what the data's owner signed about who may read, who may confirm, which lanes there are. A TUF client.

The owner's repository is plain files under `metadata/` and `targets/`; anybody may carry them (`Carrier`), nobody else
can sign them. What was verified last is kept here, so that a lane goes on sealing for its recipients when the metadata
expires or nobody brings new one; the one thing it then refuses is to believe anything older.
"""

import datetime
import http.client
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.functional_validators import BeforeValidator
from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge.errors import (
    KeyFileError,
    PolicyMalformed,
    TrustClock,
    TrustExpired,
    TrustMissing,
    TrustRefused,
    TrustUnreachable,
    clean,
)
from edge.seal import keys
from edge.seal.keys import PublicKey, Purpose

CURRENT_POLICY = "policy/current"
MAX_POLICY_BYTES = 1 << 20
MAX_ROOT_BYTES = 256 << 10
MAX_METADATA_BYTES = 1 << 20
MAX_ROOT_ROTATIONS = 64
MAX_TARGET_BYTES = 64 << 20
MAX_CARRIED_FILES = 1024
MAX_CARRIED_BYTES = 16 << 20
HTTP_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 << 10


# --- the policy -----------------------------------------------------------------------------------------------------


def _key_of(purpose: Purpose) -> object:
    def parse(value: object) -> PublicKey:
        if isinstance(value, PublicKey):
            return value
        try:
            return keys.parse_public(str(value), purpose)
        except KeyFileError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(parse)


_as_pem = PlainSerializer(lambda key: key.pem())
SigningKey = Annotated[PublicKey, _key_of(Purpose.SIGNING), _as_pem]
RecipientKey = Annotated[PublicKey, _key_of(Purpose.RECIPIENT), _as_pem]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Validity(_Part):
    """When a key counts: from `since` until before `until`; None is open."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    note: str = Field("", max_length=200)

    def holds(self, at: datetime.datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


class Recipient(Validity):
    key: RecipientKey


class Collector(Validity):
    key: SigningKey


class LaneKey(Validity):
    key: SigningKey


class Lane(_Part):
    """keys: those the lane may sign with; epochs: beginnings without a link that the owner knows of, in hex; rotate:
    the lane shall make itself a new key and ask for it."""

    keys: tuple[LaneKey, ...] = Field(max_length=16)
    epochs: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...] = Field((), max_length=256)
    rotate: bool = False


class Revocation(_Part):
    """A key that counts for nothing that was signed from `at` on."""

    kid: str = Field(pattern=r"^[0-9a-f]{32}$")
    at: AwareDatetime
    reason: str = Field("", max_length=200)


class ModelBundle(_Part):
    """The models that lanes read plates with: targets `models/NAME/FILE`. The name changes with the content."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    files: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], ...] = Field(max_length=8)


class Terms(_Part):
    """What a policy says."""

    recipients: tuple[Recipient, ...] = Field((), max_length=32)
    collectors: tuple[Collector, ...] = Field((), max_length=64)
    lanes: dict[str, Lane] = Field({}, max_length=10_000)
    revoked: tuple[Revocation, ...] = Field((), max_length=10_000)
    aim_picture: bool = False
    """Whether a technician may see the mosaic of `sealane aim --picture`."""
    model: ModelBundle | None = None
    """None: the models that come with the software."""

    def revokes(self, key: PublicKey, at: datetime.datetime) -> bool:
        return any(one.kid == key.kid.hex() and one.at <= at for one in self.revoked)


class Policy(Terms):
    """One edition of the owner's word. Append-only: a record names the edition (`version`) that it was sealed under."""

    version: int = Field(ge=1)
    issued: AwareDatetime
    recipients: tuple[Recipient, ...] = Field(min_length=1, max_length=32)

    def recipients_at(self, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Whom to seal for. If none holds at that time, those that held last: a record must never have no reader."""
        holding = [one.key for one in self.recipients if one.holds(at) and not self.revokes(one.key, at)]
        if holding:
            return tuple(holding)
        kept = [one for one in self.recipients if not self.revokes(one.key, at)] or list(self.recipients)
        last = max((one.until or at for one in kept), default=at)
        return tuple(one.key for one in kept if (one.until or at) == last)

    def collectors_at(self, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Whose receipts count."""
        return tuple(one.key for one in self.collectors if one.holds(at) and not self.revokes(one.key, at))

    def lane_keys_at(self, lane: str, at: datetime.datetime) -> tuple[PublicKey, ...]:
        """Which keys `lane` may sign with."""
        enrolled = self.lanes.get(lane)
        if enrolled is None:
            return ()
        return tuple(one.key for one in enrolled.keys if one.holds(at) and not self.revokes(one.key, at))

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


def parse_policy(data: bytes) -> Policy:
    """The policy in a target file. PolicyMalformed, naming the fields that are wrong."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyMalformed(f"{len(data)} bytes, more than {MAX_POLICY_BYTES}")
    try:
        return Policy.model_validate_json(data)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, item['loc']))}: {clean(item['msg'])}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise PolicyMalformed("; ".join(clean(what) for what in wrong[:5])) from error


# --- carriers -------------------------------------------------------------------------------------------------------


class Carrier(Protocol):
    """The port: brings files of the repository. It is believed in nothing."""

    def fetch(self, name: str) -> Iterator[bytes] | None:
        """The file `name` ("metadata/timestamp.json", "targets/policy/current") in pieces; None if it is not there.

        Raises OSError when it can't say.
        """


class DirectoryCarrier:
    """A copy of the repository in a folder: a USB stick, a network share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def fetch(self, name: str) -> Iterator[bytes] | None:
        path = (self._directory / name).resolve()
        if not path.is_relative_to(self._directory):
            return None
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        return _pieces(file)


class HttpCarrier:
    """A copy of the repository on a web server."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

    def fetch(self, name: str) -> Iterator[bytes] | None:
        request = urllib.request.Request(f"{self._base_url}/{name}", headers={"User-Agent": "sealane"})  # noqa: S310
        try:
            return _pieces(urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S))  # noqa: S310 - TUF judges content
        except urllib.error.HTTPError as error:
            if error.code in (403, 404):
                return None
            raise
        except http.client.HTTPException as error:
            raise OSError("the server's answer is no HTTP") from error


class RetainedCarrier:
    """What came as retained messages under the trust topic. Any thread may `put`; what is carried is bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Take a file; an empty one is taken away. More than fits is dropped: the next refresh says what lacks."""
        with self._lock:
            self._files.pop(name, None)
            held = sum(map(len, self._files.values()))
            if data and len(self._files) < MAX_CARRIED_FILES and held + len(data) <= MAX_CARRIED_BYTES:
                self._files[name] = data

    @property
    def empty(self) -> bool:
        """Whether nothing came yet."""
        with self._lock:
            return not self._files

    def fetch(self, name: str) -> Iterator[bytes] | None:
        with self._lock:
            data = self._files.get(name)
        return None if data is None else iter((data,))


def carrier(source: str) -> DirectoryCarrier | HttpCarrier:
    """The carrier for a folder or an http(s) address."""
    return HttpCarrier(source) if source.startswith(("http://", "https://")) else DirectoryCarrier(Path(source))


def _pieces(file: IO[bytes] | http.client.HTTPResponse) -> Iterator[bytes]:
    with file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


# --- the client -----------------------------------------------------------------------------------------------------


class _Kept(_Part):
    """floor: the time of the last refresh, which the clock must not be below; expires: when the metadata does."""

    floor: AwareDatetime | None = None
    expires: AwareDatetime | None = None


class Trust:
    """The owner's word as it was last verified, kept in `directory`. `root`: the owner's first root metadata.

    Raises TrustMissing if the directory can't be used.
    """

    def __init__(self, directory: Path, root: bytes) -> None:
        self._directory = directory
        self._root = root
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._policy_data = _read(directory / "policy.json")
            self._kept = _Kept.model_validate_json(_read(directory / "state.json") or b"{}")
        except (OSError, ValidationError) as error:
            raise TrustMissing(f"cannot use the trust directory {directory}") from error
        self._fresh: Updater | None = None
        self._policy = parse_policy(self._policy_data) if self._policy_data else None

    @property
    def policy(self) -> Policy:
        """The last verified policy. TrustMissing if there never was one."""
        if self._policy is None:
            raise TrustMissing("no policy of the owner was ever verified here")
        return self._policy

    @property
    def version(self) -> int:
        """Of the last verified policy; 0 without one."""
        return 0 if self._policy is None else self._policy.version

    def expired(self, now: datetime.datetime) -> bool:
        """Whether the owner has been silent for too long: the policy still counts, but somebody must look."""
        return self._kept.expires is None or now >= self._kept.expires

    def refresh(self, carrier: Carrier, now: datetime.datetime) -> bool:
        """Verify what `carrier` brings; True if the policy is another one now.

        Raises TrustClock, TrustUnreachable, TrustExpired, TrustRefused, PolicyMalformed; then all is as it was before.
        """
        if self._kept.floor is not None and now < self._kept.floor:
            then = f"{self._kept.floor:%Y-%m-%d %H:%M}"
            raise TrustClock(f"the clock says {now:%Y-%m-%d %H:%M}, and it has been {then} before")
        updater = self._updater(carrier)
        with _translated():
            updater.refresh()
        data = self._target(updater, CURRENT_POLICY)
        if data is None:
            raise TrustRefused("the owner's repository names no policy")
        policy = parse_policy(data)
        if policy.version < self.version or (policy.version == self.version and data != self._policy_data):
            raise TrustRefused(f"policy {policy.version} came after policy {self.version} had been verified")
        changed = policy.version != self.version
        self._kept = _Kept(floor=now, expires=_expiry(self._directory / "metadata"))
        write_whole(self._directory / "policy.json", data)
        write_whole(self._directory / "state.json", self._kept.model_dump_json().encode())
        self._policy, self._policy_data, self._fresh = policy, data, updater
        return changed

    def target(self, name: str) -> bytes | None:
        """A file that the owner signed (a certificate, a model), as of the last `refresh`; None if there is none.

        Raises TrustMissing without a refresh, TrustUnreachable, TrustRefused.
        """
        if self._fresh is None:
            raise TrustMissing("nothing was refreshed yet")
        return self._target(self._fresh, name)

    def _updater(self, carrier: Carrier) -> Updater:
        config = UpdaterConfig(
            max_root_rotations=MAX_ROOT_ROTATIONS,
            max_delegations=1,
            root_max_length=MAX_ROOT_BYTES,
            timestamp_max_length=MAX_ROOT_BYTES,
            snapshot_max_length=MAX_METADATA_BYTES,
            targets_max_length=MAX_METADATA_BYTES,
        )
        metadata, targets = self._directory / "metadata", self._directory / "targets"
        with _translated():
            for folder in (metadata, targets):
                folder.mkdir(mode=0o700, exist_ok=True)
            return _Client(
                str(metadata), "metadata/", str(targets), "targets/", _Fetcher(carrier), config, bootstrap=self._root
            )

    @staticmethod
    def _target(updater: Updater, name: str) -> bytes | None:
        with _translated():
            info = updater.get_targetinfo(name)
            if info is None:
                return None
            if info.length > MAX_TARGET_BYTES:
                raise TrustRefused(f"{name} has {info.length} bytes, more than {MAX_TARGET_BYTES}")
            path = updater.find_cached_target(info) or updater.download_target(info)
            return Path(path).read_bytes()


class _Client(Updater):
    """python-tuf's client, with a copy of the newest root in place of a symbolic link: a confined lane makes none."""

    def _update_root_symlink(self) -> None:
        newest = Path(self._dir, "root_history", f"{self._trusted_set.root.version}.root.json")
        self._persist_file(str(Path(self._dir, "root.json")), newest.read_bytes())


class _Fetcher(FetcherInterface):
    """A carrier, as python-tuf asks for it. Nothing is put into a temporary file: the lane may write nowhere else."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    def _fetch(self, url: str) -> Iterator[bytes]:
        pieces = self._carrier.fetch(url)
        if pieces is None:
            raise tuf.DownloadHTTPError(f"{url} is not there", 404)
        return pieces

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        content = BytesIO()
        for piece in self.fetch(url):
            if content.tell() + len(piece) > max_length:
                raise tuf.DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
            content.write(piece)
        content.seek(0)
        yield content


@contextmanager
def _translated() -> Iterator[None]:
    """python-tuf's errors as ours. What is quoted of them are names and numbers of metadata."""
    try:
        yield
    except tuf.ExpiredMetadataError as error:
        raise TrustExpired(clean(error)) from error
    except (tuf.DownloadLengthMismatchError, tuf.RepositoryError) as error:
        raise TrustRefused(clean(error)) from error
    except (tuf.DownloadError, OSError) as error:
        raise TrustUnreachable(clean(error)) from error


def _expiry(metadata: Path) -> datetime.datetime:
    """When the first of the metadata expires."""
    roles = ("root", "timestamp", "snapshot", "targets")
    return min(Metadata.from_file(str(metadata / f"{role}.json")).signed.expires for role in roles)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, readable by the service only."""
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
