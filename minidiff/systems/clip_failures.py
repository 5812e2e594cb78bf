"""What CLIP cannot tell apart: five failures on minimal pairs, and where what is lost is lost (chapter 12).

Two pictures, two captions, one difference: does each picture prefer its own caption? Of sprites at 64 px two CLIPs are
compared that had the same data, steps and seed, and differ in one thing: whether a caption and its swap ever stood in
one batch (`clip_sprites`). Of scenes at 16 px there is one that has read "no" and long captions (`clip_scenes`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from minidiff.data.captions import caption, captions
from minidiff.data.prompts import LECTURE, Prompt, World, minimal_pairs, place
from minidiff.data.scenes import KINDS, render
from minidiff.encoders.clip import CLIP, TextTower
from minidiff.judges.ranking import winoground
from minidiff.systems import clip_scenes, clip_sprites
from minidiff.systems.text_lm import linear_probe

Pairs = list[tuple[Prompt, Prompt]]


@dataclass(frozen=True)
class Side:
    """A world of pictures and what reads its captions."""

    world: World
    side: int
    tokens: Callable[[Sequence[str]], Tensor]


SPRITES = Side(clip_sprites.WORLD, clip_sprites.SIDE, clip_sprites.tokens)
SCENES = Side(clip_scenes.WORLD, 16, clip_scenes.tokens)
ARMS = {"plain": (clip_sprites.PLAIN, SPRITES), "hard negatives": (clip_sprites.MODEL, SPRITES)}
"""The same pictures, captions, steps and seed."""
BESIDES = {"scenes": (clip_scenes.MODEL, SCENES), "scenes, hard negatives": (clip_scenes.HARD, SCENES)}
PANELS = {
    "relation": "who is on the left, above …",
    "negation": "and a dog / and no dog",
    "count": "two cats / three cats",
    "length": "the last object, named behind the 77th token",
    "attribute": "which colour is whose",
    "detail": "one object of three, in a short caption",
    "surrounding": "who is around whom",
}

SHOWN = {64: ("relation", "negation", "count", "detail", "surrounding"),
         16: ("relation", "negation", "count", "length", "attribute", "detail")}  # fmt: skip
"""Which panels a world can show, by the side of its pictures: sprites have no colours and short captions."""


def pairs(panel: str, n: int, on: Side, seed: int = 0) -> Pairs:
    """n minimal pairs of one of `PANELS`, at least one of each two held out. `ValueError` if there are not so many."""
    failure, found = "length" if panel == "detail" else panel, Pairs()
    for i in range(200):
        drawn = minimal_pairs(failure, n, seed + i, on.world)
        found += [pair for pair in drawn if "test" in {on.world.split_of(prompt) for prompt in pair}]
        if len(found) >= n:
            return found[:n]
    raise ValueError(f"panel: got {panel!r} with n = {n}, expected at most {len(found)}, all that were found")


def written(prompts: Sequence[Prompt], panel: str) -> list[str]:
    return captions(prompts, "long" if panel == "length" else "short")


@torch.no_grad()
def similarities(model: CLIP, found: Pairs, panel: str, on: Side, seed: int = 0) -> Tensor:
    """(N, 2, 2): the cosine of picture a of each pair with caption b."""
    device = model.log_scale.device
    seen = [model.encode_image(render(place([p[i] for p in found], seed + i), on.side).to(device)) for i in (0, 1)]
    said = [model.encode_text(on.tokens(written([p[i] for p in found], panel)).to(device)) for i in (0, 1)]
    return torch.einsum("and,bnd->nab", torch.stack(seen), torch.stack(said)).cpu()


def told_apart(model: CLIP, panel: str, on: Side, n: int = 400) -> dict[str, float]:
    """Of n pairs: how often a picture prefers its own caption (chance 1/2), and Winoground's three scores."""
    scores = similarities(model, pairs(panel, n, on), panel, on)
    right = torch.stack([scores[:, 0, 0] > scores[:, 0, 1], scores[:, 1, 1] > scores[:, 1, 0]]).float().mean()
    return {"choice": float(right)} | {k: float(v.float().mean()) for k, v in winoground(scores).items()}


