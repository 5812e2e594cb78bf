"""Layers of a U-Net: the residual block of DDPM (arXiv 2006.11239, appendix B; 2105.05233), attention over pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.init import groups, zeroed


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


class PixelAttention(nn.Module):
    """(B, C, H, W) → (B, C, H, W): every pixel looks at every other, plus a skip. The output layer starts at zero."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(groups(channels), channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H·W, C/heads)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))
