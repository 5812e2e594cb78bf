"""Exercise 15-weights: what an error of the clean picture counts in the losses of three predictions."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

Three = tuple[Tensor, Tensor, Tensor]
Weigh = Callable[[Tensor], Tensor]


def _draw_levels(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    some = lambda n, spread: spread * torch.randn(n, generator=g, dtype=torch.float64)
    return [
        (torch.tensor([-8.0, -2.0, 0.0, 2.0, 8.0], dtype=torch.float64),),
        (some(4, 3.0),),
        (some(1, 1.0),),
        (some(6, 2.0).reshape(2, 3).float(),),
        (torch.tensor(float(some(1, 2.0)[0]), dtype=torch.float64),),  # no axis
    ]


def weights(ell: Tensor) -> Three:
    """(e^ℓ, 1 + e^ℓ, (1 + e^(ℓ/2))²)."""
    return ell.exp(), 1 + ell.exp(), (1 + (ell / 2).exp()) ** 2


def _made(
    noise: Weigh = lambda ell: ell.exp(), v: Weigh = lambda ell: 1 + ell.exp(),
    velocity: Weigh = lambda ell: (1 + (ell / 2).exp()).square(), of: Weigh = lambda ell: ell,
) -> Callable[[Tensor], Three]:  # fmt: skip
    def weights(ell: Tensor) -> Three:
        return noise(of(ell)), v(of(ell)), velocity(of(ell))

    return weights


def _by_paths(ell: Tensor) -> Three:
    """From α and σ of each path."""
    t, sigma2 = torch.sigmoid(-ell / 2), torch.sigmoid(-ell)
    return (1 - sigma2) / sigma2, 1 / sigma2, 1 / t**2


EXERCISE = Exercise(
    id="15-weights",
    title="What an error of the picture counts",
    points=2,
    difficulty=2,
    importance=5,
    minutes=12,
    draw=_draw_levels,
    reference=weights,
    mistakes=(
        Mistake("not-squared", _made(lambda ell: (ell / 2).exp(), lambda ell: (1 + ell.exp()).sqrt(),
            lambda ell: 1 + (ell / 2).exp()), "You stopped at the errors themselves. A loss squares them: square the "
            "factors, too."),
        Mistake("of-one-root", _made(of=lambda ell: 2 * ell), "You took ℓ for log(α/σ). It is the logarithm of the "
            "*squares*, log(α²/σ²), so α/σ = e^(ℓ/2)."),
        Mistake("upside-down", _made(of=lambda ell: -ell), "Your weights fall as the picture gets clearer. ε̂ is read "
            "off by dividing by σ: where there is little noise, a small error of the picture is a large one of ε̂."),
        Mistake("v-for-velocity", _made(velocity=lambda ell: 1 + ell.exp()), "Your velocity has the weight of v. v "
            "lives on the quarter circle, α² + σ² = 1; the velocity on the straight path, α + σ = 1, so that "
            "1/t = 1 + e^(ℓ/2)."),
        Mistake("velocity-for-v", _made(v=lambda ell: (1 + (ell / 2).exp()).square()), "Your v has the weight of the "
            "velocity. On the quarter circle v̂ − v = −e/σ, so the weight is 1/σ² with α² + σ² = 1."),
        Mistake("no-half", _made(velocity=lambda ell: (1 + ell.exp()).square()), "The half is missing in the velocity: "
            "(1 − t)/t is α/σ, which is e^(ℓ/2), not e^ℓ."),
    ),
    alternatives=(_made(), _by_paths),
    shortcuts=("minidiff.predictions.velocity_weight", "minidiff.systems.design.noise_weight"),
    hints=(
        "α/σ = e^(ℓ/2). Write each error as e times a factor of α and σ, square the factor, and put e^(ℓ/2) in.",
        "The factors: −α/σ for the noise; −1/σ for v, where 1/σ² = (α² + σ²)/σ²; −1/t for the velocity, where "
        "1/t = (α + σ)/σ.",
        "`ell.exp()`, `1 + ell.exp()`, `(1 + (ell / 2).exp()) ** 2`.",
    ),
    expected="of what is asked for the noise 0.032 ± 0.001 comes from there, v 0.41 ± 0.00, velocity 0.35 ± 0.00; at "
    "the times of flow matching, a quarter of which is there, 0.02, 0.14 and 0.13 (± 0.00, 5 seeds).",
    trap="all three look alike where pictures are nearly clean, and there most of a loss's sum is. They differ at "
    "high noise, where the sentence decides.",
)  # fmt: skip
