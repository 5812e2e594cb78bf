"""SDXL (arXiv 2307.01952) of the sprite world: what changed from Stable Diffusion 2 (`stable_diffusion`), part by part.

    sizes      pictures that are too small or not square are learnt from, and the network is told what was done to them
    encoders   two read the sentence, side by side in channels; the pooled vector of the second joins the sizes
    refiner    another network for the last, nearly noiseless steps, which reads with the second encoder alone

One sentence thus enters twice: its tokens as context, its pooled vector, beside the sizes' waves, through an MLP into
the time embedding. The first encoder is CLIP's tower, read before its last block; the second has read texts only. Both
make one token of a word, START and END included, so that a channel's neighbour speaks of the same word; here ids are
translated, there both encoders have one vocabulary. Sentences are dropped in training, sizes never are: guidance
compares two pictures of one framing.

What is not as in the paper. Targets are 64×64 throughout, so that the last two sizes say nothing yet (the paper
finetunes on other shapes at the end). The U-Net is no larger than before: a file holds 1.5 million numbers. It predicts
x0 judged as a velocity, like `latent`, not ε. Its raters are a formula (`photos.photographs`).

The autoencoder is `latent.AUTOENCODER`. It has seen sharp pictures only, and sharpens: pictures that were stored with
16 of 64 pixels have .15 of the full detail, and .44 when they have gone through it.
"""

from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.backbones.unet import UNet
from minidiff.codecs.vae import VAE
from minidiff.conditioning import Channels, Conditioned, Encoded, Frozen, Sized, TextEncoder
from minidiff.data.captions import captions
from minidiff.data.photos import SIDE, photographs
from minidiff.data.prompts import place
from minidiff.denoiser import Denoiser
from minidiff.editing import sdedit
from minidiff.encoders.clip import Hidden
from minidiff.guidance import Denoise, bind, cfg
from minidiff.judges.scorecard import Generate
from minidiff.optim import Muon
from minidiff.predictions import EPS, X0, V, velocity_weight
from minidiff.randomness import orders, seeded
from minidiff.samplers import ddpm
from minidiff.schedules import Linear
from minidiff.systems import clip_sprites, latent, sdxl_scores, stable_diffusion, text_lm
from minidiff.systems.generator import generator
from minidiff.systems.imagen import WORLD
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse
from minidiff.validate import describe, require

CONTEXT, POOLED, EMBEDDING = 64, 64, 96
"""Widths of what the U-Net's pixels look at, of the pooled sentence beside the sizes, and of the time embedding."""
SWITCH = 0.35
"""The refiner knows the times below. σ/α there is about that of the 200th of Stable Diffusion's 1000, as in SDXL."""
FRAMED = (SIDE, SIDE, 0, 0, SIDE, SIDE)
"""Sizes of a sharp square picture of which nothing was cut."""
BEST = 10.0
"""The score that a refiner is told unless another is given."""
STEPS = 30
ENCODERS = ("clip", "texts")
SILENT = 0.1
"""Sentences that are dropped in training."""


# ---------------------------------------------------------------- what reads, and what draws


@lru_cache
def translated() -> Tensor:
    """What `text_lm`'s tokenizer calls each id of `latent`'s: (words,) int64. Both put START, a token a word, END."""
    ours, other = latent.tokenizer(), text_lm.tokenizer()
    specials = list(range(len(ours) - len(ours.words)))
    return torch.tensor(specials + [other.ids[word] for word in ours.words])


class Muted(nn.Module):
    """An encoder that says nothing: zeros in the shapes of another's tokens and vector, for ablations."""

    def __init__(self, encoder: TextEncoder):
        super().__init__()
        self.encoder, self.dim, self.out = encoder, encoder.dim, encoder.out

    def encode(self, tokens: Tensor) -> Encoded:
        vector, context, mask = self.encoder.encode(tokens)
        return Encoded(None if vector is None else torch.zeros_like(vector), torch.zeros_like(context), mask)


def reader(heard: Sequence[str] = ENCODERS) -> Channels:
    """Both shipped encoders, 80 + 64 channels; those not among `heard` are muted."""
    require(0 < len(heard) <= 2 and set(heard) <= set(ENCODERS), "heard", heard, f"some of {ENCODERS}")
    towers = {"clip": Hidden(clip_sprites.MODEL.load().text, 1), "texts": text_lm.MODEL.load()}
    return Channels([t if name in heard else Muted(t) for name, t in towers.items()], [None, translated()])


def unet() -> UNet:
    """1.1 M parameters. Every place of 8×8 and 4×4 looks at the sentence."""
    return UNet(
        latent.LATENT_SHAPE[0], (48, 56), depth=1, patch=2, attention=False, embedding=EMBEDDING, context_dim=CONTEXT,
        attention_levels=(0, 1),
    )  # fmt: skip


