"""SDEdit (arXiv 2108.01073): from a rough guide to a picture, by adding noise up to t0 and then taking it away.

x_{t0} = α·guide + σ·ε drowns the guide's wrong details and keeps its layout; the reverse process puts right details in.
t0 trades faithfulness to the guide (t0 → 0 returns it) for realism (t0 → 1 forgets it). No training, no p(y|x).
"""

import math

import torch
from torch import Tensor

from minidiff import times
from minidiff.guidance import Denoise
from minidiff.randomness import Randomness, randn_like
from minidiff.samplers import Step, sample
from minidiff.schedules import Schedule
from minidiff.validate import number, positive, require_floating


def sdedit(
    denoise: Denoise, guide: Tensor, t0: float, step: Step, schedule: Schedule, steps: int, generator: Randomness
) -> Tensor:
    """Noise `guide` (B, …) to the time t0 and walk back to 0 in `steps` steps: like `guide`.

    The paper's Algorithm 1 with K = 1. t0 in (0, 1]; `steps` are spent between t0 and 0, not between 1 and 0.
    """
    require_floating("guide", guide, finite=True, min_dim=1)
    t0 = number("t0", t0, "a time in (0, 1]", lambda t: 0 < t <= 1)
    x = schedule.add_noise(guide, randn_like(guide, generator), torch.tensor(t0, dtype=torch.float64))
    *_, x = sample(denoise, x, times.linear(steps, start=t0), step, generator)
    return x


def gaussian_sdedit(
    m: float, s: float, y: float | Tensor, t0: float, schedule: Schedule, ode: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean and variance of SDEdit's output for the prior N(m, s²) and the guide y, in the limit of many steps.

    A reverse *SDE* (`ddpm`) draws from p(x0|x_{t0}) = N(m + k(x_{t0} − αm), v) with k = αs²/(α²s² + σ²) and
    v = s²σ²/(α²s² + σ²). With x_{t0} = αy + σε the mean is m + kα(y − m), the variance k²σ² + v.

    The reverse *ODE* (`ddim`, `heun`, …) is the map x0 = m + κ(x_{t0} − αm) with κ = s/√(α²s² + σ²), which carries the
    quantiles of p_{t0} to those of p_0: mean m + κα(y − m), variance κ²σ². More faithful, less spread.
    """
    y, m = torch.as_tensor(y, dtype=torch.float64), number("m", m, "a finite number", math.isfinite)
    s, t0 = (
        positive("s", s, "a positive standard deviation"),
        number("t0", t0, "a time in [0, 1]", lambda t: 0 <= t <= 1),
    )
    alpha, sigma = schedule(torch.tensor(t0, dtype=torch.float64))
    noisy = alpha**2 * s**2 + sigma**2  # the variance of x_{t0} under the prior
    slope = s / noisy.sqrt() if ode else alpha * s**2 / noisy
    left = torch.zeros_like(noisy) if ode else s**2 * sigma**2 / noisy
    return m + slope * alpha * (y - m), (slope**2 * sigma**2 + left).expand_as(y)
