"""Exercise 14-seen: who may look at whom in a sequence of words and pictures."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.masks import blocks

Two = Callable[[Tensor], Tensor]


def _draw_owners(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))

    def row(*parts: int) -> list[int]:
        """A number of words, then of squares, then of words, …"""
        return [-1 if i % 2 == 0 else i // 2 for i, n in enumerate(parts) for _ in range(n)]

    first, second = between(2, 5), between(2, 5)
    return [
        (torch.tensor([row(3, 4, 2), row(1, 4, 4)]),),
        (torch.tensor([row(first, second, 1, 3, 2)]),),  # two pictures
        (torch.tensor([row(0, 3, 0, 3, second)]),),  # side by side, the first at the beginning
        (torch.tensor([row(between(4, 9))]),),  # words alone
        (torch.tensor([row(0, 4, between(1, 4))]),),
        (torch.tensor([row(1, 1, 1, 1, 1), row(2, 2, 0, 1, 0), row(5)]),),
    ]


def seen(owner: Tensor) -> Tensor:
    """`nn.masks.blocks`: causal, or two squares of the same picture."""
    return blocks(owner)


def _order(owner: Tensor) -> Tensor:
    n = torch.arange(owner.shape[1])
    return (n[:, None] >= n).expand(len(owner), -1, -1)


def _same(owner: Tensor) -> Tensor:
    return owner[:, :, None] == owner[:, None]


def _square(owner: Tensor) -> Tensor:
    return (owner >= 0)[:, :, None] & (owner >= 0)[:, None]


def _by_loops(owner: Tensor) -> Tensor:
    b, length = owner.shape
    found = torch.zeros(b, length, length, dtype=torch.bool)
    for k, row in enumerate(owner.tolist()):
        for i in range(length):
            for j in range(length):
                found[k, i, j] = j <= i or row[i] == row[j] >= 0
    return found


def _of(rule: Two) -> Two:
    def seen(owner: Tensor) -> Tensor:
        return rule(owner)

    return seen


EXERCISE = Exercise(
    id="14-seen",
    title="Who may look at whom",
    points=1,
    difficulty=2,
    importance=5,
    minutes=10,
    draw=_draw_owners,
    reference=seen,
    mistakes=(
        Mistake("causal", _of(_order), "Your mask is causal everywhere. A square then knows nothing of those below and "
            "to the right of it: squares of one picture all look at one another."),
        Mistake("words-too", _of(lambda owner: _order(owner) | _same(owner)), "All your words look at one another: "
            "they have the same owner, −1, and that is none. A word that sees the next has nothing left to guess."),
        Mistake("any-picture", _of(lambda owner: _order(owner) | _square(owner)), "Squares of an earlier picture look "
            "at those of a later one. Not being words is not enough: the owner has to be the same."),
        Mistake("picture-alone", _of(lambda owner: torch.where((owner >= 0)[:, :, None], _same(owner), _order(owner))),
            "Your squares look at their own picture alone. They have to read the words before it, or nothing tells "
            "them what to be: same picture *or* earlier."),
        Mistake("other-way-round", _of(lambda owner: _order(owner).mT | (_same(owner) & _square(owner))), "You turned "
            "the causal part round: row i looks at columns j ≤ i, what came before it."),
    ),
    alternatives=(
        _by_loops,
        _of(lambda owner: ~(_order(owner).mT & ~(_same(owner) & _square(owner))) | torch.eye(owner.shape[1]).bool()),
    ),
    shortcuts=("minidiff.nn.masks.spans", "minidiff.nn.masks.packed", "minidiff.nn.masks.causal"),
    hints=(
        "Two rules, joined by *or*: j is not later than i; or i and j are squares of one picture.",
        "`owner[:, :, None]` is the owner of the row, `owner[:, None, :]` that of the column. Both need to be equal, "
        "and at least 0.",
        "`same = (owner[:, :, None] == owner[:, None]) & (owner >= 0)[:, :, None]`, and "
        "`torch.ones(L, L).tril().bool() | same`.",
    ),
    expected="7 of 28 outputs change under a causal mask (the square itself, FINISH, five words), 22 where squares see "
    "one another: all 16, FINISH, five words (exact).",
    trap="a causal mask trains, too, and its loss of words is the same. Only its pictures are worse: the first square "
    "is drawn by a network that sees no other.",
)  # fmt: skip
