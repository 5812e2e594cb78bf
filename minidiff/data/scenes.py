"""Scenes: up to four objects on a light ground, drawn so that a picture's content can be read back exactly.

A scene is a row of integers: what each object is, its colour, its size, and its place on a 16×16 lattice. `render`
draws many scenes at once at 16, 32 or 64 px; `judges.scenes.parse` reads them back; `data.prompts` says which scenes a
prompt allows, and `data.captions` puts it into words. Positions lie on a lattice because then the pictures of one
object are finitely many, and reading one back is a comparison with all of them rather than a search.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.validate import require

LATTICE = 16
"""Places per side; object centres lie at (i + 1/2)/16 of the side."""
MAX_OBJECTS = 4
SHAPES = ("circle", "square", "triangle", "cross", "star")
SPRITES = ("lightbulb", "plant", "cat", "dog", "astronaut", "horse", "tree", "house", "snowman", "fish")
"""Real pictures, from the emoji atlas; from 32 px up."""
KINDS = SHAPES + SPRITES
COLOURS = ("red", "green", "blue", "yellow", "purple", "black")
PALETTE = torch.tensor(
    [[0.90, 0.10, 0.10], [0.10, 0.65, 0.20], [0.15, 0.25, 0.95], [0.95, 0.80, 0.10], [0.75, 0.20, 0.85], [0.08] * 3]
)
"""RGB in [0, 1] of `COLOURS`, each at least 0.58 from the others and from the ground."""
SIZES = ("small", "medium", "large")
RADIUS = {"small": 0.13, "medium": 0.19, "large": 0.40}
"""Half an object's extent, in sides of the picture."""
GROUNDS = ("plain", "snow")
LIGHT = 0.95
SIDES = (16, 32, 64)
CELLS = ((16, 16), (16, 24), (24, 16))
"""Rows and columns of the lattice: square, wide and tall pictures. Objects have the same size in cells on each."""

_EMOJI_NAME = {"lightbulb": "light bulb", "plant": "potted plant", "tree": "deciduous tree", "cat": "cat face"}


Object = tuple[str, str | None, str, int, int]
"""Kind, colour (None of a sprite), size, row, column."""


@dataclass(frozen=True)
class Scenes:
    """B scenes of up to 4 objects, drawn from the first slot to the last. int64, on the CPU.

    kind, colour, size: (B, 4), indices into KINDS, COLOURS, SIZES; kind −1 is an empty slot, sprites have colour −1.
    row, column: (B, 4), 0 … 15 (23 the longer way of a wide or tall picture), row 0 on top.
    ground: (B,), index into GROUNDS.
    """

    kind: Tensor
    colour: Tensor
    size: Tensor
    row: Tensor
    column: Tensor
    ground: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: slice | Tensor) -> "Scenes":
        return Scenes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def objects(self, i: int) -> list[Object]:
        """The objects of scene i as (kind, colour or None, size, row, column)."""
        rows = zip(*(getattr(self, name)[i].tolist() for name in ("kind", "colour", "size", "row", "column")))
        return [(KINDS[k], COLOURS[c] if c >= 0 else None, SIZES[s], y, x) for k, c, s, y, x in rows if k >= 0]


def margin(size: str) -> int:
    """The least place of an object of this size (of SIZES) that is not cut off; the last one is as far from its end."""
    return round(RADIUS[size] * LATTICE - 0.5 + 1e-6)


