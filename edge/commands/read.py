"""`sealane read`: plates in image files, for people or as JSON."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.errors import FrameDamaged, ImageUnreadable, clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

    from edge.reading.reader import FramePlate, FrameReading

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_IMAGE_BYTES = 64_000_000


def command(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Image files (JPEG, PNG, WebP) or folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each image.")] = False,
    crop: Annotated[bool, typer.Option("--crop", help="Each image is one plate, cut out already.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=16, help="Threads for the networks.")] = 1,
) -> None:
    """Read the plates in images. Exit status 1 if an image could not be read; the others are."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it says of a damaged file, we say too
    from edge.__main__ import report
    from edge.reading.reader import PlateReader

    reader = PlateReader(threads=threads)
    read = reader.read_crop if crop else reader.read_frame
    images = list(_images(paths))
    show = _json_line if as_json else _Table(images)
    failed = False
    for path in images:
        try:
            show(path, _read(path, read))
        except ImageUnreadable as error:
            failed = True
            report(error)
            if isinstance(show, _Table):
                show.without(path, "unreadable")
            else:
                why = {"code": error.code, "what": error.what, "hint": error.hint}
                _print_json({"image": str(path), "plates": [], "no_read": "unreadable", "ms": 0.0, "error": why})
    if isinstance(show, _Table):
        show.close()
    if failed:
        raise typer.Exit(1)


def _images(paths: list[Path]) -> Iterator[Path]:
    """Files as they are given, folders as the images beneath them, by name; a folder without any as itself."""
    for path in paths:
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        yield from found or [path]


def _read(path: Path, read: "Callable[[NDArray[np.uint8]], FrameReading]") -> "FrameReading":
    try:
        return read(_load(path))
    except FrameDamaged as error:
        raise ImageUnreadable(f"{clean(path)}: {error.what}") from error


def _load(path: Path) -> "NDArray[np.uint8]":
    """(H, W, 3) BGR, upright. ImageUnreadable if there is no whole image."""
    import cv2
    import numpy as np

    if path.is_dir():
        raise ImageUnreadable(f"{clean(path)}: a folder without JPEG, PNG or WebP images")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise ImageUnreadable(f"{clean(path)}: {error.strerror}") from error
    if not content or len(content) > MAX_IMAGE_BYTES:
        raise ImageUnreadable(f"{clean(path)}: {len(content)} bytes; 1 to {MAX_IMAGE_BYTES} are read")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageUnreadable(f"{clean(path)}: {clean(error.err)}") from error
    if image is None:
        raise ImageUnreadable(f"{clean(path)}: not a JPEG, PNG or WebP image, or a damaged one")
    return np.asarray(image, np.uint8)


def _json_line(path: Path, reading: "FrameReading") -> None:
    _print_json(
        {
            "image": str(path),
            "plates": [_plate(plate) for plate in reading.plates if plate.no_read is None],
            "no_read": reading.reason,
            "ms": round(reading.ms, 2),
        }
    )


def _plate(plate: "FramePlate") -> dict[str, Any]:
    return {
        "text": plate.text,
        "confidence": round(plate.confidence, 4),
        "chars": [round(p, 4) for p in plate.chars],
        "quad": [[round(float(v), 1) for v in corner] for corner in plate.quad],
        "region": plate.region,
        "region_confidence": round(plate.region_confidence, 4),
    }


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


class _Table:
    """For people: one row a plate, shown when all images are read. Of images with one name the paths are shown."""

    def __init__(self, images: list[Path]) -> None:
        from rich.table import Table

        self._table = Table(header_style="bold")
        self._table.add_column("image", overflow="fold")
        for heading in ("plate", "sure", "least sure", "issuer", "height", "ms"):
            self._table.add_column(heading)
        self._named = Counter(path.name for path in images)
        self._plates = 0

    def __call__(self, path: Path, reading: "FrameReading") -> None:
        from rich.text import Text

        name, ms = self._name(path), f"{reading.ms:.1f}"
        readable = [plate for plate in reading.plates if plate.no_read is None]
        if not readable:
            self.without(path, str(reading.reason), ms)
        for plate in readable:
            issuer = f"{plate.region} {plate.region_confidence:.0%}"
            style = "bold green" if plate.confidence >= 0.9 else "yellow"
            self._table.add_row(
                name,
                Text(str(plate.text), style=style),
                f"{plate.confidence:.0%}",
                f"{min(plate.chars):.0%}",
                issuer,
                f"{plate.quality.plate_height_px:.0f} px",
                ms,
            )
            name, ms = Text(""), ""
        self._plates += len(readable)

    def without(self, path: Path, why: str, ms: str = "") -> None:
        """A row for an image in which no plate was read."""
        from rich.text import Text

        self._table.add_row(self._name(path), Text(why, style="dim"), "", "", "", "", ms)

    def close(self) -> None:
        from rich.console import Console

        console = Console()
        console.print(self._table)
        if not self._plates:
            console.print("No plate was read.")

    def _name(self, path: Path) -> "Text":
        from rich.text import Text

        return Text(path.name if self._named[path.name] == 1 else str(path))
