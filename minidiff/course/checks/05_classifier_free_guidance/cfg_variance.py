"""Exercise 05-cfg-variance: what variance CFG gives."""

import math

import torch
from torch import Generator

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_variances(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    c, d = 0.5 + torch.rand(2, generator=g, dtype=torch.float64)
    return [
        (1.0, 2.0, 1.0),  # the lecture's pair
        (1.0, 2.0, 2.0),
        (float(c), float(c + d), 3.0),
        (float(c), float(c + d), 0.0),  # the conditional itself
        (float(c), float(c + d), -1.0),  # the unconditional
        (0.25, 0.25, 7.0),  # the condition says nothing about the width
        (float(c + d), float(c), 0.5),  # the condition makes the data wider; half a strength
        (float(c), float(c + d), -0.4),
    ]


def cfg_variances(c: float, d: float, w: float) -> tuple[float, float]:
    """(variance that the guided ODE samples, variance of the tilted density)."""
    ode = math.exp((1 + w) * math.log(c) - w * math.log(d))
    return ode, 1 / ((1 + w) / c - w / d)


EXERCISE = Exercise(
    id="05-cfg-variance",
    title="The variance that guidance samples",
    points=3,
    difficulty=4,
    importance=4,
    minutes=15,
    draw=_draw_variances,
    reference=cfg_variances,
    mistakes=(
        Mistake(
            "tilted-twice",
            lambda c, d, w: (1 / ((1 + w) / c - w / d),) * 2,
            "Both of your values are the variance of the tilted density. That is what guidance is often said to "
            "sample; the ODE ends elsewhere. Integrate it: its log-variance is a difference of two logarithms.",
        ),
        Mistake(
            "standard-deviation",
            lambda c, d, w: (c ** ((1 + w) / 2) * d ** (-w / 2), 1 / ((1 + w) / c - w / d)),
            "Your first value is a standard deviation: the ODE is for x, and the variance grows with x². Square it.",
        ),
        Mistake(
            "scale-for-w",
            lambda c, d, w: (c**w * d ** (1 - w), 1 / (w / c + (1 - w) / d)),
            "You took w for the weight γ of the conditional branch. That weight is 1 + w, and the other one −w: "
            "at w = 0 both values must be c.",
        ),
        Mistake(
            "straight-line",
            lambda c, d, w: ((1 + w) * c - w * d, 1 / ((1 + w) / c - w / d)),
            "You extrapolated the variances themselves; for c = 1, d = 2, w = 1 that would be 0. "
            "The *scores* are extrapolated. In the integral that makes a straight line in log-variance.",
        ),
        Mistake(
            "inverted",
            lambda c, d, w: (d ** (1 + w) * c**-w, 1 / ((1 + w) / d - w / c) if (1 + w) / d != w / c else math.inf),
            "You exchanged the conditional (c) and the unconditional (d): at w = 0 both values must be c.",
        ),
    ),
    alternatives=(
        lambda c, d, w: (c * (c / d) ** w, c * d / ((1 + w) * d - w * c)),
        lambda c, d, w: (torch.tensor(c) ** (1 + w) / torch.tensor(d) ** w, 1 / (1 / c + w * (1 / c - 1 / d))),
    ),
    hints=(
        "Two checks before you start: at w = 0 both values are c, at w = −1 both are d.",
        "Tilted: exponents add, so precisions (1/variance) combine with the weights 1 + w and −w. ODE: dx/du = x times "
        "what depends on u alone: integrate d log x; each of its two parts gives a logarithm.",
        "log x² = (1 + w)·log(c + u) − w·log(d + u) + constant. Take u → ∞, where x² ≈ u, and u = 0.",
    ),
    expected="for c = 1, d = 2, w = 2 the sampler gives 0.252 ± 0.005 (5 seeds of 20,000 points): the ODE's 1/4, "
    "not the tilted density's 1/2.",
    trap="at w = 0 and w = −1, the two values everybody checks, the ODE's answer and the tilted density agree. "
    "They part at every other w, because noising and tilting do not commute.",
)
