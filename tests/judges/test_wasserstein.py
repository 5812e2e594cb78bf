"""Wasserstein distances against closed forms."""

import math

import pytest
import torch

from minidiff.judges.wasserstein import floor, w1


def test_a_shift_costs_its_length():
    a = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert w1(a, a) == 0.0
    assert w1(a, a + torch.tensor([3.0, 0.0, 4.0])) == pytest.approx(5.0, abs=1e-9)
    assert w1(a, a[torch.randperm(200)]) == 0.0  # order is nothing


def test_one_dimension_against_the_formula():
    """W1 of N(0, 1) and N(0, s²) is |s − 1|·√(2/π), for the quantiles themselves."""
    q = torch.special.ndtri((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert w1(q, 3 * q) == pytest.approx(2 * math.sqrt(2 / math.pi), rel=1e-3)
    assert w1(q[:, None], q[:50_000, None]) > 0.5  # other sizes are allowed in one dimension


def test_one_and_more_dimensions_agree():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(300, 1, generator=g), torch.randn(300, 1, generator=g) + 0.5
    flat = lambda x: torch.cat([x, torch.zeros_like(x)], dim=1)
    assert w1(a, b) == pytest.approx(w1(flat(a), flat(b)), abs=1e-6)


def test_the_floor_falls_with_the_sample_and_is_above_zero():
    draw = lambda n, g: torch.randn(n, 2, generator=g)
    small, large = floor(draw, 100, repeats=3), floor(draw, 800, repeats=3)
    assert small[0] > 1.5 * large[0] > 0
    assert small[1] < small[0]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2)),
        (torch.zeros(3, 2), torch.zeros(3, 3)),
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.tensor([[0.0, math.nan]]), torch.zeros(1, 2)),
    ],
)
def test_bad_samples_are_named(a, b):
    with pytest.raises(ValueError, match=r"^(a|b|a, b): got"):
        w1(a, b)
