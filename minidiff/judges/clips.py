"""Reading a clip back: every frame by itself, then what stays one object, then how it moves and what two do together.

`judges.scenes.parse` says what is where in each frame, `judges.tracks` which of it is one object, and what path it
takes. Where objects overlap, a frame alone says little; there the clip is drawn again from its tracks and compared.
A clip of which something stays unexplained, or moves as nothing here does, is unreadable, rather than guessed at.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.clips import ClipPrompt
from minidiff.data.motions import CLEAR, FRAMES, NEAR, PASSING, RETURNING, direction
from minidiff.data.scenes import LATTICE, SHAPES, Object, assemble, render
from minidiff.judges.scenes import READABLE, SPOTLESS, Parsed, parse
from minidiff.judges.tracks import FEW, Track, believed, fitted, hinted, lasting, linked
from minidiff.validate import describe, require, require_floating

APART = 3
"""Cells that two objects which meet must have been further apart, before and after."""
ASIDE = 2
"""Cells that an object which overlaps another may be from where its track says it is."""
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


@dataclass(frozen=True)
class Told:
    """What one clip shows. tracks: its objects. together: what two of them do, as (of TOGETHER, who, with whom).

    meetings: (i, j, frame) of two tracks that come within 5 cells and part again. explained: (T,) bool, the frames in
    which the tracks and nothing else was read, or that, where tracks overlap, look as these say. readable: that is all
    frames but one in eight, and every track has a motion. A single frame shows no motion, and is unreadable as a clip.
    """

    tracks: list[Track]
    together: tuple[str, int, int] | None
    meetings: list[tuple[int, int, int]]
    explained: Tensor

    @property
    def steady(self) -> bool:
        """Is it the same objects in all frames but one in eight, wherever they are?"""
        return bool(self.tracks) and int((~self.explained).sum()) <= len(self.explained) / FEW

    @property
    def readable(self) -> bool:
        return self.steady and all(track.motion for track in self.tracks)


@dataclass(frozen=True)
class Sightings:
    """What `parse` says of all frames: `parsed` of the B·T pictures, and the clips (B, 3, T, H, W) themselves."""

    clips: Tensor
    parsed: Parsed

    def __len__(self) -> int:
        return len(self.clips)

    def reordered(self, order: Tensor) -> "Sightings":
        """The clips with their frames in the order (B, T) int64: nothing needs to be read again."""
        b, _, t, *size = self.clips.shape
        fits = order.dtype == torch.int64 and tuple(order.shape) == (b, t)
        require(fits, "order", describe(order), f"int64, shape ({b}, {t})")
        flat = (torch.arange(b)[:, None] * t + order).flatten()
        frames = self.clips.transpose(1, 2).flatten(0, 1)[flat].reshape(b, t, 3, *size)
        parsed = Parsed(self.parsed.scenes[flat], self.parsed.error[flat], self.parsed.readable[flat])
        return Sightings(frames.transpose(1, 2), parsed)


def require_clips(clips: Tensor) -> Tensor:
    """Clips (B, 3, T, H, W) in float32 on the CPU, clipped to [−1, 1]. `ValueError` for others, NaN or infinity."""
    require_floating("clips", clips, finite=True)
    fits = clips.ndim == 5 and clips.shape[1] == 3 and clips.shape[2] in FRAMES
    require(fits, "clips", describe(clips), f"shape (B, 3, T, H, W), T in {FRAMES}")
    return clips.detach().float().cpu().clamp(-1, 1)


def sightings(clips: Tensor) -> Sightings:
    """Read every frame of clips (B, 3, T, H, W) in [−1, 1], T = 1, 8 or 16, H and W as in `judges.scenes.parse`."""
    x = require_clips(clips)
    return Sightings(x, parse(x.transpose(1, 2).flatten(0, 1)))


def tracks(clips: Tensor | Sightings) -> list[Told]:
    """What each of B clips shows: of `sightings`, or of clips (B, 3, T, H, W) in [−1, 1], clipped to it."""
    seen = clips if isinstance(clips, Sightings) else sightings(clips)
    t, scenes, readable = seen.clips.shape[2], seen.parsed.scenes, seen.parsed.readable.tolist()
    kept, hints, frames = [], [], []
    for i in range(len(seen)):
        frames.append([scenes.objects(i * t + k) if readable[i * t + k] else None for k in range(t)])
        things = [frame or [] for frame in frames[-1]]
        lines = linked(believed(things))
        kept.append([line for line in lines if lasting(len(line), t)])  # what flashes up is no object
        hints += [hinted(line, things) for line in kept[-1]]
    made = iter(fitted([line for lines in kept for line in lines], hints, t, cells_of(seen.clips)))
    return [_told([next(made) for _ in lines], frames[i], seen.clips[i]) for i, lines in enumerate(kept)]


def cells_of(clips: Tensor) -> tuple[int, int]:
    """Rows and columns of the lattice of (…, H, W)."""
    height, width = clips.shape[-2:]
    return height * LATTICE // min(height, width), width * LATTICE // min(height, width)


# ---------------------------------------------------------------- what two do together


def _told(found: list[Track], frames: list[list[Object] | None], clip: Tensor) -> Told:
    for i, j in combinations(range(len(found)), 2):  # beside another, slivers may look like anything
        apart = _away(found[i], found[j]) >= CLEAR
        found[i], found[j] = (replace(track, changed=track.changed & apart) for track in (found[i], found[j]))
    met = [(i, j, k) for i, j in combinations(range(len(found)), 2) for k in _met(found[i], found[j])]
    both = (_together(found, i, j, clip) for i, j, _ in met)
    together = next((what for what in both if what is not None), None)
    fine = torch.tensor([things is not None and _as_told(found, things, k) for k, things in enumerate(frames)])
    if len(found) == 2 and not bool(fine.all()):
        fine |= (_away(*found) < CLEAR) & _explained(found, clip)
    return Told(found, together, met, fine)


def _as_told(found: list[Track], things: Sequence[Object], k: int) -> bool:
    """Does frame k show each track once, where it says, and nothing else?"""
    spare = list(things)
    for track in found:
        row, column = track.places[k].tolist()
        mine = [o for o in spare if o[:2] == track.look and max(abs(o[3] - row), abs(o[4] - column)) <= ASIDE]
        if not mine:
            return False
        spare.remove(mine[0])
    return not spare


def _away(a: Track, b: Track) -> Tensor:
    """(T,) cells between two tracks' places, the longer way."""
    return (a.places - b.places).abs().amax(1)


