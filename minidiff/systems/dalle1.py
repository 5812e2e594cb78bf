"""DALL-E 1 on the sprite world (arXiv 2102.12092): a picture is 64 more words, behind those of its caption.

Stage 1, DVAE: 64×64×3 pixels become 8×8 codes, each one of 64, and are drawn from them again. Then it is frozen.
Stage 2, PRIOR: one causal transformer over [caption; codes] learns which comes next. To draw, the caption is given and
64 codes are drawn, one after another. `best_of` draws several pictures and keeps the one that CLIP likes best.

Nothing here is diffusion: it is the system that diffusion came to be compared with. After four CPU minutes each it
shows .71 of held-out captions, the transformer of `latent` on the same families .12 (`benchmarks/autoregressive.py`).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from minidiff.backbones.autoregressive import TextToCodes
from minidiff.codecs.dvae import DVAE as DiscreteVAE
from minidiff.codecs.losses import psnr
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.clip import CLIP
from minidiff.encoders.tokenizer import trimmed
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import Generate, shares
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import orders, rand, seeded
from minidiff.systems import clip_sprites
from minidiff.systems.generator import in_batches
from minidiff.systems.imagen import WORLD
from minidiff.systems.latent import LENGTH, REUSE, SIDE, tokenizer
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked
from minidiff.validate import describe, integer, require, require_floating

SIZE, PLACES = 64, (8, 8)
"""Codes there are, and those of a picture."""
DROP = 0.1
"""Captions that training replaces by the empty one, so that guidance has something to lead away from. The paper's model
has none of this; it is what later models added."""
BEST_OF = 32
"""Pictures a caption, of which CLIP chooses one (512 in the paper)."""


# ---------------------------------------------------------------- stage 1


def build_dvae() -> DiscreteVAE:
    """0.6 M parameters: 64 of 64 codes a picture, 384 bits."""
    return DiscreteVAE(SIZE, anneal=900)


def draw_pictures(batch: int) -> Draw:
    """{"x0": (batch, 3, 64, 64)} of the training split, each picture `REUSE` times within 64 batches."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(-(-n // REUSE), generator, "train")
            order = orders(len(prompts), REUSE, generator)[:n]
            return {"x0": render(place(prompts, generator), SIDE)[order]}

        return draw

    return chunked(rows, batch)


@torch.no_grad()
def dvae_scores(dvae: DiscreteVAE, n: int = 1000) -> dict[str, float]:
    """Of n held-out pictures: PSNR, how many are read as what they were, and the codebook's use and perplexity.

    The control draws the codes of another picture.
    """
    x = render(place(WORLD.prompts(n, 1, "test"), 1), SIDE).to(dvae.seen.device)
    codes, drawn = dvae.encode(x), parse(x.cpu()).scenes
    back = dvae.decode(codes, clamp=True)
    read = parse(back.cpu())
    other = same(drawn, parse(back.roll(1, 0).cpu()).scenes)
    found = {
        "psnr": float(psnr(back, x).mean()),
        "read as drawn": float((same(drawn, read.scenes) & read.readable).float().mean()),
        "read as drawn, another's codes": float(other.float().mean()),
        "codes in use": dvae.use(codes),
        "perplexity": float(dvae.perplexity(codes)),
    }
    return {name: round(value, 4) for name, value in found.items()}


DVAE = Shipped(
    name="dalle1-dvae", purpose="64-px pictures of sprites to 8×8 codes and back (chapter 08)", build=build_dvae,
    draw=partial(draw_pictures, 16), steps=1200, scores=dvae_scores, options={"lr": 5e-3, "ema_decay": 0.995},
)  # fmt: skip


# ---------------------------------------------------------------- stage 2


def read(texts: Sequence[str]) -> Tensor:
    """Captions as tokens, (B, at most 18)."""
    return trimmed(tokenizer().encode(texts))


def build(dim: int = 96, depth: int = 6) -> TextToCodes:
    """0.7 M parameters: width 96, 6 blocks; the transformer of `latent` without a time."""
    return TextToCodes(len(tokenizer()), LENGTH, SIZE, PLACES[0], dim, depth)


def draw_codes(batch: int, dvae: DiscreteVAE) -> Draw:
    """{"tokens": (batch, L), "codes": (batch, 8, 8)} of the training split; a tenth with the empty caption.

    Every picture is new. A diffusion model may see one four times, each time with other noise. Here nothing would be
    other: with each picture used four times within 64 batches, the loss fell to .24 while they lasted, and began at .31
    with the next ones.
    """

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(n, generator, "train")
            with torch.no_grad():
                x = render(place(prompts, generator), SIDE).to(dvae.seen.device)
                codes = dvae.encode(x).cpu()
            silent = rand((n, 1), generator) < DROP
            tokens = torch.where(silent, tokenizer().encode([""]), tokenizer().encode(captions(prompts)))
            return {"tokens": trimmed(tokens), "codes": codes}

        return draw

    return chunked(rows, batch, chunk=16)


