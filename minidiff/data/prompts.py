"""Prompts: what a scene is to show, before it has a place or words. `place` makes scenes of them, `captions` sentences.

A prompt is up to four groups of like objects, perhaps a relation of the first group to the second, perhaps something
that must be absent. Training and test prompts are split by *content* (`Prompt.content`: which groups, whatever their
sizes, places and relation), so that a held-out combination is never drawn in training, in no arrangement.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Generator

from minidiff.data.scenes import COLOURS, KINDS, MAX_OBJECTS, SHAPES, Scenes, assemble
from minidiff.validate import require

SIDEWAYS = ("left of", "right of", "above", "below")
RELATIONS = (*SIDEWAYS, "surrounding", "riding")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
FAMILIES = ("empty", "one", "relation", "pair", "count", "counts", "several", "negation", "surrounding", "sizes")
"""empty picture; one object; two with a relation; two without; 2–4 alike; two counts; 3–4 different; "and no …"; a ring
of three around one, or a large one behind up to three; one small or large object."""
HOLLOW = ("circle", "square", "lightbulb", "house")
"""Kinds big enough inside to surround something."""
HELD_OUT = 10
"""One content in so many belongs to the test split."""


@dataclass(frozen=True)
class Group:
    """`count` objects of one kind (of KINDS), colour (of COLOURS; None for sprites) and size (of SIZES)."""

    kind: str
    colour: str | None = None
    size: str = "medium"
    count: int = 1


@dataclass(frozen=True)
class Prompt:
    """groups[0] stands in `relation` to groups[1]; `absent` (a kind) must not be there; ground "plain" or "snow"."""

    groups: tuple[Group, ...] = ()
    relation: str | None = None
    absent: str | None = None
    ground: str = "plain"

    def __post_init__(self):
        total = sum(group.count for group in self.groups)
        require(total <= MAX_OBJECTS, "groups", f"{total} objects", f"at most {MAX_OBJECTS}")
        require(self.relation in (None, *RELATIONS), "relation", repr(self.relation), f"one of {RELATIONS} or None")
        require(self.relation is None or len(self.groups) == 2, "groups", len(self.groups), "2 with a relation")
        for group in self.groups:
            require(group.kind in KINDS, "kind", repr(group.kind), f"one of {KINDS}")
            named = group.colour in COLOURS if group.kind in SHAPES else group.colour is None
            require(named, "colour", repr(group.colour), f"one of {COLOURS} for a shape, None for a sprite")
        kinds = [group.kind for group in self.groups]
        require(self.absent is None or self.absent not in kinds, "absent", repr(self.absent), f"none of {kinds}")

    @property
    def content(self) -> str:
        """Which kinds and colours, and how many of each, in a fixed order: what the splits go by."""
        return ", ".join(sorted(f"{group.count} {group.colour} {group.kind}" for group in self.groups))

    @property
    def split(self) -> str:
        return "test" if zlib.crc32(self.content.encode()) % HELD_OUT == 0 and self.groups else "train"

    def turned(self) -> "Prompt":
        """The same scene seen from the other object: "a left of b" as "b right of a"."""
        require(self.relation in OPPOSITE, "relation", repr(self.relation), f"one of {SIDEWAYS}")
        return replace(self, groups=self.groups[::-1], relation=OPPOSITE[str(self.relation)])

    def swapped(self) -> "Prompt":
        """The minimal pair: the same groups, trading places around the relation."""
        a, b = self.groups
        if self.relation == "surrounding":  # one around others is large, several around one are small
            a, b = replace(a, size="small"), replace(b, size="large" if b.count == 1 else "small")
        return replace(self, groups=(b, a))


@dataclass(frozen=True)
class World:
    """Which prompts are drawn: from which kinds, colours and families (all equally likely).

    A world to learn live is a small one: World(kinds=SHAPES[:3], colours=COLOURS[:4], families=("one",)).
    """

    kinds: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    families: tuple[str, ...] = FAMILIES

    def __post_init__(self):
        for name, known in (("kinds", KINDS), ("colours", COLOURS), ("families", FAMILIES)):
            values = getattr(self, name)
            require(bool(values) and set(values) <= set(known), name, values, f"some of {known}")

    def prompts(self, n: int, generator: Generator | int, split: str | None = None) -> list[Prompt]:
        """n random prompts; `split` "train" or "test" keeps to that side, None takes both."""
        require(split in (None, "train", "test"), "split", repr(split), "'train', 'test' or None")
        rng, found = _random(generator), []
        for _ in range(1000 * (n + 1)):
            if len(found) == n:
                return found
            prompt = _draw(self, rng)
            if split in (None, prompt.split):
                found.append(prompt)
        raise ValueError(f"split: got {split!r}, of which this small world holds nothing, expected a larger world")

    def group(self, rng: Random, other_than: Iterable[Group] = (), **given) -> Group:
        """A random group, of another kind or colour than those."""
        taken = {(group.kind, group.colour) for group in other_than}
        kinds = [given["kind"]] if "kind" in given else self.kinds
        free = {k: [c for c in (self.colours if k in SHAPES else (None,)) if (k, c) not in taken] for k in kinds}
        kinds = [kind for kind, colours in free.items() if colours]
        require(bool(kinds), "kinds, colours", (self.kinds, self.colours), "a world with more kinds or colours")
        kind = rng.choice(kinds)
        return Group(kind, rng.choice(free[kind]), given.get("size", "medium"), given.get("count", 1))


def _random(generator: Generator | int) -> Random:
    """Python's random numbers, seeded by an integer or by one draw from a torch generator."""
    if isinstance(generator, int):
        return Random(generator)
    return Random(int(torch.randint(2**62, (1,), generator=generator)))


