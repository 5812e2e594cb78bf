"""What a reconstruction costs: pixels, edges, features of a network, an adversary; and how the last two are weighed."""

import torch
from torch import Tensor

from minidiff.validate import require_floating, require_like


def pixel_loss(y: Tensor, x: Tensor, l1: float = 1.0, mse: float = 1.0, edges: float = 0.5) -> Tensor:
    """l1·mean |y − x| + mse·mean (y − x)² + edges·(the same |·| of the steps to the next pixel, across and down): (B,).

    y: reconstructions of x (B, C, H, W), H, W ≥ 2. An edge that is blurred costs little in the mean over all pixels,
    but much in the mean of the steps, which are zero nearly everywhere.
    """
    _require_pair(y, x)
    error = y - x
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    mean = lambda e: e.flatten(1).mean(1)
    return l1 * mean(error.abs()) + mse * mean(error.square()) + edges * (mean(across.abs()) + mean(down.abs()))


def psnr(y: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of y against x (B, C, H, W) in [−1, 1]: −10·log₁₀ mean ((y − x)/2)², (B,).

    +∞ for equal pictures; 20 dB is an error of a tenth of the range.
    """
    _require_pair(y, x)
    return -10 * torch.log10(((y - x) / 2).square().flatten(1).mean(1))


def _require_pair(y: Tensor, x: Tensor) -> None:
    require_floating("x", x, min_dim=2)
    require_like("y", y, x, "x")
