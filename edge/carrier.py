"""Carriers bring the files of the owner's repository: a folder, a web server, retained messages. None is believed."""

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

MAX_CARRIED_FILES = 1024
MAX_CARRIED_BYTES = 16 << 20
HTTP_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 << 10


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
