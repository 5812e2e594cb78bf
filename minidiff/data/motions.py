"""Motions: every path that an object of a clip can take, listed.

Time is counted in beats. A clip lasts 8 of them, however many frames show it: frame t of T is the world at beat 8t/T,
so that every second frame of a clip of 16 is the same clip in 8. Places are whole cells of the scene's lattice. The
paths are finitely many, then: which two keep clear of each other is found by comparing all with all, once, and a path
is read back (`judges.clips`) by comparing it with all of them.
"""

from functools import cache, lru_cache

import torch
from torch import Tensor

from minidiff.data.scenes import SIZES, margin, require_cells
from minidiff.validate import require

BEATS = 8
FRAMES = (1, 8, 16)
"""How many frames a clip may have."""
INSTANTS = 16
"""A path is listed at every half beat."""
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""(rows, columns); row 0 is on top."""
SPEEDS = {"slowly": 0.5, "quickly": 1.0}
"""Cells per beat of what moves straight on."""
BOUNCE, PASS, RADIUS = 2.0, 1.5, 3
"""Cells per beat of what bounces and of what passes another; cells from the centre of what circles, once in 8 beats."""
MOVING = tuple(f"moving {way} {speed}" for way in DIRECTIONS for speed in SPEEDS)
BOUNCING = ("bouncing from side to side", "bouncing up and down")
CIRCLING = ("circling clockwise", "circling anticlockwise")
MOTIONS = ("still", *MOVING, *BOUNCING, *CIRCLING)
"""What one object can do by itself."""
PASSING = tuple(f"passing {way}" for way in DIRECTIONS)
RETURNING = tuple(f"out and back {way}" for way in DIRECTIONS)
"""What an object does that passes a still one, and each of two that meet and part."""
TOGETHER = ("passing behind", "passing in front of", "meeting")
"""What two objects can do together."""
CLEAR = 5
"""Two medium objects so many cells apart, one way or the other, do not touch; nor do they at (4, 4)."""
NEAR = 5
"""Two small objects meet when their centres come this near."""

_TIMES = torch.arange(INSTANTS) * (BEATS / INSTANTS)


def direction(motion: str) -> str | None:
    """The "left", "right", "up" or "down" of a motion that has one."""
    return next((way for way in DIRECTIONS if motion in (f"passing {way}", f"out and back {way}")), None) or next(
        (way for way in DIRECTIONS if motion.startswith(f"moving {way}")), None
    )


def unhurried(motion: str) -> str:
    """A motion without its speed: "moving left slowly" → "moving left"."""
    return motion.removesuffix(" slowly").removesuffix(" quickly")


def _patterns(motion: str, cells: tuple[int, int], least: int) -> Tensor:
    """(P, 16, 2): the ways a motion can go, as offsets in cells from wherever it begins."""
    if motion == "still":
        return torch.zeros(1, INSTANTS, 2, dtype=torch.int64)
    if motion in BOUNCING:
        return _bounces(BOUNCING.index(motion) == 0, cells, least)
    if motion in CIRCLING:
        turn = 1 if motion == "circling clockwise" else -1  # rows grow downwards
        angle = torch.pi / 4 * (torch.arange(8)[:, None] + turn * _TIMES)
        # Not a tie anywhere: 3·cos of a multiple of 22.5° is 0, 1.15, 2.12, 2.77 or 3.
        return torch.stack([(RADIUS * angle.sin()).round(), (RADIUS * angle.cos()).round()], -1).long()
    step = torch.tensor(DIRECTIONS[str(direction(motion))])
    if motion in RETURNING:
        gone = torch.minimum(_TIMES, BEATS - 1 - _TIMES).clamp(0, RADIUS).floor()[None]
    else:
        speed = PASS if motion in PASSING else SPEEDS[motion.split()[-1]]
        # Half a cell takes two beats: it may begin in the middle of them.
        begins = torch.tensor([[0.0]] if speed == 1 else [[0.0], [0.5]])
        gone = (speed * _TIMES + begins).floor()
    return gone.long()[..., None] * step


def _bounces(sideways: bool, cells: tuple[int, int], least: int) -> Tensor:
    """To and fro between the walls, from every place and both ways that show it: two beats before a turn, two after."""
    length = cells[1 if sideways else 0] - 1 - 2 * least
    begins = torch.arange(2 * length)
    far = (length - begins) % length  # cells up to the first turn
    shown = (far[:, None] + length * torch.arange(2) - 2 * BOUNCE).clamp(min=-1)
    begins = begins[((shown >= 0) & (shown <= BOUNCE * (BEATS - 1 - 4))).any(1)]
    along = length - ((begins[:, None] + BOUNCE * _TIMES) % (2 * length) - length).abs()
    across = torch.zeros_like(along)
    return torch.stack([across, along] if sideways else [along, across], -1).long()


@lru_cache
def paths(motion: str, size: str = "medium", cells: tuple[int, int] = (16, 16)) -> Tensor:
    """Every path of one motion: (N, 16, 2) int64, row and column at every half beat, the object never cut off.

    motion: of MOTIONS, PASSING or RETURNING. size: of `scenes.SIZES`. cells: of `scenes.CELLS`.
    """
    known = (*MOTIONS, *PASSING, *RETURNING)
    require(motion in known, "motion", repr(motion), f"one of {known}")
    require(size in SIZES, "size", repr(size), f"one of {SIZES}")
    require_cells(cells)
    least, found = margin(size), []
    for pattern in _patterns(motion, cells, least):
        low, high = pattern.min(0).values.tolist(), pattern.max(0).values.tolist()
        if motion in BOUNCING:  # from wall to wall, also where the clip is over before the second one
            axis = 1 - BOUNCING.index(motion)
            low[axis], high[axis] = 0, cells[axis] - 1 - 2 * least
        begins = [range(least - a, n - least - b) for n, a, b in zip(cells, low, high)]
        rows, columns = (torch.tensor(begin, dtype=torch.int64) for begin in begins)  # empty where there is no room
        found.append(pattern + torch.cartesian_prod(rows, columns)[:, None])
    return torch.cat(found)


@cache
def pairs(first: str, second: str, cells: tuple[int, int] = (16, 16)) -> Tensor:
    """Which medium objects never touch: (M, 2) int16, rows of `paths(first)` and of `paths(second)`. M may be 0."""
    if first > second:
        return pairs(second, first, cells).flip(1)
    a, b = (paths(motion, cells=cells).to(torch.int8) for motion in (first, second))
    clear = torch.ones(len(a), len(b), dtype=torch.bool)
    for instant in range(INSTANTS):  # one after the other: all at once would not fit into the cache
        away = (a[:, None, instant] - b[:, instant]).abs()  # (N, N', 2)
        clear &= (away.amax(-1) >= CLEAR) | (away.amin(-1) >= CLEAR - 1)
    return clear.nonzero().to(torch.int16)


@lru_cache
def passes(cells: tuple[int, int] = (16, 16)) -> Tensor:
    """A small object that passes a medium one: (M, 2, 16, 2), the places of both.

    In the first and in the last of 8 frames they are clear of each other, in between one covers the other.
    """
    stands, found = paths("still", cells=cells), []
    for motion in PASSING:
        goes = paths(motion, "small", cells)
        away = (goes[:, None, ::2] - stands[:, ::2]).abs().amax(-1)  # (N, N', 8)
        fits = (away[..., 0] >= CLEAR) & (away[..., -1] >= CLEAR) & (away.amin(-1) <= 1)
        i, j = fits.nonzero().unbind(1)
        found.append(torch.stack([goes[i], stands[j]], 1))
    return torch.cat(found)


@lru_cache
def meetings(cells: tuple[int, int] = (16, 16)) -> Tensor:
    """Two small objects that come towards each other, touch or nearly do, and go back: (M, 2, 16, 2)."""
    found = []
    for here, there in (("right", "left"), ("left", "right"), ("down", "up"), ("up", "down")):
        a, b = (paths(f"out and back {way}", "small", cells) for way in (here, there))
        between = (b[None] - a[:, None]) @ torch.tensor(DIRECTIONS[here])  # (N, N', 16)
        aside = (b[None] - a[:, None]).abs() @ (1 - torch.tensor(DIRECTIONS[here]).abs())
        i, j = ((between.amin(-1) >= NEAR - 1) & (between.amin(-1) <= NEAR) & (aside[..., 0] <= 1)).nonzero().unbind(1)
        found.append(torch.stack([a[i], b[j]], 1))
    return torch.cat(found)
