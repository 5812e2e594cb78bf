"""From a sentence to a 16-px picture: a DiT that reads captions, trained in minutes on one core.

A text block beside the network reads the caption once; in every block of the picture one softmax goes over the
picture's tokens and the caption's. Muon on the blocks' matrices, AdamW on the rest; one modulation shared by all
blocks. What each of these brings: `benchmarks/training_recipes.py`.

TEXT         one or two objects, four relations
FAMILIES     every other family of prompts but `surrounding`, too: counts, negation, three and four objects
SURROUNDING  a ring of three small ones around another, or a large one behind up to three small ones

`surrounding` needs earlier times and longer training than the others. A small circle and a small square are 3.0 apart
at 16 px (summed squares over all numbers of a picture; medium ones 8.4), so which kind it is to be is settled where
σ/α is about 1, near t = 0.5 and below: with times around t = 0.57 (mean 0.3 in log-odds) networks learnt what is around
what, in which colours, but not which small ones they are. Half of SURROUNDING's times are below t = 0.45 (mean −0.2).

`several` is what FAMILIES finds hardest, and noisier times are no cure: with the same 13,400 steps, mean 0.8 instead of
0.3 made .58 of .53 at w = 0 and .82 of .81 at w = 3 (150 held-out captions), and sizes worse (.73 for .85 at w = 0).
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Words
from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import FAMILIES as ALL
from minidiff.data.prompts import World, place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.judges.scorecard import Generate, shares
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

WORLD = World(families=("one", "relation"))
"""One or two objects, five shapes, six colours."""
MANY = World(families=tuple(family for family in ALL[1:] if family != "surrounding"))
"""Every family of prompts but the empty picture and `surrounding`."""
RINGS = World(families=("surrounding",))
"""Small ones around another, or in front of a large one."""


@lru_cache
def tokenizer(length: int) -> WordTokenizer:
    """The words of short captions, "some" among them; captions of WORLD need 10 tokens, those of MANY 18."""
    return WordTokenizer([*vocabulary(("short",)), "some"], length)


def build(length: int, dim: int = 96, depth: int = 6, patch: int = 4) -> Denoiser:
    """1.0 M parameters: 16 tokens of 4×4 pixels, width 96, 6 blocks; x0-prediction judged as a velocity."""
    words = Words(len(tokenizer(length)), length, dim)
    net = DiT(
        patch=patch, dim=dim, depth=depth, context_dim=dim, reads="merged", shared=True,
        place_std=0.3, activation=F.silu,
    )  # fmt: skip
    return Denoiser(Conditioned(words, net), Linear(), X0, velocity_weight)


def draw_scenes(batch: int, world: World, length: int) -> Draw:
    """New scenes and short captions in every batch: {"x0": (batch, 3, 16, 16), "tokens": (batch, length)}."""

    def draw(generator: Generator) -> Batch:
        prompts = world.prompts(batch, generator, "train")
        return {"x0": render(place(prompts, generator)), "tokens": tokenizer(length).encode(captions(prompts))}

    return draw


def null(length: int) -> dict[str, Tensor]:
    """The empty caption: "no condition"."""
    return {"tokens": tokenizer(length).encode([""])[0]}


def pictures_of(model: Denoiser, length: int, steps: int = 50) -> Generate:
    """`generate(texts, w, seeds)` in ancestral steps: their fresh noise repairs what was drawn wrongly before."""
    read = lambda texts: {"tokens": tokenizer(length).encode(texts)}
    return generator(model, read, null(length), (3, 16, 16), steps=steps)


def _scores(world: World, length: int, n: int = 300) -> Callable[[Denoiser], dict[str, float]]:
    def scores(model: Denoiser) -> dict[str, float]:
        found = {}
        for w in (0.0, 1.0):
            for family, (right, other) in shares(pictures_of(model, length), world, w, n).items():
                found[f"{family}, w={w:g}"] = round(right.share, 4)
                found[f"{family}, w={w:g}, another caption"] = round(other.share, 4)
        return found

    return scores


def _draw(world: World, length: int, mean: float = 0.3) -> Draw:
    """mean: of the times' log-odds; the higher, the noisier."""
    scenes = chunked(lambda n: draw_scenes(n, world, length), 32)
    return diffuse(scenes, times.logit_normal(mean, 1.0, stratified=True), drop=0.1, null=null(length))


OPTIONS = {"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.999}

TEXT = Shipped(
    name="scenes-text", purpose="a caption becomes a 16-px scene of one or two objects", build=partial(build, 10),
    draw=partial(_draw, WORLD, 10), steps=3000, scores=_scores(WORLD, 10), options=OPTIONS,
)  # fmt: skip
FAMILIES = Shipped(
    name="scenes-families", purpose="counts, negation, three and four objects, too: a harder world at 16 px",
    build=partial(build, 18), draw=partial(_draw, MANY, 18), steps=14000, scores=_scores(MANY, 18, n=150),
    options=OPTIONS,
)  # fmt: skip
SURROUNDING = Shipped(
    name="scenes-surrounding", purpose="small ones around another or in front of a large one, at 16 px",
    build=partial(build, 18), draw=partial(_draw, RINGS, 18, -0.2), steps=12000, scores=_scores(RINGS, 18),
    options=OPTIONS,
)  # fmt: skip
