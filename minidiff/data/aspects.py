"""Pictures that are asked for in a shape: "a wide picture of a red circle", "a tall picture of …", "a picture of …".

Scenes keep the arrangement that `prompts.place` gave them, moved by whole cells to anywhere in the larger picture.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from minidiff.data.scenes import CELLS, LATTICE, Scenes, render
from minidiff.validate import require

ASPECTS = dict(zip(("", "wide", "tall"), CELLS, strict=True))
"""The word that asks for it → rows and columns of the lattice, and of the picture's pixels: the side is 16."""
NAMES = tuple(ASPECTS)


def asked(caption: str, aspect: int) -> str:
    """The caption with the word of ASPECTS number `aspect`: "a wide picture of a red circle"."""
    require(0 <= aspect < len(NAMES), "aspect", aspect, f"0 … {len(NAMES) - 1}")
    return " ".join(word for word in ("a", NAMES[aspect], "picture of", caption) if word)


def moved(scenes: Scenes, aspects: Tensor, generator: Generator) -> Scenes:
    """Scenes on the 16×16 lattice, each moved to a random place of its picture; aspects: (B,) int64."""
    room = torch.tensor([*ASPECTS.values()])[aspects] - LATTICE  # (B, 2)
    by = (torch.rand(len(aspects), 2, generator=generator) * (room + 1)).long()
    return replace(scenes, row=scenes.row + by[:, :1], column=scenes.column + by[:, 1:])


def drawn(scenes: Scenes, aspects: Tensor) -> list[Tensor]:
    """One picture (3, H, W) in [−1, 1] for each scene, in its shape; aspects: (B,) int64."""
    found: dict[int, Tensor] = {}
    for number, size in enumerate(ASPECTS.values()):
        rows = (aspects == number).nonzero()[:, 0]
        if len(rows):
            found |= dict(zip(rows.tolist(), render(scenes[rows], LATTICE, size)))
    return [found[i] for i in range(len(aspects))]


def aspects_of(pictures: Sequence[Tensor]) -> Tensor:
    """(B,) int64: the number in ASPECTS of each picture (3, H, W). `ValueError` for another shape."""
    sizes: list[tuple[int, ...]] = list(ASPECTS.values())
    for picture in pictures:
        size = tuple(picture.shape)
        require(size[:1] == (3,) and size[1:] in sizes, "pictures", f"one of shape {size}", f"(3, H, W) of {sizes}")
    return torch.tensor([sizes.index(tuple(picture.shape[1:])) for picture in pictures], dtype=torch.int64)
