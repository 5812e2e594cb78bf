"""Figures and widgets of the course. Importing it sets matplotlib's defaults for the session."""

from minidiff.show.line import hill, line, river
from minidiff.show.plots import density, field, grid, lattice, points, slopes
from minidiff.show.style import apply, panels
from minidiff.show.tables import Table, table
from minidiff.show.widgets import Explorer, Slider, cropped, explore, png

apply()

__all__ = [
    "Explorer", "Slider", "Table", "cropped", "density", "explore", "field", "grid", "hill", "lattice", "line",
    "panels", "png", "points", "river", "slopes", "table",
]  # fmt: skip
