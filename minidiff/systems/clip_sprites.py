"""CLIP of 64-px pictures of sprites and their short captions: the text tower that Stable Diffusion reads with (chapter
09).

CLIP learns which caption belongs to which picture, and from nothing else; a generator then takes its words' vectors as
they are. Stable Diffusion 1 and 2 do the same with OpenAI's and OpenCLIP's towers (arXiv 2112.10752, section 3.3).

Among 64 random captions each picture can be found by its words in any order, so nothing teaches their order: trained
like that, this model found .94 of its captions and told "a cat left of a dog" from "a dog left of a cat" in .52 of all
cases, a half being chance. So here the two stand in one batch (NegCLIP, 2210.01936).
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, minimal_pairs, place
from minidiff.data.scenes import render
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import trimmed
from minidiff.judges.ranking import recall_at
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import orders
from minidiff.systems.clip_scenes import beside_their_swaps, held_out, mixed
from minidiff.systems.latent import LENGTH, REUSE, SIDE, WORLD, spoken, tokenizer
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked


def tokens(texts: Sequence[str]) -> Tensor:
    """Captions of sprites, (B, at most 18)."""
    return trimmed(tokenizer().encode(texts))


def build() -> CLIP:
    """0.4 M parameters: 3 blocks in both towers, of width 80 for words and 64 for 64 squares of 8×8 pixels."""
    text = TextTower(len(tokenizer()), LENGTH, dim=80, depth=3, heads=4, out=64)
    return CLIP(text, ImageTower(3, SIDE, patch=8, dim=64, depth=3, heads=4, out=64))


def draw_pairs(batch: int, apart: bool = False) -> Draw:
    """Pictures of the training split and their captions: {"x0": (batch, 3, 64, 64), "tokens": (batch, 18)}, batch even.

    Rows 2i and 2i + 1 have their objects swapped, where one stands beside, above or on another. Each picture comes
    `REUSE` times within a chunk of 16 batches, each time among others: to draw a new one every time would take longer
    than to learn from it. apart: the very same rows, but no batch holds a prompt and its swap, which comes 8 batches
    later.
    """

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = beside_their_swaps(n // REUSE, generator, WORLD)
            x0 = render(place(prompts, generator), SIDE)
            pairs = len(prompts) // 2
            order = orders(pairs, REUSE, generator)
            order = (
                torch.cat([2 * order, 2 * order + 1]) if apart else torch.stack([2 * order, 2 * order + 1], 1).flatten()
            )
            return {"x0": x0[order], "tokens": tokenizer().encode(spoken(prompts, generator))[order]}

        return draw

    return chunked(rows, batch, chunk=16)


def pictures(prompts: Sequence[Prompt], seed: int) -> Tensor:
    """One picture of each, (B, 3, 64, 64)."""
    return render(place(prompts, seed), SIDE)


@torch.no_grad()
def scores(model: CLIP, rounds: int = 20) -> dict[str, float]:
    """Means over `rounds` draws of 50 held-out pairs, no two of one content, and over 500 held-out minimal pairs."""
    device, sums = model.log_scale.device, {"picture": 0.0, "text": 0.0, "shuffled": 0.0}
    encode = lambda texts: model.encode_text(tokens(texts).to(device))
    look = lambda prompts, seed: model.encode_image(pictures(prompts, seed).to(device))
    for seed in range(rounds):
        prompts = held_out(50, seed, WORLD)
        similarity = look(prompts, seed) @ encode(captions(prompts)).T
        sums["picture"] += recall_at(similarity) / rounds
        sums["text"] += recall_at(similarity.T) / rounds
        sums["shuffled"] += recall_at(similarity[mixed(50, seed)]) / rounds
    pairs = [pair for pair in minimal_pairs("relation", 4000, 0, WORLD) if WORLD.split_of(pair[0]) == "test"][:500]
    shown, swapped = ([pair[i] for pair in pairs] for i in (0, 1))
    seen = look(shown, 0)
    right = (seen * encode(captions(shown))).sum(1) > (seen * encode(captions(swapped))).sum(1)
    found = {
        "R@1 of 50, caption for a picture": sums["picture"],
        "R@1 of 50, picture for a caption": sums["text"],
        "R@1 of 50, pairs shuffled (chance 0.02)": sums["shuffled"],
        "relation or its swap (chance 0.5)": float(right.double().mean()),
        "scale": float(model.scale),
    }
    return {name: round(value, 4) for name, value in found.items()}


OPTIONS = {"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.995}

MODEL = Shipped(
    name="clip-sprites", purpose="pictures and captions of sprites on one sphere (chapter 09)", build=build,
    draw=lambda: draw_pairs(64), steps=1500, scores=scores, options=OPTIONS,
)  # fmt: skip
PLAIN = Shipped(
    name="clip-sprites-plain", purpose="the same, but a caption and its swap never stand in one batch (chapter 12)",
    build=build, draw=lambda: draw_pairs(64, apart=True), steps=1500, scores=scores, options=OPTIONS,
)  # fmt: skip
