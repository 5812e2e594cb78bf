"""Reading a picture of a scene back by analysis-by-synthesis: draw each object everywhere, keep the best, repeat.

The renderer's objects on its lattice are finitely many templates. A template with coverage m and colour c, laid over
the canvas x̂ drawn so far, changes it by d = m·(c − x̂); with the residual r = x − x̂ the squared error falls by

    gain = ‖r‖² − ‖r − d‖² = 2⟨d, r⟩ − ‖d‖²,

which is a handful of matrix products for all templates, places and colours at once. The best one is drawn on the canvas
and the search goes on with what is left. Where the fit stays poor, a sweep takes each object out and fits it anew.

32 and 64 px are pooled to 16 px first (as are their templates): a read picture is cheap, whatever its size.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.prompts import HOLLOW
from minidiff.data.scenes import (
    CELLS,
    COLOURS,
    GROUNDS,
    KINDS,
    LATTICE,
    MAX_OBJECTS,
    PALETTE,
    SHAPES,
    SIDES,
    SIZES,
    Scenes,
    grounds,
)
from minidiff.judges.templates import Cells, Templates, templates
from minidiff.validate import describe, require, require_floating

READABLE = 0.2
"""The largest root-mean-square error, in the pictures' unit of [−1, 1], of a picture that counts as read …"""
SPOTLESS = 0.4
"""… and the largest in any of its 4×4 patches (16 px): nothing, not even something small or faint, goes unexplained."""
MIN_GAIN, MIN_FIT = 0.15, 0.5
"""An object must lower the squared error by this much (pictures in [0, 1]), and by this share of what it changes."""
EXACT, NOTHING = 0.015, 0.002
"""An error up to which a reading is exact, and one where nothing is left to explain. In front of one another, pooled
edges leave 0.012; the faintest object (a yellow star before a lightbulb), left out, leaves 0.020."""
ROUNDED = 0.0025
"""What eight bits a pixel leave where a drawn picture is read rightly ([0, 1]); a model's pictures leave more."""


@dataclass(frozen=True)
class Parsed:
    """scenes: what was read, empty slots last. error: (B,) root mean square of what stayed unexplained.

    readable: (B,) bool. An unreadable picture's scene is only a guess; judges count it as wrong.
    """

    scenes: Scenes
    error: Tensor
    readable: Tensor


def _gains(t: Templates, below: Tensor, left: Tensor, seen: Tensor) -> Tensor:
    """How far each template in each colour lowers the squared error, and its own energy ‖d‖²: (2, B, T, 6).

    below: (B, 3, P), the picture under the new object. left: (B, 3, P), the residual of the whole picture without it.
    seen: (B, P), how much of each pixel later objects leave free. A sprite's six entries are alike.
    """
    shapes = int(t.tinted.sum())
    m, m2, palette = t.cover, t.cover2, PALETTE.to(left)  # (T, P), (T, P), (6, 3)
    left, s2 = seen[:, None] * left, seen[:, None] ** 2
    # With all channels summed, ⟨s·d, r⟩ = c·⟨m, s·r⟩ − ⟨m, x̂·s·r⟩ and
    # ‖s·d‖² = |c|²·⟨m², s²⟩ − 2c·⟨m², s²·x̂⟩ + ⟨m², s²·x̂²⟩.
    inner, energy = -((below * left).sum(1) @ m.T), (s2 * below**2).sum(1) @ m2.T  # (B, T)
    inner = inner[..., None].expand(-1, -1, len(palette)).clone()
    energy = energy[..., None].expand(-1, -1, len(palette)).clone()  # (B, T, 6)
    ms, ms2 = m[:shapes], m2[:shapes]
    inner[:, :shapes] += (left @ ms.T).transpose(1, 2) @ palette.T
    energy[:, :shapes] += (s2[:, 0] @ ms2.T)[..., None] * (palette**2).sum(1)
    energy[:, :shapes] -= 2 * ((s2 * below) @ ms2.T).transpose(1, 2) @ palette.T
    if shapes < len(m):
        inner[:, shapes:] += torch.einsum("bcp,tcp->bt", left, t.paint[shapes:])[..., None]
        own = s2[:, 0] @ t.own2.T - 2 * torch.einsum("bcp,tcp->bt", s2 * below, t.own)
        energy[:, shapes:] += own[..., None]
    return torch.stack([2 * inner - energy, energy])


def _paint(t: Templates, canvas: Tensor, which: Tensor, colour: Tensor) -> Tensor:
    """Lay one template per picture over its canvas; which: (B,), −1 for none."""
    i = which.clamp(min=0)
    tint = torch.where(t.tinted[i][:, None], PALETTE.to(canvas)[colour], 1.0)[..., None]
    drawn = canvas * (1 - t.cover[i])[:, None] + tint * t.paint[i]
    return torch.where((which >= 0)[:, None, None], drawn, canvas)


