"""How the CLIP models are trained and scored; `recipes` lists these too. Chance stands beside every score."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.data import emoji as real
from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, minimal_pairs, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.encoders.clip import CLIP
from minidiff.systems import clip
from minidiff.systems.clip_emoji import baseline_table, build_emoji, draw_emoji, emoji_tokens, told
from minidiff.systems.second_language import SecondLanguage
from minidiff.systems.train import Recipe

Encode = Callable[[list[str]], Tensor]
TEMPLATES = ("a {colour} {kind}", "a picture of a {colour} {kind}", "there is a {colour} {kind}")


def zero_shot(encode: Encode, families: list[list[str]]) -> Tensor:
    """A classifier out of words: one unit vector per family of captions, their mean, normalised (arXiv 2103.00020)."""
    return torch.stack([F.normalize(encode(texts).mean(0), dim=0) for texts in families])


def colour_captions() -> list[list[str]]:
    """For every colour, what a picture of one object of that colour may be called."""
    return [[t.format(colour=colour, kind=kind) for kind in SHAPES for t in TEMPLATES] for colour in COLOURS]


def shape_captions() -> list[list[str]]:
    return [[t.format(colour=colour, kind=kind) for colour in COLOURS for t in TEMPLATES] for kind in SHAPES]


def singles(repeats: int, seed: int = 0, split: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of one object, `repeats` of each of the 30 contents (or those of one split): x0, colours, kinds."""
    found = [(Prompt((Group(k, c),)), i, j) for i, c in enumerate(COLOURS) for j, k in enumerate(SHAPES)]
    found = [row for row in found if split in (None, row[0].split)] * repeats
    prompts, colours, kinds = zip(*found)
    return render(place(prompts, seed)), torch.tensor(colours), torch.tensor(kinds)


@torch.no_grad()
def scene_scores(model: nn.Module, rounds: int = 20) -> dict[str, float]:
    """Means over `rounds` draws of 50 held-out pairs (content never trained on), and of minimal pairs."""
    assert isinstance(model, CLIP)
    device, sums = model.log_scale.device, {"picture": 0.0, "text": 0.0, "shuffled": 0.0}
    encode = lambda texts: model.encode_text(clip.tokens(texts).to(device))
    look = lambda x0: model.encode_image(x0.to(device))
    for seed in range(rounds):
        prompts = clip.held_out(50, seed)
        similarity = look(render(place(prompts, seed))) @ encode(captions(prompts)).T
        sums["picture"] += clip.recall_at(similarity) / rounds
        sums["text"] += clip.recall_at(similarity.T) / rounds
        sums["shuffled"] += clip.recall_at(similarity[_mixed(50, seed)]) / rounds
    x0, colour, kind = singles(20)
    pairs = minimal_pairs("relation", 500, 0, clip.WORLD)
    shown, swapped = ([p[i] for p in pairs] for i in (0, 1))
    seen = look(render(place(shown, 0)))
    right = (seen * encode(captions(shown))).sum(1) > (seen * encode(captions(swapped))).sum(1)
    scores = {
        "R@1 of 50, caption for a picture": sums["picture"],
        "R@1 of 50, picture for a caption": sums["text"],
        "R@1 of 50, pairs shuffled (chance 0.02)": sums["shuffled"],
        "zero-shot colour (chance 0.167)": _named(look(x0), zero_shot(encode, colour_captions()), colour),
        "zero-shot shape (chance 0.2)": _named(look(x0), zero_shot(encode, shape_captions()), kind),
        "relation or its swap (chance 0.5)": float(right.double().mean()),
        "scale": float(model.scale),
    }
    return {name: round(value, 4) for name, value in scores.items()}


def _mixed(n: int, seed: int) -> Tensor:
    """A random order of n: on average one pair stays a pair, so that recall is 1/n."""
    return torch.randperm(n, generator=Generator().manual_seed(seed))


def _named(embeddings: Tensor, classes: Tensor, answers: Tensor) -> float:
    return float(((embeddings @ classes.T).argmax(1).cpu() == answers).double().mean())


@torch.no_grad()
def german_scores(model: nn.Module, rounds: int = 20) -> dict[str, float]:
    """The same recall with German captions; the English tower stands beside it, untrained German words below."""
    assert isinstance(model, SecondLanguage)
    device, teacher = next(model.parameters()).device, clip.scenes()
    teacher = teacher.to(device)
    names = ("German", "English", "German, pairs shuffled (chance 0.02)", "cosine of German and English")
    sums = dict.fromkeys(names, 0.0)
    for seed in range(rounds):
        prompts = clip.held_out(50, seed)
        seen = teacher.encode_image(render(place(prompts, seed)).to(device))
        english = teacher.encode_text(clip.tokens(captions(prompts)).to(device))
        translated = model.encode_text(clip.german_tokens(captions(prompts, "german")).to(device))
        values = (*(clip.recall_at(t @ seen.T) for t in (translated, english, translated[_mixed(50, seed)])),)
        cosine = float((translated * english).sum(1).mean())
        sums = {k: sums[k] + v / rounds for k, v in zip(names, (*values, cosine))}
    return {f"R@1 of 50, {name}" if name != names[3] else name: round(value, 4) for name, value in sums.items()}


@torch.no_grad()
def emoji_scores(model: nn.Module) -> dict[str, float]:
    """R@1, 5, 10 among the held-out concepts of one style, beside the bag of words; chance is k/123."""
    assert isinstance(model, CLIP)
    device, (train, test) = model.log_scale.device, real.split()
    texts = {"names": [real.load().names[i] for i in test.tolist()], "all words": [told(i) for i in test.tolist()]}
    seen = {style: model.encode_image(real.pictures(style)[test].to(device)).cpu() for style in real.STYLES}
    tables = {"fluent picture → noto picture": seen["fluent"] @ seen["noto"].T}
    for name, lines in texts.items():
        said = model.encode_text(emoji_tokens(lines).to(device)).cpu()
        for style in real.STYLES:
            tables[f"{name} → {style}"] = said @ seen[style].T
            tables[f"bag of words: {name} → {style}"] = baseline_table(style, lines, test, train)
    tables["names shuffled → fluent"] = tables["names → fluent"][_mixed(len(test), 0)]
    return {f"{name}, R@{k}": round(clip.recall_at(t, k), 4) for name, t in tables.items() for k in (1, 5, 10)}


RECIPES = (
    Recipe(
        "clip-scenes", clip.build_scenes, lambda: clip.draw_pairs(64), 4500, scene_scores,
        {"lr": 1e-3, "ema_decay": 0.998},
    ),
    Recipe(
        "clip-german", clip.build_german, lambda: clip.draw_translations(64), 1500, german_scores,
        {"lr": 1e-3, "ema_decay": 0.998},
    ),
    Recipe("clip-emoji", build_emoji, lambda: draw_emoji(64), 1600, emoji_scores, {"lr": 1e-3, "ema_decay": 0.998}),
)  # fmt: skip
