"""The figures of chapter 10. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, RED, panels


def loaded(sheets: Tensor, corners: Tensor, pictures: Tensor, texts: Sequence[str], title: str) -> None:
    """Above, sheets (B, 3, n, n) and on each the frame whose corner (top, left) is in corners (B, 2); below, what the
    frame holds, (B, 3, s, s), over its text."""
    figure, axes = panels(2, len(sheets), size=(1.35, 1.5), height_ratios=[1.1, 1.25])
    side = pictures.shape[-1]
    for i, (above, below) in enumerate(zip(axes, axes[len(sheets) :])):
        grid(sheets[i : i + 1], columns=1, ax=above)
        top, left = corners[i].tolist()
        above.add_patch(Rectangle((left + 0.5, top + 0.5), side, side, fill=False, color=RED, linewidth=1.5))
        grid(pictures[i : i + 1], columns=1, ax=below)
        below.set_xlabel(texts[i], fontsize=7)
    figure.suptitle(title)


def wavy(values: Tensor, features: Tensor, title: str) -> None:
    """Left, features (N, F) of the values (N,) as colours; right, how alike each is to that of three of the values."""
    figure, (left, right) = panels(1, 2, size=(4.6, 2.9))
    image = left.imshow(features.T.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto", origin="lower")
    left.set(xlabel="top of the crop, pixels", ylabel="feature", title="cosines (below), then sines")
    left.grid(False)
    figure.colorbar(image, ax=left)
    pairs = features.shape[1] / 2
    for k, colour in zip((0, len(values) // 2, len(values) - 1), CYCLE):
        right.plot(values, features @ features[k] / pairs, color=colour, label=f"with {values[k]:g}")
    right.set(xlabel="top of the crop, pixels", ylabel="cosine of two embeddings", title="alike where near")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title)


def told_and_read(found: Mapping[str, tuple[Tensor, Tensor]], title: str) -> None:
    """A panel for each name: what was told (N,), to the right, and what was read in the picture (N,), upwards."""
    figure, axes = panels(1, len(found), size=(3.1, 3.0))
    for ax, (name, (told, read)) in zip(axes, found.items()):
        limit = float(torch.cat([told, read]).max()) + 1
        ax.plot([0, limit], [0, limit], "-", color=BLACK, linewidth=0.8)
        ax.plot(told, read, "o", color=BLUE, markersize=4, alpha=0.7)
        ax.set(xlabel="told, pixels", ylabel="read, pixels", title=name, ylim=(-2, limit + 2))
    figure.suptitle(title)


def marked(
    rows: Mapping[str, Tensor], texts: Sequence[str], bad: Mapping[str, Tensor], title: str, scale: float = 1.1
) -> None:
    """Pictures (B, 3, S, S) of each name in a row, a column a text; red frames around those where `bad` (B,) says."""
    side, beside = next(iter(rows.values())).shape[-1] + 2, 0.11 * max(map(len, rows))
    figure, (ax,) = panels(1, 1, size=(scale * len(texts) + beside, scale * len(rows) + 1))
    grid(torch.cat(list(rows.values())), columns=len(texts), rows=list(rows), ax=ax)
    for j, name in enumerate(rows):
        for i in bad[name].nonzero().flatten().tolist():
            ax.add_patch(Rectangle((i * side, j * side), side - 1, side - 1, fill=False, color=RED, linewidth=1.5))
    ax.set_xticks([side * (i + 0.5) for i in range(len(texts))], [fill(text, 15) for text in texts], fontsize=8)
    figure.suptitle(title)


def curves(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, title: str, log: str = ""
) -> None:
    """Lines over x, one for each name, with markers. log: "x", "y" or "xy" for logarithmic axes."""
    _, (ax,) = panels(1, 1, size=(6.2, 3.1))
    for (name, values), style in zip(lines.items(), ("o-", "s--", "^:", "d-.")):
        ax.plot(x, values, style, markersize=4, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.set(**{f"{axis}scale": "log" for axis in log})
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def heard(times: Sequence[float], gaps: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> None:
    """A panel for each kind of wrong caption: by how much it makes the error larger, over times, a line a network."""
    figure, axes = panels(1, len(gaps), size=(3.6, 3.0))
    for ax, (kind, lines) in zip(axes, gaps.items()):
        for (name, values), style in zip(lines.items(), ("o-", "s--", "^:")):
            ax.plot(times, values, style, markersize=4, label=name)
        ax.axhline(0, color=BLACK, linewidth=0.8)
        ax.set(xlabel="t", title=kind)
    axes[0].set_ylabel("error with it − error with its own")
    axes[-1].legend()
    figure.suptitle(title)


def zoomed(rows: Mapping[str, Tensor], texts: Sequence[str], title: str) -> None:
    """A row for each name: pictures (B, 3, S, S), and beside each a quarter of it, enlarged: where there is most to see
    in the first row's picture."""
    first, half = next(iter(rows.values())), next(iter(rows.values())).shape[-1] // 2
    windows = F.avg_pool2d((first - first[..., :1, :1]).abs().mean(1), half, 2)  # (B, h, h)
    places = [divmod(int(place), windows.shape[-1]) for place in windows.flatten(1).argmax(1)]
    pairs = []
    for pictures in rows.values():
        for picture, (top, left) in zip(pictures, places):
            part = picture[:, 2 * top : 2 * top + half, 2 * left : 2 * left + half]
            pairs += [picture, F.interpolate(part[None], scale_factor=2, mode="nearest")[0]]
    beside, n, side = 0.11 * max(map(len, rows)), len(texts), 2 * half + 2
    figure, (ax,) = panels(1, 1, size=(2.1 * n + beside, 1.05 * len(rows) + 0.9))
    grid(torch.stack(pairs), columns=2 * n, rows=list(rows), ax=ax)
    ax.set_xticks([side * (2 * i + 1) for i in range(n)], [fill(text, 28) for text in texts], fontsize=8)
    figure.suptitle(title)