def _draw(world: World, rng: Random) -> Prompt:
    family = rng.choice(world.families)
    if family == "empty":
        return Prompt()
    if family == "surrounding":
        return surrounding(world, rng)
    a = world.group(rng)
    if family == "one":
        return Prompt((a,))
    if family == "sizes":
        return Prompt((replace(a, size=rng.choice(("small", "large"))),))
    if family == "count":
        return Prompt((replace(a, count=rng.randint(2, MAX_OBJECTS)),))
    b = world.group(rng, [a])
    if family == "relation":
        return Prompt((a, b), rng.choice(SIDEWAYS))
    if family == "pair":
        return Prompt((a, b))
    if family == "counts":
        count = rng.randint(2, 3)
        return Prompt((replace(a, count=count), replace(b, count=rng.randint(1, MAX_OBJECTS - count))))
    if family == "several":
        c = world.group(rng, [a, b])
        return Prompt((a, b, c) if rng.random() < 0.5 else (a, b, c, world.group(rng, [a, b, c])))
    groups = (a,) if rng.random() < 0.5 else (a, b)
    others = [kind for kind in world.kinds if kind not in {group.kind for group in groups}]
    return Prompt(groups, absent=rng.choice(others)) if others else Prompt(groups)


def surrounding(world: World, rng: Random) -> Prompt:
    """Three small ones in a ring around one, or a large one behind one to three small ones."""
    inner = world.group(rng, size="small")
    hollow = [kind for kind in world.kinds if kind in HOLLOW and (kind in SHAPES or kind != inner.kind)]
    if hollow and len(world.colours) > 1 and rng.random() < 0.5:
        outer = behind(world, inner, rng)
        return Prompt((outer, replace(inner, count=rng.randint(1, 3))), "surrounding")
    return Prompt((world.group(rng, [inner], size="small", count=3), inner), "surrounding")


def behind(world: World, inner: Group, rng: Random) -> Group:
    """A large group that `inner` can be seen in front of: of another colour."""
    kinds = [kind for kind in world.kinds if kind in HOLLOW and (kind in SHAPES or kind != inner.kind)]
    same = [Group(kind, inner.colour) for kind in SHAPES]
    return world.group(rng, same, kind=rng.choice(kinds), size="large")


# ---------------------------------------------------------------- places

_QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def place(prompts: Sequence[Prompt], generator: Generator | int) -> Scenes:
    """One scene per prompt, its objects at random lattice places that the prompt allows."""
    rng = _random(generator)
    return assemble([arranged(prompt, rng) for prompt in prompts], [prompt.ground for prompt in prompts])


def arranged(prompt: Prompt, rng: Random) -> list[tuple[str, str | None, str, int, int]]:
    """One scene as objects (kind, colour, size, row, column). Places follow from relation, numbers and sizes alone.

    It may draw whole numbers, choices and samples only: `exact_scenes` walks through every draw there is.
    """
    singles = [group for group in prompt.groups for _ in range(group.count)]
    if prompt.relation == "surrounding":
        places = _around(prompt, rng)
    elif prompt.relation == "riding":
        row, column = rng.randint(10, 11), rng.randint(6, 9)
        places = [(row - 6, column + rng.randint(-1, 1)), (row, column)]
        # The rider is drawn last, in front of what it rides.
        singles, places = singles[::-1], places[::-1]
    elif len(singles) == 1:
        reach = 1 if singles[0].size == "large" else 3
        places = [(rng.randint(8 - reach, 7 + reach), rng.randint(8 - reach, 7 + reach))]
    elif len(singles) == 2:
        places = _beside(prompt.relation or rng.choice(SIDEWAYS), rng)
    else:
        corners = rng.sample(_QUADRANTS, len(singles))
        places = [(3 + 8 * r + rng.randint(0, 1), 3 + 8 * c + rng.randint(0, 1)) for r, c in corners]
    return [(g.kind, g.colour, g.size, row, column) for g, (row, column) in zip(singles, places)]


