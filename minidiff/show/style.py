"""One look for every figure: the colour-blind-safe palette of Okabe and Ito, quiet axes, readable sizes."""

from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE, BLACK = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
"""Colours in order of use: class 0 is blue, class 1 orange, …"""


def apply() -> None:
    """Set matplotlib's defaults for this session. Called when `minidiff.show` is imported."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def panels(
    rows: int, columns: int, size: tuple[float, float] = (3.2, 2.8), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of rows × columns axes, each of `size` inches; the axes come as a flat list, row by row."""
    figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, **options)
    return figure, list(axes.flat)