def signed_distance(kind: str, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Distance to the outline of a shape of half-extent `radius` around the origin, negative inside. y points down."""
    require(kind in SHAPES, "kind", repr(kind), f"one of {SHAPES}")
    if kind == "circle":
        return torch.hypot(x, y) - radius
    corners = radius * torch.tensor(_OUTLINES[kind], dtype=x.dtype)
    near, inside = torch.full_like(x, torch.inf), torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners.tolist(), corners.roll(-1, 0).tolist()):
        along = (((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)).clamp(0, 1)
        near = torch.minimum(near, torch.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)))
        if ay != by:  # even-odd rule: does a ray to the right of (x, y) cross this edge?
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return torch.where(inside, -near, near)


def _ring(n: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """n corners on circles of the given radii in turn, the first on top."""
    angles = [2 * math.pi * i / n for i in range(n)]
    return [(radii[i % len(radii)] * math.sin(a), -radii[i % len(radii)] * math.cos(a)) for i, a in enumerate(angles)]


_ARM = 0.34
_OUTLINES = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)],
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
    "star": _ring(10, (1.08, 0.45)),
}  # fmt: skip


def _stamp(kind: str, size: str, side: int) -> Tensor:
    """One object alone on a canvas of 31×31 lattice cells, in the middle of its central cell: (4, W, W), r, g, b, α.

    A shape is white: its colour comes later. The coverage α of a pixel is ½ − (signed distance in pixels), clamped.
    """
    step = side // LATTICE
    width, centre, radius = 31 * step, 15.5 * step, RADIUS[size] * side
    stamp = torch.zeros(4, width, width)
    if kind in SHAPES:
        at = torch.arange(width) + 0.5 - centre
        y, x = torch.meshgrid(at, at, indexing="ij")
        stamp[:3], stamp[3] = 1.0, (0.5 - signed_distance(kind, x, y, radius)).clamp(0, 1)
        return stamp
    from minidiff.data import emoji  # here, because scenes of shapes need no atlas

    extent = 2 * round(radius)
    first = round(centre) - extent // 2
    # On a lattice of even pixels the centre is a pixel corner, so that an even extent is centred exactly.
    stamp[:, first : first + extent, first : first + extent] = emoji.sprite(_EMOJI_NAME.get(kind, kind), extent)
    return stamp


@lru_cache
def stamps(side: int) -> Tensor:
    """Every kind (5 shapes at 16 px, else shapes and sprites) in every size: (kinds, 3, 4, 31·side/16, 31·side/16)."""
    require(side in SIDES, "side", side, f"one of {SIDES} pixels")
    kinds = SHAPES if side == LATTICE else KINDS
    return torch.stack([torch.stack([_stamp(kind, size, side) for size in SIZES]) for kind in kinds])


def require_cells(cells: object) -> None:
    require(cells in CELLS, "cells", cells, f"one of {CELLS}, rows and columns")


@lru_cache
def windows(side: int, cells: tuple[int, int] = (LATTICE, LATTICE)) -> Tensor:
    """A view of `stamps` for `cells` = (R, C): (kinds, 3, 4, R, C, H, W), H = R·side/16 and W = C·side/16.

    Window (i, j) of a stamp shows its object R − 1 − i rows from the top and C − 1 − j columns from the left.
    """
    require_cells(cells)
    table = stamps(side)  # first: it refuses other sides
    (rows, columns), step = cells, side // LATTICE
    more = [(n - LATTICE) * step for n in cells]
    wide = F.pad(table, (more[1], more[1], more[0], more[0]))
    return wide.unfold(3, rows * step, step).unfold(4, columns * step, step)


@lru_cache
def grounds(side: int, cells: tuple[int, int] = (LATTICE, LATTICE)) -> Tensor:
    """The empty pictures: (2, 3, H, W) in [0, 1]: light grey, and a snowy field under a pale sky."""
    height, width = (n * side // LATTICE for n in cells)
    plain, snow = torch.full((3, height, width), LIGHT), torch.ones(3, height, width)
    snow[:, : height * 5 // 8] = torch.tensor([0.62, 0.76, 0.88])[:, None, None]
    flake = side // LATTICE
    for row, column in ((1, 2), (2, 9), (4, 6), (5, 13), (7, 1), (8, 10), (1, 14)):
        snow[:, row * flake : (row + 1) * flake, column * flake : (column + 1) * flake] = 1.0
    return torch.stack([plain, snow])


def render(scenes: Scenes, side: int = 16, cells: tuple[int, int] = (LATTICE, LATTICE)) -> Tensor:
    """Draw scenes: (B, 3, H, W) float32 in [−1, 1]. side: 16, 32 or 64 pixels the shorter way; at 16 shapes only.

    cells: rows and columns of the lattice, one of `CELLS`; square by default, and H = W = side then.
    `ValueError` for another side, a kind that the side cannot show, or a place off the lattice.
    """
    table = windows(side, cells)
    require(isinstance(scenes, Scenes), "scenes", type(scenes).__name__, "a Scenes")
    kinds, (height, width) = len(table), cells
    others = scenes.kind[scenes.kind >= kinds]
    told = f"a {KINDS[int(others[0])]}" if len(others) else ""
    require(not told, "scenes", told, f"shapes only at {side} px")
    on = ((scenes.row >= 0) & (scenes.row < height) & (scenes.column >= 0) & (scenes.column < width)).all()
    require(bool(on), "scenes", "a row or column off the lattice", f"0 … {height - 1}, 0 … {width - 1}")
    x = grounds(side, cells)[scenes.ground]
    for k in range(scenes.kind.shape[1]):
        kind, colour = scenes.kind[:, k], scenes.colour[:, k]
        if not bool((kind >= 0).any()):
            continue
        rows, columns = height - 1 - scenes.row[:, k], width - 1 - scenes.column[:, k]
        drawn = table[kind.clamp(min=0), scenes.size[:, k].clamp(min=0), :, rows, columns]  # (B, 4, H, W)
        tint = torch.where(colour[:, None] >= 0, PALETTE[colour.clamp(min=0)], 1.0)[:, :, None, None]
        cover = drawn[:, 3:] * (kind >= 0)[:, None, None, None]
        x = x + cover * (tint * drawn[:, :3] - x)
    return 2 * x - 1


def empty(batch: int) -> Scenes:
    """B scenes without objects on the plain ground."""
    none, zero = torch.full((batch, MAX_OBJECTS), -1), torch.zeros(batch, MAX_OBJECTS, dtype=torch.int64)
    return Scenes(none, none.clone(), zero, zero.clone(), zero.clone(), torch.zeros(batch, dtype=torch.int64))


def assemble(rows: list[list[Object]], ground: list[str] | None = None) -> Scenes:
    """Scenes from lists of objects (kind, colour or None, size, row, column): the inverse of `Scenes.objects`."""
    nothing, slots = (-1, -1, 0, 0, 0), []
    for i, objects in enumerate(rows):
        require(len(objects) <= MAX_OBJECTS, "rows", f"{len(objects)} objects in row {i}", f"at most {MAX_OBJECTS}")
        known = [(KINDS.index(k), COLOURS.index(c) if c else -1, SIZES.index(s), y, x) for k, c, s, y, x in objects]
        slots.append(known + [nothing] * (MAX_OBJECTS - len(known)))
    kind, colour, size, row, column = torch.tensor(slots, dtype=torch.int64).reshape(-1, MAX_OBJECTS, 5).unbind(-1)
    index = torch.tensor([GROUNDS.index(g) for g in ground or ["plain"] * len(rows)], dtype=torch.int64)
    return Scenes(kind, colour, size, row, column, index)
