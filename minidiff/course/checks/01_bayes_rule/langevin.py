"""Exercise 01-langevin: a walk uphill with kicks."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import three_modes
from minidiff.schedules import Linear

Field = Callable[[Tensor], Tensor]


def _bowl(x: Tensor) -> Tensor:
    assert x.ndim == 2, f"x has shape {tuple(x.shape)}, expected all walkers at once: (B, D)"
    return -x / 0.25  # the score of N(0, 0.5²)


def _hills(x: Tensor) -> Tensor:
    return three_modes(x.dtype).score(x, torch.zeros((), dtype=x.dtype), Linear())


def _draw_walks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        score: Field, n: int, b: int, step: float, d: int = 1, dtype: torch.dtype = torch.float64, far: float = 1.0
    ) -> Inputs:
        x, noise = far * torch.randn(b, d, generator=g), torch.randn(n, b, d, generator=g)
        return score, x.to(dtype), step, noise.to(dtype)

    return [
        case(_bowl, n=5, b=4, step=0.02, d=2),
        case(_hills, n=8, b=6, step=0.005),
        case(_hills, n=1, b=3, step=0.01),  # a single step
        case(_bowl, n=0, b=3, step=0.01),  # none: where you started
        case(_bowl, n=4, b=1, step=0.1, d=3, dtype=torch.float32),  # batch of one
        case(_bowl, n=3, b=3, step=0.02, d=3, far=1000.0),  # from far away; as many steps as walkers and axes
        case(_bowl, n=3, b=2, step=0.6),  # so large a step that the walk flies off
        case(_bowl, n=2, b=2, step=0.02, far=0.0),  # from the summit, where the arrow is 0
    ]


def langevin(score: Field, x: Tensor, step: float, noise: Tensor) -> Tensor:
    """Langevin's walk, one step per entry of `noise`."""
    for z in noise:
        x = x + step * score(x) + (2 * step) ** 0.5 * z
    return x


def _walk(rule: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A walk with another rule (x, score at x, z, step) → x."""

    def walk(score: Field, x: Tensor, step: float, noise: Tensor) -> Tensor:
        for z in noise:
            x = rule(x, score(x), z, step)
        return x

    return walk


def _same_kick(score: Field, x: Tensor, step: float, noise: Tensor) -> Tensor:
    for _ in range(len(noise)):
        x = x + step * score(x) + (2 * step) ** 0.5 * noise[0]
    return x


def _frozen_arrows(score: Field, x: Tensor, step: float, noise: Tensor) -> Tensor:
    arrow = score(x)
    for z in noise:
        x = x + step * arrow + (2 * step) ** 0.5 * z
    return x


EXERCISE = Exercise(
    id="01-langevin",
    title="A walk uphill with kicks",
    points=2,
    difficulty=2,
    importance=3,
    minutes=8,
    draw=_draw_walks,
    reference=langevin,
    mistakes=(
        Mistake(
            "kick-too-small",
            _walk(lambda x, s, z, h: x + h * s + h**0.5 * z),
            "Your kick is √h·z; it must be √(2h)·z. With √h the walkers settle at half the variance.",
        ),
        Mistake(
            "kick-linear",
            _walk(lambda x, s, z, h: x + h * s + 2 * h * z),
            "Your kick is 2h·z, without the square root. Independent kicks add their variances, and a variance of 2h "
            "per step needs a kick of √(2h)·z.",
        ),
        Mistake(
            "no-kick",
            _walk(lambda x, s, z, h: x + h * s),
            "You climb but never kick: that is gradient ascent, and every walker ends on a summit. Add √(2h)·z.",
        ),
        Mistake(
            "same-kick",
            _same_kick,
            "Every step gets the same kick `noise[0]`. The kicks must be independent: step i takes `noise[i]`.",
        ),
        Mistake(
            "frozen-arrows",
            _frozen_arrows,
            "You asked for the score once, at the start. It changes as the walker moves: call `score(x)` in the loop.",
        ),
        Mistake(
            "downhill",
            _walk(lambda x, s, z, h: x - h * s + (2 * h) ** 0.5 * z),
            "You walk downhill. The score points to more data, so it is added; the minus belongs to losses.",
        ),
    ),
    alternatives=(_walk(lambda x, s, z, h: torch.addcmul(x, s, torch.full_like(s, h)).add(z, alpha=(h + h) ** 0.5)),),
    hints=(
        "One loop over the kicks: `for z in noise:`. What is new in x after one step?",
        "Three terms: where you are, h times the arrow *there*, and √(2h) times the kick.",
        "`x = x + step * score(x) + ... * z`, then `return x` after the loop. (`x += ...` writes into the argument.)",
    ),
    expected="the walkers on N(1, 0.5²) settle at variance 0.260 ± 0.005 (5 seeds, 20,000 walkers, h = 0.02), as "
    "s²/(1 − h/(2s²)) = 0.2604 says: a little too wide, because h is not 0.",
    trap="without the kick, or with half of it, pictures even look better: cleaner, more alike. What is lost is the "
    "variance, which no single sample shows. Chapter 05 meets the same effect again, on purpose.",
)
