"""From a sentence to the embedding of a picture, and from there to pixels: unCLIP (DALL-E 2, arXiv 2204.06125).

By the chain rule p(x | y) = p(x | z) · p(z | y), for the embedding z that CLIP gives to the picture x. The prior draws
z for a sentence; the decoder, which reads no sentence, draws a picture of z; two stages that read nothing enlarge it.
CLIP is `clip_sprites`, frozen, and its embeddings are unit vectors of 64 numbers. Times √64 they have variance 1, as
noise has; so the networks see them.

What z says can be said of pictures without words: draw others like a given one (`variations`), walk from one to another
(`interpolate`), and move one by the difference of two sentences (`text_diff`).
"""

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.prior import Prior
from minidiff.cascade import lowered
from minidiff.conditioning import Conditioned, FromEmbedding, Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import CLIP
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems import clip_sprites, imagen
from minidiff.systems.imagen import CLOCK, OPTIONS, REUSE, WIDTH, WORLD
from minidiff.systems.shipped import Shipped
from minidiff.systems.unclip_pictures import DIM, NOTHING, SCALE, SIDE, UnCLIP, better, silent, slerp
from minidiff.training import Batch, Draw, chunked, diffuse

__all__ = [
    "DECODER", "PRIOR", "UnCLIP", "better", "build_decoder", "build_prior", "draw_decoder", "draw_prior", "shipped",
    "slerp",
]  # fmt: skip


# ---------------------------------------------------------------- the prior


def build_prior(dim: int = 96, depth: int = 4) -> Denoiser:
    """0.7 M parameters, a third of them CLIP's frozen tower of texts; 22 tokens of width 96."""
    reader = Frozen(clip_sprites.MODEL.load().text, imagen.LENGTH, context_dim=dim, vector_dim=dim)
    return Denoiser(Conditioned(reader, Prior(DIM, imagen.LENGTH, dim, depth)), Linear(), X0, velocity_weight)


@torch.no_grad()
def _pairs(n: int, generator: Generator, clip: CLIP) -> dict[str, Tensor]:
    """n rows: 16×16 pixels, the scaled embedding of their 64×64, the caption; each picture `REUSE` times."""
    prompts = WORLD.prompts(-(-n // REUSE), generator, "train")
    x = render(place(prompts, generator), 64)
    z = SCALE * torch.cat([clip.encode_image(part) for part in x.split(256)])
    order = torch.cat([torch.randperm(len(prompts), generator=generator) for _ in range(REUSE)])[:n]
    found = {"pixels": lowered(x, 64 // SIDE), "embedding": z, **imagen.read_clip(captions(prompts))}
    return {name: value[order] for name, value in found.items()}


def draw_prior(batch: int, clip: CLIP | None = None) -> Draw:
    """{"x0": SCALE·(embeddings of new pictures), (batch, 64), "tokens": (batch, 18)}; a tenth without caption."""
    look = clip or clip_sprites.MODEL.load()

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            found = _pairs(n, generator, look)
            return {"x0": found["embedding"], "tokens": found["tokens"]}

        return draw

    clock = times.logit_normal(0.0, 1.2, stratified=True)
    return diffuse(chunked(rows, batch, chunk=16), clock, drop=0.1, null=silent())


# ---------------------------------------------------------------- the decoder


def build_decoder() -> Denoiser:
    """The network of `imagen.BASE`, given an embedding in place of a sentence; 1.3 M parameters."""
    return imagen.build(lambda: FromEmbedding(DIM, 96, WIDTH))


def draw_decoder(batch: int, clip: CLIP | None = None) -> Draw:
    """{"x0": (batch, 3, 16, 16), "embedding": SCALE·(that of the same picture at 64×64)}; a tenth is told nothing."""
    look = clip or clip_sprites.MODEL.load()

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            found = _pairs(n, generator, look)
            return {"x0": found["pixels"], "embedding": found["embedding"]}

        return draw

    return diffuse(chunked(rows, batch), times.logit_normal(*CLOCK, stratified=True), drop=0.1, null=NOTHING)


# ---------------------------------------------------------------- both, with CLIP


def shipped(ups: bool = True, **settings) -> UnCLIP:
    """The shipped models. ups False: pictures are 16×16, four times as fast. settings: other fields of `UnCLIP`."""
    stages = (
        imagen.enlarger(imagen.UP_32_BLIND.load(), 32, blind=True),
        imagen.enlarger(imagen.UP_64.load(), 64),
    )
    return UnCLIP(clip_sprites.MODEL.load(), PRIOR.load(), DECODER.load(), stages if ups else (), **settings)


# ---------------------------------------------------------------- what they can do


def prior_scores(model: Denoiser) -> dict[str, float]:
    return {}


def decoder_scores(model: Denoiser) -> dict[str, float]:
    return {}


DECODER = Shipped(
    name="unclip-decoder", purpose="the embedding of a picture of sprites becomes 16×16 pixels of such a picture",
    build=build_decoder, draw=lambda: draw_decoder(32), steps=2400, scores=decoder_scores, options=OPTIONS,
)  # fmt: skip
PRIOR = Shipped(
    name="unclip-prior", purpose="a caption becomes the embedding of a picture of sprites", build=build_prior,
    draw=lambda: draw_prior(64), steps=2000, scores=prior_scores, options=OPTIONS,
)  # fmt: skip
