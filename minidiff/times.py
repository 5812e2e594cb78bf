"""Times: where training looks (clocks) and where sampling steps (grids).

A *clock* draws training times, `(B,)` in [0, 1]. A *grid* is the decreasing tensor of times a sampler walks,
`steps + 1` values from `start` to `end`, float64 on the CPU. Numbers may be Python's, NumPy's or 0-d tensors.
`ValueError` names what is out of range, and a setting that makes neighbouring times the same float64 number.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.validate import integer, number, positive, require

Clock = Callable[[int, Generator | None], Tensor]


def uniform(batch: int, generator: Generator | None = None) -> Tensor:
    """t ~ U(0, 1), shape (batch,): the clock of DDPM."""
    return torch.rand(batch, generator=generator)


def logit_normal(mean: float = 0.0, std: float = 1.0, stratified: bool = False) -> Clock:
    """t = sigmoid(N(mean, std²)): more training where the task is hardest (Stable Diffusion 3, arXiv 2403.03206).

    stratified: one time from each of `batch` equally likely intervals, in order. Every batch then looks everywhere, and
    its loss scatters less.
    """
    mean, std = number("mean", mean, "a finite number", math.isfinite), positive("std", std)

    def clock(batch: int, generator: Generator | None = None) -> Tensor:
        if not stratified:
            return torch.sigmoid(mean + std * torch.randn(batch, generator=generator))
        even = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        return torch.sigmoid(mean + std * torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)))

    return clock


def _ends(start: float, end: float) -> tuple[float, float]:
    expected = "0 ≤ end < start ≤ 1"
    start, end = (number("start, end", value, expected, math.isfinite) for value in (start, end))
    require(0.0 <= end < start <= 1.0, "start, end", (start, end), expected)
    return start, end


def _falling(grid: Tensor, argument: str, value: object) -> Tensor:
    require(bool((grid.diff() < 0).all()), argument, value, f"one that keeps {len(grid)} times apart in float64")
    return grid


def linear(steps: int, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Equal steps in t: (steps + 1,) values from `start` down to `end`."""
    steps, (start, end) = integer("steps", steps), _ends(start, end)
    return _falling(torch.linspace(start, end, steps + 1, dtype=torch.float64), "steps", steps)


def shifted(steps: int, shift: float, start: float = 1.0, end: float = 0.0) -> Tensor:
    """t ← shift·t / (shift·t + 1 − t): with shift > 1 more steps near the noise (arXiv 2403.03206, eq. 23).

    start and end are shifted, too; 1 stays 1 and 0 stays 0, exactly.
    """
    shift, t = positive("shift", shift), linear(steps, start, end)
    # The paper's denominator, 1 + (shift − 1)·t, is the same but rounds to less than shift·t at t = 1 for some shifts.
    return _falling(shift * t / (shift * t + (1 - t)), "shift", shift)


def karras(steps: int, start: float = 1.0, end: float = 0.0, rho: float = 7.0) -> Tensor:
    """Dense near the data: t = (start^(1/ρ) + i/N·(end^(1/ρ) − start^(1/ρ)))^ρ, after arXiv 2206.00364, eq. 5.

    For the `Karras` schedule use `linear`: its σ(t) already holds this spacing.
    """
    steps, (start, end), rho = integer("steps", steps), _ends(start, end), positive("rho", rho)
    grid = torch.linspace(start ** (1 / rho), end ** (1 / rho), steps + 1, dtype=torch.float64) ** rho
    grid[0], grid[-1] = start, end  # a root and its power give the number back up to rounding only
    return _falling(grid, "rho", rho)


def linear_quadratic(steps: int, emulated: int = 1000, start: float = 1.0) -> Tensor:
    """The first half of the steps copies the start of an `emulated`-step linear grid, the rest falls to 0
    quadratically (Movie Gen, arXiv 2410.13720, section 3.4): few steps, most of them where the layout is decided."""
    steps, emulated, (start, _) = integer("steps", steps, 2), integer("emulated", emulated), _ends(start, 0.0)
    require(emulated > steps, "emulated", emulated, f"more than steps ({steps})")
    first = steps // 2
    rest = steps - first
    reached = first / emulated  # how far the linear part has come; the quadratic part leaves it at the same speed
    speed = 1 / emulated
    j = torch.arange(1, rest + 1, dtype=torch.float64)
    quadratic = reached + speed * j + (1 - reached - speed * rest) * (j / rest) ** 2
    travelled = torch.cat([torch.arange(first + 1, dtype=torch.float64) / emulated, quadratic])
    travelled[-1] = 1.0  # not 1 − 1e-16: at exactly 0 a sampler adds no noise
    return _falling(start * (1 - travelled), "steps", steps)
