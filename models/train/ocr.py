"""Trains the reader: half rendered plates, half photographs, CTC for the text, cross-entropy for the issuer."""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.train import checkpoint, views
from models.train.net import ALPHABET, BLANK, COLUMNS, ISSUERS, NAME_LETTERS, NAME_ROWS, STEPS, PlateNet
from models.train.photos import Photo
from models.train.pool import NO_PLATE, Labelled, pool_parts, pool_plates
from models.train.render.canvas import Letter

Names = tuple[Tensor, Tensor, Tensor]
"""Rows that have a name, once for every way it may be written; the letters of all, end to end; how many each has."""
Row = tuple[Labelled, views.Image, tuple[Letter, ...]]
"""A plate, a view of it, and the letters of the issuer's name with the x, y of their middles in the view."""


class Difficulty:
    """What each plate has cost of late, a letter's share of the CTC loss: misread plates are drawn more often.

    A plate that was never drawn counts as hard. What no reader could read must not fill the batches, so cost is
    capped, and only HARD_SHARE of the draws goes by it.
    """

    def __init__(self) -> None:
        self._cost = np.empty(0, np.float64)

    def draw(self, rng: np.random.Generator, of: int, size: int, base: NDArray[np.float64] | None) -> NDArray[np.int64]:
        """Indexes of `size` plates out of `of`; base: their shares where cost says nothing, None if equal."""
        if of != len(self._cost):
            self._cost = np.full(of, _MOST)
        hard = round(size * HARD_SHARE)
        shares = self._cost.copy() if base is None else self._cost * base  # `learn` runs in another thread
        return np.concatenate(
            [rng.choice(of, size - hard, p=base), rng.choice(of, hard, p=shares / shares.sum())]
        ).astype(np.int64)

    def learn(self, indexes: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """What these plates have cost just now."""
        self._cost[indexes] = 0.6 * self._cost[indexes] + 0.4 * np.clip(costs, _LEAST, _MOST)


_LEAST, _MOST = 0.02, 0.6
HARD_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of photographs, then of rendered plates; `photos` and `drawn` say which ones they are.

    read: (n,) bool, whether the text is known.
    spelt: (n, NAME_ROWS, COLUMNS), the letter of the issuer's name that stands there, NAME_LETTERS where none does, -1
    where nobody knows.
    """

    pictures: Tensor
    texts: Tensor
    lengths: Tensor
    read: Tensor
    issuers: Tensor
    names: Names
    spelt: Tensor
    photos: NDArray[np.int64]
    drawn: NDArray[np.int64]


_SHARES = {"cn_lprnet_crop": 0.35, "oi_plates_scene": 1.5, "expplates_scene": 1.5, "kaggle_cars_scene": 1.5}
_UNREAD_SHARE = 0.4
"""Of plates that nobody transcribed and of what is no plate: they teach whether something is one."""

ISSUER_WEIGHT = 1.0
"""Of the issuer's loss beside that of the text: names are small, and learnt more slowly than serials."""

ISSUER_LETTERS = 5
"""An issuer's cost counts as that of so many letters where the hardest plates are drawn by it."""

NAME_WEIGHT = 1.0
PHOTO_NAME_WEIGHT = 0.3
"""Beside rendered names, whose letters are told one by one."""
OTHER_NAME = 2.0
"""What a letter of a photograph's name costs at most, in nats: many old plates bear another name than those known."""

PLAIN_FOR_ISSUERS = 0.4
"""Share of views through good optics where only the issuer is trained: names are small, and the first to blur."""


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
    """Views seen, views a second since the start of this run, running losses of text, issuer and issuer's name."""

    seen: int
    speed: float
    losses: tuple[float, float, float]


def batches(
    pool: Path, photos: list[Photo], size: int, photo_share: float, hardest: tuple[Difficulty, Difficulty], plain: float
) -> Iterator[Batch]:
    """Endless batches of views, made a few ahead by a thread; new parts of the pool are taken up as they appear.

    hardest: of the photographs, and of the rendered plates; plain: the share of views through good optics.
    """
    ahead: queue.Queue[Batch | Exception] = queue.Queue(maxsize=4)

    def work() -> None:
        try:
            draw()
        except Exception as error:  # noqa: BLE001 - raised again where the batches are waited for
            ahead.put(error)

    def draw() -> None:
        rng = np.random.default_rng()
        weights = _weights(photos)
        from_photos = round(size * photo_share) if photos else 0
        parts: list[Path] = []
        plates: list[Labelled] = []
        while True:
            if (found := pool_parts(pool)) != parts:
                parts, plates = found, pool_plates(found)
            for _ in range(200):
                chosen = hardest[0].draw(rng, len(photos), from_photos, weights) if photos else np.empty(0, np.int64)
                drawn = hardest[1].draw(rng, len(plates), size - from_photos, None)
                rows: list[Row] = []
                for index in chosen:
                    photo = photos[index]
                    view = views.photo_view(rng, photo.plate, cropped=photo.cropped, plain=plain)
                    rows.append((photo.plate, view, ()))
                for index in drawn:
                    rows.append((plates[index], *views.spelt_view(rng, plates[index], plain=plain)))
                ahead.put(_batch(rows, chosen, drawn))

    cv2.setNumThreads(1)
    threading.Thread(target=work, name="views", daemon=True).start()
    while True:
        if isinstance(batch := ahead.get(), Exception):
            raise batch
        yield batch


def train(
    pool: Path, photos: list[Photo], out: Path, schedule: Schedule, *, threads: int = 1,
    start_from: Path | None = None, issuer_only: bool = False,
) -> Iterator[Progress]:  # fmt: skip
    """Train, resuming from `out`/state.pt where it exists; yields its progress every 50 steps.

    issuer_only: what reads the text stays as it is (after `checkpoint.blend`), only the issuer's branch learns.

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
        if seen >= schedule.samples:
            return
    elif start_from is not None:
        for model in (net, average):
            model.load_state_dict(checkpoint.load(start_from))
    net.train()
    if issuer_only:
        for part in (net.trunk, net.reader):
            part.requires_grad_(False).eval()
    started, first, running = time.monotonic(), seen, torch.zeros(3)
    weights = torch.tensor([1.0, ISSUER_WEIGHT, NAME_WEIGHT])
    hardest = Difficulty(), Difficulty()
    plain = PLAIN_FOR_ISSUERS if issuer_only else views.PLAIN
    feed = batches(pool, photos, schedule.batch, schedule.photo_share, hardest, plain)
    for step, batch in enumerate(feed, 1):
        pictures = batch.pictures
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(seen)
        with torch.autocast("cpu", torch.bfloat16):
            steps, regions, spelt = net(pictures.to(memory_format=torch.channels_last).float().div(255))
        costs = _text_costs(steps.float(), batch)
        spelling = _spelling_loss(spelt.float(), batch) + PHOTO_NAME_WEIGHT * _name_loss(spelt.float(), batch.names)
        named = _issuer_costs(regions.float(), batch.issuers)
        losses = torch.stack([costs.mean(), named.mean(), spelling])
        each = (named / ISSUER_LETTERS if issuer_only else costs).detach().numpy().astype(np.float64)
        hardest[0].learn(batch.photos, each[: len(batch.photos)])
        hardest[1].learn(batch.drawn, each[len(batch.photos) :])
        optimiser.zero_grad()
        (losses * weights).sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 4.0)
        optimiser.step()
        seen += len(pictures)
        _follow(average, net, min(0.999, 1 - 10 / (10 + seen / schedule.batch)))
        running = losses.detach() if step == 1 else running.lerp(losses.detach(), 0.02)
        if step % 50 == 0 or seen >= schedule.samples:
            text, issuer, name = running.tolist()
            yield Progress(seen, (seen - first) / (time.monotonic() - started), (text, issuer, name))
        if step % 150 == 0 or seen >= schedule.samples:
            _save(out / "ema.pt", average.state_dict())
            _save(state_file, {"net": net.state_dict(), "average": average.state_dict(),
                               "optimiser": optimiser.state_dict(), "seen": seen})  # fmt: skip
        if seen >= schedule.samples:
            return


def _text_costs(logits: Tensor, batch: Batch) -> Tensor:
    """CTC of each view's text, a letter's share, shape (n,); nothing where the text is not known."""
    log = logits.log_softmax(2).transpose(0, 1)
    spans = torch.full((len(logits),), STEPS, dtype=torch.long)
    each = functional.ctc_loss(
        log, batch.texts, spans, batch.lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    return torch.where(batch.read, each / batch.lengths.clamp(min=4), 0)


def _issuer_costs(logits: Tensor, possible: Tensor) -> Tensor:
    """Minus the log of what the possible issuers of each have together, (n,); nothing where all are possible."""
    log = logits.log_softmax(1)
    return -log.masked_fill(~possible, -1e4).logsumexp(1)


def _spelling_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each letter of a rendered plate's name where it stands, and a tenth of that for each place
    without one."""
    weights = torch.full((NAME_LETTERS + 1,), 1.0)
    weights[NAME_LETTERS] = 0.1
    known = batch.spelt.amax((1, 2)) >= 0
    if not known.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits[known], batch.spelt[known], weights)


