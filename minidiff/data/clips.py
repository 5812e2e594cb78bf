"""Clips: one or two objects that move, drawn so that what each of them does can be read back exactly.

A prompt says what a clip is to show, before anything has a place or words: one or two movers, each with a motion of its
own or both with one that they share. `place` gives them paths (`data.motions`), `render` draws all frames at once,
`clip_captions` finds the words, and `judges.clips.tracks` reads a clip back. Training and test prompts are split twice:
by *content*, which looks are shown together, as everywhere; and by *motion*, which look moves how. Of what is held out
by motion, a model has seen the look, and the motion, and never both at once.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.data.motions import (
    BEATS,
    FRAMES,
    INSTANTS,
    MOTIONS,
    TOGETHER,
    meetings,
    pairs,
    passes,
    paths,
    unhurried,
)
from minidiff.data.prompts import Group, Prompt, World
from minidiff.data.scenes import COLOURS, KINDS, LATTICE, MAX_OBJECTS, SHAPES, SIZES, Scenes, require_cells
from minidiff.data.scenes import render as render_scenes
from minidiff.randomness import python_random
from minidiff.validate import integer, require

MAX_MOVERS = 2
FAMILIES = ("one", "two", "passing", "meeting")
"""one mover; two, each with a motion of its own; one that passes behind or in front of another; two that meet, part."""
HELD_OUT = 10
"""One content in so many, and one look's motion in so many, belong to the test split."""
VARIED = 8
"""Two motions are drawn together only where they go together in so many ways."""
SPLITS = ("train", "test", "content", "motion")


@dataclass(frozen=True)
class Mover:
    """One object, of KINDS (sprites have colour None), and its motion, of MOTIONS; None where `together` says it."""

    kind: str
    colour: str | None = None
    motion: str | None = "still"

    def __post_init__(self):
        Group(self.kind, self.colour)  # its `ValueError` names what is wrong
        require(self.motion in (None, *MOTIONS), "motion", repr(self.motion), f"one of {MOTIONS}, or None")

    @property
    def look(self) -> tuple[str, str | None]:
        """What a frame shows of it."""
        return self.kind, self.colour


@dataclass(frozen=True)
class ClipPrompt:
    """One or two movers that differ in look. together: of TOGETHER, what the first does with the second, or None.

    With `together` the movers have no motions of their own (None), without it each has one. Shapes pass each other only
    in two colours: of one colour, nobody could say which is in front. `ValueError` otherwise.
    """

    movers: tuple[Mover, ...]
    together: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "movers", tuple(self.movers))
        n, looks = len(self.movers), {mover.look for mover in self.movers}
        require(1 <= n <= MAX_MOVERS, "movers", f"{n} of them", f"1 to {MAX_MOVERS}")
        require(len(looks) == n, "movers", "two of one look", "movers that differ in kind or colour")
        require(self.together in (None, *TOGETHER), "together", repr(self.together), f"one of {TOGETHER} or None")
        require(self.together is None or n == 2, "movers", n, "2 that do something together")
        motions = [mover.motion for mover in self.movers]
        fits = all((motion is None) == (self.together is not None) for motion in motions)
        require(fits, "motion", motions, "None with `together`, else a motion for each mover")
        alike = n == 2 and self.movers[0].colour == self.movers[1].colour is not None
        told = "of one colour, one behind the other"
        require(not (alike and self.together in TOGETHER[:2]), "movers", told, "two colours, to see who is in front")

    @property
    def prompt(self) -> Prompt:
        """What any single frame shows: the prompt of a picture."""
        return Prompt(tuple(Group(*mover.look) for mover in self.movers))

    @property
    def content(self) -> str:
        """Which looks are shown, in a fixed order: the content of `prompt`."""
        return ", ".join(sorted(f"1 {mover.colour} {mover.kind}" for mover in self.movers))

    @property
    def acts(self) -> list[str]:
        """Which look does what, whatever its speed: what the split by motion goes by."""
        if self.together is None:
            return [f"{m.colour} {m.kind} {unhurried(str(m.motion))}" for m in self.movers]
        doing = self.movers if self.together == "meeting" else self.movers[:1]
        return [f"{m.colour} {m.kind} {self.together}" for m in doing]

    @property
    def unseen(self) -> set[str]:
        """What of it never occurs in training: "content", "motion", both or neither."""
        found = {"content"} if _held_out(self.content) else set()
        return found | ({"motion"} if any(map(_held_out, self.acts)) else set())

    @property
    def split(self) -> str:
        return "test" if self.unseen else "train"

    def turned(self) -> "ClipPrompt":
        """The minimal pair: each of two movers does what the other did, or they trade roles in `together`."""
        require(len(self.movers) == 2, "movers", len(self.movers), "2, to trade what they do")
        a, b = self.movers
        if self.together:
            return replace(self, movers=(b, a))
        return replace(self, movers=(replace(a, motion=b.motion), replace(b, motion=a.motion)))


