"""From a sentence to the embedding of a picture, and from there to pixels: unCLIP (DALL-E 2, arXiv 2204.06125).

By the chain rule p(x | y) = p(x | z) · p(z | y), for the embedding z that CLIP gives to the picture x. The prior draws
z for a sentence; the decoder, which reads no sentence, draws a picture of z; two stages that read nothing enlarge it.
CLIP is `clip_sprites`, frozen, and its embeddings are unit vectors of 64 numbers. Times √64 they have variance 1, as
noise has; so the networks see them.

What z says can be said of pictures without words: draw others like a given one (`variations`), walk from one to another
(`interpolate`), and move one by the difference of two sentences (`text_diff`).

What it cannot do (60 held-out captions of each family): .63 of the pictures that are drawn of a picture's own embedding
show its caption, .57 with the prior's. And the prior was to beat the caption's own embedding, taken as if it were a
picture's, by ten points; that one is read right in .65. In this CLIP the two towers hardly lie apart (their means by
.21, a caption from its picture by a cosine of .90), and a caption's embedding is about the mean of its pictures': the
decoder draws of it as well as of theirs. The prior's lie nearer to a picture's own, .93 against .90.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import dist
from random import Random

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.prior import Prior
from minidiff.cascade import Enlarge, lowered
from minidiff.conditioning import Conditioned, FromEmbedding, Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import Scenes, render
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import CLIP
from minidiff.judges.scorecard import matches
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import orders
from minidiff.schedules import Linear
from minidiff.systems import clip_sprites, imagen
from minidiff.systems.imagen import CLOCK, OPTIONS, REUSE, WIDTH, WORLD, seen
from minidiff.systems.shipped import Shipped
from minidiff.systems.unclip_pictures import DIM, NOTHING, SCALE, SIDE, UnCLIP, better, silent, slerp
from minidiff.training import Batch, Draw, chunked, diffuse

__all__ = [
    "DECODER", "PRIOR", "UnCLIP", "better", "build_decoder", "build_prior", "by_family", "draw_decoder", "draw_prior",
    "exchanged", "moved", "shipped", "slerp", "stages",
]  # fmt: skip


# ---------------------------------------------------------------- the prior


LONGEST = 12
"""Tokens of the longest caption in training, and one more: what follows is padding, and cut off to save time."""


def build_prior(dim: int = 96, depth: int = 3) -> Denoiser:
    """0.6 M parameters, four tenths of them CLIP's frozen tower of texts; up to 22 tokens of width 96."""
    reader = Frozen(clip_sprites.MODEL.load().text, imagen.LENGTH, context_dim=dim, vector_dim=dim)
    return Denoiser(Conditioned(reader, Prior(DIM, imagen.LENGTH, dim, depth)), Linear(), X0, velocity_weight)


