"""An encoder of sentences that has never seen a picture (chapter 07): trained on texts alone, then frozen.

Its texts are the grammar's own, in all wordings. A sentence about random things can be completed only as far as its
grammar goes: whether a hidden colour was red, nothing says. But people say things twice. Most of the texts here are two
wordings of one prompt, "a cat left of a dog . there is a dog with a cat on its left", and there what is hidden in one
sentence can be looked up in the other, by whoever has understood which of the two is on the left.
"""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.conditioning import Encoded
from minidiff.data.captions import caption, vocabulary
from minidiff.data.prompts import FAMILIES, SCENIC, Prompt, World
from minidiff.data.scenes import COLOURS, KINDS
from minidiff.data.sprites import SpriteWorld
from minidiff.encoders.text_lm import TextLM, corrupt
from minidiff.encoders.tokenizer import N_SPECIALS, WordTokenizer, trimmed
from minidiff.optim import Muon, muon_groups
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw

LENGTH = 42
"""Two of the longest sentences, with what stands between them."""
RATE = 0.3
"""Words hidden: captions are short, so more than BERT's 0.15 (40 % in arXiv 2202.08005)."""


TWICE = 0.7
"""Texts that say what they say in two wordings."""


class Texts(World):
    """Every family of prompts, of shapes and sprites; a prompt that any world here holds out is held out."""

    def split_of(self, prompt: Prompt) -> str:
        sides = {prompt.split, SpriteWorld().split_of(prompt) if prompt.groups else "train"}
        return "test" if "test" in sides else "train"


WORLD = Texts(kinds=KINDS, families=(*FAMILIES, *SCENIC))
RELATED = Texts(families=("relation",))
"""Two shapes, one left of, right of, above or below the other."""


@lru_cache
def tokenizer() -> WordTokenizer:
    """The words of short and of paraphrased captions, "some" among them."""
    return WordTokenizer([*vocabulary(("short", "paraphrase")), "some"], LENGTH)


def tokens(texts: Sequence[str]) -> Tensor:
    """Texts, (B, at most 42)."""
    return trimmed(tokenizer().encode(texts))


def said(prompt: Prompt, rng: Random) -> str:
    """A prompt in one of its wordings."""
    return caption(prompt, rng.choice(("short", "paraphrase")), rng)


def corpus(n: int, seed: int, twice: float = TWICE, split: str = "train") -> list[str]:
    """n texts: one wording of a prompt or, with probability `twice`, two with a full stop between them."""
    rng = Random(seed)
    prompts = WORLD.prompts(n, seed, split)
    return [" . ".join(said(p, rng) for _ in range(1 + (rng.random() < twice))) for p in prompts]


def build(dim: int = 64, depth: int = 2, heads: int = 4) -> TextLM:
    """0.11 M parameters: width 64, 2 blocks."""
    return TextLM(len(tokenizer()), LENGTH, dim, depth, heads)


def draw_texts(batch: int, n: int = 30_000) -> Draw:
    """Rows of a corpus of n texts, other words hidden every time: {"tokens": (batch, L), "inputs": (batch, L)}."""
    rows = tokenizer().encode(corpus(n, 0))

    def draw(generator: Generator) -> Batch:
        found = trimmed(rows[torch.randint(n, (batch,), generator=generator)])
        inputs, targets, _ = corrupt(found, len(tokenizer()), generator, RATE)
        return {"tokens": targets, "inputs": inputs}

    return draw


# ---------------------------------------------------------------- what it has learnt


def linear_probe(x: Tensor, y: Tensor, others: Tensor, strength: float = 1e-4) -> Tensor:
    """Classes of `others` (M, D) by ridge regression on vectors x (N, D) of the classes y (N,) int64."""
    wide = lambda v: torch.cat([v, torch.ones(len(v), 1)], 1).double()
    design = wide(x)
    gram = design.T @ design + strength * len(x) * torch.eye(design.shape[1], dtype=torch.float64)
    return (wide(others) @ torch.linalg.solve(gram, design.T @ F.one_hot(y).double())).argmax(1)


def two_colours(n: int, seed: int, split: str) -> list[Prompt]:
    """n prompts of two shapes of different kinds and colours, related in any of four ways."""
    found = [p for p in RELATED.prompts(3 * n, seed, split) if len({g.kind for g in p.groups}) == 2]
    return [p for p in found if len({g.colour for g in p.groups}) == 2][:n]


