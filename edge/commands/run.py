"""`sealane run`: the daemon of one lane."""

import os
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("/etc/sealane/lane.toml")


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The lane's configuration.")] = DEFAULT_CONFIG,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Watch one lane: one sealed record per vehicle, until told to stop."""
    from drivers.camera.base import MAX_PIXELS
    from edge import logs
    from edge.config import load
    from edge.confine import confine, policy_for
    from edge.errors import ConfinePath

    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)  # asked for only once: when OpenCV is loaded
    logs.setup(verbose)
    settings = load(config)
    try:
        settings.state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfinePath(f"cannot make {settings.state.directory}: {error.strerror}") from error
    report = confine(policy_for(settings))
    from edge.daemon import Daemon  # brings numpy, OpenCV and PyAV, which start threads: only once confined

    Daemon(settings, report, config.parent).run()
