"""The figure of lecture 15: the map of the design space.  `python lectures/figures/15_design_space.py`"""

from pathlib import Path

import matplotlib.pyplot as plt

from minidiff.show.figures import design_space as draw

draw.space("40 of 72 cells can be built (grey: cannot); twenty real models sit in eleven")
plt.gcf().savefig(Path(__file__).with_name("15_map.png"), dpi=110)
