"""The CLIP of real pictures of chapter 06: 32 px, two styles, names and keywords that nobody here made up.

It is trained on nine tenths of the concepts; the others it has never seen in any style.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.data import emoji
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import WordTokenizer, split, trimmed
from minidiff.judges.ranking import recall_at
from minidiff.systems.clip_scenes import mixed
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw

LENGTH = 32
"""Tokens of a caption; a name with all its keywords may be longer, and is cut."""


@lru_cache
def emoji_tokenizer() -> WordTokenizer:
    """Words that two training concepts or more use. All others are UNKNOWN, in training and after it."""
    train, _ = emoji.split()
    texts = [" ".join(sorted(set(split(told(i))))) for i in train.tolist()]
    return WordTokenizer.from_texts([*texts, *["a an ,"] * 2], length=LENGTH, min_count=2)


def emoji_tokens(texts: Sequence[str]) -> Tensor:
    """Names and keywords, (B, at most LENGTH)."""
    return trimmed(emoji_tokenizer().encode(texts))


def told(i: int) -> str:
    """Everything that is said of row i: its name and all keywords."""
    atlas = emoji.load()
    return ", ".join((atlas.names[i], *atlas.keywords[i]))


def build() -> CLIP:
    """Width 96 and 64 numbers out in both towers; 16 tokens of 8×8 pixels."""
    words = emoji_tokenizer()
    text = TextTower(len(words), words.length, dim=96, depth=2, heads=4, out=64)
    return CLIP(text, ImageTower(3, side=32, patch=8, dim=96, depth=3, heads=4, out=64))


def draw_emoji(batch: int, rows: Tensor | None = None) -> Draw:
    """Training concepts, each in a random style, moved, turned, mirrored, on a random ground: {"x0", "tokens"}."""
    rows = emoji.split()[0] if rows is None else rows
    rgba = torch.stack([emoji.load(style).rgba for style in emoji.STYLES])  # (2, N, 4, 32, 32) uint8
    sided = torch.tensor([bool({"left", "right"} & set(split(name))) for name in emoji.load().names])

    def draw(generator: Generator) -> Batch:
        chosen = rows[torch.randperm(len(rows), generator=generator)[:batch]]
        style = torch.randint(len(rgba), (len(chosen),), generator=generator)
        x0 = augmented(rgba[style, chosen].float() / 255, ~sided[chosen], generator)
        return {"x0": x0, "tokens": emoji_tokens([caption(i, generator) for i in chosen.tolist()])}

    return draw


def caption(i: int, generator: Generator) -> str:
    """Half of the time one of `data.emoji.caption`, else some of the words said of row i, shuffled."""
    if torch.rand((), generator=generator) < 0.5:
        return emoji.caption(i, generator)
    words = sorted(set(split(told(i))) - {","})
    some = torch.randperm(len(words), generator=generator)[: int(torch.randint(1, 9, (), generator=generator))]
    return " ".join(words[k] for k in some.tolist())


def augmented(rgba: Tensor, may_mirror: Tensor, generator: Generator) -> Tensor:
    """(B, 4, S, S) in [0, 1] → pictures (B, 3, S, S) in [−1, 1].

    Turned by up to 15°, scaled by 0.8 … 1.1, moved by up to 3 px, half of those that may mirrored; on the light grey of
    scenes in half of all cases, else on a random colour.
    """
    batch, random = len(rgba), lambda *shape: torch.rand(*shape, generator=generator)
    angle, scale = (2 * random(batch) - 1) * 0.26, 0.8 + 0.3 * random(batch)
    mirror = torch.where(may_mirror & (random(batch) < 0.5), -1.0, 1.0)
    shift = (2 * random(batch, 2) - 1) * 6 / rgba.shape[-1]  # grid_sample's picture is 2 wide
    cos, sin = angle.cos() / scale, angle.sin() / scale
    matrix = torch.stack([mirror * cos, -sin, shift[:, 0], mirror * sin, cos, shift[:, 1]], 1).reshape(-1, 2, 3)
    alpha = rgba[:, 3:]
    grid = F.affine_grid(matrix, list(rgba.shape), align_corners=False)
    moved = F.grid_sample(torch.cat([rgba[:, :3] * alpha, alpha], 1), grid, align_corners=False)
    plain = (random(batch, 1) < 0.5).float()
    ground = plain * 0.95 + (1 - plain) * random(batch, 3)
    return 2 * (moved[:, :3] + (1 - moved[:, 3:]) * ground[:, :, None, None]) - 1


# ---------------------------------------------------------------- the yardstick


def bag_of_words(texts: Sequence[str]) -> Tensor:
    """(B, words) float32: 1 where a known word occurs, each row scaled to length 1."""
    words, bag = emoji_tokenizer(), torch.zeros(len(texts), len(emoji_tokenizer()))
    for row, text in zip(bag, texts):
        row[[words.ids[word] for word in split(text) if word in words.ids]] = 1.0
    return F.normalize(bag, dim=1)


def baseline_table(style: str, texts: Sequence[str], rows: Tensor, fitted: Tensor, strength: float = 0.3) -> Tensor:
    """Similarity (B, len(rows)) of texts and the pictures `rows`, by ridge regression instead of a network.

    From the bag of words of all that is said of a concept to its picture (8×8 pixels), on the rows `fitted`; then the
    cosine of predicted and real picture, both minus the mean picture. strength: λ of min ‖XW − Y‖² + λ‖W‖².
    """
    features = F.avg_pool2d(emoji.pictures(style), 4).flatten(1)
    x, y = bag_of_words([told(i) for i in fitted.tolist()]), features - features[fitted].mean(0)
    weights = torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]), x.T @ y[fitted])
    return F.normalize(bag_of_words(texts) @ weights, dim=1) @ F.normalize(y[rows], dim=1).T


# ---------------------------------------------------------------- scores


@torch.no_grad()
def emoji_scores(model: CLIP) -> dict[str, float]:
    """R@1, 5, 10 among the held-out concepts of one style, beside the bag of words; chance is k/123."""
    device, (train, test) = model.log_scale.device, emoji.split()
    texts = {"names": [emoji.load().names[i] for i in test.tolist()], "all words": [told(i) for i in test.tolist()]}
    seen = {style: model.encode_image(emoji.pictures(style)[test].to(device)).cpu() for style in emoji.STYLES}
    tables = {"fluent picture → noto picture": seen["fluent"] @ seen["noto"].T}
    for name, lines in texts.items():
        said = model.encode_text(emoji_tokens(lines).to(device)).cpu()
        for style in emoji.STYLES:
            tables[f"{name} → {style}"] = said @ seen[style].T
            tables[f"bag of words: {name} → {style}"] = baseline_table(style, lines, test, train)
    tables["names shuffled → fluent"] = tables["names → fluent"][mixed(len(test), 0)]
    return {f"{name}, R@{k}": round(recall_at(t, k), 4) for name, t in tables.items() for k in (1, 5, 10)}


MODEL = Shipped(
    name="clip-emoji", purpose="emoji and their names on one sphere (chapter 06)", build=build,
    draw=lambda: draw_emoji(64), steps=1600, scores=emoji_scores, options={"lr": 1e-3, "ema_decay": 0.998},
)  # fmt: skip
