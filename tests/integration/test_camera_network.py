"""IP cameras that misbehave, over real sockets."""

import datetime
import ipaddress
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.camera.base import Encoding
from drivers.camera.network import NetworkCamera
from edge.capture import CameraFeed, CameraState, FrameRing
from edge.errors import (
    CameraDenied,
    CameraError,
    CameraFrameError,
    CameraSilent,
    CameraUnreachable,
    FrameDamaged,
    FrameTooLarge,
    StreamEnded,
    StreamNotFound,
    StreamNotVideo,
)
from tests.camera_rigs import (
    MULTIPART,
    HttpCamera,
    RtspCamera,
    Script,
    answer,
    behind_password,
    describe,
    encoded,
    flood,
    network,
    part,
    part_without_length,
    play,
    play_on,
)

ROOM = 64 * 1024
PASSWORD = "s3cret/@:%geheim"

Serve = Callable[..., HttpCamera]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[HttpCamera] = []

    def start(*scripts: Script, tls: ssl.SSLContext | None = None) -> HttpCamera:
        servers.append(HttpCamera(*scripts, tls=tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def room() -> memoryview:
    return memoryview(bytearray(ROOM))


def failure(camera: NetworkCamera, into: memoryview) -> CameraError:
    """What opening it and capturing comes to, single lost frames aside."""
    try:
        camera.open()
        while True:
            with suppress(CameraFrameError):
                camera.capture(into, 0.1)
    except CameraError as error:
        return error


def opened(camera: NetworkCamera) -> NetworkCamera:
    camera.open()
    return camera


@pytest.mark.parametrize("coded", [part, part_without_length])
def test_an_mjpeg_frame_is_handed_on_byte_for_byte(
    serve: Serve, room: memoryview, coded: Callable[[bytes], bytes]
) -> None:
    sent = [encoded(number) for number in range(4)]
    camera = opened(network(serve(play(*map(coded, sent), hang=True)).url))
    for frame in sent[:3]:
        info = camera.capture(room, 1)
        assert info is not None
        assert info.encoding is Encoding.JPEG
        assert bytes(room[: info.nbytes]).rstrip(b"\r\n") == frame
    camera.close()


def test_a_truncated_jpeg_is_one_lost_frame(serve: Serve, room: memoryview) -> None:
    whole = encoded()
    camera = opened(network(serve(play(part(whole), part(whole[:-200]), part(whole), hang=True)).url))
    assert camera.capture(room, 1) is not None
    with pytest.raises(FrameDamaged, match=r"^CAM-03 .*before its end"):
        camera.capture(room, 1)
    assert camera.capture(room, 1) is not None
    camera.close()


def test_a_frame_larger_than_its_room_is_one_lost_frame(serve: Serve, room: memoryview) -> None:
    large = encoded()[:-2] + bytes(2 * ROOM) + b"\xff\xd9"
    camera = opened(network(serve(play(part(encoded()), part(large), part(encoded()), hang=True)).url))
    assert camera.capture(room, 1) is not None
    with pytest.raises(FrameTooLarge, match=r"room is 64 KiB"):
        camera.capture(room, 1)
    assert camera.capture(room, 1) is not None
    camera.close()


@pytest.mark.parametrize(
    ("after_one_frame", "expected"),
    [
        pytest.param(play(part(encoded()), hang=True), CameraSilent, id="says nothing more"),
        pytest.param(
            play(part(encoded()), part(encoded()[:300], length=9999), hang=True), CameraSilent, id="half a frame"
        ),
        pytest.param(play(part(encoded())), StreamEnded, id="closes between frames"),
        pytest.param(
            flood(b"X-Padding: x\r\n", head=MULTIPART + part(encoded()) + b"--frame\r\n"),
            CameraSilent,
            id="endless header",
        ),
        pytest.param(
            flood(bytes(4096), head=MULTIPART + part(encoded(), length=2**31 - 9)), CameraSilent, id="endless frame"
        ),
        pytest.param(
            flood(bytes(4096), head=MULTIPART + part_without_length(encoded())),
            CameraSilent,
            id="endless frame, no length",
        ),
    ],
)
def test_a_stream_that_goes_wrong_is_given_up_in_time(
    serve: Serve, room: memoryview, after_one_frame: Script, expected: type[CameraError]
) -> None:
    camera = network(serve(after_one_frame).url)
    began = time.monotonic()
    error = failure(camera, room)
    assert isinstance(error, expected), error
    assert time.monotonic() - began < 2.5
    camera.close()


def test_a_camera_that_closes_in_the_middle_of_a_frame_gives_a_damaged_one_and_then_ends(
    serve: Serve, room: memoryview
) -> None:
    camera = opened(network(serve(play(part(encoded()), part(encoded()), part(encoded()[:300], length=9999))).url))
    assert camera.capture(room, 1) is not None
    assert camera.capture(room, 1) is not None
    with pytest.raises(FrameDamaged):
        camera.capture(room, 1)
    with pytest.raises(StreamEnded):
        camera.capture(room, 1)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(answer("401 Unauthorized"), CameraDenied, id="401"),
        pytest.param(answer("403 Forbidden"), CameraDenied, id="403"),
        pytest.param(answer("404 Not Found"), StreamNotFound, id="404"),
        pytest.param(answer("503 Service Unavailable"), StreamEnded, id="503"),
        pytest.param(answer("200 OK", b"<html>log in</html>" * 50), StreamNotVideo, id="a web page"),
        pytest.param(
            lambda connection, request: connection.sendall(bytes(range(256)) * 40), StreamNotVideo, id="no HTTP"
        ),
        pytest.param(play(part(b"text, not a picture")), StreamEnded, id="a text for a picture"),
        pytest.param(
            flood(b"X-Padding: xxxxxxxxxxx\r\n", head=b"HTTP/1.1 200 OK\r\n"), CameraUnreachable, id="endless head"
        ),
        pytest.param(lambda connection, request: connection.recv(1), CameraUnreachable, id="no answer"),
        pytest.param(
            answer("302 Found", headers="Location: file:///etc/passwd\r\n"), CameraUnreachable, id="to a file"
        ),
    ],
)
def test_a_camera_that_can_not_be_opened_says_why(
    serve: Serve, room: memoryview, script: Script, expected: type[CameraError]
) -> None:
    camera = network(serve(script).url)
    began = time.monotonic()
    error = failure(camera, room)
    assert isinstance(error, expected), error
    assert error.retryable
    assert time.monotonic() - began < 2
    camera.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/stream", "rtsp://127.0.0.1:9/stream", "http://camera.invalid/stream"]
)
def test_a_camera_that_is_not_there_is_unreachable(url: str) -> None:
    with pytest.raises(CameraUnreachable):
        network(url).open()


