"""Films: clips that move in a notebook, strips of their frames for paper, and what was read in them drawn on top.

A film's output carries two forms of itself, as a widget's does: a video of a few kilobytes, which any browser plays,
and a PNG of its frames side by side, for a printed page or a PDF. Where clips stand side by side they are one film.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from fractions import Fraction
from html import escape
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.judges.clips import Told
from minidiff.show.style import CYCLE
from minidiff.show.widgets import png
from minidiff.validate import describe, integer, number, require

CODECS = {"mp4": ("libx264", {"crf": "12", "preset": "veryfast"}), "webm": ("libvpx-vp9", {"crf": "15", "b": "0"})}
"""By container: an encoder and its quality. Flat colours and hard edges cost little, and show every saving."""
GAP = 2
"""White pixels around a clip that stands beside another."""


def _require_clips(clips: Tensor) -> Tensor:
    fits = isinstance(clips, Tensor) and clips.is_floating_point() and clips.ndim == 5 and clips.shape[1] in (1, 3)
    require(fits and clips.numel() > 0, "clips", describe(clips), "shape (B, 1 or 3, T, H, W), nothing empty")
    return ((clips.detach().float().cpu().clamp(-1, 1) + 1) / 2).expand(-1, 3, -1, -1, -1)


def frames(clips: Tensor, columns: int | None = None, scale: int = 8) -> np.ndarray:
    """Clips (B, 1 or 3, T, H, W) in [−1, 1] side by side: (T, height, width, 3) uint8, height and width even.

    columns: how many stand in one row, all of them if None. scale: screen pixels per pixel; values outside are clipped.
    """
    x, scale = _require_clips(clips), integer("scale", scale)
    columns = min(integer("columns", len(x) if columns is None else columns), len(x))
    x = x.repeat_interleave(scale, 3).repeat_interleave(scale, 4)
    x = F.pad(x, (GAP, GAP, GAP, GAP), value=1.0)
    x = torch.cat([x, torch.ones(-len(x) % columns, *x.shape[1:])])  # empty places are white
    sheet = x.reshape(-1, columns, *x.shape[1:]).permute(3, 0, 4, 1, 5, 2).flatten(3, 4).flatten(1, 2)  # (T, H, W, 3)
    even = [n % 2 for n in sheet.shape[1:3]]  # a video has one colour for four pixels
    sheet = F.pad(sheet, (0, 0, 0, even[1], 0, even[0]), value=1.0)
    return (255 * sheet).round().to(torch.uint8).numpy()


def encode(pictures: np.ndarray, fps: float = 8, container: str = "mp4") -> bytes:
    """A video of `pictures` (T, H, W, 3) uint8, H and W even, at `fps` frames a second. container: "mp4" or "webm".

    mp4 is H.264, which every browser plays; webm is VP9, which needs no licence.
    """
    array = isinstance(pictures, np.ndarray)
    fits = array and pictures.dtype == np.uint8 and pictures.ndim == 4
    fits = fits and pictures.shape[0] > 0 and pictures.shape[3] == 3 and not any(n % 2 for n in pictures.shape[1:3])
    got = f"{pictures.dtype} array of shape {pictures.shape}" if array else describe(pictures)
    require(fits, "pictures", got, "uint8, shape (T, H, W, 3), H and W even")
    require(container in CODECS, "container", repr(container), f"one of {tuple(CODECS)}")
    fps = number("fps", fps, "0 < fps ≤ 240 frames a second", lambda v: 0 < v <= 240)
    import av  # here, because only films need it, and FFmpeg takes a while to load

    buffer, (codec, options) = io.BytesIO(), CODECS[container]
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1000), options=dict(options))
        stream.thread_count = 1  # two threads once made other bytes of the same frames
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def decode(video: bytes) -> np.ndarray:
    """The frames of a video, (T, H, W, 3) uint8: what `encode` was given, but for the codec's losses."""
    import av

    with av.open(io.BytesIO(video), "r") as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def film(
    clips: Tensor, names: Sequence[str] = (), fps: float = 8, columns: int | None = None, scale: int = 8,
    container: str = "mp4",
) -> None:  # fmt: skip
    """Show clips (B, 1 or 3, T, H, W) in [−1, 1] side by side as one film that begins again and again.

    names: one for each clip, in the strip that a page without a browser shows, and in the text beside the film.
    """
    display(output(clips, names, fps, columns, scale, container), raw=True)


