"""A guess at how GPT-4o draws, in miniature: an autoregressive transformer decides, a diffusion decoder paints.

Nobody outside knows how GPT-4o or Nano Banana make pictures. Of GPT-4o there is one picture of a whiteboard, which says
"compose autoregressive prior with a powerful decoder", and

    tokens → [transformer] → [diffusion] → pixels

This page is a guess at what that could mean, not a description of either. Its parts are those of an open system with
the same plan, GLM-Image (`backbones.glm`). How pictures become tokens is not on the whiteboard: that there is a
codebook at all, and how large it is, is part of the guess, too.

CODES    16×16 pixels ↔ 4×4 codes, each one of 512 (`codecs.vqvae`). Its own decoder is only used to train it
WORDS    one causal sequence: a caption, codes, an instruction, codes, an instruction, codes (`backbones.conversation`)
PIXELS   a diffusion transformer on pixels, which sees the codes of one picture and no word at all
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Generator

from minidiff.codecs.losses import psnr
from minidiff.codecs.vqvae import VQVAE
from minidiff.data.captions import caption
from minidiff.data.edits import KINDS_OF_EDIT, Edit, edit_of
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import Object, assemble, render
from minidiff.judges.scenes import parse, same
from minidiff.randomness import orders
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked

WORLD = World(families=("one", "relation", "pair"))
SIZE, SIDE = 512, 4
"""Codes there are; rows and columns of them in a picture."""
TURNS = 3
"""Pictures of a conversation in training."""


# ---------------------------------------------------------------- conversations


@dataclass(frozen=True)
class Story:
    """texts: a caption of `prompt`, then instructions. scenes: the objects after each."""

    prompt: Prompt
    texts: list[str]
    scenes: list[list[Object]]


def instructed(objects: list[Object], rng: Random) -> Edit:
    """A random edit, half of them in few words: "make the circle blue" where there is one circle.

    The only object is not removed: empty pictures are alike, and any would be as told.
    """
    edit = edit_of(objects, rng, rng.choice(KINDS_OF_EDIT if len(objects) > 1 else KINDS_OF_EDIT[:2]))
    kinds, text = [kind for kind, *_ in objects], edit.text
    if rng.random() < 0.5:
        for kind, colour, *_ in objects:
            text = text if kinds.count(kind) > 1 else text.replace(f"the {colour} {kind}", f"the {kind}")
    return Edit(text, edit.before, edit.after)


def stories(n: int, generator: Generator | int, split: str | None, world: World = WORLD) -> list[Story]:
    """n conversations of `TURNS` texts; the contents that captions name are of one split."""
    generator = generator if isinstance(generator, Generator) else Generator().manual_seed(generator)
    prompts = world.prompts(n, generator, split)
    placed, rng, found = place(prompts, generator), Random(repr(prompts)), []
    for i, prompt in enumerate(prompts):
        texts, scenes = [caption(prompt)], [placed.objects(i)]
        for _ in range(TURNS - 1):
            edit = instructed(scenes[-1], rng)
            texts.append(edit.text)
            scenes.append(edit.after)
        found.append(Story(prompt, texts, scenes))
    return found


# ---------------------------------------------------------------- pictures as codes


def build_codes() -> VQVAE:
    """0.5 M parameters: 16 of 512 codes a picture, 144 bits."""
    return VQVAE(SIZE, 8, 16 // SIDE, 96, (2, 3))


def draw_pictures(batch: int) -> Draw:
    """{"x0": (batch, 3, 16, 16)} of the training split, before and after edits, new in every batch."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            scenes = [scene for story in stories(-(-n // TURNS), generator, "train") for scene in story.scenes]
            return {"x0": render(assemble(scenes))[orders(len(scenes), 1, generator)[:n]]}

        return draw

    return chunked(rows, batch)


@torch.no_grad()
def codes_scores(codec: VQVAE, n: int = 1000) -> dict[str, float]:
    """Of n held-out pictures, two thirds of them edited: PSNR, how many are read as drawn after its own decoder, codes in use and perplexity.

    The control draws the codes of another picture.
    """
    x = render(assemble([story.scenes[i % TURNS] for i, story in enumerate(stories(n, 1, "test"))])).to(codec.quantizer.codebook.device)
    codes, drawn = codec.encode(x), parse(x.cpu()).scenes
    back = codec.decode(codes, clamp=True)
    read, other = parse(back.cpu()), parse(back.roll(1, 0).cpu())
    found = {
        "psnr": float(psnr(back, x).mean()),
        "read as drawn": float((same(drawn, read.scenes) & read.readable).float().mean()),
        "read as drawn, another's codes": float((same(drawn, other.scenes) & other.readable).float().mean()),
        "codes in use": len(codes.unique()) / SIZE,
        "perplexity": float(codec.quantizer.perplexity(codes)),
    }
    return {name: round(value, 4) for name, value in found.items()}


CODES = Shipped(
    name="guess-codes", purpose="16-px pictures to 4×4 codes and back, for the guess (chapter 14)", build=build_codes,
    draw=lambda: draw_pictures(64), steps=4000, scores=codes_scores, bits=8, options={"lr": 3e-3, "ema_decay": 0.998},
)  # fmt: skip
