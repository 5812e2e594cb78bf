"""The figure of temporal fine-tuning shows the very numbers it is given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_rgba

from minidiff.show.rivers import before_and_after

HILL, TIMES = lambda x, t: -(x[:, 0] ** 2) / 2, torch.linspace(1, 0, 4, dtype=torch.float64)
STATES = {
    name: [torch.randn(3, 5, generator=torch.Generator().manual_seed(10 * k + s)) for s in range(4)]
    for k, name in enumerate(("before", "after"))
}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("column", [0, 1])
def test_rivers_draw_every_frames_path_and_the_clips_they_end_in(column):
    figure = before_and_after(HILL, TIMES, STATES)
    name, states = list(STATES.items())[column]
    above, below = figure.axes[column], figure.axes[column + 2]
    assert above.get_title(loc="left") == name
    assert len(above.lines) == 5  # the first clip's frames
    for i, path in enumerate(above.lines):
        assert path.get_xdata().tolist() == TIMES.tolist()
        assert torch.equal(torch.as_tensor(path.get_ydata()), torch.stack(states)[:, 0, i])
    assert [line.get_ydata().tolist() for line in below.lines] == [states[-1][k].tolist() for k in (1, 2, 0)]
    (dots,) = below.collections
    assert torch.equal(torch.as_tensor(dots.get_offsets()[:, 1]).float(), states[-1][0])
    assert [to_rgba(c) for c in dots.get_facecolors()] == [to_rgba(line.get_color()) for line in above.lines]
    assert len({to_rgba(line.get_color()) for line in above.lines}) == 5
    other = list(STATES.values())[1 - column]
    assert not torch.equal(torch.as_tensor(above.lines[0].get_ydata()), torch.stack(other)[:, 0, 0])


def test_fewer_others_and_states_that_do_not_fit():
    assert len(before_and_after(HILL, TIMES, STATES, others=1).axes[2].lines) == 2
    with pytest.raises(ValueError, match=r"stations\['after'\]: got 3 states, .*expected 4 tensors"):
        before_and_after(HILL, TIMES, STATES | {"after": STATES["after"][1:]})
