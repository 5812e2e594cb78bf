"""Does the picture show what the caption says? GenEval's questions (arXiv 2310.11513), answered by reading the scene.

GenEval asks an object detector about one object, two objects, counting, colours, position and attribute binding.
Here `judges.scenes.parse` reads every object exactly, so that the same questions, and three more (negation,
surrounding, long captions), have answers without a detector's errors. An unreadable picture answers none right.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import atan2, pi, sqrt
from typing import Protocol

import torch
from torch import Generator, Tensor

from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import GROUNDS, LATTICE, RADIUS, Object, render
from minidiff.judges.scenes import Parsed, names, parse
from minidiff.validate import describe, require

CLEARLY = 3
"""Lattice cells by which one object must be to the left of (above …) another."""


Members = list[list[Object]]


def _assigned(prompt: Prompt, things: Sequence[Object]) -> Iterator[Members]:
    """Which things make up each group, by kind and colour; several ways where groups look alike. Others stay out."""
    fits = [[i for i, group in enumerate(prompt.groups) if thing[:2] == group.look] for thing in things]
    told = [(thing, where) for thing, where in zip(things, fits) if where]
    for chosen in product(*(where for _, where in told)):
        yield [[thing for (thing, _), c in zip(told, chosen) if c == i] for i in range(len(prompt.groups))]


def related(relation: str, first: Sequence[Object], second: Sequence[Object]) -> bool:
    """Does every one of `first` stand in `relation` to every one of `second`? Rows grow downwards.

    left of (right of, above, below): by at least 3 cells, and further that way than across. surrounding: one large
    object's extent holds the others' centres, or no half-plane through a centre is free of the ring around it.
    """
    if not first or not second:
        return False
    if relation == "surrounding":
        return all(_surrounded(first, b) for b in second)
    for *_, y1, x1 in first:
        for *_, y2, x2 in second:
            right, down = x2 - x1, y2 - y1
            if relation == "riding":
                if not (abs(right) <= 2 and CLEARLY <= down <= 7):
                    return False
                continue
            along, across = (right, down) if relation in ("left of", "right of") else (down, right)
            along = -along if relation in ("right of", "below") else along
            if along < CLEARLY or along <= abs(across):
                return False
    return True


def _surrounded(ring: Sequence[Object], inner: Object) -> bool:
    offsets = [(y - inner[3], x - inner[4]) for *_, y, x in ring]
    if len(ring) == 1:
        dy, dx = offsets[0]
        return ring[0][2] == "large" and inner[2] != "large" and max(abs(dy), abs(dx)) < RADIUS["large"] * LATTICE
    angles = sorted(atan2(dy, dx) for dy, dx in offsets)
    gaps = [b - a for a, b in zip(angles, [*angles[1:], angles[0] + 2 * pi])]
    return len(ring) >= 3 and max(gaps) < pi and inner[2] != "large"


def shows(prompt: Prompt, things: Sequence[Object], ground: str = "plain") -> bool:
    """The whole prompt: exactly its objects, with their colours and the sizes it names, its relation, its ground.

    Around something, "some" is three or more of the ring and one or more of what is inside.
    """
    if ground != prompt.ground or any(thing[0] == prompt.absent for thing in things):
        return False
    looks = {group.look for group in prompt.groups}
    return all(thing[:2] in looks for thing in things) and any(_fit(prompt, m) for m in _assigned(prompt, things))


def _fit(prompt: Prompt, members: Members) -> bool:
    some = prompt.relation == "surrounding"
    for group, found in zip(prompt.groups, members):
        enough = (len(found) > 1) == (group.count > 1) and bool(found) if some else len(found) == group.count
        sized = some or group.size == "medium" or all(thing[2] == group.size for thing in found)
        if not enough or not sized:
            return False
    return prompt.relation is None or related(prompt.relation, *members)


def matches(prompts: Sequence[Prompt], pictures: Tensor | Parsed) -> Tensor:
    """(B,) bool: which pictures show their prompts, wholly (`shows`). Unreadable pictures do not."""
    parsed = pictures if isinstance(pictures, Parsed) else parse(pictures)
    require(
        len(parsed.scenes) == len(prompts), "pictures", f"{len(parsed.scenes)} of them", f"{len(prompts)}, as prompts"
    )
    rows = zip(prompts, parsed.readable.tolist(), parsed.scenes.ground.tolist())
    return torch.tensor([ok and shows(p, parsed.scenes.objects(i), GROUNDS[g]) for i, (p, ok, g) in enumerate(rows)])


def objects_there(prompts: Sequence[Prompt], parsed: Parsed) -> float:
    """Of the objects named, the share (kind and colour) that is in the picture; none is in one that is unreadable.

    It rises long before `matches` does, and so tells apart generators that seldom get all of a prompt right.
    """
    there = named = 0
    for i, prompt in enumerate(prompts):
        wanted = Counter(group.look for group in prompt.groups)
        read = parsed.scenes.objects(i) if parsed.readable[i] else []
        there += (wanted & Counter(thing[:2] for thing in read)).total()
        named += wanted.total()
    return there / named


# ---------------------------------------------------------------- the questions

QUESTIONS = (
    "one object", "two objects", "counting", "colours", "position", "attribute binding", "negation", "surrounding",
    "long captions",
)  # fmt: skip
"""The first six are GenEval's."""

