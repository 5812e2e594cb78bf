"""Figures hold the numbers they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minidiff import show


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_grid_puts_every_picture_in_its_place_and_clips():
    pictures = torch.linspace(-1.5, 1.5, 6).reshape(6, 1, 1, 1).expand(6, 1, 4, 4)
    ax = show.grid(pictures, columns=3, rows=["a", "b"], title="six")
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (2 * 6, 3 * 6)
    centres = sheet[2::6, 2::6].reshape(-1)
    expected = (np.linspace(-1.5, 1.5, 6).clip(-1, 1) + 1) / 2
    assert np.allclose(centres, expected)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_grid_takes_colour_and_refuses_other_shapes():
    assert show.grid(torch.zeros(2, 3, 4, 4)).images[0].get_array().shape[-1] == 3
    with pytest.raises(ValueError, match=r"pictures: got float32 tensor of shape \(2, 4, 4\)"):
        show.grid(torch.zeros(2, 4, 4))


def test_points_draws_one_cloud_per_label():
    x, y = torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0] * 4 + [1] * 6)
    ax = show.points(x, y, names=["zero", "one"])
    assert [len(c.get_offsets()) for c in ax.collections] == [4, 6]
    with pytest.raises(ValueError, match="x: got"):
        show.points(torch.zeros(3))


def test_field_draws_the_vectors_on_the_lattice():
    ax = show.field(lambda x: 2 * x, limit=1.0, n=3)
    quiver = ax.collections[0]
    assert np.allclose(np.stack([quiver.U, quiver.V], 1), 2 * show.lattice(1.0, 3).numpy())


def test_slopes_names_the_fitted_order():
    work = [4, 8, 16, 32]
    ax = show.slopes({"second": (work, [1 / n**2 for n in work])})
    assert "slope -2.00" in ax.get_legend().get_texts()[0].get_text()
