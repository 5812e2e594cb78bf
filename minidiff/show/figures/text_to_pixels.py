"""The figures of chapter 07. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
from matplotlib.ticker import NullFormatter
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, CYCLE, panels


def same_noise(rows: Mapping[str, Tensor], texts: Sequence[str], title: str) -> None:
    """Pictures (B, 3, S, S) of each name in a row; a column is one text with one noise."""
    beside = 0.11 * max(len(line) for name in rows for line in name.split("\n"))
    figure, (ax,) = panels(1, 1, size=(1.1 * len(texts) + beside, 1.1 * len(rows) + 1))
    grid(torch.cat(list(rows.values())), columns=len(texts), rows=list(rows), ax=ax)
    side = next(iter(rows.values())).shape[-1] + 2
    ax.set_xticks([side * (i + 0.5) for i in range(len(texts))], [fill(text, 15) for text in texts], fontsize=8)
    figure.suptitle(title)


def word_maps(pictures: Tensor, words: Sequence[Sequence[str]], maps: Sequence[Tensor], title: str) -> None:
    """A row each: a picture (3, S, S), then the maps (M, h, w) of its words, from white (least) to blue (most)."""
    columns = 1 + max(map(len, words))
    figure, axes = panels(len(pictures), columns, size=(1.25, 1.45))
    for ax in axes:
        ax.set_axis_off()
    for row, picture in enumerate(pictures):
        first, *rest = axes[row * columns : (row + 1) * columns]
        grid(picture[None], columns=1, ax=first)
        for ax, word, weights in zip(rest, words[row], maps[row]):
            ax.imshow(weights.numpy(), cmap="Blues", vmin=0)
            ax.set_title(word, fontsize=9, loc="center")
    figure.suptitle(title)


def cascade(stages: Sequence[Tensor], texts: Sequence[str], title: str) -> None:
    """A column for each text; below one another its pictures (B, 3, S, S) of the stages, all drawn equally large."""
    side = max(x.shape[-1] for x in stages)
    enlarged = [x.repeat_interleave(side // x.shape[-1], 2).repeat_interleave(side // x.shape[-1], 3) for x in stages]
    same_noise({f"{x.shape[-1]} px": large for x, large in zip(stages, enlarged)}, texts, title)


def closer(levels: Tensor, curves: Mapping[str, Tensor], title: str) -> None:
    """Curves over noise levels, on a logarithmic axis of divergences."""
    _, (ax,) = panels(1, 1, size=(5.4, 3.0))
    for (name, values), style in zip(curves.items(), ("-", "--", ":")):
        ax.plot(levels, values, style, label=name)
    ax.set(yscale="log", xlabel="noise level s", ylabel="divergence (nats)", title=title)
    ax.legend()


def frontier(
    costs: Mapping[str, Sequence[float]], scores: Mapping[str, Sequence[float]], best: Sequence[tuple[float, float]],
    title: str,
) -> None:  # fmt: skip
    """A point a run, coloured by name, over a logarithmic axis of costs; a line through the runs nothing dominates."""
    _, (ax,) = panels(1, 1, size=(6.0, 3.4))
    for i, name in enumerate(costs):
        ax.plot(costs[name], scores[name], "o", color=CYCLE[i % len(CYCLE)], markersize=5, label=name)
    ax.step(*zip(*best), where="post", color=BLACK, linewidth=1, label="frontier")
    ax.set(xscale="log", xlabel="operations in training", ylabel="named objects that are there", title=title)
    ax.xaxis.set_minor_formatter(NullFormatter())  # over less than a decade they would run into one another
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def previews(strip: Tensor, times: Sequence[float], title: str) -> None:
    """Rows of previews (R·C, 3, S, S), C to a row, under their times; the last is the picture itself."""
    ax = grid(strip, columns=len(times), scale=0.85, title=title)
    side = strip.shape[-1] + 2
    ax.set_xticks([side * (i + 0.5) for i in range(len(times))], [f"t = {t:.2f}" if t else "done" for t in times])


def settled(frequencies: Sequence[float], found: Mapping[str, Sequence[float]], title: str) -> None:
    """The times at which bands are half settled, by name, against their frequency; the first name as a line."""
    _, (ax,) = panels(1, 1, size=(5.4, 3.2))
    for i, (name, times) in enumerate(found.items()):
        ax.plot(frequencies, times, "-" if i == 0 else "o", color=CYCLE[i], label=name)
    ax.set(xlabel="frequency (waves per picture)", ylabel="half settled at t", ylim=(0, 1), title=title)
    ax.legend()
