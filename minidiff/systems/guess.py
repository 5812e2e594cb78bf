"""A guess at how GPT-4o draws, in miniature: an autoregressive transformer decides, a diffusion decoder paints.

How GPT-4o and Nano Banana make pictures is not published. Of GPT-4o there is a whiteboard in one published picture,
which says "compose autoregressive prior with a powerful decoder", and

    tokens → [transformer] → [diffusion] → pixels

This page is a guess at what that could mean, and a description of neither. Its parts are those of an open system with
the same plan, GLM-Image. How pictures become tokens is not on the whiteboard; that, too, is part of the guess.

    START a red circle left of a blue star END BEGIN ▪▪▪…▪ START make the circle blue END BEGIN ▪▪▪…▪ START remove …
                                                     codes │ of each picture, which is painted from them alone

WORDS    one causal transformer over texts and codes, asked for what comes next (`backbones.conversation`)
CODES    pictures ↔ 4×4 codes, and PIXELS, which paints them by diffusion (`guess_codes`)

So an edit needs no mechanism of its own: the earlier picture's codes stand in the sequence, and most are said again.

Of 400 held-out conversations about given pictures .96 of first and .97 of second instructions are done as told, and .93
of the objects that no instruction named are where they were, after either. With another conversation's codes it is .02,
and 0 where what was decided is painted without its codes. What goes wrong has a pattern: of 52 wrong among 1,600 others
50 had two objects, and in 34 the one that was *not* named was edited, and the named one left as it was.

Captions are drawn in .92 (one), .97 (relation) and .66 (pair, whose arrangement no word tells: each code is drawn by
itself, and two that do not fit are not mended) of 100 each at temperature 1; w = 1 makes pair .78. In 200 conversations
of its own, at temperature 0, .94 show the caption, .91 are still right after one edit, .85 after two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Generator, Tensor

from minidiff.backbones.conversation import Conversation
from minidiff.codecs.vqvae import VQVAE
from minidiff.data.captions import caption, vocabulary
from minidiff.data.scenes import Object
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.judges.scorecard import Generate, shares, shows
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import rand, seeded
from minidiff.systems.generator import in_batches
from minidiff.systems.guess_codes import (
    CODES,
    DROP,
    PIXELS,
    SIDE,
    SIZE,
    TURNS,
    WORLD,
    Story,
    coded,
    instructed,
    paint,
    share,
    stories,
)
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


# ---------------------------------------------------------------- what it can do


def _told_and_kept(pictures: Tensor, told: Sequence[Story], turn: int) -> tuple[float, float]:
    """The shares of pictures that are as told at `turn`, and of objects that stay from the turn before, within a cell.

    A picture that cannot be read has kept nothing.
    """
    right, kept = [], []
    for story, seen in zip(told, seen_in(list(pictures)), strict=True):
        before, after = story.scenes[turn - 1 : turn + 1]
        right.append(as_told(after, seen))
        kept += [any(as_told([thing], [t]) for t in seen or []) for thing in before if thing in after]
    return share(right), share(kept)


def editing(guess: Guess, n: int = 200, w: float = 0.0, split: str | None = "test") -> dict[str, float]:
    """By turn, the shares of edits of given pictures that are as told and of objects that stay, with controls.

    Controls: the codes of another conversation's pictures; at the third turn, the first picture in place of the second
    as well; and what was decided is painted without its codes.
    """
    told, found = stories(n, 2, split), {}
    codes = coded(guess.codec, [story.scenes for story in told])
    for turn in range(1, TURNS):
        earlier = codes[:, :turn]
        given = {"": earlier, ", another conversation's codes": earlier.roll(1, 0)}
        if turn > 1:
            given[", the first picture twice"] = earlier[:, :1].expand(-1, turn, -1, -1)
        for name, seen in given.items():
            rows = [_interleaved(story.texts[: turn + 1], row) for story, row in zip(told, seen)]
            said = decide(guess, rows, w, range(n))
            right, kept = _told_and_kept(paint(guess.pixels, said, range(n)), told, turn)
            found |= {f"edit {turn}, as told{name}": right, f"edit {turn}, kept{name}": kept}
            if not name:
                blind = paint(guess.pixels, said, range(n), dropped=True)
                found[f"edit {turn}, as told, painted without codes"] = _told_and_kept(blind, told, turn)[0]
    return found


def _interleaved(texts: Sequence[str], codes: Tensor) -> list[Turn]:
    """Text, codes, text, …, text."""
    return [turn for pair in zip(texts, [*codes, None]) for turn in pair if turn is not None]


def conversing(guess: Guess, n: int = 100, w: float = 0.0, split: str | None = "test") -> dict[str, float]:
    """The model draws a caption, then edits its own picture, twice. By turn: the share of all n that is right so far.

    A first picture is right if it shows its caption, a later one if it shows the one before as the instruction says.
    """
    prompts, rng, seeds = WORLD.prompts(n, 3, split), Random(0), range(n)
    rows: list[list[Turn]] = [[caption(prompt)] for prompt in prompts]
    wanted: list[list[Object] | None] = [None] * n
    right, found = [True] * n, {}
    for turn in range(TURNS):
        codes = decide(guess, rows, w, seeds)
        seen = seen_in(list(paint(guess.pixels, codes, seeds)))
        for i, things in enumerate(seen):
            fits = shows(prompts[i], things or []) if turn == 0 else as_told(wanted[i] or [], things)
            right[i] = right[i] and things is not None and fits
            edit = instructed(things, rng) if right[i] and things else None
            wanted[i] = edit.after if edit else None
            rows[i] += [codes[i], edit.text if edit else ""]
        found[f"turn {turn + 1} of its own"] = share(right)
    return found


def scores(words: Conversation, n: int = 200) -> dict[str, float]:
    """Held-out contents: nats a code; captions drawn, by family; edits of given pictures; conversations of its own."""
    guess, found = Guess(words, CODES.load(), PIXELS.load()), {}
    told = stories(n, 2, "test")
    tokens = TOKENS.encode([text for story in told for text in story.texts]).unflatten(0, (n, TURNS))
    codes = coded(guess.codec, [story.scenes for story in told])
    for name, given in (("", tokens), (", another's texts", tokens.roll(1, 0))):
        with torch.no_grad():
            nats = words.losses(given, codes)[1].mean(0).tolist()
        found |= {f"nats per code, turn {k + 1}{name}": round(value, 4) for k, value in enumerate(nats)}
    for w in (0.0, 1.0):
        for family, (right, other) in shares(pictures_of(guess), WORLD, w, n // 2).items():
            found[f"{family}, drawn, w={w:g}"] = round(right.share, 4)
            found[f"{family}, drawn, w={w:g}, another caption"] = round(other.share, 4)
    return found | editing(guess, 2 * n) | conversing(guess, n)


WORDS = Shipped(
    name="guess-words", purpose="a conversation becomes codes of its next picture, of the guess at GPT-4o (chapter 14)",
    build=build, draw=lambda: draw_conversations(32, CODES.load()), steps=3800, scores=scores,
    bits=8, options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
