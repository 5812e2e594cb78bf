"""How a picture of sprites is framed: from which corner of a larger one it was cut, whether an object is cut off."""

import torch
from torch import Tensor

from minidiff.data.photos import MARGIN, SIDE, fine, sheet_grounds
from minidiff.data.scenes import GROUNDS, LIGHT, render
from minidiff.judges.scenes import Parsed, parse
from minidiff.validate import describe, require, require_floating

HIDDEN = 0.1
"""The squared difference from which a pixel says no more than that something stands before the ground there."""
APART = 0.3
"""A pixel that differs from the plain ground by this much in a colour, of [−1, 1], shows an object …"""
CUT = 4
"""… and so many of them along the border, an object that is cut off."""


def _require_pictures(pictures: Tensor) -> Tensor:
    require_floating("pictures", pictures, finite=True)
    fits = pictures.ndim == 4 and tuple(pictures.shape[1:]) == (3, SIDE, SIDE)
    require(fits, "pictures", describe(pictures), f"shape (B, 3, {SIDE}, {SIDE})")
    return pictures.detach().float().cpu()


@torch.no_grad()
def corner(pictures: Tensor) -> Tensor:
    """Where pictures (B, 3, 64, 64) of a snowy scene were cut from their sheet: (top, left) in pixels, (B, 2) int64.

    The horizon tells `top`, the snowflakes tell both. The ground is laid under each of the 65 corners of upright and
    wide photographs, and the nearest one is taken; an object before it counts as a small difference at most.
    """
    x, ground = _require_pictures(pictures), sheet_grounds()[GROUNDS.index("snow")]
    places = [(top, 0) for top in range(MARGIN + 1)] + [(0, left) for left in range(1, MARGIN + 1)]
    cut = [ground[:, top : top + SIDE, left : left + SIDE] for top, left in places]
    away = torch.stack([(x - g).square().clamp(max=HIDDEN).flatten(1).mean(1) for g in cut], 1)  # (B, 65)
    return torch.tensor(places)[away.argmin(1)]


def cut_off(pictures: Tensor) -> Tensor:
    """(B,) bool: does an object of a picture (B, 3, 64, 64) on the plain ground reach its border?

    No object of an uncropped scene does, up to medium size: from the border it is at least 2 pixels away.
    """
    x = _require_pictures(pictures)
    seen = (x - (2 * LIGHT - 1)).abs().amax(1) > APART  # (B, 64, 64)
    border = torch.cat([seen[:, 0], seen[:, -1], seen[:, 1:-1, 0], seen[:, 1:-1, -1]], 1)
    return border.sum(1) >= CUT


def flaws(pictures: Tensor, read: Parsed | None = None) -> Tensor:
    """How wrong the finest detail of pictures is: root mean square, (B,), NaN where no object can be read.

    What is read in a picture is drawn anew, without a flaw, and the upper bands of both (`photos.fine`) are compared.
    read: what `parse` says of them, if that is known already.
    """
    x = _require_pictures(pictures)
    read = parse(x) if read is None else read
    away = fine(x - render(read.scenes, SIDE)).square().flatten(1).mean(1).sqrt()
    return torch.where(read.readable & (read.scenes.kind >= 0).any(1), away, torch.nan)


def explained(wanted: Tensor, found: Tensor) -> float:
    """R² of found = wanted, without a line fitted between: 1 − Σ(found − wanted)²/Σ(wanted − mean)², at most 1."""
    require(found.shape == wanted.shape, "found", describe(found), f"shape {tuple(wanted.shape)}")
    wanted, found = wanted.double(), found.double()
    return float(1 - (found - wanted).square().sum() / (wanted - wanted.mean()).square().sum())
