"""Exercise 04-mean-cosine: is a learned gradient any good?"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_fields(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], zero: str = "", dtype: torch.dtype = torch.float64) -> Inputs:
        length = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=g, dtype=torch.float64) * 3
        exact = torch.randn(*shape, generator=g, dtype=torch.float64) * length
        got = exact + torch.randn(*shape, generator=g, dtype=torch.float64)
        got = got * torch.rand(length.shape, generator=g, dtype=torch.float64) * 5
        for name, field in (("got", got), ("exact", exact)):
            if name in zero:
                field[0] = 0.0
        return got.to(dtype), exact.to(dtype)

    return [
        case((6, 2)),
        case((5, 2), zero="exact"),  # nothing to say there, and no weight
        case((5, 3), zero="got"),  # a classifier that says nothing where it should
        case((5, 2), zero="got exact", dtype=torch.float32),
        case((4, 2, 3, 3)),  # pictures: one arrow each, of 18 numbers
    ]


def mean_cosine(got: Tensor, exact: Tensor) -> Tensor:
    """Σ ‖exact‖·cos(got, exact) / Σ ‖exact‖ over the batch."""
    got, exact = got.flatten(1), exact.flatten(1)
    cosine = F.cosine_similarity(got, exact, dim=1, eps=1e-12)
    length = exact.norm(dim=1)
    return (length * cosine).sum() / length.sum()


def _cosines(got: Tensor, exact: Tensor) -> Tensor:
    return F.cosine_similarity(got.flatten(1), exact.flatten(1), dim=1, eps=1e-12)


def _divided(got: Tensor, exact: Tensor) -> Tensor:
    got, exact = got.flatten(1), exact.flatten(1)
    length = exact.norm(dim=1)
    return (length * (got * exact).sum(1) / (got.norm(dim=1) * length)).sum() / length.sum()


def _channels(got: Tensor, exact: Tensor) -> Tensor:
    length = exact.norm(dim=1)
    return (length * F.cosine_similarity(got, exact, dim=1, eps=1e-12)).sum() / length.sum()


EXERCISE = Exercise(
    id="04-mean-cosine",
    title="Is a learned gradient any good?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_fields,
    reference=mean_cosine,
    mistakes=(
        Mistake(
            "plain-mean",
            lambda got, exact: _cosines(got, exact).mean(),
            "You gave every point the same weight. Where the exact arrow is almost zero, its direction decides "
            "nothing and is hard to learn: weigh each cosine by the length of the exact arrow.",
        ),
        Mistake(
            "one-long-vector",
            lambda got, exact: F.cosine_similarity(got.flatten(), exact.flatten(), dim=0),
            "You made one long vector of the whole batch and took its cosine. That also judges the lengths: a field "
            "with perfect directions and uneven lengths would be marked down. One cosine per point, then the average.",
        ),
        Mistake(
            "weighed-by-got",
            lambda got, exact: (
                (_cosines(got, exact) * got.flatten(1).norm(dim=1)).sum() / got.flatten(1).norm(dim=1).sum()
            ),
            "You weighed by the length of the *learned* arrow. Then a classifier chooses its own exam: it can be "
            "silent where it is wrong. Weigh by the exact arrow.",
        ),
        Mistake(
            "not-normalised",
            lambda got, exact: (_cosines(got, exact) * exact.flatten(1).norm(dim=1)).mean(),
            "Your weights do not add up to 1, so the result depends on how long the arrows are and can exceed 1. "
            "Divide by the sum of the weights, not by the number of points.",
        ),
        Mistake(
            "zero-by-zero",
            _divided,
            "Your formula is right, but an arrow of length zero makes it 0/0. A silent classifier has cosine 0 there; "
            "`F.cosine_similarity` sees to that, or clamp the length from below.",
        ),
        Mistake(
            "one-axis-only",
            _channels,
            "You took lengths and products along axis 1 only. For points that is the whole arrow, but a picture's "
            "arrow is all its numbers together: `flatten(1)` first.",
        ),
    ),
    alternatives=(
        lambda got, exact: (
            (F.normalize(got.flatten(1), dim=1) * exact.flatten(1)).sum() / exact.flatten(1).norm(dim=1).sum()
        ),
        lambda got, exact: (
            torch.stack([(g * e).sum() / g.norm().clamp(min=1e-12) for g, e in zip(got, exact)]).sum()
            / torch.stack([e.norm() for e in exact]).sum()
        ),
    ),
    hints=(
        "First one cosine per point: ⟨got, exact⟩/(‖got‖·‖exact‖), over everything but the batch axis.",
        "Then a weighted average: Σ weight·cosine / Σ weight, where the weight is ‖exact‖.",
        "`F.cosine_similarity(got.flatten(1), exact.flatten(1), dim=1)` and `exact.flatten(1).norm(dim=1)`.",
    ),
    expected="the exact *clean* classifier of `decoys`, asked at t = 0.9, has the mean cosine 0.634 ± 0.007 (5 seeds).",
    trap="the plain mean is the same number wherever all arrows are about equally long, and the cosine of one long "
    "vector is the same wherever the learned lengths are right as well.",
)
