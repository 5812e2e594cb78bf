"""Prompts: what a scene is to show, before it has a place or words. `place` makes scenes of them, `captions` sentences.

A prompt is up to four groups of like objects, perhaps a relation of the first group to the second, perhaps something
that must be absent. Each can be drawn so that the picture shows it; what cannot is refused. Training and test prompts
are split by *content* (`Prompt.content`: which groups, whatever their sizes, places and relation), so that a held-out
combination is never drawn in training, in no arrangement.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from torch import Generator

from minidiff.data.places import SIDEWAYS, arranged
from minidiff.data.scenes import COLOURS, GROUNDS, KINDS, MAX_OBJECTS, SHAPES, SIZES, Scenes, assemble
from minidiff.randomness import python_random
from minidiff.validate import integer, require

RELATIONS = (*SIDEWAYS, "surrounding", "riding")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
FAMILIES = ("empty", "one", "relation", "pair", "count", "counts", "several", "negation", "surrounding", "sizes")
"""empty picture; one object; two with a relation; two without; 2–4 alike; two counts; 3–4 different; "and no …"; a ring
of three around one, or a large one behind up to three; one small or large object."""
SCENIC = ("riding", "snow")
"""Two more, for a `World` that names them: one on another's back; one, or two with a relation, in the snow."""
HOLLOW = ("circle", "square", "lightbulb", "house")
"""Kinds big enough inside to surround something."""
HELD_OUT = 10
"""One content in so many belongs to the test split."""


@dataclass(frozen=True)
class Group:
    """`count` ≥ 1 objects of one kind (of KINDS), colour (of COLOURS; None for sprites) and size (of SIZES)."""

    kind: str
    colour: str | None = None
    size: str = "medium"
    count: int = 1

    def __post_init__(self):
        require(self.kind in KINDS, "kind", repr(self.kind), f"one of {KINDS}")
        named = self.colour in COLOURS if self.kind in SHAPES else self.colour is None
        require(named, "colour", repr(self.colour), f"one of {COLOURS} for a shape, None for a sprite")
        require(self.size in SIZES, "size", repr(self.size), f"one of {SIZES}")
        object.__setattr__(self, "count", integer("count", self.count))

    @property
    def look(self) -> tuple[str, str | None]:
        """What a picture shows of it, whatever its size and number."""
        return self.kind, self.colour


@dataclass(frozen=True)
class Prompt:
    """groups[0] stands in `relation` to groups[1]; `absent` (a kind) must not be there; ground "plain" or "snow".

    A large object stands alone or surrounds others. Left of, right of, above, below take one or two on either side,
    riding one. Surrounding are three small ones, around a small one; or a large one of a kind in HOLLOW, behind one to
    three small ones that can be seen before it. `ValueError` for everything else.
    """

    groups: tuple[Group, ...] = ()
    relation: str | None = None
    absent: str | None = None
    ground: str = "plain"

    def __post_init__(self):
        object.__setattr__(self, "groups", tuple(self.groups))
        total = sum(group.count for group in self.groups)
        require(total <= MAX_OBJECTS, "groups", f"{total} objects", f"at most {MAX_OBJECTS}")
        require(self.relation in (None, *RELATIONS), "relation", repr(self.relation), f"one of {RELATIONS} or None")
        require(self.relation is None or len(self.groups) == 2, "groups", len(self.groups), "2 with a relation")
        kinds = [group.kind for group in self.groups]
        fits = self.absent is None or (self.absent in KINDS and self.absent not in kinds)
        require(fits, "absent", repr(self.absent), f"None, or one of {KINDS} but none of {kinds}")
        require(self.ground in GROUNDS, "ground", repr(self.ground), f"one of {GROUNDS}")
        if self.relation == "surrounding":
            self._require_around(*self.groups)
        elif self.groups:
            most, largest = {None: MAX_OBJECTS, "riding": 1}.get(self.relation, 2), max(g.count for g in self.groups)
            require(largest <= most, "count", largest, f"at most {most} with the relation {self.relation!r}")
            alone = total == 1 or all(group.size != "large" for group in self.groups)
            require(alone, "size", f"'large' among {total} objects", "a large one alone, or surrounding others")

    def _require_around(self, outer: Group, inner: Group) -> None:
        """Three around one, or one behind up to three that differ from it."""
        counts, sizes = (outer.count, inner.count), (outer.size, inner.size)
        fits = counts in ((1, 1), (1, 2), (1, 3), (3, 1))
        require(fits, "count", f"{counts[0]} surrounding {counts[1]}", "1 surrounding 1 to 3, or 3 surrounding 1")
        expected = ("large" if outer.count == 1 else "small", "small")
        require(sizes == expected, "size", f"{sizes[0]} surrounding {sizes[1]}", " surrounding ".join(expected))
        if outer.count == 1:
            require(outer.kind in HOLLOW, "kind", f"{outer.kind!r} surrounding others", f"one of {HOLLOW}")
            seen = outer.colour != inner.colour if outer.kind in SHAPES else outer.kind != inner.kind
            require(seen, "groups", f"{inner.look} before {outer.look}", "another colour, or another sprite")

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
        require(len(self.groups) == 2, "groups", len(self.groups), "2, to trade places")
        a, b = self.groups
        if self.relation == "surrounding":  # one around others is large, several around one are small
            a, b = replace(a, size="small"), replace(b, size="large" if b.count == 1 else "small")
        return replace(self, groups=(b, a))


