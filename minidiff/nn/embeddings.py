"""Turning a number or a label into a vector."""

import math

import torch
from torch import Tensor, nn

from minidiff.validate import describe, require


class TimeEmbedding(nn.Module):
    """t in [0, 1], shape (B,) → (B, dim): sines and cosines of t at `dim`/2 geometric frequencies, then a small MLP.

    The sinusoids are the transformer's (arXiv 1706.03762, section 3.5) of 1000·t, the step count of DDPM.
    """

    def __init__(self, dim: int, features: int = 64, max_period: float = 10_000.0):
        super().__init__()
        self.pairs, self.max_period = features // 2, max_period
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        # Made here, not kept as a buffer, so that `net.bfloat16()` cannot round the frequencies.
        rank = torch.arange(self.pairs, dtype=t.dtype, device=t.device) / self.pairs
        angles = t[:, None] * (1000 * torch.exp(-math.log(self.max_period) * rank))  # (B, features/2)
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))  # (B, dim)


class LabelEmbedding(nn.Embedding):
    """Labels 0 … n_classes − 1, and n_classes for "no label": (B,) int64 → (B, dim)."""

    def __init__(self, n_classes: int, dim: int):
        super().__init__(n_classes + 1, dim)
        self.n_classes = n_classes


class TimeLabelEmbedding(nn.Module):
    """embedding(t) + embedding(y), (B, dim); with n_classes = 0 the model has no label and y must be None."""

    def __init__(self, n_classes: int, dim: int):
        super().__init__()
        self.time = TimeEmbedding(dim)
        self.label = LabelEmbedding(n_classes, dim) if n_classes else None

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        if self.label is None:
            require(y is None, "y", describe(y), "nothing: this model has no classes")
            return self.time(t)
        expected = (
            f"int64 labels 0 … {self.label.n_classes} ({self.label.n_classes} = no label), a scalar or ({len(t)},)"
        )
        fits = isinstance(y, Tensor) and y.dtype == torch.int64 and tuple(y.shape) in ((), (len(t),))
        require(fits, "y", describe(y), expected)
        assert isinstance(y, Tensor)
        return self.time(t) + self.label(y.to(t.device).expand(len(t)))