@torch.no_grad()
def _pairs(n: int, generator: Generator, clip: CLIP) -> dict[str, Tensor]:
    """n rows: 16×16 pixels, the scaled embedding of their 64×64, the caption; each picture `REUSE` times."""
    prompts = WORLD.prompts(-(-n // REUSE), generator, "train")
    x = render(place(prompts, generator), 64)
    z = SCALE * torch.cat([clip.encode_image(part) for part in x.split(256)])
    order = orders(len(prompts), REUSE, generator)[:n]
    found = {"pixels": lowered(x, 64 // SIDE), "embedding": z, **imagen.read_clip(captions(prompts))}
    return {name: value[order] for name, value in found.items()}


def draw_prior(batch: int, clip: CLIP | None = None) -> Draw:
    """{"x0": SCALE·(embeddings of new pictures), (batch, 64), "tokens": (batch, 12)}; a tenth without caption."""
    look = clip or clip_sprites.MODEL.load()

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            found = _pairs(n, generator, look)
            return {"x0": found["embedding"], "tokens": found["tokens"][:, :LONGEST]}

        return draw

    clock = times.logit_normal(0.0, 1.2, stratified=True)
    null = {"tokens": silent()["tokens"][:LONGEST]}
    return diffuse(chunked(rows, batch, chunk=16), clock, drop=0.1, null=null)


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


def stages() -> list[Enlarge]:
    """From 16 to 32 and to 64 pixels, by Imagen's: one that has never read a sentence, and one with an empty sentence.

    After sixteen clean pixels nothing more has to be told.
    """
    return [imagen.enlarger(imagen.UP_32_BLIND.load(), 32, blind=True), imagen.enlarger(imagen.UP_64.load(), 64)]


def shipped(ups: bool = True, **settings) -> UnCLIP:
    """The shipped models. ups False: pictures are 16×16, sooner. settings: other fields of `UnCLIP`."""
    larger = stages() if ups else ()
    return UnCLIP(clip_sprites.MODEL.load(), DECODER.load(), PRIOR.load(), larger, **settings)


# ---------------------------------------------------------------- what they can do


Embed = Callable[[Sequence[str], Tensor, Sequence[int]], Tensor]
"""(texts, pictures of them, seeds) → embeddings (B, 64)."""


def by_family(system: UnCLIP, embed: Embed, n: int) -> dict[str, tuple[float, float]]:
    """Of n held-out captions of each family, how many are shown by pictures of their embeddings, and how many next."""
    found = {}
    for family in WORLD.families:
        prompts = replace(WORLD, families=(family,)).prompts(n, 0, "test")
        z = embed(captions(prompts), render(place(prompts, 0), 64), range(n))
        parsed = seen(system.draw(z, 0.0, range(n)))
        right, other = (matches(asked, parsed) for asked in (prompts, prompts[1:] + prompts[:1]))
        found[family] = share(right), share(other)
    return found


def share(right: Tensor) -> float:
    return round(float(right.double().mean()), 4)


def moved(a: Scenes, b: Scenes) -> float:
    """Mean distance, in cells of 16×16, of a sprite of picture i of `a` from the same kind in picture i of `b`."""
    far = []
    for i in range(len(a)):
        places = {kind: place for kind, _, _, *place in a.objects(i)}
        far += [dist(places[kind], place) for kind, _, _, *place in b.objects(i) if kind in places]
    return round(sum(far) / max(1, len(far)), 3)


def prior_scores(model: Denoiser, n: int = 60, pairs: int = 500) -> dict[str, float]:
    """Cosines with the embedding of a held-out picture; pictures that show their caption, by the shipped decoder."""
    system = UnCLIP(clip_sprites.MODEL.load(), DECODER.load(), model)
    prompts, texts, x = imagen.pairs(pairs, 64)
    z, told = system.look(x), system.imagine(texts, range(pairs))
    again = system.look(render(place(prompts, 2), 64))
    guesses = {"": told, ", the caption's own embedding": system.hear(texts), ", another caption's": told.roll(1, 0)}
    guesses[", another picture of the caption"] = again
    found = {f"cosine{name}": round(float((guess * z).sum(1).mean()), 4) for name, guess in guesses.items()}
    one = replace(system, keep=1)
    ways: dict[str, Embed] = {
        "": lambda texts, x, seeds: system.imagine(texts, seeds),
        ", one instead of the better of two": lambda texts, x, seeds: one.imagine(texts, seeds),
    }
    return found | _family_scores(system, ways, n)


def _family_scores(system: UnCLIP, ways: dict[str, Embed], n: int) -> dict[str, float]:
    found = {}
    for name, embed in ways.items():
        for family, (right, other) in by_family(system, embed, n).items():
            found |= {f"{family}{name}": right, f"{family}{name}, another caption": other}
    return found


def decoder_scores(model: Denoiser, n: int = 60) -> dict[str, float]:
    """Of held-out pictures and captions, by family: read right from the picture's embedding, from the caption's own.

    Variations: read as their picture; how far sprites moved, beside two drawings of a caption. Ways from one picture to
    another; text diffs that exchange the first sprite.
    """
    system = UnCLIP(clip_sprites.MODEL.load(), model)
    ways: dict[str, Embed] = {
        "": lambda texts, x, seeds: system.look(x),
        ", the caption's own embedding": lambda texts, x, seeds: system.hear(texts),
    }
    found = _family_scores(system, ways, n)
    prompts, _, x = imagen.pairs(n // 3, 64, seed=2)
    for side, larger in ((16, ()), (64, stages())):
        drawn = replace(system, ups=larger).draw(system.look(x), 0.0, range(len(x)))
        found[f"read right at {side} pixels"] = share(matches(prompts, seen(drawn)))
    return found | _variation_scores(system, n // 2) | _way_scores(system, n // 3) | _diff_scores(system, n // 3)


def _variation_scores(system: UnCLIP, n: int) -> dict[str, float]:
    prompts, _, x = imagen.pairs(n, 64)
    a, again = seen(x), seen(render(place(prompts, 2), 64))
    one, two = (seen(torch.cat([system.variations(x[i], 1, seed=seed + i) for i in range(n)])) for seed in (0, n))
    return {
        "variations read as their picture": share(matches(prompts, one)),
        "variations, moved": moved(a.scenes, one.scenes),
        "two variations, moved": moved(one.scenes, two.scenes),
        "two drawings of a caption, moved": moved(a.scenes, again.scenes),
    }


def _way_scores(system: UnCLIP, n: int) -> dict[str, float]:
    prompts, _, x = imagen.pairs(2 * n, 64)
    a, b, found = prompts[:n], prompts[n:], {}
    ways = torch.stack([system.interpolate(x[i], x[n + i], (0.0, 0.5, 1.0), seed=i) for i in range(n)], 1)
    for fraction, pictures in zip((0, 0.5, 1), ways):
        found[f"on the way, at {fraction:g}, read as the first"] = share(matches(a, seen(pictures)))
        found[f"on the way, at {fraction:g}, read as the second"] = share(matches(b, seen(pictures)))
    return found


def exchanged(prompts: Sequence[Prompt], seed: int = 0) -> list[Prompt]:
    """Each prompt with another sprite in place of its first."""
    rng, found = Random(seed), []
    for prompt in prompts:
        kinds = {group.kind for group in prompt.groups}
        first = replace(prompt.groups[0], kind=rng.choice([kind for kind in WORLD.kinds if kind not in kinds]))
        found.append(replace(prompt, groups=(first, *prompt.groups[1:])))
    return found


FRACTIONS = (0.0, 0.25, 0.5, 0.75)


def _diff_scores(system: UnCLIP, n: int) -> dict[str, float]:
    prompts, texts, x = imagen.pairs(n, 64)
    wanted, found = exchanged(prompts), {}
    for start, how in ((None, "the picture's noise"), (0, "other noise")):
        rows = zip(x, texts, captions(wanted))
        drawn = torch.stack([system.text_diff(p, a, b, FRACTIONS, seed=start) for p, a, b in rows], 1)
        for fraction, pictures in zip(FRACTIONS, drawn):
            read, name = seen(pictures), f"text diff {fraction:g}, {how}"
            found[f"{name}, read as before"] = share(matches(prompts, read))
            found[f"{name}, read as wanted"] = share(matches(wanted, read))
            found[f"{name}, others moved"] = moved(seen(x).scenes, read.scenes)
    return found


DECODER = Shipped(
    name="unclip-decoder", purpose="the embedding of a picture of sprites becomes 16×16 pixels of such a picture",
    build=build_decoder, draw=lambda: draw_decoder(32), steps=2400, scores=decoder_scores, options=OPTIONS,
)  # fmt: skip
PRIOR = Shipped(
    name="unclip-prior", purpose="a caption becomes the embedding of a picture of sprites", build=build_prior,
    draw=lambda: draw_prior(64), steps=1000, scores=prior_scores, options=OPTIONS,
)  # fmt: skip