@dataclass(frozen=True)
class World:
    """Which prompts are drawn: from which kinds, colours and families (all equally likely; one named twice, twice as).

    A world to learn live is a small one: World(kinds=SHAPES[:3], colours=COLOURS[:4], families=("one",)).
    """

    kinds: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    families: tuple[str, ...] = FAMILIES

    def __post_init__(self):
        for name, known in (("kinds", KINDS), ("colours", COLOURS), ("families", FAMILIES + SCENIC)):
            values = getattr(self, name)
            require(bool(values) and set(values) <= set(known), name, values, f"some of {known}")

    def prompts(self, n: int, generator: Generator | int, split: str | None = None) -> list[Prompt]:
        """n random prompts; `split` "train" or "test" keeps to that side, None takes both."""
        require(split in (None, "train", "test"), "split", repr(split), "'train', 'test' or None")
        n, rng, found = integer("n", n, 0), python_random(generator), []
        for _ in range(1000 * (n + 1)):
            if len(found) == n:
                return found
            prompt = _draw(self, rng)
            if split is None or split == self.split_of(prompt):
                found.append(prompt)
        raise ValueError(f"split: got {split!r}, of which this small world holds nothing, expected a larger world")

    def split_of(self, prompt: Prompt) -> str:
        """The side of this world that `prompt` is on, "train" or "test"."""
        return prompt.split

    def group(self, rng: Random, other_than: Iterable[tuple[str, str | None]] = (), **given) -> Group:
        """A random group, none of those looks (kind, colour)."""
        taken = set(other_than)
        kinds = [given["kind"]] if "kind" in given else self.kinds
        free = {k: [c for c in (self.colours if k in SHAPES else (None,)) if (k, c) not in taken] for k in kinds}
        kinds = [kind for kind, colours in free.items() if colours]
        require(bool(kinds), "kinds, colours", (self.kinds, self.colours), "a world with more kinds or colours")
        kind = rng.choice(kinds)
        return Group(kind, rng.choice(free[kind]), given.get("size", "medium"), given.get("count", 1))


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
    if family == "snow" and rng.random() < 0.5:
        return Prompt((a,), ground="snow")
    b = world.group(rng, [a.look])
    if family == "riding":
        return Prompt((a, b), "riding")
    if family in ("relation", "snow"):
        return Prompt((a, b), rng.choice(SIDEWAYS), ground="snow" if family == "snow" else "plain")
    if family == "pair":
        return Prompt((a, b))
    if family == "counts":
        count = rng.randint(2, 3)
        return Prompt((replace(a, count=count), replace(b, count=rng.randint(1, MAX_OBJECTS - count))))
    if family == "several":
        c = world.group(rng, [a.look, b.look])
        return Prompt((a, b, c) if rng.random() < 0.5 else (a, b, c, world.group(rng, [a.look, b.look, c.look])))
    groups = (a,) if rng.random() < 0.5 else (a, b)
    others = [kind for kind in world.kinds if kind not in {group.kind for group in groups}]
    if not others:  # the world has no third kind
        groups, others = (a,), [kind for kind in world.kinds if kind != a.kind]
    require(bool(others), "kinds", world.kinds, "two, so that one can be absent")
    return Prompt(groups, absent=rng.choice(others))


