"""Turning a number into a vector."""

import math

import torch
from torch import Tensor, nn

from minidiff.validate import describe, require


class TimeEmbedding(nn.Module):
    """t in [0, 1], (B,) or (B, N) → (…, dim): its sines and cosines at `features`/2 geometric frequencies, then an MLP.

    The sinusoids are the transformer's (arXiv 1706.03762, section 3.5) of 1000·t, the step count of DDPM.
    """

    def __init__(self, dim: int, features: int = 64, max_period: float = 10_000.0):
        super().__init__()
        self.pairs, self.max_period = features // 2, max_period
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        # Made here, not kept as a buffer, so that `net.bfloat16()` cannot round the frequencies.
        rank = torch.arange(self.pairs, dtype=t.dtype, device=t.device) / self.pairs
        angles = t[..., None] * (1000 * torch.exp(-math.log(self.max_period) * rank))  # (…, features/2)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))  # (…, dim)


def add_vector(embedding: Tensor, vector: Tensor | None) -> Tensor:
    """The time embedding, (B, dim) or (B, N, dim), plus a condition's vector (B, dim) where there is one."""
    if vector is None:
        return embedding
    wanted = (embedding.shape[0], embedding.shape[-1])
    require(tuple(vector.shape) == wanted, "vector", describe(vector), f"shape {wanted}")
    return embedding + (vector if embedding.ndim == 2 else vector[:, None])
