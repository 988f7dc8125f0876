"""python -m models.benchmark: the shipped reader and PP-OCRv4 side by side, picture by picture, one thread each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.benchmark import score
from models.benchmark.scenes import Picture, labelled, rendered
from models.train.evaluate import share
from models.train.sheet import tiled

WIDEST = 150
"""Columns that the table needs; a narrower terminal wraps whole lines instead of figures."""
HERE = Path(__file__).parent
WARM_UP = 2
"""Pictures read before any time counts."""


def main(
    peer: Annotated[Path, typer.Option(help="Python of the environment that has the peer.")] = Path(
        ".venv-peer/bin/python"
    ),
    plates: Annotated[
        Path | None, typer.Option(envvar=["PLATES", "SEALANE_PLATES"], help="Folder of labelled sets.", exists=True)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go as JSON.")] = Path("build/benchmark.json"),
    limit: Annotated[int, typer.Option(help="Most pictures of a set; 0 for all.")] = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Write our false and missed plates here, to see which labels are wrong (not for sharing)."),
    ] = None,
) -> None:
    """Exact, folded, detection, time, memory: one table, and JSON."""
    pictures = list(labelled(plates) if plates else rendered(Path("build/benchmark-scenes"), 120))
    if limit:
        pictures = [p for n, p in enumerate(pictures) if [q.source for q in pictures[:n]].count(p.source) < limit]
    if not pictures:
        raise typer.BadParameter("no labelled pictures there")
    with (
        _worker([sys.executable, "-m", "models.benchmark.ours"]) as ours,
        _worker([str(peer), str(HERE / "peer.py")]) as theirs,
    ):
        for picture in pictures[:WARM_UP]:
            ours(picture), theirs(picture)
        results = [
            (picture, ours(picture), theirs(picture)) for picture in track(pictures, console=Console(stderr=True))
        ]
    report = {
        "pictures": "labelled" if plates else "rendered",
        "sets": {name: _figures([r for r in results if r[0].source == name]) for name in _sources(results)},
        "all": _figures(results),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    _show(report)
    if sheet:
        _sheet(results, sheet)


GREEN, RED = (0, 200, 0), (0, 0, 255)

Result = tuple[Picture, dict[str, Any], dict[str, Any]]


@contextmanager
def _worker(command: list[str]) -> Iterator[Any]:
    """A reader in a process of its own: a picture in, its answer out."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a worker has no pipes")
    asked, answers = process.stdin, process.stdout

    def ask(picture: Picture) -> Any:
        asked.write(f"{picture.path}\n")
        line = answers.readline()
        if not line:
            raise SystemExit(f"{' '.join(command)} ended at {picture.path}")
        return json.loads(line)

    try:
        yield ask
    finally:
        asked.close()
        process.wait(timeout=30)


def _sources(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(picture.source for picture, _, _ in results))


def _figures(results: list[Result]) -> dict[str, Any]:
    mine = [s for picture, answer, _ in results for s in score.ours(picture, answer["plates"])]
    theirs = [s for picture, _, answer in results for s in score.peer(picture, answer["plates"])]
    guesses = [b for picture, answer, _ in results if (b := score.blind(picture, answer["plates"])) is not None]
    wrong = sum(len(score.false_plates(picture, answer["plates"])) for picture, answer, _ in results)
    answers, their_answers = [a for _, a, _ in results], [a for _, _, a in results]
    ratio = median(a["ms"] for a in their_answers) / median(a["ms"] for a in answers)
    return {
        "pictures": len(results),
        "plates": sum(s.text is not None for s in mine),
        "distinct": len({s.text for s in mine if s.text}),
        "ours": {**_reads(mine), "false_per_picture": wrong / len(results), **_cost(answers)},
        "blind": {"exact": _share([e for e, _ in guesses]), "folded": _share([f for _, f in guesses])},
        "peer": {**_reads(theirs), **_cost(their_answers)},
        "ratio": ratio,
        "outside_inside": median(a["ms"] / a["invoke_ms"] - 1 for a in answers),
    }


