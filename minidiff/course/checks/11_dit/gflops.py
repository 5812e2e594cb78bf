"""Exercise 11-gflops: what a picture costs a DiT."""

import torch
from torch import Generator

from minidiff.course.exercise import Exercise, Inputs, Mistake

Size = tuple[int, int]
Work = tuple[int, int]


def _draw_networks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))

    def case(patch: int, channels: int) -> Inputs:
        size = (patch * between(2, 7), patch * between(2, 7))
        return size, patch, channels, 4 * between(2, 9), between(2, 6)

    return [
        case(2, 4),
        case(4, 3),
        case(1, 1),  # every pixel a token
        ((4, 4), 4, 3, 8, 2),  # one token
        ((6, 2), 2, 4, 16, 3),  # not square
        ((16, 8), 4, 3, 4 * between(2, 9), 1),  # one block
    ]


def dit_work(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    """(tokens, multiplications and additions): stem, blocks of four maps, attention, MLP and modulation, the end."""
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = tokens * dim * 2 * patch**2 * channels + 2 * dim**2
    block = tokens * (4 + 8) * dim**2 + 2 * tokens**2 * dim + 6 * dim**2
    return tokens, 2 * (ends + depth * block)


def _macs(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = 2 * tokens * patch**2 * channels * dim + 2 * dim**2
    return tokens, ends + depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim + 6 * dim**2)


def _no_squares(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = 2 * tokens * patch**2 * channels * dim + 2 * dim**2
    return tokens, 2 * (ends + depth * (12 * tokens * dim**2 + 6 * dim**2))


def _one_square(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = 2 * tokens * patch**2 * channels * dim + 2 * dim**2
    return tokens, 2 * (ends + depth * (12 * tokens * dim**2 + tokens**2 * dim + 6 * dim**2))


def _modulated_tokens(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = 2 * tokens * patch**2 * channels * dim + 2 * tokens * dim**2
    return tokens, 2 * (ends + depth * (18 * tokens * dim**2 + 2 * tokens**2 * dim))


def _side(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = size[0] * size[1] // patch
    ends = 2 * tokens * patch**2 * channels * dim + 2 * dim**2
    return tokens, 2 * (ends + depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim + 6 * dim**2))


def _blocks_only(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    tokens = (size[0] // patch) * (size[1] // patch)
    return tokens, 2 * depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim + 6 * dim**2)


def _map_by_map(size: Size, patch: int, channels: int, dim: int, depth: int) -> Work:
    """Every product of matrices as (rows, inner, columns)."""
    tokens, inside = size[0] * size[1] // patch**2, patch**2 * channels
    products = [(tokens, inside, dim), (1, dim, 2 * dim), (tokens, dim, inside)]
    for _ in range(depth):
        products += [(tokens, dim, 3 * dim), (tokens, dim, tokens), (tokens, tokens, dim), (tokens, dim, dim)]
        products += [(tokens, dim, 4 * dim), (tokens, 4 * dim, dim), (1, dim, 6 * dim)]
    return tokens, sum(2 * rows * inner * columns for rows, inner, columns in products)


EXERCISE = Exercise(
    id="11-gflops",
    title="What does a picture cost?",
    points=2,
    difficulty=2,
    importance=5,
    minutes=15,
    draw=_draw_networks,
    reference=dit_work,
    mistakes=(
        Mistake("counted-once", _macs, "You counted a multiplication and its addition as one. That is a multiply-add; "
            "here, as in PyTorch's counter, both count: twice as many. (The paper's Gflops are multiply-adds.)"),
        Mistake("no-squares", _no_squares, "You left out the attention itself. Every token is compared with every "
            "other and then mixes their values: two products of N·N·dim, which no weights show."),
        Mistake("one-square", _one_square, "You counted the scores Q·Kᵀ and not what is done with them: the shares "
            "times the values V are N·N·dim once more."),
        Mistake("modulated-by-token", _modulated_tokens, "You made the modulations once for each token. They depend "
            "on time and label alone, which all tokens of a picture share: once a block, and once at the end."),
        Mistake("patch-not-squared", _side, "You divided the number of pixels by the patch's side. A patch is p wide "
            "*and* p high: N = H/p · W/p."),
        Mistake("blocks-only", _blocks_only, "You counted the blocks alone. Patches are mapped to tokens at first and "
            "tokens to patches at last, and there is one more modulation of two vectors."),
    ),
    alternatives=(_map_by_map,),
    shortcuts=("minidiff.systems.dit.gflops", "minidiff.systems.dit.forward_gflops", "minidiff.systems.dit.tokens_of"),
    hints=(
        "A map from n to m numbers, on r rows, is r·n·m multiply-adds, so 2·r·n·m operations. How many rows has each "
        "map: one per token, or one per picture?",
        "Of a block: Q, K, V, O are 4·N·dim²; the MLP 8·N·dim²; scores and mixing N²·dim each; the modulation 6·dim².",
        "`2 * (2 * N * p * p * channels * dim + 2 * dim**2 + depth * (12 * N * dim**2 + 2 * N**2 * dim + 6 * dim**2))`",
    ),
    expected="237.3 Gflops for the paper's largest network at 256 px, twice the 118.6 that the paper prints: it "
    "counts multiply-adds. Half the patch costs 3.2 to 4.5 times as much in this chapter's networks, "
    "4.1 times in the paper's, from 4 to 2 (exact: nothing is drawn).",
    trap="at few tokens the squares are a few per cent, and a factor of 2 is the same for all networks: no "
    "comparison shows either. Only an absolute number does.",
)  # fmt: skip
