"""adaLN-Zero: a condition that scales, shifts and gates every block (DiT, arXiv 2212.09748, section 3.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.init import zeroed


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm without parameters, then (1 + scale)·x + shift. x: (B, N, d); scale, shift: (B, d)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class ModulatedBlock(nn.Module):
    """(B, N, d), condition (B, d) → (B, N, d): attention, then an MLP, each modulated before and gated after.

    The six vectors come from the condition; all start at zero, gates included, so that a new block is the identity.
    mask (N, N) bool: token i may look at token j where it is true; None lets all look at all.
    """

    def __init__(self, dim: int, heads: int, expand: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, expand * dim), nn.GELU("tanh"), nn.Linear(expand * dim, dim))
        self.modulation = zeroed(nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor | None = None) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(F.silu(condition)).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attend(modulate(x, scale1, shift1), mask)
        return x + gate2[:, None] * self.mlp(modulate(x, scale2, shift2))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, n, d))
