"""Cameras for tests: a fake behind the port, pictures, and real servers of HTTP MJPEG and RTSP on this machine."""

import base64
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from drivers.camera.base import Camera, Encoding, FrameInfo
from drivers.camera.files import FilesCamera
from drivers.camera.network import NetworkCamera
from edge.errors import CameraSilent, CameraUnreachable, FrameTooLarge

WIDTH, HEIGHT = 160, 96
RTSP_SERVER = Path(__file__).parent / "integration" / "rtsp_server.py"
RTSP_PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"


def picture(number: int = 0) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3): a light square on grey that moves with the number."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    left = 8 + 8 * (number % 15)
    image[40:64, left : left + 24] = 230
    return image


def encoded(number: int = 0, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, picture(number))[1].tobytes()


def write_video(path: Path, *, frames: int, fps: int, title: str = "") -> None:
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": title} if title else {})
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
        container.mux(stream.encode())


class FakeCamera(Camera):
    """Gives what a test scripted, one step a capture, then nothing for ever.

    A step is the bytes of a frame, an error to raise, or None for a time-out. `opening`: errors of the next opens.
    """

    class Settings(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, settings: Settings | None = None) -> None:
        self.steps: deque[bytes | Exception | None] = deque()
        self.opening: deque[Exception] = deque()
        self.repeated: bytes | None = None
        self.is_open = False
        self.opened = 0

    def open(self) -> None:
        self.opened += 1
        if self.opening:
            raise self.opening.popleft()
        self.is_open = True

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo | None:
        if not self.is_open:
            raise CameraSilent("the fake is closed")
        step = self.steps.popleft() if self.steps else self.repeated
        time.sleep(0.002)
        if isinstance(step, Exception):
            raise step
        if step is None:
            time.sleep(timeout_s)
            return None
        if len(step) > len(into):
            raise FrameTooLarge(f"{len(step)} bytes")
        into[: len(step)] = step
        return FrameInfo(time.monotonic_ns(), Encoding.JPEG, len(step))

    def close(self) -> None:
        self.is_open = False


Script = Callable[[socket.socket, bytes], None]
"""What an HttpCamera does with one connection and the request that came over it."""

MULTIPART = (
    b"HTTP/1.1 200 OK\r\nServer: camera\r\nCache-Control: no-cache\r\nConnection: close\r\n"
    b"Content-Type: multipart/x-mixed-replace;boundary=--frame\r\n\r\n"
)


def part(data: bytes, *, length: int | None = None) -> bytes:
    """One frame of a multipart stream, as most cameras send it; `length` is what its header claims."""
    size = len(data) if length is None else length
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % size + data + b"\r\n"


def part_without_length(data: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n"


def play(*chunks: bytes, head: bytes = MULTIPART, every_s: float = 0.01, hang: bool = False) -> Script:
    """Send the head and each chunk; then close, or wait until the other end goes away."""

    def script(connection: socket.socket, request: bytes) -> None:
        for chunk in (head, *chunks):
            connection.sendall(chunk)
            time.sleep(every_s)
        if hang:
            connection.recv(1)

    return script


def play_on(*, every_s: float = 0.02, coded: Callable[[bytes], bytes] = part) -> Script:
    """Send a moving picture until the other end goes away."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(MULTIPART)
        number = 0
        while True:
            connection.sendall(coded(encoded(number)))
            number += 1
            time.sleep(every_s)

    return script


def flood(chunk: bytes, *, head: bytes = b"", every_s: float = 0.001) -> Script:
    """Send the head, then the chunk over and over until the other end goes away."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(chunk)
            time.sleep(every_s)

    return script


def answer(status: str, body: bytes = b"", *, headers: str = "") -> Script:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return lambda connection, request: connection.sendall(head.encode() + body)


def describe(sdp: bytes) -> Script:
    """An RTSP camera that describes its stream, lets it be played and then sends nothing."""
    head = b"Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\nSession: 1\r\n"
    more = {
        b"DESCRIBE": b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(sdp),
        b"SETUP": b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
    }

    def script(connection: socket.socket, request: bytes) -> None:
        while request:
            verb = request.split(b" ", 1)[0]
            number = next(line for line in request.splitlines(keepends=True) if line.startswith(b"CSeq"))
            body = sdp if verb == b"DESCRIBE" else b""
            connection.sendall(b"RTSP/1.0 200 OK\r\n" + number + head + more.get(verb, b"") + b"\r\n" + body)
            request = connection.recv(4096)

    return script


def behind_password(user: str, password: str, script: Script) -> Script:
    """HTTP basic authentication before the script."""
    expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())
    refusal = answer("401 Unauthorized", headers='WWW-Authenticate: Basic realm="camera"\r\n')
    return lambda connection, request: (script if expected in request else refusal)(connection, request)


