"""Turning a number or a label into a vector."""

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """t in [0, 1], shape (B,) → (B, dim): sines and cosines of t at `dim`/2 geometric frequencies, then a small MLP.

    The sinusoids are the transformer's (arXiv 1706.03762, section 3.5) of 1000·t, the step count of DDPM.
    """

    def __init__(self, dim: int, features: int = 64, max_period: float = 10_000.0):
        super().__init__()
        half = features // 2
        frequencies = 1000 * torch.exp(-math.log(max_period) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies.to(t.dtype)  # (B, features/2)
        return self.mlp(
            torch.cat([angles.cos(), angles.sin()], dim=1).to(self.mlp[0].weight.dtype)
        )  # (B, dim)


class LabelEmbedding(nn.Embedding):
    """Labels 0 … n_classes − 1, and n_classes for "no label": (B,) int64 → (B, dim)."""

    def __init__(self, n_classes: int, dim: int):
        super().__init__(n_classes + 1, dim)
        self.n_classes = n_classes
