"""From a sentence to 16, 32 and 64 pixels: Imagen (arXiv 2205.11487) on the sprite world.

What reads the sentence is frozen and has never seen a picture (`text_lm`). A first model draws 16×16 pixels, two more
enlarge them twofold each; all three look at the sentence by cross-attention. Six clean pixels show which sprite it is,
so the larger stages need no sentence then. With noise on the small picture they do: at level 0.6 `imagen-32` draws .57
of its pictures right, .10 with an empty sentence, and a stage that never had one .05.

One design, three encoders: BASE, BASE_CLIP and BASE_WORDS differ in what reads the sentence and in nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from minidiff import cascade, thresholding, times
from minidiff.backbones.unet import UNet
from minidiff.cascade import Enlarge, lowered, noised
from minidiff.codecs.losses import psnr
from minidiff.conditioning import Conditioned, Frozen, LowResolution, Together, Words
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.guidance import Denoise
from minidiff.judges.scenes import Parsed, parse
from minidiff.judges.scorecard import Generate, matches, shares
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import orders, rand, seeded
from minidiff.schedules import Linear
from minidiff.systems import clip_sprites, text_lm
from minidiff.systems.generator import Read, generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse
from minidiff.validate import describe, require, require_floating

Threshold = Callable[[Denoise], Denoise]

SIDES = (16, 32, 64)
LENGTH = 18
WIDTH = 64
"""Of the sentence's tokens, as the networks look at them."""
CLOCK = (0.6, 1.0)
"""Mean and standard deviation of the log-odds of training times."""
WORLD = SpriteWorld(families=("one", "relation", "pair", "riding", "snow"))
LEVELS = 0.8
"""The small pictures that a stage learns to enlarge have noise levels between 0 and this."""
LEVEL = 0.1
"""The noise level of the small pictures that a stage enlarges when it draws."""
REUSE = 4
"""How often a picture is used within a chunk of batches, each time with other noise."""


def read(texts: Sequence[str]) -> dict[str, Tensor]:
    """{"tokens": (B, 18)} of the encoder that has read texts only."""
    return {"tokens": text_lm.tokenizer().encode(texts)[:, :LENGTH]}


def read_clip(texts: Sequence[str]) -> dict[str, Tensor]:
    """{"tokens": (B, 18)} of the tower that was trained beside pictures."""
    return {"tokens": clip_sprites.tokenizer().encode(texts)}


# ---------------------------------------------------------------- the first 16×16 pixels


def build(conditioning: Callable[[], nn.Module]) -> Denoiser:
    """16×16 pixels, folded 2×2: a U-Net on 8×8 and 4×4 places that look at the sentence on both."""
    net = UNet(3, (48, 64), depth=1, patch=2, attention=False, embedding=96, context_dim=WIDTH, attention_levels=(0, 1))
    return Denoiser(Conditioned(conditioning(), net), Linear(), X0, velocity_weight)


def frozen_text() -> Frozen:
    return Frozen(text_lm.MODEL.load(), text_lm.LENGTH, context_dim=WIDTH)


def frozen_clip() -> Frozen:
    return Frozen(clip_sprites.MODEL.load().text, LENGTH, context_dim=WIDTH)


def own_words() -> Words:
    """Learned together with the network that looks at them."""
    return Words(len(text_lm.tokenizer()), LENGTH, WIDTH)


