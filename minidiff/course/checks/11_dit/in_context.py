"""Exercise 11-in-context: time and label as two more tokens of the sequence."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.validate import describe, require

from .._common import normal

Block = Callable[[Tensor], Tensor]


def _draw_sequences(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def block(b: int, dim: int, dtype: torch.dtype) -> Block:
        """Every token looks at every other; it may stand anywhere."""
        score, value = normal((dim, dim), g, dtype) / dim**0.5, normal((dim, dim), g, dtype) / dim**0.5

        def look(x: Tensor) -> Tensor:
            fits = isinstance(x, Tensor) and x.ndim == 3 and (x.shape[0], x.shape[2]) == (b, dim)
            require(fits, "the tokens given to a block", describe(x), f"shape ({b}, tokens, {dim})")
            return x + ((x @ score @ x.mT).softmax(2) @ x @ value).tanh()

        return look

    def case(b: int, n: int, dim: int, depth: int, told: bool = True, dtype: torch.dtype = torch.float64) -> Inputs:
        z, place, times, label = (normal(shape, g, dtype) for shape in ((b, n, dim), (n, dim), (b, dim), (b, dim)))
        return [block(b, dim, dtype) for _ in range(depth)], z, place, times, label if told else None

    return [
        case(3, 4, 6, 2),
        case(2, 2, 5, 3),  # as many tokens as are appended
        case(1, 9, 4, 1),  # one picture, one block
        case(3, 3, 3, 2),  # all sizes the same
        case(2, 4, 6, 2, told=False),  # no label: one token
        case(2, 1, 8, 2),  # the whole picture is one token
        case(3, 4, 6, 2, dtype=torch.float32),
    ]


def in_context(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    """(B, N, dim): the picture's tokens after all blocks, with time and label beside them throughout."""
    x = torch.cat([z + place, torch.stack([times] if label is None else [times, label], 1)], 1)
    for block in blocks:
        x = block(x)
    return x[:, : z.shape[1]]


def _wrong_end(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x = torch.cat([torch.stack([times] if label is None else [times, label], 1), z + place], 1)
    for block in blocks:
        x = block(x)
    return x[:, : z.shape[1]]


def _anew(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x, told = z + place, torch.stack([times] if label is None else [times, label], 1)
    for block in blocks:
        x = block(torch.cat([x, told], 1))[:, : z.shape[1]]
    return x


def _summed(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x = torch.cat([z + place, (times if label is None else times + label)[:, None]], 1)
    for block in blocks:
        x = block(x)
    return x[:, :-1]


def _added(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x = z + place + (times if label is None else times + label)[:, None]
    for block in blocks:
        x = block(x)
    return x


def _nowhere(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x = torch.cat([z, torch.stack([times] if label is None else [times, label], 1)], 1)
    for block in blocks:
        x = block(x)
    return x[:, : z.shape[1]]


def _placed_again(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    x = torch.cat([z, torch.stack([times] if label is None else [times, label], 1)], 1)
    n = z.shape[1]
    for block in blocks:
        x = block(torch.cat([x[:, :n] + place, x[:, n:]], 1))
    return x[:, :n]


def _in_front(blocks: Sequence[Block], z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    """As a class token: attention knows no order, so it may stand in front, if it is taken away there."""
    told = [times] if label is None else [label, times]
    x = torch.cat([each[:, None] for each in told] + [z + place], 1)
    for block in blocks:
        x = block(x)
    return x[:, len(told) :]


EXERCISE = Exercise(
    id="11-in-context",
    title="Time and label as two more tokens",
    points=1,
    difficulty=1,
    importance=4,
    minutes=8,
    draw=_draw_sequences,
    reference=in_context,
    mistakes=(
        Mistake("wrong-end-cut", _wrong_end, "You put the condition in front and cut at the end. What is left begins "
            "with time and label, and the picture's last patches are gone: cut where you added."),
        Mistake("told-anew", _anew, "You append fresh tokens before every block. Appended once, they change from block "
            "to block as all others do, and gather what the picture says: cut after the *last* block."),
        Mistake("one-token", _summed, "You appended the *sum* of time and label as one token. In-context conditioning "
            "has a token for each, which a head can look at separately; the sum belongs to adaLN."),
        Mistake("added-to-all", _added, "You added time and label to every token. That is a condition, but no "
            "in-context one: they become tokens of their own, which the others look at."),
        Mistake("no-places", _nowhere, "You never added `place`. Attention knows no order, so that a picture would be "
            "a bag of patches. Add it to the picture's tokens, and to them alone."),
        Mistake("placed-again", _placed_again, "You add the places before every block. Once, at the start, is enough: "
            "what a token is carries on from block to block."),
    ),
    alternatives=(_in_front,),
    shortcuts=("minidiff.backbones.dit.DiT",),
    hints=(
        "Four steps: places, two more tokens, all blocks, two tokens fewer.",
        "`torch.stack([times, label], 1)` is (B, 2, dim); without a label `times[:, None]`. Which axis of z is the "
        "sequence?",
        "`x = torch.cat([z + place, extra], 1)`, then the blocks, then `x[:, : z.shape[1]]`.",
    ),
    expected="two more tokens cost 9.0 % more than adaLN-Zero at 16 tokens, 1.0 % at 256. In a new network "
    "another label moves 0.07 ± 0.01 of the answer, by cross-attention 0.65 ± 0.07, with adaLN 0.80 ± "
    "0.07; with adaLN-Zero the answer is 0 (5 seeds).",
    trap="every cut of two tokens leaves the right shape, and a picture that lost its last patches to time "
    "and label is noticed only when it is looked at.",
)  # fmt: skip
