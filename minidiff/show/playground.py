"""Type a sentence, see it become a picture: what `explore` calls when a text-to-picture system is played with.

`page` makes the callback. It knows nothing of a model: a painter is any function (text, w) → `Painted`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from matplotlib.figure import Figure
from torch import Tensor

from minidiff.encoders.tokenizer import split
from minidiff.show.plots import grid
from minidiff.show.style import RED, panels
from minidiff.validate import require


@dataclass(frozen=True)
class Painted:
    """Pictures (3, S, S) of every stage, smallest first; the words read and a map (h, w) of each, (M, h, w)."""

    stages: Sequence[Tensor]
    words: Sequence[str]
    maps: Tensor


Painter = Callable[[str, float], Painted]


def unknown(text: str, vocabulary: Collection[str]) -> list[str]:
    """The words of a text that are not in the vocabulary, each once, in their order."""
    return list(dict.fromkeys(word for word in split(text.lower().strip(" .")) if word not in vocabulary))


def page(painters: Mapping[str, Painter], vocabulary: Collection[str], longest: int = 75) -> Callable[..., Figure]:
    """`draw(sentence, encoder, w)` → a figure: the stages, side by side, and below them the maps of the words.

    Words that no painter has learnt are named in the title, and so is a sentence of more than `longest` words; nothing
    is drawn then: a picture of something else would only mislead. An empty sentence is no condition. `ValueError` for
    an unknown encoder.
    """

    def draw(sentence: str, encoder: str, w: float) -> Figure:
        require(encoder in painters, "encoder", repr(encoder), f"one of {list(painters)}")
        text = " ".join(sentence.lower().strip(" .").split())
        if strange := unknown(text, vocabulary):
            return _refusal(f"Never read: {', '.join(strange)}", vocabulary)
        if len(split(text)) > longest:
            return _refusal(f"{len(split(text))} words, read are at most {longest}", vocabulary)
        said = f"“{text}”" if text else "no sentence, so no condition"
        return _drawn(painters[encoder](text, w), f"{said} · reader: {encoder} · w = {w:g}")

    return draw


def _refusal(title: str, vocabulary: Collection[str]) -> Figure:
    figure, (ax,) = panels(1, 1, size=(8.0, 2.2))
    ax.set_axis_off()
    ax.set_title(title, color=RED)
    ax.text(0, 0.9, fill("It knows: " + " ".join(sorted(vocabulary)), 110), va="top", fontsize=9)
    return figure


def _drawn(painted: Painted, title: str) -> Figure:
    columns = max(len(painted.stages), len(painted.words))
    figure, axes = panels(2, columns, size=(max(1.15, 5.0 / columns), 1.8))
    for ax in axes:
        ax.set_axis_off()
    for ax, picture in zip(axes, painted.stages):
        grid(picture[None], columns=1, ax=ax)
        ax.set_title(f"{picture.shape[-1]} px", fontsize=9, loc="center")
    for ax, word, weights in zip(axes[columns:], painted.words, painted.maps):
        ax.imshow(weights.numpy(), cmap="Blues", vmin=0)
        ax.set_title(word, fontsize=9, loc="center")
    figure.suptitle(title)
    return figure
