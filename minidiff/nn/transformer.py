"""The transformer block for token sequences (B, L, D): for text towers, picture towers, captioners, language models."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.validate import describe, require


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702·x), the approximation of GELU (arXiv 1606.08415, section 2) that OpenAI trained CLIP with."""
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head attention (arXiv 1706.03762): x (B, L, dim) looks at itself, or at a context (B, M, context_dim).

    causal: position i looks at positions 0 … i only. mask: (B, M) boolean, True where a position may be looked at; a
    row needs at least one.
    """

    def __init__(self, dim: int, heads: int, causal: bool = False, context_dim: int | None = None):
        super().__init__()
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        require(not (causal and context_dim), "causal", causal, "False with a context")
        self.heads, self.causal = heads, causal
        self.q, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.k, self.v = nn.Linear(context_dim or dim, dim), nn.Linear(context_dim or dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        seen = x if context is None else context
        q, k, v = (self._split(y) for y in (self.q(x), self.k(seen), self.v(seen)))  # (B, heads, L or M, dim/heads)
        mixed = F.scaled_dot_product_attention(
            q, k, v, self._allowed(mask, seen), is_causal=self.causal and mask is None
        )
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, L, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _allowed(self, mask: Tensor | None, seen: Tensor) -> Tensor | None:
        """The mask as (B, 1, L or 1, M), joined with the causal triangle: PyTorch takes one of the two, not both."""
        if mask is None:
            return None
        fits = mask.dtype == torch.bool and mask.shape == seen.shape[:2]
        require(fits, "mask", describe(mask), f"bool, shape {tuple(seen.shape[:2])}")
        allowed = mask[:, None, None, :]
        if self.causal:
            allowed = allowed & torch.ones(2 * seen.shape[1:2], dtype=torch.bool, device=seen.device).tril()
        return allowed


class Block(nn.Module):
    """x + attention(norm x), then x + MLP(norm x): pre-norm (arXiv 2002.04745), (B, L, dim) → (B, L, dim).

    With `context_dim`, attention to a context (B, M, context_dim) stands between the two. hidden: width of the MLP,
    4·dim unless given. mask (B, L) and context_mask (B, M) are True where a token may be looked at.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        causal: bool = False,
        context_dim: int | None = None,
    ):
        super().__init__()
        hidden = hidden or 4 * dim
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads, causal)
        if context_dim is not None:
            self.norm_cross, self.cross = nn.LayerNorm(dim), Attention(dim, heads, context_dim=context_dim)
        self.norm2, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.activation, self.context_dim = activation, context_dim

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        expected = "nothing" if self.context_dim is None else f"a tensor of shape (B, M, {self.context_dim})"
        require((context is None) == (self.context_dim is None), "context", describe(context), expected)
        x = x + self.attention(self.norm1(x), mask=mask)
        if context is not None:
            x = x + self.cross(self.norm_cross(x), context, context_mask)
        return x + self.down(self.activation(self.up(self.norm2(x))))
