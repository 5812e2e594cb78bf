"""One set of weights that draws what a sentence says and says what a picture shows: Transfusion (arXiv 2408.11039) on
16-px scenes (chapter 14).

Half of the rows begin with the text, half with the picture. Before a text the picture is nearly clean: the paper
noises it half way at most, for what is to be described has to be seen. Each sentence is true of its picture, and there
is often more than one that is; a description is right if the judge finds what it says, and nothing else, in the
picture.

16,000 steps (42 CPU minutes of one core) describe at least .98 of 200 held-out pictures a family, and draw one .995,
relation .995, pair .905 and count .87 of captions at w = 1; 8,000 with λ = 5, half of the rows describing and no family
twice drew pair .42 and count .45.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.transfusion import Transfusion
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import START
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import Generate, Score, matches, shares
from minidiff.judges.sentences import read
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.systems.scenes_text import null, tokenizer
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

WORLD = World(families=("one", "relation", "pair", "count"))
TAUGHT = World(families=("one", "relation", "pair", "pair", "count", "count"))
"""What is hard to draw comes twice as often."""
LENGTH = 10
"""Of the longest short caption in this world, with START and END."""
SEEN = 0.3
"""A picture that is to be described has a noise level between 0 and this, most often none."""
LAMBDA = 25.0
DESCRIBED = 0.25
"""The share of rows whose picture comes first (a fifth in the paper)."""


def build(weight: float = LAMBDA) -> Transfusion:
    """1.3 M parameters: width 128, 6 blocks, 16 squares of 4×4 pixels whose norms the time modulates."""
    return Transfusion(len(tokenizer(LENGTH)), LENGTH, weight=weight, weigh=velocity_weight, modulated=True)


def draw_both(batch: int, world: World = TAUGHT, described: float = DESCRIBED) -> Draw:
    """{"x0", "t", "eps", "tokens" (batch, 10), "picture_first" (batch,) bool}; a tenth of the texts before a picture is
    empty. described: the share of rows whose picture comes first."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = world.prompts(n, generator, "train")
            return {"x0": render(place(prompts, generator)), "tokens": tokenizer(LENGTH).encode(captions(prompts))}

        return draw

    noisy = diffuse(chunked(rows, batch), times.logit_normal(0.3, 1.0, stratified=True))

    def draw(generator: Generator) -> Batch:
        found = noisy(generator)
        first, quiet, clean = torch.rand(3, batch, generator=generator)
        picture_first, silent = first < described, (quiet < 0.1)[:, None] & (first >= described)[:, None]
        seen = torch.where(clean < 0.5, 0.0, SEEN * found["t"])
        return {
            **found, "t": torch.where(picture_first, seen, found["t"]), "picture_first": picture_first,
            "tokens": torch.where(silent, null(LENGTH)["tokens"], found["tokens"]),
        }  # fmt: skip

    return draw


def pictures_of(model: Transfusion, steps: int = 50) -> Generate:
    """Text → picture: `generate(texts, w, seeds)` → (B, 3, 16, 16) in ancestral steps."""
    reads = lambda texts: {"tokens": tokenizer(LENGTH).encode(texts)}
    return generator(Denoiser(model, Linear(), X0), reads, null(LENGTH), (3, 16, 16), steps=steps)


def texts_of(model: Transfusion, pictures: Tensor) -> list[str]:
    """Picture → text: the most probable sentence about each of (B, 3, 16, 16)."""
    device = next(model.parameters()).device
    return tokenizer(LENGTH).decode(model.describe(pictures.to(device), torch.tensor(START)).cpu())


def true_of(texts: Sequence[str], pictures: Tensor) -> Tensor:
    """(B,) bool: the sentence can be read, and the picture shows what it says and nothing else."""
    found = [read(text) for text in texts]
    seen = matches([prompt or Prompt() for prompt in found], parse(pictures))
    return seen & torch.tensor([prompt is not None for prompt in found])


@torch.no_grad()
def scores(
    model: Transfusion, n: int = 200, world: World = WORLD, strengths: Sequence[float] = (0.0, 1.0), steps: int = 50
) -> dict[str, float]:  # fmt: skip
    """Both directions on held-out contents, by family; beside them another's caption and another's picture."""
    found = {}
    for w in strengths:
        for family, (right, other) in shares(pictures_of(model, steps), world, w, n).items():
            found[f"{family}, drawn, w={w:g}"] = round(right.share, 4)
            found[f"{family}, drawn, w={w:g}, another caption"] = round(other.share, 4)
    for family in world.families:
        prompts = replace(world, families=(family,)).prompts(n, 1, "test")
        pictures = render(place(prompts, 1))
        said = texts_of(model, pictures)
        found[f"{family}, described"] = round(Score(int(true_of(said, pictures).sum()), n).share, 4)
        other = true_of(said[1:] + said[:1], pictures)
        found[f"{family}, described, another picture"] = round(float(other.float().mean()), 4)
    return found


MODEL = Shipped(
    name="transfusion", purpose="draws what a sentence says and says what a picture shows, with one set of weights",
    build=build, draw=lambda: draw_both(32), steps=16000, scores=scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