def _met(a: Track, b: Track) -> list[int]:
    """The frame in which two tracks are nearest, if they are near there, and further apart before and after."""
    if a.motion is None or b.motion is None:
        return []
    away = _away(a, b)
    k = int(away.argmin())
    least = int(away[k])
    return [k] if least <= NEAR and min(int(away[0]), int(away[-1])) >= least + APART else []


def _together(found: list[Track], i: int, j: int, clip: Tensor) -> tuple[str, int, int] | None:
    a, b = str(found[i].motion), str(found[j].motion)
    if a in RETURNING and b in RETURNING and OPPOSITE[str(direction(a))] == direction(b):
        return "meeting", i, j
    for who, whom, goes, stands in ((i, j, a, b), (j, i, b, a)):
        if goes in PASSING and stands == "still":
            behind = _behind(found[who], found[whom], clip)
            return None if behind is None else ("passing behind" if behind else "passing in front of", who, whom)
    return None


def _drawn(order: Sequence[Track], clip: Tensor) -> Tensor | None:
    """The clip (3, T, H, W) as its tracks say, drawn in this order: (T, 3, H, W). None of what its size cannot show."""
    cells, side = cells_of(clip), min(clip.shape[-2:])
    if side == LATTICE and any(o.kind not in SHAPES for o in order):
        return None
    places = [o.places.tolist() for o in order]
    rows = [[(o.kind, o.colour, o.size, *at[k]) for o, at in zip(order, places)] for k in range(clip.shape[1])]
    return render(assemble(rows), side, cells)


def _explained(found: list[Track], clip: Tensor) -> Tensor:
    """(T,) bool: which frames look as the tracks say, drawn in one order or the other; measured as `parse` does."""
    x, ok = clip.transpose(0, 1), torch.zeros(clip.shape[1], dtype=torch.bool)
    step = min(clip.shape[-2:]) // LATTICE
    for order in permutations(found):
        drawn = _drawn(order, clip)
        if drawn is not None:
            left = F.avg_pool2d(x - drawn, step).square().mean(1, keepdim=True)  # (T, 1, R, C)
            fits, patches = left.mean((1, 2, 3)).sqrt() <= READABLE, F.avg_pool2d(left, 4).sqrt().amax((1, 2, 3))
            ok |= fits & (patches <= SPOTLESS)
    return ok


def _behind(who: Track, whom: Track, clip: Tensor) -> bool | None:
    """Is `who` drawn before `whom`? Both ways are drawn and compared with the clip; None where it is like neither."""
    back, front = _drawn((who, whom), clip), _drawn((whom, who), clip)
    if back is None or front is None:
        return None
    x, over = clip.transpose(0, 1), _away(who, whom) < CLEAR
    apart = float((back - front)[over].square().sum())
    nearer = float((x - front)[over].square().sum() - (x - back)[over].square().sum())
    # ±apart, where the clip is one of the two
    return nearer > 0 if apart > 0 and abs(nearer) >= apart / 2 else None


# ---------------------------------------------------------------- is it what was asked for?


def looks_right(prompt: ClipPrompt, told: Told) -> bool:
    """Exactly the movers' kinds and colours, each kept in all frames but one in eight, however they move."""
    kept = all(track.kept >= 1 - 1 / FEW for track in told.tracks)
    return kept and Counter(m.look for m in prompt.movers) == Counter(track.look for track in told.tracks)


def shows(prompt: ClipPrompt, told: Told) -> bool:
    """The whole prompt: its movers, and each moves as it says, or the two do together what it says."""
    if not (told.readable and looks_right(prompt, told)):
        return False
    if prompt.together is None:
        moves = {track.look: track.motion for track in told.tracks}
        return all(moves[mover.look] == mover.motion for mover in prompt.movers)
    if told.together is None or told.together[0] != prompt.together:
        return False
    first, second = (told.tracks[i].look for i in told.together[1:])
    wanted = tuple(mover.look for mover in prompt.movers)
    return (first, second) == wanted or (prompt.together == "meeting" and (second, first) == wanted)


def matches(prompts: Sequence[ClipPrompt], clips: Tensor | Sightings | Sequence[Told]) -> Tensor:
    """(B,) bool: which clips show their prompts, wholly (`shows`). Unreadable clips do not."""
    told = tracks(clips) if isinstance(clips, Tensor | Sightings) else clips
    require(len(told) == len(prompts), "clips", f"{len(told)} of them", f"{len(prompts)}, as prompts")
    return torch.tensor([shows(prompt, each) for prompt, each in zip(prompts, told)], dtype=torch.bool)
