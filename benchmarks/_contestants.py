"""Every text-to-image system of the course, as the leaderboard asks it: prompts → pictures, and what it is made of.

Each has its page's own way to draw, at w = 1 (scale 2) unless it says otherwise. The exact sampler is told the prompts
and needs no network: every arrangement of a caption is known (`data.exact_scenes`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import times
from minidiff.backbones.interleaved import Interleaved
from minidiff.data.aspects import asked
from minidiff.data.captions import captions
from minidiff.data.exact_scenes import ExactScenes
from minidiff.data.prompts import FAMILIES, Prompt, World
from minidiff.denoiser import Denoiser
from minidiff.guidance import Denoise, bind, classifier
from minidiff.judges.scorecard import Generate
from minidiff.predictions import X0
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.systems import (
    clip_scenes,
    clip_sprites,
    corners,
    dalle1,
    dit,
    guess,
    guess_codes,
    hunyuan,
    imagen,
    latent,
    llm,
    readers,
    scenes_any,
    scenes_captioner,
    scenes_text,
    scenes_unconditional,
    sdxl,
    stable_diffusion,
    text_lm,
    transfusion,
    unclip,
    ways_in,
)
from minidiff.systems.shipped import Shipped
from minidiff.weights import shipped_names

Draws = Callable[[Sequence[Prompt], float, Sequence[int]], Tensor]
"""(prompts, w, seeds) → pictures (B, 3, S, S) that the judge reads."""
Denoises = Callable[[Sequence[Prompt]], Denoise]
SHAPES, SPRITES = "shapes at 16 px", "sprites at 64 px"
CORNERS = "corners of the design space at equal work, sprites"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """parts: the shipped models that draw. before: others that were trained first and are inside these, such as
    encoders. denoise: where the exact denoiser of the same captions is known, to be compared with. gflops: 10⁹
    operations of a picture, where they cannot be counted while it is drawn. long: draws that are told long captions, if
    the system has learnt to read them."""

    name: str
    chapter: str
    section: str
    world: World
    draws: Callable[[], Draws]
    parts: tuple[Shipped, ...] = ()
    before: tuple[Shipped, ...] = ()
    w: float = 1.0
    denoise: Callable[[], Denoises] | None = None
    gflops: Callable[[], float] | None = None
    long: Callable[[], Draws] | None = None

    @property
    def trained(self) -> tuple[Shipped, ...]:
        return (*self.parts, *self.before)


def of_texts(generate: Generate, style: str = "short") -> Draws:
    """What reads captions is told those of the prompts, in short words or in long ones."""
    return lambda prompts, w, seeds: generate(captions(list(prompts), style), w, seeds)


# ---------------------------------------------------------------- the exact sampler


@torch.no_grad()
def exact(side: int, prompts: Sequence[Prompt], w: float, seeds: Sequence[int], steps: int = 50) -> Tensor:
    """Pictures of the exact conditional denoiser, in ancestral steps, each with noise of its own seed."""
    schedule, found = Linear(), []
    for i in range(0, len(prompts), 50):
        some, generators = prompts[i : i + 50], seeded(list(seeds)[i : i + 50])
        noise = randn((len(some), 3, side, side), generators)
        walk = sample(ExactScenes(some, schedule, side), noise, times.linear(steps), ddpm(schedule), generators)
        *_, x = walk
        found.append(x)
    return torch.cat(found)


def exact_denoise() -> Denoises:
    return lambda prompts: ExactScenes(prompts, Linear())


# ---------------------------------------------------------------- systems


def guided(prompts: Sequence[Prompt], w: float, seeds: Sequence[int], steps: int = 50) -> Tensor:
    """A model that reads nothing, led by a captioner (chapter 03)."""
    model, captioner = scenes_unconditional.MODEL.load(), scenes_captioner.MODEL.load()
    words, generators = scenes_captioner.tokens(captions(list(prompts))), seeded(seeds)
    led = classifier(bind(model), lambda x, t: captioner.log_prob(x, t, words), model.schedule, w)
    noise = randn((len(prompts), 3, 16, 16), generators)
    *_, x = sample(led, noise, times.linear(steps, start=0.999), ddpm(model.schedule), generators)
    return x


def guided_gflops(steps: int = 50) -> float:
    """PyTorch's counter cannot follow a gradient for x_t alone: counted are both calls of one step by themselves."""
    model, captioner = scenes_unconditional.MODEL.load(), scenes_captioner.MODEL.load()
    words, t = scenes_captioner.tokens(captions(scenes_unconditional.WORLD.prompts(1, 1, "test"))), torch.tensor(0.5)
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    led = dit.gflops(lambda: captioner.log_prob(x, t, words).sum().backward())
    return steps * (led + dit.gflops(lambda: model(x.detach(), t)))


