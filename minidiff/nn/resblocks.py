"""The residual block of DDPM's U-Net and its two changes of size (arXiv 2006.11239, appendix B; 2105.05233)."""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

L = TypeVar("L", bound=nn.Module)


def groups(channels: int) -> int:
    """The largest number of groups up to 8 that divides `channels`."""
    return next(g for g in range(8, 0, -1) if channels % g == 0)


def zeroed(layer: L) -> L:
    """The layer with all its parameters set to 0, so that what it adds to is unchanged at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """(B, c_in, H, W), embedding (B, d) → (B, c_out, H, W): two normalised 3×3 convolutions around a scale and shift
    from the embedding, plus a skip. The last convolution starts at zero, so that a new block is the skip alone."""

    def __init__(self, c_in: int, c_out: int, d: int, dropout: float = 0.0):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups(c_in), c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(d, 2 * c_out)
        self.norm2, self.conv2 = nn.GroupNorm(groups(c_out), c_out), zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, c_out, H, W)
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))