def lecture_pair(model: CLIP, n: int = 100) -> dict[str, float]:
    """The lecture's own two captions over n pictures of each."""
    a, b = (LECTURE[name] for name in ("plants surrounding a lightbulb", "a lightbulb surrounding plants"))
    scores = similarities(model, [(a, b)] * n, "surrounding", SPRITES)
    return {k: float(v.float().mean()) for k, v in winoground(scores).items()}


# ---------------------------------------------------------------- where it is lost


def side_by_side(n: int, seed: int, on: Side, split: str) -> list[Prompt]:
    """n prompts of two different kinds that stand beside or above one another."""
    prompts = replace(on.world, families=("relation",)).prompts(3 * n, seed, split)
    return [p for p in prompts if p.groups[0].kind != p.groups[1].kind][:n]


RELATION, WHO = "the relation, at the second noun", "who is on the left, pooled"


@torch.no_grad()
def probed(tower: TextTower, on: Side, n: int = 3000, tests: int = 1000, skip: int = 0) -> dict[str, float]:
    """Two linear probes of a text tower, each beside what a bag of the caption's words knows.

    RELATION at the second noun's token: is this object the left (or upper) one? One word, which came before, says so:
    a bag of words has it, and so the probe asks whether that word has reached the token. WHO, of the pooled vector:
    which kind is on the left (or above)? Words without their order leave two to choose from. skip: the tower's last
    blocks are left out at the noun.
    """
    made = {}
    for split, count, seed in (("train", n, 0), ("test", tests, 1)):
        prompts = side_by_side(count, seed, on, split)
        tokens = on.tokens([caption(p) for p in prompts])
        end = tower.first_end(tokens)
        bag = torch.zeros(len(tokens), tower.vocab).scatter_(1, tokens, 1.0)
        turned = torch.tensor([int(p.relation in ("right of", "below")) for p in prompts])
        left = [p.groups[int(second)] for p, second in zip(prompts, turned)]
        kinds = torch.tensor([KINDS.index(group.kind) for group in left])
        noun = tower.features(tokens, skip)[torch.arange(len(tokens)), end - 1]  # stands before END
        made[split] = {RELATION: (noun, turned), WHO: (tower(tokens), kinds)}
        made[split] |= {f"{RELATION}, bag of words": (bag, turned), f"{WHO}, bag of words": (bag, kinds)}
    found = {}
    for name, (x, y) in made["train"].items():
        others, answers = made["test"][name]
        found[name] = float((linear_probe(x, y, others) == answers).float().mean())
    return found


def nearer(encode: Callable[[list[str]], Tensor], n: int = 300, seed: int = 3) -> dict[str, float]:
    """Of n held-out captions of two shapes, how often a paraphrase is nearer than the caption of another scene.

    encode: texts → unit vectors. swap: the objects have traded places. negation: "and a star" has become "and no star".
    A paraphrase says the same in other words, and most of the words of the other captions are the same.
    """
    rng, found = Random(seed), {}
    for panel, name in (("relation", "swap"), ("negation", "negation")):
        asked = pairs(panel, n, SCENES, seed)
        said = encode([caption(a) for a, _ in asked])
        same = encode([caption(a, "paraphrase", rng) for a, _ in asked])
        other = encode([caption(b) for _, b in asked])
        near, far = (said * same).sum(1), (said * other).sum(1)
        found[f"nearer than its {name}"] = float((near > far).float().mean())
        found[f"cosine with its {name}"] = float(far.mean())
    return found


@torch.no_grad()
def cut_equal(tower: TextTower, n: int = 50) -> float:
    """Of pairs of long captions that differ behind token 77 alone: the share whose embeddings are equal to the bit."""
    found = pairs("length", n, SCENES)
    a, b = (tower(SCENES.tokens(written([p[i] for p in found], "length"))) for i in (0, 1))
    return float((a == b).all(1).float().mean())


def all_scores(n: int = 400) -> dict[str, float]:
    """Every panel of every arm that its world can show."""
    found = {}
    for name, (shipped, on) in (ARMS | BESIDES).items():
        model = shipped.load()
        for panel in PANELS:
            if panel in SHOWN[on.side]:
                found |= {f"{name}, {panel}, {k}": round(v, 4) for k, v in told_apart(model, panel, on, n).items()}
    return found
