"""Trains the reader: half rendered plates, half photographs, CTC for the text, cross-entropy for the issuer."""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.train import checkpoint, views
from models.train.net import ALPHABET, BLANK, STEPS, PlateNet
from models.train.photos import Photo
from models.train.pool import Labelled, pool_parts, pool_plates
from models.train.render import REGIONS

Batch = tuple[Tensor, Tensor, Tensor, Tensor]

_SHARES = {"cn_lprnet_crop": 0.35, "oi_plates_scene": 1.5, "expplates_scene": 1.5, "kaggle_cars_scene": 1.5}

ISSUER_WEIGHT = 1.0
"""Of the issuer's loss beside that of the text: names are small, and learnt more slowly than serials."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: `samples` seen in all, the learning rate constant but for its warm-up and a cosine
    over the last `decay` share of the samples."""

    samples: int
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.35
    photo_share: float = 0.5
    warm_up: int = 20_000

    def rate_at(self, seen: int) -> float:
        start = self.samples * (1 - self.decay)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, seen - start) / (self.samples - start))))
        return self.rate * min(1.0, (seen + 1) / self.warm_up) * max(falling, 0.01)


@dataclass(frozen=True, slots=True)
class Progress:
    """Views seen, running loss, views a second since the start of this run."""

    seen: int
    loss: float
    speed: float


def batches(pool: Path, photos: list[Photo], size: int, photo_share: float) -> Iterator[Batch]:
    """Endless batches of views, made a few ahead by a thread; new parts of the pool are taken up as they appear."""
    ahead: queue.Queue[Batch] = queue.Queue(maxsize=4)

    def work() -> None:
        rng = np.random.default_rng()
        weights = _weights(photos)
        from_photos = round(size * photo_share) if photos else 0
        parts: list[Path] = []
        plates: list[Labelled] = []
        while True:
            if (found := pool_parts(pool)) != parts:
                parts, plates = found, pool_plates(found)
            for _ in range(200):
                rows = []
                for index in rng.choice(len(photos), from_photos, p=weights) if photos else ():
                    photo = photos[index]
                    rows.append((views.photo_view(rng, photo.plate, cropped=photo.cropped), photo.plate))
                for index in rng.integers(len(plates), size=size - from_photos):
                    rows.append((views.rendered_view(rng, plates[index]), plates[index]))
                ahead.put(_batch(rows))

    cv2.setNumThreads(1)
    threading.Thread(target=work, name="views", daemon=True).start()
    while True:
        yield ahead.get(timeout=300)


def train(
    pool: Path, photos: list[Photo], out: Path, schedule: Schedule, *, threads: int = 1,
    start_from: Path | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Train, resuming from `out`/state.pt where it exists; yields its progress every 50 steps.

    `out`/state.pt holds everything to resume; `out`/ema.pt the averaged weights that are exported.
    """
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    net = PlateNet().to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=schedule.rate, weight_decay=0.02)
    seen = 0
    state_file = out / "state.pt"
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        seen = int(state["seen"])
    elif start_from is not None:
        weights = checkpoint.load(start_from)
        net.load_state_dict(weights)
        average.load_state_dict(weights)
    read = nn.CTCLoss(blank=BLANK, zero_infinity=True)
    net.train()
    started, first, running = time.monotonic(), seen, 0.0
    feed = batches(pool, photos, schedule.batch, schedule.photo_share)
    for step, (pictures, texts, lengths, issuers) in enumerate(feed, 1):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(seen)
        with torch.autocast("cpu", torch.bfloat16):
            steps, regions = net(pictures.to(memory_format=torch.channels_last).float().div(255))
        log = steps.float().log_softmax(2).transpose(0, 1)
        spans = torch.full((len(pictures),), STEPS, dtype=torch.long)
        loss = read(log, texts, spans, lengths) + ISSUER_WEIGHT * _issuer_loss(regions.float(), issuers)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 4.0)
        optimiser.step()
        seen += len(pictures)
        _follow(average, net, min(0.999, 1 - 10 / (10 + seen / schedule.batch)))
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0 or seen >= schedule.samples:
            yield Progress(seen, running, (seen - first) / (time.monotonic() - started))
        if step % 150 == 0 or seen >= schedule.samples:
            _save(out / "ema.pt", average.state_dict())
            _save(state_file, {"net": net.state_dict(), "average": average.state_dict(),
                               "optimiser": optimiser.state_dict(), "seen": seen})  # fmt: skip
        if seen >= schedule.samples:
            return


def _issuer_loss(logits: Tensor, possible: Tensor) -> Tensor:
    """Minus the log of what the possible issuers have together; nothing where all are possible."""
    log = logits.log_softmax(1)
    return -log.masked_fill(~possible, -1e4).logsumexp(1).mean()


def _batch(rows: list[tuple[views.Image, Labelled]]) -> Batch:
    pictures = torch.from_numpy(np.stack([view.transpose(2, 0, 1) for view, _ in rows]))
    texts = torch.tensor([ALPHABET.index(c) for _, plate in rows for c in plate.text])
    lengths = torch.tensor([len(plate.text) for _, plate in rows])
    possible = torch.tensor([[not plate.regions or name in plate.regions for name in REGIONS] for _, plate in rows])
    return pictures, texts, lengths, possible


def _weights(photos: list[Photo]) -> NDArray[np.float64] | None:
    """Shares of the photographs in a batch: a text that stands in many photographs counts less in each."""
    if not photos:
        return None
    counts: dict[str, int] = {}
    for photo in photos:
        counts[photo.plate.text] = counts.get(photo.plate.text, 0) + 1
    weights = np.array([_SHARES.get(photo.name, 1.0) / counts[photo.plate.text] ** 0.7 for photo in photos])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    with torch.no_grad():
        for mean, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(new, 1 - keep)
            else:
                mean.copy_(new)


def _save(path: Path, value: object) -> None:
    partial = path.with_suffix(".part")
    torch.save(value, partial)
    partial.replace(path)
