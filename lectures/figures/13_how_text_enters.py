"""The figure of lecture 13: `python lectures/figures/13_how_text_enters.py` writes lectures/figures/13_layouts.png.

Drawn from the very networks of `systems.ways_in`, without numbers in them.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from minidiff import show
from minidiff.show.figures import how_text_enters as draw
from minidiff.systems import ways_in

HERE = Path(__file__).parent


def main() -> None:
    with torch.device("meta"):
        layers = {design: draw.layers_of(ways_in.backbone(design)) for design in ways_in.DESIGNS}
    draw.layouts(layers, "Where text and picture have weights of their own")
    show.cropped(plt.gcf()).save(HERE / "13_layouts.png", optimize=True)


if __name__ == "__main__":
    main()
