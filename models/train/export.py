"""Averaged weights -> models/ocr.tflite, full int8, with its section of the manifest and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.train import views
from models.train.net import PlateNet
from models.train.photos import Photo
from models.train.pool import pool_parts, pool_plates

_CALIBRATION_VIEWS = 400


def load(weights: Path) -> PlateNet:
    """The network with averaged weights as training left them, in evaluation mode."""
    net = PlateNet()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()
    return net


def export(weights: Path, model: Path, pool: Path, photos: list[Photo], *, scratch: Path) -> None:
    """Write `model` as full int8 (in and out), calibrated on views of rendered and real training plates."""
    floating = scratch / "ocr-float.tflite"
    litert_torch.convert(_Deployed(load(weights)).eval(), (torch.zeros(1, views.INPUT_H, views.INPUT_W, 3),)).export(
        str(floating)
    )
    work = quantizer.Quantizer(str(floating))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    feed = [{"args_0": picture} for picture in _calibration(pool, photos)]
    work.quantize(work.calibrate({"serving_default": feed})).export_model(str(model), overwrite=True)


class _Deployed(nn.Module):  # type: ignore[misc]
    """Channels last, batch norms folded into their convolutions."""

    def __init__(self, net: PlateNet) -> None:
        super().__init__()
        self.net = _folded(net)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        characters, issuer, _ = self.net(picture.permute(0, 3, 1, 2))
        return characters, issuer


def _folded(net: PlateNet) -> PlateNet:
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i] = fuse_conv_bn_eval(conv, norm)
                    module[i + 1] = nn.Identity()
    return net


def _calibration(pool: Path, photos: list[Photo]) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    plates = pool_plates(pool_parts(pool)[:2])
    pictures = [views.rendered_view(rng, plates[i]) for i in rng.integers(len(plates), size=_CALIBRATION_VIEWS // 2)]
    if photos:
        chosen = [photos[i] for i in rng.integers(len(photos), size=_CALIBRATION_VIEWS // 2)]
        pictures += [views.photo_view(rng, photo.plate, cropped=photo.cropped) for photo in chosen]
    for picture in pictures:
        picture[0, :2] = [[0], [255]]  # so that the input's range is exactly 0 to 1
    return [(picture[None] / np.float32(255)).astype(np.float32) for picture in pictures]
