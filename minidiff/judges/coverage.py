"""How much of the data a sampler covers, and how varied its samples are: the price tags of strong guidance.

Neighbour precision and recall (improved precision and recall, arXiv 1904.06991, eqs. 1 and 2) on any features:
a cloud of points stands for the region made of one ball per point, whose radius is the distance to its k-th nearest
*other* point. Recall is the share of real points in the region of the fakes, precision the other way round.
"""

import torch
from torch import Tensor

from minidiff.validate import describe, require, require_floating


def covered(points: Tensor, cloud: Tensor, k: int = 3) -> Tensor:
    """Which of `points` (N, D) lie in the region of `cloud` (M, D): (N,) bool. Balls include their surface.

    `ValueError` unless both hold finite points of the same dimension and 1 ≤ k < M.
    """
    for name, value in (("points", points), ("cloud", cloud)):
        require_floating(name, value, finite=True)
        require(value.ndim == 2, name, describe(value), "shape (N, D)")
    require(points.shape[1] == cloud.shape[1], "points", describe(points), f"points of {cloud.shape[1]} dimension(s)")
    require(isinstance(k, int) and 1 <= k < len(cloud), "k", k, f"1 ≤ k < {len(cloud)}, the size of the cloud")
    # Differences, not the faster matrix product: that rounds, and then a point would not lie on its own ball.
    wide = torch.promote_types(torch.promote_types(points.dtype, cloud.dtype), torch.float32)
    points, cloud, exact = points.to(wide), cloud.to(wide), "donot_use_mm_for_euclid_dist"
    within = torch.cdist(cloud, cloud, compute_mode=exact).fill_diagonal_(torch.inf)
    radius = within.kthvalue(k, dim=1).values  # (M,)
    return (torch.cdist(points, cloud, compute_mode=exact) <= radius).any(1)


def precision(real: Tensor, fake: Tensor, k: int = 3) -> float:
    """Share of `fake` (M, D) that lies in the region of `real` (N, D): are the samples like data?"""
    return float(covered(fake, real, k).double().mean())


def recall(real: Tensor, fake: Tensor, k: int = 3) -> float:
    """Share of `real` (N, D) that lies in the region of `fake` (M, D): can the sampler make all the data?

    It grows with M; compare samplers at equal N, M and k, and report the recall of a second real sample beside.
    """
    return float(covered(real, fake, k).double().mean())


def diversity(features: Tensor, y: Tensor) -> float:
    """How different samples of the same class are: features (B, D), labels y (B,) int64, at least two per class.

    For each class the root-mean-square distance between two of its samples, √(2·tr Cov), then the mean over classes.
    For N(m, s²·I) in D dimensions it is s·√(2D).
    """
    require_floating("features", features, finite=True)
    require(features.ndim == 2, "features", describe(features), "shape (B, D)")
    require(y.shape == features.shape[:1], "y", describe(y), f"shape ({len(features)},)")
    classes, counts = y.unique(return_counts=True)
    require(bool((counts >= 2).all()), "y", counts.tolist(), "at least two samples of each class")
    spreads = [(2 * features[y == c].double().var(0).sum()).sqrt() for c in classes]
    return float(torch.stack(spreads).mean())


def saturation(pictures: Tensor, level: float = 0.99) -> float:
    """Share of values with |x| ≥ `level`, before any clipping; pictures (B, …) whose data lie in [−1, 1]."""
    require_floating("pictures", pictures, finite=True)
    return float((pictures.abs() >= level).double().mean())
