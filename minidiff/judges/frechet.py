"""Fréchet's distance between two samples, seen as Gaussians: FID's formula (arXiv 1706.08500, eq. 6), on any features.

For Gaussians with means m, m′ and covariances C, C′ it is the squared Wasserstein-2 distance (Dowson and Landau, 1982):

    ‖m − m′‖² + tr(C + C′ − 2·(C^½ C′ C^½)^½)

Of two finite samples from one distribution it is not 0 but falls like 1/N: compare at equal N, and measure
beside it what two halves of the data have between them.
"""

import torch
from torch import Tensor

from minidiff.validate import describe, require, require_floating


def frechet(a: Tensor, b: Tensor) -> float:
    """Distance of features (N, D) from features (M, D), N, M ≥ 2; covariances with N − 1 and M − 1.

    `ValueError` for other shapes, NaN or infinity.
    """
    for name, value in (("a", a), ("b", b)):
        require_floating(name, value, finite=True)
        require(value.ndim == 2 and len(value) >= 2, name, describe(value), "shape (N, D), N ≥ 2")
    require(a.shape[1] == b.shape[1], "b", describe(b), f"features of {a.shape[1]} dimension(s)")
    d = a.shape[1]
    a, b = a.double(), b.double()
    # reshape: torch.cov makes a number of one dimension
    return of_gaussians(a.mean(0), a.T.cov().reshape(d, d), b.mean(0), b.T.cov().reshape(d, d))


def of_gaussians(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The formula above, for means (D,) and symmetric positive semi-definite covariances (D, D); never negative.

    The trace of the root needs no root of a matrix that is not symmetric: C^½ C′ C^½ is, and its eigenvalues' roots
    add up to it.
    """
    d = len(mean)
    for name, value in (("covariance", covariance), ("other_covariance", other_covariance)):
        require(tuple(value.shape) == (d, d), name, describe(value), f"shape ({d}, {d})")
    require(other_mean.shape == mean.shape, "other_mean", describe(other_mean), f"shape ({d},)")
    values, vectors = torch.linalg.eigh(covariance.double())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = root @ other_covariance.double() @ root
    overlap = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    away = (mean.double() - other_mean.double()).square().sum()
    spread = covariance.double().trace() + other_covariance.double().trace() - 2 * overlap
    return max(0.0, float(away + spread))
