"""Exercise 13-counted: parameters and multiplications of a block with two sets of weights, or one."""

import torch
from torch import Generator

from minidiff.course.exercise import Exercise, Inputs, Mistake

Counted = tuple[int, int]


def _draw_blocks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))

    def case(shared: bool, text: int | None = None) -> Inputs:
        dim = 4 * between(2, 9)
        return between(3, 20) if text is None else text, between(16, 65), dim, between(2, 6) * dim + 1, shared

    return [
        case(False),
        case(True),
        case(False, text=1),
        case(True, text=1),
        (77, 16, 8 * between(1, 5), 32, False),  # more words than patches
        (16, 16, 16, 64, True),
    ]


def counted(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    """(parameters, multiplications) of one block: maps of attention, MLP and modulation; scores and mixing."""
    sets, tokens = 1 if shared else 2, text + picture
    one = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim + 6 * (dim * dim + dim)
    work = tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim + sets * 6 * dim**2
    return sets * one, work


def _twice(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    one = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim + 6 * (dim * dim + dim)
    work = sets * tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim + sets * 6 * dim**2
    return sets * one, work


def _apart(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    one = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim + 6 * (dim * dim + dim)
    pairs = tokens**2 if shared else text**2 + picture**2
    return sets * one, tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * pairs * dim + sets * 6 * dim**2


def _scores_only(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    one = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim + 6 * (dim * dim + dim)
    work = tokens * (4 * dim**2 + 2 * dim * hidden) + tokens**2 * dim + sets * 6 * dim**2
    return sets * one, work


def _by_token(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    one = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim + 6 * (dim * dim + dim)
    return sets * one, tokens * (10 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim


def _no_biases(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    work = tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim + sets * 6 * dim**2
    return sets * (10 * dim**2 + 2 * dim * hidden), work


def _one_modulation(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    sets, tokens = 1 if shared else 2, text + picture
    inside = 4 * (dim * dim + dim) + 2 * dim * hidden + hidden + dim
    work = tokens * (4 * dim**2 + 2 * dim * hidden) + 2 * tokens**2 * dim + 6 * dim**2
    return sets * inside + 6 * (dim * dim + dim), work


def _map_by_map(text: int, picture: int, dim: int, hidden: int, shared: bool) -> Counted:
    """Each stream's maps as (rows, inner, columns), then the two products of the joint attention."""
    parameters = work = 0
    for tokens in [text + picture] if shared else [text, picture]:
        for rows, inner, columns in [(tokens, dim, dim)] * 4 + [(tokens, dim, hidden), (tokens, hidden, dim)]:
            parameters, work = parameters + (inner + 1) * columns, work + rows * inner * columns
        parameters, work = parameters + (dim + 1) * 6 * dim, work + dim * 6 * dim
    n = text + picture
    return parameters, work + n * dim * n + n * n * dim


EXERCISE = Exercise(
    id="13-counted",
    title="Twice the weights, the same work",
    points=2,
    difficulty=2,
    importance=5,
    minutes=15,
    draw=_draw_blocks,
    reference=counted,
    mistakes=(
        Mistake("twice-the-work", _twice, "You let every token go through both sets of weights. A word goes through "
            "the text's maps alone, a patch through the picture's: M + N tokens, each once."),
        Mistake("apart", _apart, "You counted an attention for the words and one for the patches. The softmax is one, "
            "over all: every one of M + N tokens is compared with every other."),
        Mistake("scores-only", _scores_only, "You counted the scores Q·Kᵀ and not what is done with them: the shares "
            "times the values V are (M + N)²·dim once more."),
        Mistake("modulated-by-token", _by_token, "You made the modulation once for every token. It depends on time "
            "alone: once a picture, by each set of weights."),
        Mistake("no-biases", _no_biases, "The biases are missing: every map has one number more for each of its "
            "outputs."),
        Mistake("one-modulation", _one_modulation, "You gave both streams one modulation. In MM-DiT text and picture "
            "have norms of their own: each set of weights has its own map to 6·dim numbers."),
    ),
    alternatives=(_map_by_map,),
    hints=(
        "First one set of weights: four maps of dim to dim, two of the MLP, one to 6·dim. How often is each used?",
        "A map of a to b has a·b + b parameters and multiplies n·a·b times for n tokens. Which n, for the text's maps, "
        "for the picture's, and in total?",
        "Work: `(M + N) * (4 * dim**2 + 2 * dim * hidden) + 2 * (M + N)**2 * dim`, and 6·dim² for each set.",
    ),
    expected="at equal parameters three double blocks do 0.516 of the work of six shared ones here, 0.50004 at Flux "
    "1's sizes. Block for block a double one does 1.032 and 1.0001 times the work (exact: nothing is drawn).",
    trap="more weights feel like more work. Each token meets one set, whichever it is: a weight of a double block is "
    "used M or N times, one of a shared block M + N times. So as many weights do half the work, and half as many "
    "blocks have half as many softmaxes; the modulations alone cost the same.",
)  # fmt: skip
