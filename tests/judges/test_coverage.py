"""Coverage, diversity and saturation on cases whose answer is known without a computer."""

import math

import pytest
import torch

from minidiff.judges.coverage import covered, diversity, precision, recall, saturation
from minidiff.randomness import randn, seeded


def test_balls_on_a_line_have_the_radii_worked_out_by_hand():
    cloud = torch.tensor([[0.0], [1.0], [3.0]])  # distances to the nearest other point: 1, 1, 2
    points = torch.tensor([[-1.0], [-1.01], [2.0], [5.0], [5.01]])
    assert covered(points, cloud, k=1).tolist() == [True, False, True, True, False]
    # second nearest: 3, 2, 3, so the region is [-3, 6]
    assert covered(torch.tensor([[-3.0], [-3.01], [6.0], [6.01]]), cloud, k=2).tolist() == [True, False, True, False]


def test_a_sample_covers_itself_and_nothing_far_away():
    x = randn((50, 3), seeded(0))
    assert recall(x, x) == precision(x, x) == 1.0
    assert recall(x + 100, x) == precision(x + 100, x) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_sampler_that_forgot_one_of_two_modes_has_half_the_recall_and_full_precision(seed):
    generator = seeded(seed)
    shift = torch.tensor([30.0, 0.0])
    real = randn((400, 2), generator)
    real[:200] += shift
    fake = randn((400, 2), generator)
    assert abs(recall(real, fake) - 0.5) < 0.03
    assert precision(real, fake) > 0.95
    both = torch.cat([fake[:200], fake[200:] + shift])
    assert recall(real, both) > 0.9  # the control: with both modes it comes back


def test_recall_falls_as_the_samples_shrink_to_their_mean():
    real = randn((500, 2), seeded(1))
    fake = randn((500, 2), seeded(2))
    values = [recall(real, scale * fake) for scale in (1.0, 0.5, 0.1)]
    assert values[0] > 0.9
    assert values[0] > values[1] > values[2]
    assert values[2] < 0.15
    assert precision(real, 0.1 * fake) > 0.85  # precision does not notice


def test_diversity_is_the_root_mean_square_distance_between_two_samples():
    x = randn((40, 5), seeded(3), torch.float64)
    pairs = torch.pdist(x).square().mean().sqrt()
    assert diversity(x, torch.zeros(40, dtype=torch.int64)) == pytest.approx(float(pairs), rel=1e-12)


def test_diversity_of_a_gaussian_is_s_root_2d_per_class_wherever_the_class_lies():
    y = torch.arange(2).repeat_interleave(20_000)
    x = 0.3 * randn((40_000, 8), seeded(4), torch.float64) + 10.0 * y[:, None]
    assert diversity(x, y) == pytest.approx(0.3 * math.sqrt(16), rel=0.01)
    assert diversity(x, torch.zeros_like(y)) > 10  # the control: one class of all


def test_saturation_counts_values_at_the_ends_of_the_range():
    assert saturation(torch.tensor([-1.2, -0.99, 0.0, 0.989, 1.0])) == pytest.approx(3 / 5)
    assert saturation(torch.linspace(-1, 1, 2001), level=0.5) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("k", [0, 3, 2.0])
def test_k_must_leave_a_neighbour(k):
    with pytest.raises(ValueError, match="k: got"):
        covered(torch.zeros(2, 1), torch.zeros(3, 1), k)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="cloud: got"):
        covered(torch.zeros(2, 1), torch.zeros(3), 1)
    with pytest.raises(ValueError, match="points: got"):
        covered(torch.zeros(2, 1), torch.zeros(3, 2), 1)
    with pytest.raises(ValueError, match="y: got"):
        diversity(torch.zeros(3, 2), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="points: got 2 values that are NaN"):
        covered(torch.full((2, 1), torch.nan), torch.zeros(3, 1), 1)


def test_points_of_mixed_precision():
    """Compared in the wider type: a half-precision copy lies where its numbers lie, a float64 one in the region."""
    cloud = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    points = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    inside = covered(points, cloud)
    assert 0 < int(inside.sum()) < 300
    assert torch.equal(covered(points.double(), cloud), inside)
    assert torch.equal(covered(points, cloud.double()), inside)
    for half in (torch.float16, torch.bfloat16):
        rounded = points.to(half)
        assert torch.equal(covered(rounded, cloud), covered(rounded.float(), cloud))
        assert torch.equal(covered(rounded, cloud.to(half)), covered(rounded.float(), cloud.to(half).float()))
