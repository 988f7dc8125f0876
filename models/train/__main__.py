"""python -m models.train STAGE: every step from nothing to the shipped models. Each stage can be stopped and started.

render, detector, ocr, export, card, evidence, evaluate; `all` runs them in this order. `syntax` only counts. Times are
for two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()

MODELS = Path(__file__).resolve().parent.parent
PLATES_IN_POOL = 120_000
CANVASES, CANVASES_AGAIN = 400_000, 90_000
SAMPLES, SAMPLES_AGAIN, SAMPLES_OF_ISSUERS = 500_000, 300_000, 400_000
ROUNDS = 2
"""How often the reader is trained on and mixed with what it was before: each time reads better than longer training."""
EXCHANGED = 2
"""Other versions of a photograph, with characters exchanged."""
VERSION = "1"

Plates = Annotated[
    Path | None,
    typer.Option("--plates", envvar=["PLATES", "SEALANE_PLATES"], help="Folder of labelled real plates.", exists=True),
]
Work = Annotated[Path, typer.Option("--work", help="Where plates and training states are kept.")]
_WORK = Path("build/models")
Scale = Annotated[
    float,
    typer.Option("--scale", help="Share of what is drawn and seen; models of 0.005 read nothing, but every stage ran."),
]
Models = Annotated[Path, typer.Option("--models", help="The models and their manifest; the shipped ones unless named.")]


@app.command()
def render(
    work: Work = _WORK,
    count: Annotated[int, typer.Option(help="Plates to render.")] = PLATES_IN_POOL,
    seed: Annotated[int, typer.Option(help="Another seed adds other plates.")] = 1,
) -> None:
    """Render the pool of plates (about 20 minutes)."""
    import cv2

    from models.train.pool import render_pool
    from models.train.render import faces

    for face, package in faces.missing().items():
        console.print(f"[yellow]face {face} is not installed ({package}); styles that use it draw with another[/]")
    cv2.setNumThreads(1)
    with _progress() as progress:
        task = progress.add_task("render", total=count, speed="")
        for done in render_pool(work / "pool", count, seed):
            progress.update(task, completed=min(done, count))


@app.command()
def ocr(
    plates: Plates = None,
    work: Work = _WORK,
    out: Annotated[Path | None, typer.Option(help="Where the training's state goes: WORK/ocr unless named.")] = None,
    samples: Annotated[int, typer.Option(help="Views seen in all.")] = SAMPLES,
    threads: Annotated[int, typer.Option(help="Threads of the network.")] = 1,
    start_from: Annotated[Path | None, typer.Option(help="Begin with these weights, and exchange characters.")] = None,
    issuer_only: Annotated[bool, typer.Option(help="Leave what reads the text as it is.")] = False,
) -> None:
    """Train the reader (500,000 views take about an hour on two threads)."""
    from numpy.random import default_rng

    from models.train import checkpoint, negatives, selftaught, views
    from models.train.evaluate import load_ocr
    from models.train.exchanged import exchanged
    from models.train.net import PlateNet, likeliest
    from models.train.ocr import Schedule, train
    from models.train.photos import training, unread
    from models.train.pool import pool_parts

    if not pool_parts(work / "pool"):
        raise typer.BadParameter(
            f"no rendered plates in {work}; `python -m models.train render --work {work}` makes them"
        )
    photos = []
    if plates:
        kinds = {
            "photographs with a text": training(plates),
            "that the present reader is sure of": selftaught.labelled(load_ocr(MODELS), plates),
            "that nobody transcribed": unread(plates),
            "proposals of the present detector that are no plates": negatives.mined(MODELS, plates),
        }
        if start_from and not issuer_only:
            net = PlateNet()
            net.load_state_dict(checkpoint.load(start_from))
            known = [photo for found in kinds.values() for photo in found if photo.plate.text]
            steps = likeliest(net.eval(), (views.straight(photo.plate) for photo in known))
            kinds["with characters exchanged"] = exchanged(known, steps, EXCHANGED, default_rng(1))
        for kind, found in kinds.items():
            console.print(f"{len(found):6} {kind}")
            photos += found
    else:
        console.print("no photographs (PLATES): rendered plates alone")
    with _progress() as progress:
        task = progress.add_task("ocr", total=samples, speed="")
        for step in train(
            work / "pool",
            photos,
            out or work / "ocr",
            Schedule(samples) if start_from is None else Schedule(samples, rate=1.5e-3, decay=0.8, warm_up=3_000),
            threads=threads,
            start_from=start_from,
            issuer_only=issuer_only,
        ):
            text, issuer, name = step.losses
            note = f"text {text:.3f}, issuer {issuer:.2f}, name {name:.2f}, {step.speed:.0f}/s"
            progress.update(task, completed=step.seen, speed=note)


@app.command()
def blend(
    one: Annotated[Path, typer.Argument(help="A checkpoint of the reader.", exists=True)],
    other: Annotated[Path, typer.Argument(help="Another one, of a training that went on from the same.", exists=True)],
    out: Annotated[Path, typer.Argument(help="Where the blend goes; train its issuer on with --issuer-only.")],
    share: Annotated[float, typer.Option(help="How much of the other.", min=0, max=1)] = 0.5,
) -> None:
    """Mix what reads the text of two checkpoints; choose the share on held-out plates."""
    from models.train import checkpoint

    mixed = checkpoint.blend(checkpoint.load(one), checkpoint.load(other), share, ("trunk.", "reader."))
    checkpoint.save(mixed, out)


@app.command()
def detector(plates: Plates = None, work: Work = _WORK, scale: Scale = 1.0) -> None:
    """Train and export the detector; then train it on, and mix both (its own module says how long)."""
    first, again = work / "detector", work / "detector-again"
    for out, action, *more in (
        (first, "train", "--samples", f"{CANVASES * scale:.0f}"),
        (first, "export"),
        (again, "train", "--samples", f"{CANVASES_AGAIN * scale:.0f}", "--rate", "1.2e-3", "--again"),
        (again, "export", "--mix", "0.5"),
    ):
        command = [sys.executable, "-m", "models.train.detector", action, "--out", str(out), *more]
        subprocess.run(command + (["--plates", str(plates)] if plates else []), check=True)


@app.command()
def export(plates: Plates = None, work: Work = _WORK, models: Models = MODELS) -> None:
    """Reader weights -> checkpoint, int8 model, temperatures, manifest (a minute)."""
    import torch

    from models.train import checkpoint, manifest
    from models.train.calibrate import temperatures
    from models.train.export import export as write
    from models.train.net import ALPHABET
    from models.train.photos import held_out, training
    from models.train.render import REGIONS
    from models.train.views import MARGIN

    photos = training(plates) if plates else []
    weights = work / "ocr" / "ema.pt"
    fresh = work / "ocr.tflite"
    write(weights, fresh, work / "pool", photos, scratch=work)
    entry: dict[str, object] = {
        "file": "ocr.tflite",
        **manifest.tensors(fresh.read_bytes()),
        "colour": "bgr", "margin": MARGIN, "alphabet": ALPHABET, "blank": len(ALPHABET), "regions": list(REGIONS),
        "characters_output": 0, "issuer_output": 1,
    }  # fmt: skip
    entry |= temperatures(fresh, work / "pool", held_out(plates) if plates else [])
    models.mkdir(parents=True, exist_ok=True)
    checkpoint.save(torch.load(weights, weights_only=True), models / "train" / "checkpoints" / "ocr.pt")
    fresh.replace(models / "ocr.tflite")  # the daemon refuses one without the other, so both change at once
    version = time.strftime(f"{VERSION}-%Y%m%d%H%M", time.gmtime())
    manifest.update("ocr", entry, version=version, path=models / "manifest.json")
    console.print({key: entry[key] for key in ("temperature", "issuer_temperature")})


@app.command()
def evidence(
    plates: Plates = None,
    models: Models = MODELS,
    false: Annotated[float, typer.Option(help="False plates that are allowed in a training picture.")] = 0.05,
    sheet: Annotated[Path | None, typer.Option(help="Write a sheet of the false ones here (not for sharing).")] = None,
) -> None:
    """Fit how much evidence makes a plate to these two models (2 minutes), and write it into the manifest."""
    from models.train import evidence as fitting
    from models.train import manifest

    scenes = list(track(fitting.propose(models, _named(plates)), "scenes", console=console))
    level = fitting.fit(scenes, false)
    path = models / "manifest.json"
    entry = json.loads(path.read_text())["detector"] | {"evidence": level.evidence.model_dump()}
    manifest.update("detector", entry, path=path)
    console.print(f"{level.evidence}: {level.found} plates found, {level.false:.3f} false a picture")
    if sheet:
        fitting.sheet(scenes, level, sheet)


@app.command()
def evaluate(
    plates: Plates = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line a photograph, for machines.")] = False,
    misses: Annotated[
        Path | None, typer.Option(help="Write a sheet of what is misread here (not for sharing).")
    ] = None,
    models: Models = MODELS,
) -> None:
    """Score the reader on the development split of the real plates, and draw reliability.svg beside it."""
    from models.train import evaluate as scores
    from models.train import reliability
    from models.train.photos import development

    reads = scores.read_all(scores.load_ocr(models), development(_named(plates)), scores.load_detector(models))
    if as_json:
        for read in reads:
            print(json.dumps({"set": read.photo.name, "exact": read.exact, "folded": read.folded,
                              "confidence": read.confidence, "region": read.region}))  # fmt: skip
        return
    _table("Reader on the development split", ["set", "plates", "texts", "exact %", "folded %", "region %"],
           scores.table(reads))  # fmt: skip
    stated = {"characters": reliability.of_characters(reads), "plates": reliability.of_plates(reads)}
    for name, told in stated.items():
        _table(f"Reliability of {name} (folded)", ["from", "to", name, "mean", "right %"], reliability.table(told))
    reliability.diagram({name: reliability.bins(told) for name, told in stated.items()}, models / "reliability.svg")
    sure = [read for read in reads if read.weakest >= 0.95]
    console.print(f"weakest character >= 0.95: {len(sure)} of {len(reads)} plates, right (folded) "
                  f"{scores.share(sum(read.folded for read in sure), max(len(sure), 1))} %")  # fmt: skip
    if misses:
        scores.sheet([read for read in reads if not read.folded], misses)


@app.command()
def syntax(plates: Plates = None) -> None:
    """Count the training plates that fit their issuers' formats, and how often look-alikes decide it (10 s)."""
    from models.train import syntax as formats
    from models.train.photos import training

    rows = [(name, *map(str, astuple(fits))) for name, fits in formats.fits(training(_named(plates))).items()]
    _table(
        "Formats",
        ["issuers", "plates", "fit", "only as they stand", "only otherwise", "letter in word", "digit in word"],
        rows,
    )


