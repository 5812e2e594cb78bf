"""Flux 2: double blocks, then single ones with attention ∥ SwiGLU; one modulation for all blocks of a kind, no biases.

As in Flux 1 text and picture have weights of their own first and share them later, but here most blocks are shared (8
and 48). What modulates them is made once, of the time: one map for the picture's double blocks, one for the text's, one
for the single ones. So no block has a modulation, not even a constant, of its own.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Block, joint, require_context
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.nn.parallel import Parallel
from minidiff.shapes import beside, patch_sides, patchify, sizes_of, unpatchify
from minidiff.validate import require, require_time


class Flux2(nn.Module):
    """`net(x_t, t, context=…)`: x_t (B, channels, H, W), t (B,), context (B, M, context_dim), vector (B, dim).

    The sequence is text, then picture; sides that the patch divides may have any length. rotary: numbers of a head for
    time, row, column and word, with θ = 2000. hidden: width of the SwiGLU MLPs, 3·dim unless given. Modulations and the
    last map begin at zero: every block is the identity, and the network answers 0.
    """

    def __init__(
        self, channels: int = 3, patch: int = 4, dim: int = 128, double: int = 2, single: int = 4, heads: int = 4, *,
        context_dim: int, rotary: Sequence[int], concat: int = 0, hidden: int | None = None, waves: int = 64,
        theta: float = 2000.0, eps: float = 1e-6,
    ):  # fmt: skip
        super().__init__()
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        fits = len(rotary) == 4 and sum(rotary) == dim // heads
        require(fits, "rotary", rotary, f"four even widths that add up to dim/heads = {dim // heads}")
        self.channels, self.patch, self.dim, self.eps = channels, patch_sides(patch, 2), dim, eps
        self.context_dim, self.concat, self.rotary, self.theta = context_dim, concat, rotary, theta
        inside, hidden = prod(self.patch), 3 * dim if hidden is None else hidden
        plain = lambda a, b: nn.Linear(a, b, bias=False)
        self.time = TimeEmbedding(dim, waves, bias=False)
        self.stem, self.join = plain(inside * (channels + concat), dim), plain(context_dim, dim)
        self.text, self.picture = zeroed(plain(dim, 6 * dim)), zeroed(plain(dim, 6 * dim))
        self.both = zeroed(plain(dim, 3 * dim))
        half = lambda: Block(
            dim, heads, shared=True, own=False, hidden=hidden, gated=True, activation=F.silu, qk_norm=True, eps=eps,
            bias=False,
        )  # fmt: skip
        self.double_blocks = nn.ModuleList(nn.ModuleDict({"text": half(), "picture": half()}) for _ in range(double))
        self.single_blocks = nn.ModuleList(
            Parallel(
                dim, heads, shared=True, own=False, hidden=hidden, gated=True, activation=F.silu, bias=False, eps=eps
            )
            for _ in range(single)
        )
        self.last, self.head = zeroed(plain(dim, 2 * dim)), zeroed(plain(dim, inside * channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        size = sizes_of(x_t, self.channels, self.patch)
        require_time(t, batch=len(x_t))
        require_context(context, self.context_dim, context_mask)
        assert context is not None
        cond = F.silu(add_vector(self.time(t.expand(len(x_t))), vector))  # (B, dim)
        picture, text = self.stem(patchify(beside(x_t, concat, self.concat), self.patch)), self.join(context)
        m, n = text.shape[1], picture.shape[1]
        mask = None if context_mask is None else masks.beside(masks.keys(context_mask), None, m, n)
        places = rope.four_axes(m, *(k // p for k, p in zip(size, self.patch))).to(x_t.device)
        rotate, told = rope.Rotary(places, self.rotary, self.theta), [self.text(cond), self.picture(cond)]
        for pair in self.double_blocks:
            assert isinstance(pair, nn.ModuleDict)
            blocks = [pair["text"], pair["picture"]]
            text, picture = joint(blocks, [text, picture], told, mask, rotate)  # type: ignore[arg-type]
        z, told_both = torch.cat([text, picture], 1), self.both(cond)
        for block in self.single_blocks:
            z = block(z, told_both, mask, rotate)
        scale, shift = self.last(cond)[:, None].chunk(2, -1)
        z = F.layer_norm(z[:, m:], (self.dim,), eps=self.eps) * (1 + scale) + shift
        return unpatchify(self.head(z), self.patch, size)


def flux2() -> Flux2:
    """Flux 2 (dev, without the embedding of a guidance strength): 8 double and 48 single blocks, width 128·48."""
    return Flux2(32, 2, 128 * 48, 8, 48, 48, context_dim=15360, rotary=(32, 32, 32, 32), waves=256)