def draw_small(batch: int, reads: Read) -> Draw:
    """{"x0": (batch, 3, 16, 16), "tokens"}, each picture `REUSE` times within a chunk of 64 batches."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(-(-n // REUSE), generator, "train")
            order = orders(len(prompts), REUSE, generator)[:n]
            return {
                "x0": lowered(render(place(prompts, generator), 64), 4)[order],
                "tokens": reads(captions(prompts))["tokens"][order],
            }

        return draw

    clock = times.logit_normal(*CLOCK, stratified=True)
    return diffuse(chunked(rows, batch), clock, drop=0.1, null=_null(reads))


def _null(reads: Read) -> dict[str, Tensor]:
    return {name: value[0] for name, value in reads([""]).items()}


# ---------------------------------------------------------------- larger


def build_up(side: int, blind: bool = False) -> Denoiser:
    """The picture of half the side, enlarged, stands beside x_t; both are folded to 16×16 places.

    blind: without the sentence. 1.0 M parameters.
    """
    small = LowResolution(side, dim=96)
    conditioning = small if blind else Together(Frozen(text_lm.MODEL.load(), text_lm.LENGTH, context_dim=WIDTH), small)
    net = UNet(
        3, (32, 64), depth=1, patch=side // 16, attention=False, embedding=96, context_dim=None if blind else WIDTH,
        attention_levels=(1,), concat=3,
    )  # fmt: skip
    return Denoiser(Conditioned(conditioning, net), Linear(), X0, velocity_weight)


def draw_up(batch: int, side: int, blind: bool = False, levels: float = LEVELS) -> Draw:
    """{"x0": (batch, 3, side, side), "low": half of it, with noise of "level", "tokens"}; a tenth without sentence."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(-(-n // REUSE), generator, "train")
            order = orders(len(prompts), REUSE, generator)[:n]
            x0 = lowered(render(place(prompts, generator), 64), 64 // side)[order]
            level = levels * rand((n,), generator)
            given = {"x0": x0, "low": noised(lowered(x0, 2), level, generator), "level": level}
            if blind:
                return given
            silent = rand((n, 1), generator) < 0.1
            return given | {
                "tokens": torch.where(silent, _null(read)["tokens"], read(captions(prompts))["tokens"][order])
            }

        return draw

    return diffuse(chunked(rows, batch, chunk=16), times.logit_normal(*CLOCK, stratified=True))


# ---------------------------------------------------------------- from a sentence to three pictures


def small_of(
    model: Denoiser, reads: Read = read, steps: int = 50, threshold: Threshold = thresholding.static, batch: int = 100,
    bar: bool = False,
) -> Generate:  # fmt: skip
    """`generate(texts, w, seeds)` → (B, 3, 16, 16) in [−1, 1], in ancestral steps."""
    return generator(
        model, reads, _null(reads), (3, SIDES[0], SIDES[0]), steps=steps, wrap=threshold, batch=batch, bar=bar
    )


def enlarger(
    model: Denoiser, side: int, level: float = LEVEL, steps: int = 20, threshold: Threshold = thresholding.static,
    batch: int = 20, blind: bool = False, bar: bool = False,
) -> Enlarge:  # fmt: skip
    """`enlarge(low, texts, w, seeds)` → (B, 3, side, side) in [−1, 1], from low (B, 3, side/2, side/2).

    level: of the noise put on `low`, in [0, 1]; each picture has noise of its own seed. blind: a model that reads no
    sentence; then w changes nothing.
    """

    def some(low: Tensor, texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        levels = torch.full((len(low),), float(level))
        shown = {"low": noised(low, levels, seeded(own_seeds(seeds, side))), "level": levels}
        reads = lambda texts: shown if blind else read(texts) | shown
        null = shown if blind else _null(read) | shown
        draw = generator(model, reads, null, (3, side, side), steps=steps, wrap=threshold, batch=len(low), bar=bar)
        return draw(texts, 0.0 if blind else w, own_seeds(seeds, side + 1))

    def enlarge(low: Tensor, texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        require_floating("low", low, min_dim=4)
        shape = (len(texts), 3, side // 2, side // 2)
        require(tuple(low.shape) == shape, "low", describe(low), f"{shape}, one per text")
        require(len(seeds) == len(texts), "seeds", f"{len(seeds)} seeds", f"one per text ({len(texts)})")
        rows = [slice(i, i + batch) for i in range(0, len(texts), batch)]
        return torch.cat([some(low[r], texts[r], w, seeds[r]) for r in rows])

    return enlarge


def own_seeds(seeds: Sequence[int], stage: int) -> list[int]:
    """Seeds for one stage: a picture's noises in different stages have nothing to do with one another."""
    return [(1_000_003 * int(seed) + stage) % 2**63 for seed in seeds]


def shipped(base: Shipped[Denoiser] | None = None, level: float = LEVEL, bar: bool = False) -> list:
    """`[generate, enlarge, enlarge]` of the shipped models: 16, 32 and 64 pixels."""
    base = base or BASE
    first = small_of(base.load(), read_clip if base is BASE_CLIP else read, bar=bar)
    return [first, *(enlarger(up.load(), side, level, bar=bar) for up, side in ((UP_32, 32), (UP_64, 64)))]


def pictures_of(stages: Sequence) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 64, 64): all stages, with one w (`shipped`)."""
    first, *ups = stages
    return lambda texts, w, seeds: cascade.staged(first(texts, w, seeds), ups, texts, w, seeds)[-1]


# ---------------------------------------------------------------- what they can do


def seen(pictures: Tensor) -> Parsed:
    """What 16×16, 32×32 or 64×64 pixels show: the judge reads them enlarged to 64."""
    return parse(F.interpolate(pictures.cpu(), size=(64, 64), mode="nearest"))


def base_scores(model: Denoiser, reads: Read = read, n: int = 60) -> dict[str, float]:
    """By family, held-out captions: pictures that show theirs and, as a control, the next one's."""
    found, generate = {}, small_of(model, reads)
    large = lambda texts, w, seeds: F.interpolate(generate(texts, w, seeds), size=(64, 64), mode="nearest")
    for w in (0.0, 1.0):
        for family, (right, other) in shares(large, WORLD, w, n).items():
            found[f"{family}, w={w:g}"] = round(right.share, 4)
            found[f"{family}, w={w:g}, another caption"] = round(other.share, 4)
    return found


def pairs(n: int, side: int, seed: int = 1) -> tuple[list[Prompt], list[str], Tensor]:
    """n held-out prompts, their captions, their pictures (n, 3, side, side)."""
    prompts = WORLD.prompts(n, seed, "test")
    return prompts, captions(prompts), lowered(render(place(prompts, seed), 64), 64 // side)


def blurred(x: Tensor, sigma: float = 1.0) -> Tensor:
    """What a poorer model might have drawn: (B, C, H, W) after a Gaussian of `sigma` pixels."""
    return gaussian_blur(x, [5, 5], [sigma, sigma])


def up_scores(model: Denoiser, side: int, blind: bool = False, n: int = 60) -> dict[str, float]:
    """Of n held-out pictures, enlarged from half their size: PSNR, and how many are read as what they are.

    From clean and from blurred small pictures, with noise of several levels on them; with no sentence, and with that
    of another picture.
    """
    prompts, texts, x = pairs(n, side)
    found, low = {}, lowered(x, 2)
    for what, given in (("", low), ("blurred, ", blurred(low))):
        for level in (0.0, LEVEL, 0.3, 0.6):
            draw, name = enlarger(model, side, level, blind=blind), f"{what}level {level:g}"
            drawn = draw(given, texts, 0.0, range(n))
            found[f"{name}, psnr"] = round(float(psnr(drawn, x).mean()), 2)
            found[name] = _right(prompts, drawn)
            if not blind and not what:
                found[f"{name}, no sentence"] = _right(prompts, draw(given, [""] * n, 0.0, range(n)))
                found[f"{name}, another's sentence"] = _right(
                    prompts, draw(given, texts[1:] + texts[:1], 0.0, range(n))
                )
    return found


def _right(prompts: list[Prompt], pictures: Tensor) -> float:
    return round(float(matches(prompts, seen(pictures)).float().mean()), 4)


OPTIONS = {"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998}


def _base(name: str, reader: str, conditioning: Callable[[], nn.Module], reads: Read) -> Shipped[Denoiser]:
    return Shipped(
        name=name, purpose=f"a sentence, read by {reader}, becomes 16×16 pixels of sprites",
        build=partial(build, conditioning), draw=partial(draw_small, 32, reads), steps=4000,
        scores=partial(base_scores, reads=reads), options=OPTIONS,
    )  # fmt: skip


def _up(name: str, side: int, how: str, steps: int = 800, **options: float) -> Shipped[Denoiser]:
    blind = bool(options.get("blind"))
    return Shipped(
        name=name, purpose=f"{side // 2}×{side // 2} pixels of sprites become {side}×{side}{how}",
        build=partial(build_up, side, blind), draw=partial(draw_up, 32, side, **options), steps=steps,
        scores=partial(up_scores, side=side, blind=blind), options=OPTIONS,
    )  # fmt: skip


BASE = _base("imagen-base", "a frozen encoder of texts", frozen_text, read)
BASE_CLIP = _base("imagen-base-clip", "CLIP's frozen tower of texts", frozen_clip, read_clip)
BASE_WORDS = _base("imagen-base-words", "words learned together with it", own_words, read)
ENCODERS = {"read texts only": BASE, "CLIP": BASE_CLIP, "learned with it": BASE_WORDS}
"""One design of a generator, three encoders."""
UP_32 = _up("imagen-32", 32, ", with the sentence and with noise on what is enlarged")
UP_64 = _up("imagen-64", 64, ", with the sentence and with noise on what is enlarged", steps=500)
UP_32_BLIND = _up("imagen-32-blind", 32, " without the sentence", blind=True)
UP_32_PLAIN = _up("imagen-32-plain", 32, ", trained without noise on what is enlarged", levels=0.0)