def test_the_password_opens_the_camera_whatever_characters_it_has(serve: Serve, room: memoryview) -> None:
    server = serve(behind_password("viewer", PASSWORD, play_on()))
    camera = opened(network(server.url, username="viewer", password=PASSWORD))
    assert camera.capture(room, 1) is not None
    camera.close()


@pytest.mark.parametrize(
    "script",
    [
        answer("401 Unauthorized"),
        answer("404 Not Found"),
        answer("500 Oops"),
        answer("200 OK", b"text"),
        play(part(encoded())),
    ],
)
def test_the_password_is_in_no_error_no_traceback_and_no_log(
    serve: Serve, room: memoryview, script: Script, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    camera = network(serve(script).url, username="viewer", password=PASSWORD)
    error = failure(camera, room)
    camera.close()
    told = ["".join(traceback.format_exception(error)), repr(camera._settings), caplog.text, *capfd.readouterr()]
    for text in told:
        assert "geheim" not in text


def test_what_a_camera_says_of_itself_reaches_no_log(
    serve: Serve, room: memoryview, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "\x1b[31mCANARY"
    camera = network(serve(answer(f"404 {canary}", canary.encode(), headers=f"Server: {canary}\r\n")).url)
    with pytest.raises(StreamNotFound) as raised:
        camera.open()
    for text in (str(raised.value), caplog.text, *capfd.readouterr()):
        assert "CANARY" not in text


@pytest.fixture(scope="module")
def camera_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM of a self-signed certificate for 127.0.0.1 and "lane-camera", with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("lane-camera")]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.mark.parametrize(
    ("trusts", "name", "opens"),
    [(True, None, True), (True, "lane-camera", True), (True, "another-camera", False), (False, None, False)],
)
def test_https_opens_for_the_certificate_that_is_trusted_and_for_no_other(
    serve: Serve, room: memoryview, camera_certificate: Path, trusts: bool, name: str | None, opens: bool
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(camera_certificate)
    server = serve(play_on(), tls=tls)
    camera = network(server.url, ca_file=camera_certificate if trusts else None, tls_name=name)
    if opens:
        camera.open()
        assert camera.capture(room, 1) is not None
    else:
        with pytest.raises(CameraUnreachable, match="certificate"):
            camera.open()
        assert server.requests == 0
    camera.close()


def relay_to(url: str) -> Script:
    """Take the TLS off and pass everything on to the port in `url`."""

    def script(connection: socket.socket, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as inner:
            inner.sendall(request)
            back = threading.Thread(target=pump, args=(inner, connection))
            back.start()
            pump(connection, inner)
            back.join()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    return script


@pytest.mark.parametrize("trusts", [True, False])
def test_rtsps_opens_for_the_certificate_that_is_trusted_and_for_no_other(
    serve: Serve, room: memoryview, camera_certificate: Path, trusts: bool
) -> None:
    camera_server = RtspCamera("jpeg")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(camera_certificate)
    front = serve(relay_to(camera_server.url), tls=tls)
    url = front.url.replace("https", "rtsps")
    camera = network(url, ca_file=camera_certificate if trusts else None, open_timeout_s=5)
    if trusts:
        camera.open()
        assert camera.capture(room, 1) is not None
    else:
        with pytest.raises(CameraUnreachable, match="certificate"):
            camera.open()
        assert front.requests == 0
    camera.close()
    camera_server.close()


@pytest.fixture
def guarded_rtsp() -> Iterator[RtspCamera]:
    server = RtspCamera("h264", "viewer", PASSWORD)
    yield server
    server.close()


def test_rtsp_asks_for_the_password_and_takes_the_right_one(guarded_rtsp: RtspCamera, room: memoryview) -> None:
    with pytest.raises(CameraDenied):
        network(guarded_rtsp.url, open_timeout_s=5).open()
    with pytest.raises(CameraDenied):
        network(guarded_rtsp.url, username="viewer", password="wrong", open_timeout_s=5).open()
    camera = opened(network(guarded_rtsp.url, username="viewer", password=PASSWORD, open_timeout_s=5))
    info = camera.capture(room, 1)
    assert info is not None
    assert info.encoding is Encoding.GRAY8
    camera.close()


def test_a_camera_whose_name_is_not_utf_8_is_opened(serve: Serve, room: memoryview) -> None:
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Caméra\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        "a=control:track1\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0IAH5WoFAFuQA==,aM48gA==\r\n"
    )
    server = serve(describe(sdp.encode("latin-1")))
    camera = opened(network(server.url.replace("http", "rtsp")))
    with pytest.raises(CameraSilent):
        camera.capture(room, 1)
    camera.close()


def test_the_feed_comes_back_after_each_kind_of_loss(serve: Serve) -> None:
    whole = encoded()
    server = serve(
        play(part(whole), part(whole)),
        answer("503 Service Unavailable"),
        play(part(whole), part(whole[:-100]), part(whole), part(whole[:99], length=4096), hang=True),
        play_on(),
    )
    ring = FrameRing(8, ROOM)
    feed = CameraFeed(network(server.url), ring, keep_s=60, silent_after_s=1)
    stop, states = threading.Event(), list[CameraState]()
    thread = threading.Thread(target=feed.run, args=(stop, lambda: None, states.append))
    thread.start()
    until = time.monotonic() + 8
    while feed.frames < 20 and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    thread.join(5)
    assert feed.frames >= 20
    assert feed.losses == 3
    assert feed.damaged == 2
    assert [type(state.error) for state in states if state.error] == [StreamEnded, StreamEnded, CameraSilent]
    assert states[-1].live
    ring.close()
