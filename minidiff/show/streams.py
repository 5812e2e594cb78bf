"""What words and picture read of each other, block by block and head by head: the page behind chapter 13's widget.

It knows nothing of a model: `look` is any function (design, text, t, seed) → `Looked`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.playground import refusal, tidy
from minidiff.show.plots import grid
from minidiff.show.style import panels
from minidiff.validate import require

MEAN = "the mean of all"
"""In place of a block's or a head's number."""


@dataclass(frozen=True)
class Looked:
    """A noisy picture, and what a network makes of it: (3, S, S) each; its words; by block its maps.

    of_words (heads, N, M): what the picture's tokens read of the words. of_picture (heads, M, N): what the words read
    of the picture, None where they read nothing.
    """

    noisy: Tensor
    guess: Tensor
    words: Sequence[str]
    of_words: Mapping[str, Tensor]
    of_picture: Mapping[str, Tensor | None]


def chosen(maps: Mapping[str, Tensor | None], block: str, head: str) -> Tensor | None:
    """One block's map of one head, or means: (rows, columns). Blocks and heads are counted from 1."""
    tables = [table for table in maps.values() if table is not None]
    if not tables:
        return None
    if block != MEAN:
        i = int(block)
        require(1 <= i <= len(tables), "block", block, f"1 … {len(tables)}, or “{MEAN}”")
        tables = tables[i - 1 : i]
    table = torch.stack(tables).mean(0)  # (heads, rows, columns)
    if head == MEAN:
        return table.mean(0)
    require(1 <= int(head) <= len(table), "head", head, f"1 … {len(table)}, or “{MEAN}”")
    return table[int(head) - 1]


def both_ways(
    look: Callable[[str, str, float, int], Looked], vocabulary: Collection[str], blocks: Mapping[str, int],
    longest: int = 16,
) -> Callable[..., Figure]:  # fmt: skip
    """`draw(sentence, design, block, head, t, seed)` → a figure: the picture, then two maps for each word.

    Upper row: where in the picture the word is read. Lower row: where in the picture the word reads. Both are shares of
    one softmax, drawn from 0 to the row's largest. blocks: how many each design has; a number beyond them is the last.
    Nothing is read where there is a `refusal`. `ValueError` for an unknown design.
    """

    def draw(sentence: str, design: str, block: str, head: str, t: float, seed: float) -> Figure:
        require(design in blocks, "design", repr(design), f"one of {list(blocks)}")
        text = tidy(sentence)
        if refused := refusal([text], vocabulary, longest):
            return refused
        at = block if block == MEAN else str(min(int(block), blocks[design]))
        seen = look(design, text, float(t), int(seed))
        title = f"“{text}” · {design} · block: {at} · head: {head} · t = {t:g}"
        return _drawn(seen, chosen(seen.of_words, at, head), chosen(seen.of_picture, at, head), title)

    return draw


def _drawn(seen: Looked, of_words: Tensor | None, of_picture: Tensor | None, title: str) -> Figure:
    columns = 1 + len(seen.words)
    figure, axes = panels(2, columns, size=(max(0.95, 9.0 / columns), 1.5))
    for ax in axes:
        ax.set_axis_off()
    for ax, picture, name in zip(axes[::columns], (seen.noisy, seen.guess), ("it sees", "it guesses")):
        grid(picture[None], columns=1, ax=ax)
        ax.set_title(name, fontsize=9, loc="center")
    ways = {"read by the picture": None if of_words is None else of_words.T, "reads the picture": of_picture}
    for row, (name, table) in enumerate(ways.items()):
        first, *own = axes[row * columns : (row + 1) * columns]
        if table is None:
            own[0].text(0, 0.5, "words read nothing here", va="center", transform=own[0].transAxes)
            continue
        most = _maps(own, seen.words, table[: len(seen.words)])
        beside = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 8, "transform": first.transAxes}
        first.text(-0.1, 0.5, f"{name}\n(darkest: {most:.2f})", **beside)
    figure.suptitle(title)
    return figure


def _maps(axes: Sequence[Axes], words: Sequence[str], table: Tensor) -> float:
    """A map for each word, on one scale, whose upper end is returned."""
    side, most = int(table.shape[1] ** 0.5), float(table.max())
    for ax, word, weights in zip(axes, words, table):
        ax.imshow(weights.reshape(side, side).numpy(), cmap="Blues", vmin=0, vmax=most)
        ax.set_title(word, fontsize=8, loc="center")
    return most
