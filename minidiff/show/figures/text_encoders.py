"""The figures of chapter 12. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, CYCLE, panels

_PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}


def matrices(pictures: Tensor, texts: Sequence[str], cosines: Mapping[str, Tensor], title: str) -> None:
    """Two pictures (2, 3, S, S), and for each name the 2×2 table of their cosines with two texts."""
    figure, axes = panels(1, 1 + len(cosines), size=(2.9, 2.6), width_ratios=[1.35, *[1] * len(cosines)])
    grid(pictures, columns=2, ax=axes[0])
    side = pictures.shape[-1] + 2
    named = [f"{i}: {fill(text, 17)}" for i, text in enumerate(texts)]
    axes[0].set_xticks([side * (i + 0.5) for i in (0, 1)], named)
    axes[0].tick_params(axis="x", labelsize=8)
    for ax, (name, table) in zip(axes[1:], cosines.items()):
        ax.imshow(table.numpy(), cmap="Blues", vmin=float(table.min()) - 0.1, vmax=float(table.max()) + 0.1)
        for a in (0, 1):
            for b in (0, 1):
                best = float(table[a, b]) == float(table[a].max())
                ax.text(b, a, f"{table[a, b]:.3f}", ha="center", va="center", fontweight="bold" if best else "normal")
        ax.set(title=name, xticks=[0, 1], yticks=[0, 1], xlabel="caption", ylabel="picture")
        ax.grid(False)
    figure.suptitle(title)


def bars(groups: Mapping[str, Mapping[str, float]], chance: float, xlabel: str, title: str) -> None:
    """For each group a bar for each series that it has, and a line at `chance`; 0 is drawn as a mark."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    _, (ax,) = panels(1, 1, size=(7.2, 0.24 * sum(map(len, groups.values())) + 0.22 * len(groups) + 1.2))
    y, places = 0.0, []
    for group in groups.values():
        places.append(y + (len(group) - 1) / 2)
        for name, value in group.items():
            ax.barh(y, value, height=0.85, color=CYCLE[series.index(name)])
            ax.text(value + 0.01, y, f"{value:.2f}", va="center", fontsize=8)
            y += 1
        y += 0.9
    ax.axvline(chance, color=BLACK, linewidth=1, linestyle="--")
    ax.set_yticks(places, [fill(name, 26) for name in groups])
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title, xlim=(0, 1.09))
    handles = [Rectangle((0, 0), 1, 1, color=CYCLE[i]) for i in range(len(series))]
    ax.legend(handles, series, loc="center left", bbox_to_anchor=(1.0, 0.5))


def course(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], chance: float, title: str) -> None:
    """Shares over training steps, a line for each name, and a line at `chance`."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.0))
    for i, (name, (steps, shares)) in enumerate(lines.items()):
        ax.plot(steps, shares, "o-", color=CYCLE[i], markersize=4, label=name)
    ax.axhline(chance, color=BLACK, linewidth=1, linestyle="--", label="chance of a swap")
    ax.set(xlabel="step", ylabel="share", ylim=(0, 1.03), title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def layout(context: Tensor, boxes: Mapping[str, tuple[int, int, int, int]], title: str) -> None:
    """A joined context (tokens, channels), zeros in white; a box for each encoder: (first token, tokens, first channel,
    channels)."""
    _, (ax,) = panels(1, 1, size=(6.8, 3.2))
    ax.imshow(context.T.abs().clamp(max=1).numpy(), cmap="Greys", aspect="auto", vmin=0, vmax=1.6)
    for colour, (name, (token, tokens, channel, channels)) in zip(CYCLE, boxes.items()):
        corner, middle = (token - 0.5, channel - 0.5), (token + tokens / 2 - 0.5, channel + channels / 2)
        ax.add_patch(Rectangle(corner, tokens, channels, fill=False, edgecolor=colour, linewidth=2.5))
        ax.text(*middle, name, ha="center", va="center", color=colour, bbox=_PLATE)
    ax.set(xlabel="token", ylabel="channel", title=title)
    ax.grid(False)


def edited(rows: Mapping[str, Tensor], texts: Sequence[str], right: Sequence[bool], title: str) -> None:
    """Pictures (B, 3, S, S) shown and drawn, a column for each instruction; a mark says whether it was done."""
    figure, (ax,) = panels(1, 1, size=(1.35 * len(texts) + 1.0, 1.3 * len(rows) + 1.0))
    grid(torch.cat(list(rows.values())), columns=len(texts), rows=list(rows), ax=ax)
    side = next(iter(rows.values())).shape[-1] + 2
    marks = ["✓" if ok else "✗" for ok in right]
    said = [f"{fill(text, 15)}\n{mark}" for text, mark in zip(texts, marks)]
    ax.set_xticks([side * (i + 0.5) for i in range(len(texts))], said, fontsize=8)
    figure.suptitle(title)
