"""Exercise 07-word-map: where a word looks."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn import masks
from minidiff.nn.block import Attend, attention_maps

from .._common import normal


def _draw_heads(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        b: int, heads: int, size: tuple[int, int], m: int, d: int, words: list[list[int]], lengths: list[int],
        dtype: torch.dtype = torch.float64, strength: float = 1.5,
    ) -> Inputs:  # fmt: skip
        """words: the columns of the word in each picture; lengths: how many columns are no padding."""
        q, k = (strength * normal((b, heads, n, d), g) for n in (size[0] * size[1], m))
        word = torch.zeros(b, m, dtype=torch.bool)
        for row, columns in zip(word, words):
            row[columns] = True
        mask = torch.arange(m) < torch.tensor(lengths)[:, None]
        return q.to(dtype), k.to(dtype), mask, word, *size

    return [
        case(3, 2, (2, 4), 5, 3, [[1], [0], [2]], [5, 2, 3]),
        case(2, 4, (4, 2), 6, 2, [[1, 2], [3]], [4, 6], torch.float32),  # a word in two pieces
        case(1, 3, (3, 5), 4, 4, [[2]], [3]),  # one picture
        case(2, 1, (1, 3), 3, 6, [[], [1]], [3, 2]),  # one head; the first caption has no such word
        case(4, 4, (2, 3), 4, 5, [[0], [1], [2], [0, 2]], [1, 4, 3, 4]),  # a caption of one word
        case(2, 2, (3, 2), 5, 8, [[4], [0, 4]], [4, 4]),  # the word stands in the padding, where nobody looks
        case(2, 3, (5, 2), 3, 2, [[0], [2]], [2, 3], strength=25.0),  # scores that overflow without care
    ]


def word_map(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    """The attention that each pixel pays to a word: (B, height, width)."""
    with attention_maps(attend := Attend()) as maps:
        attend(q, k, k, masks.keys(mask))
    (found,) = maps[""]  # (B, heads, L, M)
    return (found.mean(1) * word[:, None]).sum(-1).unflatten(1, (height, width))


def _told(chances: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    """(B, L, M) → (B, height, width): the columns of the word."""
    return torch.einsum("blm,bm->bl", chances, word.to(chances)).reshape(-1, height, width)


def _scores(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum("bhld,bhmd->bhlm", q, k) / q.shape[3] ** 0.5
    return scores.masked_fill(~mask[:, None, None], float("-inf"))


def _over_pixels(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    chances = (torch.einsum("bhld,bhmd->bhlm", q, k) / q.shape[3] ** 0.5).softmax(2)
    return _told(chances.mean(1), word & mask, height, width)


def _no_root(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    scores = torch.einsum("bhld,bhmd->bhlm", q, k).masked_fill(~mask[:, None, None], float("-inf"))
    return _told(scores.softmax(3).mean(1), word, height, width)


def _no_mask(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    return _told(_scores(q, k, torch.ones_like(mask)).softmax(3).mean(1), word, height, width)


def _heads_first(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    return _told(_scores(q, k, mask).mean(1).softmax(2), word, height, width)


def _sideways(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    return _told(_scores(q, k, mask).softmax(3).mean(1), word, width, height).transpose(1, 2)


def _mean_of_pieces(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    summed = _told(_scores(q, k, mask).softmax(3).mean(1), word, height, width)
    return summed / word.sum(1).clamp(min=1)[:, None, None]


def _by_hand(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    scores = _scores(q, k, mask)
    raised = (scores - scores.amax(3, keepdim=True)).exp()
    chances = raised / raised.sum(3, keepdim=True)
    return (chances * word[:, None, None]).sum(3).mean(1).view(len(q), height, width)


EXERCISE = Exercise(
    id="07-word-map",
    title="Where does a word look?",
    points=2,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_heads,
    reference=word_map,
    mistakes=(
        Mistake("over-pixels", _over_pixels, "Your softmax goes over the pixels. In cross-attention a *pixel* asks and "
            "the words answer: for each pixel the weights of all words add up to 1. Take it over the last axis."),
        Mistake("no-root", _no_root, "You left out 1/√d. A sum of d products has a standard deviation of √d: without "
            "the root each pixel looks at one word almost alone. The network was trained with it."),
        Mistake("mask-forgotten", _no_mask, "You let pixels look at the padding. Set the scores of padded columns to "
            "−∞ before the softmax: then they get exactly 0, and the words share the 1."),
        Mistake("heads-averaged-first", _heads_first, "You averaged the scores of the heads and took one softmax. Each "
            "head has a softmax of its own; the map is the mean of their weights."),
        Mistake("sideways", _sideways, "Your map has the right shape and its pixels in the wrong places: pixels are "
            "numbered row by row, so (height, width) is the shape to give to `reshape`. Nothing is to be transposed."),
        Mistake("mean-of-pieces", _mean_of_pieces, "You averaged over the columns of a word. A pixel's attention is a "
            "share of 1, and shares add up: the word has what its pieces have together."),
    ),
    alternatives=(_by_hand,),
    hints=(
        "For every head: scores (B, heads, L, M), then one softmax for each pixel. Only then average and select.",
        "`scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5`, and "
        "`scores.masked_fill(~mask[:, None, None, :], float('-inf'))` before `.softmax(-1)`.",
        "`shares = scores.softmax(-1).mean(1)`, (B, L, M). Then `(shares * word[:, None]).sum(-1)` and a reshape.",
    ),
    expected="as detectors of their own object's patches colour words have an AUC of 0.99 ± 0.00, kind words of 0.69 ± "
    "0.02; of the other object's patches 0.18 ± 0.02 and 0.11 ± 0.02 (5 draws of 60 scenes). Chance is 0.5: "
    "words also avoid what is not theirs.",
    trap="with softmax over pixels every map adds up to 1 and looks like a spotlight, with a square picture a sideways "
    "map lies on the diagonal mirror of the object, and in captions of full length there is no padding to look at.",
)  # fmt: skip
