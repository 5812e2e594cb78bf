"""Samplers: from noise at t = 1 to a picture at t = 0, one step t → s at a time.

A `Step` is a function (denoise, x_t, t, s, generator) → x_s. It receives the *callable*, so a two-stage step such as
Heun's is three lines; it never sees a condition. t and s are scalars on the CPU. Everywhere below

    x̂0 = denoise(x_t, t),        ε̂ = (x_t − α_t·x̂0)/σ_t.
"""

from collections.abc import Callable, Iterator, MutableMapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from minidiff.randomness import Randomness, randn_like
from minidiff.schedules import Schedule
from minidiff.validate import describe, require, require_floating, require_time

Denoise = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Denoise, Tensor, Tensor, Tensor, Randomness], Tensor]


def ddpm(schedule: Schedule, variance: str = "small", shift: Denoise | None = None) -> Step:
    """Ancestral sampling (DDPM, arXiv 2006.11239, Algorithm 2), and with `shift` the guided Algorithm 1 of 2105.05233:

        x_s ~ N(μ + Σ·shift(x_t, t), Σ),        μ = E[x_s | x_t, x̂0],        Σ = that posterior's variance.

    With σ²_{t|s} = σ_t² − (α_t/α_s)²·σ_s², "small" is Σ = σ²_{t|s}·σ_s²/σ_t² (β̃ in the paper) and "large" is
    Σ = σ²_{t|s} (β). `shift` returns w·∇_x log p(y|x_t), like x_t. The last step, to σ_s = 0, adds no noise.
    """
    require(variance in ("small", "large"), "variance", repr(variance), '"small" or "large"')

    def step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, generator: Randomness = None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        ratio = alpha_t / alpha_s
        var_ts = sigma_t**2 - ratio**2 * sigma_s**2
        mean = ratio * sigma_s**2 / sigma_t**2 * x_t + alpha_s * var_ts / sigma_t**2 * denoise(x_t, t)
        var = var_ts * sigma_s**2 / sigma_t**2 if variance == "small" else var_ts
        if shift is not None:
            mean = mean + var * shift(x_t, t)
        return mean + var.sqrt() * randn_like(x_t, generator) if sigma_s > 0 else mean

    return step


def ddim(schedule: Schedule, eta: float = 0.0) -> Step:
    """DDIM (arXiv 2010.02502, eq. 12): x_s = α_s·x̂0 + √(σ_s² − k²)·ε̂ + k·z with z ~ N(0, I) and

    k = η·σ_s·√(1 − (α_t·σ_s/(α_s·σ_t))²). η = 0 is deterministic: it draws nothing. η = 1 is DDPM's "small" step.
    With a classifier-guided `denoise` this is Algorithm 2 of arXiv 2105.05233.
    """
    require(eta >= 0, "eta", eta, "a number ≥ 0")

    def step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, generator: Randomness = None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x0 = denoise(x_t, t)
        eps = (x_t - alpha_t * x0) / sigma_t
        if eta == 0:
            return alpha_s * x0 + sigma_s * eps
        k = eta * sigma_s * (1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2).clamp(min=0).sqrt()
        return alpha_s * x0 + (sigma_s**2 - k**2).clamp(min=0).sqrt() * eps + k * randn_like(x_t, generator)

    return step


def _velocity(schedule: Schedule, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """dx/dt = α'·x̂0 + σ'·ε̂ along the probability-flow ODE (arXiv 2011.13456, eq. 13; 2210.02747)."""
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    return d_alpha * x0 + d_sigma * ((x_t - alpha * x0) / sigma)


def euler(schedule: Schedule) -> Step:
    """Euler's method on the ODE of `_velocity`: x_s = x_t + (s − t)·u(x_t, t). First order; on Linear it *is* DDIM."""

    def step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, generator: Randomness = None) -> Tensor:
        return x_t + (s - t) * _velocity(schedule, denoise(x_t, t), x_t, t)

    return step


