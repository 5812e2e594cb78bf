"""Single frames of clips by their captions: the image model θ of which chapters 16 to 18 make models of clips.

It learns from pictures, one frame of a clip each, and from what a picture shows: "a red circle and a blue star", and in
a quarter of them "… in the snow". That things move it has never been told. 16 px, any place of the lattice, medium
objects; 16 tokens of 4×4 pixels, as `scenes_text`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Words
from minidiff.data import captions as pictures
from minidiff.data.clips import ClipWorld, place
from minidiff.data.prompts import Prompt
from minidiff.data.scenes import GROUNDS, Scenes, render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.judges.scorecard import Generate, Score, matches
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import rand
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

WORLD = ClipWorld(families=("one", "two"))
"""One mover, or two, each with a motion of its own; five shapes, six colours."""
SNOW = 0.25
"""The share of pictures in the snow."""
LENGTH, DIM, DEPTH, PATCH = 12, 96, 6, 4
"""Tokens of a caption; width, blocks and patches of the network."""
CLOCK = (0.5, 1.0)
"""Mean and spread of the times' log-odds."""


@lru_cache
def tokenizer() -> WordTokenizer:
    """The words of pictures' short captions."""
    return WordTokenizer(pictures.vocabulary(("short",)), LENGTH)


def read(texts: Sequence[str]) -> dict[str, Tensor]:
    """{"tokens": (B, 12)}; the empty text is "no condition"."""
    return {"tokens": tokenizer().encode(texts)}


def network() -> DiT:
    """1 M parameters that see one frame."""
    return DiT(
        patch=PATCH, dim=DIM, depth=DEPTH, context_dim=DIM, reads="merged", shared=True, place_std=0.3,
        activation=F.silu,
    )  # fmt: skip


def words() -> Words:
    """The text block beside the network: what a frame shows."""
    return Words(len(tokenizer()), LENGTH, DIM)


def build() -> Denoiser:
    return Denoiser(Conditioned(words(), network()), Linear(), X0, velocity_weight)


def rows(n: int, generator: Generator, split: str | None = "train") -> tuple[list[Prompt], Scenes]:
    """n random frames: what each shows, and where."""
    asked = WORLD.prompts(n, generator, split)
    scenes = place(asked, generator, frames=1).scenes()
    ground = (rand((n,), generator) < SNOW).long()
    prompts = [replace(each.prompt, ground=GROUNDS[g]) for each, g in zip(asked, ground.tolist())]
    return prompts, replace(scenes, ground=ground)


def draw_frames(batch: int) -> Draw:
    """{"x0": (batch, 3, 16, 16), "tokens": (batch, 12)}, new ones in every batch."""

    def draw(generator: Generator) -> Batch:
        prompts, scenes = rows(batch, generator)
        return {"x0": render(scenes), **read(pictures.captions(prompts))}

    return draw


def draw() -> Draw:
    clock = times.logit_normal(*CLOCK, stratified=True)
    null = {"tokens": read([""])["tokens"][0]}
    return diffuse(chunked(lambda n: draw_frames(n), 32), clock, drop=0.1, null=null)


def pictures_of(model: Denoiser, steps: int = 50) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 16, 16), in ancestral steps."""
    return generator(model, read, {"tokens": read([""])["tokens"][0]}, (3, 16, 16), steps=steps)


def scores(model: Denoiser, n: int = 300) -> dict[str, float]:
    """Of n held-out contents: pictures that show all of their caption, and all of the next one's."""
    asked, _ = rows(n, torch.Generator().manual_seed(0), "content")
    found = {}
    for w in (0.0, 1.0):
        drawn = pictures_of(model)(pictures.captions(asked), w, range(n))
        for name, told in (("all of it", asked), ("another caption", asked[1:] + asked[:1])):
            right = matches(told, drawn)
            for kind, chosen in (("one", 1), ("two", 2)):
                mine = torch.tensor([len(each.groups) == chosen for each in asked])
                share = Score(int(right[mine].sum()), int(mine.sum())).share
                found[f"{kind}, {name}, w={w:g}"] = round(share, 4)
    return found


MODEL = Shipped(
    name="frames", purpose="frames of clips, in the snow, too: the image model that is made to move (chapters 16–18)",
    build=build, draw=draw, steps=12_000, scores=scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.999},
)  # fmt: skip
