"""Pictures as they are found: many too small, many not square, so that a loader has to enlarge and to crop them.

Square pictures of one size are what a network is trained on, and hardly any picture is one. Of the pictures that SDXL
had, 39 % were smaller than it draws (arXiv 2307.01952, section 2.2). To leave them out is to learn from less; to
enlarge them, and to cut squares out of the others, is to learn blur and cut-off heads. Here are pictures with both
faults and, beside each, what was done to it.

A photograph is a part of a *sheet* of 96×96 pixels with the scene in its upper left 64×64 and empty ground around:
64×64, 96×64 (upright) or 64×96 (wide). It may have been stored with a shorter side of 16 … 48 pixels. As in SDXL the
loader then brings the shorter side to 64 and cuts a random 64×64 out of the longer one. So a corner (top, left) moves
everything up by `top` and to the left by `left` pixels, exactly.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.data.scenes import LATTICE, PALETTE, Scenes, grounds, stamps
from minidiff.validate import describe, require, require_floating

SIDE, MARGIN = 64, 32
"""Of what the network draws, and how much longer a photograph's longer side is."""
STORED = tuple(range(16, 49, 4))
"""Shorter sides of small photographs; at SIDE nothing is lost."""
SMALL = 0.39
"""The share of small photographs (arXiv 2307.01952, figure 2)."""
SQUARE = 1 / 3
"""The share of square ones; upright and wide ones are equally many."""
VISIBLE = 0.1
"""A pixel that differs from the ground by this much in a colour, of [−1, 1], belongs to an object."""


@lru_cache
def sheet_grounds() -> Tensor:
    """The empty sheets, (2, 3, 96, 96) in [−1, 1]: the snow goes on below, the sky to the right."""
    return 2 * F.pad(grounds(SIDE), (0, MARGIN, 0, MARGIN), mode="replicate") - 1


def sheet(scenes: Scenes) -> Tensor:
    """Scenes in the upper left of larger pictures: (B, 3, 96, 96) in [−1, 1]. The part [:64, :64] is `render`'s."""
    step, large = SIDE // LATTICE, SIDE + MARGIN
    table = F.pad(stamps(SIDE), (0, MARGIN, 0, MARGIN))
    windows = table.unfold(3, large, step).unfold(4, large, step)  # as in `scenes.render`
    x = (sheet_grounds()[scenes.ground] + 1) / 2
    for k in range(scenes.kind.shape[1]):
        kind, colour = scenes.kind[:, k], scenes.colour[:, k]
        if not bool((kind >= 0).any()):
            continue
        rows, columns = LATTICE - 1 - scenes.row[:, k], LATTICE - 1 - scenes.column[:, k]
        drawn = windows[kind.clamp(min=0), scenes.size[:, k].clamp(min=0), :, rows, columns]  # (B, 4, 96, 96)
        tint = torch.where(colour[:, None] >= 0, PALETTE[colour.clamp(min=0)], 1.0)[:, :, None, None]
        cover = drawn[:, 3:] * (kind >= 0)[:, None, None, None]
        x = x + cover * (tint * drawn[:, :3] - x)
    return 2 * x - 1


def crop(x: Tensor, top: Tensor, left: Tensor, side: int = SIDE) -> Tensor:
    """(B, C, H, W), corners (B,) and (B,) int64 → (B, C, side, side): x[i, :, top : top + side, left : left + side].

    `ValueError` for a corner from which `side` pixels do not fit.
    """
    require_floating("x", x, min_dim=4)
    for name, at, n in (("top", top, x.shape[2]), ("left", left, x.shape[3])):
        fits = isinstance(at, Tensor) and at.dtype == torch.int64 and at.shape == (len(x),)
        require(fits, name, describe(at), f"int64 of shape ({len(x)},)")
        require(bool(((at >= 0) & (at <= n - side)).all()), name, at.tolist()[:8], f"corners 0 … {n - side}")
    return torch.stack([p[:, t : t + side, k : k + side] for p, t, k in zip(x, top.tolist(), left.tolist())])


