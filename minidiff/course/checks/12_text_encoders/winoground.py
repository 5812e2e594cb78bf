"""Exercise 12-winoground: three scores of a minimal pair."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.judges.ranking import winoground

from .._common import normal

Told = Callable[[Tensor], Tensor]


def _draw_tables(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    ties = torch.randint(3, (40, 2, 2), generator=g).double()  # most rows hold two equal numbers
    orders = torch.stack([torch.randperm(4, generator=g) for _ in range(60)]).reshape(60, 2, 2)
    return [
        (normal((50, 2, 2), g),),
        (orders.float(),),
        (ties,),
        (normal((1, 2, 2), g, torch.float32),),  # one pair
        (normal((2, 2, 2), g),),  # as many pairs as pictures
        (torch.zeros(3, 2, 2),),  # a model that says the same of everything
        (0.01 * normal((30, 2, 2), g),),  # nearly the same
    ]


def three_scores(similarity: Tensor) -> Tensor:
    """`judges.ranking.winoground`, its three scores side by side."""
    found = winoground(similarity)
    return torch.stack([found["text"], found["image"], found["group"]], 1)


def _scored(text: Told, image: Told, group: Callable[[Tensor, Tensor], Tensor] = torch.logical_and) -> Told:
    def three_scores(similarity: Tensor) -> Tensor:
        a, b = text(similarity), image(similarity)
        return torch.stack([a, b, group(a, b)], 1)

    return three_scores


def _text(s: Tensor) -> Tensor:
    return (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])


def _image(s: Tensor) -> Tensor:
    return (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])


def _sum_wins(s: Tensor) -> Tensor:
    return s[:, 0, 0] + s[:, 1, 1] > s[:, 0, 1] + s[:, 1, 0]


def _by_arguments(similarity: Tensor) -> Tensor:
    """Ranks, and no tie: the right one is alone at the top of its row and of its column."""
    right = torch.eye(2, dtype=torch.bool)
    alone = lambda axis: (similarity >= similarity.diagonal(dim1=1, dim2=2).unsqueeze(axis)).sum(axis) == 1
    assert bool(right.any())
    text, image = alone(2).all(1), alone(1).all(1)
    return torch.stack((text, image, text & image), dim=1)


EXERCISE = Exercise(
    id="12-winoground",
    title="Four numbers, three scores",
    points=2,
    difficulty=2,
    importance=4,
    minutes=12,
    draw=_draw_tables,
    reference=three_scores,
    mistakes=(
        Mistake("text-and-image-exchanged", _scored(_image, _text), "You have text and image exchanged. The *text* "
            "score asks which text: it holds a picture fast, a row, and compares its two captions."),
        Mistake("ties-win", _scored(lambda s: (s[:, 0, 0] >= s[:, 0, 1]) & (s[:, 1, 1] >= s[:, 1, 0]),
            lambda s: (s[:, 0, 0] >= s[:, 1, 0]) & (s[:, 1, 1] >= s[:, 0, 1])), "You let ties count. A model that says "
            "the same of everything would be perfect. The right one must be larger: >, not >=."),
        Mistake("one-of-two", _scored(lambda s: (s[:, 0, 0] > s[:, 0, 1]) | (s[:, 1, 1] > s[:, 1, 0]),
            lambda s: (s[:, 0, 0] > s[:, 1, 0]) | (s[:, 1, 1] > s[:, 0, 1])), "You ask for one of the two pictures. "
            "Both have to prefer their own: a model that always takes caption 0 has one of two right."),
        Mistake("sums", _scored(_sum_wins, _sum_wins), "You compare sums: the two right ones together against the two "
            "wrong ones. Each comparison has to be won by itself."),
        Mistake("group-is-either", _scored(_text, _image, torch.logical_or), "Your group score is text *or* image. It "
            "is both: all four comparisons at once."),
    ),
    alternatives=(_by_arguments, _scored(_text, _image)),
    hints=(
        "Row a of `similarity[n]` is one picture with two captions; column b is one caption with two pictures.",
        "Text: (0, 0) against (0, 1), and (1, 1) against (1, 0). Image: (0, 0) against (1, 0), and (1, 1) against "
        "(0, 1). Group: both.",
        "`s[:, 0, 0] > s[:, 0, 1]` is (N,) bool; join with `&`; `torch.stack([text, image, text & image], 1)`.",
    ),
    expected="by chance 0.25, 0.25 and 0.167. On 200 relations the plain CLIP 0.11 ± 0.03, 0.09 ± 0.02, 0.03 ± 0.01, "
    "below chance; the one that saw swaps 0.89 ± 0.04, 0.75 ± 0.03, 0.73 ± 0.04 (5 draws of pairs and pictures).",
    trap="text and image exchanged give nearly the same means, and ties never occur between real cosines.",
)  # fmt: skip
