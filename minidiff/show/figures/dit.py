"""The figures of chapter 11. Functions take data and draw; but for `page` they return nothing, so that a cell may end
with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from minidiff.nn.block import Norm
from minidiff.show.architecture import Called
from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, ORANGE, RED, SKY, panels

SIZES = {"S": CYCLE[0], "M": CYCLE[1], "L": CYCLE[2]}
PATCHES = {"8": "s", "4": "o", "2": "^"}
"""A colour for each size, a mark for each patch."""


def _plain(axis: Axis) -> None:
    """Numbers of a logarithmic axis as 0.2, 0.3, 0.5, 1: not as powers of ten, and fewer where it is long."""

    def between(value: float, _: int | None = None) -> str:
        low, high = axis.get_view_interval()
        named = "235" if high < 30 * low else "25" if high < 300 * low else ""
        return f"{value:g}" if f"{value:.0e}"[0] in named else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(between))


def _apart(picture: Tensor, patch: int, gap: int = 2) -> Tensor:
    """A picture (C, S, S), every pixel enlarged, its patches moved apart: (C, T, T)."""
    large = picture.repeat_interleave(8, 1).repeat_interleave(8, 2)
    rows = [row for band in large.split(8 * patch, 1) for row in (band, torch.ones_like(band[:, :gap]))][:-1]
    tall = torch.cat(rows, 1)
    columns = [c for band in tall.split(8 * patch, 2) for c in (band, torch.ones_like(band[:, :, :gap]))][:-1]
    return torch.cat(columns, 2)


def patches(picture: Tensor, cuts: Sequence[int], title: str) -> None:
    """A picture (3, S, S), and beside it what it is cut into, for each side of a patch."""
    figure, axes = panels(1, 1 + len(cuts), size=(2.4, 2.6))
    grid(picture[None], columns=1, ax=axes[0], title=f"{picture.shape[-1]}×{picture.shape[-1]} pixels")
    for ax, patch in zip(axes[1:], cuts):
        n = (picture.shape[-1] // patch) ** 2
        grid(_apart(picture, patch, 1 + patch)[None], columns=1, ax=ax, title=f"p = {patch}: {n} tokens")
    figure.suptitle(title)


def similarity(maps: Mapping[str, Tensor], at: tuple[int, int], title: str) -> None:
    """A panel for each name: how alike every place (h, w) is to the place `at` (row, column), on one scale."""
    figure, axes = panels(1, len(maps), size=(2.9, 2.9))
    for ax, (name, values) in zip(axes, maps.items()):
        image = ax.imshow(values.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
        ax.plot(at[1], at[0], "o", color=BLACK, markerfacecolor="none", markersize=13, markeredgewidth=1.6)
        ax.set(title=name, xticks=[], yticks=[])
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="cosine with the place in the ring")
    figure.suptitle(title)


def _enters(call: Called, tokens: int) -> bool:
    """Does the condition take part here? A modulation, a look at other tokens, or more tokens than the picture's."""
    shape = call.shapes.get("", ())
    modulated = call.kind == Norm.__name__ and call.parameters > 1000
    return modulated or call.looks_at is not None or (len(shape) > 1 and (shape[-2] > tokens or shape[0] == 1))


def _box(ax: Axes, call: Called, y: float, tokens: int) -> None:
    name = ".".join(part for part in call.name.split(".") if part not in ("blocks", "0", "attention"))
    colour = ORANGE if _enters(call, tokens) else SKY
    style = {"boxstyle": "round,pad=0.02", "facecolor": colour, "alpha": 0.75, "linewidth": 0}
    ax.add_patch(FancyBboxPatch((0.03, y - 0.36), 0.94, 0.72, **style))
    said = f"{name}  {call.text}" + (f" ← {call.looks_at}" if call.looks_at else "")
    ax.text(0.06, y, said, va="center", fontsize=7.5)
    ax.text(0.94, y, f"{call.parameters:,}" if call.parameters else "", va="center", ha="right", fontsize=7)


def told(columns: Mapping[str, Sequence[Called]], tokens: int, title: str) -> None:
    """A column for each network: its calls from below, with what left them and their parameters, on the right.

    Orange: where the condition takes part. "← 2": looks at two tokens beside the picture's.
    """
    height = max(map(len, columns.values()))
    figure, axes = panels(1, len(columns), size=(2.75, 0.33 * height + 0.7))
    for ax, (name, calls) in zip(axes, columns.items()):
        for y, call in enumerate(calls):
            _box(ax, call, float(y), tokens)
        ax.set(xlim=(0, 1), ylim=(-0.6, height - 0.3), title=name)
        ax.set_axis_off()
    figure.suptitle(title)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str, title: str, log: bool = True
) -> None:  # fmt: skip
    """Lines {name: (x, y)}, y on a logarithmic axis unless told otherwise."""
    _, (ax,) = panels(1, 1, size=(6.0, 3.1))
    for (name, (x, y)), style in zip(lines.items(), ("-", "-", "--", ":")):
        ax.plot(x, y, style, label=name)
    ax.set(yscale="log" if log else "linear", xlabel=xlabel, ylabel=ylabel, title=title)
    if log:
        _plain(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def ranges(rows: Mapping[str, Sequence[float]], xlabel: str, title: str) -> None:
    """For each name the values of its seeds as dots, and their mean as a bar."""
    _, (ax,) = panels(1, 1, size=(6.4, 0.5 * len(rows) + 1.2))
    for y, values in enumerate(rows.values()):
        mean = sum(values) / len(values)
        ax.barh(y, mean, height=0.6, color=CYCLE[y % len(CYCLE)], alpha=0.35)
        ax.plot(values, [y] * len(values), "o", color=CYCLE[y % len(CYCLE)], markersize=5)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)


