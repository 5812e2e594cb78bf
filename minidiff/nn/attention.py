"""Self-attention over the pixels of a feature map."""

import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.resblocks import groups, zeroed


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
