"""How a sentence enters a transformer: six designs at equal parameters, the same reader, data and noise (chapter 13).

    cross-attention   every block looks at the words with an attention of its own (DiT; PixArt-α)
    double            words have weights of their own, one softmax over both (Stable Diffusion 3)
    double, centred   the same, the picture's places around 0 and the words' on the diagonal (Qwen-Image)
    double, single    separate at first, then one set of weights for both (Flux 1)
    shared            the same, attention ∥ MLP, one modulation for all blocks of a kind, no biases (Flux 2)
    single            one set of weights, each side refined alone before (Z-Image)

The reader is the chat model of `llm`, layer −2, frozen. What is left to differ is how its tokens meet the picture's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from minidiff.backbones.dit import DiT
from minidiff.backbones.flux2 import Flux2
from minidiff.backbones.mmdit import MMDiT, width_of
from minidiff.backbones.single_stream import SingleStream
from minidiff.conditioning import Conditioned, Frozen
from minidiff.denoiser import Denoiser
from minidiff.nn import rope
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems import llm
from minidiff.systems.readers import WIDTH, chat_model

SIZE: dict[str, Any] = {"patch": 4, "dim": 64, "heads": 4, "context_dim": WIDTH}
PARAMETERS = 600_000
"""Of every backbone, to within half a unit of its MLPs."""
THREE, FOUR = (4, 6, 6), (4, 4, 4, 4)
"""Numbers of a head for each axis of its positions."""

DESIGNS: dict[str, Callable[[int], nn.Module]] = {
    "cross-attention": lambda hidden: DiT(**SIZE, depth=6, hidden=hidden, reads="cross", qk_norm=True, place_std=0.3),
    "double": lambda hidden: MMDiT(**SIZE, double=3, hidden=hidden, rotary=THREE),
    "double, centred": lambda hidden: MMDiT(**SIZE, double=3, hidden=hidden, rotary=THREE, places=rope.centred),
    "double, single": lambda hidden: MMDiT(**SIZE, double=1, single=4, hidden=hidden, rotary=THREE),
    "shared": lambda hidden: Flux2(**SIZE, double=1, single=4, hidden=hidden, rotary=FOUR),
    "single": lambda hidden: SingleStream(**SIZE, depth=5, refiners=1, hidden=hidden, rotary=THREE, cond_dim=64),
}
"""Hidden width of the MLPs → backbone."""


def backbone(design: str) -> nn.Module:
    """One of `DESIGNS` with `PARAMETERS` parameters."""
    return DESIGNS[design](width_of(DESIGNS[design], PARAMETERS))


def reader() -> Frozen:
    """The chat model's states, mapped to one width for all designs."""
    return Frozen(chat_model(), llm.LENGTH, context_dim=WIDTH)


def build(design: str) -> Denoiser:
    """16-px scenes in 16 tokens, x0-prediction judged as a velocity."""
    return Denoiser(Conditioned(reader(), backbone(design)), Linear(), X0, velocity_weight)


BUILD = {design: partial(build, design) for design in DESIGNS}