def _best(
    t: Templates, below: Tensor, left: Tensor, seen: Tensor, allowed: Tensor | None = None,
    least: float = MIN_GAIN, fit: float = MIN_FIT,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The template (−1: none is good enough) and colour that explain most of what is left: (B,), (B,)."""
    gain, energy = _gains(t, below, left, seen)
    good = gain > fit * energy
    if allowed is not None:
        good &= allowed
    value, flat = torch.where(good, gain, 0.0).flatten(1).max(1)
    return torch.where(value > least, flat // len(COLOURS), -1), flat % len(COLOURS)


def _drawn(t: Templates, ground: Tensor, which: Tensor, colour: Tensor) -> Tensor:
    """The picture of objects which[:, 0], which[:, 1], … in this order, on `ground`: (B, 3, P)."""
    canvas = ground
    for i, c in zip(which.unbind(1), colour.unbind(1)):
        canvas = _paint(t, canvas, i, c)
    return canvas


def _squared(t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor) -> Tensor:
    return ((x - _drawn(t, ground, which, colour)) ** 2).sum((1, 2))


def _rms(t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor) -> Tensor:
    """In the pictures' unit of [−1, 1]."""
    return 2 * (_squared(t, x, ground, which, colour) / (x.shape[1] * x.shape[2])).sqrt()


def _swept(t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Take out one object after the other and fit it anew at its depth; keep what lowers the error."""
    for k in range(MAX_OBJECTS):
        without = which.clone()
        without[:, k] = -1
        later = torch.where(which[:, k + 1 :, None] >= 0, t.cover[which[:, k + 1 :].clamp(min=0)], 0.0)  # (B, ·, P)
        new, tint = which.clone(), colour.clone()
        below, rest = _drawn(t, ground, which[:, :k], colour[:, :k]), x - _drawn(t, ground, without, colour)
        new[:, k], tint[:, k] = _best(t, below, rest, (1 - later).prod(1))
        better = (_squared(t, x, ground, new, tint) < _squared(t, x, ground, which, colour) - 1e-4)[:, None]
        which, colour = torch.where(better, new, which), torch.where(better, tint, colour)
    return which, colour


def _greedy(
    t: Templates, x: Tensor, ground: Tensor, allowed: Tensor | None = None, first: Tensor | None = None,
    least: float = MIN_GAIN,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Add the best object four times: which (B, 4), colour (B, 4). allowed: (T, 1) bool, of these templates.

    first: (T, 6) bool, begin with one of these templates and colours, however badly it fits: others will cover it.
    """
    which = torch.full((len(x), MAX_OBJECTS), -1)
    colour = torch.zeros_like(which)
    for k in range(MAX_OBJECTS):
        canvas = _drawn(t, ground, which, colour)
        these, fit = (first, 0.0) if k == 0 and first is not None else (allowed, MIN_FIT)
        which[:, k], colour[:, k] = _best(t, canvas, x - canvas, torch.ones_like(x[:, 0]), these, least, fit)
    return which, colour


def _rank(t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor) -> Tensor:
    """Less is better, (B,): below 1 for exact readings, the fewer objects the less; else above."""
    error = _rms(t, x, ground, which, colour)
    return torch.where(error <= EXACT, (which >= 0).sum(1) / 10, 1 + error)


def _reordered(t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """The best that two or three of the objects show, in any order: others may only hide that it was a wrong one."""
    kept, tints, rank = which, colour, _rank(t, x, ground, which, colour)
    for order in (*permutations(range(MAX_OBJECTS), 2), *permutations(range(MAX_OBJECTS), 3)):
        more = (0, MAX_OBJECTS - len(order))
        new, tint = F.pad(which[:, order], more, value=-1), F.pad(colour[:, order], more)
        value = _rank(t, x, ground, new, tint)
        better = value < rank
        kept, tints = torch.where(better[:, None], new, kept), torch.where(better[:, None], tint, tints)
        rank = torch.where(better, value, rank)
    return kept, tints


@lru_cache
def _starts(side: int, cells: Cells, ground: str) -> list[dict[str, Tensor] | None]:
    """Where an exact reading may begin: from the one at hand (None); without large objects; with a large one that
    others stand before and split, a sprite, or on snow, whose sky is a colour too, a shape."""
    if (side, ground) == (LATTICE, "plain"):
        return [None]
    kind, size = (templates(side, cells).label[:, i, None] for i in (0, 1))
    large, tint = size == SIZES.index("large"), torch.arange(len(COLOURS))
    behind = [KINDS.index(name) for name in reversed(HOLLOW) if name not in SHAPES or ground == "snow"]
    looks = [(k, c) for k in behind if bool((kind == k).any()) for c in (tint if k < len(SHAPES) else tint[:1])]
    small = {"allowed": ~large}
    return [None, small, *(small | {"first": large & (kind == k) & (tint == c)} for k, c in looks)]


def _exactly(
    t: Templates, x: Tensor, ground: Tensor, which: Tensor, colour: Tensor, side: int, cells: Cells, index: Tensor
) -> None:
    """Write exact readings over worse ones, where there are any: a model's pictures stay read as they are.

    Nor is time spent on them: a picture that was drawn is explained to the last bit in many places from the start.
    """
    off = (x - _drawn(t, ground, which, colour)).abs().amax(1).sort(1).values[:, x.shape[-1] // 4]
    for number, name in enumerate(GROUNDS):
        for start in _starts(side, cells, name):
            open = (_rms(t, x, ground, which, colour) > NOTHING) & (index == number) & (off <= ROUNDED)
            open &= (which >= 0).sum(1) >= (3 if start is None else 0)
            if bool(open.any()):
                args, old = (t, x[open], ground[open]), (which[open], colour[open])
                new = old if start is None else _swept(*args, *_greedy(*args, **start, least=MIN_GAIN / 10))
                new = _reordered(*args, *new)
                exact = (_rank(*args, *new) < _rank(*args, *old).clamp(max=1))[:, None]
                which[open], colour[open] = (torch.where(exact, n, o) for n, o in zip(new, old))


def _parse(x: Tensor) -> Parsed:
    side = min(x.shape[2:])
    cells = x.shape[2] * LATTICE // side, x.shape[3] * LATTICE // side
    t, pool = templates(side, cells), lambda p: F.avg_pool2d(p, side // LATTICE).flatten(2)
    x, empty = pool((x + 1) / 2), pool(grounds(side, cells))
    # Objects cover both grounds alike; clamped, they cannot outvote the ground that shows.
    index = ((x[:, None] - empty) ** 2).sum(2).clamp(max=0.1).mean(-1).argmin(1)
    ground = empty[index]
    which, colour = _greedy(t, x, ground)
    # Where that fails: sweep twice; start again without large objects, which may have taken four others for one.
    small = t.label[:, 1, None] != SIZES.index("large")
    for start in ("kept", "kept", "small"):
        poor = _rms(t, x, ground, which, colour) > READABLE
        if bool(poor.any()):
            args = t, x[poor], ground[poor]
            old = which[poor], colour[poor]
            new = _swept(*args, *(old if start == "kept" else _greedy(*args, small)))
            better = (_squared(*args, *new) < _squared(*args, *old))[:, None]
            which[poor], colour[poor] = (torch.where(better, n, o) for n, o in zip(new, old))
    _exactly(t, x, ground, which, colour, side, cells, index)
    error, left = _rms(t, x, ground, which, colour), x - _drawn(t, ground, which, colour)
    patches = F.avg_pool2d((4 * left**2).mean(1).reshape(-1, 1, *cells), 4).sqrt()
    return Parsed(_scenes(t, which, colour, index), error, (error <= READABLE) & (patches.amax((1, 2, 3)) <= SPOTLESS))


def _scenes(t: Templates, which: Tensor, colour: Tensor, ground: Tensor) -> Scenes:
    order = torch.argsort((which < 0).to(torch.int8), dim=1, stable=True)
    which, colour = which.gather(1, order), colour.gather(1, order)
    some = which >= 0
    kind, size, row, column = (torch.where(some, v, 0) for v in t.label[which.clamp(min=0)].unbind(-1))
    tinted = some & t.tinted[which.clamp(min=0)]
    return Scenes(torch.where(some, kind, -1), torch.where(tinted, colour, -1), size, row, column, ground)


@torch.no_grad()
def parse(pictures: Tensor, chunk: int = 256) -> Parsed:
    """Read pictures (B, 3, S, S) in [−1, 1] of 16, 32 or 64 px, or as wide or tall as `CELLS` allow.

    `ValueError` for other shapes, NaN or infinity.
    """
    require_floating("pictures", pictures, finite=True)
    sizes = [(rows * side // LATTICE, columns * side // LATTICE) for side in SIDES for rows, columns in CELLS]
    fits = pictures.ndim == 4 and pictures.shape[1] == 3 and tuple(pictures.shape[2:]) in sizes
    expected = f"shape (B, 3, S, S), S in {SIDES}, or S by 3S/2"
    require(fits, "pictures", describe(pictures), expected)
    x = pictures.detach().float().cpu().clamp(-1, 1)
    parts = [_parse(rows) for rows in x.split(chunk)] if len(x) else [_parse(x)]
    join = lambda values: torch.cat(list(values))
    scenes = Scenes(*(join(getattr(p.scenes, f.name) for p in parts) for f in fields(Scenes)))
    return Parsed(scenes, join(p.error for p in parts), join(p.readable for p in parts))


def same(a: Scenes, b: Scenes) -> Tensor:
    """(B,) bool: the same objects in the same places on the same ground, in whatever order they were drawn."""

    def key(s: Scenes) -> Tensor:
        number = s.kind
        for value, base in ((s.colour + 1, 8), (s.size, 4), (s.row, 2 * LATTICE), (s.column, 2 * LATTICE)):
            number = number * base + value
        return torch.where(s.kind >= 0, number, -1).sort(1).values

    return (key(a) == key(b)).all(1) & (a.ground == b.ground)


def names(scenes: Scenes) -> list[list[str]]:
    """ "red circle (7, 4)" for every object: for titles and messages."""
    return [
        [
            " ".join(w for w in (size if size != "medium" else "", c, k) if w) + f" ({y}, {x})"
            for k, c, size, y, x in scenes.objects(i)
        ]
        for i in range(len(scenes))
    ]
