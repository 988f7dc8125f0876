"""Trust: the owner's signed word, verified. A TUF client over any carrier.

The owner's repository is plain files under `metadata/` and `targets/`; anybody may carry them (`edge.carrier`), nobody
else can sign them. What was verified last is kept here, so that a lane goes on sealing for its recipients when the
metadata expires or nobody brings new one; the one thing it then refuses is to believe anything older.
"""

import datetime
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pydantic import AwareDatetime, ValidationError
from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge.carrier import Carrier
from edge.errors import TrustClock, TrustExpired, TrustMissing, TrustRefused, TrustUnkept, TrustUnreachable, clean
from edge.policy import Part, Policy, parse_policy

CURRENT_POLICY = "policy/current"
ROOTS = "root_history"
"""Where python-tuf keeps all roots that it verified, beside the other metadata."""
MAX_ROOT_BYTES = 256 << 10
MAX_METADATA_BYTES = 1 << 20
MAX_ROOT_ROTATIONS = 64
MAX_TARGET_BYTES = 64 << 20


class _Kept(Part):
    """floor: the time of the last refresh, which the clock must not be below; expires: when the metadata does."""

    floor: AwareDatetime | None = None
    expires: AwareDatetime | None = None


class Trust:
    """The owner's word as it was last verified, kept in `directory`. `root`: one of the owner's roots, to begin with.

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
        self._client: Updater | None = None
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

    @property
    def fresh_until(self) -> datetime.datetime | None:
        """From when on it is `expired`; None if nothing was ever verified."""
        return self._kept.expires

    def refresh(self, carrier: Carrier, now: datetime.datetime, *, archive: bool = False) -> bool:
        """Verify what `carrier` brings; True if the policy is another one now.

        archive: take metadata that expired too, for those who judge what was. A lane or a collector never does: with it
        whoever carries the files could keep the owner's newer word away for ever.

        Raises TrustClock, TrustUnreachable, TrustExpired, TrustRefused, PolicyMalformed, TrustUnkept; then what was in
        force still is.
        """
        updater = self._client = self._updater(carrier, archive=archive)
        if self._kept.floor is not None and now < self._kept.floor:
            then = f"{self._kept.floor:%Y-%m-%d %H:%M}"
            raise TrustClock(f"the clock says {now:%Y-%m-%d %H:%M}, and it has been {then} before")
        with _translated():
            updater.refresh()
        data = self.target(CURRENT_POLICY)
        if data is None:
            raise TrustRefused("the owner's repository names no policy")
        policy = parse_policy(data)
        if policy.version < self.version or (policy.version == self.version and data != self._policy_data):
            raise TrustRefused(f"policy {policy.version} came after policy {self.version} had been verified")
        changed = policy.version != self.version
        kept = _Kept(floor=now, expires=_expiry(self._directory / "metadata"))
        write_whole(self._directory / "policy.json", data)
        write_whole(self._directory / "state.json", kept.model_dump_json().encode())
        self._kept, self._policy, self._policy_data = kept, policy, data
        return changed

    def leads_to(self, root: bytes, carrier: Carrier) -> bool:
        """Whether `root` is the one begun with, or was verified to follow it, here or by what `carrier` brings.

        TrustUnreachable.
        """
        try:
            client = self._updater(carrier, archive=False)
        except TrustRefused:  # the one begun with is damaged: it leads nowhere
            return False
        with suppress(TrustRefused), _translated():
            client.load_roots()
        verified = range(self._first_root, client.root_version + 1)  # the lane's user may have put others beside them
        history = self._directory / "metadata" / ROOTS
        with _translated():
            return any((history / f"{version}.root.json").read_bytes() == root for version in verified)

    def asks_for(self, name: str) -> bool:
        """Whether `refresh` may ask a carrier for this file of metadata."""
        root = re.fullmatch(r"metadata/([1-9][0-9]{0,8})\.root\.json", name)
        if root is None:
            return name in ("metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json")
        return 0 < int(root[1]) - self._first_root <= MAX_ROOT_ROTATIONS

    @cached_property
    def _first_root(self) -> int:
        try:
            return Metadata.from_bytes(self._root).signed.version
        except tuf.RepositoryError:  # damaged: `refresh` says so, and asks for nothing
            return 0

    def target(self, name: str, *, fetch: bool = True) -> bytes | None:
        """A file that the owner signed (a certificate, a model) by the metadata verified last; None if there is none.

        It is kept here once it was asked for. fetch: else ask the carrier of the last `refresh`, even of one that
        failed. Raises TrustMissing without any, TrustUnreachable, TrustRefused.
        """
        listing = self._directory / "metadata" / "targets.json"
        if self._client is None or not listing.exists():
            raise TrustMissing("nothing was refreshed yet")
        with _translated():
            info = Metadata[Targets].from_bytes(listing.read_bytes()).signed.targets.get(name)
            if info is None:
                return None
            if info.length > MAX_TARGET_BYTES:
                raise TrustRefused(f"{name} has {info.length} bytes, more than {MAX_TARGET_BYTES}")
            path = self._client.find_cached_target(info)
            if path is None and not fetch:
                raise TrustUnreachable(f"{name} is not kept here")
            return Path(path or self._client.download_target(info)).read_bytes()

    def forget(self, folder: str) -> None:
        """Keep what `target` brought of this folder no longer."""
        for path in (self._directory / "targets").glob(quote(f"{folder}/", safe="") + "*"):
            with suppress(OSError):
                path.unlink()

    def _updater(self, carrier: Carrier, *, archive: bool) -> "_Client":
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
            client = _Client(
                str(metadata), "metadata/", str(targets), "targets/", _Fetcher(carrier), config, bootstrap=self._root
            )
            if archive:
                client.forget_the_time()
            return client


class _Client(Updater):
    """python-tuf's client, with a copy of the newest root in place of a symbolic link: a confined lane makes none."""

    def forget_the_time(self) -> None:
        """Judge the metadata's dates by a time before all of them."""
        self._trusted_set.reference_time = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    def load_roots(self) -> None:
        """Verify and keep each root that follows those before it, and nothing else."""
        self._load_root()

    @property
    def root_version(self) -> int:
        """Of the newest that was verified."""
        return int(self._trusted_set.root.version)

    def _update_root_symlink(self) -> None:
        newest = Path(self._dir, ROOTS, f"{self.root_version}.root.json")
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