def _beside(relation: str, rng: Random) -> list[tuple[int, int]]:
    """Two places, the first `relation` the second: 7 to 9 cells apart one way, at most 2 the other."""
    near, far = rng.randint(3, 4), rng.randint(11, 12)
    across = rng.randint(6, 9)
    also = across + rng.randint(-1, 1)
    first, second = (near, far) if relation in ("left of", "above") else (far, near)
    if relation in ("left of", "right of"):
        return [(across, first), (also, second)]
    return [(first, across), (second, also)]


_INSIDE = {1: [(0, 0)], 2: [(0, -3), (0, 3)], 3: [(-3, 0), (2, -3), (2, 3)]}
_RING = [(-5, 0), (3, -5), (3, 5)]


def _around(prompt: Prompt, rng: Random) -> list[tuple[int, int]]:
    """The places of a `surrounding` prompt: the pattern turned by a multiple of 90° around a centre."""
    outer, inner = prompt.groups
    centre = rng.randint(7, 8), rng.randint(7, 8)
    offsets = [(0, 0), *_INSIDE[inner.count]] if outer.count == 1 else [*_RING, (0, 0)]
    turns = rng.randint(0, 3)
    for _ in range(turns):
        offsets = [(x, -y) for y, x in offsets]
    return [(centre[0] + y, centre[1] + x) for y, x in offsets]


# ---------------------------------------------------------------- prompts to know by name

LECTURE = {
    "plants surrounding a lightbulb": Prompt(
        (Group("plant", size="small", count=3), Group("lightbulb", size="small")), "surrounding"
    ),
    "a lightbulb surrounding plants": Prompt(
        (Group("lightbulb", size="large"), Group("plant", size="small", count=3)), "surrounding"
    ),
    "a cat in the snow": Prompt((Group("cat"),), ground="snow"),
    "an astronaut riding a horse": Prompt((Group("astronaut"), Group("horse")), "riding"),
}
"""The lecture's own prompts, from 32 px up."""

FAILURES = ("relation", "negation", "count", "length", "attribute")
"""What CLIP's text tower gets wrong: word order, "no", numbers, what comes after token 77, which colour is whose."""


def minimal_pairs(
    failure: str, n: int, generator: Generator | int, world: World | None = None
) -> list[tuple[Prompt, Prompt]]:
    """n pairs of prompts that differ in one thing only: of `FAILURES`, or "surrounding" (who is around whom).

    "length" pairs differ in their last object, which a long caption (`captions.caption`) names after token 77.
    """
    require(failure in (*FAILURES, "surrounding"), "failure", repr(failure), f"one of {(*FAILURES, 'surrounding')}")
    world, rng = world or World(), _random(generator)
    return [_pair(failure, world, rng) for _ in range(n)]


def _pair(failure: str, world: World, rng: Random) -> tuple[Prompt, Prompt]:
    a = world.group(rng)
    b = world.group(rng, [Group(a.kind, colour) for colour in (*COLOURS, None)])  # of another kind
    if failure == "relation":
        prompt = Prompt((a, b), rng.choice(SIDEWAYS))
        return prompt, prompt.swapped()
    if failure == "negation":
        return Prompt((a, b)), Prompt((a,), absent=b.kind)
    if failure == "count":
        fewer, more = sorted(rng.sample(range(1, MAX_OBJECTS + 1), 2))
        return Prompt((replace(a, count=fewer),)), Prompt((replace(a, count=more),))
    if failure == "length":
        c = world.group(rng, [a, b])
        return Prompt((a, b, c)), Prompt((a, b, world.group(rng, [a, b, c])))
    if failure == "surrounding":
        prompt = Prompt((behind(world, b, rng), replace(b, size="small", count=3)), "surrounding")
        return prompt, prompt.swapped()
    a, b = (world.group(rng, [g], kind=rng.choice(SHAPES)) for g in (b, a))
    while a.colour == b.colour or a.kind == b.kind:
        b = world.group(rng, [a], kind=rng.choice(SHAPES))
    return Prompt((a, b)), Prompt((replace(a, colour=b.colour), replace(b, colour=a.colour)))
