"""Exercise 05-combine-branches: the formula, one strength per picture."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import extrapolate


def _draw_branches(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: list[float], dtype: torch.dtype = torch.float64) -> Inputs:
        cond, null = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        return cond, null, torch.tensor(w, dtype=dtype)

    # As many pictures as pixels in a row: a strength that is laid along the wrong axis goes unnoticed by PyTorch.
    return [
        case((4, 1, 4, 4), [0.0, 1.0, 3.0, 7.5]),
        case((3, 3), [-1.0, 0.0, 2.0]),  # unconditional, conditional, guided
        case((3, 3), [0.5, 0.5, 0.5], torch.float32),
        case((1, 2, 3, 3), [3.0]),  # a batch of one
        case((2, 2, 1, 2, 2), [-2.5, 0.0]),  # clips: five axes, and a strength that runs from the condition
        case((3, 4, 2), [0.0, 0.0, 0.0]),  # rows of tokens; nobody is guided
        case((2,), [1.0, -0.5]),  # one number a picture
    ]


def combine(cond: Tensor, null: Tensor, w: Tensor) -> Tensor:
    """(1 + w)·cond − w·null, one w per picture."""
    return extrapolate(lambda x, t: cond, lambda x, t: null, w)(cond, torch.tensor(0.0))


def _per_picture(w: Tensor, like: Tensor) -> Tensor:
    return w.reshape(-1, *[1] * (like.ndim - 1))


EXERCISE = Exercise(
    id="05-combine-branches",
    title="Combine the two branches",
    points=2,
    difficulty=1,
    importance=5,
    minutes=8,
    draw=_draw_branches,
    reference=combine,
    mistakes=(
        Mistake(
            "scale-for-w",
            lambda cond, null, w: null + _per_picture(w, cond) * (cond - null),
            "You used w where other libraries have their guidance_scale s = 1 + w: your w = 1 gives the plain "
            "conditional, and w = 0 ignores the condition. Here w counts from the conditional branch.",
        ),
        Mistake(
            "swapped",
            lambda cond, null, w: null + _per_picture(w, cond) * (null - cond),
            "You swapped the branches: this starts at the unconditional one and runs away from the condition. "
            "At w = 0 you must get `cond` back.",
        ),
        Mistake(
            "plus",
            lambda cond, null, w: (1 + _per_picture(w, cond)) * cond + _per_picture(w, cond) * null,
            "You added w·null instead of subtracting it. The two weights must add up to 1: (1 + w) and −w.",
        ),
        Mistake(
            "interpolation",
            lambda cond, null, w: (1 - _per_picture(w, cond)) * cond + _per_picture(w, cond) * null,
            "You moved from `cond` towards `null`: (1 − w) and w. Guidance goes the other way, past `cond` and "
            "away from `null`: (1 + w) and −w.",
        ),
        Mistake(
            "last-axis",
            lambda cond, null, w: cond + w * (cond - null),
            "Your formula is right, but w of shape (B,) lines up with the *last* axis of the pictures, so each column "
            "of pixels got its own strength. Give w trailing ones first: shape (B, 1, 1, 1) for pictures.",
        ),
    ),
    alternatives=(
        lambda cond, null, w: (1 + _per_picture(w, cond)) * cond - _per_picture(w, cond) * null,
        lambda cond, null, w: torch.stack([(1 + a) * c - a * n for c, n, a in zip(cond, null, w)]),
        lambda cond, null, w: torch.lerp(null, cond, 1 + _per_picture(w, cond)),
    ),
    hints=(
        "Three values you know: w = 0 is `cond`, w = −1 is `null`, and the formula is a straight line in w.",
        "The line through both is cond + w·(cond − null). Now look at the shapes: w is (B,), cond is (B, …).",
        "`w.reshape(-1, *[1] * (cond.ndim - 1))` has one strength per picture and broadcasts over the rest.",
    ),
    expected="of 500 guided points 1.000 ± 0.000 (5 seeds) are judged class 0 at w = 3, and 0.81 ± 0.02 at w = 0.",
    trap="null + w·(cond − null) is what most libraries compute, under the name guidance_scale: same formula, w "
    "shifted by one. And a strength along the wrong axis raises no error when there are as many pictures as columns.",
)
