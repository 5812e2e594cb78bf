"""The figures of chapter 06. Functions take data and draw; they return nothing, so that a cell may end with one."""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, ORANGE, RED, panels


def cosines(pictures: Tensor, tables: Mapping[str, Tensor], title: str) -> None:
    """Pictures (B, 3, S, S) in a column; beside them a map of cosines (B, B) for each name, on one colour scale."""
    widths = [0.3, *(1 for _ in tables)]
    figure, axes = panels(1, 1 + len(tables), size=(3.0, 3.7), width_ratios=widths)
    grid(pictures, columns=1, rows=[str(i) for i in range(len(pictures))], ax=axes[0])
    for ax, (name, table) in zip(axes[1:], tables.items()):
        image = ax.imshow(table, vmin=-1, vmax=1, cmap="PuOr_r")
        ax.set(title=name, xlabel="caption", ylabel="picture", xticks=range(len(table)), yticks=range(len(table)))
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="cosine")
    figure.suptitle(title)


def loss_against_scale(scales: Tensor, losses: Mapping[str, Sequence[float]], learned: float, chance: float) -> None:
    """Loss curves over a logarithmic axis of scales, with chance and the scale that training chose."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.2))
    for name, values in losses.items():
        ax.plot(scales, values, label=name)
    ax.axhline(chance, color=BLACK, linestyle=":", label=f"chance, {chance:.2f}")
    ax.axvline(learned, color="grey", linestyle="--", label=f"learned scale, {learned:.0f}")
    title = "Being sure pays for right pairs, and costs wrong ones dearly"
    ax.set(xscale="log", ylim=(0, 8), xlabel="scale s", ylabel="loss", title=title)
    ax.legend()


def training(losses: Sequence[float], chance: float, floor: float, title: str) -> None:
    """The loss of every training batch, between chance and the floor."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.0))
    ax.plot(losses, linewidth=0.8, label="training batch")
    ax.axhline(chance, color=BLACK, linestyle=":", label=f"chance, {chance:.2f}")
    ax.axhline(floor, color="grey", linestyle="--", label=f"floor of new batches, {floor:.2f}")
    ax.set(xlabel="step", ylabel="loss", ylim=(0, 3.8), title=title)
    ax.legend(loc="upper right", bbox_to_anchor=(1.0, 0.88))


def with_spread(
    x: Sequence[int], runs: Mapping[str, Tensor], levels: Mapping[str, float], labels: tuple[str, str], title: str
) -> None:
    """Means of runs (seeds, len(x)) with bars of one standard deviation, over a logarithmic axis.

    levels: dotted lines, such as chance. labels: of the two axes.
    """
    _, (ax,) = panels(1, 1, size=(5.8, 3.4))
    for name, values in runs.items():
        ax.errorbar(x, values.mean(0), values.std(0), marker="o", markersize=4, capsize=3, label=name)
    for (name, level), style in zip(levels.items(), (":", "--")):
        ax.axhline(level, color=BLACK, linewidth=1, linestyle=style, label=name)
    ax.set(xscale="log", xlabel=labels[0], ylabel=labels[1], title=title, ylim=(0, None))
    ax.set_xticks(list(x), [str(n) for n in x])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def classes(table: Tensor, answers: Tensor, names: Sequence[str], title: str) -> None:
    """Cosines (B, K) of pictures with classes; the pictures in order of their class (B,), a line after each class."""
    figure, (ax,) = panels(1, 1, size=(6.0, 4.6))
    order = answers.argsort(stable=True)
    image = ax.imshow(table[order], cmap="viridis", aspect="auto")
    counts = torch.bincount(answers, minlength=len(names))
    ends = counts.cumsum(0)
    for end in ends[:-1].tolist():
        ax.axhline(end - 0.5, color="white", linewidth=1)
    ax.set_yticks((ends - counts / 2 - 0.5).tolist(), [f"{name} ({n})" for name, n in zip(names, counts.tolist())])
    ax.set_xticks(range(len(names)), names, rotation=35, ha="right")
    ax.set(xlabel="class made of words", ylabel="pictures of", title=title)
    ax.grid(False)
    figure.colorbar(image, ax=ax, label="cosine")


