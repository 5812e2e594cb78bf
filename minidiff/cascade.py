"""Cascades: a small picture first, then larger ones that keep it (arXiv 2106.15282; Imagen, 2205.11487).

By the chain rule p(x64 | y) comes down to p(x16 | y) · p(x32 | x16, y) · p(x64 | x32, y), one model each: a small
picture is a function of the large one. In training each stage sees small pictures of the data, in sampling small
pictures that another model drew, with that model's mistakes. Noise on both, and a number that says how much, makes the
two look more alike: noise conditioning augmentation (2106.15282, section 4; 2205.11487, section 2.4).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.randomness import Randomness, randn_like
from minidiff.shapes import expand_like
from minidiff.validate import describe, integer, require, require_floating


def lowered(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) → (B, C, H/factor, W/factor): means over factor×factor pixels."""
    require_floating("x", x, min_dim=4)
    factor = integer("factor", factor)
    fits = x.ndim == 4 and x.shape[2] % factor == 0 and x.shape[3] % factor == 0
    require(fits, "x", describe(x), f"(B, C, H, W) with H and W divisible by {factor}")
    return F.avg_pool2d(x, factor)


def noised(low: Tensor, level: float | Tensor, generator: Randomness = None) -> Tensor:
    """(1 − s)·low + s·ε, with one noise level s for all or one for each, (B,), in [0, 1].

    The linear schedule's noise, so that s means here what t means elsewhere. Deterministic for s = 0.
    """
    require_floating("low", low, min_dim=1)
    s = torch.as_tensor(level, dtype=torch.float32)
    require(s.shape in ((), (len(low),)), "level", describe(s), f"a number or shape ({len(low)},)")
    require(bool(((s >= 0) & (s <= 1)).all()), "level", s.tolist(), "noise levels in [0, 1]")
    s = expand_like(s.expand(len(low)), low).to(low)
    return (1 - s) * low + s * randn_like(low, generator)


class Enlarge(Protocol):
    """A stage after the first: `enlarge(low, texts, w, seeds)` → larger pictures that show what `low` shows."""

    def __call__(self, low: Tensor, texts: Sequence[str], w: float, seeds: Sequence[int], /) -> Tensor: ...


def staged(
    first: Tensor, stages: Sequence[Enlarge], texts: Sequence[str], w: float, seeds: Sequence[int]
) -> list[Tensor]:
    """The pictures of every stage, `first` among them: each stage enlarges what the one before drew."""
    pictures = [first]
    for enlarge in stages:
        pictures.append(enlarge(pictures[-1], texts, w, seeds))
    return pictures