def output(
    clips: Tensor, names: Sequence[str] = (), fps: float = 8, columns: int | None = None, scale: int = 8,
    container: str = "mp4",
) -> dict[str, str]:  # fmt: skip
    """What `film` displays raw: "text/html" with the video inside, "image/png" with the strip, "text/plain"."""
    pictures = frames(clips, columns, scale)
    video = b64encode(encode(pictures, fps, container)).decode("ascii")
    still = b64encode(png(cast(Figure, strip(clips, names).figure))).decode("ascii")
    _, height, width, _ = pictures.shape
    words = f"[film of {clips.shape[2]} frames: {'; '.join(names) or f'{len(clips)} clip(s)'}]"
    html = (
        f'<video autoplay loop muted playsinline controls width="{width}" height="{height}" style="max-width:100%">'
        f'<source type="video/{container}" src="data:video/{container};base64,{video}">{escape(words)}</video>'
    )
    return {"text/html": html, "image/png": still, "text/plain": words}


def strip(
    clips: Tensor, names: Sequence[str] = (), told: Sequence[Told] = (), scale: float = 0.9, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Clips (B, 1 or 3, T, H, W) in [−1, 1], one a row, their frames side by side; `names` stand above the rows.

    told: what `judges.clips.tracks` says of each; then every object's place is marked in every frame: a dot where it
    was seen, a ring where its path goes on unseen, one colour for each track.
    """
    x = _require_clips(clips)
    b, _, t, h, w = x.shape
    require(len(names) in (0, b), "names", f"{len(names)} of them", f"none, or {b}, one for each clip")
    require(len(told) in (0, b), "told", f"{len(told)} of them", f"none, or {b}, one for each clip")
    above = 0.3 * h if names else 1  # of a row, in pixels
    if ax is None:
        ax = plt.subplots(figsize=(max(t * scale * w / max(h, w), 3.0), b * scale * (h + above) / max(h, w) + 0.1))[1]
    for i in range(b):
        top = i * (h + above) + above
        for k in range(t):
            left = k * (w + 1)
            ax.imshow(x[i, :, k].permute(1, 2, 0).numpy(), extent=(left, left + w, top + h, top), vmin=0, vmax=1)
            for order, track in enumerate(told[i].tracks if told else ()):
                _mark(ax, track.places[k].tolist(), bool(track.seen[k]), order, (left, top), min(h, w) / 16)
        if names:
            ax.text(0, top - 0.08 * h, names[i], fontsize=9, va="bottom")
    ax.set(xlim=(-0.5, t * (w + 1)), ylim=(b * (h + above) + 0.5, 0), aspect="equal")
    ax.axis("off")
    return ax


def _mark(ax: Axes, place: Sequence[int], seen: bool, order: int, corner: tuple[float, float], step: float) -> None:
    """A dot or a ring on the centre of a cell; white around it, so that it shows on any colour."""
    x, y = corner[0] + (place[1] + 0.5) * step, corner[1] + (place[0] + 0.5) * step
    inside = CYCLE[order % len(CYCLE)] if seen else "none"
    ax.plot(x, y, "o", markersize=4.5, markerfacecolor=inside, markeredgecolor="white" if seen else "black")


def traces(clip: Tensor, told: Told, ax: Axes | None = None, title: str = "") -> Axes:
    """One clip (1 or 3, T, H, W) in [−1, 1] in one picture: its first frame, pale, and the tracks of `told` across it.

    A line goes from where an object was first to where it was last, there with an arrow, a dot for each frame that
    shows it; the legend says what it is and how it moves.
    """
    require(clip.ndim == 4, "clip", describe(clip), "one clip, shape (1 or 3, T, H, W)")
    x = _require_clips(clip[None])[0, :, 0].permute(1, 2, 0)
    h, w = x.shape[:2]
    ax = ax if ax is not None else plt.subplots(figsize=(3.6 * w / max(h, w) + 0.2, 3.6 * h / max(h, w) + 0.9))[1]
    ax.imshow((1 - (1 - x) * 0.45).numpy(), vmin=0, vmax=1, extent=(0, w, h, 0))
    step = min(h, w) / 16
    for i, track in enumerate(told.tracks):
        y, x_ = ((track.places[:, axis] + 0.5) * step for axis in (0, 1))
        colour = CYCLE[i % len(CYCLE)]
        words = " ".join(filter(None, (track.colour, track.kind)))
        ax.plot(x_, y, color=colour, label=f"{words}: {track.motion or 'motion unreadable'}")
        ax.plot(x_[track.seen], y[track.seen], "o", color=colour, markersize=4)
        moved = [k for k in range(1, len(y)) if (float(x_[k]), float(y[k])) != (float(x_[k - 1]), float(y[k - 1]))]
        if moved:
            k = moved[-1]
            last, before = ((float(x_[at]), float(y[at])) for at in (k, k - 1))
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 16}
            ax.annotate("", xy=last, xytext=before, arrowprops=arrow)
    ax.set(xticks=[], yticks=[], xlim=(0, w), ylim=(h, 0), title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if told.tracks:
        ax.legend(loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=0.2)
    return ax
