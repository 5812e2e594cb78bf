"""Attention beside the MLP in place of one after the other (arXiv 2302.05442; the single blocks of Flux)."""

import torch
from torch import Tensor, nn

from minidiff.nn.block import Activation, Attend, Norm, Rotate, gelu_tanh, unturned
from minidiff.validate import require


class Parallel(nn.Module):
    """x + g·out([attention(h), MLP(h)]) with h = norm x: (B, L, dim) → (B, L, dim), one norm, one gate, two maps.

    `into` makes queries, keys, values and the MLP's hidden numbers at once; `out` takes what attention mixed and what
    the activation left. cond_dim, shared, own: how a condition modulates the norm (`Norm`; with adaLN-Zero the block
    begins as the identity). hidden: width of the MLP, 4·dim unless given; gated: it is up₁(x)·activation(up₂(x)), with
    two maps of that width (arXiv 2002.05202).
    """

    def __init__(
        self, dim: int, heads: int, *, cond_dim: int | None = None, hidden: int | None = None, gated: bool = False,
        activation: Activation = gelu_tanh, bias: bool = True, eps: float = 1e-6, shared: bool = False,
        own: bool = True,
    ):  # fmt: skip
        super().__init__()
        require(heads >= 1 and dim % heads == 0, "heads", heads, f"a divisor of {dim}")
        hidden = 4 * dim if hidden is None else hidden
        self.count, self.gated, self.activation = heads, gated, activation
        self.parts = [dim, dim, dim, hidden * (1 + gated)]
        self.norm = Norm(dim, cond_dim, shared, eps, own=own)
        self.into = nn.Linear(dim, sum(self.parts), bias)
        self.norm_q, self.norm_k = (nn.RMSNorm(dim // heads, eps=1e-6) for _ in "qk")
        self.attend, self.out = Attend(), nn.Linear(dim + hidden, dim, bias)

    def forward(
        self, x: Tensor, cond: Tensor | None = None, mask: Tensor | None = None, rotate: Rotate = unturned
    ) -> Tensor:
        h, gate = self.norm(x, cond)
        *qkv, inside = self.into(h).split(self.parts, -1)
        q, k, v = (y.unflatten(-1, (self.count, -1)).transpose(1, 2) for y in qkv)  # (B, heads, L, d)
        mixed = self.attend(rotate(self.norm_q(q)), rotate(self.norm_k(k)), v, mask).transpose(1, 2).flatten(2)
        *value, made = inside.chunk(1 + self.gated, -1)
        made = self.activation(made)
        return x + gate * self.out(torch.cat([mixed, value[0] * made if value else made], -1))
