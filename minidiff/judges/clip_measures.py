"""Numbers for clips that need no caption: does a thing stay itself, and does what stands still stand still?"""

import torch
from torch import Tensor

from minidiff.data.scenes import render
from minidiff.judges.clips import Sightings, Told, cells_of, sightings
from minidiff.validate import require


def identity(told: Told) -> float:
    """Of all sightings of a clip's objects, the share that has the kind and colour of its object. NaN without objects.

    An object that is lost, and found too far away to be the same, counts as another one: `Told.tracks` says how many.
    """
    seen = sum(int(track.seen.sum()) for track in told.tracks)
    changed = sum(int(track.changed.sum()) for track in told.tracks)
    return seen / (seen + changed) if told.tracks else float("nan")


def flicker(clips: Tensor | Sightings) -> Tensor:
    """How restless a clip is apart from what moves in it: (B,), in the pictures' unit of [−1, 1].

    What `parse` reads in each frame is drawn anew and taken away; of what is left, the root mean square of its change
    from frame to frame. 0 for a clip as it is drawn (a little more where objects overlap: there a frame can be read in
    several ways), √2·σ for one with noise of standard deviation σ in each frame.
    clips (B, 3, T, H, W), T ≥ 2, sizes as in `judges.clips.sightings`.
    """
    seen = clips if isinstance(clips, Sightings) else sightings(clips)
    b, _, t, height, width = seen.clips.shape
    require(t > 1, "clips", f"{t} frame(s)", "at least 2")
    drawn = render(seen.parsed.scenes, min(height, width), cells_of(seen.clips))
    left = seen.clips - drawn.reshape(b, t, 3, height, width).transpose(1, 2)
    return left.diff(dim=2).square().flatten(1).mean(1).sqrt()


def frame_correlation(clips: Tensor, lag: int = 1) -> Tensor:
    """How alike frames `lag` apart are: (B,), Pearson's correlation over all values, the mean over the pairs.

    clips (B, C, T, H, W) of any size, T > lag ≥ 1. 1 where nothing moves, about 0 for frames of independent noise.
    """
    require(clips.ndim == 5 and clips.is_floating_point(), "clips", tuple(clips.shape), "shape (B, C, T, H, W)")
    require(1 <= lag < clips.shape[2], "lag", lag, f"1 ≤ lag < {clips.shape[2]}, the number of frames")
    x = clips.detach().double().transpose(1, 2).flatten(2)  # (B, T, C·H·W)
    x = x - x.mean(2, keepdim=True)
    a, b = x[:, :-lag], x[:, lag:]
    lengths = a.norm(dim=2) * b.norm(dim=2)
    return ((a * b).sum(2) / lengths.clamp(min=torch.finfo(torch.float64).tiny)).mean(1)
