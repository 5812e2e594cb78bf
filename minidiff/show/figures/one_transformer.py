"""The figures of chapter 14. Functions take data and draw; they return nothing, so that a cell may end with one."""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from matplotlib.colors import ListedColormap
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, GREEN, ORANGE, RED, panels

WORD, SQUARE = ORANGE, BLUE


def there_and_back(
    asked: Sequence[str], pictures: Tensor, said: Sequence[str], right: Sequence[bool], title: str
) -> None:  # fmt: skip
    """Pictures (B, 3, S, S) under what was asked for and over what was said of them; wrong ones in a red frame."""
    lines = max(len(_lines(text).split("\n")) for text in (*asked, *said))
    _, axes = panels(1, len(pictures), size=(1.02, 1.75 + 0.22 * lines))
    for ax, picture, above, below, good in zip(axes, pictures, asked, said, right):
        grid(picture[None], columns=1, ax=ax)
        ax.set_title(_lines(above), fontsize=7, loc="center")
        ax.set_xlabel(_lines(below), fontsize=7, color=BLUE)
        _framed(ax, good)
    axes[0].figure.suptitle(title)


def _lines(text: str, width: int = 13) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _framed(ax, good: bool) -> None:
    ax.set(xticks=[], yticks=[])
    ax.axis("on")
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=not good, color=RED, linewidth=2)


def looks(found: Mapping[str, Tensor], owners: Mapping[str, Sequence[int]], title: str) -> None:
    """Masks (L, L) of sequences; owners say which picture a token belongs to, −1 for words and signs."""
    _, axes = panels(1, len(found), size=(3.1, 3.3))
    for ax, (name, mask) in zip(axes, found.items()):
        owner = torch.tensor(owners[name])
        same = (owner[:, None] == owner) & (owner >= 0)[:, None]
        ax.imshow((mask.int() + (mask & same).int()).numpy(), cmap=ListedColormap(["white", WORD, SQUARE]), vmax=2)
        edges = [i - 0.5 for i in range(1, len(owner)) if owner[i] != owner[i - 1]]
        for edge in edges:
            ax.axhline(edge, color=BLACK, linewidth=0.5)
            ax.axvline(edge, color=BLACK, linewidth=0.5)
        ax.set(title=name, xlabel="token", ylabel="token")
        ax.grid(False)
    handles = [axes[0].plot([], [], "s", color=c, label=n)[0] for c, n in ((WORD, "past"), (SQUARE, "same picture"))]
    axes[-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].figure.suptitle(title)


def trade(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], labels: Sequence[str], title: str
) -> None:  # fmt: skip
    """curves[name][point] = (mean, sd) across and up: a panel and a line for each name, both axes logarithmic."""
    _, axes = panels(1, len(curves), size=(3.5, 3.0))
    for ax, (i, (name, points)) in zip(axes, enumerate(curves.items())):
        (x, dx), (y, dy) = (zip(*part) for part in zip(*points.values()))
        ax.errorbar(x, y, xerr=dx, yerr=dy, fmt="o-", color=CYCLE[i], capsize=2)
        for word, at in zip(points, zip(x, y)):
            ax.annotate(word, at, (5, 5), textcoords="offset points", fontsize=8)
        ax.set(xlabel=labels[0], title=name, xscale="log", yscale="log")
        ax.title.set_fontsize(9.5)
        ax.margins(0.18)
        ax.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
        low, high = min(y), max(y)
        ticks = [low, high] if high < 1.5 * low else [t for t in (0.05, 0.1, 0.2, 0.4, 0.8) if t < 1.2 * high]
        ax.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel(labels[1])
    axes[0].figure.suptitle(title)


def over_noise(lines: Mapping[str, Mapping[float, float]], seen: float, title: str) -> None:
    """Shares over the noise level of the picture; the levels up to `seen` are shaded."""
    _, (ax,) = panels(1, 1, size=(5.2, 2.9))
    ax.axvspan(0, seen, color=GREEN, alpha=0.15, label="met in training")
    for i, (name, values) in enumerate(lines.items()):
        ax.plot(list(values), list(values.values()), "o-", color=CYCLE[i], label=name)
    ax.set(xlabel="noise level t of the picture", ylabel="descriptions that are true", ylim=(-0.03, 1.05), title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def diagonal(places: Tensor, parts: Sequence[int | tuple[int, int]], title: str) -> None:
    """Row and column (L, 2) of every token of a story; parts: numbers of words, (rows, columns) of pictures."""
    _, (ax,) = panels(1, 1, size=(4.6, 4.4))
    first, seen = 0, set()
    for part in parts:
        n = part if isinstance(part, int) else part[0] * part[1]
        kind = "word" if isinstance(part, int) else "square"
        at, colour = places[first : first + n], WORD if kind == "word" else SQUARE
        label = kind if kind not in seen else None
        ax.plot(at[:, 1], at[:, 0], "o" if kind == "word" else "s", color=colour, markersize=4, label=label)
        seen.add(kind)
        first += n
    ax.plot([0, first], [0, first], color=BLACK, linewidth=0.6, linestyle=":")
    ax.set(xlabel="column", ylabel="row", aspect="equal", title=title)
    ax.invert_yaxis()
    ax.legend(loc="lower left")


def shapes(texts: Sequence[str], pictures: Sequence[Tensor], right: Sequence[bool], title: str) -> None:
    """Pictures (3, H, W) of several shapes, all at one scale, each under its sentence; wrong ones in a red frame."""
    _, axes = panels(1, len(pictures), size=(1.25, 2.5))
    for ax, picture, text, good in zip(axes, pictures, texts, right):
        grid(picture[None], columns=1, ax=ax)
        ax.set(xlim=(-0.5, 25.5), ylim=(25.5, -0.5))
        ax.set_title(_lines(text), fontsize=7, loc="left")
        _framed(ax, good)
    axes[0].figure.suptitle(title)


def edited(
    before: Sequence[Tensor], texts: Sequence[str], after: Sequence[Tensor], right: Sequence[bool], title: str
) -> None:  # fmt: skip
    """A column for each edit: the picture before, the instruction, the picture after, in a red frame if not as told."""
    _, axes = panels(2, len(before), size=(1.25, 1.55))
    for i, (x, text, y, good) in enumerate(zip(before, texts, after, right)):
        for ax, picture, fine in ((axes[i], x, True), (axes[len(before) + i], y, good)):
            grid(picture[None], columns=1, ax=ax)
            ax.set(xlim=(-0.5, 25.5), ylim=(25.5, -0.5))
            _framed(ax, fine)
        axes[i].set_xlabel(_lines(text, 15), fontsize=7, color=BLUE)
    axes[0].figure.suptitle(title)