def _sheet(results: list[Result], file: Path) -> None:
    """Every false plate and every missed one; in green what is labelled, in red what was found."""
    cells = []
    for picture, answer, _ in results:
        plates = answer["plates"]
        missed = [
            label.box
            for label, own in zip(picture.plates, score.ours(picture, plates), strict=True)
            if own.wide and not own.found
        ]
        shown = [(box, "missed") for box in missed]
        shown += [(p["box"], f"{p['score']:.2f} {p['text']}") for p in score.false_plates(picture, plates)]
        for box, words in shown:
            image = np.asarray(cv2.imread(str(picture.path)), np.uint8)
            for colour, boxes in (GREEN, [label.box for label in picture.plates]), (RED, [p["box"] for p in plates]):
                for x0, y0, x1, y1 in boxes:
                    cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), colour, max(1, round(x1 - x0) // 60))
            reach = 0.5 * (box[2] - box[0])
            rows = slice(max(int(box[1] - reach), 0), max(int(box[3] + reach), 1))
            columns = slice(max(int(box[0] - reach), 0), max(int(box[2] + reach), 1))
            cells.append((image[rows, columns], f"{picture.source} {words}"))
    cv2.imwrite(str(file), tiled(cells, 8))


def _reads(scores: list[score.PlateScore]) -> dict[str, Any]:
    told = [s for s in scores if s.text is not None]
    return {
        "exact": _share([s.exact for s in told]),
        "folded": _share([s.folded for s in told]),
        "found": _share([s.found for s in scores if s.wide]),
    }


def _cost(answers: list[dict[str, Any]]) -> dict[str, float]:
    ms = [answer["ms"] for answer in answers]
    p95 = quantiles(ms, n=20)[-1] if len(ms) > 1 else ms[0]
    return {"ms_median": median(ms), "ms_p95": p95, "peak_mb": max(answer["peak_mb"] for answer in answers)}


def _share(hits: list[bool]) -> str:
    return share(sum(hits), len(hits)) if hits else "-"


def _show(report: dict[str, Any]) -> None:
    table = Table(
        *("set", "plates", "reader", "exact %", "folded %", "found %", "false", "ms", "p95", "MB", "ratio"),
        title="sealane beside PP-OCRv4 (rapidocr-onnxruntime), one thread each",
    )
    for name, row in [*report["sets"].items(), ("all", report["all"])]:
        ours, peer = row["ours"], row["peer"]
        table.add_row(
            name, f"{row['plates']} ({row['distinct']})", "sealane", ours["exact"], ours["folded"], ours["found"],
            f"{ours['false_per_picture']:.3f}", f"{ours['ms_median']:.1f}", f"{ours['ms_p95']:.1f}",
            f"{ours['peak_mb']:.0f}", f"1/{row['ratio']:.0f}",
        )  # fmt: skip
        table.add_row("", "", "  blind", row["blind"]["exact"], row["blind"]["folded"])
        table.add_row(
            "", "", "PP-OCRv4", peer["exact"], peer["folded"], peer["found"], "", f"{peer['ms_median']:.0f}",
            f"{peer['ms_p95']:.0f}", f"{peer['peak_mb']:.0f}", "", end_section=True,
        )  # fmt: skip
    console = Console()
    console.width = max(console.width, WIDEST)
    console.print(table)
    console.print(f"time outside the networks: {report['all']['outside_inside']:.2f} of the time inside")
    console.print(
        "exact, folded (O=0=Q, I=1): per cent with 95 % intervals, of plates with a known text; found: IoU 0.5,"
    )
    console.print("plates at least 40 px wide (for PP-OCRv4: any text in it); plates: labelled (distinct texts)")


if __name__ == "__main__":
    typer.run(main)
