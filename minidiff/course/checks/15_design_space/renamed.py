"""Exercise 15-renamed: a noisy picture of any path is one of the straight path, at another time and strength."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule

from .._common import normal

Two = tuple[Tensor, Tensor]


def _draw_noisy(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(schedule: Schedule, times: list[float], shape: tuple[int, ...], dtype: torch.dtype = torch.float64):
        alpha, sigma = schedule(torch.tensor(times, dtype=torch.float64))
        return normal((len(times), *shape), g, dtype), alpha.to(dtype), sigma.to(dtype)

    middle = float(torch.rand(1, generator=g))
    return [
        case(DDPM(), [0.1, middle, 0.9], (2,)),
        case(DDPM(), [0.0, 0.5, 1.0], (3, 2, 2), torch.float32),  # both ends
        case(Karras(), [middle, 1.0], (1, 3, 3)),  # α is 1, σ up to 80
        case(Cosine(), [1.0], (4,)),  # noise alone
        case(Cosine(), [0.2, middle, 0.8, 0.5], (2, 3), torch.float32),
        case(Linear(), [0.3, middle], (3,)),  # nothing changes
    ]


def renamed(x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Two:
    """(x_t/(α + σ), σ/(α + σ))."""
    whole = alpha + sigma
    return x_t / whole.reshape(-1, *[1] * (x_t.ndim - 1)), sigma / whole


def _made(
    factor: Callable[[Tensor, Tensor], Tensor] = lambda a, s: 1 / (a + s),
    time: Callable[[Tensor, Tensor], Tensor] = lambda a, s: s / (a + s),
) -> Callable[[Tensor, Tensor, Tensor], Two]:
    def renamed(x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Two:
        like = (len(x_t), *[1] * (x_t.ndim - 1))
        return x_t * factor(alpha, sigma).reshape(like), time(alpha, sigma)

    return renamed


EXERCISE = Exercise(
    id="15-renamed",
    title="The same noisy picture under two names",
    points=1,
    difficulty=1,
    importance=5,
    minutes=8,
    draw=_draw_noisy,
    reference=renamed,
    mistakes=(
        Mistake("time-is-sigma", _made(time=lambda a, s: s + 0 * a), "You took t' = σ. On the straight path σ' is t', "
            "but only after scaling: α' and σ' have to add up to 1, so t' = σ/(α + σ)."),
        Mistake("no-factor", _made(factor=lambda a, s: 1 + 0 * a), "You left x_t as it is. It holds α of the picture "
            "and σ of the noise, which add up to more than 1: divide by α + σ."),
        Mistake("swapped", _made(time=lambda a, s: a / (a + s)), "You exchanged α and σ: at t' = 1 there is noise "
            "alone, so t' is the *noise's* part, σ/(α + σ)."),
        Mistake("multiplied", _made(factor=lambda a, s: a + s), "You multiplied by α + σ. The parts α and σ are to "
            "add up to 1 afterwards: divide."),
        Mistake("by-variances", _made(time=lambda a, s: s**2 / (a**2 + s**2)), "You divided variances. A noisy "
            "picture is a sum of α·x0 and σ·ε themselves, not of their squares: σ/(α + σ)."),
    ),
    alternatives=(_made(), _made(time=lambda a, s: 1 - a / (a + s))),
    hints=(
        "You look for one number c with c·α = 1 − t' and c·σ = t'. Add the two equations.",
        "c·(α + σ) = 1. So c is known, and t' = c·σ.",
        "`whole = alpha + sigma`; `x_t / whole.reshape(-1, *[1] * (x_t.ndim - 1))` and `sigma / whole`.",
    ),
    expected="DDPM's t = 0.5 is the straight path's 0.774. Both exact denoisers agree to rounding; at t' = σ they "
    "differ by 0.248 ± 0.006, without the factor by 0.069 ± 0.003 (5 seeds).",
    trap="both paths begin with the picture and end with noise, and σ is called the level of noise in both. But "
    "DDPM's α and σ add up to as much as 1.41.",
)  # fmt: skip
