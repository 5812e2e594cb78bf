"""Thresholding: keep x̂0 where pictures are (Imagen, arXiv 2205.11487, section 2.3).

Guidance extrapolates: x̂0 = cond + w·(cond − uncond). Where both branches are near ±1 a small difference, times a
large w, leads out of [−1, 1], where no picture of the training set has ever been; and the sampler takes its next step
from there. Both functions go from denoiser to denoiser, and belong around the guided one.
"""

import torch
from torch import Tensor

from minidiff.guidance import Denoise
from minidiff.shapes import expand_like
from minidiff.validate import number, require_floating


def static(denoise: Denoise) -> Denoise:
    """x̂0 clipped to [−1, 1]: what is too bright becomes as bright as can be, and parts of a picture become one."""
    return lambda x_t, t: denoise(x_t, t).clamp(-1, 1)


def dynamic(denoise: Denoise, quantile: float = 0.995) -> Denoise:
    """s = max(1, the quantile of |x̂0| over each picture); x̂0 clipped to [−s, s] and divided by s.

    Where guidance does not exaggerate, s = 1, and it is `static`. quantile in [0, 1], between two values linearly.
    """
    q = number("quantile", quantile, "a number in [0, 1]", lambda v: 0 <= v <= 1)

    def thresholded(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        s = torch.quantile(x0.float().abs().flatten(1), q, dim=1).clamp(min=1).to(x0)  # (B,)
        s = expand_like(s, x0)
        return x0.clamp(-s, s) / s

    return thresholded


def saturated(x: Tensor, level: float = 0.99) -> Tensor:
    """(B,): the share of each picture's numbers with |x| ≥ level."""
    require_floating("x", x, min_dim=2)
    level = number("level", level, "a number", lambda v: v == v)
    return (x.abs() >= level).float().flatten(1).mean(1)