def _held_out(told: str) -> bool:
    return zlib.crc32(told.encode()) % HELD_OUT == 0


@dataclass(frozen=True)
class ClipWorld:
    """Which prompts are drawn: from which kinds, colours, motions and families (all equally likely), on which lattice.

    A world to learn live is a small one: ClipWorld(SHAPES[:3], COLOURS[:3], MOVING, ("one",)).
    """

    kinds: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    motions: tuple[str, ...] = MOTIONS
    families: tuple[str, ...] = FAMILIES
    cells: tuple[int, int] = (LATTICE, LATTICE)

    def __post_init__(self):
        every = {"kinds": KINDS, "colours": COLOURS, "motions": MOTIONS, "families": FAMILIES}
        for name, known in every.items():
            values = getattr(self, name)
            require(bool(values) and set(values) <= set(known), name, values, f"some of {known}")
        require_cells(self.cells)

    def prompts(self, n: int, generator: Generator | int, split: str | None = None) -> list[ClipPrompt]:
        """n random prompts. split: "train", "test", or only what is unseen by "content" or by "motion"; None: all."""
        require(split in (None, *SPLITS), "split", repr(split), f"one of {SPLITS} or None")
        n, rng, found = integer("n", n, 0), python_random(generator), []
        for _ in range(1000 * (n + 1)):
            if len(found) == n:
                return found
            prompt = self._draw(rng.choice(self.families), rng)
            if prompt is not None and (split is None or split == prompt.split or split in prompt.unseen):
                found.append(prompt)
        raise ValueError(f"split: got {split!r}, of which this small world holds nothing, expected a larger world")

    def _draw(self, family: str, rng: Random) -> ClipPrompt | None:
        """None where this world holds nothing of the family."""
        looks = World(self.kinds, self.colours)
        for _ in range(200):  # chance puts together what does not go together
            a = looks.group(rng)
            if family == "one":
                return ClipPrompt((Mover(*a.look, rng.choice(self.motions)),))
            b = looks.group(rng, [a.look])
            if family == "two":
                first, second = (rng.choice(self.motions) for _ in range(2))
                if len(pairs(first, second, self.cells)) >= VARIED:
                    return ClipPrompt((Mover(*a.look, first), Mover(*b.look, second)))
                continue
            together = "meeting" if family == "meeting" else rng.choice(TOGETHER[:2])
            if together == "meeting" or a.colour is None or a.colour != b.colour:
                return ClipPrompt((Mover(*a.look, None), Mover(*b.look, None)), together)
        return None


@dataclass(frozen=True)
class Clips:
    """B clips of T frames, their K ≤ 2 objects drawn from the first slot to the last. int64, on the CPU.

    kind, colour, size: (B, 2), indices into KINDS, COLOURS, SIZES; kind −1 is an empty slot, sprites have colour −1.
    row, column: (B, T, 2). cells: rows and columns of the lattice.
    """

    kind: Tensor
    colour: Tensor
    size: Tensor
    row: Tensor
    column: Tensor
    cells: tuple[int, int] = (LATTICE, LATTICE)

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def frames(self) -> int:
        return self.row.shape[1]

    def scenes(self) -> Scenes:
        """All frames of all clips, B·T scenes, those of the first clip first."""
        same = (v[:, None].expand(self.row.shape) for v in (self.kind, self.colour, self.size))
        columns = (*same, self.row, self.column)
        kind, colour, *rest = (self._slots(v, empty) for v, empty in zip(columns, (-1, -1, 0, 0, 0)))
        size, row, column = rest
        return Scenes(kind, colour, size, row, column, torch.zeros(len(kind), dtype=torch.int64))

    def _slots(self, values: Tensor, empty: int) -> Tensor:
        """(B, T, 2) → (B·T, 4), the slots of a scene."""
        return F.pad(values.flatten(0, 1), (0, MAX_OBJECTS - values.shape[-1]), value=empty)


