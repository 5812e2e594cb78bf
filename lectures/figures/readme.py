"""Draws lectures/figures/readme.png, the picture of the README:  python lectures/figures/readme.py

Above: the lecture's own prompts, none of which the model has seen in training, with the seeds 0 and 1. Below: other
captions that were held out. No picture was chosen.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import SubFigure
from torch import Tensor

from minidiff.data.captions import caption
from minidiff.data.prompts import LECTURE
from minidiff.data.sprites import SpriteWorld
from minidiff.show.style import apply
from minidiff.systems import latent

W = 1.0
FAMILIES = ("relation", "sizes", "riding", "snow", "pair", "count", "surrounding", "several")


def show(figure: SubFigure, pictures: Tensor, below: list[str], title: str) -> None:
    axes = figure.subplots(1, len(pictures))
    for ax, picture, text in zip(axes, pictures, below, strict=True):
        ax.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(textwrap.fill(text, 16), fontsize=8.5, labelpad=3)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")


def main() -> None:
    apply()
    generate = latent.shipped()
    told = [text for text in LECTURE for _ in range(2)]
    others = [SpriteWorld(families=(family,)).prompts(1, 0, "test")[0] for family in FAMILIES]
    figure = plt.figure(figsize=(9.6, 3.9))
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.12), hspace=0.02)
    show(
        above,
        generate(told, W, [0, 1] * len(LECTURE)),
        told,
        "A sentence becomes a picture: the lecture's prompts, twice each",
    )
    texts = [caption(prompt) for prompt in others]
    show(
        below, generate(texts, W, range(len(texts))), texts, "Other sentences that no picture was shown for in training"
    )
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
