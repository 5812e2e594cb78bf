"""CLIP of 16-px scenes and their captions: one to four objects, in short, other and long words (chapter 06)."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import Group, Prompt, World, minimal_pairs, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.data.web import WORLD
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import WordTokenizer, trimmed
from minidiff.judges.ranking import recall_at
from minidiff.optim import Muon, muon_groups
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw

Encode = Callable[[list[str]], Tensor]
ORDERED = World(families=(*WORLD.families, *("relation",) * 3))
"""Relations four times as often."""
STYLES = {"short": 0.45, "paraphrase": 0.45, "long": 0.1}
"""Which words a training batch of scenes is described in, and how often."""
TEMPLATES = ("a {colour} {kind}", "a picture of a {colour} {kind}", "there is a {colour} {kind}")


@lru_cache
def tokenizer() -> WordTokenizer:
    """All words of scene captions but "some", which the shipped weights were trained to read as UNKNOWN."""
    return WordTokenizer([word for word in vocabulary() if word != "some"])


def tokens(texts: Sequence[str]) -> Tensor:
    """Captions of scenes, (B, at most 77)."""
    return trimmed(tokenizer().encode(texts))


def build() -> CLIP:
    """0.7 M parameters: width 96, 3 blocks and 64 numbers out in both towers; 16 tokens of 4×4 pixels."""
    text = TextTower(len(tokenizer()), tokenizer().length, dim=96, depth=3, heads=4, out=64)
    return CLIP(text, ImageTower(3, side=16, patch=4, dim=96, depth=3, heads=4, out=64))


def draw_pairs(batch: int, world: World = WORLD, split: str | None = "train", swaps: bool = False) -> Draw:
    """New scenes and captions in every batch, in words of one of `STYLES`: {"x0": (batch, 3, 16, 16), "tokens"}.

    swaps: rows come in pairs, `beside_their_swaps` of the training split.
    """
    weights = torch.tensor(list(STYLES.values()))

    def draw(generator: Generator) -> Batch:
        prompts = beside_their_swaps(batch, generator, world) if swaps else world.prompts(batch, generator, split)
        style = list(STYLES)[int(torch.multinomial(weights, 1, generator=generator))]
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return {"x0": render(place(prompts, generator)), "tokens": tokens(captions(prompts, style, seed))}

    return draw


def beside_their_swaps(n: int, generator: Generator, world: World) -> list[Prompt]:
    """n prompts of the training split: each two are a prompt and its swap where it has one, else any two."""
    first, second = (world.prompts(n // 2, generator, "train") for _ in range(2))
    partners = (a.swapped() if a.relation not in (None, "surrounding") else b for a, b in zip(first, second))
    return [prompt for pair in zip(first, partners) for prompt in pair]


def held_out(n: int, seed: int, world: World = WORLD) -> list[Prompt]:
    """n prompts of the test split, no two with the same content: each caption fits one picture only."""
    generator, found = Generator().manual_seed(seed), dict[str, Prompt]()
    for _ in range(20):
        for prompt in world.prompts(n, generator, "test"):
            found.setdefault(prompt.content, prompt)
        if len(found) >= n:
            return list(found.values())[:n]
    raise ValueError(f"n: got {n}, expected at most {len(found)}, about as many as this world holds out")


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
def scene_scores(model: CLIP, rounds: int = 20) -> dict[str, float]:
    """Means over `rounds` draws of 50 held-out pairs (content never trained on), and of minimal pairs."""
    device, sums = model.log_scale.device, {"picture": 0.0, "text": 0.0, "shuffled": 0.0}
    encode = lambda texts: model.encode_text(tokens(texts).to(device))
    look = lambda x0: model.encode_image(x0.to(device))
    for seed in range(rounds):
        prompts = held_out(50, seed)
        similarity = look(render(place(prompts, seed))) @ encode(captions(prompts)).T
        sums["picture"] += recall_at(similarity) / rounds
        sums["text"] += recall_at(similarity.T) / rounds
        sums["shuffled"] += recall_at(similarity[mixed(50, seed)]) / rounds
    x0, colour, kind = singles(20)
    pairs = minimal_pairs("relation", 500, 0, WORLD)
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


def mixed(n: int, seed: int) -> Tensor:
    """A random order of n: on average one pair stays a pair, so that recall is 1/n."""
    return torch.randperm(n, generator=Generator().manual_seed(seed))


def _named(embeddings: Tensor, classes: Tensor, answers: Tensor) -> float:
    return float(((embeddings @ classes.T).argmax(1).cpu() == answers).double().mean())


MODEL = Shipped(
    name="clip-scenes", purpose="pictures and captions of scenes on one sphere (chapter 06)", build=build,
    draw=lambda: draw_pairs(64), steps=4500, scores=scene_scores, options={"lr": 1e-3, "ema_decay": 0.998},
)  # fmt: skip
HARD = Shipped(
    name="clip-scenes-hard", purpose="the same, where a caption and its swap stand in one batch (chapter 12)",
    build=build, draw=lambda: draw_pairs(64, ORDERED, swaps=True), steps=4500, scores=scene_scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.995},
)  # fmt: skip
