"""Exercise 11-places: sines and cosines of rows and columns."""

import torch
from torch import Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.embeddings import waves


def _draw_grids(seed: int) -> list[Inputs]:
    g = torch.Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    return [
        (between(2, 6), between(2, 6), 8),
        (between(2, 4), between(4, 9), 4 * between(2, 7)),  # wide
        (4, 2, 4),  # one frequency
        (3, 3, 16),
        (1, between(2, 6), 8),  # one row
        (1, 1, 12),  # one token
    ]


def places(height: int, width: int, dim: int) -> Tensor:
    """(height·width, dim): sines, then cosines of the column, then both of the row."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    one = lambda axis: waves(axis.flatten().float(), dim // 2).roll(dim // 4, 1)  # `waves` has its cosines first
    return torch.cat([one(column), one(row)], 1)


def _row_first(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (row, column)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], 1)


def _down_first(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    column, row = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], 1)


def _interleaved(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (column, row)]
    return torch.cat([torch.stack([angle.sin(), angle.cos()], 2).flatten(1) for angle in angles], 1)


def _cosines_first(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.cos, torch.sin)], 1)


def _one_line(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 2) / (dim // 2))
    angle = torch.arange(height * width)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)


def _half_the_range(height: int, width: int, dim: int) -> Tensor:
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 2))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], 1)


def _token_by_token(height: int, width: int, dim: int) -> Tensor:
    rates, found = [10_000 ** (-4 * k / dim) for k in range(dim // 4)], torch.empty(height * width, dim)
    for n in range(height * width):
        row, column = divmod(n, width)
        parts = [
            f(torch.tensor([axis * rate for rate in rates])) for axis in (column, row) for f in (torch.sin, torch.cos)
        ]
        found[n] = torch.cat(parts)
    return found


def _by_indexing(height: int, width: int, dim: int) -> Tensor:
    """One table of all rows and columns, looked up twice."""
    angle = torch.arange(max(height, width))[:, None] * torch.logspace(0, -4, dim // 4 + 1)[:-1]
    table, n = torch.cat([angle.sin(), angle.cos()], 1), torch.arange(height * width)
    return torch.cat([table[n % width], table[n // width]], 1)


EXERCISE = Exercise(
    id="11-places",
    title="Where is a token?",
    points=2,
    difficulty=2,
    importance=3,
    minutes=12,
    draw=_draw_grids,
    reference=places,
    atol=1e-5,
    mistakes=(
        Mistake("row-first", _row_first, "Your first half tells the row. As in the paper's code, the column comes "
            "first, then the row: whoever loads published weights needs it so."),
        Mistake("column-by-column", _down_first, "Your tokens are numbered down each column. Patches are cut row by "
            "row: token n stands in row n // width, column n % width."),
        Mistake("interleaved", _interleaved, "You put every sine beside its cosine. Here all sines of an axis come "
            "first, then all its cosines: `cat`, not `stack`."),
        Mistake("cosines-first", _cosines_first, "Your cosines stand before the sines. Of each axis the sines come "
            "first."),
        Mistake("one-line", _one_line, "You numbered the tokens in one line, as words in a sentence. Then a token and "
            "the one below it are as far apart as a whole row: tell row and column apart, half of the numbers each."),
        Mistake("half-the-range", _half_the_range, "Your frequencies end at 1/100, as if an axis had all dim numbers. "
            "It has dim/2, so dim/4 frequencies, and these run from 1 towards 1/10,000."),
    ),
    alternatives=(_token_by_token, _by_indexing),
    shortcuts=("minidiff.nn.embeddings.TimeEmbedding", "minidiff.nn.rope.grid"),
    hints=(
        "First two lists of N numbers: the row and the column of each token. Then one function makes dim/2 numbers of "
        "such a list, and is used twice.",
        "`angle = axis[:, None] * rate` with dim/4 rates: 10,000 to the power of −k/(dim/4), k = 0, 1, …",
        "`torch.cat([angle.sin(), angle.cos()], 1)` for the column, the same for the row, and `torch.cat` once more.",
    ),
    expected="told row and column, the tokens beside and below are as alike as 0.98, the one four below 0.86; told one "
    "number, 0.97 beside, but 0.70 below and 0.61 four below (exact: nothing is drawn).",
    trap="on a square grid swapped axes are a picture turned over its diagonal: the network learns as well from them, "
    "and only weights made by others show it.",
)  # fmt: skip
