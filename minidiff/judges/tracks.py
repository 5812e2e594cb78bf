"""What stays one object from frame to frame, and how it moves.

Only frames in which nothing overlaps are believed: of what stands behind something they show slivers, or nothing.
Such sightings are linked from frame to frame where that costs least, in cells gone and looks changed. What an object
did is the motion of the nearest of all paths (`data.motions`): one that is within 0.45 cells of it, while those of
every other motion are further away. Whatever is not so near to one motion alone is not guessed: its motion is None.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from minidiff.data.motions import BEATS, INSTANTS, MOTIONS, PASSING, RETURNING, paths
from minidiff.data.scenes import LATTICE, RADIUS, Object

REACH = 3
"""Cells that an object may go in a beat, or from one frame to the next, and still be the same …"""
CHANGED = 4
"""… and what a change of its kind or colour costs, in cells: near objects are told apart by their looks."""
OVERLAP = 0.65
"""Two objects overlap where their centres are nearer, one way and the other, than this share of their half-extents."""
HINT = 0.25
"""How much a place counts that is read where things overlap, beside one that is believed."""
OTHER_SIZE = 0.2
"""What a path costs that objects of another size take here, in cells: it decides where two paths are as near."""
FEW = 8
"""What one frame in so many shows, and no other, is no object."""
FIT, MARGIN = 0.45, 0.15
"""Cells, on average: the furthest from a path that is read, and how much further other motions' paths must be."""

Line = dict[int, Object]
"""Frame → what was seen there."""


@dataclass(frozen=True)
class Track:
    """One object through T frames.

    kind, colour, size: what most frames show of it (colour None of a sprite). at: (T, 2) row and column, NaN where it
    is not seen like this. changed: (T,) bool, where it is seen with another kind or colour. motion: of MOTIONS, or as
    one of two ("passing left" …, "out and back left" …), None where no one motion is near. path: (T, 2) int64, the
    nearest path, also through frames that hide it. error: how far it is from that, in cells, on average.
    """

    kind: str
    colour: str | None
    size: str
    at: Tensor
    changed: Tensor
    motion: str | None
    path: Tensor
    error: float

    @property
    def look(self) -> tuple[str, str | None]:
        return self.kind, self.colour

    @property
    def seen(self) -> Tensor:
        """(T,) bool: whole, and with this kind and colour."""
        return ~self.at.isnan().any(1)

    @property
    def kept(self) -> float:
        """The share of its sightings that have this kind and this colour."""
        seen, changed = int(self.seen.sum()), int(self.changed.sum())
        return seen / (seen + changed)

    @property
    def places(self) -> Tensor:
        """(T, 2) int64: where it is seen, else where its path says."""
        return torch.where(self.seen[:, None], self.at.nan_to_num(0).long(), self.path)

    @property
    def velocity(self) -> tuple[float, float]:
        """(rows, columns) per beat: least squares through all sightings. NaN with fewer than two."""
        beats, at = self._sightings()
        if len(at) < 2:
            return float("nan"), float("nan")
        centred = beats - beats.mean()
        row, column = ((centred[:, None] * at).sum(0) / centred.square().sum()).tolist()
        return row, column

    @property
    def speed(self) -> float:
        """Cells per beat along its way, from one sighting to the next. NaN with fewer than two."""
        beats, at = self._sightings()
        return float(at.diff(dim=0).norm(dim=1).sum() / (beats[-1] - beats[0])) if len(at) > 1 else float("nan")

    def _sightings(self) -> tuple[Tensor, Tensor]:
        beats = torch.arange(len(self.at), dtype=torch.float64) * BEATS / len(self.at)
        return beats[self.seen], self.at[self.seen].double()


def lasting(times: int, frames: int) -> bool:
    """Is what `times` of `frames` frames show more than a flash?"""
    return times > frames / FEW or frames == 1


def believed(frames: Sequence[Sequence[Object]]) -> list[Sequence[Object]]:
    """The same frames, those emptied that show less than there is, or in which something overlaps something.

    There is as much as one frame in eight shows: where one hides another, the two may be read as one of a third kind.
    """
    near = lambda a, b: max(abs(a[3] - b[3]), abs(a[4] - b[4])) < OVERLAP * LATTICE * (RADIUS[a[2]] + RADIUS[b[2]])
    clear = [things if not any(near(a, b) for a, b in combinations(things, 2)) else [] for things in frames]
    most = max((n for n, times in Counter(map(len, clear)).items() if lasting(times, len(frames))), default=0)
    return [things if len(things) >= most else [] for things in clear]


def _look(line: Line) -> tuple[str, str | None]:
    return Counter(thing[:2] for thing in line.values()).most_common(1)[0][0]


