"""Choose a cell of the design space, see which real model that is, and what a network of it draws (chapter 15)."""

from collections.abc import Callable
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import RED, SKY, panels
from minidiff.systems.atlas import models_of, told
from minidiff.systems.design import AXES, Design, cells

Samples = Callable[[Design, str, int], tuple[str, Tensor | None]]
"""(cell, sentence, seed) → what is shown, in words, and pictures (B, 3, S, S); None where there are none."""


def mapped(ax: Axes, chosen: Design | None = None, names: bool = True) -> None:
    """The map of all 72 cells: grey ones contradict themselves, real models are names, or dots; `chosen` is framed."""
    left = [(e, c) for e in AXES["encoder"] for c in AXES["conditioning"]]
    above = [(p, s, a) for p in AXES["paradigm"] for s in AXES["space"] for a in AXES["architecture"]]
    for cell in cells():
        x = above.index((cell.paradigm, cell.space, cell.architecture))
        y = left.index((cell.encoder, cell.conditioning))
        here = [str(real) for real in models_of(cell)]
        colour = "0.85" if cell.reason else SKY if here else "white"
        framed = cell == chosen
        line = {"edgecolor": RED, "linewidth": 2.5} if framed else {"edgecolor": "0.6", "linewidth": 0.6}
        ax.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, zorder=2 if framed else 1, clip_on=False, **line))
        text = ", ".join(here) if names else "•" * len(here)
        ax.text(x + 0.5, y + 0.5, fill(text, 17), ha="center", va="center", fontsize=6.5 if names else 8, zorder=3)
    ax.set(xlim=(0, len(above)), ylim=(len(left), 0))
    ax.set_xticks(
        [i + 0.5 for i in range(len(above))],
        ["\n".join(words).replace("flow ", "flow\n") for words in above],
        fontsize=7,
    )
    ax.set_yticks([i + 0.5 for i in range(len(left))], [f"{e}\n{c}" for e, c in left], fontsize=7)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def designer(samples: Samples) -> Callable[..., Figure]:
    """`draw(paradigm, space, architecture, encoder, conditioning, sentence, seed)` → a figure.

    At the left the map with the cell in a frame; at the right why it cannot be, or which real models it is or is near
    (`atlas.told`), and below the pictures that `samples` gives for it.
    """

    def draw(
        paradigm: str, space: str, architecture: str, encoder: str, conditioning: str, sentence: str, seed: float
    ) -> Figure:
        cell = Design(paradigm, space, architecture, encoder, conditioning)  # type: ignore[arg-type]
        figure, (left, right) = panels(1, 2, size=(5.6, 4.4), width_ratios=(1, 1.1))
        mapped(left, cell, names=False)
        left.set_xlabel("• a real model · grey: cannot be built · framed: chosen", fontsize=8)
        right.set_axis_off()
        lines = "\n".join(fill(line, 78, subsequent_indent="  ") for line in told(cell).split("\n"))
        right.text(0, 1, lines, va="top", fontsize=8, transform=right.transAxes)
        said, pictures = samples(cell, sentence, int(seed))
        if pictures is not None:
            inner = right.inset_axes((0, 0, 1, 0.28))
            grid(pictures, columns=len(pictures), ax=inner)
            inner.set_title(fill(said, 78), fontsize=8)
        else:
            right.text(0, 0.02, fill(said, 78), va="bottom", fontsize=8, transform=right.transAxes)
        figure.suptitle(fill(str(cell), 110), fontsize=10)
        return figure

    return draw
