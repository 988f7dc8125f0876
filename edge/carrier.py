"""Carriers bring the files of the owner's repository: a folder, a web server, retained messages. None is believed."""

import http.client
import io
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from edge.errors import TrustUnreachable, clean

MAX_CARRIED_BYTES = 20 << 20
"""More than all that a lane asks for takes, each file as long as a message may be."""
HTTP_TIMEOUT_S = 10.0
"""Longest wait for a web server: to connect, for the head of its answer, and for each CHUNK_BYTES of it."""
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

    def __str__(self) -> str:
        return str(self._directory)

    def fetch(self, name: str) -> Iterator[bytes] | None:
        path = (self._directory / name).resolve()
        if not path.is_relative_to(self._directory) or not path.is_file():  # opening a pipe would not return
            return None
        file = path.open("rb")
        return _pieces(file, file)


class HttpCarrier:
    """A copy of the repository on a web server. Follows no redirection."""

    def __init__(self, base_url: str) -> None:
        self._base = urlsplit(base_url.rstrip("/"))

    def __str__(self) -> str:
        return self._base.geturl()

    def fetch(self, name: str) -> Iterator[bytes] | None:
        kind = http.client.HTTPSConnection if self._base.scheme == "https" else http.client.HTTPConnection
        with ExitStack() as unless_read:
            try:
                connection = kind(self._base.netloc, timeout=HTTP_TIMEOUT_S)
                connection.response_class = _Answer
                unless_read.callback(connection.close)
                connection.request("GET", f"{self._base.path}/{name}", headers={"User-Agent": "sealane"})
                answer = unless_read.enter_context(connection.getresponse())
            except http.client.HTTPException as error:
                raise OSError("the server's answer is no HTTP") from error
            if answer.status == 200:
                return _pieces(answer, unless_read.pop_all())
            if answer.status in (403, 404):
                return None
            raise OSError(f"the server answers with status {answer.status}")


class RetainedCarrier:
    """What came as retained messages under the trust topic. Any thread may `put`; what is carried is bounded.

    A new connection's files, between `begin` and `settle`, are collected beside those of the one before, which are
    carried until then: a part of them says nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, bytes] = {}
        self._coming: dict[str, bytes] | None = None

    def put(self, name: str, data: bytes) -> None:
        """Take a file; an empty one is taken away. More than fits is dropped: the next refresh says what lacks."""
        with self._lock:
            files = self._files if self._coming is None else self._coming
            files.pop(name, None)
            held = sum(map(len, files.values()))
            if data and held + len(data) <= MAX_CARRIED_BYTES:
                files[name] = data

    def begin(self) -> None:
        """A new connection: the broker sends all that it retains once more."""
        with self._lock:
            self._coming = {}

    def settle(self) -> None:
        """No more is to come for now: forget what came before `begin`, if anything came since."""
        with self._lock:
            if self._coming:
                self._files, self._coming = self._coming, None

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
    """The carrier for a folder or an http(s) address. TrustUnreachable for what can be neither.

    An address with a user in it is refused: none is sent, and the password would stand wherever the address is shown.
    """
    address = source.startswith(("http://", "https://"))
    if address and "@" in source:
        raise TrustUnreachable("the address of a repository has no @ (%40 in its path): no user or password is sent")
    try:
        return HttpCarrier(source) if address else DirectoryCarrier(Path(source))
    except ValueError as error:
        raise TrustUnreachable(f"{clean(source)} is no folder and no address") from error


def _pieces(file: IO[bytes] | http.client.HTTPResponse, held: AbstractContextManager[object]) -> Iterator[bytes]:
    with held:
        while piece := file.read(CHUNK_BYTES):
            yield piece


class _Answer(http.client.HTTPResponse):
    """Its head, and then each of its pieces, must be there within HTTP_TIMEOUT_S."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._timed = _Timed(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._timed)

    def read(self, amt: int | None = None) -> bytes:
        self._timed.restart()
        try:
            piece = super().read(amt)
        except http.client.HTTPException as error:
            raise OSError("the server's answer is no HTTP, or ends too soon") from error
        if not piece and self.length:
            raise OSError("the server's answer ends too soon")
        return piece

    def _read_next_chunk_size(self) -> int:
        """http.client takes a size below zero for one, and -1 for all there is; ValueError is its word for malformed.

        It keeps this function to itself: the tests say if it is gone.
        """
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk of a negative size")
        return size


class _Timed(io.RawIOBase):
    """A socket's bytes until a deadline: the socket's own timeout begins anew with every byte that drips in."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        self.restart()

    def restart(self) -> None:
        self._deadline = time.monotonic() + HTTP_TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the server is too slow")
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