def captioned(pictures: Tensor, texts: Sequence[str], faults: Sequence[str], title: str, columns: int = 4) -> None:
    """Pictures (B, 3, S, S), the text found beside each below it, and in red what is wrong with it."""
    rows = -(-len(pictures) // columns)
    figure, axes = panels(rows, columns, size=(2.5, 2.2))
    for ax, picture, text, fault in zip(axes, pictures, texts, faults):
        grid(picture[None], columns=1, ax=ax)
        ax.set_title(fault or "right", fontsize=10, color=RED if fault else BLACK, loc="center")
        ax.set_xlabel("\n".join(textwrap.wrap(text, 30)), fontsize=9)
    for ax in axes[len(pictures) :]:
        ax.set_axis_off()
    figure.suptitle(title)


def scores(parts: Mapping[str, Tensor], title: str) -> None:
    """Histograms of cosines on one axis; the last one as a line."""
    _, (ax,) = panels(1, 1, size=(5.8, 3.0))
    for i, (name, part) in enumerate(parts.items()):
        last = i == len(parts) - 1
        style = {"histtype": "step", "linewidth": 1.8} if last else {"alpha": 0.6}
        ax.hist(part.numpy(), bins=60, range=(-0.5, 1), density=True, label=name, **style)
    ax.set(xlabel="cosine of picture and text", ylabel="density", title=title)
    ax.legend()


def hits(pictures: Tensor, similarities: Sequence[float], title: str):
    """Pictures found, best first, two rows of eight, their cosines above them. Returns the figure, for a widget."""
    figure, axes = panels(2, 8, size=(1.15, 1.5))
    for ax in axes:
        ax.set_axis_off()
    for ax, picture, similarity in zip(axes, pictures, similarities):
        ax.set_axis_on()
        grid(picture[None], columns=1, ax=ax)
        ax.set_title(f"{similarity:.2f}", fontsize=9, loc="center")
    figure.suptitle(title)
    return figure


def recalls(curves: Mapping[str, Mapping[str, Sequence[float]]], n: int, title: str) -> None:
    """Recall at 1 … n, a panel for each style; names that begin with "bag of words" are dotted."""
    figure, axes = panels(1, len(curves), size=(4.1, 3.2), sharey=True)
    for ax, (style, lines) in zip(axes, curves.items()):
        for i, (name, values) in enumerate(lines.items()):
            dotted = name.startswith("bag of words")
            ax.plot(range(1, n + 1), values, ":" if dotted else "-", color=(BLUE, ORANGE)[i // 2], label=name)
        ax.plot(range(1, n + 1), [k / n for k in range(1, n + 1)], "--", color=BLACK, linewidth=1, label="chance")
        ax.set(xlabel=f"pictures looked at, of {n}", xscale="log", title=style)
    axes[0].set_ylabel("share found")
    axes[0].legend(fontsize=8)
    figure.suptitle(title)


def nearest(sheet: Tensor, rows: Sequence[str], title: str) -> None:
    """Pictures (7·R, 3, 32, 32), a row for each concept: the right picture, then the six that were found."""
    ax = grid(sheet, columns=7, rows=rows, scale=0.8, title=title)
    side = sheet.shape[-1] + 2
    ax.set_xticks([side * (i + 0.5) for i in range(7)], ["right", *(f"no. {i}" for i in range(1, 7))])


def bars(values: Mapping[str, float], chance: float, title: str) -> None:
    """One horizontal bar a name, with its number, and a line at chance."""
    _, (ax,) = panels(1, 1, size=(5.6, 2.0))
    drawn = ax.barh(list(values), list(values.values()), color=CYCLE[0])
    ax.bar_label(drawn, fmt=" %.2f")
    ax.axvline(chance, color=BLACK, linestyle=":")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.15), xlabel="share of pictures whose right caption scores higher (dotted: chance)", title=title)