def stored(x: Tensor, shorter: Tensor) -> Tensor:
    """What is left of pictures (B, C, H, W) whose files hold `shorter` (B,) of every 64 pixels of a side.

    Means over areas make them small, bilinear interpolation brings them back. `ValueError` for sizes off 1 … 64, or
    where H or W would become a fraction of a pixel. 64 leaves a picture as it is, to the bit.
    """
    require_floating("x", x, min_dim=4)
    fits = isinstance(shorter, Tensor) and shorter.dtype == torch.int64 and shorter.shape == (len(x),)
    require(fits, "shorter", describe(shorter), f"int64 of shape ({len(x)},)")
    out = x.clone()
    for side in shorter.unique().tolist():
        whole = 1 <= side <= SIDE and all(n * side % SIDE == 0 for n in x.shape[2:])
        require(whole, "shorter", side, f"1 … {SIDE}, with whole pixels of {tuple(x.shape[2:])}")
        if side < SIDE:
            rows = shorter == side
            small = F.interpolate(x[rows], size=[n * side // SIDE for n in x.shape[2:]], mode="area")
            out[rows] = F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
    return out


def fine(x: Tensor) -> Tensor:
    """The upper band of pictures (B, C, H, W), like x: x less its blur by [1, 2, 1]/4 along rows and columns.

    Nothing is left of what is flat or slopes evenly, everything of a chessboard. Borders are repeated.
    """
    require_floating("x", x, min_dim=4)
    require(x.ndim == 4, "x", describe(x), "(B, C, H, W)")
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return x - F.conv2d(F.pad(x, [1] * 4, mode="replicate"), kernel, groups=x.shape[1])


def detail(x: Tensor) -> Tensor:
    """How sharp pictures are, (B, C, H, W) → (B,): the root mean square of `fine`, in the unit of [−1, 1]."""
    return fine(x).square().flatten(1).mean(1).sqrt()


def objects(x: Tensor, ground: Tensor) -> Tensor:
    """Which pixels of x (B, 3, H, W) do not show the ground (B, 3, H, W): (B, H, W) bool."""
    return (x - ground).abs().amax(1) > VISIBLE


def photographs(scenes: Scenes, generator: Generator) -> dict[str, Tensor]:
    """One photograph of each scene as the loader hands it on, and what was done to it:

    x0     (B, 3, 64, 64)
    sizes  (B, 6)   original height and width, top and left of the crop, target height and width (64), in pixels
    score  (B,)     what a rater would give, 0 … 10: the share of its detail that is left times the share of its
                    objects' pixels that is inside
    """
    n, whole = len(scenes), sheet(scenes)
    shape, small = (torch.rand(n, generator=generator) for _ in range(2))
    size = torch.tensor(STORED)[torch.randint(len(STORED), (n,), generator=generator)]
    size = torch.where(small < SMALL, size, SIDE)
    corner = torch.randint(MARGIN + 1, (n,), generator=generator)
    upright, wide = (shape >= SQUARE) & (shape < (1 + SQUARE) / 2), shape >= (1 + SQUARE) / 2
    top, left = torch.where(upright, corner, 0), torch.where(wide, corner, 0)
    x0, sharp = crop(stored(whole, size), top, left), crop(whole, top, left)
    there = objects(whole, sheet_grounds()[scenes.ground])
    inside = crop(there[:, None].float(), top, left).flatten(1).sum(1) / there.flatten(1).sum(1).clamp(min=1)
    longer = SIDE + MARGIN
    height, width = (torch.where(long, longer, SIDE) * size // SIDE for long in (upright, wide))
    target = torch.full((n,), SIDE)
    sizes = torch.stack([height, width, top, left, target, target], 1).float()
    score = 10 * inside * (detail(x0) / detail(sharp).clamp(min=1e-6)).clamp(max=1)
    return {"x0": x0, "sizes": sizes, "score": score}