def told(model: Denoiser, read: Callable[[Sequence[str]], dict[str, Tensor]]) -> Denoises:
    return lambda prompts: bind(model, **read(captions(list(prompts))))


def of_scenes(name: str, chapter: str, shipped: Shipped, world: World, length: int, steps: int = 50) -> Contestant:
    read = lambda texts: {"tokens": scenes_text.tokenizer(length).encode(texts)}
    return Contestant(
        name=name, chapter=chapter, section=SHAPES, world=world, parts=(shipped,),
        draws=lambda: of_texts(scenes_text.pictures_of(shipped.load(), length, steps)),
        denoise=None if "one" not in world.families else lambda: told(shipped.load(), read),
    )  # fmt: skip


def of_readers() -> Iterator[Contestant]:
    clips, chat = (clip_scenes.MODEL, clip_scenes.HARD), (llm.MODEL,)
    before = dict(zip(readers.READERS, (clips[:1], clips[:1], chat, (*clips, *chat)), strict=True))
    for name, (shipped, read) in readers.READERS.items():
        yield Contestant(
            name=f"reader: {name}", chapter="12", section=SHAPES, world=readers.WORLD, parts=(shipped,),
            before=before[name], draws=partial(_read_by, shipped, read), denoise=partial(_told_by, shipped, read),
        )  # fmt: skip
    for design, shipped in ways_in.MODELS.items():
        yield Contestant(
            name=f"way in: {design}", chapter="13", section=SHAPES, world=readers.WORLD, parts=(shipped,), before=chat,
            draws=partial(_read_by, shipped, readers.read_chat, 25),
            denoise=partial(_told_by, shipped, readers.read_chat),
        )  # fmt: skip


def _read_by(shipped: Shipped, read, steps: int = 50) -> Draws:
    return of_texts(readers.pictures_of(shipped.load(), read, steps))


def _told_by(shipped: Shipped, read) -> Denoises:
    return told(shipped.load(), read)


def of_shapes() -> Iterator[Contestant]:
    world = World(families=tuple(f for f in FAMILIES if f not in ("empty", "sizes", "counts", "several")))
    yield Contestant(
        name="exact sampler", chapter="07", section=SHAPES, world=world, w=0.0, draws=lambda: partial(exact, 16),
        denoise=exact_denoise,
    )  # fmt: skip
    yield Contestant(
        name="captioner leads a blind model, w = 12", chapter="03", section=SHAPES, world=scenes_unconditional.WORLD,
        w=12.0, draws=lambda: guided, parts=(scenes_unconditional.MODEL, scenes_captioner.MODEL),
        gflops=guided_gflops,
    )  # fmt: skip
    yield of_scenes("scenes-text", "07", scenes_text.TEXT, scenes_text.WORLD, 10)
    yield of_scenes("scenes-families", "07", scenes_text.FAMILIES, scenes_text.MANY, 18)
    yield of_scenes("scenes-surrounding", "07", scenes_text.SURROUNDING, scenes_text.RINGS, 18)
    every = lambda style: lambda: of_texts(scenes_any.pictures_of(scenes_any.MODEL.load()), style)
    yield Contestant(
        name="scenes-any", chapter="15", section=SHAPES, world=scenes_any.WORLD, parts=(scenes_any.MODEL,),
        before=(scenes_text.FAMILIES, scenes_any.FIRST), draws=every("short"), long=every("long"),
        denoise=lambda: told(scenes_any.MODEL.load(), scenes_any.read),
    )  # fmt: skip
    for name, shipped in dit.FAMILY.items():
        _, size, patch = name.split("-")
        yield of_scenes(f"DiT-{size.upper()}/{patch}", "11", shipped, scenes_text.WORLD, dit.LENGTH, 25)
    yield from of_readers()
    yield from (each for each in of_one_transformer() if {part.name for part in each.parts} <= {*shipped_names()})


def of_one_transformer() -> Iterator[Contestant]:
    """Chapter 14's; those whose weights are shipped take part."""
    read = lambda texts: {"tokens": scenes_text.tokenizer(transfusion.LENGTH).encode(texts)}
    yield Contestant(
        name="Transfusion", chapter="14", section=SHAPES, world=transfusion.WORLD, parts=(transfusion.MODEL,),
        draws=lambda: of_texts(transfusion.pictures_of(transfusion.MODEL.load())),
        denoise=lambda: told(Denoiser(transfusion.MODEL.load(), Linear(), X0), read),
    )  # fmt: skip
    yield Contestant(
        name="HunyuanImage 3.0 in miniature", chapter="14", section=SHAPES, world=hunyuan.WORLD,
        parts=(hunyuan.MODEL,), draws=lambda: partial(square, hunyuan.MODEL.load()),
    )  # fmt: skip
    yield Contestant(
        name="the guess", chapter="14", section=SHAPES, world=guess_codes.WORLD,
        parts=(guess.WORDS, guess_codes.CODES, guess_codes.PIXELS),
        draws=lambda: of_texts(guess.pictures_of(guess.Guess.load())),
    )  # fmt: skip


