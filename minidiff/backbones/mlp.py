"""A multilayer perceptron for points (mixtures): x_t (B, D) → (B, D)."""

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.embeddings import TimeLabelEmbedding
from minidiff.nn.init import zeroed
from minidiff.validate import describe, require


class MLP(nn.Module):
    """`net(x_t, t, y=labels)`: x_t (B, dim), t (B,), y (B,) in 0 … n_classes, where n_classes is "no label".

    `depth` residual layers of `width`, each shifted by the embedding of t and y. n_classes = 0: no argument y.
    out: outputs per point, by default dim.
    """

    def __init__(self, dim: int, n_classes: int = 0, width: int = 128, depth: int = 3, out: int | None = None):
        super().__init__()
        self.dim, self.n_classes = dim, n_classes
        self.embed = TimeLabelEmbedding(n_classes, width)
        self.stem, self.head = nn.Linear(dim, width), zeroed(nn.Linear(width, dim if out is None else out))
        self.shift = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x_t: Tensor, t: Tensor, *, y: Tensor | None = None) -> Tensor:
        fits = x_t.ndim == 2 and x_t.shape[1] == self.dim
        require(fits, "x_t", describe(x_t), f"shape (B, {self.dim})")
        embedding = F.silu(self.embed(t, y))  # (B, width)
        h = self.stem(x_t)
        for shift, mix in zip(self.shift, self.mix):
            h = h + mix(F.silu(h + shift(embedding)))
        return self.head(F.silu(h))
