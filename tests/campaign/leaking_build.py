"""`sealane` with a leak in it, which prove_no_images.py must catch: what somebody might do to "just have a look".

python -m tests.campaign.leaking_build KIND run --config lane.toml     with LEAK_TO: state directory, or a TCP port
"""

import base64
import mmap
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge import frames
from edge.__main__ import main
from edge.mqtt import Publication
from edge.outbox import Sealed
from edge.publisher import Publisher

DEBUG_FILE = "debug.pgm"


def write(frame: bytes, to: str) -> None:
    """A plain file."""
    Path(to, DEBUG_FILE).write_bytes(frame)


def map_file(frame: bytes, to: str) -> None:
    """A file that is never written to, only mapped."""
    with Path(to, DEBUG_FILE).open("w+b") as file:
        file.truncate(len(frame))
        with mmap.mmap(file.fileno(), len(frame)) as mapped:
            mapped[:] = frame


def delete(frame: bytes, to: str) -> None:
    """A file that is gone before anybody looks for it."""
    path = Path(to, DEBUG_FILE)
    with path.open("wb") as file:
        path.unlink()
        file.write(frame)
        file.flush()
        os.fsync(file.fileno())


def log(frame: bytes, to: str) -> None:
    """Text in the log."""
    print("debug frame", base64.b64encode(frame).decode(), file=sys.stderr)


def connect(frame: bytes, to: str) -> None:
    """A socket of its own."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(to)), timeout=1) as elsewhere:
        elsewhere.sendall(frame)


def publish(frame: bytes, to: str) -> None:
    """A label on the records that are sent anyway."""
    debug = ("debug", base64.b64encode(frame[:600]).decode())

    def message(self: Publisher, sealed: Sealed) -> Publication:
        publication = _message(self, sealed)
        return replace(publication, labels=(*publication.labels, debug))

    Publisher._message = message  # type: ignore[method-assign]


_message = Publisher._message
LEAKS: dict[str, Callable[[bytes, str], None]] = {
    "write": write,
    "map": map_file,
    "delete": delete,
    "log": log,
    "connect": connect,
    "publish": publish,
}


def leaking(decode: Callable[..., Any], leak: Callable[[bytes, str], None], to: str) -> Callable[..., Any]:
    def decoded(self: frames.FrameDecoder, lease: Any) -> Any:
        picture = decode(self, lease)
        leak(picture.tobytes(), to)
        return picture

    return decoded


if __name__ == "__main__":
    kind = sys.argv.pop(1)
    for name in ("grey", "colour"):
        decode = getattr(frames.FrameDecoder, name)
        setattr(frames.FrameDecoder, name, leaking(decode, LEAKS[kind], os.environ["LEAK_TO"]))
    main()
