"""Times: where training looks (clocks) and where sampling steps (grids).

A *clock* draws training times, `(B,)` in [0, 1]. A *grid* is the decreasing tensor of times a sampler walks,
`steps + 1` values from `start` to `end`, float64 on the CPU.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minidiff.validate import require

Clock = Callable[[int, Generator | None], Tensor]


def uniform(batch: int, generator: Generator | None = None) -> Tensor:
    """t ~ U(0, 1), shape (batch,): the clock of DDPM."""
    return torch.rand(batch, generator=generator)


def logit_normal(mean: float = 0.0, std: float = 1.0, stratified: bool = False) -> Clock:
    """t = sigmoid(N(mean, std²)): more training where the task is hardest (Stable Diffusion 3, arXiv 2403.03206).

    stratified: one time from each of `batch` equally likely intervals, in order. Every batch then looks everywhere, and
    its loss scatters less.
    """
    require(abs(mean) < math.inf and 0 < std < math.inf, "mean, std", (mean, std), "finite numbers, std > 0")

    def clock(batch: int, generator: Generator | None = None) -> Tensor:
        if not stratified:
            return torch.sigmoid(mean + std * torch.randn(batch, generator=generator))
        even = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        return torch.sigmoid(mean + std * torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)))

    return clock


def _checked(steps: Any, start: float, end: float) -> None:
    require(isinstance(steps, int) and steps >= 1, "steps", steps, "a positive integer")
    require(0.0 <= end < start <= 1.0, "start, end", (start, end), "0 ≤ end < start ≤ 1")


def linear(steps: int, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equal steps in t: (steps + 1,) values from `start` down to `end`."""
    _checked(steps, start, end)
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def shifted(steps: int, shift: float, start: float = 1.0, end: float = 0.0) -> Tensor:
    """t ← shift·t / (1 + (shift − 1)·t): with shift > 1 more steps near the noise (arXiv 2403.03206, eq. 23)."""
    require(0 < shift < math.inf, "shift", shift, "a positive number")
    t = linear(steps, start, end)
    return shift * t / (1 + (shift - 1) * t)


def karras(steps: int, start: float = 1.0, end: float = 0.0, rho: float = 7.0) -> Tensor:
    """Dense near the data: t = (start^(1/ρ) + i/N·(end^(1/ρ) − start^(1/ρ)))^ρ, after arXiv 2206.00364, eq. 5.

    For the `Karras` schedule use `linear`: its σ(t) already holds this spacing.
    """
    require(0 < rho < math.inf, "rho", rho, "a positive number")
    _checked(steps, start, end)
    return torch.linspace(start ** (1 / rho), end ** (1 / rho), steps + 1, dtype=torch.float64) ** rho


def linear_quadratic(steps: int, emulated: int = 1000, start: float = 1.0) -> Tensor:
    """The first half of the steps copies the start of an `emulated`-step linear grid, the rest falls to 0
    quadratically (Movie Gen, arXiv 2410.13720, section 3.4): few steps, most of them where the layout is decided."""
    require(isinstance(steps, int) and steps >= 2, "steps", steps, "an integer of at least 2")
    require(emulated > steps, "emulated", emulated, f"more than steps ({steps})")
    _checked(steps, start, 0.0)
    first = steps // 2
    rest = steps - first
    reached = first / emulated  # how far the linear part has come; the quadratic part leaves it at the same speed
    speed = 1 / emulated
    j = torch.arange(1, rest + 1, dtype=torch.float64)
    quadratic = reached + speed * j + (1 - reached - speed * rest) * (j / rest) ** 2
    travelled = torch.cat([torch.arange(first + 1, dtype=torch.float64) / emulated, quadratic])
    return start * (1 - travelled).clamp(min=0)
