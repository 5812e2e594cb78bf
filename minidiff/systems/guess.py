"""A guess at how GPT-4o draws, in miniature: an autoregressive transformer decides, a diffusion decoder paints.

Nobody outside knows how GPT-4o or Nano Banana make pictures. Of GPT-4o there is a whiteboard in one published picture,
which says "compose autoregressive prior with a powerful decoder", and

    tokens → [transformer] → [diffusion] → pixels

This page is a guess at what that could mean, and a description of neither. Its parts are those of an open system with
the same plan, GLM-Image. How pictures become tokens is not on the whiteboard; that, too, is part of the guess.

    START a red circle left of a blue star END BEGIN ▪▪▪…▪ START make the circle blue END BEGIN ▪▪▪…▪ START remove …
                                                     codes │ of each picture, which is painted from them alone

WORDS    one causal transformer over texts and codes, asked for what comes next (`backbones.conversation`)
CODES    pictures ↔ 4×4 codes, and PIXELS, which paints them by diffusion (`guess_codes`)

So an edit needs no mechanism of its own: the earlier picture's codes stand in the sequence, and most are said again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from minidiff.backbones.conversation import Conversation
from minidiff.codecs.vqvae import VQVAE
from minidiff.data.captions import vocabulary
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.judges.scorecard import Generate, shares
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import rand, seeded
from minidiff.systems.generator import in_batches
from minidiff.systems.guess_codes import CODES, DROP, PIXELS, SIDE, SIZE, TURNS, WORLD, coded, paint, share, stories
from minidiff.systems.hunyuan import as_told
from minidiff.systems.hunyuan import read as seen_in
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked
from minidiff.validate import describe, require

LENGTH = 10
"""Of the longest caption in this world, with START and END."""
TOKENS = WordTokenizer([*vocabulary(("short",)), "the", "make", "turn", "into", "remove"], LENGTH)

Turn = str | Tensor
"""A text, a picture (3, 16, 16), or the codes of one (4, 4), int64."""


def build(dim: int = 96, depth: int = 6) -> Conversation:
    """0.8 M parameters: width 96, 6 blocks, 27 tokens a turn."""
    return Conversation(len(TOKENS), LENGTH, SIZE, SIDE, dim, depth)


def draw_conversations(batch: int, codec: VQVAE) -> Draw:
    """{"tokens": (batch, 3, 10), "codes": (batch, 3, 4, 4)} of the training split, new in every batch.

    A tenth of the texts is empty, caption or instruction: guidance leads away from that, and a picture that nobody
    described can be edited.
    """

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            told = stories(n, generator, "train")
            tokens = TOKENS.encode([text for story in told for text in story.texts]).unflatten(0, (n, TURNS))
            silent = rand((n, TURNS, 1), generator) < DROP
            codes = coded(codec, [story.scenes for story in told])
            return {"tokens": torch.where(silent, TOKENS.encode([""]), tokens), "codes": codes}

        return draw

    return chunked(rows, batch, chunk=16)


# ---------------------------------------------------------------- from a conversation to a picture


@dataclass(frozen=True)
class Guess:
    """The three models together; `load` has the shipped ones."""

    words: Conversation
    codec: VQVAE
    pixels: Denoiser

    @classmethod
    def load(cls) -> "Guess":
        return cls(WORDS.load(), CODES.load(), PIXELS.load())


@torch.no_grad()
def written(codec: VQVAE, rows: Sequence[Sequence[Turn]]) -> tuple[Tensor, Tensor]:
    """Conversations as tokens (B, T, 10) and codes (B, T − 1, 4, 4): text, picture, text, …, text, T texts each.

    One that begins with a picture has an empty text before it. `ValueError` for other orders and other pictures.
    """
    rows = [row if row and isinstance(row[0], str) else ["", *row] for row in rows]
    turns = len(rows[0]) if rows else 0
    expected = "conversations, all as long: text, picture, …, text"
    fits = turns % 2 == 1 and all(len(row) == turns for row in rows)
    fits = fits and all(isinstance(turn, str) == (i % 2 == 0) for row in rows for i, turn in enumerate(row))
    require(fits, "rows", f"{len(rows)} of {[len(row) for row in rows][:5]} turns", expected)
    tokens = TOKENS.encode([turn for row in rows for turn in row[::2] if isinstance(turn, str)])
    codes = [_codes(codec, turn) for row in rows for turn in row[1::2] if isinstance(turn, Tensor)]
    drawn = torch.stack(codes) if codes else torch.empty(0, SIDE, SIDE, dtype=torch.int64)
    return tokens.unflatten(0, (len(rows), -1)), drawn.reshape(len(rows), turns // 2, SIDE, SIDE)


def _codes(codec: VQVAE, turn: Tensor) -> Tensor:
    if turn.dtype == torch.int64 and turn.shape == (SIDE, SIDE):
        return turn
    fits = turn.is_floating_point() and turn.shape == (3, 16, 16)
    require(fits, "rows", describe(turn), f"pictures (3, 16, 16), or their codes int64 ({SIDE}, {SIDE})")
    return codec.encode(turn[None].to(codec.quantizer.codebook.device))[0].cpu()


def decide(
    guess: Guess, rows: Sequence[Sequence[Turn]], w: float, seeds: Sequence[int], temperature: float = 0.0
) -> Tensor:  # fmt: skip
    """The codes (B, 4, 4) of the picture that follows each conversation; temperature 0: at each place the likeliest."""
    tokens, codes = (part.to(guess.words.begin.device) for part in written(guess.codec, rows))
    null = TOKENS.encode([""])[0].to(tokens.device)
    return guess.words.sample(tokens, codes, seeded(seeds), temperature, w, null).cpu()


def pictures_of(guess: Guess, temperature: float = 1.0, batch: int = 100) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 16, 16): captions alone."""

    def some(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        return paint(guess.pixels, decide(guess, [[text] for text in texts], w, seeds, temperature), seeds)

    return in_batches(some, batch)


def converse(
    guess: Guess, texts: Sequence[Sequence[str]], w: float, seeds: Sequence[int], temperature: float = 0.0
) -> list[Tensor]:  # fmt: skip
    """Conversations of T texts each: after every text the pictures (B, 3, 16, 16), T of them.

    What the model said stays in the sequence as the codes that it said.
    """
    rows: list[list[Turn]] = [[] for _ in texts]
    pictures = []
    for turn in range(len(texts[0])):
        rows = [[*row, text[turn]] for row, text in zip(rows, texts)]
        codes = decide(guess, rows, w, seeds, temperature)
        rows = [[*row, said] for row, said in zip(rows, codes)]
        pictures.append(paint(guess.pixels, codes, seeds))
    return pictures


WORDS = Shipped(
    name="guess-words", purpose="a conversation becomes codes of its next picture, of the guess at GPT-4o (chapter 14)",
    build=build, draw=lambda: draw_conversations(32, CODES.load()), steps=2400, scores=lambda words: scores(words),
    bits=8, options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
