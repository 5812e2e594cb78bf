"""Exercise 15-wilson: Wilson's interval of each of two systems, and of the first where the two disagree."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.judges.scorecard import Score

Z = 1.959964
Two = Callable[[Tensor, Tensor], Tensor]
Bounds = Callable[[float, float], tuple[float, float]]


def _draw_systems(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    some = lambda n, share: torch.rand(n, generator=g) < share
    both, ten = some(40, 0.8), some(10, 0.5)
    return [
        (some(100, 0.9), some(100, 0.6)),
        (both, both ^ some(40, 0.2)),
        (torch.ones(30, dtype=torch.bool), some(30, 0.5)),  # all right
        (torch.zeros(12, dtype=torch.bool), torch.ones(12, dtype=torch.bool)),
        (ten, ten.clone()),  # never disagree
        (torch.tensor([True]), torch.tensor([False])),
        (torch.zeros(5, dtype=torch.bool), some(5, 0.5)),
    ]


def intervals(first: Tensor, second: Tensor) -> Tensor:
    """(3, 2): `Score.interval` of both, and of the first one's part of the disagreements."""
    apart = first != second

    def of(right: Tensor, asked: int) -> tuple[float, float]:
        return Score(int(right.sum()), asked).interval if asked else (0.0, 1.0)

    rows = [of(first, len(first)), of(second, len(first)), of(first & apart, int(apart.sum()))]
    return torch.tensor(rows, dtype=torch.float64)


def _wilson(k: float, n: float) -> tuple[float, float]:
    if not n:
        return 0.0, 1.0
    root = Z * (k * (n - k) / n + Z**2 / 4) ** 0.5
    return (k + Z**2 / 2 - root) / (n + Z**2), (k + Z**2 / 2 + root) / (n + Z**2)


def _wald(k: float, n: float) -> tuple[float, float]:
    if not n:
        return 0.0, 1.0
    half = Z * (k / n * (1 - k / n) / n) ** 0.5
    return max(0.0, k / n - half), min(1.0, k / n + half)


def _not_divided(k: float, n: float) -> tuple[float, float]:
    low, high = _wilson(k, n)
    return (low * (1 + Z**2 / n), high * (1 + Z**2 / n)) if n else (0.0, 1.0)


def _made(
    bounds: Bounds = _wilson,
    third: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b: (a & ~b, a ^ b),
) -> Two:
    def intervals(first: Tensor, second: Tensor) -> Tensor:
        right, asked = third(first, second)
        pairs = [(int(x.sum()), len(x)) for x in (first, second)] + [(int(right.sum()), int(asked.sum()))]
        return torch.tensor([bounds(k, n) for k, n in pairs], dtype=torch.float64)

    return intervals


def _solved(first: Tensor, second: Tensor) -> Tensor:
    """The shares p at which k of n is just 1.96 standard deviations off: (k − n·p)² = z²·n·p·(1 − p)."""
    k = torch.stack([first.sum(), second.sum(), (first & ~second).sum()]).double()
    n = torch.stack([torch.tensor(len(first)), torch.tensor(len(first)), (first ^ second).sum()]).double()
    a, b, c = n**2 + Z**2 * n, -(2 * k * n + Z**2 * n), k**2
    root = (b**2 - 4 * a * c).clamp(min=0).sqrt()
    found = torch.stack([(-b - root) / (2 * a), (-b + root) / (2 * a)], 1)
    return torch.where(n[:, None] > 0, found, torch.tensor([0.0, 1.0], dtype=torch.float64))


EXERCISE = Exercise(
    id="15-wilson",
    title="Are they different?",
    points=2,
    difficulty=3,
    importance=5,
    minutes=20,
    draw=_draw_systems,
    reference=intervals,
    mistakes=(
        Mistake("normal", _made(_wald), "You took p ± z·√(p(1−p)/n). At k = n that is no interval at all: 3 of 3 "
            "would be certainly perfect. Wilson's has its middle nearer to ½, and never closes."),
        Mistake("not-divided", _made(_not_divided), "The denominator is missing: all of Wilson's numerator is divided "
            "by 1 + z²/n. With few pictures your upper end goes beyond 1."),
        Mistake("of-all", _made(third=lambda a, b: (a & ~b, torch.ones_like(a))), "Your third interval is of all "
            "prompts. Where both are right, or both wrong, nothing is said about which is better: divide by the "
            "number of *disagreements*."),
        Mistake("where-the-second-fails", _made(third=lambda a, b: (a & ~b, ~b)), "You asked how often the first is "
            "right where the second fails. Two equal systems do not have ½ there: count only where they disagree."),
        Mistake("ties-shared", _made(third=lambda a, b: (torch.cat([a & ~b, a & b]), torch.cat([a ^ b, a & b]))),
            "You counted prompts that both have right for the first. They are ties: leave them out."),
        Mistake("the-second-one", _made(third=lambda a, b: (b & ~a, a ^ b)), "Your third interval is the second "
            "system's. It says how often the *first* is right where only one is."),
    ),
    alternatives=(_made(), _solved),
    hints=(
        "One function (k, n) → (low, high), used three times. The third time n is `(first != second).sum()`, and k the "
        "prompts that the first alone has right.",
        "Middle p + z²/2n, half width z·√(p(1−p)/n + z²/4n²), both divided by 1 + z²/n. For n = 0 return (0, 1): "
        "nothing is known.",
        "`k = (first & ~second).sum()`; `torch.tensor([wilson(…), wilson(…), wilson(k, n)], dtype=torch.float64)`.",
    ),
    expected="intervals lie apart in 0.19 ± 0.03 of all comparisons; where the two disagree it shows in 0.96 ± 0.02. "
    "Two equal systems: 0.00 and 0.04 ± 0.01 (5 seeds), of which 0.05 would be due.",
    trap="overlapping intervals look like \"no difference\". But two systems on the same prompts fail at the same hard "
    "ones, and what they share says nothing about which is better.",
)  # fmt: skip
