"""Exercise 02-loss-weights: what a loss weighs."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import VELOCITY
from minidiff.schedules import DDPM, Cosine, Linear, Schedule

Weights = tuple[Tensor, Tensor, Tensor]


def _draw_times(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    t = 0.02 + 0.96 * torch.rand(5, generator=g, dtype=torch.float64)
    return [(Linear(), t), (Cosine(), t), (DDPM(), t), (Linear(), torch.tensor(0.5, dtype=torch.float64))]


def loss_weights(schedule: Schedule, t: Tensor) -> Weights:
    """The weight of ‖x̂0 − x0‖² in the losses of ε, v and velocity."""
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return (alpha / sigma) ** 2, ((alpha**2 + sigma**2) / sigma) ** 2, (determinant / sigma) ** 2


def _weights_upside_down(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, velocity = loss_weights(schedule, t)
    return 1 / eps, 1 / v, 1 / velocity


def _weights_not_squared(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, velocity = loss_weights(schedule, t)
    return eps.sqrt(), v.sqrt(), velocity.sqrt()


def _weights_on_the_circle(schedule: Schedule, t: Tensor) -> Weights:
    eps, _, velocity = loss_weights(schedule, t)
    return eps, eps + 1, velocity


def _weights_on_the_line(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, _ = loss_weights(schedule, t)
    return eps, v, 1 / schedule(t)[1] ** 2


def _weights_of_noise(schedule: Schedule, t: Tensor) -> Weights:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return torch.ones_like(alpha), ((alpha**2 + sigma**2) / alpha) ** 2, (determinant / alpha) ** 2


def _weights_from_slopes(schedule: Schedule, t: Tensor) -> Weights:
    from minidiff.predictions import EPS, V

    def weight(prediction) -> Tensor:  # x̂0 is affine in the output; its slope tells how errors are carried over
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        slope = prediction.to_x0(schedule, zero, one, t) - prediction.to_x0(schedule, zero, zero, t)
        return 1 / slope**2

    return weight(EPS), weight(V), weight(VELOCITY)


EXERCISE = Exercise(
    id="02-loss-weights",
    title="The same information, other weights",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_times,
    reference=loss_weights,
    mistakes=(
        Mistake(
            "upside-down",
            _weights_upside_down,
            "Your weights are the inverse of the right ones. If ε̂ − ε = −(α/σ)·(x̂0 − x0), then the loss of ε is "
            "(α/σ)² times that of x0: near the data, where σ is small, an error of ε is a *large multiple* of it.",
        ),
        Mistake(
            "not-squared",
            _weights_not_squared,
            "You give the factors between the errors. The losses are *squared* errors, so the factors are squared.",
        ),
        Mistake(
            "v-on-the-circle",
            _weights_on_the_circle,
            "Your weight of v is SNR + 1, which holds where α² + σ² = 1 (Cosine, DDPM). On Linear it is not: keep "
            "α² + σ² in the formula.",
        ),
        Mistake(
            "velocity-on-the-line",
            _weights_on_the_line,
            "Your weight of the velocity is 1/σ², which holds on `Linear` only. In general the determinant "
            "α·σ' − α'·σ stands above σ, and it depends on the schedule.",
        ),
        Mistake(
            "errors-of-eps",
            _weights_of_noise,
            "You weighed the errors of ε̂; asked for are the weights of ‖x̂0 − x0‖². Replace ε̂ − ε by "
            "−(α/σ)·(x̂0 − x0), as x_t is given.",
        ),
    ),
    alternatives=(_weights_from_slopes,),
    hints=(
        "x_t is fixed, so α·x̂0 + σ·ε̂ = x_t = α·x0 + σ·ε. What does an error in x̂0 do to ε̂?",
        "ε̂ − ε = −(α/σ)·(x̂0 − x0). Put that into v̂ − v = α·(ε̂ − ε) − σ·(x̂0 − x0), and likewise into u.",
        "Squares of: α/σ for ε, (α² + σ²)/σ for v, (α·σ' − α'·σ)/σ for the velocity.",
    ),
    expected="for one and the same flawed denoiser on Linear at t = 0.1, the loss of ε is 81 times that of x0, those "
    "of v and velocity 67.24 and 100 times: exact factors, whatever the seed (5 seeds, spread < 1e-12).",
    trap="on the quarter circle (Cosine, DDPM) the weight of v is exactly SNR + 1, a formula that many papers "
    "quote; on the straight path it is not.",
    rtol=1e-6,
    atol=0.0,
)
