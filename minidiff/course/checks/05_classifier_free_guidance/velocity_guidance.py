"""Exercise 05-velocity-guidance: guidance in velocity space."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import EPS, VELOCITY
from minidiff.schedules import Linear


def _draw_velocities(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], t: float, w: float, dtype: torch.dtype = torch.float64) -> Inputs:
        x_t, cond, null = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))
        return x_t, torch.tensor(t, dtype=dtype), cond, null, w

    return [
        case((5, 2), 0.3, 3.0),
        case((5, 2), 0.8, 0.0),  # no guidance: only the change of coordinates is left
        case((5, 2), 0.5, -1.0),
        case((1, 2), 0.05, 7.0),
        case((2, 1, 4, 4), 0.9, 1.5, torch.float32),
    ]


def guided_velocity(x_t: Tensor, t: Tensor, eps_cond: Tensor, eps_null: Tensor, w: float) -> Tensor:
    """Guide two ε-predictions and return the velocity dx/dt of the Linear path."""
    eps = eps_cond + w * (eps_cond - eps_null)
    x0 = EPS.to_x0(Linear(), x_t, eps, t)
    return VELOCITY.target(Linear(), x0, eps, t)


def _velocity(x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return (eps - x_t) / (1 - t)


EXERCISE = Exercise(
    id="05-velocity-guidance",
    title="Guide in one space, step in another",
    points=3,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_velocities,
    reference=guided_velocity,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake(
            "xt-for-x0",
            lambda x_t, t, eps_cond, eps_null, w: eps_cond + w * (eps_cond - eps_null) - x_t,
            "You subtracted x_t where the velocity ε − x0 needs the clean point x0. First solve "
            "x_t = (1 − t)·x0 + t·ε for x0.",
        ),
        Mistake(
            "mixed-spaces",
            lambda x_t, t, eps_cond, eps_null, w: _velocity(x_t, t, eps_cond) + w * (eps_cond - eps_null),
            "You added the guidance in ε to a velocity that is not guided: u_cond + w·(ε_cond − ε_null). That also "
            "happens if only the ε of ε − x0 is guided and x0 comes from the conditional branch. Make both from the "
            "guided ε.",
        ),
        Mistake(
            "offset-lost",
            lambda x_t, t, eps_cond, eps_null, w: (eps_cond + w * (eps_cond - eps_null)) / (1 - t),
            "The term with x_t is missing. The weights 1 + w and −w add up to 1, so the x_t of the two branches does "
            "not cancel: exactly one −x_t/(1 − t) stays.",
        ),
        Mistake(
            "t-for-one-minus-t",
            lambda x_t, t, eps_cond, eps_null, w: (eps_cond + w * (eps_cond - eps_null) - x_t) / t,
            "You divided by t. In x_t = (1 − t)·x0 + t·ε the clean point carries the factor 1 − t, "
            "and that is the one to divide by.",
        ),
        Mistake(
            "towards-data",
            lambda x_t, t, eps_cond, eps_null, w: -_velocity(x_t, t, eps_cond + w * (eps_cond - eps_null)),
            "Your arrow points from noise to data. dx/dt = ε − x0 points from data to noise, "
            "because t grows that way; the sampler's negative step turns it round.",
        ),
    ),
    alternatives=(
        lambda x_t, t, eps_cond, eps_null, w: _velocity(x_t, t, (1 + w) * eps_cond - w * eps_null),
        lambda x_t, t, eps_cond, eps_null, w: (1 + w) * _velocity(x_t, t, eps_cond) - w * _velocity(x_t, t, eps_null),
    ),
    hints=(
        "Guide first, in ε. What is left is one change of coordinates, from the guided ε to the velocity.",
        "From x_t = (1 − t)·x0 + t·ε follows x0 = (x_t − t·ε)/(1 − t); put it into the velocity ε − x0.",
        "All terms together: `(eps - x_t) / (1 - t)`, with `eps = eps_cond + w * (eps_cond - eps_null)`.",
    ),
    expected="guiding before and after the change of coordinates agree to 1e-12 in float64 (5 seeds).",
    trap="at w = 0 mixing the spaces costs nothing, and at small t neither do t-dependent factors: 1 − t is near 1. "
    "So a picture at small w looks fine, and the error shows as too little guidance at large t.",
)