def hinted(line: Line, frames: Sequence[Sequence[Object]]) -> Line:
    """Where `line` was not seen as what it is: it as something else, or the one thing elsewhere that looks like it.

    Both may be slivers of it.
    """
    look = _look(line)
    alike = {t: [thing for thing in things if thing[:2] == look] for t, things in enumerate(frames) if t not in line}
    changed = {t: thing for t, thing in line.items() if thing[:2] != look}
    return changed | {t: things[0] for t, things in alike.items() if len(things) == 1}


def _places(lines: Sequence[Line], frames: int) -> Tensor:
    """(L, T, 2) row and column, NaN where a line has no thing."""
    at = torch.full((len(lines), frames, 2), torch.nan)
    for i, line in enumerate(lines):
        for t, thing in line.items():
            at[i, t] = torch.tensor(thing[3:])
    return at


def linked(frames: Sequence[Sequence[Object]]) -> list[Line]:
    """Sightings that belong together: each frame's are matched with all lines so far, where one is near enough."""
    lines: list[Line] = []
    for t, things in enumerate(frames):
        cost = np.full((len(lines), len(things)), np.inf)
        for i, line in enumerate(lines):
            last, look = max(line), _look(line)
            reach = REACH * max(1, (t - last) * BEATS / len(frames))
            for j, thing in enumerate(things):
                away = np.hypot(thing[3] - line[last][3], thing[4] - line[last][4])
                cost[i, j] = away + CHANGED * (thing[:2] != look) if away <= reach else np.inf
        # Finite numbers only: where all is out of reach, scipy would refuse to match at all.
        pairs = zip(*linear_sum_assignment(np.minimum(cost, 1e6)))
        taken = {j: i for i, j in pairs if cost[i, j] < np.inf}
        for j, thing in enumerate(things):
            if j in taken:
                lines[taken[j]][t] = thing
            else:
                lines.append({t: thing})
    return lines


@lru_cache
def _candidates(frames: int, cells: tuple[int, int]) -> tuple[Tensor, Tensor, list[str]]:
    """Every path as `frames` show it, (N, T, 2) int64, the number of its motion, (N,), and the motions' names."""
    names = [*MOTIONS, *PASSING, *RETURNING]
    every = [paths(m, "medium" if m in MOTIONS else "small", cells)[:, :: INSTANTS // frames] for m in names]
    return torch.cat(every), torch.cat([torch.full((len(table),), i) for i, table in enumerate(every)]), names


def _away(at: Tensor, hints: Tensor, table: Tensor) -> Tensor:
    """(L, N) mean distance of L lines (L, T, 2) from N paths (N, T, 2): one slip counts little, a hint less."""
    weight = torch.stack([(~v.isnan().any(-1)).float() for v in (at, hints)])  # (2, L, T)
    weight[1] *= HINT
    gone = torch.stack([(v.nan_to_num(0)[:, None] - table).norm(dim=-1) for v in (at, hints)])  # (2, L, N, T)
    gone[1].clamp_(max=1)
    return torch.einsum("klt,klnt->ln", weight, gone) / weight.sum((0, 2))[:, None]


def fitted(lines: Sequence[Line], hints: Sequence[Line], frames: int, cells: tuple[int, int]) -> list[Track]:
    """One track for each line. hints: what else might be it. cells: of the lattice, as in `scenes.CELLS`."""
    if not lines:
        return []
    looks = [_look(line) for line in lines]
    at, changed = _places(lines, frames), torch.zeros(len(lines), frames, dtype=torch.bool)
    for i, (line, look) in enumerate(zip(lines, looks)):
        changed[i, [t for t, thing in line.items() if thing[:2] != look]] = True
    at[changed], maybe = torch.nan, _places(hints, frames)
    table, number, names = _candidates(frames, cells)
    away = torch.cat([_away(*rows, table) for rows in zip(at.split(64), maybe.split(64))])  # (L, N)
    best = torch.stack([away[:, number == i].amin(1) for i in range(len(names))], 1)  # (L, motions)
    small = torch.tensor([name not in MOTIONS for name in names])
    made = []
    for i, line in enumerate(lines):
        size = Counter(thing[2] for thing in line.values() if thing[:2] == looks[i]).most_common(1)[0][0]
        cost = best[i] + OTHER_SIZE * (small != (size == "small"))
        (error, other), which = (v.tolist() for v in cost.topk(2, largest=False))
        sure = int((~at[i].isnan()).all(1).sum()) >= 2 and error <= FIT and other - error >= MARGIN
        mine = number == which[0]
        path = table[mine][int(away[i, mine].argmin())]
        motion = names[which[0]] if sure else None
        made.append(Track(*looks[i], size, at[i], changed[i], motion, path, float(best[i, which[0]])))
    return made