def questions(prompts: Sequence[Prompt], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (n, L) in random wordings; places (n, 2) of the words for the two kinds and colours (n, 2).

    First of what is left of or above the other, wherever it is in the sentence.
    """
    rng, ids = Random(seed), tokenizer().ids
    rows = tokens([said(p, rng) for p in prompts])
    prompts = [p if p.relation in ("left of", "above") else p.turned() for p in prompts]
    places = [[row.index(ids[g.kind]) for g in p.groups] for row, p in zip(rows.tolist(), prompts)]
    return rows, torch.tensor(places), torch.tensor([[COLOURS.index(str(g.colour)) for g in p.groups] for p in prompts])


def bag(rows: Tensor) -> Tensor:
    """How often each word is in a text, (B, vocabulary): all that is said but for the order."""
    return F.one_hot(rows, len(tokenizer())).sum(1).float()


def probe_scores(model: TextLM, n: int = 3000, m: int = 1000) -> dict[str, float]:
    """Asked of the vectors of held-out contents by linear maps: whose colour, who is where; the same of a bag of words.

    A word's own vector, and a bag of words beside it, say as much of one object as of the other: a half is chance.
    """
    sides = [questions(two_colours(k, seed, split), seed) for k, seed, split in ((n, 0, "train"), (m, 1, "test"))]
    noun, beside, pooled, bags, colour, order = ([] for _ in range(6))
    for rows, places, colours in sides:
        said = model.encode(rows.to(model.bias.device))
        each, here = torch.arange(len(rows))[:, None], rows.gather(1, places)
        noun.append(said.context.cpu()[each, places].flatten(0, 1))  # (2n, dim)
        words = F.one_hot(here, len(tokenizer())).float()
        beside.append(torch.cat([words, bag(rows)[:, None].expand_as(words)], 2).flatten(0, 1))
        pooled.append(said.vector.cpu())  # type: ignore[union-attr]
        bags.append(bag(rows))
        colour.append(colours)
        order.append(torch.tensor([0, 1]).repeat(len(rows)))
    first, both = [c[:, 0] for c in colour], [c.flatten() for c in colour]
    asked = {
        "colour of an object, at its word": (noun, beside, both),
        "left or upper object or the other, at its word": (noun, beside, order),
        "colour of the left or upper object, pooled": (pooled, bags, first),
    }
    found = {}
    for name, (ours, control, answers) in asked.items():
        for whose, x in ((name, ours), (f"{name}, bag of words", control)):
            found[whose] = float((linear_probe(x[0], answers[0], x[1]) == answers[1]).double().mean())
    return found


def likeness(a: Encoded, b: Encoded) -> Tensor:
    """(B,): each token of one text finds the most similar of the other; their mean cosine (arXiv 2004.12832)."""
    cosines = F.normalize(a.context, dim=-1) @ F.normalize(b.context, dim=-1).transpose(1, 2)  # (B, La, Lb)
    assert a.mask is not None
    assert b.mask is not None
    for mask, shape in ((a.mask, (-1, a.mask.shape[1], 1)), (b.mask, (-1, 1, b.mask.shape[1]))):
        cosines = cosines.masked_fill(~mask.reshape(shape), -2.0)
    mean = lambda best, mask: (best * mask).sum(1) / mask.sum(1)
    return mean(cosines.amax(2), a.mask) + mean(cosines.amax(1), b.mask)


def nearer(model: TextLM, n: int = 1000) -> dict[str, float]:
    """How often a sentence is more like a paraphrase than like that paraphrase with its objects swapped.

    In a bag of words the two are the same, so that a half is chance.
    """
    prompts = two_colours(n, 2, "test")
    put = lambda ps, style: tokens([caption(p, style, Random(i)) for i, p in enumerate(ps)]).to(model.bias.device)
    rows = put(prompts, "short"), put(prompts, "paraphrase"), put([p.swapped() for p in prompts], "paraphrase")
    a, same, other = (model.encode(each) for each in rows)
    squares = lambda x, y: (x.vector - y.vector).square().sum(1)
    return {
        "a paraphrase is nearer than its swap, tokens": float((likeness(a, same) > likeness(a, other)).float().mean()),
        "a paraphrase is nearer than its swap, pooled": float((squares(a, same) < squares(a, other)).float().mean()),
    }


def masked_scores(model: TextLM, n: int = 1000) -> dict[str, float]:
    """Hidden words of held-out texts that are named; the control always names the most frequent word."""
    found = {}
    frequent = bag(tokenizer().encode(corpus(5000, 0, 0.0)))[:, N_SPECIALS:].sum(0).argmax() + N_SPECIALS
    for name, twice in (("said once", 0.0), ("said twice", 1.0)):
        rows = tokens(corpus(n, 1, twice, "test"))
        inputs, targets, chosen = corrupt(rows, len(tokenizer()), Generator().manual_seed(2), RATE, hidden=1, wrong=0)
        named = model.logits(model.features(inputs.to(model.bias.device))).argmax(-1).cpu()
        found[f"hidden words, {name}"] = float((named == targets)[chosen].float().mean())
        found[f"hidden words, {name}, the most frequent"] = float((targets == frequent)[chosen].float().mean())
    return found


@torch.no_grad()
def scores(model: TextLM) -> dict[str, float]:
    """All of the above, for the model and, with "untrained" behind the name, for its initial weights."""
    found, start = {}, MODEL.untrained().eval().to(model.bias.device)
    for measure in (masked_scores, probe_scores, nearer):
        found |= measure(model)
        new = {f"{k}, untrained": v for k, v in measure(start).items()}
        found |= {k: v for k, v in new.items() if "bag of words" not in k and "most frequent" not in k}
    return {name: round(value, 4) for name, value in found.items()}


MODEL = Shipped(
    name="text-lm", purpose="a frozen encoder of sentences that has read texts only", build=build,
    draw=lambda: draw_texts(32), steps=2400, scores=scores,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.99},
)  # fmt: skip
