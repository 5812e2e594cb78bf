"""Exercise 03-sdedit-gaussian: SDEdit on a Gaussian, computed exactly."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.editing import gaussian_sdedit
from minidiff.schedules import Cosine, Karras, Linear, Schedule


def _draw_strokes(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], t0: float, schedule: Schedule, dtype: torch.dtype = torch.float64, scale: float = 1.0
    ) -> Inputs:
        guide = (2 * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)
        mean, std = (float(v) for v in torch.rand(2, generator=g, dtype=torch.float64) + 0.3)
        mean, std = (-mean, std) if len(shape) > 1 else (mean, scale * std)
        return mean, std, guide, torch.tensor(t0, dtype=dtype), schedule

    return [
        case((5,), 0.5, Linear()),
        case((4,), 0.7, Cosine()),
        case((2, 3), 0.3, Linear(), torch.float32),
        case((3,), 1.0, Linear()),  # nothing of the guide is left
        case((3,), 0.0, Linear()),  # nothing is changed
        case((1,), 0.4, Karras()),  # σ is about 2 here, and α is 1
        case((2,), 0.001, Linear(), scale=1e-3),  # a prior as narrow as the noise is small
    ]


def sdedit_gaussian(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and variance of x0 ~ p(x0 | x_t0) with x_t0 = α·guide + σ·ε, for a prior N(mean, std²)."""
    means, variances = gaussian_sdedit(mean, std, guide, float(t0), schedule)
    return means.to(guide), variances.flatten()[0].to(t0)


def _sdedit(of: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A wrong answer from `of`(mean, std, guide, α, σ, gain, left), left = Var[x0 | x_t0]."""

    def edited(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule(t0)
        seen = alpha**2 * std**2 + sigma**2
        return of(mean, std, guide, alpha, sigma, alpha * std**2 / seen, std**2 * sigma**2 / seen)

    return edited


def _without_alpha(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    _, sigma = schedule(t0)
    gain = std**2 / (std**2 + sigma**2)
    return mean + gain * (guide - mean), gain**2 * sigma**2 + gain * sigma**2


def _two_stages(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Through the moments of x_t0: E = m + k(E[x_t0] − α·m), Var = k²·Var[x_t0] + (1 − k·α)·s²."""
    alpha, sigma = schedule(t0)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (alpha * guide - alpha * mean), (gain * sigma) ** 2 + (1 - gain * alpha) * std**2


def _by_precisions(mean: float, std: float, guide: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of the guide, c = kα, is α²s²/(α²s² + σ²); everything is a function of it."""
    c = (alpha * std) ** 2 / ((alpha * std) ** 2 + sigma**2)
    return torch.lerp(torch.full_like(guide, mean), guide, c), std**2 * (1 - c) * (1 + c)


EXERCISE = Exercise(
    id="03-sdedit-gaussian",
    title="How much of the strokes survives?",
    points=2,
    difficulty=4,
    importance=3,
    minutes=10,
    draw=_draw_strokes,
    reference=sdedit_gaussian,
    mistakes=(
        Mistake(
            "noise-not-carried",
            _sdedit(lambda mean, std, guide, alpha, sigma, gain, left: (mean + gain * alpha * (guide - mean), left)),
            "You have the variance of x0 for *one* x_t0. The noise ε that made x_t0 differs from sample to sample and "
            "moves the mean with it: add its share, k²σ².",
        ),
        Mistake(
            "mean-only",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * alpha * (guide - mean),
                    (gain * sigma) ** 2,
                )
            ),
            "You have the variance of the mean E[x0 | x_t0] alone. A stochastic sampler also draws around it: add "
            "Var[x0 | x_t0] = s²σ²/(α²s² + σ²).",
        ),
        Mistake(
            "prior-variance",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * alpha * (guide - mean),
                    torch.full_like(sigma, std**2),
                )
            ),
            "You took the variance of the prior, s². That is right for noise drawn from p(x_t0); all your samples "
            "start from the same guide, and stay closer together the smaller t0 is.",
        ),
        Mistake(
            "alpha-lost",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * (guide - mean),
                    gain**2 * sigma**2 + left,
                )
            ),
            "You lost one α in the mean. x_t0 holds α·guide, and what it is compared with is α·m: the surprise is "
            "α·(guide − m), and the gain k has an α of its own.",
        ),
        Mistake(
            "no-alpha",
            _without_alpha,
            "You left out α: as if the guide were covered with noise but not faded. x_t0 = α·guide + σ·ε, so "
            "k = α·s²/(α²s² + σ²). At t0 = 1 nothing of the guide may be left.",
        ),
        Mistake(
            "unnoised-mean",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * (guide - alpha * mean),
                    gain**2 * sigma**2 + left,
                )
            ),
            "You put the guide itself where the noised guide belongs. The sampler starts at α·guide + σ·ε: its mean is "
            "α·guide, and the surprise α·guide − α·m.",
        ),
    ),
    alternatives=(
        _two_stages,
        lambda mean, std, guide, t0, schedule: _by_precisions(mean, std, guide, *schedule(t0)),
    ),
    hints=(
        "Exercise 2 with A = α, noise = σ and y = x_t0 gives the mean and the variance of x0 given x_t0. But x_t0 is "
        "random as well.",
        "E[x0 | x_t0] = m + k·(x_t0 − α·m), k = α·s²/(α²s² + σ²). Now put x_t0 = α·guide + σ·ε in: what is the mean of "
        "this over ε, and what its variance?",
        "Mean m + k·α·(guide − m). Variance: k²σ², from ε, plus s²σ²/(α²s² + σ²), from the draw around the mean.",
    ),
    expected="prior N(0.3, 0.5²), guide 2, t0 = 0.5: mean 0.640, variance 0.240; the sampler with 200 steps 0.637 ± "
    "0.002 and 0.234 ± 0.005 (5 seeds).",
    trap="at t0 = 0 and at t0 = 1 most versions agree: all of the guide, or none. The trade in between, which one "
    "chooses t0 for, is where they differ.",
)