def check_root(data: bytes) -> None:
    """TrustRefused unless it is root metadata, signed with its own keys.

    Who becomes another user (edge/user.py) asks before: what reads and verifies metadata is imported when it first
    does, from where that user may not be able to.
    """
    with _translated():
        root = Metadata[Root].from_bytes(data)
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)


@contextmanager
def _translated() -> Iterator[None]:
    """python-tuf's errors as ours. What is quoted are names and numbers of metadata, and a carrier's words."""
    try:
        yield
    except tuf.ExpiredMetadataError as error:
        raise TrustExpired(clean(error)) from error
    except (tuf.DownloadLengthMismatchError, tuf.RepositoryError) as error:
        raise TrustRefused(clean(error)) from error
    except (tuf.DownloadError, OSError) as error:
        why = f": {clean(error.__cause__)}" if str(error.__cause__ or "") else ""  # which python-tuf keeps to itself
        raise TrustUnreachable(clean(error) + why) from error


def _expiry(metadata: Path) -> datetime.datetime:
    """When the first of the metadata expires."""
    roles = ("root", "timestamp", "snapshot", "targets")
    return min(Metadata.from_file(str(metadata / f"{role}.json")).signed.expires for role in roles)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, readable by the service only. TrustUnkept."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two programs may keep their trust in one folder
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise TrustUnkept(f"cannot write {path}: {error.strerror}") from error
