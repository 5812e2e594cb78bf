"""Two captions that differ in one thing: how alike encoders find them, and what generators that read them draw of both.

What `explore` calls in chapter 12. It knows nothing of a model: a reader is any `Generate`, a measure any function of
the two texts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from textwrap import fill

import torch
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.judges.scorecard import Generate
from minidiff.show.playground import refusal, tidy
from minidiff.show.plots import grid
from minidiff.show.style import BLACK, panels

EACH = 2
"""Pictures of each caption."""


def two_captions(
    readers: Mapping[str, Generate], measures: Mapping[str, Callable[[Sequence[str]], float]],
    vocabulary: Collection[str], longest: int = 16,
) -> Callable[..., Figure]:  # fmt: skip
    """`draw(first, second, w, seed)` → a figure: a row for each reader, `EACH` pictures of either caption.

    Both captions start from the same noise, so where a row repeats itself, its reader heard no difference. Above: what
    each measure makes of the two. Nothing is read or drawn where there is a `refusal`.
    """

    def draw(first: str, second: str, w: float, seed: float) -> Figure:
        texts = [tidy(first), tidy(second)]
        if refused := refusal(texts, vocabulary, longest):
            return refused
        asked = [text for text in texts for _ in range(EACH)]
        seeds = [*range(int(seed), int(seed) + EACH)] * 2
        said = ", ".join(f"{name} {measure(texts):.3f}" for name, measure in measures.items())
        return _drawn({name: reader(asked, w, seeds) for name, reader in readers.items()}, texts, f"{said} · w = {w:g}")

    return draw


def _drawn(rows: Mapping[str, Tensor], texts: Sequence[str], title: str) -> Figure:
    figure, (ax,) = panels(1, 1, size=(6.4, 1.0 * len(rows) + 1.2))
    grid(torch.cat(list(rows.values())), columns=2 * EACH, rows=list(rows), ax=ax)
    half = EACH * (next(iter(rows.values())).shape[-1] + 2)
    named = [fill(text, 32) or "no caption, so no condition" for text in texts]
    ax.set_xticks([half / 2, 1.5 * half], named, fontsize=9)
    ax.axvline(half - 0.5, color=BLACK, linewidth=1)
    figure.suptitle(title)
    return figure