def draw(dvae: DiscreteVAE | None = None) -> Draw:
    """Of stage 2: captions and codes by the dVAE (None: the shipped one)."""
    return draw_codes(32, dvae or DVAE.load())


# ---------------------------------------------------------------- from a sentence to a picture


def pictures_of(
    prior: TextToCodes, dvae: DiscreteVAE, temperature: float = 1.0, top_k: int | None = None, batch: int = 100
) -> Generate:  # fmt: skip
    """`generate(texts, w, seeds)` → (B, 3, 64, 64) in [−1, 1]: 64 codes, then the decoder.

    temperature, top_k: of `autoregressive.choose`. w: guidance on the logits. Picture i has the noise of seeds[i], so
    that it does not depend on its batch; at most `batch` are drawn at a time.
    """

    @torch.no_grad()
    def some(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        codes = prior.sample(read(texts), seeded(seeds), temperature, top_k, w, read([""])[0])
        return dvae.decode(codes, clamp=True)

    return in_batches(some, batch)


def shipped(temperature: float = 1.0, top_k: int | None = None) -> Generate:
    """`pictures_of` the two shipped models."""
    return pictures_of(PRIOR.load(), DVAE.load(), temperature, top_k)


@torch.no_grad()
def rerank(texts: Sequence[str], pictures: Tensor, clip: CLIP | None = None) -> Tensor:
    """Which of its n candidates (B, n, 3, 64, 64) each caption is most like, (B,) int64, by the cosine of CLIP.

    clip: `clip-sprites` unless given.
    """
    require_floating("pictures", pictures)
    fits = pictures.ndim == 5 and len(pictures) == len(texts) and pictures.shape[1] > 0
    require(fits, "pictures", describe(pictures), f"shape ({len(texts)}, n, 3, {SIDE}, {SIDE})")
    clip = clip_sprites.MODEL.load() if clip is None else clip
    said = clip.encode_text(clip_sprites.tokens(texts).to(clip.log_scale.device))  # (B, D)
    shown = clip.encode_image(pictures.flatten(0, 1).to(clip.log_scale.device)).unflatten(0, pictures.shape[:2])
    return (shown * said[:, None]).sum(-1).argmax(1).to(pictures.device)


def best_of(generate: Generate, n: int = BEST_OF, clip: CLIP | None = None) -> Generate:
    """`generate(texts, w, seeds)` that draws n pictures a text, of seeds n·seed … n·seed + n − 1, and keeps one."""
    n = integer("n", n)
    clip = clip_sprites.MODEL.load() if clip is None else clip

    def best(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        many = [text for text in texts for _ in range(n)]
        drawn = generate(many, w, [n * seed + i for seed in seeds for i in range(n)]).unflatten(0, (len(texts), n))
        return drawn[torch.arange(len(texts)), rerank(texts, drawn, clip)]

    return best


# ---------------------------------------------------------------- what it can do


@torch.no_grad()
def log_likelihood(prior: TextToCodes, dvae: DiscreteVAE, split: str, n: int = 500) -> tuple[float, float]:
    """Nats per word and per code of n pictures of a split; the same with the next picture's caption for the second."""
    prompts = WORLD.prompts(n, 2, split)
    codes, tokens = dvae.encode(render(place(prompts, 2), SIDE).to(dvae.seen.device)), read(captions(prompts))
    right = prior.losses(tokens, codes)[1].mean()
    return float(right), float(prior.losses(tokens.roll(1, 0), codes)[1].mean())


def scores(prior: TextToCodes, n: int = 100, few: int = 40) -> dict[str, float]:
    """By family, contents held out and of the training split: pictures that show their caption wholly, beside the next
    one's (the control). Then with guidance; and one sample beside the best of 32, both of `few` held-out captions.
    """
    dvae, found = DVAE.load().to(prior.begin.device), {}
    generate = pictures_of(prior, dvae)
    for split in ("test", "train"):
        right, other = log_likelihood(prior, dvae, split)
        found |= {f"nats per code, {split}": right, f"nats per code, {split}, another caption": other}
        for family, (told, another) in shares(generate, WORLD, 0.0, n, split).items():
            found[f"{family}, {split}"] = told.share
            found[f"{family}, {split}, another caption"] = another.share
    for family, (told, _) in shares(generate, WORLD, 1.0, n).items():
        found[f"{family}, w=1"] = told.share
    for name, drawn in (("one sample", generate), (f"best of {BEST_OF}", best_of(generate))):
        for family, (told, _) in shares(drawn, WORLD, 0.0, few).items():
            found[f"{family}, {name}"] = told.share
    return {name: round(value, 4) for name, value in found.items()}


PRIOR = Shipped(
    name="dalle1", purpose="a sentence becomes 8×8 codes of a picture, one after another (chapter 08)", build=build,
    draw=draw, steps=1400, scores=scores, options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
