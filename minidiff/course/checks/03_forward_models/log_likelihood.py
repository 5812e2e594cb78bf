"""Exercise 03-log-likelihood: the physics as a log-likelihood."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import operators
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.operators import Operator


def _draw_measured(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], operator: Operator, noise: float, dtype: torch.dtype = torch.float64) -> Inputs:
        truth, x0 = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        clean = operator(truth)
        y = clean + noise * torch.randn(clean.shape, generator=g, dtype=torch.float64).to(dtype)
        return operator, x0, y, noise

    matrix = torch.randn(3, 5, generator=g, dtype=torch.float64)
    return [
        case((4, 5), operators.matrix(matrix), 0.5),  # points: three numbers measured of five
        case((4, 5), lambda x: x[:, :2], 1.0),  # two coordinates, as noisy as the data
        case((1, 5), operators.matrix(matrix), 2.0),  # a batch of one
        case((3, 3, 4, 4), operators.grey(), 0.5, torch.float32),  # pictures seen in grey
        case((2, 3, 4, 4), operators.downsample(2), 0.3),  # pictures seen in blocks
        case((3, 5), lambda x: x[:, None, :3] * torch.ones(2, 1).to(x), 0.5),  # three numbers, each measured twice
        case((2, 5), operators.matrix(matrix), 0.001),  # a very exact measurement
    ]


def log_likelihood(operator: Operator, x0: Tensor, y: Tensor, noise: float) -> Tensor:
    """−‖y − A(x0)‖²/(2·noise²), one value per picture."""
    return operators.log_likelihood(operator, y, noise)(x0)


EXERCISE = Exercise(
    id="03-log-likelihood",
    title="What a measurement says about a picture",
    points=2,
    difficulty=1,
    importance=5,
    minutes=6,
    draw=_draw_measured,
    reference=log_likelihood,
    mistakes=(
        Mistake(
            "mean",
            lambda operator, x0, y, noise: -((y - operator(x0)) ** 2).flatten(1).mean(1) / (2 * noise**2),
            "You averaged over the measured numbers. Independent measurements multiply their probabilities, so their "
            "logarithms add: a thousand measured pixels say more than one. Use `sum`.",
        ),
        Mistake(
            "no-half",
            lambda operator, x0, y, noise: 2 * log_likelihood(operator, x0, y, noise),
            "You divided by σ², not by 2σ². The Gaussian's exponent is −(y − Ax)²/(2σ²); without the 2 every gradient "
            "is twice too long, as if w were 2.",
        ),
        Mistake(
            "sigma-once",
            lambda operator, x0, y, noise: noise * log_likelihood(operator, x0, y, noise),
            "You divided by the standard deviation where the variance belongs: −‖y − A(x0)‖²/(2σ²). `noise` is σ.",
        ),
        Mistake(
            "root",
            lambda operator, x0, y, noise: -(y - operator(x0)).flatten(1).norm(dim=1) / (2 * noise**2),
            "You took the length ‖y − A(x0)‖ and not its square. `norm` has a root in it; the gradient would then be "
            "equally long however far the picture is from the measurement.",
        ),
        Mistake(
            "one-axis-only",
            lambda operator, x0, y, noise: -((y - operator(x0)) ** 2).sum(1) / (2 * noise**2),
            "You added up over axis 1 only. For points that is everything, but a picture's measurement has more axes: "
            "`flatten(1)` first, so that one number per picture remains.",
        ),
        Mistake(
            "constant-kept",
            lambda operator, x0, y, noise: (
                torch.distributions.Normal(operator(x0), noise).log_prob(y).flatten(1).sum(1)
            ),
            "You kept the constant −log(σ√2π) of every measured number. It is part of the density, but it does not "
            "depend on x0, so it has no gradient; here, as in the library, it is left out.",
        ),
    ),
    alternatives=(
        lambda operator, x0, y, noise: -0.5 * (((operator(x0) - y) / noise) ** 2).reshape(len(x0), -1).sum(dim=-1),
        lambda operator, x0, y, noise: torch.stack(
            [-F.mse_loss(seen, want, reduction="sum") / (2 * noise**2) for seen, want in zip(operator(x0), y)]
        ),
    ),
    hints=(
        "y − A(x0) is the noise that would have been needed. How likely is noise of that size, for a Gaussian?",
        "log N(r; 0, σ²) = −r²/(2σ²) + a constant, for every measured number r; independent ones add up.",
        "`((y - operator(x0)) ** 2).flatten(1).sum(1)`; then the sign and 2σ².",
    ),
    expected="at the true picture it is −m/2 ± √(m/2) for m measured numbers: over 4000 draws with m = 12 the mean "
    "is −5.99 ± 0.06 (5 seeds, with σ = 0.1 and σ = 2).",
    trap="mean and sum have the same maximum, and so have ‖r‖ and ‖r‖²: a fit by gradient descent alone would not "
    "tell. Against a prior, which has its own opinion, the size of the gradient is what counts.",
)
