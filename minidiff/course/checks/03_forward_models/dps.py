"""Exercise 03-dps: guide through the denoiser."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic
from minidiff.guidance import Denoise, likelihood
from minidiff.schedules import DDPM, Cosine, Linear, Schedule

from .log_likelihood import log_likelihood

LogLikelihood = Callable[[Tensor], Tensor]


def _draw_guided(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], m: int, t: float, schedule: Schedule, w: float, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        x_t = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)
        dim = x_t[0].numel()
        world = isotropic(torch.randn(3, dim, generator=g, dtype=torch.float64), 0.6)
        matrix = torch.randn(m, dim, generator=g, dtype=torch.float64).to(dtype)
        y = torch.randn(len(x_t), m, generator=g, dtype=torch.float64).to(dtype)
        time = torch.tensor(t, dtype=torch.float64)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return world.denoise(x.flatten(1), t, schedule).reshape(x.shape)

        def log_p(x0: Tensor) -> Tensor:
            return log_likelihood(lambda x: x.flatten(1) @ matrix.T, x0, y, 0.8)

        return denoise, log_p, x_t, time, schedule, w

    return [
        case((4, 2), 1, 0.5, Linear(), w=1.0),
        case((3, 3), 2, 0.8, Cosine(), w=0.5),
        case((2, 1, 2, 2), 2, 0.3, Linear(), w=2.0, dtype=torch.float32),  # pictures
        case((1, 2), 1, 0.6, DDPM(), w=1.0),  # a batch of one
        case((3, 2), 1, 0.4, Linear(), w=0.0),  # no guidance
    ]


def dps(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """x̂0 + w·σ²/α·∇_{x_t} log p(y | x̂0(x_t))."""
    return likelihood(denoise, log_likelihood, schedule, w)(x_t, t)


def _dps(shift: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """DPS whose last term is `shift`(denoise, log p, x_t, t, α, σ), to be multiplied by w."""

    def guided(
        denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
    ) -> Tensor:
        return denoise(x_t, t) + w * shift(denoise, log_likelihood, x_t, t, *schedule(t)).to(x_t)

    return guided


def _gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(value(leaf).sum(), leaf)[0]


def _through(denoise: Denoise, log_p: LogLikelihood, x_t: Tensor, t: Tensor) -> Tensor:
    return _gradient(lambda x: log_p(denoise(x, t)), x_t)


def _detached(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    leaf = x_t.detach().requires_grad_()
    return torch.autograd.grad(log_likelihood(denoise(leaf, t).detach()).sum(), leaf)[0]


def _jacobian(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """Jᵀ·g, with g the gradient at x̂0 and J the derivative of x̂0 by x_t, which is α/σ² × Cov[x0 | x_t]."""
    alpha, sigma = schedule(t)
    x0 = denoise(x_t, t)
    gradient = torch.func.vjp(lambda x: denoise(x, t), x_t)[1](_gradient(log_likelihood, x0))[0]
    return x0 + (w * sigma**2 / alpha).to(x_t) * gradient


EXERCISE = Exercise(
    id="03-dps",
    title="Guide through the denoiser",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_guided,
    reference=dps,
    mistakes=(
        Mistake(
            "no-chain-rule",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _gradient(log_p, denoise(x_t, t))),
            "You differentiated with respect to x̂0. The score lives at x_t: follow the chain rule through the "
            "denoiser, which turns a correction of measured pixels into one of all the pixels that go with them.",
        ),
        Mistake(
            "noisy-picture",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _gradient(log_p, x_t)),
            "You showed the measurement the noisy x_t. The forward model was made for clean pictures: ask it about "
            "the guess x̂0 = denoise(x_t, t).",
        ),
        Mistake(
            "no-factor",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: _through(denoise, log_p, x_t, t)),
            "You added the gradient of the score to x̂0 as it is. By Tweedie's formula a score that grows by g makes "
            "x̂0 grow by (σ²/α)·g.",
        ),
        Mistake(
            "minus",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: -(sigma**2) / alpha * _through(denoise, log_p, x_t, t)),
            "You moved downhill, away from the measurement. The log-likelihood is to grow: add its gradient. (With a "
            "squared error as the loss, which is to shrink, the sign is the other one.)",
        ),
        Mistake(
            "detached",
            _detached,
            "Between x_t and the log-likelihood the thread is cut: a `.detach()`, a `torch.no_grad()`, or a new tensor "
            "made of x̂0. Make x_t the leaf, call the denoiser on that leaf, and hand its result on as it is.",
        ),
        Mistake(
            "mean",
            _dps(
                lambda denoise, log_p, x_t, t, alpha, sigma: (
                    sigma**2 / alpha * _through(denoise, log_p, x_t, t) / len(x_t)
                )
            ),
            "You averaged the log-likelihood over the batch, so each picture is guided less the more company it has. "
            "Use `.sum()`: each picture depends on its own term alone.",
        ),
    ),
    alternatives=(
        _jacobian,
        _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _through(denoise, log_p, x_t, t)),
    ),
    hints=(
        "Three parts: the guess x̂0 as a function of a tracked x_t, one log-likelihood per picture, its "
        "gradient at x_t.",
        "`leaf = x_t.detach().requires_grad_()`, then `x0 = denoise(leaf, t)`, then `log_likelihood(x0).sum()`. The "
        "factor from a score to x̂0 is σ²/α.",
        "`x0.detach() + w * sigma**2 / alpha * gradient`, with "
        "`(gradient,) = torch.autograd.grad(log_likelihood(x0).sum(), leaf)`.",
    ),
    expected="plain DPS with σ = 0.5: means (1.472 ± 0.004, 1.447 ± 0.002), variances (0.112 ± 0.005, 0.226 ± 0.007) "
    "over 5 seeds; exact are (1.200, 1.080) and (0.200, 0.352), reached to 0.02 once Cov[x0|x_t] is added.",
    trap="near t = 0 the denoiser hardly changes its input, so with or without the chain rule, at x̂0 or at x_t, "
    "everything agrees there; and the measured pixels come right in every version.",
)
