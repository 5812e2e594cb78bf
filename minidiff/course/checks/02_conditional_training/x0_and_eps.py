"""Exercise 02-x0-and-eps: x0 and eps from a velocity."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import VELOCITY
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule

from .._common import normal


def _draw_velocities(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(schedule: Schedule, shape: tuple[int, ...], t: float, dtype: torch.dtype = torch.float64) -> Inputs:
        return schedule, normal(shape, g, dtype), normal(shape, g, dtype), torch.tensor(t, dtype=torch.float64)

    return [
        case(Linear(), (4, 2), 0.3),
        case(Cosine(), (4, 2), 0.3),
        case(Linear(), (1, 1, 4, 4), 0.0),  # no noise: σ = 0
        case(Cosine(), (2, 3), 0.0),  # here σ = 0 and the velocity is not ε − x0
        case(Cosine(), (2, 3), 1.0),  # only noise: α = 0
        case(Linear(), (3, 3), 1.0),
        case(Karras(sigma_max=2.0), (1, 4), 0.6),  # α = 1: neither the line nor the circle
        case(DDPM(), (3, 1, 2, 2), 0.5, torch.float32),
    ]


def x0_and_eps(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Solve x_t = α·x0 + σ·ε and u = α'·x0 + σ'·ε."""
    (alpha, _), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    x0 = VELOCITY.to_x0(schedule, x_t, u, t)
    eps = (alpha * u - d_alpha * x_t) / (alpha * d_sigma - d_alpha * schedule(t)[1])
    return x0, eps


def _pair_linear_only(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return x_t - t * u, x_t + (1 - t) * u


def _pair_no_determinant(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    return d_sigma * x_t - sigma * u, alpha * u - d_alpha * x_t


def _pair_divided_by_sigma(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule(t)
    x0 = VELOCITY.to_x0(schedule, x_t, u, t)
    return x0, (x_t - alpha * x0) / sigma


def _pair_from_v(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule(t)
    return alpha * x_t - sigma * u, sigma * x_t + alpha * u


def _pair_levels_swapped(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    (sigma, alpha), (d_sigma, d_alpha) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return (d_sigma * x_t - sigma * u) / determinant, (alpha * u - d_alpha * x_t) / determinant


def _pair_solved(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    matrix = torch.stack([torch.stack(schedule(t)), torch.stack(schedule.rates(t))]).to(x_t)  # (2, 2)
    both = torch.linalg.solve(matrix, torch.stack([x_t.flatten(), u.flatten()]))
    return both[0].reshape(x_t.shape), both[1].reshape(x_t.shape)


EXERCISE = Exercise(
    id="02-x0-and-eps",
    title="Clean picture and noise from a velocity, on any schedule",
    points=2,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_velocities,
    reference=x0_and_eps,
    mistakes=(
        Mistake(
            "linear-only",
            _pair_linear_only,
            "x_t − t·u and x_t + (1 − t)·u are right for `Linear` and no other schedule: there α = 1 − t, σ = t and "
            "the rates are −1 and 1. Take all four numbers from `schedule`.",
        ),
        Mistake(
            "no-determinant",
            _pair_no_determinant,
            "You eliminated one unknown but did not divide by what is left in front of the other, α·σ' − α'·σ. "
            "It is 1 on `Linear`, which hides it, and π/2 on `Cosine`.",
        ),
        Mistake(
            "divided-by-sigma",
            _pair_divided_by_sigma,
            "You found ε as (x_t − α·x̂0)/σ. That is right while σ > 0, and 0/0 at t = 0. Solve for ε directly: the "
            "determinant α·σ' − α'·σ does not vanish there.",
        ),
        Mistake(
            "v-not-velocity",
            _pair_from_v,
            "You used the formulas of v = α·ε − σ·x0. The velocity is another quantity: u = α'·x0 + σ'·ε, with the "
            "rates of the schedule.",
        ),
        Mistake(
            "alpha-sigma-swapped",
            _pair_levels_swapped,
            "You swapped α and σ (and their rates): `schedule(t)` returns (α, σ), first the picture's share, then "
            "the noise's.",
        ),
    ),
    alternatives=(_pair_solved,),
    shortcuts=("minidiff.predictions.VELOCITY",),
    hints=(
        "Two linear equations, two unknowns. Multiply them so that one unknown cancels when you subtract.",
        "σ'·(first) − σ·(second) has no ε left; α·(second) − α'·(first) has no x0 left.",
        "x0 = (σ'·x_t − σ·u)/(α·σ' − α'·σ). The same denominator serves ε.",
    ),
    expected="a pair of float64 pictures survives the round trip with an error below 1e-12 (5 seeds: 8e-16 ± 2e-16).",
    trap="on Linear, the schedule everybody tries first, the determinant is exactly 1 and forgetting it changes "
    "nothing. A formula tried on one schedule has not been tried.",
    rtol=1e-4,
    atol=1e-5,
)
