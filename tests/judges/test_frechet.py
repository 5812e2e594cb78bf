"""Fréchet's distance against closed forms: commuting covariances, one dimension, scipy's root, finite samples."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from minidiff.judges.frechet import frechet, of_gaussians
from minidiff.randomness import randn, seeded


def random_covariance(d, generator):
    root = randn((d, d), generator, torch.float64)
    return root @ root.T / d


@pytest.mark.parametrize("seed", range(3))
def test_commuting_covariances_have_a_closed_form(seed):
    """In a common basis of eigenvectors: ‖m − m′‖² + Σ (σ − σ′)², whatever the basis."""
    g = seeded(seed)
    basis = torch.linalg.qr(randn((6, 6), g, torch.float64)).Q
    s, t = (randn((6,), g, torch.float64).abs() for _ in range(2))
    m, n = (randn((6,), g, torch.float64) for _ in range(2))
    turned = lambda v: basis @ torch.diag(v**2) @ basis.T
    expected = float((m - n).square().sum() + (s - t).square().sum())
    assert of_gaussians(m, turned(s), n, turned(t)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_any_covariances_agree_with_scipys_matrix_root(seed):
    g = seeded(seed)
    a, b = random_covariance(5, g), random_covariance(5, g)
    m, n = (randn((5,), g, torch.float64) for _ in range(2))
    root = np.real(sqrtm(a.numpy() @ b.numpy()))  # the formula as it is usually written
    expected = float((m - n).square().sum() + a.trace() + b.trace()) - 2 * float(np.trace(root))
    assert of_gaussians(m, a, n, b) == pytest.approx(expected, rel=1e-6)
    assert of_gaussians(n, b, m, a) == pytest.approx(expected, rel=1e-6)
    assert of_gaussians(m, a, m, a) == pytest.approx(0, abs=1e-9)


def test_samples_of_known_gaussians():
    """N(0, 1) and N(2, 3²) in each of 4 dimensions: 4·(2² + (3 − 1)²) = 32."""
    g = seeded(0)
    a, b = randn((20000, 4), g), 2 + 3 * randn((20000, 4), g)
    assert frechet(a, b) == pytest.approx(32, rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a[:, :1], b[:, :1]) == pytest.approx(8, rel=0.03)


def test_two_samples_of_one_distribution_come_nearer_as_they_grow():
    found = []
    for n in (100, 400, 1600):
        pairs = [(randn((n, 16), seeded(2 * i)), randn((n, 16), seeded(2 * i + 1))) for i in range(8)]
        found.append(sum(frechet(a, b) for a, b in pairs) / 8)
    slopes = np.diff(np.log(found)) / np.log(4)
    assert slopes == pytest.approx([-1, -1], abs=0.15)


def test_a_turn_moves_and_a_shift_of_both_does_not():
    g = seeded(0)
    a, b = randn((500, 3), g) * torch.tensor([3.0, 1.0, 1.0]), randn((500, 3), g)
    assert frechet(a + 5, b + 5) == pytest.approx(frechet(a, b), rel=1e-4)
    assert frechet(a, a.roll(1, 1)) > 5
    few = a[:3]  # fewer points than dimensions: covariances without full rank
    assert frechet(few, few + 1) == pytest.approx(3, rel=1e-4)


def test_bad_input_is_named():
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="a: got float32 tensor of shape \\(4,\\)"):
        frechet(x[:, 0], x)
    with pytest.raises(ValueError, match="b: got float32 tensor of shape \\(1, 2\\)"):
        frechet(x, x[:1])
    with pytest.raises(ValueError, match="b: got float32 tensor of shape \\(4, 1\\), expected features of 2"):
        frechet(x, x[:, :1])
    with pytest.raises(ValueError, match="a: got 8 values that are NaN"):
        frechet(x / 0 * 0, x)
    with pytest.raises(ValueError, match="covariance: got"):
        of_gaussians(torch.zeros(2), torch.zeros(3, 3), torch.zeros(2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="other_mean: got"):
        of_gaussians(torch.zeros(2), torch.zeros(2, 2), torch.zeros(3), torch.zeros(2, 2))