def build(heard: Sequence[str] = ENCODERS, sized: bool = True) -> Denoiser:
    """Latents (B, 4, 16, 16), tokens (B, ≤ 18), sizes (B, 6) → x̂0. 1.5 M parameters, of which 0.35 M are frozen.

    sized: without, sizes are not told, and the pooled sentence is added to the time embedding by itself.
    """
    text = Frozen(reader(heard), latent.LENGTH, CONTEXT, POOLED if sized else EMBEDDING)
    told = Sized(text, POOLED, 6, EMBEDDING) if sized else text
    return Denoiser(Conditioned(told, unet()), Linear(), X0, partial(velocity_weight, floor=latent.FLOOR))


def build_refiner() -> Denoiser:
    """Like `build`, with the second encoder alone and sizes (B, 5): original size, corner, and the raters' score.

    It predicts v, by which x̂0 near the data is x_t with little changed.
    """
    text = Frozen(Channels([text_lm.MODEL.load()], [translated()]), latent.LENGTH, CONTEXT, POOLED)
    return Denoiser(Conditioned(Sized(text, POOLED, 5, EMBEDDING), unet()), Linear(), V)


# ---------------------------------------------------------------- training


def draw_photos(batch: int, autoencoder: VAE, told: Sequence[str] = ("tokens", "sizes"), scored: bool = False) -> Draw:
    """{"x0": (batch, 4, 16, 16)} and what is told of it: "tokens" (batch, 18), "sizes" (batch, 6), or 5 if `scored`.

    Each photograph comes `latent.REUSE` times within a chunk of 64 batches, now and then without its sentence.
    """
    silence = latent.null()["tokens"]

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(-(-n // latent.REUSE), generator, "train")
            found = photographs(place(prompts, generator), generator)
            sizes = torch.cat([found["sizes"][:, :4], found["score"][:, None]], 1) if scored else found["sizes"]
            order = orders(len(prompts), latent.REUSE, generator)[:n]
            silent = torch.rand(n, 1, generator=generator) < SILENT
            tokens = torch.where(silent, silence, latent.tokenizer().encode(captions(prompts))[order])
            given = {"tokens": tokens, "sizes": sizes[order]}
            return {"x0": autoencoder.latents(found["x0"])[order]} | {name: given[name] for name in told}

        return draw

    return chunked(rows, batch)


def late(batch: int, generator: Generator | None = None) -> Tensor:
    """The refiner's clock: even in (0, SWITCH), one time from each of `batch` equal parts."""
    return SWITCH * (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch


def draw(sized: bool = True) -> Draw:
    """Of the base: photographs and what is told of them, times and noise."""
    photos = draw_photos(32, latent.AUTOENCODER.load(), ("tokens", "sizes") if sized else ("tokens",))
    return diffuse(photos, times.logit_normal(*latent.CLOCK, stratified=True))


def draw_late() -> Draw:
    """Of the refiner: the same photographs, with their scores, at its times."""
    return diffuse(draw_photos(32, latent.AUTOENCODER.load(), scored=True), late)


# ---------------------------------------------------------------- drawing


def conditions(model: Denoiser, texts: Sequence[str], sizes: Tensor, score: float = BEST) -> dict[str, Tensor]:
    """What `model` reads of texts and sizes (6,) or (B, 6): all six, the first four and the score, or no size."""
    require(sizes.shape in ((6,), (len(texts), 6)), "sizes", describe(sizes), f"shape (6,) or ({len(texts)}, 6)")
    told, conditioning = {"tokens": latent.tokenizer().encode(texts)}, model.net.conditioning
    if not isinstance(conditioning, Sized):
        return told
    sizes = sizes.float().expand(len(texts), 6)
    scored = torch.cat([sizes[:, :4], torch.full((len(texts), 1), float(score))], 1)
    return told | {"sizes": sizes if conditioning.numbers == 6 else scored}


def guided(model: Denoiser, told: dict[str, Tensor], w: float) -> Denoise:
    """Away from the same sizes without a sentence."""
    device = next(model.parameters()).device
    told = {name: value.to(device) for name, value in told.items()}
    return bind(model, **told) if w == 0 else cfg(model, told, told | latent.null(), w)


def experts(early: Denoise, last: Denoise, switch: float = SWITCH) -> Denoise:
    """`last` below the time `switch`, `early` above: an ensemble of expert denoisers (eDiff-I, arXiv 2211.01324)."""
    return lambda x_t, t: (last if float(t) < switch else early)(x_t, t)


def pictures_of(
    model: Denoiser, autoencoder: VAE, refiner: Denoiser | None = None, *, sizes: Tensor | Sequence[float] = FRAMED,
    score: float = BEST, switch: float = SWITCH, steps: int = STEPS, batch: int = 50, bar: bool = False,
) -> Generate:  # fmt: skip
    """`generate(texts, w, seeds)` → (B, 3, 64, 64) of a base, whose last steps, below `switch`, a refiner may take.

    sizes: (6,) for all, or (B, 6), one row a text: original height and width, top and left of the crop, target.
    `ValueError` for others.
    """
    framing = torch.as_tensor(sizes, dtype=torch.float32)

    def some(texts: Sequence[str], sizes: Tensor, w: float, seeds: Sequence[int]) -> Tensor:
        told = conditions(model, texts, sizes)
        last = None if refiner is None else guided(refiner, conditions(refiner, texts, sizes, score), w)
        return generator(
            model, lambda _: told, told | latent.null(), latent.LATENT_SHAPE, steps=steps,
            grid=lambda steps: times.shifted(steps, latent.SHIFT), batch=len(texts), bar=bar,
            wrap=lambda early: early if last is None else experts(early, last, switch),
            decode=partial(autoencoder.decode, clamp=True),
        )(texts, w, seeds)  # fmt: skip

    def generate(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        require(len(seeds) == len(texts) > 0, "seeds", f"{len(seeds)} seeds", f"one per text ({len(texts)})")
        require(
            framing.shape in ((6,), (len(texts), 6)), "sizes", describe(framing), f"shape (6,) or ({len(texts)}, 6)"
        )
        rows = [slice(i, i + batch) for i in range(0, len(texts), batch)]
        return torch.cat([some(texts[r], framing if framing.ndim == 1 else framing[r], w, seeds[r]) for r in rows])

    return generate


@torch.no_grad()
def refined(
    model: Denoiser, autoencoder: VAE, pictures: Tensor, texts: Sequence[str], w: float, seeds: Sequence[int], *,
    t0: float = SWITCH, steps: int = 8, sizes: Tensor | Sequence[float] = FRAMED, score: float = BEST,
) -> Tensor:  # fmt: skip
    """Finished pictures (B, 3, 64, 64), noised to t0 and drawn again: the refiner's other use, as img2img."""
    told = conditions(model, texts, torch.as_tensor(sizes, dtype=torch.float32), score)
    guide, schedule = autoencoder.latents(pictures), model.schedule
    z = sdedit(guided(model, told, w), guide, t0, ddpm(schedule), schedule, steps, seeded(seeds))
    return autoencoder.decode(z, clamp=True)


def shipped(refine: bool = True, sizes: Tensor | Sequence[float] = FRAMED, bar: bool = False) -> Generate:
    """`pictures_of` the shipped models, with or without the refiner."""
    refiner = REFINER.load() if refine else None
    return pictures_of(BASE.load(), latent.AUTOENCODER.load(), refiner, sizes=sizes, bar=bar)


def start() -> float:
    """Where a network of ε begins, before the shift: ε says nothing at α = 0; Stable Diffusion ends at t = 0.936."""
    return 0.936 / (latent.SHIFT - (latent.SHIFT - 1) * 0.936)


# ---------------------------------------------------------------- the models


def scores(model: Denoiser) -> dict[str, float]:
    """`sdxl_scores.base`, or of a model that is told no sizes `sdxl_scores.unsized`."""
    autoencoder = _autoencoder(model)
    if not isinstance(model.net.conditioning, Sized):
        return sdxl_scores.unsized(pictures_of(model, autoencoder))
    return sdxl_scores.base(partial(pictures_of, model, autoencoder), autoencoder)


def refiner_scores(model: Denoiser) -> dict[str, float]:
    """`sdxl_scores.refiner`, after the shipped base."""
    autoencoder = _autoencoder(model)
    models = {"base": BASE.load().to(autoencoder.shift.device), "refiner": model}
    again = lambda model, *given, **more: refined(model, autoencoder, *given, **more)
    return sdxl_scores.refiner(partial(pictures_of, models["base"], autoencoder), models, again, autoencoder)


def first_scores(model: Denoiser) -> dict[str, float]:
    """`latent.scores_of` Stable Diffusion 1, as of 2 in `stable_diffusion`."""
    return latent.scores_of(latent.pictures_of(model, _autoencoder(model), batch=50, start=start()), 50)


def _autoencoder(model: Denoiser) -> VAE:
    return latent.AUTOENCODER.load().to(next(model.parameters()).device)


OPTIONS = {"optimizer": Muon, "groups": stable_diffusion.groups, "ema_decay": 0.998}

BASE = Shipped(
    name="sdxl-base", purpose="a sentence and a framing become a 64-px picture as in SDXL", build=build, draw=draw,
    steps=4500, scores=scores, options=OPTIONS,
)  # fmt: skip
UNSIZED = Shipped(
    name="sdxl-unsized", purpose="the same photographs learnt without being told their sizes",
    build=partial(build, sized=False), draw=partial(draw, False), steps=1500, scores=scores, options=OPTIONS,
)  # fmt: skip
REFINER = Shipped(
    name="sdxl-refiner", purpose="the last, nearly noiseless steps of SDXL", build=build_refiner, draw=draw_late,
    steps=2500, scores=refiner_scores, options=OPTIONS,
)  # fmt: skip
SD_1 = Shipped(
    name="stable-diffusion-1", purpose="Stable Diffusion 1 for comparison: CLIP's last block, ε",
    build=partial(stable_diffusion.build, 0, EPS), draw=latent.draw, steps=5000, scores=first_scores,
    options=stable_diffusion.MODEL.options,
)  # fmt: skip