def scaling(points: Mapping[str, tuple[float, float]], ylabel: str, title: str) -> None:
    """A point for each "S/8" … "L/2": (Gflops of a call, value). Colour: size; mark: patch; lines join one size."""
    _, (ax,) = panels(1, 1, size=(6.2, 3.6))
    for size, colour in SIZES.items():
        own = {name: point for name, point in points.items() if name.startswith(size)}
        ax.plot(*zip(*own.values()), "-", color=colour, linewidth=1, alpha=0.6)
        for name, (x, y) in own.items():
            ax.plot(x, y, PATCHES[name[-1]], color=colour, markersize=8)
            ax.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9, color=colour)
    ax.set(xscale="log", yscale="log", xlabel="Gflops of one call", ylabel=ylabel, title=title)
    for axis in (ax.xaxis, ax.yaxis):
        _plain(axis)
    ax.margins(x=0.12, y=0.12)


def family(drawn: Mapping[str, Tensor], right: Mapping[str, Sequence[bool]], texts: Sequence[str], title: str) -> None:
    """3×3 panels, each the pictures (B, 3, S, S) of one model; a cross: not what was asked. Captions below."""
    columns = len(texts) // 2
    figure, axes = panels(3, 3, size=(1.15 * columns, 2.45))
    side = next(iter(drawn.values())).shape[-1] + 2
    for ax, (name, pictures) in zip(axes, drawn.items()):
        grid(pictures, columns=columns, ax=ax, title=name)
        for i, shown in enumerate(right[name]):
            if not shown:
                ax.plot((i % columns) * side + side - 3.2, (i // columns) * side + 2.2, "x", color=RED, markersize=6)
    asked = " · ".join(f"{i + 1} {text}" for i, text in enumerate(texts))
    figure.suptitle(title)
    figure.supxlabel(fill(asked, 34 * columns), fontsize=9)


def stacked(times: Sequence[float], floor: Sequence[float], above: Mapping[str, Sequence[float]], title: str) -> None:
    """A panel for each name: over time, the floor in grey and what lies above it in colour, one scale for all."""
    figure, axes = panels(1, len(above), size=(3.0, 2.9), sharey=True)
    places = range(len(times))
    for ax, (name, excess) in zip(axes, above.items()):
        ax.bar(places, floor, color="#bbbbbb", label="floor")
        ax.bar(places, excess, bottom=floor, color=BLUE, label="above it")
        ax.set_xticks(places, [f"{t:g}" for t in times], fontsize=8)
        ax.set(xlabel="t", title=name)
    axes[0].set_ylabel("squared error of x̂0")
    axes[0].legend(loc="upper left")
    figure.suptitle(title)


def sampling(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], live: tuple[str, float, float], title: str
) -> None:
    """Shares over the Gflops of a picture, a line a model {"S/4": (Gflops, shares)}; `live`: (name, Gflops, share)."""
    _, (ax,) = panels(1, 1, size=(6.4, 3.4))
    for name, (work, values) in lines.items():
        ax.plot(work, values, PATCHES[name[-1]] + "-", color=SIZES[name[0]], label=name)
    ax.plot(live[1], live[2], "*", color=RED, markersize=14, label=live[0])
    ax.set(xscale="log", xlabel="Gflops of one picture", ylabel="objects that are there", title=title)
    ax.set_ylim(bottom=-0.02)
    _plain(ax.xaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def page(drawn: Mapping[str, Tensor], facts: str) -> Figure:
    """Of the widget: the first picture in its tokens, and beside it the pictures (B, 3, S, S) of the network named."""
    ((name, pictures),) = drawn.items()
    figure, (left, right) = panels(1, 2, size=(4.6, 2.4), width_ratios=[1, 3.6])
    patch = int(name[-1])
    grid(_apart(pictures[0], patch, 1 + patch)[None], columns=1, ax=left, title="as its tokens")
    grid(pictures, columns=len(pictures), ax=right)
    figure.suptitle(f"DiT-{name}: {facts}")
    return figure
