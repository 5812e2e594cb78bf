"""Exercise 04-algorithm-1-step: one step of Algorithm 1 (a shifted mean)."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_steps(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], variance: float | None, w: float, dtype: torch.dtype = torch.float64) -> Inputs:
        mean, gradient, noise = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))
        learned = torch.rand(*shape, generator=g, dtype=torch.float64)
        spread = learned if variance is None else torch.tensor(variance, dtype=torch.float64)
        return mean, spread.to(dtype), gradient, w, noise

    return [
        case((4, 2), 0.3, w=1.0),
        case((4, 2), 0.04, w=3.0),
        case((2, 1, 3, 3), None, w=2.0, dtype=torch.float32),  # a variance for every pixel, as learned models have
        case((1, 3), 0.3, w=0.0),  # no guidance
        case((3, 2), 0.0, w=2.0),  # the last step
    ]


def algorithm_1_step(mean: Tensor, variance: Tensor, gradient: Tensor, w: float, noise: Tensor) -> Tensor:
    """A draw from N(μ + w·Σ·g, Σ), made of the given standard normal noise."""
    return mean + w * variance * gradient + variance.sqrt() * noise


EXERCISE = Exercise(
    id="04-algorithm-1-step",
    title="One step of Algorithm 1",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_steps,
    reference=algorithm_1_step,
    mistakes=(
        Mistake(
            "root-on-gradient",
            lambda mean, variance, gradient, w, noise: mean + variance.sqrt() * (w * gradient + noise),
            "You multiplied the gradient by the standard deviation √Σ. The square you complete has Σ⁻¹ in front of "
            "(x − μ)², and its inverse is the variance: the shift is w·Σ·g. √Σ belongs to the noise.",
        ),
        Mistake(
            "variance-on-noise",
            lambda mean, variance, gradient, w, noise: mean + w * variance * gradient + variance * noise,
            "You multiplied the noise by the variance. Σ·z has the variance Σ²; a draw with variance Σ is √Σ·z.",
        ),
        Mistake(
            "no-variance",
            lambda mean, variance, gradient, w, noise: mean + w * gradient + variance.sqrt() * noise,
            "You added the gradient without Σ. A step may move only about as far as it is uncertain: towards the end "
            "Σ goes to 0, and so must the push.",
        ),
        Mistake(
            "w-on-noise",
            lambda mean, variance, gradient, w, noise: mean + w * (variance * gradient + variance.sqrt() * noise),
            "You let w scale the noise as well. w shifts the mean; the covariance stays Σ. Otherwise strong guidance "
            "is drowned in noise, and w = 0 never adds any.",
        ),
        Mistake(
            "w-in-variance",
            lambda mean, variance, gradient, w, noise: mean + w * variance * gradient + (w * variance).sqrt() * noise,
            "You scaled Σ itself by w, in the shift and in the noise. Only the shift of the mean has the factor w.",
        ),
        Mistake(
            "minus",
            lambda mean, variance, gradient, w, noise: mean - w * variance * gradient + variance.sqrt() * noise,
            "You shifted the mean against the gradient, away from y. The minus sign is that of the guess of the noise "
            "in Algorithm 2; means move uphill.",
        ),
    ),
    alternatives=(
        lambda mean, variance, gradient, w, noise: torch.addcmul(mean, variance * w, gradient) + variance**0.5 * noise,
        lambda mean, variance, gradient, w, noise: (
            mean + torch.where(variance > 0, variance, 0 * variance) * (w * gradient) + noise * variance.sqrt()
        ),
    ),
    hints=(
        "You derived it: near μ, p(x_s|x_t)·p(y|x_s)^w is a Gaussian again. Which mean, which covariance?",
        "The mean is μ + w·Σ·g, the covariance is still Σ. How do you make a draw from N(m, Σ) out of standard noise?",
        "`mean + w * variance * gradient` is the mean; add `variance.sqrt() * noise`.",
    ),
    expected="with 200 steps on `three_modes` and y = 0: W1 = 0.012 ± 0.004 at w = 1 (5 seeds; floor 0.008 ± 0.002).",
    trap="at Σ = 1 the variance and its root are the same number, and at w = 1 it does not matter what w multiplies.",
)
