"""The scene models of chapter 03 and of the learnability benchmark: presets (how they were trained: `recipes`).

unconditional()   a DiT of 16-px scenes without any input but x_t and t: the prior that forward models plug into
captioner()       p(caption | x_t), trained by itself on noisy scenes
text()            a DiT of the small world with the caption's tokens in its context: it can be learned in minutes
"""

from functools import lru_cache

import torch
from torch import Generator, Tensor

from minidiff.backbones.dit import DiT
from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.guides.captioner import Captioner
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems.train import loaded
from minidiff.training import Batch, Draw

WORLD = World(families=("one", "relation"))
"""One or two objects, five shapes, six colours: what the prior and the captioner are trained on."""
SMALL = World(SHAPES[:3], COLOURS[:4], WORLD.families)
"""Three shapes, four colours: learned in minutes."""
LENGTH = 12
"""Tokens of a short caption of WORLD: START, up to nine words, END, and one to spare."""


@lru_cache
def tokenizer() -> WordTokenizer:
    return WordTokenizer(vocabulary(("short",)), LENGTH)


def tokens(texts: list[str]) -> Tensor:
    return tokenizer().encode(texts)


def draw_scenes(
    batch: int, world: World = WORLD, side: int = 16, text: bool = True, split: str | None = "train"
) -> Draw:
    """New scenes in every batch, from one split: {"x0": (batch, 3, side, side)} and, with text, their "tokens"."""

    def draw(generator: Generator) -> Batch:
        prompts = world.prompts(batch, generator, split)
        pictures = {"x0": render(place(prompts, generator), side)}
        return {**pictures, "tokens": tokens(captions(prompts))} if text else pictures

    return draw


def build_unconditional() -> Denoiser:
    """1.3 M parameters: 16 tokens of 4×4 pixels, width 128, 4 blocks; x0-prediction judged as a velocity."""
    return Denoiser(DiT(), Linear(), X0, velocity_weight)


def build_text() -> Denoiser:
    """The same with 12 caption tokens in its context."""
    net = DiT(vocabulary=len(tokenizer()), text_length=LENGTH, place_std=0.3)
    return Denoiser(net, Linear(), X0, velocity_weight)


def build_captioner() -> Captioner:
    """1.3 M parameters."""
    return Captioner(Linear(), len(tokenizer()), LENGTH)


def null_tokens() -> dict[str, Tensor]:
    """The empty caption: "no condition" of `text`."""
    return {"tokens": torch.as_tensor(tokens([""])[0])}


def text() -> Denoiser:
    return loaded(build_text(), "scenes-text")


def unconditional() -> Denoiser:
    return loaded(build_unconditional(), "scenes-unconditional")


def captioner() -> Captioner:
    return loaded(build_captioner(), "scenes-captioner")