def heun(schedule: Schedule) -> Step:
    """Heun's method (arXiv 2206.00364, Algorithm 1): a DDIM step, then the mean of both ends. Second order, two calls.

    On the ODE dx = x̂0·dα + ε̂·dσ:  x_s = x_t + (α_s − α_t)·(x̂0_t + x̂0_s)/2 + (σ_s − σ_t)·(ε̂_t + ε̂_s)/2, where x̂0_s
    and ε̂_s are taken at the end of the DDIM step. On Linear that is the mean of the slopes dx/dt, on Karras the paper's
    mean of the slopes dx/dσ. No rate is needed: those of the DDPM table jump. Where σ_s = 0, ε̂_s is 0/0, and the step
    is DDIM's.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, generator: Randomness = None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x0 = denoise(x_t, t)
        eps = (x_t - alpha_t * x0) / sigma_t
        x_s = alpha_s * x0 + sigma_s * eps
        if sigma_s == 0:
            return x_s
        x0_s = denoise(x_s, s)
        eps_s = (x_s - alpha_s * x0_s) / sigma_s
        return x_t + (alpha_s - alpha_t) * (x0 + x0_s) / 2 + (sigma_s - sigma_t) * (eps + eps_s) / 2

    return step


def dpmpp_2m(schedule: Schedule) -> Step:
    """DPM-Solver++ (2M) (arXiv 2211.01095, Algorithm 2): second order with one call per step, by remembering x̂0.

    With λ = log(α/σ), h = λ_s − λ_t and D = x̂0 + h/(2·h_last)·(x̂0 − x̂0_last):
        x_s = (σ_s/σ_t)·x_t − α_s·(e^(−h) − 1)·D.
    The first step of a trajectory, and the last one, to σ = 0, take D = x̂0. What is remembered belongs to the very
    tensor that a step returned and goes away with it: one step function may serve many trajectories, also in turns,
    and a state that was replaced by another tensor starts afresh.
    """
    memory: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakTensorKeyDictionary()  # x_s → (x̂0, h) of its step

    def step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, generator: Randomness = None) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x0 = denoise(x_t, t)
        h = torch.log(alpha_s / sigma_s) - torch.log(alpha_t / sigma_t)
        extrapolated = x0
        if x_t in memory and sigma_s > 0:
            x0_last, h_last = memory[x_t]
            extrapolated = x0 + h / (2 * h_last) * (x0 - x0_last)
        shrink = (alpha_t * sigma_s) / (alpha_s * sigma_t)  # e^(−h), finite also where λ is not
        x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - shrink) * extrapolated
        memory[x_s] = x0, h
        return x_s

    return step


def sample(denoise: Denoise, x: Tensor, times: Tensor, step: Step, generator: Randomness = None) -> Iterator[Tensor]:
    """Walk `times` from noise to data and yield the state after every step: `*_, picture = sample(...)`.

    x: noise σ(t)·ε at times[0], shape (B, …), floating-point and finite. times: a decreasing 1-D tensor in [0, 1],
    such as `times.linear(50)`. generator: one for the batch or a list with one per picture; only stochastic steps
    draw from it. `ValueError` names the argument that does not fit.
    """
    require_floating("x", x, finite=True, min_dim=1)
    require_time(times, argument="times")
    require(times.ndim == 1 and len(times) >= 2, "times", describe(times), "a 1-D tensor of at least two times")
    times = times.detach().to("cpu", torch.float64)
    require(
        bool((times.diff() < 0).all()),
        "times",
        times.tolist(),
        "strictly decreasing times (t = 1 noise, t = 0 data)",
    )
    return _walk(denoise, x, times, step, generator)


@torch.no_grad()
def _walk(denoise: Denoise, x: Tensor, times: Tensor, step: Step, generator: Randomness) -> Iterator[Tensor]:
    for t, s in pairwise(times):
        x = step(denoise, x, t, s, generator)
        yield x
