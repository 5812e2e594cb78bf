"""The figure of lecture 12: `python lectures/figures/12_text_encoders.py` writes lectures/figures/12_readers.png.

Ten seconds on one core: nothing is trained.
"""

from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from minidiff import show
from minidiff.data.captions import captions
from minidiff.judges.scorecard import matches
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import readers

HERE = Path(__file__).parent


def main() -> None:
    """Eight held-out relations, seeds 0 … 7, read in four ways."""
    asked = replace(readers.WORLD, families=("relation",)).prompts(8, 4, "test")
    rows = {}
    for name, (shipped, reads) in readers.READERS.items():
        pictures = readers.pictures_of(shipped.load(), reads, 20)(captions(asked), 1.0, range(8))
        rows[f"{name}: {int(matches(asked, pictures).sum())} of 8"] = pictures
    same_noise(rows, captions(asked), "Four readers, one generator")
    show.cropped(plt.gcf()).save(HERE / "12_readers.png", optimize=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
