"""Trains the plate detector: grey frame in; score, box and corner maps at stride 8 out.

    python -m models.train.detector train --plates DIR --out build/detector --samples 300000
    python -m models.train.detector export --out build/detector

Training is resumable: it goes on from `state.pt` in --out. It begins with random weights, or (--again) with those that
were exported last.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edge.manifest import DetectorEntry
from edge.reading.bundle import Model
from edge.reading.detector import STRIDE, Detector, iou
from edge.reading.runtime import Network
from models.train import manifest
from models.train.checkpoint import blend
from models.train.material import (
    SCENE_SETS,
    Floats,
    Grey,
    Scene,
    drawn_backdrops,
    load_scenes,
    load_textures,
    render_signs,
    render_textures,
)
from models.train.negatives import unjudged
from models.train.scene import Composer, Sample

WIDTH, HEIGHT = 576, 384
"""The network's input when it is deployed; training sees smaller canvases at the same scale."""
CALIBRATION = 100
THRESHOLD = 0.3
"""Score from which a detection is a candidate; the reader decides by its text as well."""
EVIDENCE = {"least": 0.5, "legible": 0.0, "plausible": 0.0, "wide": 0.0}
"""What a plate needs until it is fitted (see evidence.py): a fair score."""
CANVASES = ((448, 320), (512, 384), (576, 448))
"""What training sees, at the deployed scale: small ones are cheap, the largest has room for plates of any width."""
BATCH_PIXELS = 5 * 448 * 320
BACKDROPS = 400
RENDERED, SIGNS = 8000, 10000
"""Distinct rendered plates that scenes are made of, and distinct signs."""
FINISH, FINISH_UNTOUCHED = 0.6, 0.75
"""From this share of the training on, so large a share of the photographs is left as it is: pasted plates teach corners
and variety, and are easier to tell from their surroundings than real ones."""
CHECKPOINT = Path(__file__).parent / "checkpoints" / "detector.pt"


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _conv(channels, channels)

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, 2), *(_Residual(outputs) for _ in range(blocks)))


