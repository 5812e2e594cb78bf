"""Exercise 09-v-and-eps: what Stable Diffusion 2 predicts, and both ways back."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import V
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule

from .._common import normal

Three = tuple[Tensor, Tensor, Tensor]


def _draw_pairs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(schedule: Schedule, shape: tuple[int, ...], t: float, dtype: torch.dtype = torch.float64) -> Inputs:
        x0, eps, x_t, v = (normal(shape, g, dtype) for _ in range(4))
        return schedule, x0, eps, x_t, v, torch.tensor(t, dtype=torch.float64)

    return [
        case(Cosine(), (3, 2), 0.3),
        case(Linear(), (3, 2), 0.3),  # α² + σ² is not 1
        case(Cosine(), (2, 1, 2, 2), 0.0),  # no noise: σ = 0
        case(Cosine(), (2, 3), 1.0),  # no picture: α = 0
        case(Linear(), (1, 4), 0.0),
        case(Linear(), (2, 2), 1.0),
        case(Karras(sigma_max=2.0), (1, 4), 0.6),  # α = 1
        case(DDPM(), (3, 1, 2, 2), 0.5, torch.float32),
    ]


def v_prediction(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    """(the target for x0 and eps; x̂0 of an output v at x_t; ε̂ of it)."""
    alpha, sigma = schedule(t)
    back = (sigma * x_t + alpha * v) / (alpha**2 + sigma**2)
    return V.target(schedule, x0, eps, t), V.to_x0(schedule, x_t, v, t), back


def _sign(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = schedule(t)
    whole = alpha**2 + sigma**2
    return sigma * x0 - alpha * eps, (alpha * x_t + sigma * v) / whole, (sigma * x_t - alpha * v) / whole


def _swapped(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    sigma, alpha = schedule(t)
    whole = alpha**2 + sigma**2
    return alpha * eps - sigma * x0, (alpha * x_t - sigma * v) / whole, (sigma * x_t + alpha * v) / whole


def _wrong_back(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = schedule(t)
    whole = alpha**2 + sigma**2
    return alpha * eps - sigma * x0, (alpha * x_t + sigma * v) / whole, (sigma * x_t - alpha * v) / whole


def _circle_only(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = schedule(t)
    return alpha * eps - sigma * x0, alpha * x_t - sigma * v, sigma * x_t + alpha * v


def _divided_by_sigma(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = schedule(t)
    guess = (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)
    return alpha * eps - sigma * x0, guess, (x_t - alpha * guess) / sigma


def _velocity(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    turn = alpha * d_sigma - d_alpha * sigma
    return d_alpha * x0 + d_sigma * eps, (d_sigma * x_t - sigma * v) / turn, (alpha * v - d_alpha * x_t) / turn


def _solved(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = (level.to(x_t) for level in schedule(t))
    matrix = torch.stack([alpha, sigma, -sigma, alpha]).reshape(2, 2)  # (x0, ε) → (x_t, v)
    target = torch.tensordot(matrix[1], torch.stack([x0, eps]), 1)
    both = torch.linalg.solve(matrix, torch.stack([x_t.flatten(), v.flatten()]))
    return target, both[0].reshape(x_t.shape), both[1].reshape(x_t.shape)


def _by_the_angle(schedule: Schedule, x0: Tensor, eps: Tensor, x_t: Tensor, v: Tensor, t: Tensor) -> Three:
    alpha, sigma = schedule(t)
    length, angle = torch.hypot(alpha, sigma), torch.atan2(sigma, alpha)
    c, s = angle.cos(), angle.sin()
    return length * (c * eps - s * x0), (c * x_t - s * v) / length, (s * x_t + c * v) / length


EXERCISE = Exercise(
    id="09-v-and-eps",
    title="What Stable Diffusion 2 predicts, and the ways back",
    points=2,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_pairs,
    reference=v_prediction,
    mistakes=(
        Mistake(
            "the-other-sign",
            _sign,
            "Your v is −v, and your ways back fit it. It would train as well, but a network made by others means "
            "v = α·ε − σ·x0: its output would be read upside down.",
        ),
        Mistake(
            "levels-swapped",
            _swapped,
            "You swapped α and σ: `schedule(t)` returns (α, σ), first the picture's share, then the noise's.",
        ),
        Mistake(
            "wrong-way-back",
            _wrong_back,
            "Your target is right, and both ways back have a wrong sign. Put x_t = α·x0 + σ·ε and v = α·ε − σ·x0 into "
            "your formulas: α·x_t − σ·v has no ε left.",
        ),
        Mistake(
            "circle-only",
            _circle_only,
            "α·x_t − σ·v is (α² + σ²)·x0. That is x0 on a schedule that keeps the variance, as Stable Diffusion's, "
            "and on no other: divide by α² + σ².",
        ),
        Mistake(
            "divided-by-sigma",
            _divided_by_sigma,
            "You found ε as (x_t − α·x̂0)/σ. That is 0/0 at t = 0. Solve for ε from x_t and v themselves: "
            "α² + σ² is never 0.",
        ),
        Mistake(
            "velocity",
            _velocity,
            "You took the velocity α'·x0 + σ'·ε, with the rates of the schedule. v is made of the levels: "
            "α·ε − σ·x0. Only on the circle do they agree, up to a factor.",
        ),
    ),
    alternatives=(_solved, _by_the_angle),
    shortcuts=("minidiff.predictions.V",),
    hints=(
        "Two linear equations for x0 and ε: x_t = α·x0 + σ·ε and v = α·ε − σ·x0. In which sum does one of them cancel?",
        "α·x_t − σ·v has no ε left; σ·x_t + α·v has no x0 left. What stands before what remains?",
        "`(alpha * x_t - sigma * v) / (alpha**2 + sigma**2)`, and the same denominator for ε.",
    ),
    expected="an error of 0.1 in the output becomes one of 0.90 in x̂0 at t = 0.9 with ε, of 0.11 with v; at t = 0.99 "
    "of 9.9 ± 0.1 and 0.10: σ/α and σ/(α² + σ²) times 0.1 (5 seeds).",
    trap="Stable Diffusion's schedule keeps α² + σ² = 1, so that every formula on the web has no denominator; "
    "and in the middle of the schedule every sign looks as good as the other.",
    rtol=1e-4,
    atol=1e-5,
)
