"""Weights kept beside the code, to train on from: kernels as int8 with a scale per channel, the rest as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def save(weights: dict[str, Tensor], file: Path) -> None:
    """A quarter of the size of float32, and for a start as good."""
    packed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim < 2:
            packed[name] = value
            continue
        scale = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp_min(1e-8) / 127
        packed[name] = (value / scale).round().to(torch.int8)
        packed[f"{name}/scale"] = scale
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(packed, file)


def load(file: Path) -> dict[str, Tensor]:
    """What `save` was given, but for rounding."""
    packed: dict[str, Tensor] = torch.load(file, weights_only=True)
    return {
        name: value * packed[f"{name}/scale"] if f"{name}/scale" in packed else value
        for name, value in packed.items()
        if not name.endswith("/scale")
    }


def blend(one: dict[str, Tensor], other: dict[str, Tensor], share: float, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of `one`, those of the named parts mixed with `share` of the other's.

    Two trainings of which one went on from the other lie in one valley: their mean reads better than both.
    Source: Wortsman et al., "Model soups", 2022.
    """
    mixed = dict(one)
    for name, value in one.items():
        if name.startswith(parts) and value.dtype.is_floating_point:
            mixed[name] = torch.lerp(value, other[name], share)
    return mixed
