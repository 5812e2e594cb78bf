"""The figure of lecture 15: `python lectures/figures/15_design_space.py` writes 15_map.png beside it."""

from pathlib import Path

import matplotlib.pyplot as plt

from minidiff import show
from minidiff.show.figures import design_space as draw

HERE = Path(__file__).parent


def main() -> None:
    draw.space("40 of 72 cells can be built (grey: cannot); twenty real models sit in eleven")
    show.cropped(plt.gcf()).save(HERE / "15_map.png", optimize=True)


if __name__ == "__main__":
    main()
