"""Exercise 12-registers: learned vectors in place of padding."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.language import Registers

from .._common import normal

Filled = Callable[[Tensor, Tensor, Tensor], Tensor]


def _draw_contexts(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, length: int, dim: int, most: int, dtype: torch.dtype = torch.float64, holes: bool = False):
        told = torch.arange(length) < torch.randint(1, length + 1, (b, 1), generator=g)
        if holes:  # a mask need not end where the words end: of two encoders in a row the first has padding too
            told = torch.rand(b, length, generator=g) < 0.5
        return normal((b, length, dim), g, dtype), told, normal((most, dim), g, dtype)

    return [
        case(3, 4, 3, 7),
        case(2, 5, 4, 5),  # as many registers as tokens
        case(1, 1, 2, 3, torch.float32),
        case(4, 4, 4, 4),
        case(3, 6, 2, 8, holes=True),
        (normal((2, 3, 2), g), torch.zeros(2, 3, dtype=torch.bool), normal((4, 2), g)),  # nothing was said
    ]


class _Given(nn.Module):
    """A conditioning that has read the words already."""

    def __init__(self, context: Tensor, told: Tensor):
        super().__init__()
        self.context, self.told = context, told

    def forward(self, batch: int, *, tokens: Tensor) -> dict[str, Tensor]:
        return {"context": self.context, "context_mask": self.told}


def registers(context: Tensor, told: Tensor, learned: Tensor) -> Tensor:
    """`encoders.language.Registers` of a context that is there."""
    module = Registers(_Given(context, told), len(learned), learned.shape[1])
    with torch.no_grad():
        module.registers = nn.Parameter(learned)
        return module(len(context), tokens=torch.zeros(len(context), 1, dtype=torch.int64))["context"]


def _made(
    where: Callable[[Tensor], Tensor] = lambda told: told,
    pick: Callable[[Tensor, Tensor], Tensor] = lambda learned, told: learned.expand(len(told), -1, -1),
    join: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda told, x, kept: torch.where(told[..., None], x, kept),
    most: Callable[[Tensor, Tensor], int] = lambda context, learned: len(learned),
) -> Filled:
    def registers(context: Tensor, told: Tensor, learned: Tensor) -> Tensor:
        more = most(context, learned) - context.shape[1]
        x, told = F.pad(context, (0, 0, 0, more)), F.pad(where(told), (0, more))
        return join(told, x, pick(learned, told)[:, : told.shape[1]])

    return registers


def _in_order(learned: Tensor, told: Tensor) -> Tensor:
    """The first free place gets the first register, and so on."""
    return learned[((~told).cumsum(1) - 1).clamp(min=0)]


def _behind(context: Tensor, told: Tensor, learned: Tensor) -> Tensor:
    return torch.cat([context * told[..., None], learned.expand(len(context), -1, -1)], 1)[:, : len(learned)]


def _by_loops(context: Tensor, told: Tensor, learned: Tensor) -> Tensor:
    whole = learned.repeat(len(context), 1, 1)
    for row in range(len(context)):
        for place in range(context.shape[1]):
            if told[row, place]:
                whole[row, place] = context[row, place]
    return whole


EXERCISE = Exercise(
    id="12-registers",
    title="No more padding",
    points=1,
    difficulty=2,
    importance=3,
    minutes=8,
    draw=_draw_contexts,
    reference=registers,
    mistakes=(
        Mistake("words-replaced", _made(where=lambda told: ~told), "You put registers where the words are and kept the "
            "padding. True in `told` is a real token: keep those."),
        Mistake("in-order", _made(pick=_in_order), "Your first free place gets the first register. A register belongs "
            "to a *place*: place i, if it is free, has the i-th."),
        Mistake("behind", _behind, "You put the registers behind the tokens, padding included. They stand *in place* "
            "of padding, which is gone then."),
        Mistake("added", _made(join=lambda told, x, kept: x * told[..., None] + kept), "You added the registers to "
            "the words as well. A word stays as it is."),
        Mistake("too-short", _made(most=lambda context, learned: context.shape[1]), "Your context ends where this "
            "batch's longest caption ends. It always has as many tokens as there are registers, so that a picture does "
            "not depend on its batch."),
    ),
    alternatives=(_made(), _by_loops),
    hints=(
        "Fill up context and mask to the number of registers; then choose, place by place.",
        "`F.pad(context, (0, 0, 0, missing))` adds tokens; `F.pad(told, (0, missing))` adds False.",
        "`torch.where(told[..., None], context, learned)`.",
    ),
    expected="in a batch or alone a short caption differs by 0.3 where padding is looked at, by rounding (below 1e-6) "
    "with a mask or with registers, whatever these hold (exact: nothing is drawn).",
    trap="filled in order, registers look the same for captions of one length. But then the meaning of a register "
    "depends on how long the caption is.",
)  # fmt: skip
