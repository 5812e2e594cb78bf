"""Type a sentence, see it become a picture: what `explore` calls when a text-to-picture system is played with.

A callback tidies what was typed, gives back `refusal` where there is one, and else draws: `row`, or a page of its own.
`page` makes a whole callback. It knows nothing of a model: a painter is any function (text, w) → `Painted`.
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


def tidy(typed: str) -> str:
    """A sentence as it is read: small letters, one space between words, no full stop."""
    return " ".join(typed.lower().strip(" .").split())


def refusal(texts: Sequence[str], vocabulary: Collection[str], longest: int) -> Figure | None:
    """What is shown in place of pictures where texts have words that nobody has learnt, or more than `longest` words.

    A picture of something else would only mislead. None: nothing is wrong with the texts.
    """
    strange = list(dict.fromkeys(word for text in texts for word in unknown(text, vocabulary)))
    most = max(len(split(text)) for text in texts)
    if not strange and most <= longest:
        return None
    figure, (ax,) = panels(1, 1, size=(8.0, 2.2))
    ax.set_axis_off()
    title = f"Never read: {', '.join(strange)}" if strange else f"{most} words, read are at most {longest}"
    ax.set_title(title, color=RED)
    known = sorted(word for word in vocabulary if word.isalpha())
    ax.text(0, 0.9, fill("It knows: " + " ".join(known), 110), va="top", fontsize=9)
    return figure


def row(pictures: Tensor, title: str) -> Figure:
    """Pictures (B, 3, S, S) beside one another."""
    figure, (ax,) = panels(1, 1, size=(8.0, 2.4))
    grid(pictures, columns=len(pictures), title=title, ax=ax)
    return figure


def page(painters: Mapping[str, Painter], vocabulary: Collection[str], longest: int = 75) -> Callable[..., Figure]:
    """`draw(sentence, encoder, w)` → a figure: the stages, side by side, and below them the maps of the words.

    Nothing is drawn where there is a `refusal`. An empty sentence is no condition. `ValueError` for an unknown encoder.
    """

    def draw(sentence: str, encoder: str, w: float) -> Figure:
        require(encoder in painters, "encoder", repr(encoder), f"one of {list(painters)}")
        text = tidy(sentence)
        if refused := refusal([text], vocabulary, longest):
            return refused
        said = f"“{text}”" if text else "no sentence, so no condition"
        return _drawn(painters[encoder](text, w), f"{said} · reader: {encoder} · w = {w:g}")

    return draw


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
