"""The page of `sealane aim --picture`: served on 127.0.0.1 by the command, not by the daemon; drawn by the browser.

The page's address holds a token that only who started it knows. Everything is sent with no-store, and a request whose
Host is not this machine is refused (a foreign page that points its name here could read along otherwise).
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from edge.aim.gauge import GAUGES
from edge.errors import AimPage, SealaneError

TOKEN_BYTES = 16
REQUEST_TIMEOUT_S = 5.0
POLL_S = 0.05
FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}


@contextmanager
def serve(port: int, view: Callable[[], dict[str, Any]]) -> Iterator[str]:
    """Serve the page while entered; gives its address. `view` is asked at each refresh. Raises AimPage."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(token, view))
    except OSError as error:
        raise AimPage(f"cannot serve on 127.0.0.1:{port}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="aim-page", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{token}/"
    finally:
        server.shutdown()
        server.server_close()


def _handler(token: str, view: Callable[[], dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "sealane"
        sys_version = ""

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            _, given, *rest = [*self.path.split("/", 2), ""]
            if host not in ("127.0.0.1", "localhost") or not secrets.compare_digest(given.encode(), token.encode()):
                self._answer(404, "text/plain", b"not here\n")
            elif rest[0] == "view":
                self._view()
            elif rest[0] in FILES:
                name, kind = FILES[rest[0]]
                self._answer(200, kind, files("edge.aim").joinpath(name).read_bytes())
            else:
                self._answer(404, "text/plain", b"not here\n")

        def _view(self) -> None:
            try:
                status, answer = 200, {**view(), "gauges": [asdict(gauge) for gauge in GAUGES]}
            except SealaneError as error:
                status, answer = 503, {"error": str(error)}
            self._answer(status, "application/json", json.dumps(answer).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Addresses of requests hold the token; nothing is logged."""

    return Handler
