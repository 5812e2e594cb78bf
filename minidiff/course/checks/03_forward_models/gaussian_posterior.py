"""Exercise 03-gaussian-posterior: the exact posterior of a Gaussian."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_gaussians(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        dim: int, m: int, noise: float, known: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0
    ) -> Inputs:
        root = scale * (torch.randn(dim, dim, generator=g, dtype=torch.float64) + torch.eye(dim, dtype=torch.float64))
        root[:known] = 0  # these coordinates are known beforehand: variance 0
        mean, y = (torch.randn(n, generator=g, dtype=torch.float64) for n in (dim, m))
        matrix = torch.randn(m, dim, generator=g, dtype=torch.float64)
        return mean.to(dtype), (root @ root.T).to(dtype), matrix.to(dtype), y.to(dtype), noise

    return [
        case(3, 2, 0.5),
        case(2, 2, 2.0, dtype=torch.float32),
        case(3, 1, 0.0),  # measured without noise
        case(4, 2, 0.3, known=1),  # a prior that knows one coordinate
        case(1, 1, 1.0),
        case(2, 4, 0.7),  # more measurements than unknowns
        case(3, 1, 0.0, scale=1e-3),  # a prior that is very sure of itself, and a measurement that is surer
    ]


def gaussian_posterior(
    mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(x0 | y) for x0 ~ N(mean, covariance), y = A·x0 + noise·n."""
    seen = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(seen, matrix @ covariance).T
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance


def _kalman(mean: Tensor, covariance: Tensor, matrix: Tensor, added: float) -> tuple[Tensor, Tensor]:
    """The gain K with `added` on the diagonal of A·C·Aᵀ, and K·A·C."""
    seen = matrix @ covariance @ matrix.T + added * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(seen, matrix @ covariance).T
    return gain, gain @ matrix @ covariance


def _with_noise(added: Callable[[float], float]) -> Callable[..., tuple[Tensor, Tensor]]:
    def posterior(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        gain, explained = _kalman(mean, covariance, matrix, added(noise))
        return mean + gain @ (y - matrix @ mean), covariance - explained

    return posterior


def _absolute(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    gain, explained = _kalman(mean, covariance, matrix, noise**2)
    return mean + gain @ y, covariance - explained


def _no_news(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    return gaussian_posterior(mean, covariance, matrix, y, noise)[0], covariance.clone()


def _less_known(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    gain, explained = _kalman(mean, covariance, matrix, noise**2)
    return mean + gain @ (y - matrix @ mean), covariance + explained


def _precisions(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    prior = torch.linalg.inv(covariance)
    after = torch.linalg.inv(prior + matrix.T @ matrix / noise**2)
    return after @ (prior @ mean + matrix.T @ y / noise**2), after


def _joseph(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """The same covariance as a sum of two squares, which rounding cannot make negative (Joseph's form)."""
    gain, _ = _kalman(mean, covariance, matrix, noise**2)
    left = torch.eye(len(mean)).to(mean) - gain @ matrix
    return left @ mean + gain @ y, left @ covariance @ left.T + noise**2 * gain @ gain.T


def _one_by_one(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """One measured number after the other: each posterior is the next one's prior."""
    for row, value in zip(matrix, y):
        shared = covariance @ row
        gain = shared / (row @ shared + noise**2)
        mean, covariance = mean + gain * (value - row @ mean), covariance - torch.outer(gain, shared)
    return mean, covariance


EXERCISE = Exercise(
    id="03-gaussian-posterior",
    title="The posterior that can be computed",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_gaussians,
    reference=gaussian_posterior,
    mistakes=(
        Mistake(
            "no-noise",
            _with_noise(lambda noise: 0.0),
            "You left out the noise of the measurement: the covariance of y is A·C·Aᵀ + σ²·I. Without σ² every "
            "measurement is taken for exact, and its noise ends up in your estimate.",
        ),
        Mistake(
            "sigma-once",
            _with_noise(lambda noise: noise),
            "You added σ to the covariance of y; `noise` is a standard deviation, so add its square, σ²·I.",
        ),
        Mistake(
            "absolute",
            _absolute,
            "You let the gain act on y itself. What corrects the prior mean is the surprise, y − A·mean: a measurement "
            "that is just as expected must move nothing.",
        ),
        Mistake(
            "covariance-kept",
            _no_news,
            "Your mean is right, but you returned the prior's covariance. After a measurement you know more: "
            "subtract K·A·C.",
        ),
        Mistake(
            "covariance-grown",
            _less_known,
            "You added K·A·C to the covariance. A measurement cannot make you less certain: subtract it.",
        ),
        Mistake(
            "precisions",
            _precisions,
            "Your formula (add the precisions) is right where it exists, but it needs the inverse of the prior "
            "covariance and 1/σ². A prior that knows a coordinate, or a measurement without noise, breaks it. "
            "K = C·Aᵀ·(A·C·Aᵀ + σ²·I)⁻¹ needs neither.",
        ),
    ),
    alternatives=(_joseph, _one_by_one),
    hints=(
        "x0 and y are jointly Gaussian. What are the mean of y, the covariance of y, and that of x0 with y?",
        "Cov(x0, y) = C·Aᵀ and Cov(y) = A·C·Aᵀ + σ²·I. The gain is K = Cov(x0, y)·Cov(y)⁻¹.",
        "`mean + K @ (y - A @ mean)` and `covariance - K @ A @ covariance`; A is called `matrix`.",
    ),
    expected="with prior covariance [[1, 0.9], [0.9, 1]], x₁ measured as 1.5 with σ = 0.5: mean (1.200, 1.080), "
    "variances 0.200 and 0.352; a million weighted samples agree to 0.002 ± 0.001 (5 seeds).",
    trap="where the prior is wide and the noise is small, K·A is near the identity: then y and y − A·mean, with and "
    "without σ², give nearly the same mean. The covariance tells them apart.",
    rtol=1e-4,
    atol=1e-5,
)
