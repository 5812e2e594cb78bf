"""Exercise 14-stands: two positions for every token of texts and pictures in a row."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.rope import interleaved

Part = int | tuple[int, int]


def _draw_parts(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    return [
        ([between(2, 6), (4, 4), between(2, 6)],),
        ([between(2, 6), (4, 6), between(2, 6)],),  # wide
        ([(6, 4), 3, (2, between(3, 6)), 1],),  # two pictures, one at the beginning
        ([2, (3, 4), 2],),  # halves
        ([between(1, 9)],),  # words alone
        ([1, (1, 1), 1],),
        ([(2, 2), (between(2, 5), 3)],),  # no words
    ]


def stands(parts: Sequence[Part]) -> Tensor:
    """`nn.rope.interleaved`, halves kept."""
    return interleaved(*parts, truncated=False)


def _made(
    corner: Callable[[int, int], tuple[float, float]] = lambda h, w: ((w * h - h) / 2, (w * h - w) / 2),
    cell: Callable[[int, int], tuple[int, int]] = lambda i, j: (i, j),
    length: Callable[[int, int], int] = lambda h, w: h * w,
    word: Callable[[int], tuple[int, int]] = lambda p: (p, p),
) -> Callable[[Sequence[Part]], Tensor]:
    def stands(parts: Sequence[Part]) -> Tensor:
        places, first = [], 0
        for part in parts:
            if isinstance(part, int):
                places += [word(first + k) for k in range(part)]
                first += part
                continue
            h, w = part
            y, x = corner(h, w)
            cells = [cell(i, j) for i in range(h) for j in range(w)]
            places += [(first + y + i, first + x + j) for i, j in cells]
            first += length(h, w)
        return torch.tensor(places, dtype=torch.float32)

    return stands


def _with_tensors(parts: Sequence[Part]) -> Tensor:
    shapes = [part if isinstance(part, tuple) else (0, part) for part in parts]
    found, first = [], 0
    for h, w in shapes:
        n = torch.arange(float(max(h, 1) * w))
        middle = first + (len(n) - 1) / 2
        if h == 0:
            found.append(torch.stack([first + n, first + n], 1))
        else:
            grid = torch.stack([n.div(w, rounding_mode="floor"), n.remainder(w)], 1)
            found.append(grid - grid.mean(0) + middle)
        first += len(n)
    return torch.cat(found)


EXERCISE = Exercise(
    id="14-stands",
    title="A picture's rows and columns in a row of words",
    points=2,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_parts,
    reference=stands,
    mistakes=(
        Mistake("at-L", _made(corner=lambda h, w: (0, 0)), "Your picture begins at (L, L). Then the words after it are "
            "far from it, and its first square is nearer to the text before than any other: centre it on the diagonal "
            "between L and L + h·w."),
        Mistake("sides-exchanged", _made(corner=lambda h, w: ((w * h - w) / 2, (w * h - h) / 2)), "You exchanged the "
            "sides: rows are h, so β_y = L + (w·h − h)/2. In a square picture it makes no difference."),
        Mistake("text-after-the-side", _made(length=max), "Your text goes on after the longer side. It would stand "
            "among the squares, or nearer than they: each square takes a place of the sequence, so go on at L + h·w."),
        Mistake("rounded", _made(corner=lambda h, w: ((w * h - h) // 2, (w * h - w) // 2)), "You rounded the halves "
            "down. The formula keeps them; where one side is odd and the other even, a corner ends in ½."),
        Mistake("columns-first", _made(cell=lambda i, j: (j, i)), "You exchanged row and column of a square. The "
            "first number is the row, and squares come row by row: the column changes fastest."),
        Mistake("words-in-one-row", _made(word=lambda p: (0, p)), "Your words move along one axis. A word that is the "
            "p-th token stands at (p, p): then it turns as in a language model, which knows one position."),
    ),
    alternatives=(_made(), _with_tensors),
    hints=(
        "Go through the parts with a counter of tokens so far, L. Words are easy: the counter, twice.",
        "A picture's grid is `torch.cartesian_prod(torch.arange(h), torch.arange(w))`; add L and half of what is left "
        "over on each axis, (w·h − side)/2. The counter then grows by w·h.",
        "`grid + torch.tensor([L + (w * h - h) / 2, L + (w * h - w) / 2])`, words `(L + torch.arange(n))[:, None]"
        ".expand(-1, 2)`, and `torch.cat(…).float()`.",
    ),
    expected="whatever its shape, the middle of a picture of 24 squares stands 12.5 places after the last word before "
    "it, and 12.5 before the first one behind (exact: nothing is drawn).",
    trap="for square pictures h and w can be exchanged, and any place learns in the end. But a model that was trained "
    "on text has met only positions on the diagonal, and distances between words that are what they seem.",
)  # fmt: skip
