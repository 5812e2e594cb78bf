"""Exercise 11-excess: how far above the least loss, told in two ways."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal

Four = tuple[float, float, float, float]


def _draw_guesses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], off: float, spread: float, dtype: torch.dtype = torch.float64) -> Inputs:
        mean = normal(shape, g)
        wide = (0.5 + torch.rand(shape[0], generator=g, dtype=torch.float64)).reshape(-1, *[1] * (len(shape) - 1))
        x0 = mean + spread * wide * normal(shape, g)
        guess = mean + off * wide.flip(0) * normal(shape, g)
        return tuple(value.to(dtype) for value in (guess, x0, mean))

    exact = case((4, 2), 0.0, 0.7)
    return [
        case((8, 3, 2, 2), 0.2, 0.7),
        case((5, 1, 4, 4), 1.0, 0.3),  # worse than the noise
        case((2, 6), 0.5, 0.5),  # two pictures
        case((3, 3, 3, 3), 0.4, 0.6, torch.float32),
        exact,  # nothing above the least
        case((6, 2, 3), 0.3, 0.0),  # x0 is known exactly: both ways are one
    ]


def _told(values: Tensor) -> tuple[float, float]:
    """Mean over pictures and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def excess(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    """(by subtraction, its standard error, directly, its standard error)."""
    far = lambda a, b: (a - b).square().flatten(1).mean(1)
    return *_told(far(guess, x0) - far(mean, x0)), *_told(far(guess, mean))


def _apart(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    far = lambda a, b: (a - b).square().flatten(1).mean(1)
    error = lambda values: float(values.std() / len(values) ** 0.5)
    loss, floor, direct = far(guess, x0), far(mean, x0), far(guess, mean)
    together = (error(loss) ** 2 + error(floor) ** 2) ** 0.5
    return float(loss.mean() - floor.mean()), together, float(direct.mean()), error(direct)


def _spread(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    far = lambda a, b: (a - b).square().flatten(1).mean(1)
    gap, direct = far(guess, x0) - far(mean, x0), far(guess, mean)
    return float(gap.mean()), float(gap.std()), float(direct.mean()), float(direct.std())


def _pixels(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    gap, direct = (guess - x0).square() - (mean - x0).square(), (guess - mean).square()
    error = lambda values: float(values.std() / values.numel() ** 0.5)
    return float(gap.mean()), error(gap), float(direct.mean()), error(direct)


def _roots(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    far = lambda a, b: (a - b).square().flatten(1).mean(1).sqrt()
    gap, direct = far(guess, x0) - far(mean, x0), far(guess, mean)
    error = lambda values: float(values.std() / len(values) ** 0.5)
    return float(gap.mean()), error(gap), float(direct.mean()), error(direct)


def _ratio(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    far = lambda a, b: (a - b).square().flatten(1).mean(1)
    gap, direct = far(guess, x0) - far(mean, x0), far(guess, mean)
    error, floor = lambda values: float(values.std() / len(values) ** 0.5), float(far(mean, x0).mean()) or 1.0
    return float(gap.mean()) / floor, error(gap) / floor, float(direct.mean()) / floor, error(direct) / floor


def _biased(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    far = lambda a, b: (a - b).square().flatten(1).mean(1)
    gap, direct = far(guess, x0) - far(mean, x0), far(guess, mean)
    error = lambda values: float(values.std(correction=0) / len(values) ** 0.5)
    return float(gap.mean()), error(gap), float(direct.mean()), error(direct)


def _in_numpy(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    rows = lambda x: x.double().flatten(1).numpy()
    g, x, m = rows(guess), rows(x0), rows(mean)
    found: list[float] = []
    for values in (((g - x) ** 2 - (m - x) ** 2).mean(1), ((g - m) ** 2).mean(1)):
        found += [float(values.mean()), float((values.var(ddof=1) / len(values)) ** 0.5)]
    return found[0], found[1], found[2], found[3]


def _multiplied_out(guess: Tensor, x0: Tensor, mean: Tensor) -> Four:
    """|g − x|² − |m − x|² = (g − m)·(g + m − 2x)."""
    n = len(guess)
    found = []
    for factors in ((guess - mean, guess + mean - 2 * x0), (guess - mean, guess - mean)):
        each = (factors[0] * factors[1]).reshape(n, -1).mean(1)
        middle = each.sum() / n
        found += [float(middle), float(((each - middle).square().sum() / (n - 1) / n).sqrt())]
    return found[0], found[1], found[2], found[3]


EXERCISE = Exercise(
    id="11-excess",
    title="Is this loss normal?",
    points=3,
    difficulty=3,
    importance=5,
    minutes=15,
    draw=_draw_guesses,
    reference=excess,
    rtol=1e-4,
    mistakes=(
        Mistake("apart", _apart, "You took the standard errors of loss and floor, as if they were of different "
            "pictures. They are of the same: a picture that is hard is hard for both. Subtract picture by picture, "
            "then take the error of the differences."),
        Mistake("spread", _spread, "You gave the spread over pictures. The *mean* of B pictures is known √B times "
            "better: divide by it."),
        Mistake("pixels", _pixels, "You counted every number as an observation of its own. The numbers of a picture go "
            "wrong together: average over a picture first, then take the error over pictures."),
        Mistake("roots", _roots, "You took roots before subtracting. Squares add up, floor + excess = loss, and their "
            "roots do not."),
        Mistake("ratio", _ratio, "You divided by the floor. That says how many times, not how much; and near t = 0, "
            "where the floor is nearly 0, it says nothing."),
        Mistake("divided-by-n", _biased, "Your spread is the root of a mean over B. The mean was taken from the same "
            "B pictures: divide by B − 1, as `std()` does by itself."),
    ),
    alternatives=(_in_numpy, _multiplied_out),
    shortcuts=("minidiff.systems.dit.errors", "minidiff.systems.dit.errors_of"),
    hints=(
        "Three squared errors, of each picture one number: guess to x0, mean to x0, guess to mean.",
        "`(guess - x0).square().flatten(1).mean(1)` is (B,). Subtract two such before you take the mean over B.",
        "The standard error of the mean of `values` (B,) is `values.std() / len(values) ** 0.5`.",
    ),
    expected="M/4's excess at t = 0.95 is 0.0040 ± 0.0012 as loss minus floor and 0.0041 ± 0.0002 directly; at t"
    " = 0.5 both ways say 0.0101 ± 0.0005 (5 sets of 96 scenes).",
    trap="all ways have the same mean, and each standard error looks like one. Only repeating tells: over "
    "five sets of 96 scenes loss minus floor spread by 0.0012 at t = 0.95; picture by picture its error"
    " says 0.0013, taken apart 0.0050.",
)  # fmt: skip
