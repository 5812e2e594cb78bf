"""Draws lectures/figures/readme.png, the picture of the README:  python lectures/figures/readme.py

Above: captions, and what the shipped model `scenes-families` draws of them. Below: the same first noise, at rising
strength of guidance. Seeds are 0, 1, 2, …: no picture was chosen.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import SubFigure
from torch import Tensor

from minidiff.data.real import FASHION_NAMES
from minidiff.show.style import apply
from minidiff.systems import fashion, scenes_text

CAPTIONS = [
    "a red circle left of a blue square",
    "a yellow star above a green triangle",
    "three blue circles",
    "two purple crosses and a red star",
    "a black square and no circle",
    "a large green triangle",
]
STRENGTHS = {-1.0: "w = −1\nnot asked", 0.0: "w = 0\nasked", 1.0: "w = 1\n ", 3.0: "w = 3\n ", 7.0: "w = 7\ninsisted"}
CLOTHES = [9, 3]


def show(figure: SubFigure, pictures: Tensor, below: list[str], title: str) -> None:
    axes = figure.subplots(1, len(pictures))
    for ax, picture, text in zip(axes, pictures, below, strict=True):
        ax.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(textwrap.fill(text, 20) if "\n" not in text else text, fontsize=8.5, labelpad=3)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")


def main() -> None:
    apply()
    generate = scenes_text.pictures_of(scenes_text.FAMILIES.load(), 18)
    scenes = generate(CAPTIONS, 1.0, range(len(CAPTIONS)))
    denoiser = fashion.DENOISER.load()
    strips = [
        torch.cat([fashion.pictures([label], w, per_class=1, seed=label, model=denoiser) for w in STRENGTHS])
        for label in CLOTHES
    ]
    figure = plt.figure(figsize=(8.6, 3.25))
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1), hspace=0.02)
    show(above, scenes, CAPTIONS, "From a caption to a picture (w = 1)")
    for part, strip, label in zip(below.subfigures(1, 2, wspace=0.03), strips, CLOTHES, strict=True):
        title = f"“{FASHION_NAMES[label]}”, at rising strength of guidance"
        show(part, strip.expand(-1, 3, -1, -1), list(STRENGTHS.values()), title)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