class DetectorNet(nn.Module):  # type: ignore[misc]
    """(n, 1, H, W) grey in [0, 1], sides multiples of 64 -> three maps at stride 8, channels first:
    score (1, logits), box (4: centre offset x y in cells, log of width and height in cells) and corners (8: each
    corner's x y from the box's own corner, in box widths and heights, clockwise from the plate's top left)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(1, 16, 2), _stage(16, 24, 0))
        self.down8 = _stage(24, 48, 2)
        self.down16 = _stage(48, 96, 3)
        self.down32 = _stage(96, 128, 2)
        self.down64 = _stage(128, 64, 2)
        self.side64 = _conv(64, 64, kernel=1)
        self.side32 = _conv(128, 64, kernel=1)
        self.side16 = _conv(96, 64, kernel=1)
        self.side8 = _conv(48, 64, kernel=1)
        self.merge16 = _conv(64, 64)
        self.merge8 = _conv(64, 64)
        self.score = nn.Conv2d(64, 1, 1)
        self.box = nn.Conv2d(64, 4, 1)
        self.corners = nn.Conv2d(64, 8, 1)
        nn.init.constant_(self.score.bias, -4.6)

    def forward(self, x: Any) -> tuple[Any, Any, Any]:
        c8 = self.down8(self.stem(x))
        c16 = self.down16(c8)
        c32 = self.down32(c16)
        # Stride 64 is for plates that fill the picture: the other stages don't see both ends of one.
        p32 = self.side32(c32) + _twice(self.side64(self.down64(c32)))
        p16 = self.merge16(self.side16(c16) + _twice(p32))
        p8 = self.merge8(self.side8(c8) + _twice(p16))
        return self.score(p8), self.box(p8), self.corners(p8)


def _twice(x: Any) -> Any:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def targets(sample: Sample) -> dict[str, Floats]:
    """The maps a perfect net would give, channels last, and where they count.

    heat (h, w): 1 at each plate's centre cell, falling off with the plate's size; judged (h, w): 0 where unknown;
    edges (h, w, 4): x0 y0 x1 y1 px; quad (h, w, 8): corners from the box's corners in box sizes;
    weight, cornered (h, w): how much the geometry, and the corners in it, count.
    """
    height, width = (side // STRIDE for side in sample.image.shape)
    maps = {
        "heat": np.zeros((height, width), np.float32),
        "judged": np.ones((height, width), np.float32),
        "edges": np.zeros((height, width, 4), np.float32),
        "quad": np.zeros((height, width, 8), np.float32),
        "weight": np.zeros((height, width), np.float32),
        "cornered": np.zeros((height, width), np.float32),
    }
    for x0, y0, x1, y1 in sample.ignored / STRIDE:
        maps["judged"][max(int(y0 - 0.5), 0) : int(y1 + 1.5), max(int(x0 - 0.5), 0) : int(x1 + 1.5)] = 0
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    for quad, cornered in zip(sample.quads, sample.cornered, strict=True):
        low, high = quad.min(0), quad.max(0)
        size = high - low
        centre = (low + high) / 2 / STRIDE
        sigma = np.clip(size / STRIDE / 9, 0.45, 2.0)
        # The fall-off is measured from the centre cell's own middle, so that this cell is exactly 1.
        cell = np.clip(np.floor(centre), 0, (width - 1, height - 1))
        bell = np.exp(
            -((xs - cell[0] - 0.5) ** 2 / (2 * sigma[0] ** 2) + (ys - cell[1] - 0.5) ** 2 / (2 * sigma[1] ** 2))
        )
        maps["heat"] = np.maximum(maps["heat"], bell)
        # Geometry is asked for wherever the best score may come to lie: the neighbours, and all of a large plate's top.
        near = (np.abs(xs - cell[0] - 0.5) < 1.1) & (np.abs(ys - cell[1] - 0.5) < 1.1) | (bell > 0.3)
        share = np.maximum(bell, 0.25)
        near &= share > maps["weight"]
        unit = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        maps["edges"][near] = np.concatenate([low, high])
        maps["quad"][near] = ((quad - unit) / size).reshape(8)
        maps["weight"][near] = share[near]
        maps["cornered"][near] = float(cornered)
    return maps


def batches(composer: Composer, rng: np.random.Generator) -> Iterator[tuple[Any, dict[str, Any]]]:
    while True:
        width, height = CANVASES[rng.integers(len(CANVASES))]
        samples = [composer.sample(width, height) for _ in range(round(BATCH_PIXELS / (width * height)))]
        maps = [targets(s) for s in samples]
        images = torch.from_numpy(np.stack([s.image for s in samples])).float().div(255).unsqueeze(1)
        yield images, {key: torch.from_numpy(np.stack([m[key] for m in maps])) for key in maps[0]}


def loss(outputs: tuple[Any, Any, Any], wanted: dict[str, Any]) -> tuple[Any, dict[str, float]]:
    """Focal loss on the heat, generalised IoU and log-size on the box, L1 on corners where they are known; where only
    the box is, each of its sides must still be touched by one of its two corners."""
    score, box, corners = (o.float().permute(0, 2, 3, 1) for o in outputs)
    heat, weight = wanted["heat"], wanted["weight"]
    plates = (heat == 1).sum().clamp(min=1)
    log_p, log_q = functional.logsigmoid(score[..., 0]), functional.logsigmoid(-score[..., 0])
    p = log_p.exp()
    focal = torch.where(heat == 1, (1 - p) ** 2 * log_p, (1 - heat) ** 4 * p**2 * log_q)
    focal = -(focal * wanted["judged"]).sum() / plates

    at = weight > 0
    share = weight[at] / weight[at].sum().clamp(min=1e-6)
    ys, xs = torch.meshgrid(torch.arange(heat.shape[1]) + 0.5, torch.arange(heat.shape[2]) + 0.5, indexing="ij")
    cells = torch.stack([xs, ys], -1).expand(len(heat), -1, -1, -1)[at]
    values, edges = box[at], wanted["edges"][at] / STRIDE
    centre, half = cells + values[:, :2], values[:, 2:].clamp(-3, 5).exp() / 2
    log_size = (edges[:, 2:] - edges[:, :2]).log()
    overlap = _generalised_iou(torch.cat([centre - half, centre + half], 1), edges)
    boxes = ((1 - overlap) * share).sum() + 0.5 * ((values[:, 2:] - log_size).abs().sum(1) * share).sum()

    given, truth, known = corners[at], wanted["quad"][at], wanted["cornered"][at]
    sharp = ((given - truth).abs().sum(1) * share * known).sum()
    touching = torch.stack(
        [
            torch.minimum(given[:, 0], given[:, 6]),
            torch.minimum(given[:, 1], given[:, 3]),
            torch.maximum(given[:, 2], given[:, 4]),
            torch.maximum(given[:, 5], given[:, 7]),
        ],
        1,
    )
    loose = (touching.abs().sum(1) * share * (1 - known)).sum()
    total = focal + 2 * boxes + 2 * sharp + loose
    return total, {"heat": focal.item(), "box": boxes.item(), "corners": sharp.item(), "touch": loose.item()}


def _generalised_iou(a: Any, b: Any) -> Any:
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    return inner / union - (outer - union) / outer


def train(plates: Path | None, out: Path, samples: int, rate: float, *, again: bool) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(int(time.time()))
    composer = Composer(*_material(plates, out), rng)
    net = DetectorNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.pt"
    seen = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        average, seen = state["average"], state["seen"]
    else:
        if again:
            net.load_state_dict(_checkpoint())
        average = {k: v.clone() for k, v in net.state_dict().items()}
    stream = batches(composer, rng)
    start, first, step = time.monotonic(), seen, 0
    running: dict[str, float] = {}
    while seen < samples:
        progress = seen / samples
        if progress > FINISH:
            composer.untouched = FINISH_UNTOUCHED
        warm = min(1.0, (step + 1) / 100)
        for group in optimiser.param_groups:
            group["lr"] = rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        images, wanted = next(stream)
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(images.contiguous(memory_format=torch.channels_last))
        total, parts = loss(outputs, wanted)
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        seen += len(images)
        step += 1
        keep = min(0.999, (seen + 16) / (seen + 160))
        with torch.no_grad():
            for key, value in net.state_dict().items():
                if value.dtype.is_floating_point:
                    average[key].lerp_(value, 1 - keep)
                else:
                    average[key].copy_(value)
        for key, part in parts.items():
            running[key] = 0.98 * running.get(key, part) + 0.02 * part
        if step % 50 == 0:
            speed = (seen - first) / (time.monotonic() - start)
            left = (samples - seen) / speed / 60
            print(
                f"{seen} samples, {speed:.1f}/s, {left:.0f} min left",
                {k: round(v, 3) for k, v in running.items()},
                flush=True,
            )
        if step % 200 == 0 or seen >= samples:
            partial = out / "state.part"
            torch.save(
                {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "seen": seen},
                partial,
            )
            partial.replace(state_file)


def _material(plates: Path | None, out: Path) -> tuple[list[Scene], list[Scene], list[Grey], list[Grey]]:
    """Scenes, scenes without plates, flat plates and signs: the training side only; drawn where there are no
    photographs."""
    seed = crc32(out.name.encode())  # a training that goes on elsewhere sees others
    flat = rendered(out / "textures.npz", lambda: render_textures(RENDERED, seed))
    signs = rendered(out / "signs.npz", lambda: render_signs(SIGNS, seed))
    if plates is None:
        return [], list(drawn_backdrops(BACKDROPS, seed=1)), flat, signs
    negatives = load_scenes(plates, dev=False, sets=["neg_coco"])
    scenes = unjudged(CHECKPOINT.parents[2], load_scenes(plates, dev=False))
    return scenes, negatives, [*load_textures(plates), *flat], signs


def rendered(file: Path, draw: Callable[[], Iterator[Grey]]) -> list[Grey]:
    """Rendered plates or signs, drawn once and kept in `file`."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, *draw())
    with np.load(file) as stored:
        return [stored[name] for name in stored.files]


