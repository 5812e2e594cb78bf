"""A small class-conditional U-Net (DDPM, arXiv 2006.11239; with the scale-shift blocks of 2105.05233)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.conv import PixelAttention
from minidiff.nn.embeddings import TimeLabelEmbedding
from minidiff.nn.conv import ResBlock
from minidiff.nn.init import groups, zeroed
from minidiff.validate import describe, require


class UNet(nn.Module):
    """`net(x_t, t, y=labels)`: x_t (B, channels, H, W), t (B,), y (B,) in 0 … n_classes, where n_classes is "no label".

    widths: channels at each resolution, each half the one before; H and W must be divisible by patch·2^(len(widths)−1).
    depth: blocks per resolution. patch: the picture is first folded patch×patch pixels into channels, which saves most
    of the work of the finest resolution. attention: one self-attention at the coarsest resolution.
    With n_classes = 0 there is no condition and no argument y.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...] = (48, 96), depth: int = 2, n_classes: int = 0, patch: int = 1,
        attention: bool = True, embedding: int = 192,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.patch, self.n_classes = channels, patch, n_classes
        self.divisor = patch * 2 ** (len(widths) - 1)
        self.embed = TimeLabelEmbedding(n_classes, embedding)
        block = lambda c_in, c_out: ResBlock(c_in, c_out, embedding)
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [widths[0]]
        width = widths[0]
        for level, wider in enumerate(widths):
            if level > 0:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(depth):
                self.down.append(block(width, wider))
                skips.append(width := wider)
        self.middle = nn.ModuleList([block(width, width), block(width, width)])
        self.attention = PixelAttention(width) if attention else nn.Identity()
        for level, wider in reversed(list(enumerate(widths))):
            for _ in range(depth + 1):
                self.up.append(block(width + skips.pop(), wider))
                width = wider
            if level > 0:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(groups(width), width)
        self.head = zeroed(nn.Conv2d(width, channels * patch**2, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor, *, y: Tensor | None = None) -> Tensor:
        fits = x_t.ndim == 4 and x_t.shape[1] == self.channels and all(n % self.divisor == 0 for n in x_t.shape[2:])
        require(fits, "x_t", describe(x_t), f"(B, {self.channels}, H, W) with H, W divisible by {self.divisor}")
        embedding = self.embed(t, y)  # (B, embedding)
        h = self.stem(F.pixel_unshuffle(x_t, self.patch))
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResBlock) else layer(h)
            skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, embedding)), embedding)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