class HttpCamera:
    """A small HTTP server: the first connection gets the first script, the last script serves all that follow."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = deque(scripts)
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self.requests = 0
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/stream"
        self._threads[0].start()

    def close(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:  # closed
                return
            connection.settimeout(10)
            self._open.append(connection)
            script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
            self._threads.append(threading.Thread(target=self._serve, args=(connection, script)))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket, script: Script) -> None:
        with suppress(OSError):
            connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                received = connection.recv(4096)
                if not received:
                    return
                request += received
            self.requests += 1
            with connection:
                script(connection, request)


class RtspCamera:
    """GStreamer's RTSP server in a process of its own, with a moving picture as H.264 or JPEG."""

    CODECS = {  # noqa: RUF012
        "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96",
        "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
    }

    def __init__(self, codec: str, *login: str) -> None:
        if not self._works():
            pytest.skip(f"RTSP was NOT tested: apt-get install {RTSP_PACKAGES}")
        caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=25/1"
        pipeline = f"( videotestsrc is-live=true pattern=ball ! {caps} ! {self.CODECS[codec]} )"
        command = ["/usr/bin/python3", str(RTSP_SERVER), pipeline, *login]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"rtsp://127.0.0.1:{int(self.process.stdout.readline())}/stream"

    @staticmethod
    def _works() -> bool:
        return subprocess.run(["/usr/bin/python3", str(RTSP_SERVER), "--check"], capture_output=True).returncode == 0

    def freeze(self) -> None:
        """Its process stops where it is; the connection stands."""
        self.process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Rig:
    """One kind of camera for the contract: drivers that are not open yet, and what serves them.

    `live` gives frames of WIDTH x HEIGHT for ever; `absent` can't be opened; `quiet` opens, gives a frame or a few, and
    then nothing more while its connection stands (`hush` makes it so once it is open).
    """

    live: Camera
    absent: Camera
    quiet: Camera
    hush: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


def fake_rig(folder: Path) -> Rig:
    live, absent, quiet = FakeCamera(), FakeCamera(), FakeCamera()
    live.repeated = encoded()
    absent.opening.append(CameraUnreachable("the fake is not there"))
    quiet.steps.append(encoded())
    return Rig(live, absent, quiet)


def _files(path: Path, fps: float | None) -> Camera:
    return FilesCamera(FilesCamera.Settings(path=path, fps=fps))


def photos_rig(folder: Path, *, suffix: str) -> Rig:
    for number in range(5):
        (folder / f"{number}{suffix}").write_bytes(encoded(number, suffix))
    return Rig(live=_files(folder, 100), absent=_files(folder / "gone", None), quiet=_files(folder, 0.01))


def video_rig(folder: Path) -> Rig:
    write_video(folder / "lane.mp4", frames=10, fps=50)
    (folder / "no.mp4").write_text("not a video")
    video = folder / "lane.mp4"
    return Rig(live=_files(video, None), absent=_files(folder / "no.mp4", None), quiet=_files(video, 0.01))


def network(url: str, **settings: Any) -> NetworkCamera:
    """A driver with short time-outs, so that a test needs not wait for them."""
    bounds = {"open_timeout_s": 1.0, "read_timeout_s": 0.4}
    return NetworkCamera(NetworkCamera.Settings(url=url, **(bounds | settings)))


def mjpeg_rig(folder: Path) -> Rig:
    live, quiet = HttpCamera(play_on()), HttpCamera(play(part(encoded()), hang=True))

    def close() -> None:
        live.close()
        quiet.close()

    return Rig(network(live.url), network("http://127.0.0.1:9/stream"), network(quiet.url), close=close)


def rtsp_rig(folder: Path, *, codec: str) -> Rig:
    server = RtspCamera(codec)
    absent = network(server.url.replace("/stream", "/nothing"))
    return Rig(
        network(server.url, open_timeout_s=5),
        absent,
        network(server.url, open_timeout_s=5),
        server.freeze,
        server.close,
    )


RIGS: dict[str, Callable[[Path], Rig]] = {
    "fake": fake_rig,
    "files-jpg": partial(photos_rig, suffix=".jpg"),
    "files-png": partial(photos_rig, suffix=".png"),
    "files-webp": partial(photos_rig, suffix=".webp"),
    "files-video": video_rig,
    "network-mjpeg": mjpeg_rig,
    "network-rtsp-h264": partial(rtsp_rig, codec="h264"),
    "network-rtsp-jpeg": partial(rtsp_rig, codec="jpeg"),
}