class _Deployed(nn.Module):  # type: ignore[misc]
    """The net as the reader calls it: channels last, output names in the order score, box, corners."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> tuple[Any, ...]:
        return tuple(y.permute(0, 2, 3, 1) for y in self.net(x.permute(0, 3, 1, 2)))


def _checkpoint() -> dict[str, Any]:
    return {name: value.float() for name, value in torch.load(CHECKPOINT, weights_only=True).items()}


def export(plates: Path | None, out: Path, file: Path, mix: float) -> None:
    """Averaged weights, mixed with `mix` of the checkpoint's -> checkpoint -> full int8 .tflite, calibrated on training
    scenes."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    average = torch.load(out / "state.pt", weights_only=True)["average"]
    if mix:
        average = blend(average, _checkpoint(), mix, ("",))
    CHECKPOINT.parent.mkdir(exist_ok=True)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in average.items()}, CHECKPOINT)
    net = DetectorNet()
    net.load_state_dict(average)
    floating = out / "detector-float.tflite"
    litert_torch.convert(_Deployed(net).eval(), (torch.zeros(1, HEIGHT, WIDTH, 1),)).export(str(floating))
    work = quantizer.Quantizer(str(floating))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    composer = Composer(*_material(plates, out), np.random.default_rng(2))
    ranges: dict[str, Any] = {}
    for _ in range(CALIBRATION):
        image = composer.sample(WIDTH, HEIGHT).image
        image[0, :2] = 0, 255  # so that the input's range is exactly 0 to 1
        # One picture a call: over several, the quantizer averages the extremes away, and a plate is an extreme.
        feed = {"args_0": image[None, :, :, None].astype(np.float32) / 255}
        for name, seen in work.calibrate({"serving_default": [feed]}).items():
            known = ranges.setdefault(name, seen)
            ranges[name] = {"min": np.minimum(known["min"], seen["min"]), "max": np.maximum(known["max"], seen["max"])}
    work.quantize(ranges).export_model(str(file), overwrite=True)
    entry = {"file": file.name, **manifest.tensors(file.read_bytes()), "threshold": THRESHOLD, "evidence": EVIDENCE}
    manifest.update("detector", entry, path=file.parent / "manifest.json")


