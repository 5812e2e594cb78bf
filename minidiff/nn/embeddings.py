"""Turning a number into a vector."""

import math

import torch
from torch import Tensor, nn

from minidiff.validate import describe, require


def waves(x: Tensor, features: int, scale: float = 1.0, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of scale·x at features/2 geometric frequencies, 1 … 1/max_period: (…) → (…, features).

    The transformer's sinusoids (arXiv 1706.03762, section 3.5), in the dtype of x.
    """
    pairs = features // 2
    rank = torch.arange(pairs, dtype=x.dtype, device=x.device) / pairs
    angles = x[..., None] * (scale * torch.exp(-math.log(max_period) * rank))  # (…, features/2)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """t in [0, 1], (B,) or (B, N) → (…, dim): `waves` of 1000·t, the step count of DDPM, then an MLP (hidden wide)."""

    def __init__(
        self, dim: int, features: int = 64, max_period: float = 10_000.0, hidden: int | None = None, bias: bool = True
    ):
        super().__init__()
        hidden = dim if hidden is None else hidden
        self.features, self.max_period = features, max_period
        self.mlp = nn.Sequential(nn.Linear(features, hidden, bias), nn.SiLU(), nn.Linear(hidden, dim, bias))

    def forward(self, t: Tensor) -> Tensor:
        # Made here, not kept as a buffer, so that `net.bfloat16()` cannot round the frequencies.
        given = waves(t, self.features, 1000.0, self.max_period)
        return self.mlp(given.to(next(self.mlp.parameters()).dtype))  # (…, dim)


def add_vector(embedding: Tensor, vector: Tensor | None) -> Tensor:
    """The time embedding, (B, dim) or (B, N, dim), plus a condition's vector (B, dim) where there is one."""
    if vector is None:
        return embedding
    wanted = (embedding.shape[0], embedding.shape[-1])
    require(tuple(vector.shape) == wanted, "vector", describe(vector), f"shape {wanted}")
    return embedding + (vector if embedding.ndim == 2 else vector[:, None])
