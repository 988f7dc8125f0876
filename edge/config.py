"""lane.toml -> frozen models. Units stand in the names, every number has a range, unknown keys are refused.

Relative paths are taken from the folder that lane.toml is in. The tables [loop.device] and [camera.device] belong to
the driver named beside them and are checked by it.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge.errors import ConfigInvalid, ConfigMissing, ConfigNotToml, clean, wrong_fields

MAX_CONFIG_BYTES = 64 * 1024
CREDENTIAL = "$CREDENTIALS_DIRECTORY/"
"""A path that begins so is a key that systemd hands over (LoadCredential= in systemd/sealane@.service)."""

LEAST_ROI = 0.05
"""A narrower part of the frame shows no plate."""
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%{_LABEL})?")
"""A name as DNS takes it (RFC 1035, 2.3.4), or an address."""

Model = TypeVar("Model", bound=BaseModel)


def _beside_config(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise ValueError("must be a path, which has no NUL in it")
    if value.startswith(CREDENTIAL):
        return Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials"), value.removeprefix(CREDENTIAL))
    return Path((info.context or {}).get("base") or "", value)


FilePath = Annotated[Path, BeforeValidator(_beside_config)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lane(Table):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    """Also the name in the box's certificate and in every topic."""


class Loop(Table):
    driver: str
    device: dict[str, Any] = {}
    debounce_ms: float = Field(20, ge=0, le=500)
    """A change must last this long to be believed."""
    gate_time_s: float = Field(120, ge=5, le=3600)
    """A visit longer than this is closed; what stays on the loop is a new visit only after it left."""
    spacing_m: float | None = Field(None, gt=0.2, le=20)
    """Distance between the leading edges of two loops; gives the speed."""


class Camera(Table):
    driver: str
    device: dict[str, Any] = {}
    ring_frames: int = Field(24, ge=4, le=256)
    ring_frame_kib: int = Field(1024, ge=64, le=16384)
    """Room for one frame as it comes off the wire: JPEG, or width x height x 1.5 for video."""
    before_s: float = Field(0.6, ge=0, le=5)
    """Frames from this long before the loop's edge belong to the visit."""
    after_s: float = Field(0.6, ge=0, le=5)
    """Frames until this long after the vehicle left belong to the visit."""
    silent_after_s: float = Field(3, ge=0.5, le=60)
    """No frame for this long is a fault."""


class Reading(Table):
    max_frames: int = Field(24, ge=1, le=200)
    """Most frames read for one visit."""
    roi: tuple[float, float, float, float] | None = None
    """Part of the frame to look at: left, top, right, bottom as shares of width and height."""
    threads: int = Field(1, ge=1, le=4)

    @field_validator("roi")
    @classmethod
    def _is_a_part(cls, roi: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if roi is not None:
            left, top, right, bottom = roi
            if not (0 <= left <= right - LEAST_ROI and 0 <= top <= bottom - LEAST_ROI and right <= 1 and bottom <= 1):
                raise ValueError(
                    f"must be left, top, right, bottom as shares 0 to 1, the latter two at least {LEAST_ROI} more"
                )
        return roi


class Broker(Table):
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(8883, ge=1, le=65535)
    ca_file: FilePath
    certificate_file: FilePath
    key_file: FilePath
    keepalive_s: int = Field(20, ge=5, le=600)
    in_flight: int = Field(20, ge=1, le=200)
    """Messages sent and not yet acknowledged."""

    @field_validator("host")
    @classmethod
    def _is_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("must be a name such as broker.example, or an address")
        return host


class Keys(Table):
    signing_key_file: FilePath
    recipient_files: tuple[FilePath, ...] = Field((), min_length=1, max_length=8)
    """Public keys of those who may read the records; without [trust]."""
    collector_files: tuple[FilePath, ...] = Field((), min_length=1, max_length=8)
    """Public keys whose receipts let the outbox forget; without [trust]."""


class Trust(Table):
    """The owner's signed word, instead of key files that somebody put on the box."""

    root_file: FilePath
    """The owner's root metadata, brought by `sealane enrol --finish`."""
    source: str = Field("broker", min_length=1, max_length=1000)
    """"broker" for retained messages, a folder, or an http(s) address."""
    refresh_s: float = Field(300, ge=1, le=86400)

    @field_validator("source")
    @classmethod
    def _names_a_host(cls, source: str) -> str:
        address = source.startswith(("http://", "https://"))
        named = _HOST.fullmatch(_host_of(source)) if address else source == "broker" or "/" in source
        if not named or "\0" in source:
            raise ValueError(
                "must be broker, a folder's path (with a /), or an http(s) address with the name or address of a host"
            )
        if address and "@" in source:
            raise ValueError("must have no @ in an address (%40 in its path): no user or password is sent")
        return source


class State(Table):
    directory: FilePath = Field(validate_default=True, default=Path("/var/lib/sealane"))
    outbox_mib: int = Field(256, ge=1, le=65536)
    """Most that waits for a receipt; beyond it the oldest reads are given up, as a declared gap."""
    checkpoint_s: float = Field(60, ge=1, le=3600)
    receipt_timeout_s: float = Field(10, ge=1, le=600)
    """A message without a receipt after this long is sent again."""


class LaneConfig(Table):
    """All of lane.toml."""

    confine: Literal["require", "try", "off"] | None = None
    """Start only fully confined, or as far as this box can. Not set: "require" as a systemd service, else "try"."""
    lane: Lane
    loop: Loop
    camera: Camera
    reading: Reading = Reading()
    broker: Broker
    keys: Keys
    trust: Trust | None = None
    state: State = State()

    @model_validator(mode="after")
    def _names_its_readers_once(self) -> Self:
        given = bool(self.keys.recipient_files), bool(self.keys.collector_files)
        if self.trust is None and not all(given):
            raise ValueError("keys: recipient_files and collector_files are needed, or a [trust] table")
        if self.trust is not None and any(given):
            raise ValueError("keys: with a [trust] table the owner names recipients and collectors; take them out")
        return self


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def load(path: Path) -> LaneConfig:
    """Read and check lane.toml. Raises ConfigMissing, ConfigNotToml, ConfigInvalid."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigMissing(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigInvalid(f"{path} is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        tables = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise ConfigNotToml(f"{path}: {clean(error)}") from error
    return check(LaneConfig, tables, where=path.name, base=path.parent)


def check(model: type[Model], table: Mapping[str, Any], *, where: str, base: Path | None = None) -> Model:
    """`table` as a `model`, or ConfigInvalid naming each key that is wrong and what it may hold, never its value."""
    try:
        return model.model_validate(dict(table), context={"base": base})
    except ValidationError as error:
        wrong = wrong_fields(error, most=20, between=f"\n  {where}: ")
        raise ConfigInvalid(f"{where}: {wrong}") from error