def evaluate(plates: Path, file: Path, threshold: float) -> None:
    """Recall and false plates of the int8 detector on the development scenes, by set."""
    entry = DetectorEntry(**json.loads((file.parent / "manifest.json").read_text())["detector"])
    network = Network(file.read_bytes(), threads=1)
    detector = Detector(Model(network, entry.model_copy(update={"threshold": threshold})))
    found: dict[str, list[tuple[float, bool]]] = {}  # width and whether it was found, of every labelled plate
    false: dict[str, list[int]] = {}
    for scene in load_scenes(plates, dev=True, sets=[*SCENE_SETS, "neg_coco"], max_side=4096):
        boxes = [d.box for d in detector.detect(scene.image)]
        rows = found.setdefault(scene.source, [])
        rows += [(box[2] - box[0], any(iou(b, box) >= 0.5 for b in boxes)) for box in scene.boxes]
        known = [*scene.boxes, *scene.ignored]
        false.setdefault(scene.source, []).append(sum(all(iou(b, box) < 0.1 for box in known) for b in boxes))
    found["all"] = [row for rows in found.values() for row in rows]
    false["all"] = [count for counts in false.values() for count in counts]
    print(f"{'threshold ' + str(threshold):20} recall of plates >= 40 px | of all | false a picture")
    for name, rows in found.items():
        wide = [hit for width, hit in rows if width >= 40]
        print(
            f"{name:20} {np.mean(wide or [False]):.4f} of {len(wide):4} | "
            f"{np.mean([hit for _, hit in rows] or [False]):.4f} of {len(rows):4} | "
            f"{np.mean(false[name]):.3f} of {len(false[name])}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "export", "evaluate"])
    parser.add_argument("--plates", type=Path, default=os.environ.get("SEALANE_PLATES"), help="folder of labelled sets")
    parser.add_argument("--out", type=Path, default=Path("build/detector"))
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "detector.tflite")
    parser.add_argument("--samples", type=int, default=400_000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--again", action="store_true", help="begin with what was exported last")
    parser.add_argument("--mix", type=float, default=0.0, help="share of what was exported last")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    args = parser.parse_args()
    if args.action == "train":
        train(args.plates, args.out, args.samples, args.rate, again=args.again)
    elif args.action == "export":
        export(args.plates, args.out, args.model, args.mix)
    else:
        evaluate(args.plates, args.model, args.threshold)


if __name__ == "__main__":
    main()
