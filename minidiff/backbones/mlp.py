"""A multilayer perceptron for points (mixtures): x_t (B, D) → (B, D)."""

from collections.abc import Callable, Sequence
from itertools import zip_longest

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.validate import describe, require, require_shape

Between = Callable[[Tensor, Tensor], Tensor]


class MLP(nn.Module):
    """`net(x_t, t)` or `net(x_t, t, vector=condition)`: x_t (B, dim), t (B,), vector (B, width).

    `depth` residual layers of `width`, each shifted by the embedding of t plus the vector. out: outputs per point, by
    default dim. between: none, or for each layer what follows it, (h (B, width), embedding (B, width)) → h.
    """

    def __init__(self, dim: int, width: int = 128, depth: int = 3, out: int | None = None):
        super().__init__()
        self.dim, self.width, self.time = dim, width, TimeEmbedding(width)
        self.stem, self.head = nn.Linear(dim, width), zeroed(nn.Linear(width, dim if out is None else out))
        self.shift = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, between: Sequence[Between] = ()
    ) -> Tensor:
        fits = x_t.ndim == 2 and x_t.shape[1] == self.dim
        require(fits, "x_t", describe(x_t), f"shape (B, {self.dim})")
        require_shape("t", t, (len(x_t),))
        require(len(between) in (0, len(self.mix)), "between", f"{len(between)} of them", f"none, or {len(self.mix)}")
        embedding = F.silu(add_vector(self.time(t), vector))  # (B, width)
        h = self.stem(x_t)
        for shift, mix, then in zip_longest(self.shift, self.mix, between):
            h = h + mix(F.silu(h + shift(embedding)))
            h = h if then is None else then(h, embedding)
        return self.head(F.silu(h))
