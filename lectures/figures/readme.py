"""Draws lectures/figures/readme.png, the picture of the README:  python lectures/figures/readme.py

Ten classes of Fashion-MNIST from the shipped weights, the same ten first seeds in every row, at rising strength w.
"""

from pathlib import Path

import torch

from minidiff import show
from minidiff.data.real import FASHION_NAMES
from minidiff.systems import fashion

STRENGTHS = {-1.0: "w = −1: not asked", 0.0: "w = 0: asked", 1.0: "w = 1", 3.0: "w = 3", 7.0: "w = 7: insisted"}


def main() -> None:
    model, classes = fashion.DENOISER.load(), range(fashion.N_CLASSES)
    rows = torch.cat([fashion.pictures(classes, w, per_class=1, model=model) for w in STRENGTHS])
    ax = show.grid(rows, columns=fashion.N_CLASSES, rows=list(STRENGTHS.values()), scale=0.75)
    size = 28 + 2
    ax.set_xticks([(i + 0.5) * size for i in classes], [FASHION_NAMES[i] for i in classes], rotation=35, ha="left")
    ax.xaxis.tick_top()
    ax.figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
