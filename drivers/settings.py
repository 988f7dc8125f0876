"""What the settings of every driver share: frozen, unknown keys refused, paths taken from the folder of lane.toml."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo


class DriverSettings(BaseModel):
    """Base of the models that check [loop.device] and [camera.device]."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _beside_config(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must be a path, which has no NUL in it")
    base = (info.context or {}).get("base")
    return Path(base, value) if base is not None and isinstance(value, str) else value


SettingsPath = Annotated[Path, BeforeValidator(_beside_config)]
"""A path; a relative one is taken from the validation context's `base`, the folder that lane.toml is in."""
