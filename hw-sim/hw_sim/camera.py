"""An IP camera's web server: MJPEG as multipart/x-mixed-replace, a snapshot, and basic authentication if asked for.

Frames are made only while somebody watches; a slow client misses frames, it never delays others.
"""

import base64
import contextlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edge.errors import SimPortTaken

STREAM_PATH = "/video.mjpg"
SNAPSHOT_PATH = "/snapshot.jpg"
BOUNDARY = "frame"
MAX_CLIENTS = 8
SEND_TIMEOUT_S = 5.0
FRAME_TIMEOUT_S = 2.0


class Shutter:
    """Makes frames at a steady rate while there are watchers, and hands each watcher the newest."""

    def __init__(self, expose: Callable[[], bytes], fps: float) -> None:
        """`expose()` makes the JPEG of this moment; it is called in one thread only."""
        self._expose = expose
        self._period_s = 1 / fps
        self._changed = threading.Condition()
        self._watchers = 0
        self._number = 0
        self._frame = b""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shutter", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within this, frames are made."""
        with self._changed:
            self._watchers += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1

    def close(self) -> None:
        """No frame is made after this."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def watchers(self) -> int:
        return self._watchers

    def after(self, number: int) -> tuple[int, bytes] | None:
        """The newest frame and its number, once that is larger than `number`; None if none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._number > number, FRAME_TIMEOUT_S):
                return None
            return self._number, self._frame

    @property
    def number(self) -> int:
        return self._number

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watchers or self._closed)
                if self._closed:
                    return
            now = time.monotonic()
            due = max(due + self._period_s, now - self._period_s)
            time.sleep(max(0.0, due - now))
            frame = self._expose()
            with self._changed:
                self._number += 1
                self._frame = frame
                self._changed.notify_all()


class CameraServer:
    """The camera on the network. `credentials`: "user:password" or None."""

    def __init__(self, shutter: Shutter, host: str, port: int, credentials: str | None = None) -> None:
        """Raises SimPortTaken."""
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise SimPortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self._server.shutter = shutter
        self._server.authorization = (
            None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()
        )
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="camera", daemon=True).start()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}{STREAM_PATH}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    shutter: Shutter
    authorization: str | None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "hw-sim"
    sys_version = ""
    timeout = SEND_TIMEOUT_S

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):  # a client that leaves ends its request
            self._answer()

    def _answer(self) -> None:
        wanted = self.server.authorization
        if wanted is not None and not hmac.compare_digest(self.headers.get("Authorization", ""), wanted):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.server.shutter.watchers >= MAX_CLIENTS:
            self.send_error(503)
        elif self.path == STREAM_PATH:
            self._stream()
        elif self.path == SNAPSHOT_PATH:
            self._snapshot()
        else:
            self.send_error(404)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        shutter = self.server.shutter
        with shutter.watching():
            number = shutter.number
            while (newest := shutter.after(number)) is not None:
                number, frame = newest
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                self.wfile.write(head.encode() + frame + b"\r\n")

    def _snapshot(self) -> None:
        shutter = self.server.shutter
        with shutter.watching():
            newest = shutter.after(shutter.number)
        if newest is None:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(newest[1])))
        self.end_headers()
        self.wfile.write(newest[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A camera keeps no diary."""
