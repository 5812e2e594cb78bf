"""Wasserstein distances between samples, by SciPy: how far a sampler's output is from the exact distribution.

Two finite samples of the *same* distribution are not at distance 0. `floor` measures that: always report it beside.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from torch import Generator, Tensor

from minidiff.validate import describe, require


def w1(a: Tensor, b: Tensor) -> float:
    """W1 between two samples of shape (N, D): the least mean Euclidean distance of a matching.

    D = 1 is exact for any sizes, by sorting (a, b may then also be (N,)). D > 1 needs equal sizes and solves the
    assignment problem, whose time grows like N³: keep N ≤ 2,000.
    """
    require(a.ndim in (1, 2) and a.ndim == b.ndim, "a, b", (describe(a), describe(b)), "two samples of shape (N, D)")
    a, b = (v.detach().double().cpu().reshape(len(v), -1) for v in (a, b))
    require(a.shape[1] == b.shape[1], "b", describe(b), f"points of {a.shape[1]} dimension(s)")
    for name, v in (("a", a), ("b", b)):
        require(bool(torch.isfinite(v).all()), name, "values that are NaN or infinite", "finite values only")
    if a.shape[1] == 1:
        return float(wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy()))
    require(len(a) == len(b), "a, b", (len(a), len(b)), "equally many points when D > 1")
    cost = cdist(a.numpy(), b.numpy())
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def floor(draw: Callable[[int, Generator], Tensor], n: int, repeats: int = 5, seed: int = 0) -> tuple[float, float]:
    """(mean, standard deviation) of W1 between two exact samples of size n: the Monte-Carlo floor of `w1`.

    `draw(n, generator)` returns exact samples (n, D).
    """
    generator = Generator().manual_seed(seed)
    values = [w1(draw(n, generator), draw(n, generator)) for _ in range(repeats)]
    return float(np.mean(values)), float(np.std(values))
