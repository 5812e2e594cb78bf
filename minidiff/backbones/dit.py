"""A diffusion transformer on patches with adaLN-Zero (DiT, arXiv 2212.09748), and three ways to look at a context."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Activation, Block, Rotate, gelu_tanh, require_context, unturned
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.shapes import beside, patch_sides, patchify, unpatchify
from minidiff.validate import describe, require, require_time

READS = ("cross", "merged", "tokens")


class DiT(nn.Module):
    """`net(x_t, t)`, and what stands beside it: x_t (B, channels, *size), t (B,) or a map of times, vector (B, dim).

    size: (H, W), or (T, H, W) for clips; patch: side of a patch, one number or one per axis. t as a map (B, 1, *size)
    gives each token the mean time of its patch. concat: channels of a picture beside x_t.

    context_dim: width of a context (B, M, context_dim), padding left out by context_mask. `reads` says how it is read:
    "cross"    by a cross-attention in every block
    "merged"   every block's softmax goes over picture and context, which has keys and values of its own there
    "tokens"   the context's tokens join the sequence ("in-context conditioning", section 3.2 of the paper)

    shared: one modulation for all blocks, plus a constant each (arXiv 2310.00426). place_std: of the learned positions
    at first. rotary: no learned positions but RoPE, these many numbers of a head for each axis; x_t may then have any
    size that the patch divides.
    """

    def __init__(
        self, channels: int = 3, size: Sequence[int] = (16, 16), patch: int | Sequence[int] = 4, dim: int = 128,
        depth: int = 4, heads: int = 4, *, context_dim: int | None = None, reads: str = "cross", shared: bool = False,
        concat: int = 0, place_std: float = 0.02, rotary: Sequence[int] | None = None,
        activation: Activation = gelu_tanh, qk_norm: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.size, self.patch = channels, tuple(size), patch_sides(patch, len(size))
        fits = all(n % p == 0 for n, p in zip(self.size, self.patch))
        require(fits, "patch", self.patch, f"divisors of size = {self.size}")
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        require(reads in READS, "reads", repr(reads), f"one of {READS}")
        fits = rotary is None or (
            len(rotary) == len(self.size) and sum(rotary) == dim // heads and all(a > 0 and a % 2 == 0 for a in rotary)
        )
        require(fits, "rotary", rotary, f"{len(self.size)} even widths that add up to dim/heads = {dim // heads}")
        self.dim, self.context_dim, self.reads, self.concat, self.rotary = dim, context_dim, reads, concat, rotary
        inside, n = prod(self.patch), prod(k // p for k, p in zip(self.size, self.patch))
        self.time = TimeEmbedding(dim)
        self.stem = nn.Linear(inside * (channels + concat), dim)
        self.place = None if rotary else nn.Parameter(place_std * torch.randn(n, dim))
        joins = context_dim is not None and reads == "tokens"
        self.join = nn.Linear(context_dim, dim) if joins and context_dim != dim else nn.Identity()  # type: ignore[arg-type]
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 6 * dim))) if shared else nn.Identity()
        seen = None if joins else context_dim
        merged = reads == "merged" and seen is not None
        make = lambda: Block(
            dim, heads, cond_dim=dim, shared=shared, context_dim=seen, merged=merged, activation=activation,
            qk_norm=qk_norm,
        )  # fmt: skip
        self.blocks = nn.ModuleList(make() for _ in range(depth))
        self.last, self.head = zeroed(nn.Linear(dim, 2 * dim)), zeroed(nn.Linear(dim, inside * channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        size = self._size(x_t)
        require_time(t, batch=len(x_t), map_of=x_t)
        require_context(context, self.context_dim, context_mask)
        one = t.ndim < 2  # time per picture
        times = t.expand(len(x_t)) if one else patchify(t.expand(-1, 1, *size), self.patch).mean(-1)  # (B,) or (B, N)
        cond = add_vector(self.time(times), vector)  # (B, dim) or (B, N, dim)
        z = self.stem(patchify(beside(x_t, concat, self.concat), self.patch))  # (B, N, dim)
        z = z if self.place is None else z + self.place
        n, mask = z.shape[1], None
        seen = None if context_mask is None else masks.keys(context_mask)
        if context is not None and self.reads == "tokens":
            require(cond.ndim == 2, "t", describe(t), 'one time per picture with reads="tokens"')
            z, mask = torch.cat([z, self.join(context).to(z)], 1), masks.beside(None, seen, n, context.shape[1])
            context, seen = None, None
        rotate, given = self._rotation(size, z.shape[1], z.device), self.modulation(cond)
        for block in self.blocks:
            z = block(z, given, context, mask, seen, rotate)
        scale, shift = self.last(F.silu(cond if cond.ndim == 3 else cond[:, None])).chunk(2, dim=-1)
        out = self.head(F.layer_norm(z[:, :n], (self.dim,)) * (1 + scale) + shift)
        return unpatchify(out, self.patch, size)

    def _size(self, x_t: Tensor) -> tuple[int, ...]:
        size = tuple(x_t.shape[2:])
        free = self.rotary is not None and len(size) == len(self.size)
        fits = x_t.ndim == 2 + len(self.size) and x_t.shape[1] == self.channels
        fits = fits and (size == self.size or (free and all(n % p == 0 for n, p in zip(size, self.patch))))
        wanted = f"sizes divisible by {self.patch}" if free else ", ".join(map(str, self.size))
        require(fits, "x_t", describe(x_t), f"(B, {self.channels}, {wanted})")
        return size

    def _rotation(self, size: tuple[int, ...], tokens: int, device: torch.device) -> Rotate:
        """Turns picture tokens by their place; tokens of a context, which follow, stay at the origin."""
        if self.rotary is None:
            return unturned
        places = rope.grid(*(n // p for n, p in zip(size, self.patch)))
        places = torch.cat([places, torch.zeros(tokens - len(places), len(size))])
        return rope.Rotary(places.to(device), self.rotary)
