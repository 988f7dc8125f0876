"""The reader's network: convolutions only, so that it quantises to int8 without losing much.

Picture (n, 3, 64, 192) BGR in 0..1 -> two rows of 48 steps. A plate with one line is read in one row, a plate with
two lines in both, top row first: the rows are laid end to end to STEPS steps and trained with CTC, so no stage needs
to know which kind of plate it sees. A second branch names the issuer. In training this branch must also spell the
issuer's name, letter by letter where it stands: told the issuer alone, it learns the photographs' colours by heart and
never learns to read. That head is left out of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.train.pool import NO_PLATE
from models.train.render import REGIONS

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BLANK = len(ALPHABET)
ROWS, COLUMNS = 2, 48
STEPS = ROWS * COLUMNS
ISSUERS = (*REGIONS, NO_PLATE)
"""What the second branch tells apart; the last says that what was cut out is no plate at all."""
NAME_LETTERS = 26
NAME_ROWS = 4

_FINE = 4
"""Layers of the trunk before it halves the height again: the letters of a name are a third as high as a serial's."""
_WIDTHS = (16, 32, 48, 80, 112, 144)


class PlateNet(nn.Module):  # type: ignore[misc]
    """Logits of characters (n, STEPS, 37), issuers (n, len(ISSUERS)) and name letters (n, 27, NAME_ROWS, COLUMNS)."""

    def __init__(self, widths: tuple[int, int, int, int, int, int] = _WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.trunk = nn.Sequential(
            _conv(3, a, stride=2), _conv(a, b), _conv(b, c, stride=2), _Residual(c),
            _conv(c, d, stride=(2, 1)), _Residual(d),
        )  # fmt: skip
        self.reader = nn.Sequential(
            _conv(d, e, stride=(2, 1)), _Residual(e), _conv(e, f, stride=(2, 1)), _conv(f, f, kernel=(3, 5)),
            nn.Conv2d(f, BLANK + 1, 1),
        )  # fmt: skip
        self.names = nn.Sequential(
            _conv(c, 64, stride=(2, 1)), _Residual(64), _conv(64, 96, stride=(2, 1)), _Residual(96),
        )  # fmt: skip
        self.spelling = nn.Conv2d(96, NAME_LETTERS + 1, 1)
        self.issuer = nn.Sequential(
            _conv(96, e, stride=2), _conv(e, f, kernel=(3, 5)), _conv(f, 192, kernel=(1, 3)),
            nn.MaxPool2d((2, COLUMNS // 2)), nn.Dropout(0.2), nn.Conv2d(192, len(ISSUERS), 1),
        )  # fmt: skip

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.trunk[:_FINE](picture)
        steps = self.reader(self.trunk[_FINE:](fine)).permute(0, 2, 3, 1).reshape(-1, STEPS, BLANK + 1)
        named = self.names(fine)
        return steps, self.issuer(named).reshape(-1, len(ISSUERS)), self.spelling(named)


def likeliest(net: PlateNet, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[str]:
    """The likeliest symbol of each of the STEPS of each picture (64, 192, 3) BGR, " " for blank."""
    for picture in pictures:
        with torch.no_grad():
            steps, _, _ = net(torch.from_numpy(picture.transpose(2, 0, 1)[None]).float().div(255))
        yield "".join((*ALPHABET, " ")[symbol] for symbol in steps[0].argmax(1).tolist())


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def _conv(
    inputs: int, outputs: int, *, stride: int | tuple[int, int] = 1, kernel: tuple[int, int] = (3, 3)
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
