"""What `judges.scenes` looks for: every object of the world, drawn alone in every place of a picture."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.scenes import LATTICE, SHAPES, SIZES, margin, windows


@dataclass(frozen=True)
class Templates:
    """T drawings of one object, pooled to one pixel a cell, P in all: 256 in a square.

    Shapes, which come in six colours, stand before U sprites.
    """

    cover: Tensor  # (T, P)
    paint: Tensor  # (T, 3, P), colour times coverage; a shape is white here
    tinted: Tensor  # (T,) bool: is it a shape?
    label: Tensor  # (T, 4): kind, size, row, column
    # Products of these that a search needs every time, and that take it as long as all the rest:
    cover2: Tensor  # (T, P)
    own2: Tensor  # (U, P): sums over the channels of paint²
    own: Tensor  # (U, 3, P): paint times coverage


Cells = tuple[int, int]


@lru_cache
def templates(side: int, cells: Cells) -> Templates:
    """Every kind in every size and place at which it is not cut off. side, cells: as in `data.scenes.render`."""
    step, table = side // LATTICE, windows(side, cells)
    cover, paint, label = [], [], []
    for kind in range(len(table)):
        for size, name in enumerate(SIZES):
            least = margin(name)
            for row in range(least, cells[0] - least):
                for column in range(least, cells[1] - least):
                    stamp = table[kind, size, :, cells[0] - 1 - row, cells[1] - 1 - column]
                    pooled = F.avg_pool2d(torch.cat([stamp[:3] * stamp[3:], stamp[3:]])[None], step)[0].flatten(1)
                    cover.append(pooled[3])
                    paint.append(pooled[:3])
                    label.append((kind, size, row, column))
    labels = torch.tensor(label)
    m, colours, tinted = torch.stack(cover), torch.stack(paint), labels[:, 0] < len(SHAPES)
    sprites = colours[~tinted]
    return Templates(m, colours, tinted, labels, m**2, (sprites**2).sum(1), sprites * m[~tinted, None])
