"""Which keys a lane may sign with: the port that collector, tail and audit ask, and its simplest answer, a folder."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edge import logs
from edge.errors import KeyFileError, KeyFileMissing, LaneForeign, MessageAltered, MessageMoved, SealError, clean
from edge.seal import envelope, keys
from edge.seal.envelope import Envelope
from edge.seal.keys import PublicKey, Purpose

RESCAN_S = 2.0
FILE_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,31})(\.[^.]{1,64})?\.pub")
MAX_KEYS = 10_000

log = logging.getLogger(__name__)


class LaneKeys(Protocol):
    """The port: who may sign for whom."""

    def of(self, lane: str) -> Sequence[PublicKey]:
        """The keys enrolled for `lane`, none if it is unknown."""


class KeyDirectory:
    """LANE.pub in a folder, and LANE.ANYTHING.pub for further keys of the same lane.

    Changes are taken up while running; a file that can't be read then leaves everything as it was, and is logged. At
    the start it raises KeyFileError.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looked_at = 0.0
        self._state: tuple[tuple[str, int], ...] = ()
        self._keys: Mapping[str, tuple[PublicKey, ...]] = {}
        self._read(self._files())

    def of(self, lane: str) -> Sequence[PublicKey]:
        if time.monotonic() - self._looked_at > RESCAN_S:
            try:
                self._read(self._files())
            except KeyFileError as error:
                logs.error(log, error)
        return self._keys.get(lane, ())

    @property
    def lanes(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def _files(self) -> list[Path]:
        self._looked_at = time.monotonic()
        try:
            found = sorted(path for path in self._directory.iterdir() if FILE_NAME.fullmatch(path.name))
        except OSError as error:
            raise KeyFileMissing(f"cannot read the folder {self._directory}: {error.strerror}") from error
        if len(found) > MAX_KEYS:
            raise KeyFileMissing(f"{self._directory} holds more than {MAX_KEYS} keys")
        return found

    def _read(self, files: list[Path]) -> None:
        state = tuple((path.name, path.stat().st_mtime_ns) for path in files)
        if state == self._state:
            return
        by_lane: dict[str, tuple[PublicKey, ...]] = {}
        for path in files:
            lane = path.name.split(".")[0]
            by_lane[lane] = (*by_lane.get(lane, ()), keys.load_public(path, Purpose.SIGNING))
        self._keys, self._state = by_lane, state


def admit(lane: str, data: bytes, lane_keys: LaneKeys) -> Envelope:
    """The message that came as `lane`'s, verified: well formed, of that lane, signed with one of its keys.

    Raises LaneForeign, MessageMoved, MessageAltered.
    """
    shown = clean(lane, 32)
    try:
        message = envelope.parse(data)
    except SealError as error:
        raise MessageAltered(f"from {shown}: {error}") from error
    if message.header.lane != lane:
        raise MessageMoved(f"a message of {message.header.lane} came as one of {shown}")
    key = next((key for key in lane_keys.of(lane) if key.kid == message.kid), None)
    if key is None:
        raise LaneForeign(f"{shown} with key {keys.fingerprint(message.kid)}")
    try:
        envelope.verify(message, key)
    except SealError as error:
        raise MessageAltered(f"from {shown}: {error}") from error
    return message