def _name_loss(logits: Tensor, names: Names) -> Tensor:
    """CTC over the columns of a photograph's likeliest name, a letter's share, in whatever row it stands."""
    rows, targets, lengths = names
    if not len(rows):
        return logits.sum() * 0
    letters, blank = logits[:, :NAME_LETTERS].logsumexp(2), logits[:, NAME_LETTERS:].mean(2)
    log = torch.cat([letters, blank], 1)[rows].log_softmax(1).permute(2, 0, 1)
    spans = torch.full((len(rows),), COLUMNS, dtype=torch.long)
    each = functional.ctc_loss(log, targets, spans, lengths, blank=NAME_LETTERS, reduction="none", zero_infinity=True)
    best = torch.full((len(logits),), torch.inf).scatter_reduce(0, rows, each / lengths, "amin")
    best = best[best.isfinite()]
    return -torch.logaddexp(-best, torch.full_like(best, -OTHER_NAME)).mean()


def _batch(rows: list[Row], photos: NDArray[np.int64], drawn: NDArray[np.int64]) -> Batch:
    plates = [plate for plate, _, _ in rows]
    written = [(row, name) for row, plate in enumerate(plates) for name in plate.names]
    return Batch(
        pictures=torch.from_numpy(np.stack([view.transpose(2, 0, 1) for _, view, _ in rows])),
        texts=torch.tensor([ALPHABET.index(c) for plate in plates for c in plate.text or ""]),
        lengths=torch.tensor([len(plate.text or "") for plate in plates]),
        read=torch.tensor([plate.text is not None for plate in plates]),
        issuers=torch.tensor([[_possible(plate, name) for name in ISSUERS] for plate in plates]),
        names=(
            torch.tensor([row for row, _ in written], dtype=torch.long),
            torch.tensor([ord(c) - ord("A") for _, name in written for c in name], dtype=torch.long),
            torch.tensor([len(name) for _, name in written], dtype=torch.long),
        ),
        spelt=torch.from_numpy(np.stack([_grid(letters) for _, _, letters in rows])),
        photos=photos,
        drawn=drawn,
    )


def _possible(plate: Labelled, issuer: str) -> bool:
    return issuer in plate.regions if plate.regions else issuer != NO_PLATE


def _grid(letters: tuple[Letter, ...]) -> NDArray[np.int64]:
    """Letters laid into the steps that the network has for names; Batch says what the numbers mean."""
    grid = np.full((NAME_ROWS, COLUMNS), NAME_LETTERS if letters else -1, np.int64)
    for letter, x, y in letters:
        row, column = int(y * NAME_ROWS / views.INPUT_H), int(x * COLUMNS / views.INPUT_W)
        if 0 <= row < NAME_ROWS and 0 <= column < COLUMNS:
            grid[row, column] = ord(letter) - ord("A")
    return grid


def _weights(photos: list[Photo]) -> NDArray[np.float64] | None:
    """Shares of the photographs in a batch: a text that stands in many photographs counts less in each."""
    if not photos:
        return None
    counts = Counter(photo.plate.text for photo in photos)
    weights = np.array(
        [
            photo.weight * _SHARES.get(photo.name, 1.0) / counts[photo.plate.text] ** 0.7
            if photo.plate.text
            else _UNREAD_SHARE
            for photo in photos
        ]
    )
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
