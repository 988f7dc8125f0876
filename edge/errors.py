"""One error tree: every failure a person can meet has a stable code, a hint to act on, and says if a retry can help.

A leaf class is a code. `str(error)` is one line fit for a log: the code and what happened, never plate text, keys or
payloads. Adapters translate at the edge with `raise ... from`. The list for people is docs/errors.md.
"""

import re
import sys
from collections.abc import Iterator
from typing import ClassVar


class SealaneError(Exception):
    """Root of the tree. `what` says what happened, in one line without secrets."""

    code: ClassVar[str] = "LANE-00"
    hint: ClassVar[str] = "Run the command again with --verbose and read the line above this one."
    retryable: ClassVar[bool] = False

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.code} {self.what}"


def catalogue() -> Iterator[type[SealaneError]]:
    """Every error that has a code of its own, in the order of this file."""

    def walk(root: type[SealaneError]) -> Iterator[type[SealaneError]]:
        for child in root.__subclasses__():
            if "code" in vars(child):
                yield child
            yield from walk(child)

    yield from walk(SealaneError)


def index() -> str:
    """docs/errors.md: what each code means and what to do about it."""
    lines = [
        "# Error codes",
        "",
        "Every error names its code. A retryable one goes away by itself when its cause does; sealane keeps trying.",
        "",
        "| code | error | retried | what to do |",
        "|---|---|---|---|",
    ]
    for leaf in catalogue():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", leaf.__name__).lower()
        lines.append(f"| {leaf.code} | {name} | {'yes' if leaf.retryable else ''} | {leaf.hint.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def clean(peer_text: object, limit: int = 120) -> str:
    """Text from a peer (device, broker, file) made fit for a log: printable ASCII on one line, bounded."""
    text = "".join(c if " " <= c <= "~" else "?" for c in str(peer_text))
    return text if len(text) <= limit else text[: limit - 3] + "..."


# --- configuration --------------------------------------------------------------------------------------------------


class ConfigError(SealaneError):
    """lane.toml, or what it names."""


class ConfigMissing(ConfigError):
    code = "CFG-01"
    hint = "Give the path with --config, or copy docs/lane.toml to /etc/sealane/lane.toml."


class ConfigNotToml(ConfigError):
    code = "CFG-02"
    hint = "The line and column above are where TOML stopped making sense; look for a missing quote or bracket."


class ConfigInvalid(ConfigError):
    code = "CFG-03"
    hint = "Each line above names a key, what it holds and what it may hold; unknown keys are refused."


class DriverUnknown(ConfigError):
    code = "CFG-04"
    hint = "Use one of the drivers listed above, or install the package that brings yours."


class CommandUnavailable(ConfigError):
    code = "CFG-05"
    hint = "Install the part that brings this command, for example: pip install 'sealane[central]'."


# --- detector loop --------------------------------------------------------------------------------------------------


class LoopError(SealaneError):
    """The inductive loop detector and the serial line to it."""


# --- camera ---------------------------------------------------------------------------------------------------------


class CameraError(SealaneError):
    """The camera, its stream and its frames."""


class CameraFrameError(CameraError):
    """One frame was lost; the next may be fine."""


# --- models and reading ---------------------------------------------------------------------------------------------


class ModelError(SealaneError):
    """Model files, their manifest, the runtime, and images given to the reader."""


class RuntimeMissing(ModelError):
    code = "MODEL-01"
    hint = "Install one runtime: pip install 'sealane[litert]' (or 'sealane[tflite]' on Python 3.11 with numpy 1.x)."


class ManifestInvalid(ModelError):
    code = "MODEL-02"
    hint = "Install the model bundle again; a bundle is manifest.json and the files it names, in one folder."


class ManifestMismatch(ModelError):
    code = "MODEL-03"
    hint = "A model file was changed or half copied. Install the bundle again; never edit one file of it."


class ModelRefused(ModelError):
    code = "MODEL-04"
    hint = "The runtime is too old for this model: update ai-edge-litert, or install the bundle made for this version."


class ImageUnreadable(ModelError):
    code = "READ-01"
    hint = "Give whole JPEG, PNG or WebP files, or folders of them; open the file in a viewer to see if it is damaged."


# --- record and seal ------------------------------------------------------------------------------------------------


class RecordError(SealaneError):
    """The plaintext record and its coding."""


class SealError(SealaneError):
    """Signing, sealing, verifying, opening. Always fails closed."""


class KeyFileError(SealaneError):
    """Key files: reading, writing, passphrases."""


# --- outbox and delivery --------------------------------------------------------------------------------------------


class OutboxError(SealaneError):
    """The durable store of sealed messages on the lane box."""


class MqttError(SealaneError):
    """The broker and the connection to it."""


# --- central --------------------------------------------------------------------------------------------------------


class StoreError(SealaneError):
    """The collector's store."""


class CollectorError(SealaneError):
    """Messages refused by the collector, and the collector itself."""


# --- daemon ---------------------------------------------------------------------------------------------------------


class DaemonError(SealaneError):
    """The daemon as a whole: its control socket, its stages, its confinement."""


if __name__ == "__main__":
    sys.stdout.write(index())
