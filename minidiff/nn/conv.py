"""Layers of a U-Net: the residual block of DDPM (arXiv 2006.11239, appendix B; 2105.05233), attention over pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.block import Attention, Block
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
    """(B, C, H, W) → (B, C, H, W): every pixel looks at every other, plus a skip. The output layer starts at zero.

    With context_dim, pixels look at a context (B, M, context_dim) instead (arXiv 2112.10752, section 3.3).
    """

    def __init__(self, channels: int, heads: int = 4, context_dim: int | None = None):
        super().__init__()
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.attention = Attention(channels, heads, context_dim)
        zeroed(self.attention.out)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H·W, C)
        return x + self.attention(pixels, context, mask).transpose(1, 2).reshape(x.shape)


class PixelTransformer(nn.Module):
    """(B, C, H, W) → the same: a `Block` over pixels, plus a skip. The map back starts at zero.

    Pixels look at one another, then (with context_dim) at a context (B, M, context_dim), then go through a gated MLP:
    Stable Diffusion's spatial transformer (arXiv 2112.10752, appendix E.2.1). mask: as in `Attend`.
    """

    def __init__(self, channels: int, heads: int = 4, context_dim: int | None = None):
        super().__init__()
        self.norm = nn.GroupNorm(groups(channels), channels, eps=1e-6)
        self.into, self.back = nn.Linear(channels, channels), zeroed(nn.Linear(channels, channels))
        self.block = Block(channels, heads, context_dim=context_dim, gated=True)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        pixels = self.into(self.norm(x).flatten(2).transpose(1, 2))  # (B, H·W, C)
        pixels = self.back(self.block(pixels, context=context, context_mask=mask))
        return x + pixels.transpose(1, 2).reshape(x.shape)


class Residual(nn.Module):
    """(B, C, H, W) → the same: x plus a 3×3 and a 1×1 convolution of it, a `ResBlock` without time and norm.

    The 1×1 convolution starts at zero, so that a new block is the identity.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.silu(self.conv(F.silu(x))))
