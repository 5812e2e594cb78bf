"""Exercise 06-read-at-end: where the text tower is read."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_tokens(seed: int) -> list[Inputs]:
    g, pad, start = Generator().manual_seed(seed), 0, 1

    def case(
        lengths: list[int], width: int, d: int, end: int = 2, fill: int | None = pad, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        """fill: what stands behind END; None for words, another START and another END among them."""
        size = (len(lengths), width)
        tokens = torch.randint(4, 30, size, generator=g) if fill is None else torch.full(size, fill)
        for row, n in zip(tokens, lengths):
            row[: n - 1] = 10 + torch.randint(20, (n - 1,), generator=g)
            row[0], row[n - 1] = start, end
            if fill is None:
                row[n:] = torch.tensor([start, end, *row[n + 2 : -1].tolist(), pad])
        return normal((*size, d), g, dtype), tokens, end

    return [
        case([4, 7, 2], 9, 3),
        case([6, 3, 5, 4], 6, 4, dtype=torch.float32),  # the first is full: END comes last
        case([3, 5], 8, 2, fill=2),  # OpenAI's own padding: END, END, END, …
        case([4], 4, 5),  # a batch of one
        case([3, 6, 2], 7, 1, end=7),  # another vocabulary, and one number a token
        case([4, 2], 9, 3, end=3, fill=None),  # a second caption follows: it is not read
    ]


def read_at_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    """The feature of each row's first END."""
    first = (tokens == end).int().argmax(1)
    return features[torch.arange(len(tokens)), first]


def _before_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    return features[torch.arange(len(tokens)), (tokens == end).int().argmax(1) - 1]


def _last_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    last = tokens.shape[1] - 1 - (tokens == end).int().flip(1).argmax(1)
    return features[torch.arange(len(tokens)), last]


EXERCISE = Exercise(
    id="06-read-at-end",
    title="Where the text tower is read",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_tokens,
    reference=read_at_end,
    mistakes=(
        Mistake(
            "last-position",
            lambda features, tokens, end: features[:, -1],
            "You read the last position of the row. In a caption that is shorter than the row it is padding. "
            "Read where the token is `end`.",
        ),
        Mistake(
            "first-position",
            lambda features, tokens, end: features[:, 0],
            "You read the first position, as one does with the class token of a picture. Here the mask is causal: "
            "START has seen nothing but itself, so every caption would get the same vector.",
        ),
        Mistake(
            "largest-id",
            lambda features, tokens, end: features[torch.arange(len(tokens)), tokens.argmax(1)],
            "You looked for the largest id. That is OpenAI's own line, and right there: their END is the last id of "
            "the vocabulary. Here END is another number: compare with `end`.",
        ),
        Mistake(
            "last-end",
            _last_end,
            "You read the *last* END of the row. Where rows are padded with END, as OpenAI pads, that is padding "
            "again, and the vector would depend on how long the row is. Read the first.",
        ),
        Mistake(
            "before-end",
            _before_end,
            "You read the token before END, the last word. It has seen the caption, but it stands for a word too: "
            "CLIP trains END to stand for the whole.",
        ),
        Mistake(
            "mean",
            lambda features, tokens, end: features.mean(1),
            "You averaged all positions, padding included: the longer the row, the less the words count.",
        ),
    ),
    alternatives=(
        lambda features, tokens, end: torch.stack([row[ids.tolist().index(end)] for row, ids in zip(features, tokens)]),
        lambda features, tokens, end: (features * ((tokens == end) & ((tokens == end).cumsum(1) == 1))[:, :, None]).sum(
            1
        ),
    ),
    hints=(
        "Which position holds the *first* END, in every row? Then one feature per row.",
        "`(tokens == end).int().argmax(1)`: among equal largest values argmax takes the first.",
        "`features[torch.arange(len(tokens)), first]` picks position `first[i]` of row i.",
    ),
    expected="8 more places of padding move the vector at END by 1.6e-6 ± 0.2e-6 (rounding), that of the "
    "last place by 12 ± 3 (5 seeds).",
    trap="if every caption fills its row, the last position *is* END, and in OpenAI's vocabulary the largest id is.",
)