def surrounding(world: World, rng: Random) -> Prompt:
    """Three small ones in a ring around one, or a large one behind one to three small ones."""
    inner = world.group(rng, size="small")
    if _hollow(world, inner.look) and len(world.colours) > 1 and rng.random() < 0.5:
        outer = behind(world, inner, rng)
        return Prompt((outer, replace(inner, count=rng.randint(1, 3))), "surrounding")
    return Prompt((world.group(rng, [inner.look], size="small", count=3), inner), "surrounding")


def _hollow(world: World, inner: tuple[str, str | None]) -> list[str]:
    """The kinds of `world` that this look can be seen before: sprites but itself, shapes if of another colour."""
    seen = {kind: kind != inner[0] for kind in world.kinds}
    seen.update({kind: any(colour != inner[1] for colour in world.colours) for kind in SHAPES})
    return [kind for kind in world.kinds if kind in HOLLOW and seen[kind]]


def behind(world: World, inner: Group, rng: Random) -> Group:
    """A large group that `inner` can be seen in front of: of another colour."""
    kinds = _hollow(world, inner.look)
    expected = f"one of {HOLLOW} to stand behind {inner.look}"
    require(bool(kinds), "kinds, colours", (world.kinds, world.colours), expected)
    same = [(kind, inner.colour) for kind in SHAPES]
    return world.group(rng, same, kind=rng.choice(kinds), size="large")


def place(prompts: Sequence[Prompt], generator: Generator | int) -> Scenes:
    """One scene per prompt, its objects at random lattice places that the prompt allows."""
    rng = python_random(generator)
    return assemble([arranged(prompt, rng) for prompt in prompts], [prompt.ground for prompt in prompts])


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
    n, world, rng = integer("n", n, 0), world or World(), python_random(generator)
    shapes, told = {kind for kind in world.kinds if kind in SHAPES}, (world.kinds, world.colours)
    if failure == "attribute":
        require(min(len(shapes), len(set(world.colours))) >= 2, "world", told, "two shapes and two colours")
    if failure == "surrounding":
        looks = [(kind, c) for kind in world.kinds for c in (world.colours if kind in SHAPES else (None,))]
        found = any(_hollow(world, look) for look in looks)
        require(found, "world", told, f"something to stand before one of {HOLLOW}")
    return [_pair(failure, world, rng) for _ in range(n)]


def _pair(failure: str, world: World, rng: Random) -> tuple[Prompt, Prompt]:
    a = world.group(rng)
    b = world.group(rng, [(a.kind, colour) for colour in (*COLOURS, None)])  # of another kind
    if failure == "relation":
        prompt = Prompt((a, b), rng.choice(SIDEWAYS))
        return prompt, prompt.swapped()
    if failure == "negation":
        return Prompt((a, b)), Prompt((a,), absent=b.kind)
    if failure == "count":
        fewer, more = sorted(rng.sample(range(1, MAX_OBJECTS + 1), 2))
        return Prompt((replace(a, count=fewer),)), Prompt((replace(a, count=more),))
    if failure == "length":
        c = world.group(rng, [a.look, b.look])
        return Prompt((a, b, c)), Prompt((a, b, world.group(rng, [a.look, b.look, c.look])))
    if failure == "surrounding":
        while not _hollow(world, b.look):
            b = world.group(rng)
        prompt = Prompt((behind(world, b, rng), replace(b, size="small", count=3)), "surrounding")
        return prompt, prompt.swapped()
    shapes = [kind for kind in world.kinds if kind in SHAPES]
    a, b = (world.group(rng, [g.look], kind=rng.choice(shapes)) for g in (b, a))
    while a.colour == b.colour or a.kind == b.kind:
        b = world.group(rng, [a.look], kind=rng.choice(shapes))
    return Prompt((a, b)), Prompt((replace(a, colour=b.colour), replace(b, colour=a.colour)))
