"""IP cameras through PyAV: MJPEG over HTTP, handed on encoded; H.264, H.265 or MJPEG over RTSP (in its TCP).

MJPEG carries no time: a frame is stamped when its packet is complete, which without a Content-Length is when the next
one begins. RTSP carries the camera's, see StreamClock.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from drivers.camera.base import Camera, Encoding, FrameInfo
from drivers.camera.jpeg import jpeg_size
from drivers.camera.video import StreamClock, bound_pixels, copy_grey
from drivers.settings import DriverSettings, SettingsPath
from edge.errors import (
    CameraDenied,
    CameraError,
    CameraSilent,
    CameraUnreachable,
    FrameDamaged,
    FrameTooLarge,
    StreamEnded,
    StreamLate,
    StreamNotFound,
    StreamNotVideo,
    clean,
)

if TYPE_CHECKING:
    from av import FFmpegError, Packet, VideoFrame, VideoStream
    from av.container import InputContainer

FORMATS = {"http": "mpjpeg", "https": "mpjpeg", "rtsp": "rtsp", "rtsps": "rtsp"}
PROTOCOLS = "http,https,tcp,tls,rtp,rtsp"
MAX_LAG_S = 1.0
"""A stream that lies further behind is given up and begun anew at its present."""


class NetworkSettings(DriverSettings):
    """[camera.device] of an IP camera."""

    url: str = Field(max_length=1024, pattern=r"^[!-~]+$")
    """http, https, rtsp or rtsps; without user name and password."""
    username: str = Field("", max_length=64)
    password: SecretStr = SecretStr("")
    ca_file: SettingsPath | None = None
    """https and rtsps: the camera's certificate, or of who signed it (PEM); else the system's authorities count."""
    tls_name: str | None = Field(None, max_length=253)
    """https and rtsps: the name in the certificate where it isn't the host of the URL."""
    open_timeout_s: float = Field(5, ge=0.5, le=20)
    read_timeout_s: float = Field(2, ge=0.2, le=15)
    """Longest time from frame to frame; it also bounds what is taken in of a frame that never ends."""

    @field_validator("url")
    @classmethod
    def _is_camera_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            named = bool(parts.hostname) and parts.port != 0
        except ValueError:  # its own words may repeat a password
            named = False
        if not named:
            raise ValueError("names no host, or a port that can't be")
        if parts.scheme not in FORMATS:
            raise ValueError(f"begins with one of {', '.join(f'{scheme}://' for scheme in FORMATS)}")
        if "@" in parts.netloc:
            raise ValueError("the user name and password have keys of their own")
        return url

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.password.get_secret_value() and not self.username:
            raise ValueError("a password needs a username")
        if (self.ca_file or self.tls_name) and not urlsplit(self.url).scheme.endswith("s"):
            raise ValueError("ca_file and tls_name need https:// or rtsps://")
        return self