@app.command()
def card() -> None:
    """Draw the pictures of models/CARD.md from rendered plates: one of every style, and what is misread."""
    from models.train import evaluate as scores
    from models.train.sheet import contact_sheet

    contact_sheet(MODELS / "plates.jpg")
    wrong, tried = scores.failures(scores.load_ocr(MODELS), MODELS / "misread.jpg")
    console.print(f"{wrong} of {tried} rendered plates misread through bad optics")


@app.command(name="all")
def everything(plates: Plates = None, work: Work = _WORK, scale: Scale = 1.0) -> None:
    """Every stage in order; what is there already is kept."""
    render(work, round(PLATES_IN_POOL * scale))
    detector(plates, work, scale)
    threads = os.cpu_count() or 1
    best = work / "first" / "ema.pt"
    ocr(plates, work, best.parent, round(SAMPLES * scale), threads)
    for number in range(ROUNDS):
        again, mixed = work / f"again-{number}", work / f"mixed-{number}.pt"
        ocr(plates, work, again, round(SAMPLES_AGAIN * scale), threads, start_from=best)
        blend(again / "ema.pt", best, mixed)
        best = mixed
    ocr(plates, work, None, round(SAMPLES_OF_ISSUERS * scale), threads, start_from=best, issuer_only=True)
    export(plates, work)
    card()
    if plates:
        evidence(plates)
        evaluate(plates)


def _named(plates: Path | None) -> Path:
    if plates is None:
        raise typer.BadParameter("name a folder of labelled plates with --plates, PLATES or SEALANE_PLATES")
    return plates


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
               TextColumn("{task.fields[speed]}"), TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=console)


def _table(title: str, columns: list[str], rows: list[tuple[str, ...]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    app()
