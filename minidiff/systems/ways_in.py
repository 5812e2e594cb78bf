"""How a sentence enters a transformer: six designs at equal parameters, the same reader, data and noise (chapter 13).

    cross-attention   every block looks at the words with an attention of its own (DiT; PixArt-α)
    double            words have weights of their own, one softmax over both (Stable Diffusion 3)
    double, centred   the same, the picture's places around 0 and the words' on the diagonal (Qwen-Image)
    double, single    separate at first, then one set of weights for both (Flux 1)
    shared            the same, attention ∥ MLP, one modulation for all blocks of a kind, no biases (Flux 2)
    single            one set of weights, each side refined alone before (Z-Image)

The reader is the chat model of `llm`, layer −2, frozen. What is left to differ is how its tokens meet the picture's.
All take the same steps on the same batches. They stop early, on purpose: where every picture is right there is nothing
to compare.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from minidiff.backbones.dit import DiT
from minidiff.backbones.flux2 import Flux2
from minidiff.backbones.mmdit import MMDiT, width_of
from minidiff.backbones.single_stream import SingleStream
from minidiff.conditioning import Conditioned, Frozen
from minidiff.data.captions import captions
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.scorecard import Generate
from minidiff.nn import rope
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems import llm, readers
from minidiff.systems.dit import errors_of, exam, gflops
from minidiff.systems.readers import WIDTH, chat_model, read_chat
from minidiff.systems.shipped import Shipped

SIZE: dict[str, Any] = {"patch": 4, "dim": 64, "heads": 4, "context_dim": WIDTH}
PARAMETERS = 600_000
"""Of every backbone, to within half a unit of its MLPs."""
THREE, FOUR = (4, 6, 6), (4, 4, 4, 4)
"""Numbers of a head for each axis of its positions."""
FILLED = 16
"""What looks at padding gets all short sentences at one length, as Z-Image does (32 there): else a sentence would be
another input in another batch."""


def single(hidden: int, multiple: int = FILLED) -> SingleStream:
    """multiple: what sentences are filled up to; with 1 they are not."""
    return SingleStream(
        **SIZE, depth=5, refiners=1, hidden=hidden, rotary=THREE, cond_dim=64, multiple=multiple
    )  # fmt: skip


DESIGNS: dict[str, Callable[[int], nn.Module]] = {
    "cross-attention": lambda hidden: DiT(**SIZE, depth=6, hidden=hidden, reads="cross", qk_norm=True, place_std=0.3),
    "double": lambda hidden: MMDiT(**SIZE, double=3, ends=True, hidden=hidden, rotary=THREE),
    "double, centred": lambda hidden: MMDiT(
        **SIZE, double=3, ends=True, hidden=hidden, rotary=THREE, places=rope.centred
    ),
    "double, single": lambda hidden: MMDiT(**SIZE, double=1, single=4, hidden=hidden, rotary=THREE),
    "shared": lambda hidden: Flux2(**SIZE, double=1, single=4, hidden=hidden, rotary=FOUR),
    "single": single,
}
"""Hidden width of the MLPs → backbone. Where double blocks are the last, their text `ends`: what nothing reads has no
weights that would count and never learn."""


def backbone(design: str) -> nn.Module:
    """One of `DESIGNS` with `PARAMETERS` parameters."""
    return DESIGNS[design](width_of(DESIGNS[design], PARAMETERS))


def reader() -> Frozen:
    """The chat model's states, mapped to one width for all designs."""
    return Frozen(chat_model(), llm.LENGTH, context_dim=WIDTH)


def around(net: nn.Module) -> Denoiser:
    """16-px scenes in 16 tokens, x0-prediction judged as a velocity."""
    return Denoiser(Conditioned(reader(), net), Linear(), X0, velocity_weight)


def build(design: str) -> Denoiser:
    return around(backbone(design))


# ---------------------------------------------------------------- scores

ASKED = ("one", "relation", "pair", "count", "negation", "relation, long", "pair, long")
"""Of `readers.QUESTIONS`."""


def pictures_of(model: Denoiser, steps: int = 25) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 16, 16) in ancestral steps."""
    return readers.pictures_of(model, read_chat, steps)


def forward_gflops(model: Denoiser, text: str = "a red circle left of a blue square") -> float:
    """10⁹ operations of the backbone for one picture and one caption; the reader is not counted, it reads once."""
    network = model.net
    assert isinstance(network, Conditioned)
    with torch.no_grad():
        given = network.conditioning(1, **read_chat([text]))
        return gflops(lambda: network.backbone(torch.zeros(1, 3, 16, 16), torch.full((1,), 0.5), **given))


@torch.no_grad()
def scores(model: Denoiser, n: int = 150, scenes: int = 512) -> dict[str, float]:
    """Work; loss, least possible loss and excess by time (`dit.errors_of`); the share of n pictures that are right."""
    asked, found = exam(scenes, readers.WORLD), {"forward Gflops": round(forward_gflops(model), 6)}
    for row in errors_of(bind(model, **read_chat(captions(asked.prompts))), asked):
        found |= {f"{name}, t={row['t']:g}": round(row[name], 6) for name in ("loss", "floor", "excess")}
    for question, (right, other) in readers.answers(pictures_of(model), n=n, questions=ASKED).items():
        found |= {question: round(right.share, 4), f"{question}, another caption": round(other.share, 4)}
    return found


# ---------------------------------------------------------------- shipped

STEPS = 3000


def _design(design: str) -> Shipped[Denoiser]:
    return Shipped(
        name="ways-in-" + design.replace(", ", "-"), purpose=f"16-px scenes; how text enters: {design} (chapter 13)",
        build=partial(build, design), draw=partial(readers.draw_scenes, 32, read_chat), steps=STEPS, scores=scores,
        bits=8, apart=".encoder.", options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
    )  # fmt: skip


CROSS, DOUBLE, CENTRED, MERGED, SHARED, SINGLE = (_design(design) for design in DESIGNS)
MODELS = dict(zip(DESIGNS, (CROSS, DOUBLE, CENTRED, MERGED, SHARED, SINGLE), strict=True))
"""Design → what is shipped of it."""
