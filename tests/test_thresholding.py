"""Thresholding x̂0, against Imagen's definition."""

import pytest
import torch
from torch import Tensor

from minidiff.randomness import randn, seeded
from minidiff.thresholding import dynamic, saturated, static

NOW = torch.tensor(0.5)


def told(x0: Tensor):
    """A denoiser that always says x0."""
    return lambda x_t, t: x0


def test_static_clips() -> None:
    x0 = torch.tensor([[-3.0, -0.5, 0.2, 1.0, 2.0]])
    assert static(told(x0))(x0, NOW).tolist() == [[-1.0, -0.5, pytest.approx(0.2), 1.0, 1.0]]


def test_dynamic_by_hand() -> None:
    """|x̂0| = 1 … 4 and the median 2.5: clipped to ±2.5 and divided; a picture within bounds stays as it is."""
    x0 = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.1, -0.2, 0.3, -0.4]])
    found = dynamic(told(x0), quantile=0.5)(x0, NOW)
    assert torch.allclose(found[0], torch.tensor([0.4, -0.8, 1.0, -1.0]))
    assert torch.equal(found[1], x0[1])


def test_dynamic_looks_at_each_picture_alone() -> None:
    x0 = torch.cat([10 * torch.ones(1, 3, 4, 4), 0.5 * torch.ones(1, 3, 4, 4)])
    found = dynamic(told(x0))(x0, NOW)
    assert torch.equal(found[0], torch.ones(3, 4, 4))
    assert torch.equal(found[1], x0[1])  # with one quantile for the batch it would be 0.05


def test_dynamic_saturates_less_than_static() -> None:
    x0 = 3 * randn((4, 3, 16, 16), seeded(1))
    share = {f: saturated(f(told(x0))(x0, NOW)).mean() for f in (static, dynamic)}
    assert share[static] > 0.7  # |N(0, 9)| > 1
    assert share[dynamic] < 0.01


def test_saturated_counts_each_picture() -> None:
    x = torch.tensor([[1.0, -1.0, 0.98, 0.0], [0.99, 0.5, 0.5, 0.5]])
    assert saturated(x).tolist() == [0.5, 0.25]
    assert saturated(x, level=0.5).tolist() == [0.75, 1.0]


@pytest.mark.parametrize("quantile", [-0.1, 1.1, float("nan"), "a"])
def test_a_quantile_outside_is_named(quantile: object) -> None:
    with pytest.raises(ValueError, match="quantile"):
        dynamic(told(torch.zeros(1, 2)), quantile)  # type: ignore[arg-type]
