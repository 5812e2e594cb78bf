"""Where the objects of a prompt stand: at random lattice places that relation, numbers and sizes allow.

Draws are whole numbers, choices and samples only: `exact_scenes` walks through every one there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiff.data.prompts import Prompt

SIDEWAYS = ("left of", "right of", "above", "below")
_QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def arranged(prompt: Prompt, rng: Random) -> list[tuple[str, str | None, str, int, int]]:
    """One scene as objects (kind, colour, size, row, column), the first drawn first."""
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
    elif prompt.relation:
        places = _facing(prompt.relation, [group.count for group in prompt.groups], rng)
    else:
        corners = rng.sample(_QUADRANTS, len(singles))
        places = [(3 + 8 * r + rng.randint(0, 1), 3 + 8 * c + rng.randint(0, 1)) for r, c in corners]
    return [(g.kind, g.colour, g.size, row, column) for g, (row, column) in zip(singles, places)]


def _turned(relation: str, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(along, across) as (row, column)."""
    return [(across, along) if relation in ("left of", "right of") else (along, across) for along, across in places]


def _beside(relation: str, rng: Random) -> list[tuple[int, int]]:
    """Two places, the first `relation` the second: 7 to 9 cells apart one way, at most 2 the other."""
    near, far = rng.randint(3, 4), rng.randint(11, 12)
    across = rng.randint(6, 9)
    also = across + rng.randint(-1, 1)
    first, second = (near, far) if relation in ("left of", "above") else (far, near)
    return _turned(relation, [(first, across), (second, also)])


def _facing(relation: str, counts: Sequence[int], rng: Random) -> list[tuple[int, int]]:
    """Places of two and one, one and two, or two and two: any two that face are further apart along than across."""
    if 1 in counts:
        near, far = rng.randint(3, 4), rng.randint(11, 12)
        across = {1: [rng.randint(7, 8)], 2: [rng.randint(3, 4), rng.randint(11, 12)]}
    else:
        near, far, top = 3, rng.randint(11, 12), rng.randint(3, 5)
        across = {2: [top, top + 7]}
    lines = (near, far) if relation in ("left of", "above") else (far, near)
    return _turned(relation, [(line, place) for line, count in zip(lines, counts) for place in across[count]])


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
