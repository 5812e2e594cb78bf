"""Exercise 13-both-ways: what a joint attention map says of words and patches, in both directions."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal

Read = tuple[Tensor, Tensor, Tensor]


def _draw_maps(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, heads: int, m: int, n: int, dtype: torch.dtype = torch.float64, told: Tensor | None = None):
        told = torch.arange(m) < torch.randint(1, m + 1, (b, 1), generator=g) if told is None else told
        seen = torch.cat([told, torch.ones(b, n, dtype=torch.bool)], 1)
        scores = 2 * normal((b, heads, m + n, m + n), g) + normal((b, heads, 1, m + n), g)
        return scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1).to(dtype), told

    silent = torch.tensor([[True, False, True], [False, False, False]])  # a hole, and a caption that says nothing
    return [
        case(3, 2, 4, 6),
        case(2, 3, 5, 5),  # as many words as patches
        case(1, 1, 1, 4, torch.float32),
        case(2, 4, 6, 3, torch.float32),
        case(2, 2, 3, 4, told=silent),
        case(3, 1, 2, 1),  # one patch
    ]


def both_ways(shares: Tensor, told: Tensor) -> Read:
    """(of what a patch reads of words, each word's part; how much it reads of words; what a word reads of patches)."""
    m, mean = told.shape[1], shares.mean(1)
    read = mean[:, m:, :m]
    heard = read.sum(2)
    part = read / heard.clamp(min=torch.finfo(heard.dtype).tiny)[..., None]
    return part, heard, mean[:, :m, m:].sum(2) * told


def _made(
    heads: Callable[[Tensor], Tensor] = lambda shares: shares.mean(1),
    corner: Callable[[Tensor, int], Tensor] = lambda mean, m: mean[:, m:, :m],
    normed: Callable[[Tensor], Tensor] = lambda read: torch.where(
        read.sum(2, keepdim=True) > 0, read / read.sum(2, keepdim=True), 0.0
    ),
    back: Callable[[Tensor, int], Tensor] = lambda mean, m: mean[:, :m, m:].sum(2),
    ends: Callable[[Tensor, Tensor], Tensor] = lambda back, told: back * told,
) -> Callable[[Tensor, Tensor], Read]:
    def both_ways(shares: Tensor, told: Tensor) -> Read:
        mean = heads(shares)
        read = corner(mean, told.shape[1])
        return normed(read), read.sum(2), ends(back(mean, told.shape[1]), told)

    return both_ways


def _head_by_head(shares: Tensor, told: Tensor) -> Read:
    m = told.shape[1]
    read = shares[:, :, m:, :m]
    heard = read.sum(3, keepdim=True)
    part = torch.where(heard > 0, read / heard, 0.0)
    return part.mean(1), heard[..., 0].mean(1), shares[:, :, :m, m:].sum(3).mean(1) * told


def _other_way(shares: Tensor, told: Tensor) -> Read:
    m, mean = told.shape[1], shares.mean(1)
    read = mean[:, :m, m:].mT * told[:, None]
    heard = read.sum(2)
    part = torch.where(heard[..., None] > 0, read / heard[..., None], 0.0)
    return part, heard, mean[:, :m, m:].sum(2) * told


def _by_loops(shares: Tensor, told: Tensor) -> Read:
    (b, heads, length, _), m = shares.shape, told.shape[1]
    part, heard, back = shares.new_zeros(b, length - m, m), shares.new_zeros(b, length - m), shares.new_zeros(b, m)
    for row in range(b):
        mean = torch.stack([shares[row, head] for head in range(heads)]).mean(0)
        for patch in range(length - m):
            spent = mean[m + patch, :m]
            heard[row, patch] = spent.sum()
            if told[row].any():
                part[row, patch] = spent / spent.sum()
        for word in range(m):
            if told[row, word]:
                back[row, word] = 1 - mean[word, :m].sum()
    return part, heard, back


EXERCISE = Exercise(
    id="13-both-ways",
    title="Who reads whom",
    points=2,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_maps,
    reference=both_ways,
    mistakes=(
        Mistake("other-way-round", _other_way, "You took the rows of words and the columns of patches. Row i says what "
            "token i *looks at*: a patch that reads is a row, the word that is read a column."),
        Mistake("not-renormalised", _made(normed=lambda read: read), "Your first answer does not add up to 1. It is "
            "told as parts of what this patch reads *of words*: divide by the second answer."),
        Mistake("head-by-head", _head_by_head, "You renormalised in every head and averaged then. A head that hardly "
            "looks at words would count as much as one that does: average the map first."),
        Mistake("padding-reads", _made(ends=lambda back, told: back), "You "
            "let padding read. Nobody looks at it, but it has rows of its own, which mean nothing: 0 where `told` is "
            "False."),
        Mistake("nothing-over-nothing", _made(normed=lambda read: read / read.sum(2, keepdim=True)), "Where a caption "
            "says nothing you divide 0 by 0. A patch that reads no words gives each of them 0."),
        Mistake("summed-heads", _made(heads=lambda shares: shares.sum(1)), "You added the heads up. Then a patch reads "
            "as many times as there are heads: take their mean."),
    ),
    alternatives=(_made(), _by_loops),
    hints=(
        "Average over the heads. The map has four corners: words to words, words to patches, patches to words, patches "
        "to patches. Which two do you need?",
        "Rows look, columns are looked at, and text comes first: `mean[:, M:, :M]` is what patches read of words.",
        "`heard = read.sum(2)`, `part = read / heard.clamp(min=1e-30)[..., None]`, and for the words "
        "`mean[:, :M, M:].sum(2) * told`.",
    ),
    expected="of what they read of words, patches on the left give 0.35 ± 0.10 to those for their own thing and 0.27 ± "
    "0.10 to the other's in the first block, 0.88 ± 0.04 and 0.04 ± 0.03 in the last (5 listeners, mean of both "
    "sentences).",
    trap="a map of a joint attention has four corners, and the two in question are of the same shape turned over. "
    "Both look like blobs on a picture.",
)  # fmt: skip
