"""A text tower for a second language that speaks to the same pictures (multilingual distillation, arXiv 2004.09813).

No picture and no contrast is needed: the new tower learns to put a translation where the frozen English tower puts the
original. Pictures found by one are then found by the other.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.data.web import WORLD
from minidiff.encoders.clip import CLIP, TextTower
from minidiff.encoders.tokenizer import WordTokenizer, trimmed
from minidiff.judges.ranking import recall_at
from minidiff.systems import clip_scenes
from minidiff.systems.clip_scenes import held_out, mixed
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, Progress, draw_rows, fit
from minidiff.validate import describe, require, require_shape


class SecondLanguage(nn.Module):
    """A text tower with its own vocabulary and CLIP's `out`, as a trainable for `training.fit`."""

    def __init__(self, text: TextTower):
        super().__init__()
        self.text = text

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → unit vectors (B, out)."""
        return F.normalize(self.text(tokens), dim=-1)

    def loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """‖student(translation) − teacher(original)‖², (B,): equation 1 of arXiv 2004.09813, here 2 − 2·cos."""
        embeddings = self.encode_text(tokens)
        require_shape("target", target, embeddings.shape)
        return (embeddings - target).square().sum(1)


def align(
    student: SecondLanguage,
    teacher: CLIP,
    tokens: Tensor,
    translated: Tensor,
    steps: int,
    batch: int = 64,
    **options: Any,
) -> Iterator[Progress]:
    """Train `student` on N captions `tokens` (N, L) of the teacher and their translations `translated` (N, M).

    The teacher is not trained. options: those of `training.fit`. Row i of both tensors is the same sentence:
    `ValueError` if their numbers of rows differ.
    """
    require(
        len(tokens) == len(translated), "translated", describe(translated), f"{len(tokens)} rows, as many as tokens"
    )
    with torch.no_grad():
        target = torch.cat([teacher.encode_text(part) for part in tokens.split(1024)]).to(translated.device)
    return fit(student, draw_rows({"tokens": translated, "target": target}, batch), steps, **options)


@lru_cache
def german_tokenizer() -> WordTokenizer:
    return WordTokenizer([*vocabulary(("german",)), "einige", "einigen"])


def german_tokens(texts: Sequence[str]) -> Tensor:
    """German captions of scenes, (B, at most 77)."""
    return trimmed(german_tokenizer().encode(texts))


def build() -> SecondLanguage:
    """0.4 M parameters."""
    words = german_tokenizer()
    return SecondLanguage(TextTower(len(words), words.length, dim=96, depth=3, heads=4, out=64))


def draw_translations(batch: int, teacher: CLIP | None = None) -> Draw:
    """German captions and the frozen English tower's vectors of their translations: {"tokens", "target"}."""
    teacher = clip_scenes.MODEL.load() if teacher is None else teacher

    def draw(generator: Generator) -> Batch:
        prompts = WORLD.prompts(batch, generator, "train")
        with torch.no_grad():
            target = teacher.encode_text(clip_scenes.tokens(captions(prompts)))
        return {"tokens": german_tokens(captions(prompts, "german")), "target": target}

    return draw


@torch.no_grad()
def german_scores(model: SecondLanguage, rounds: int = 20) -> dict[str, float]:
    """The same recall with German captions; the English tower stands beside it, untrained German words below."""
    device, teacher = next(model.parameters()).device, clip_scenes.MODEL.load()
    teacher = teacher.to(device)
    names = ("German", "English", "German, pairs shuffled (chance 0.02)", "cosine of German and English")
    sums = dict.fromkeys(names, 0.0)
    for seed in range(rounds):
        prompts = held_out(50, seed)
        seen = teacher.encode_image(render(place(prompts, seed)).to(device))
        english = teacher.encode_text(clip_scenes.tokens(captions(prompts)).to(device))
        translated = model.encode_text(german_tokens(captions(prompts, "german")).to(device))
        values = (*(recall_at(t @ seen.T) for t in (translated, english, translated[mixed(50, seed)])),)
        cosine = float((translated * english).sum(1).mean())
        sums = {k: sums[k] + v / rounds for k, v in zip(names, (*values, cosine))}
    return {f"R@1 of 50, {name}" if name != names[3] else name: round(value, 4) for name, value in sums.items()}


MODEL = Shipped(
    name="clip-german", purpose="a German text tower for clip-scenes (chapter 06)", build=build,
    draw=lambda: draw_translations(64), steps=1500, scores=german_scores, options={"lr": 1e-3, "ema_decay": 0.998},
)  # fmt: skip