FAMILY_OF = {
    "one object": "one", "two objects": "pair", "counting": "count", "colours": "one", "position": "relation",
    "attribute binding": "pair", "negation": "negation", "surrounding": "surrounding", "long captions": "several",
}  # fmt: skip
"""Which family of prompts a question is asked of."""


def answer(question: str, prompt: Prompt, things: Sequence[Object]) -> bool:
    """One question about one picture. As in GenEval, each asks for its own thing only: kinds, not colours, for
    "one object" and "two objects"; kind and colour for "colours" and "attribute binding"; numbers for "counting"."""
    require(question in QUESTIONS, "question", repr(question), f"one of {QUESTIONS}")
    if question in ("one object", "two objects"):
        wanted = Counter(group.kind for group in prompt.groups)
        return not wanted - Counter(thing[0] for thing in things)
    if question in ("surrounding", "long captions"):
        return shows(prompt, things)
    ways = list(_assigned(prompt, things))
    if question == "counting":
        return any(all(len(found) == group.count for found, group in zip(way, prompt.groups)) for way in ways)
    if question == "position":
        return any(related(str(prompt.relation), *way) for way in ways)
    there = any(all(way) for way in ways)
    return there and (question != "negation" or all(thing[0] != prompt.absent for thing in things))


@dataclass(frozen=True)
class Score:
    """right of asked, and Wilson's 95 % interval of the share."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927): unlike share ± 1.96·√(p(1−p)/n) it stays in [0, 1] and is not empty at 0 or 1."""
        n, p, z = self.asked, self.share, 1.959964
        centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True)
class Scorecard:
    """scores: by question. failures: by question, (caption, what was read, picture (3, S, S)) of up to 8 pictures."""

    scores: Mapping[str, Score]
    failures: Mapping[str, list[tuple[str, str, Tensor]]]

    def __str__(self) -> str:
        width = max(map(len, self.scores))
        return "\n".join(f"{question:{width}}  {score}  (n = {score.asked})" for question, score in self.scores.items())


class Generate(Protocol):
    """What everything that makes pictures of texts can be asked: `generate(texts, w, seeds)` → (B, C, H, W) in [−1, 1].

    w: guidance strength, 0 for the plain conditional. seeds: one per picture, which depends on nothing else.
    """

    def __call__(self, texts: Sequence[str], w: float, seeds: Sequence[int], /) -> Tensor: ...


def scorecard(
    generate: Generate, world: World, w: float = 0.0, n: int = 100, generator: Generator | int = 0,
    split: str | None = "test", questions: Sequence[str] = QUESTIONS,
) -> Scorecard:  # fmt: skip
    """Ask `generate` n prompts per question, from `split` of `world`, with the seeds 0 … n − 1."""
    require(n > 0, "n", n, "a positive number of prompts")
    scores, failures = {}, {}
    for question in questions:
        require(question in QUESTIONS, "questions", repr(question), f"some of {QUESTIONS}")
        asked = replace(world, families=(FAMILY_OF[question],)).prompts(n, generator, split)
        texts = captions(asked, "long" if question == "long captions" else "short")
        pictures = generate(texts, w, range(n))
        require(len(pictures) == n, "generate", describe(pictures), f"{n} pictures")
        read = parse(pictures)
        right = [
            ok and answer(question, p, read.scenes.objects(i))
            for i, (p, ok) in enumerate(zip(asked, read.readable.tolist()))
        ]
        scores[question] = Score(sum(right), n)
        told = names(read.scenes)
        wrong = [i for i in range(n) if not right[i]][:8]
        failures[question] = [
            (texts[i], ", ".join(told[i]) if read.readable[i] else "unreadable", pictures[i]) for i in wrong
        ]
    return Scorecard(scores, failures)


def shares(
    generate: Generate, world: World, w: float = 0.0, n: int = 300, split: str | None = "test", seed: int = 0
) -> dict[str, tuple[Score, Score]]:
    """By family of `world`: how many of n pictures show their short caption wholly, and how many show the next one's.

    The second is the control: what a generator scores that does not listen. Pictures have the seeds 0 … n − 1.
    """
    found = {}
    for family in world.families:
        prompts = replace(world, families=(family,)).prompts(n, seed, split)
        read = parse(generate(captions(prompts), w, range(n)))
        right, other = (int(matches(asked, read).sum()) for asked in (prompts, prompts[1:] + prompts[:1]))
        found[family] = Score(right, n), Score(other, n)
    return found


def oracle(side: int = 16, generator: Generator | int = 1) -> Callable[[list[Prompt]], Tensor]:
    """Pictures that are right by construction: what a perfect generator would draw for these prompts."""
    return lambda prompts: render(place(prompts, generator), side)
