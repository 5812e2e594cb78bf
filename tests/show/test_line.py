"""The figures of one-dimensional worlds."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from minidiff import show
from minidiff.show.style import CYCLE, GREEN, RED


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_arrows_of_a_hill_point_uphill_and_are_cut_at_the_gap():
    ax = show.hill(lambda x: -(x[:, 0] ** 2) / 2, lambda x: -x, limit=2.0, n=5, full=1.5)
    (arrows,) = [c for c in ax.collections if hasattr(c, "U")]
    assert torch.allclose(torch.tensor(arrows.U), torch.tensor([0.9, 0.6, 0.0, -0.6, -0.9], dtype=torch.float64))
    colors = [to_hex(c).upper() for c in arrows.get_facecolor()]
    assert (colors[0], colors[-1]) == (GREEN, RED)
    assert ax.get_xlabel() == "$x$"


def test_a_river_draws_each_path_in_the_colour_of_its_label():
    t, paths = torch.linspace(1, 0, 4), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ax = show.river(lambda x, t: -(x[:, 0] ** 2) / 2, t, paths, torch.tensor([0, 2, 0]))
    assert [line.get_color() for line in ax.lines] == [CYCLE[0], CYCLE[2], CYCLE[0]]
    assert ax.get_xlim() == (1.0, 0.0), "from noise on the left to data on the right"


def test_a_river_wants_one_time_per_station():
    with pytest.raises(ValueError, match=r"times: got .*\(3,\), expected shape \(4,\)"):
        show.river(lambda x, t: x[:, 0], torch.linspace(1, 0, 3), torch.zeros(4, 2))
