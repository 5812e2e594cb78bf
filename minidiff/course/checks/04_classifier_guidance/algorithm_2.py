"""Exercise 04-algorithm-2: sampling with a guided guess of the noise (Algorithm 2)."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic
from minidiff.samplers import ddim, sample
from minidiff.schedules import DDPM, Cosine, Linear, Schedule
from minidiff.shapes import expand_like

from ._common import require_shapes

Field = Callable[[Tensor, Tensor], Tensor]


def _draw_journeys(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        n: int, dim: int, schedule: Schedule, w: float, start: float = 0.95, end: float = 0.0, steps: int = 6
    ) -> Inputs:
        world = isotropic(torch.randn(3, dim, generator=g, dtype=torch.float64), 0.4)

        def eps_model(x: Tensor, t: Tensor) -> Tensor:
            require_shapes(x, t, (n, dim), torch.float64)
            return -schedule(expand_like(t, x))[1] * world.score(x, t, schedule)

        def gradient(x: Tensor, t: Tensor) -> Tensor:
            require_shapes(x, t, (n, dim), torch.float64)
            return world.score(x, t, schedule, 0) - world.score(x, t, schedule)

        x = torch.randn(n, dim, generator=g, dtype=torch.float64)
        # Neither equal steps nor always down to 0: a grid belongs to whoever calls.
        times = end + (start - end) * torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64) ** 1.5
        return eps_model, gradient, x, times, schedule, w

    return [
        case(4, 2, Linear(), w=1.0),
        case(4, 1, Cosine(), w=3.0, end=0.1),
        case(3, 2, Linear(), w=0.0, steps=2),  # plain DDIM
        case(1, 2, Linear(), w=1.0, start=0.5, steps=1),  # a batch of one, a single step
        case(2, 2, DDPM(), w=-0.5, end=0.2, steps=3),  # away from y
    ]


def algorithm_2(eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float) -> Tensor:
    """DDIM with the guided guess of the noise."""

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        with torch.enable_grad():  # `sample` turns gradients off; a student's `gradient` may need them
            arrow = gradient(x_t, t)
        return (x_t - sigma * (eps_model(x_t, t) - sigma * w * arrow)) / alpha

    *_, x = sample(guided, x, times, ddim(schedule))
    return x


def _journey(noise_for_x0: Callable[..., Tensor], noise_for_step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Algorithm 2 with its two uses of the guessed noise left open: each is a function of (ε, w·∇log f, α, σ)."""

    def walk(eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float) -> Tensor:
        for t, s in pairwise(times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
            seen = eps_model(x, t), w * gradient(x, t), alpha, sigma
            x0 = (x - sigma * noise_for_x0(*seen)) / alpha
            x = alpha_s * x0 + sigma_s * noise_for_step(*seen)
        return x

    return walk


def _right(eps: Tensor, g: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return eps - sigma * g


def _plain(eps: Tensor, g: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return eps


def _everywhere(noise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return _journey(noise, noise)


def _multiplied_out(
    eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float
) -> Tensor:
    for t, s in pairwise(times):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = eps_model(x, t) - w * sigma * gradient(x, t)
        x = alpha_s / alpha * x + (sigma_s - alpha_s * sigma / alpha) * eps
    return x


def _last_guess(eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float) -> Tensor:
    x = _everywhere(_right)(eps_model, gradient, x, times[:-1], schedule, w)
    alpha, sigma = schedule(times[-2])
    return (x - sigma * (eps_model(x, times[-2]) - sigma * w * gradient(x, times[-2]))) / alpha


EXERCISE = Exercise(
    id="04-algorithm-2",
    title="Algorithm 2, the whole loop",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_journeys,
    reference=algorithm_2,
    mistakes=(
        Mistake(
            "guess-not-guided",
            _journey(_plain, _right),
            "You guided the noise that is put back, but computed x̂0 from the unguided ε. Then α·x̂0 + σ·ε̂ is no longer "
            "x_t, and every step adds a jump, however small the step: with 200 steps the samples fly away. Use ε̂ in "
            "both places.",
        ),
        Mistake(
            "noise-not-guided",
            _journey(_right, _plain),
            "You computed x̂0 from the guided ε̂ but put the unguided ε back. Then α·x̂0 + σ·ε is no longer x_t, and "
            "every step adds a jump: with many steps all samples end on one spot. Use ε̂ in both places.",
        ),
        Mistake(
            "alpha-for-sigma",
            _everywhere(lambda eps, g, alpha, sigma: eps - alpha * g),
            "You scaled the gradient by α = √ᾱ. The paper's √(1 − ᾱ) is our σ: ε = −σ·score, so a gradient that is "
            "added to the score is subtracted from ε with the factor σ.",
        ),
        Mistake(
            "no-sigma",
            _everywhere(lambda eps, g, alpha, sigma: eps - g),
            "You subtracted w·∇log f from ε without the factor σ. Scores and ε differ by −σ; what is added to one must "
            "be converted before it is added to the other.",
        ),
        Mistake(
            "plus",
            _everywhere(lambda eps, g, alpha, sigma: eps + sigma * g),
            "You added the gradient to the guess of the noise. ε = −σ·score points *away* from likely pictures: "
            "subtract, or you sample what is not y.",
        ),
        Mistake(
            "last-guess",
            _last_guess,
            "You returned the last guess x̂0 instead of x. They are the same only if the grid ends at t = 0, where σ is "
            "0. A grid may end earlier: return x at times[-1].",
        ),
    ),
    alternatives=(
        _everywhere(_right),
        # x_s = (α_s/α_t)·x_t + (σ_s − α_s·σ_t/α_t)·ε̂, the two lines of the loop multiplied out.
        lambda eps_model, gradient, x, times, schedule, w: _multiplied_out(eps_model, gradient, x, times, schedule, w),
    ),
    hints=(
        "Per step: guess the noise, guide the guess, turn it into x̂0, and put x̂0 and the noise together at the next "
        "level. Four lines in a loop over `pairwise(times)`.",
        "ε̂ = ε − σ_t·w·∇log f, then x̂0 = (x − σ_t·ε̂)/α_t. Everything so far belongs to level t.",
        "`x = alpha_s * x0 + sigma_s * eps`, with `alpha_s, sigma_s = schedule(s)` and the *guided* eps.",
    ),
    expected="with 100 steps on `three_modes` and y = 1: W1 = 0.012 ± 0.004 at w = 1 (5 seeds; floor 0.005 ± 0.002); "
    "at w = 3 the variance is 0.00004, where p(x|y) has 0.0225.",
    trap="with the unguided ε put back, every sample still lands in class y, and a judge of classes is delighted. "
    "Only a distance between distributions shows that with 200 steps they have all become the same sample.",
)