def square(model: Interleaved, prompts: Sequence[Prompt], w: float, seeds: Sequence[int]) -> Tensor:
    """Asked for in no shape, so for a square; a picture in another shape than that shows nothing here."""
    rows = [[asked(text, 0)] for text in captions(list(prompts))]
    drawn = hunyuan.generate(model, rows, w, seeds)
    return torch.stack([x if x.shape == (3, 16, 16) else torch.zeros(3, 16, 16) for x in drawn])


def of_sprites() -> Iterator[Contestant]:
    yield Contestant(
        name="exact sampler, 64 px", chapter="07", section=SPRITES, world=latent.WORLD, w=0.0,
        draws=lambda: partial(exact, 64),
    )  # fmt: skip
    ups = imagen.UP_32, imagen.UP_64
    for reader, base in imagen.ENCODERS.items():
        clip = (clip_sprites.MODEL,) if base is imagen.BASE_CLIP else ()
        draws = lambda base=base: of_texts(imagen.pictures_of(imagen.shipped(base)))
        yield Contestant(
            name=f"Imagen, words {reader}", chapter="07", section=SPRITES, world=imagen.WORLD, parts=(base, *ups),
            before=(text_lm.MODEL, *clip), draws=draws,
        )  # fmt: skip
    coded = {
        "chapter": "08", "section": SPRITES, "world": imagen.WORLD, "parts": (dalle1.PRIOR, dalle1.DVAE),
    }  # fmt: skip
    yield Contestant(name="DALL-E 1", draws=lambda: of_texts(dalle1.shipped()), **coded)
    yield Contestant(
        name="DALL-E 1, best of 8 by CLIP", draws=lambda: of_texts(dalle1.best_of(dalle1.shipped(), 8)),
        before=(clip_sprites.MODEL,), **coded,
    )  # fmt: skip
    yield Contestant(
        name="DALL-E 2 (unCLIP), w = 0", chapter="08", section=SPRITES, world=imagen.WORLD, w=0.0,
        parts=(unclip.PRIOR, unclip.DECODER, imagen.UP_32_BLIND, imagen.UP_64),
        before=(clip_sprites.MODEL, text_lm.MODEL), draws=lambda: of_texts(unclip.shipped().generate),
    )  # fmt: skip
    yield from of_latents()


def of_latents() -> Iterator[Contestant]:
    kept, world = latent.AUTOENCODER, latent.SpriteWorld()
    generate = lambda model, **more: of_texts(latent.pictures_of(model.load(), kept.load(), batch=50, **more))
    for name, chapter, model, before, more in (
        ("latent DiT", "09", latent.LATENT, (), {}),
        ("latent U-Net", "09", latent.UNET, (), {}),
        ("Stable Diffusion 1", "09", sdxl.SD_1, (clip_sprites.MODEL,), {"start": sdxl.start()}),
        ("Stable Diffusion 2", "09", stable_diffusion.MODEL, (clip_sprites.MODEL,), {}),
    ):
        yield Contestant(
            name=name, chapter=chapter, section=SPRITES, world=world, parts=(model, kept), before=before,
            draws=partial(generate, model, **more),
        )  # fmt: skip
    read_by = (clip_sprites.MODEL, text_lm.MODEL)
    for name, more in (("SDXL, base alone", ()), ("SDXL, base and refiner", (sdxl.REFINER,))):
        yield Contestant(
            name=name, chapter="10", section=SPRITES, world=imagen.WORLD, parts=(sdxl.BASE, *more, kept),
            before=read_by, draws=lambda more=more: of_texts(sdxl.shipped(refine=bool(more))),
        )  # fmt: skip


def of_corners() -> Iterator[Contestant]:
    """Networks of real models' cells; all small, trained with equal work."""
    for name, shipped in corners.MODELS.items():
        used = corners.frozen(corners.cell(name))
        decoder = tuple(model for model in used if model is latent.AUTOENCODER)
        draws = lambda name=name, shipped=shipped: of_texts(corners.readable(name, shipped.load()))
        yield Contestant(
            name=f"{name}'s cell", chapter="15", section=CORNERS, world=imagen.WORLD, parts=(shipped, *decoder),
            before=tuple(model for model in used if model not in decoder), draws=draws,
        )  # fmt: skip


def contestants() -> dict[str, Contestant]:
    """By name, in the order of the chapters."""
    return {each.name: each for each in (*of_shapes(), *of_sprites(), *of_corners())}


def readable(pictures: Tensor) -> Tensor:
    """Small pictures of sprites as the judge reads them: (B, 3, 16, 16) → (B, 3, 64, 64)."""
    return F.interpolate(pictures, size=(64, 64), mode="nearest")
