"""Exercise 15-cells: which of the design space's cells contradict themselves, and on which two axes."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.systems.design import AXES, Design
from minidiff.validate import require
from minidiff.values import describe_value

Axes = tuple[str, ...]
Rule = Callable[[str, str, str], Axes]
ASKED = ("architecture", "encoder", "conditioning")


def _draw_cells(seed: int) -> list[Inputs]:
    """All 18, in an order of their own."""
    every = list(product(*(AXES[axis] for axis in ASKED)))
    return [every[i] for i in torch.randperm(len(every), generator=Generator().manual_seed(seed))]


def reason(architecture: str, encoder: str, conditioning: str) -> Axes:
    """The two axes that `Design.reason` names, () where it has nothing to say."""
    text = Design("DDPM", "pixels", architecture, encoder, conditioning).reason  # type: ignore[arg-type]
    return () if text is None else tuple(axis for axis in AXES if axis in text.split(" contradict")[0].split())


def _made(
    carried: Callable[[str, str, str], bool] = lambda a, e, c: a == "U-Net" and c != "cross-attention",
    outside: Callable[[str, str, str], bool] = lambda a, e, c: c == "one sequence" and e != "language model",
    first: Axes = ("architecture", "conditioning"), second: Axes = ("encoder", "conditioning"),
) -> Rule:  # fmt: skip
    def reason(architecture: str, encoder: str, conditioning: str) -> Axes:
        if carried(architecture, encoder, conditioning):
            return first
        return second if outside(architecture, encoder, conditioning) else ()

    return reason


def _encoder_first(architecture: str, encoder: str, conditioning: str) -> Axes:
    if conditioning == "one sequence" and encoder != "language model":
        return "encoder", "conditioning"
    return _made()(architecture, encoder, conditioning)


def _by_table(architecture: str, encoder: str, conditioning: str) -> Axes:
    fits = {"U-Net": ["cross-attention"], "transformer": list(AXES["conditioning"])}
    if conditioning not in fits[architecture]:
        return "conditioning", "architecture"
    readers = {"one sequence": AXES["encoder"][2:]}.get(conditioning, AXES["encoder"])
    return () if encoder in readers else ("conditioning", "encoder")


def _named(answer: object, *cell: str) -> Tensor:
    """Which of the axes are named, in whatever order."""
    fits = isinstance(answer, (tuple, list)) and len(answer) in (0, 2) and all(axis in ASKED for axis in answer)
    require(fits, "what your function returns", describe_value(answer), f"() or two of {ASKED}")
    assert isinstance(answer, (tuple, list))
    return torch.tensor([axis in answer for axis in ASKED])


EXERCISE = Exercise(
    id="15-cells",
    title="Cells that contradict themselves",
    points=1,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_cells,
    reference=reason,
    probe=_named,
    mistakes=(
        Mistake("no-cross-attention", _made(carried=lambda a, e, c: a == "U-Net" and (c != "cross-attention"
            or e == "language model")), "You forbid a U-Net that looks at a language model's words. Imagen is one: "
            "cross-attention takes a set of vectors from anyone. What a U-Net cannot do is carry words along."),
        Mistake("joint-allowed", _made(carried=lambda a, e, c: a == "U-Net" and c == "one sequence"), "You let a U-Net "
            "have joint attention. There words go through every block as tokens, and in a U-Net, whose grid changes "
            "from block to block, a word has no place."),
        Mistake("any-reader", _made(outside=lambda a, e, c: False), "You forgot the readers beside one sequence. There "
            "the transformer reads the words itself: it is the language model, and a CLIP would stand outside."),
        Mistake("both-allowed", _made(outside=lambda a, e, c: c == "one sequence" and e == "CLIP"), "You let CLIP + "
            "language model read for one sequence. Of the two the CLIP stands outside the sequence all the same."),
        Mistake("wrong-axes", _made(second=("architecture", "encoder")), "The cell is rightly refused, but not for "
            "these axes. In one sequence any architecture would meet the question: it is encoder and conditioning "
            "that contradict each other."),
        Mistake("encoder-first", _encoder_first, "Where both rules speak (U-Net, a CLIP, one sequence) name the first "
            "one's axes: architecture and conditioning. Without a transformer the question who reads does not arise."),
    ),
    alternatives=(_made(), _by_table),
    shortcuts=("minidiff.systems.design.cells", "minidiff.systems.design.valid"),
    hints=(
        "Two rules, each one `if`: the first looks at architecture and conditioning, the second at encoder and "
        "conditioning. Everything else is allowed.",
        "A U-Net can have `\"cross-attention\"` and nothing else. `\"one sequence\"` can have `\"language model\"` "
        "and nothing else.",
        "`if architecture == \"U-Net\" and conditioning != \"cross-attention\": return \"architecture\", "
        "\"conditioning\"`; then the like for the second; then `return ()`.",
    ),
    expected="40 of 72 cells are left; 8 of 24 orders lead from Stable Diffusion 1 to HunyuanImage 3.0 (exact).",
    trap="any rule leaves some cells, and a count alone is soon made to fit. Each real model must sit in one that is "
    "left: a rule too many throws Imagen out.",
)  # fmt: skip
