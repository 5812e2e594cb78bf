"""Exercise 10-explained: how far a picture obeys a number, without a line fitted between."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.judges import framing

from .._common import normal


def _draw_corners(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, columns: int, slope: float = 1.0, shift: float = 0.0, spread: float = 2.0) -> Inputs:
        """Columns around different means, read with a slope, a shift and errors."""
        told = 5 * normal((n, columns), g) + 20 * normal((columns,), g)
        return told, slope * told + shift + spread * normal((n, columns), g)

    whole = torch.randint(33, (6, 2), generator=g)
    whole[0], whole[1] = 0, 32  # no column is the same throughout
    read = (whole + torch.randint(-3, 4, whole.shape, generator=g)).clamp(0, 32)
    few = normal((5, 3), g)
    return [
        case(8, 2),
        case(8, 2, slope=0.5, spread=0.1),  # obeys half
        case(4, 4, shift=8.0, spread=0.1),  # as many rows as columns; always too far
        case(6, 1, slope=-1.0, spread=0.5),  # the other way: worse than no answer
        (whole, read),  # int64
        (few, few.clone()),  # exactly
        (few, torch.zeros_like(few) + 0.3),  # the same, whatever was told
        tuple(x.float() for x in case(2, 2)),  # two rows
    ]


def explained(told: Tensor, read: Tensor) -> Tensor:
    """R² of read = told in each column, (K,) float64."""
    return torch.tensor([framing.explained(a, b) for a, b in zip(told.T, read.T)], dtype=torch.float64)


def _left_over(told: Tensor, read: Tensor) -> Tensor:
    return (read.double() - told.double()).square().sum(0)


def _spread(x: Tensor) -> Tensor:
    return (x.double() - x.double().mean(0)).square().sum(0)


def _correlation(told: Tensor, read: Tensor) -> Tensor:
    a, b = told.double() - told.double().mean(0), read.double() - read.double().mean(0)
    return (a * b).sum(0).square() / (a.square().sum(0) * b.square().sum(0))


def _not_centred(told: Tensor, read: Tensor) -> Tensor:
    return 1 - _left_over(told, read) / told.double().square().sum(0)


def _all_together(told: Tensor, read: Tensor) -> Tensor:
    spread = (told.double() - told.double().mean()).square().sum()
    return (1 - _left_over(told, read).sum() / spread).expand(told.shape[1])


def _by_hand(told: Tensor, read: Tensor) -> Tensor:
    found = []
    for k in range(told.shape[1]):
        wanted, seen = told[:, k].double(), read[:, k].double()
        found.append(1 - ((seen - wanted) ** 2).mean() / wanted.var(correction=0))
    return torch.stack(found)


EXERCISE = Exercise(
    id="10-explained",
    title="Did it obey? R² without a line",
    points=2,
    difficulty=1,
    importance=4,
    minutes=8,
    draw=_draw_corners,
    reference=explained,
    mistakes=(
        Mistake("squared-correlation", _correlation, "That is the squared correlation: the R² of the best straight "
            "line through the points. Half of each command, or 8 pixels too many, lie on such a line and get 1. "
            "Compare with what was told itself."),
        Mistake("swapped", lambda told, read: 1 - _left_over(told, read) / _spread(read), "You divide by the spread of "
            "what was *read*. A picture that always shows the same would divide by 0. The spread that is to be "
            "explained is that of the commands."),
        Mistake("not-centred", _not_centred, "You divide by Σ told². Then commands far from 0 make any answer look "
            "good. The rival is who always says the mean: subtract it first."),
        Mistake("one-less", lambda told, read: 1 - (read.double() - told.double()).square().mean(0) /
            told.double().var(0), "You divide a mean over N by a variance over N − 1. Both sums have N terms: "
            "`correction=0`, or the sums themselves."),
        Mistake("all-columns-together", _all_together, "You mixed the columns. They have different means, and what "
            "lies between these is then explained for free. One R² a column: sum over axis 0."),
        Mistake("never-below-0", lambda told, read: (1 - _left_over(told, read) / _spread(told)).clamp(min=0), "You "
            "cut off at 0. Below 0 is who is worse than the mean, such as one who goes the other way."),
    ),
    alternatives=(_by_hand, lambda told, read: (_spread(told) - _left_over(told, read)) / _spread(told)),
    hints=(
        "Two sums of squares a column: what is left over, and what there was to explain.",
        "Left over: of `read - told`. There was: of `told - told.mean(0)`. Whole numbers have no mean: `.double()`.",
        "`1 - (read - told).square().sum(0) / (told - told.mean(0)).square().sum(0)`, all in float64.",
    ),
    expected="1.00 for who obeys, 0.59 for half of each corner and 0.57 for 8 pixels too many, whose squared "
    "correlations are 1.00 and 0.96; −0.7 ± 0.7 for who does not listen (5 shuffles).",
    trap="whoever fits a line first, as most programs do, measures whether a number *has an influence*. "
    "A command is obeyed when the line is told = read.",
)  # fmt: skip
