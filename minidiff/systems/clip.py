"""The CLIP models of chapter 06: presets (how they were trained: `clip_recipes`), and what they learn from.

scenes()   16-px scenes and their captions, one to four objects, in short, other and long words
german()   a text tower for German captions, taught to land where scenes() puts their English translations

The real pictures are in `clip_emoji`.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import render
from minidiff.data.web import WORLD
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import PAD, WordTokenizer
from minidiff.systems.second_language import SecondLanguage
from minidiff.systems.train import loaded
from minidiff.training import Batch, Draw
from minidiff.validate import describe, require

STYLES = {"short": 0.45, "paraphrase": 0.45, "long": 0.1}
"""Which words a training batch of scenes is described in, and how often."""


def trimmed(tokens: Tensor) -> Tensor:
    """Without the columns that are PAD in every row: a tower that reads END never sees them, and works less."""
    return tokens[:, : int((tokens != PAD).sum(1).max())]


def recall_at(similarity: Tensor, k: int = 1) -> float:
    """Share of rows i of (N, M ≥ N) whose right answer, column i, is among the k most similar.

    Ties count against it, so that a tower that says the same of everything scores 0.
    """
    fits = similarity.ndim == 2 and similarity.shape[0] <= similarity.shape[1]
    require(fits, "similarity", describe(similarity), "shape (N, M), M ≥ N")
    at_least = (similarity >= similarity.diagonal()[:, None]).sum(1)
    return float((at_least <= k).double().mean())


# ---------------------------------------------------------------- scenes


@lru_cache
def tokenizer() -> WordTokenizer:
    """All words of scene captions but "some", which the shipped weights were trained to read as UNKNOWN."""
    return WordTokenizer([word for word in vocabulary() if word != "some"])


def tokens(texts: Sequence[str]) -> Tensor:
    """Captions of scenes, (B, at most 77)."""
    return trimmed(tokenizer().encode(texts))


def build_scenes() -> CLIP:
    """0.7 M parameters: width 96, 3 blocks and 64 numbers out in both towers; 16 tokens of 4×4 pixels."""
    text = TextTower(len(tokenizer()), tokenizer().length, dim=96, depth=3, heads=4, out=64)
    return CLIP(text, ImageTower(3, side=16, patch=4, dim=96, depth=3, heads=4, out=64))


def draw_pairs(batch: int, world: World = WORLD, split: str | None = "train") -> Draw:
    """New scenes and captions in every batch, in words of one of `STYLES`: {"x0": (batch, 3, 16, 16), "tokens"}."""
    weights = torch.tensor(list(STYLES.values()))

    def draw(generator: Generator) -> Batch:
        prompts = world.prompts(batch, generator, split)
        style = list(STYLES)[int(torch.multinomial(weights, 1, generator=generator))]
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return {"x0": render(place(prompts, generator)), "tokens": tokens(captions(prompts, style, seed))}

    return draw


def held_out(n: int, seed: int, world: World = WORLD) -> list[Prompt]:
    """n prompts of the test split, no two with the same content: each caption fits one picture only."""
    generator, found = Generator().manual_seed(seed), dict[str, Prompt]()
    for _ in range(20):
        for prompt in world.prompts(n, generator, "test"):
            found.setdefault(prompt.content, prompt)
        if len(found) >= n:
            return list(found.values())[:n]
    raise ValueError(f"n: got {n}, expected at most {len(found)}, about as many as this world holds out")


def scenes() -> CLIP:
    return loaded(build_scenes(), "clip-scenes")


# ---------------------------------------------------------------- a second language


@lru_cache
def german_tokenizer() -> WordTokenizer:
    return WordTokenizer([*vocabulary(("german",)), "einige", "einigen"])


def german_tokens(texts: Sequence[str]) -> Tensor:
    """German captions of scenes, (B, at most 77)."""
    return trimmed(german_tokenizer().encode(texts))


def build_german() -> SecondLanguage:
    """0.4 M parameters."""
    words = german_tokenizer()
    return SecondLanguage(TextTower(len(words), words.length, dim=96, depth=3, heads=4, out=64))


def draw_translations(batch: int, teacher: CLIP | None = None) -> Draw:
    """German captions and the frozen English tower's vectors of their translations: {"tokens", "target"}."""
    teacher = teacher or scenes()

    def draw(generator: Generator) -> Batch:
        prompts = WORLD.prompts(batch, generator, "train")
        with torch.no_grad():
            target = teacher.encode_text(tokens(captions(prompts)))
        return {"tokens": german_tokens(captions(prompts, "german")), "target": target}

    return draw


def german() -> SecondLanguage:
    return loaded(build_german(), "clip-german")
