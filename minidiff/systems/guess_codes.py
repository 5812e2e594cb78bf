"""The two ends of the guess (`guess`): a picture as a few codes, and codes painted as a picture.

CODES    16×16 pixels ↔ 4×4 codes, each one of 512 (`codecs.vqvae`). Its own decoder is only there to train it
PIXELS   a diffusion transformer on pixels, which sees the codes of one picture and no word at all (`backbones.glm`)

What is painted, before and after edits, is what conversations are about: a caption, and instructions to change what it
drew. How GPT-4o's tokens are made is not known. That there is a codebook at all, and its size, are part of the guess.

The codes need not hold a picture by themselves. Of 300 held-out pictures the codec's own decoder draws .64 so that the
judge finds the same objects within a cell, the diffusion decoder .98 from the same codes, and none without them.

What they must be is *easy to say*. A code is made of its own 4×4 pixels and of nothing else, so that where an edit
leaves the pixels alone the codes stay, too. With two residual blocks before the codebook the same codec is better by
itself (.86 instead of .64 of 1000 pictures are read exactly), but each code then depends on the whole picture: where
the pixels stay, .40 of the codes do, and the transformer of `guess`, after 1,700 steps, did .53 of 60 first edits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.glm import Glm
from minidiff.codecs.losses import psnr
from minidiff.codecs.vqvae import VQVAE
from minidiff.data.captions import caption
from minidiff.data.edits import KINDS_OF_EDIT, Edit, edit_of
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import Object, assemble, render
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import Score
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import orders, rand, randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.systems.hunyuan import as_told
from minidiff.systems.hunyuan import read as seen_in
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

WORLD = World(families=("one", "relation", "pair"))
SIZE, SIDE = 512, 4
"""Codes there are; rows and columns of them in a picture."""
TURNS = 3
"""Pictures of a conversation in training."""
DROP = 0.1
"""In training: pictures that are painted without their codes, so that "no codes" means something; and empty texts."""


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
    """0.3 M parameters: 16 of 512 codes a picture, 144 bits. The encoder is linear and sees one patch at a time."""
    return VQVAE(SIZE, 8, 16 // SIDE, 96, (0, 3))


def draw_pictures(batch: int) -> Draw:
    """{"x0": (batch, 3, 16, 16)} of the training split, before and after edits, new in every batch."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            scenes = [scene for story in stories(-(-n // TURNS), generator, "train") for scene in story.scenes]
            return {"x0": render(assemble(scenes))[orders(len(scenes), 1, generator)[:n]]}

        return draw

    return chunked(rows, batch)


@torch.no_grad()
def coded(codec: VQVAE, rows: Sequence[Sequence[list[Object]]]) -> Tensor:
    """Rows of T scenes as codes, (B, T, 4, 4)."""
    pictures = render(assemble([objects for row in rows for objects in row]))
    codes = codec.encode(pictures.to(codec.quantizer.codebook.device)).cpu()
    return codes.unflatten(0, (len(rows), -1))


@torch.no_grad()
def codes_scores(codec: VQVAE, n: int = 1000) -> dict[str, float]:
    """Of n held-out pictures, two thirds of them edited: PSNR, the share that is read exactly as drawn after its own
    decoder, codes in use and perplexity. The control draws the codes of another picture.
    """
    scenes = [story.scenes[i % TURNS] for i, story in enumerate(stories(n, 1, "test"))]
    x = render(assemble(scenes)).to(codec.quantizer.codebook.device)
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
    name="guess-codes", purpose="16-px pictures to 4×4 codes and back, of the guess at GPT-4o (chapter 14)",
    build=build_codes, draw=lambda: draw_pictures(64), steps=1400, scores=codes_scores, bits=8,
    options={"lr": 3e-3, "ema_decay": 0.99},
)  # fmt: skip


# ---------------------------------------------------------------- codes and pixels


def build_pixels() -> Denoiser:
    """0.65 M parameters: 16 tokens of 4×4 pixels, width 96, 4 blocks, to each of which its code is added."""
    return Denoiser(Glm(SIZE, 3, 16 // SIDE, 96, 4, cond_dim=48), Linear(), X0, velocity_weight)


def draw_painted(batch: int, codec: VQVAE) -> Draw:
    """{"x0", "t", "eps", "codes" (batch, 4, 4), "dropped" (batch,) bool}; a tenth of the pictures without codes."""
    pictures = diffuse(draw_pictures(batch), times.logit_normal(0.0, 1.0, stratified=True))

    def draw(generator: Generator) -> Batch:
        found = pictures(generator)
        with torch.no_grad():
            codes = codec.encode(found["x0"].to(codec.quantizer.codebook.device)).cpu()
        return {**found, "codes": codes, "dropped": rand((batch,), generator) < DROP}

    return draw


@torch.no_grad()
def paint(
    pixels: Denoiser, codes: Tensor, seeds: Sequence[int], dropped: bool = False, steps: int = 25
) -> Tensor:  # fmt: skip
    """Codes (B, 4, 4) as pictures (B, 3, 16, 16), in ancestral steps; dropped: without looking at them (the control).

    Picture i has the noise of seeds[i] alone.
    """
    device, generators = next(pixels.parameters()).device, seeded(seeds)
    gone = torch.full((len(codes),), dropped, device=device)
    denoise = bind(pixels, codes=codes.to(device), dropped=gone)
    noise = randn((len(codes), 3, 16, 16), generators, device=device)
    *_, x = sample(denoise, noise, times.linear(steps), ddpm(pixels.schedule), generators)
    return x.cpu()


def share(right: Sequence[bool]) -> float:
    return round(Score(sum(right), len(right)).share, 4)


@torch.no_grad()
def pixels_scores(pixels: Denoiser, n: int = 300) -> dict[str, float]:
    """Of n held-out pictures the share that shows the same objects, each within a cell, once painted from its codes.

    Beside it: by the codec's own decoder; and the controls, without codes and with another picture's.
    """
    codec, found = CODES.load(), {}
    scenes = [story.scenes[i % TURNS] for i, story in enumerate(stories(n, 1, "test"))]
    codes = coded(codec, [[objects] for objects in scenes])[:, 0]
    painted = {
        "as drawn": paint(pixels, codes, range(n)),
        "as drawn, the codec's decoder": codec.decode(codes, clamp=True),
        "as drawn, without codes": paint(pixels, codes, range(n), dropped=True),
        "as drawn, another's codes": paint(pixels, codes.roll(1, 0), range(n)),
    }
    for name, pictures in painted.items():
        found[name] = share([as_told(objects, seen) for objects, seen in zip(scenes, seen_in(list(pictures)))])
    return found


PIXELS = Shipped(
    name="guess-pixels", purpose="4×4 codes to 16-px pictures by diffusion, of the guess at GPT-4o (chapter 14)",
    build=build_pixels, draw=lambda: draw_painted(64, CODES.load()), steps=1500, scores=pixels_scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
