"""The web carrier against servers that are out to hold a lane up, or to bring it down."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from edge.carrier import HttpCarrier

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[HttpCarrier]:
    """A carrier whose server answers one request with `answer`."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):  # the carrier may hang up
            connection.recv(4096)
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield HttpCarrier(f"http://127.0.0.1:{listening.getsockname()[1]}/owner")
        thread.join(5)
        assert not thread.is_alive()


def fetched(carrier: HttpCarrier) -> bytes | None:
    pieces = carrier.fetch("metadata/timestamp.json")
    return None if pieces is None else b"".join(pieces)


@pytest.mark.parametrize(
    ("sent", "brought"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (OK + b"\r\nabc", b"abc"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", None),
    ],
)
def test_a_file_comes_whole_or_is_not_there(sent: bytes, brought: bytes | None) -> None:
    with server(lambda connection: connection.sendall(sent)) as carrier:
        assert fetched(carrier) == brought


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Transfer-Encoding: chunked\r\n\r\n100\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc",
        OK + b"Content-Length: 100\r\n\r\nabc",
        b"\xff\xff\r\n\r\n",
        b"",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_short_or_none_is_an_error_that_a_carrier_may_raise(sent: bytes) -> None:
    with server(lambda connection: connection.sendall(sent)) as carrier, pytest.raises(OSError):
        fetched(carrier)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", OK + b"Content-Length: 100000\r\n\r\n"])
def test_an_answer_that_drips_is_given_up(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.carrier.HTTP_TIMEOUT_S", 0.3)

    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(30):
            connection.sendall(b"x")
            time.sleep(0.05)

    began = time.monotonic()
    with server(drip) as carrier, pytest.raises(OSError):
        fetched(carrier)
    assert time.monotonic() - began < 1.4