class NetworkCamera(Camera):
    """One IP camera. `capture` waits for the stream's next frame, at most `read_timeout_s` (CameraSilent then)."""

    Settings = NetworkSettings

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._encoded = False
        self._clock: StreamClock | None = None
        self._container: InputContainer | None = None
        self._packets: Iterator[Packet[VideoStream]] = iter(())

    def open(self) -> None:
        import av

        settings = self._settings
        format_name = FORMATS[urlsplit(settings.url).scheme]
        began = time.monotonic()
        try:
            self._container = av.open(
                _with_credentials(settings),
                format=format_name,
                options=_options(settings),
                timeout=(settings.open_timeout_s, settings.read_timeout_s),
                metadata_errors="replace",  # a name that is not UTF-8 is no reason to lose the camera
            )
        except av.FFmpegError as error:
            if time.monotonic() - began >= settings.open_timeout_s:
                raise CameraUnreachable(f"the camera sent no stream in {settings.open_timeout_s} s") from None
            raise _refusal(error) from None
        streams = self._container.streams.video
        if not streams or not streams[0].codec_context:
            raise StreamNotVideo("the camera's stream holds no video that can be decoded")
        bound_pixels(streams[0].codec_context)
        streams[0].codec_context.thread_count = 1  # frame threads would hold pictures back
        self._encoded = streams[0].codec_context.name == "mjpeg"
        self._clock = StreamClock() if format_name == "rtsp" else None
        self._packets = self._container.demux(streams[0])

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo | None:
        import av

        until = time.monotonic() + timeout_s
        while True:
            try:
                packet = next(self._packets, None)
            except av.error.ExitError:
                raise CameraSilent(f"nothing came for {self._settings.read_timeout_s} s") from None
            except av.FFmpegError as error:
                raise StreamEnded(f"the stream broke off: {clean(error.strerror)}") from None
            if packet is None or not packet.size:
                raise StreamEnded("the camera ended its stream")
            arrival_ns = time.monotonic_ns()
            info = self._pass_on(packet, into, arrival_ns) if self._encoded else self._decode(packet, into, arrival_ns)
            if info is not None or time.monotonic() >= until:
                return info

    def close(self) -> None:
        container, self._container = self._container, None
        self._packets = iter(())
        if container is not None:
            container.close()

    def _pass_on(self, packet: "Packet[VideoStream]", into: memoryview, arrival_ns: int) -> FrameInfo:
        if packet.size > len(into):
            raise FrameTooLarge(f"a JPEG of {packet.size >> 10} KiB, room is {len(into) >> 10} KiB")
        picture = memoryview(packet)
        jpeg_size(picture)
        into[: packet.size] = picture
        return FrameInfo(self._taken_ns(packet, arrival_ns), Encoding.JPEG, packet.size)

    def _decode(self, packet: "Packet[VideoStream]", into: memoryview, arrival_ns: int) -> FrameInfo | None:
        import av

        try:
            frames = packet.decode()
        except av.FFmpegError as error:  # H.265 says more of damage than that data are invalid
            what = clean(error.strerror)
            raise FrameDamaged(f"a video packet of {packet.size} bytes can't be decoded: {what}") from None
        return copy_grey(frames[-1], into, self._taken_ns(frames[-1], arrival_ns)) if frames else None

    def _taken_ns(self, what: "Packet[VideoStream] | VideoFrame", arrival_ns: int) -> int:
        if self._clock is None or what.pts is None or what.time_base is None:
            return arrival_ns
        taken_ns = self._clock.taken_ns(int(what.pts * what.time_base * 1_000_000_000), arrival_ns)
        if arrival_ns - taken_ns > MAX_LAG_S * 1e9:
            raise StreamLate(f"the stream lies {(arrival_ns - taken_ns) / 1e9:.1f} s behind")
        return taken_ns


def _with_credentials(settings: NetworkSettings) -> str:
    if not settings.username:
        return settings.url
    user, password = (quote(part, safe="") for part in (settings.username, settings.password.get_secret_value()))
    return settings.url.replace("://", f"://{user}:{password}@", 1)


def _options(settings: NetworkSettings) -> dict[str, str]:
    options = {
        "protocol_whitelist": PROTOCOLS,
        "tls_verify": "1",
        # of RTSP:
        "rtsp_transport": "tcp",
        "allowed_media_types": "video",
        # don't watch the stream for seconds before the first frame is given:
        "fpsprobesize": "0",
        "analyzeduration": "1",
    }
    if settings.ca_file:
        options["ca_file"] = str(settings.ca_file)
    if settings.tls_name:
        options["verifyhost"] = settings.tls_name
    return options


def _refusal(error: "FFmpegError") -> CameraError:
    """Why the stream did not open, for a technician. The error's own text holds the password: it is not passed on."""
    from av import error as av_error

    said = clean(error.strerror)
    if isinstance(error, av_error.HTTPUnauthorizedError | av_error.HTTPForbiddenError):
        return CameraDenied(f"the camera refuses the user: {said}")
    if isinstance(error, av_error.HTTPNotFoundError | av_error.HTTPBadRequestError):
        return StreamNotFound(f"the camera knows no such stream: {said}")
    if isinstance(error, av_error.HTTPError | av_error.HTTPClientError):
        return StreamEnded(f"the camera gives no stream now: {said}")
    if isinstance(error, av_error.InvalidDataError | av_error.EOFError):
        return StreamNotVideo("what the camera sends is not the video that the URL promises")
    return CameraUnreachable(f"no connection, or a certificate that is not trusted: {said}")
