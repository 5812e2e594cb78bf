"""Exercise 13-placed: where words and patches stand in one sequence, in two ways."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.rope import at_origin, centred

Placed = tuple[Tensor, Tensor]


def _draw_sizes(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    return [
        (between(2, 6), 4, 4),
        (between(2, 6), 2 * between(1, 4), 8),  # wide
        (between(2, 6), 9, 2 * between(1, 4)),  # high, and an odd side
        (between(2, 6), 3, 5),  # odd both
        (1, 1, 1),  # one word, one patch
        (0, 2, between(2, 6)),  # no words
        (between(5, 9), 1, 3),  # more words than patches
    ]


def placed(text: int, rows: int, columns: int) -> Placed:
    """(Flux 1's positions, Qwen-Image's): each (text + rows·columns, 3)."""
    return at_origin(text, rows, columns), centred(text, rows, columns)


def _made(
    middle: Callable[[int], int] = lambda n: n - n // 2,
    first: Callable[[int, int], tuple[int, ...]] = lambda rows, columns: (max(rows // 2, columns // 2),) * 3,
    step: tuple[int, int, int] = (1, 1, 1),
    cell: Callable[[int, int], tuple[int, int]] = lambda i, j: (i, j),
    sequence: Callable[[list, list], list] = lambda words, patches: words + patches,
) -> Callable[[int, int, int], Placed]:
    def placed(text: int, rows: int, columns: int) -> Placed:
        cells = [cell(i, j) for i in range(rows) for j in range(columns)]
        a, b = cell(middle(rows), middle(columns))
        diagonal = [[f + s * k for f, s in zip(first(rows, columns), step)] for k in range(text)]
        flux = sequence([[0, 0, 0]] * text, [[0, i, j] for i, j in cells])
        qwen = sequence(diagonal, [[0, i - a, j - b] for i, j in cells])
        return torch.tensor(flux, dtype=torch.float32), torch.tensor(qwen, dtype=torch.float32)

    return placed


def _with_tensors(text: int, rows: int, columns: int) -> Placed:
    n = torch.arange(rows * columns)
    grid = torch.stack([0 * n, n // columns, n % columns], 1).float()
    half = torch.tensor([0, rows + 1, columns + 1]) // 2
    words = torch.arange(text)[:, None] + torch.tensor([[rows, columns]]).amax() // 2
    flux = torch.cat([torch.zeros(text, 3), grid])
    return flux, torch.cat([words.repeat(1, 3).float(), grid - half])


EXERCISE = Exercise(
    id="13-placed",
    title="Where does a word stand?",
    points=1,
    difficulty=2,
    importance=4,
    minutes=12,
    draw=_draw_sizes,
    reference=placed,
    mistakes=(
        Mistake("text-from-0", _made(first=lambda rows, columns: (0, 0, 0)), "Your diagonal begins at 0, in the middle "
            "of the picture. There words stand where patches stand: begin at half the longer side, outside of it."),
        Mistake("other-half", _made(middle=lambda n: n // 2), "You moved the picture by ⌊n/2⌋. At an odd side that "
            "leaves the larger half on the positive side, where the text begins: move by ⌈n/2⌉ = n − ⌊n/2⌋."),
        Mistake("one-axis", _made(first=lambda rows, columns: (max(rows, columns) // 2, 0, 0), step=(1, 0, 0)), "Your "
            "words move along the first axis alone. On the diagonal word k has the same number on all three axes."),
        Mistake("side-by-side", _made(first=lambda rows, columns: (max(rows, columns) // 2, rows // 2, columns // 2)),
            "Each axis of your text begins at half of its own side. One number for all three, half the *longer* "
            "side: then it is a diagonal, whatever the picture's shape."),
        Mistake("picture-first", _made(sequence=lambda words, patches: patches + words), "You put the picture first. "
            "The sequence is text, then picture: a rotation turns token n by row n."),
        Mistake("columns-first", _made(cell=lambda i, j: (j, i)), "You exchanged row and column. The axes are free, "
            "row, column, and patches are read row by row: the column changes fastest."),
    ),
    alternatives=(_made(), _with_tensors),
    hints=(
        "Make the picture's grid of rows and columns once. Both ways put a zero before it; one subtracts something.",
        "`torch.cartesian_prod(torch.arange(rows), torch.arange(columns))` is (rows·columns, 2). Subtract ⌈n/2⌉ of "
        "each side, and put a column of zeros in front.",
        "Qwen's words: `max(rows // 2, columns // 2) + torch.arange(text)`, the same three times side by side; then "
        "`torch.cat([words, picture]).float()`.",
    ),
    expected="on the diagonal patches move by 0.023 ± 0.004 of their spread, at the origin by rounding, below 1e-6 (5 "
    "seeds of block and tokens).",
    trap="for a square picture with even sides half of the slips vanish, and with words at 0 a network learns, too. "
    "But weights that were trained with one set of positions answer to that set alone.",
)  # fmt: skip
