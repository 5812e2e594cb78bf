"""Text and picture as one sequence with one set of weights (Z-Image, arXiv 2511.22699), each refined alone before."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import rope
from minidiff.nn.block import Attention, Rotate, require_context
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.shapes import beside, patch_sides, patchify, sizes_of, unpatchify
from minidiff.validate import require, require_time


class Sandwich(nn.Module):
    """x + tanh g·norm(attention((1 + s)·norm x)), then the same with a SwiGLU MLP: (B, L, dim) → (B, L, dim).

    RMSNorm before and after each branch. cond_dim: s and g of both are a map of the condition, zero at first, and
    there is no shift; None: s = 0 and tanh g = 1 (a refiner of text, which knows no time). Maps have no bias.
    """

    def __init__(self, dim: int, heads: int, hidden: int, cond_dim: int | None = None, eps: float = 1e-5):
        super().__init__()
        self.before1, self.after1, self.before2, self.after2 = (nn.RMSNorm(dim, eps=eps) for _ in range(4))
        self.attention = Attention(dim, heads, qk_norm=True, bias=False, eps=eps)
        self.up, self.down = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        self.modulation = None if cond_dim is None else zeroed(nn.Linear(cond_dim, 4 * dim))

    def forward(self, x: Tensor, rotate: Rotate, cond: Tensor | None = None) -> Tensor:
        scale1, gate1, scale2, gate2 = 0.0, 1.0, 0.0, 1.0
        if self.modulation is not None:
            assert cond is not None
            scale1, gate1, scale2, gate2 = self.modulation(cond)[:, None].chunk(4, -1)
            gate1, gate2 = gate1.tanh(), gate2.tanh()
        x = x + gate1 * self.after1(self.attention(self.before1(x) * (1 + scale1), rotate=rotate))
        value, h = self.up(self.before2(x) * (1 + scale2)).chunk(2, -1)
        return x + gate2 * self.after2(self.down(value * F.silu(h)))


class SingleStream(nn.Module):
    """`net(x_t, t, context=…)`: x_t (B, channels, *size), t (B,), context (B, M, context_dim), vector (B, cond_dim).

    refiners: blocks for the picture alone, and as many for the text alone, which no time modulates; depth: blocks for
    both in a row. Both are filled up to a multiple of `multiple` tokens with a learned pad token of their own, which is
    looked at. So are the context's tokens that context_mask leaves out: they become pad tokens.

    rotary: numbers of a head for each axis: the first is the text's, the others the picture's. Text has the positions
    1 … M; the picture is at M + 1 on the first axis (M as filled up), its pad tokens at 0. The network answers 0 at
    first. Z-Image's own weights are read as v(x_t, t) = −net(x_t, 1 − t): there, 1 is data and the answer points to it.
    """

    def __init__(
        self, channels: int = 3, size: Sequence[int] = (16, 16), patch: int | Sequence[int] = 4, dim: int = 128,
        depth: int = 4, heads: int = 4, *, context_dim: int, rotary: Sequence[int], refiners: int = 2,
        concat: int = 0, hidden: int | None = None, cond_dim: int = 64, time_hidden: int = 128, waves: int = 64,
        multiple: int = 1, theta: float = 256.0, eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.patch, self.axes = channels, patch_sides(patch, len(size)), len(size)
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        fits = len(rotary) == 1 + len(size) and sum(rotary) == dim // heads
        require(fits, "rotary", rotary, f"{1 + len(size)} even widths that add up to dim/heads = {dim // heads}")
        self.dim, self.context_dim, self.concat = dim, context_dim, concat
        self.rotary, self.theta, self.multiple = rotary, theta, multiple
        inside, hidden = prod(self.patch), 8 * dim // 3 if hidden is None else hidden
        self.time = TimeEmbedding(cond_dim, waves, hidden=time_hidden)
        self.stem = nn.Linear(inside * (channels + concat), dim)
        self.join = nn.Sequential(nn.RMSNorm(context_dim, eps=eps), nn.Linear(context_dim, dim))
        self.pad_picture, self.pad_text = (nn.Parameter(torch.zeros(dim)) for _ in range(2))
        make = lambda n, cond: nn.ModuleList(Sandwich(dim, heads, hidden, cond, eps) for _ in range(n))
        self.picture_blocks, self.text_blocks = make(refiners, cond_dim), make(refiners, None)
        self.joint_blocks = make(depth, cond_dim)
        self.last = zeroed(nn.Linear(cond_dim, dim))
        self.head = zeroed(nn.Linear(dim, inside * channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        size = sizes_of(x_t, self.channels, self.patch)
        require_time(t, batch=len(x_t))
        require_context(context, self.context_dim, context_mask)
        assert context is not None
        cond = add_vector(self.time(t.expand(len(x_t))), vector)  # (B, cond_dim)
        picture = self.stem(patchify(beside(x_t, concat, self.concat), self.patch))  # (B, N, dim)
        text, n = self.join(context), picture.shape[1]  # (B, M, dim)
        if context_mask is not None:
            text = torch.where(context_mask[..., None], text, self.pad_text)
        picture, text = self._filled(picture, self.pad_picture), self._filled(text, self.pad_text)
        places = self.places(text.shape[1], picture.shape[1], [k // p for k, p in zip(size, self.patch)])
        turn = lambda places: rope.Rotary(places.to(x_t.device), self.rotary, self.theta)
        for block in self.picture_blocks:
            picture = block(picture, turn(places[: picture.shape[1]]), cond)
        for block in self.text_blocks:
            text = block(text, turn(places[picture.shape[1] :]))
        z = torch.cat([picture, text], 1)
        for block in self.joint_blocks:
            z = block(z, turn(places), cond)
        z = F.layer_norm(z[:, :n], (self.dim,), eps=1e-6) * (1 + self.last(F.silu(cond))[:, None])
        return unpatchify(self.head(z), self.patch, size)

    def _filled(self, tokens: Tensor, pad: Tensor) -> Tensor:
        """Followed by pad tokens up to the next multiple."""
        return torch.cat([tokens, pad.expand(len(tokens), -tokens.shape[1] % self.multiple, -1)], 1)

    def places(self, text: int, picture: int, patches: Sequence[int]) -> Tensor:
        """Positions of the picture's tokens, then of the text's, filled up both: (picture + text, 1 + axes)."""
        grid = F.pad(rope.grid(*patches), (1, 0), value=text + 1.0)
        grid = F.pad(grid, (0, 0, 0, picture - len(grid)))
        words = F.pad(torch.arange(1.0, text + 1)[:, None], (0, len(patches)))
        return torch.cat([grid, words])


def z_image() -> SingleStream:
    """Z-Image (arXiv 2511.22699): 2 refiners of the picture, 2 of the text, 30 blocks for both, width 128·30."""
    return SingleStream(
        16, (128, 128), 2, 128 * 30, 30, 30, context_dim=2560, rotary=(32, 48, 48), cond_dim=256, time_hidden=1024,
        waves=256, multiple=32,
    )  # fmt: skip