def _arranged(prompt: ClipPrompt, cells: tuple[int, int], rng: Random) -> Tensor:
    """(2, 16, 2): a path for each mover, in their order; a lone mover's path twice."""
    if prompt.together == "meeting":
        ways = meetings(cells)
        return ways[rng.randrange(len(ways))]
    if prompt.together:
        ways = passes(cells)
        return ways[rng.randrange(len(ways))]
    motions = [str(mover.motion) for mover in prompt.movers]
    if len(motions) == 1:
        ways = paths(motions[0], cells=cells)
        return ways[rng.randrange(len(ways))].expand(2, -1, -1)
    both = pairs(*motions, cells)
    expected = f"two motions that leave each other room on {cells[0]} by {cells[1]} cells"
    require(len(both) > 0, "prompts", " and ".join(motions), expected)
    i, j = both[rng.randrange(len(both))].tolist()
    return torch.stack([paths(motions[0], cells=cells)[i], paths(motions[1], cells=cells)[j]])


def _drawn(prompt: ClipPrompt) -> list[tuple[int, int, int]]:
    """(kind, colour, size) of both slots: who meets or passes is small, all others are medium."""
    sizes = {"meeting": ("small", "small"), None: ("medium", "medium")}.get(prompt.together, ("small", "medium"))
    found = [
        (KINDS.index(m.kind), COLOURS.index(m.colour) if m.colour else -1, SIZES.index(size))
        for m, size in zip(prompt.movers, sizes)
    ]
    return found + [(-1, -1, 0)] * (2 - len(found))


def place(
    prompts: Sequence[ClipPrompt], generator: Generator | int, frames: int = 8,
    cells: tuple[int, int] = (LATTICE, LATTICE),
) -> Clips:  # fmt: skip
    """One clip per prompt, its objects on random paths that the prompt allows, as `frames` = 1, 8 or 16 show them.

    The same seed gives the same paths whatever `frames` is; a single frame is one of the 8, at random.
    `ValueError` for two motions that leave each other no room on `cells`.
    """
    require(frames in FRAMES, "frames", frames, f"one of {FRAMES}")
    require_cells(cells)
    rng, at, looks = python_random(generator), [], []
    for prompt in prompts:
        ways, instant = _arranged(prompt, cells, rng), 2 * rng.randrange(BEATS)
        ways = ways[:, instant : instant + 1] if frames == 1 else ways[:, :: INSTANTS // frames]
        # Who is passed in front is drawn first: later slots hide earlier ones.
        turn = slice(None, None, -1) if prompt.together == "passing in front of" else slice(None)
        at.append(ways.flip(0) if prompt.together == "passing in front of" else ways)
        looks.append(_drawn(prompt)[turn])
    kind, colour, size = torch.tensor(looks, dtype=torch.int64).reshape(-1, 2, 3).unbind(-1)
    places = torch.stack(at).transpose(1, 2) if at else torch.zeros(0, frames, 2, 2, dtype=torch.int64)
    return Clips(kind, colour, size, places[..., 0], places[..., 1], cells)


def render(clips: Clips, side: int = 16) -> Tensor:
    """Draw clips: (B, 3, T, H, W) float32 in [−1, 1]; `side` pixels the shorter way: 16 (shapes only), 32 or 64."""
    require(isinstance(clips, Clips), "clips", type(clips).__name__, "a Clips")
    x = render_scenes(clips.scenes(), side, clips.cells)
    return x.reshape(len(clips), clips.frames, *x.shape[1:]).transpose(1, 2).contiguous()
