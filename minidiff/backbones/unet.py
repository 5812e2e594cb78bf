"""A small U-Net (DDPM, arXiv 2006.11239; with the scale-shift blocks of 2105.05233)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks
from minidiff.nn.block import require_context
from minidiff.nn.conv import PixelAttention, PixelTransformer, ResBlock
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import groups, zeroed
from minidiff.shapes import beside
from minidiff.validate import describe, require, require_shape


class UNet(nn.Module):
    """`net(x_t, t)`, and what stands beside it: x_t (B, channels, H, W), t (B,), vector (B, embedding).

    widths: channels at each resolution, each half the one before; H and W must be divisible by patch·2^(len(widths)−1).
    depth: blocks per resolution. patch: the picture is first folded patch×patch pixels into channels, which saves most
    of the work of the finest resolution. attention: one self-attention at the coarsest resolution. context_dim: there,
    too, pixels look at a context (B, M, context_dim), padding left out by context_mask. attention_levels: resolutions
    (0 is the finest) where a `PixelTransformer`, which looks at the context if there is one, follows every block, as in
    Stable Diffusion (arXiv 2112.10752). concat: channels of a picture (B, concat, H, W) that stands beside x_t.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...] = (48, 96), depth: int = 2, patch: int = 1, attention: bool = True,
        embedding: int = 192, context_dim: int | None = None, concat: int = 0, attention_levels: tuple[int, ...] = (),
    ):  # fmt: skip
        super().__init__()
        known = tuple(range(len(widths)))
        require(set(attention_levels) <= set(known), "attention_levels", attention_levels, f"some of {known}")
        self.channels, self.concat, self.patch, self.context_dim = channels, concat, patch, context_dim
        self.divisor = patch * 2 ** (len(widths) - 1)
        self.time = TimeEmbedding(embedding)
        block = lambda c_in, c_out: ResBlock(c_in, c_out, embedding)
        looks = lambda level, c: [PixelTransformer(c, context_dim=context_dim)] if level in attention_levels else []
        self.stem = nn.Conv2d((channels + concat) * patch**2, widths[0], 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [widths[0]]
        width = widths[0]
        for level, wider in enumerate(widths):
            if level > 0:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(depth):
                self.down.extend([block(width, wider), *looks(level, wider)])
                skips.append(width := wider)
        self.middle = nn.ModuleList([block(width, width), block(width, width)])
        self.attention = PixelAttention(width) if attention else nn.Identity()
        self.cross = None if context_dim is None else PixelAttention(width, context_dim=context_dim)
        for level, wider in reversed(list(enumerate(widths))):
            for _ in range(depth + 1):
                self.up.extend([block(width + skips.pop(), wider), *looks(level, wider)])
                width = wider
            if level > 0:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(groups(width), width)
        self.head = zeroed(nn.Conv2d(width, channels * patch**2, 3, padding=1))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        fits = x_t.ndim == 4 and x_t.shape[1] == self.channels and all(n % self.divisor == 0 for n in x_t.shape[2:])
        require(fits, "x_t", describe(x_t), f"(B, {self.channels}, H, W) with H, W divisible by {self.divisor}")
        require_shape("t", t, (len(x_t),))
        embedding = add_vector(self.time(t), vector)  # (B, embedding)
        require_context(context, self.context_dim, context_mask)
        seen = None if context_mask is None else masks.keys(context_mask)
        h = self.stem(F.pixel_unshuffle(beside(x_t, concat, self.concat), self.patch))
        skips = [h]
        for layer in self.down:
            if isinstance(layer, PixelTransformer):
                h = skips[-1] = layer(h, context, seen)
            else:
                h = layer(h, embedding) if isinstance(layer, ResBlock) else layer(h)
                skips.append(h)
        h = self.attention(self.middle[0](h, embedding))
        if self.cross is not None:
            h = self.cross(h, context, seen)
        h = self.middle[1](h, embedding)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
            elif isinstance(layer, PixelTransformer):
                h = layer(h, context, seen)
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
