"""p(caption | x_t) for 16-px scenes, trained by itself on noisy pictures: a classifier whose classes are sentences."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.guides.captioner import Captioner
from minidiff.randomness import randn, seeded
from minidiff.schedules import Linear
from minidiff.systems.scenes_unconditional import WORLD
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, diffuse

LENGTH = 12
"""Tokens of a short caption of WORLD: START, up to nine words, END, and one to spare."""


@lru_cache
def tokenizer() -> WordTokenizer:
    return WordTokenizer(vocabulary(("short",)), LENGTH)


def tokens(texts: Sequence[str]) -> Tensor:
    """Short captions of WORLD, (B, LENGTH)."""
    return tokenizer().encode(texts)


def build() -> Captioner:
    """1.3 M parameters."""
    return Captioner(Linear(), len(tokenizer()), LENGTH)


def draw_pairs(batch: int) -> Draw:
    """New scenes and their captions in every batch: {"x0": (batch, 3, 16, 16), "tokens": (batch, LENGTH)}."""

    def draw(generator: Generator) -> Batch:
        prompts = WORLD.prompts(batch, generator, "train")
        return {"x0": render(place(prompts, generator)), "tokens": tokens(captions(prompts))}

    return draw


@torch.no_grad()
def _captioner_scores(model: Captioner) -> dict[str, float]:
    prompts = WORLD.prompts(1000, 0, "test")
    x0, wanted = render(place(prompts, 1)).to(next(model.parameters()).device), captions(prompts)
    turned = captions([p if p.relation is None else p.turned() for p in prompts])  # the same, said the other way round
    scores = {}
    for t in (0.05, 0.3, 0.5, 0.7):
        at = torch.tensor(t, device=x0.device)
        x_t = model.schedule.add_noise(x0, randn(x0.shape, seeded(0), device=x0.device), at)
        written = tokenizer().decode(model.write(x_t, at).cpu())
        scores[f"caption right at t={t}"] = round(
            sum(a in b for a, b in zip(written, zip(wanted, turned))) / len(wanted), 4
        )
    return scores


MODEL = Shipped(
    name="scenes-captioner", purpose="p(caption | noisy picture): guides the prior of scenes (chapter 03)", build=build,
    draw=lambda: diffuse(draw_pairs(32)), steps=12000, scores=_captioner_scores,
    options={"lr": 1e-3, "ema_decay": 0.999},
)  # fmt: skip
