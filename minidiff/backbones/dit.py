"""A diffusion transformer on patches (DiT, arXiv 2212.09748), told time and label in four ways, a context in three."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Activation, Block, Rotate, gelu_tanh, require_context, unturned
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.shapes import beside, patch_sides, patchify, sizes_of, unpatchify
from minidiff.validate import describe, require, require_time

READS = ("cross", "merged", "tokens")
CONDITIONINGS = ("in-context", "cross-attention", "adaLN", "adaLN-Zero")
AS_CONTEXT = {"in-context": "tokens", "cross-attention": "cross"}
"""How time and label are read where they are a context of two tokens; elsewhere their sum modulates the norms."""


class DiT(nn.Module):
    """`net(x_t, t)`, and what stands beside it: x_t (B, channels, *size), t (B,) or a map of times, vector (B, dim).

    size: (H, W), or (T, H, W) for clips; patch: side of a patch, one number or one per axis. t as a map (B, 1, *size)
    gives each token the mean time of its patch. concat: channels of a picture beside x_t.

    context_dim: width of a context (B, M, context_dim), padding left out by context_mask. `reads` says how it is read:
    "cross"    by a cross-attention in every block
    "merged"   every block's softmax goes over picture and context, which has keys and values of its own there
    "tokens"   the context's tokens join the sequence ("in-context conditioning", section 3.2 of the paper)

    conditioning: how the blocks are told t and vector (section 3.2 of the paper; `vector` is then a label's embedding)
    "in-context"       as two more tokens of the sequence, taken away at its end; norms are learned
    "cross-attention"  as two tokens that a cross-attention of every block looks at; norms are learned
    "adaLN"            their sum makes scale and shift of every norm; all weights begin as they do in any network
    "adaLN-Zero"       and a gate after every branch. Modulations and the last map begin at zero: each block is the
                       identity, and the network answers 0
    The first two take no context besides. `equal_hidden` gives all four as many parameters.

    hidden: width of the MLPs, 4·dim unless given. shared: one modulation for all blocks, plus a constant each (arXiv
    2310.00426), with "adaLN-Zero". place_std: of the learned positions at first. rotary: no learned positions but RoPE,
    these many numbers of a head for each axis; x_t may then have any size that the patch divides. eps: of the norms.
    """

    def __init__(
        self, channels: int = 3, size: Sequence[int] = (16, 16), patch: int | Sequence[int] = 4, dim: int = 128,
        depth: int = 4, heads: int = 4, *, context_dim: int | None = None, reads: str = "cross", shared: bool = False,
        concat: int = 0, place_std: float = 0.02, rotary: Sequence[int] | None = None,
        activation: Activation = gelu_tanh, qk_norm: bool = False, conditioning: str = "adaLN-Zero",
        hidden: int | None = None, eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.size, self.patch = channels, tuple(size), patch_sides(patch, len(size))
        fits = all(n % p == 0 for n, p in zip(self.size, self.patch))
        require(fits, "patch", self.patch, f"divisors of size = {self.size}")
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        require(reads in READS, "reads", repr(reads), f"one of {READS}")
        self._require_conditioning(conditioning, context_dim, shared)
        fits = rotary is None or (
            len(rotary) == len(self.size) and sum(rotary) == dim // heads and all(a > 0 and a % 2 == 0 for a in rotary)
        )
        require(fits, "rotary", rotary, f"{len(self.size)} even widths that add up to dim/heads = {dim // heads}")
        self.dim, self.context_dim, self.concat, self.rotary = dim, context_dim, concat, rotary
        self.conditioning, self.eps, zero = conditioning, eps, conditioning == "adaLN-Zero"
        as_context, begin = conditioning in AS_CONTEXT, zeroed if zero else nn.Identity()
        context_dim, self.reads = (dim, AS_CONTEXT[conditioning]) if as_context else (context_dim, reads)
        inside, n = prod(self.patch), prod(k // p for k, p in zip(self.size, self.patch))
        self.time = TimeEmbedding(dim)
        self.stem = nn.Linear(inside * (channels + concat), dim)
        self.place = None if rotary else nn.Parameter(place_std * torch.randn(n, dim))
        joins = context_dim is not None and self.reads == "tokens"
        self.join = nn.Linear(context_dim, dim) if joins and context_dim != dim else nn.Identity()  # type: ignore[arg-type]
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 6 * dim))) if shared else nn.Identity()
        seen = None if joins else context_dim
        merged = self.reads == "merged" and seen is not None
        make = lambda: Block(
            dim, heads, cond_dim=None if as_context else dim, shared=shared, context_dim=seen, merged=merged,
            hidden=hidden, activation=activation, qk_norm=qk_norm, eps=eps, zero=zero,
        )  # fmt: skip
        self.blocks = nn.ModuleList(make() for _ in range(depth))
        self.last = nn.LayerNorm(dim, eps) if as_context else begin(nn.Linear(dim, 2 * dim))
        self.head = begin(nn.Linear(dim, inside * channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        require_time(t, batch=len(x_t), map_of=x_t)
        require_context(context, self.context_dim, context_mask)
        z, times, size = self.embed(x_t, t, concat)
        cond = add_vector(times, vector)  # (B, dim) or (B, N, dim)
        if self.conditioning in AS_CONTEXT:
            require(cond.ndim == 2, "t", describe(t), f"one time per picture with conditioning={self.conditioning!r}")
            context = torch.stack([times] if vector is None else [times, vector], -2)  # (B, 2, dim)
        n, mask = z.shape[1], None
        seen = None if context_mask is None else masks.keys(context_mask)
        if context is not None and self.reads == "tokens":
            require(cond.ndim == 2, "t", describe(t), 'one time per picture with reads="tokens"')
            z, mask = torch.cat([z, self.join(context).to(z)], 1), masks.beside(None, seen, n, context.shape[1])
            context, seen = None, None
        rotate, given = self.rotation(size, z.shape[1], z.device), self.modulation(cond)
        for block in self.blocks:
            z = block(z, given, context, mask, seen, rotate)
        return unpatchify(self.read_out(z[:, :n], cond), self.patch, size)

    def embed(self, x_t: Tensor, t: Tensor, concat: Tensor | None = None) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """What goes into the first block, (B, N, dim); the embedding of t, (B, dim) or (B, N, dim); x_t's sides."""
        size = sizes_of(x_t, self.channels, self.patch, None if self.rotary else self.size)
        if t.ndim < 2:  # time per picture
            times = self.time(t.expand(len(x_t)))
        else:
            times = self.time(patchify(t.expand(-1, 1, *size), self.patch).mean(-1))
        z = self.stem(patchify(beside(x_t, concat, self.concat), self.patch))  # (B, N, dim)
        return z if self.place is None else z + self.place, times, size

    def read_out(self, z: Tensor, cond: Tensor) -> Tensor:
        """(B, N, dim) → (B, N, numbers of a patch); cond is what time and vector add up to."""
        if isinstance(self.last, nn.LayerNorm):
            return self.head(self.last(z))
        scale, shift = self.last(F.silu(cond if cond.ndim == 3 else cond[:, None])).chunk(2, dim=-1)
        return self.head(F.layer_norm(z, (self.dim,), eps=self.eps) * (1 + scale) + shift)

    @staticmethod
    def _require_conditioning(conditioning: str, context_dim: int | None, shared: bool) -> None:
        require(conditioning in CONDITIONINGS, "conditioning", repr(conditioning), f"one of {CONDITIONINGS}")
        fits = context_dim is None or conditioning not in AS_CONTEXT
        require(fits, "context_dim", context_dim, f"None with conditioning={conditioning!r}")
        require(not shared or conditioning == "adaLN-Zero", "shared", shared, f"False with {conditioning!r}")

    def rotation(self, size: tuple[int, ...], tokens: int, device: torch.device) -> Rotate:
        """Turns picture tokens by their place; tokens of a context, which follow, stay at the origin."""
        if self.rotary is None:
            return unturned
        places = rope.grid(*(n // p for n, p in zip(size, self.patch)))
        places = torch.cat([places, torch.zeros(tokens - len(places), len(size))])
        return rope.Rotary(places.to(device), self.rotary)


def equal_hidden(conditioning: str, **options: Any) -> int:
    """The width of MLPs with which `DiT(conditioning=…, hidden=…, **options)` has as many parameters as "adaLN-Zero".

    Equal to within half a unit of each block's MLP. A block's attention and MLP have 12·dim² parameters at hidden =
    4·dim; its modulation adds 6·dim² (adaLN-Zero) or 4·dim² (adaLN), cross-attention 4·dim², in-context nothing.
    """

    def count(conditioning: str, hidden: int | None) -> int:
        with torch.device("meta"):  # shapes alone
            return sum(p.numel() for p in DiT(conditioning=conditioning, hidden=hidden, **options).parameters())

    one = count(conditioning, 1)
    return 1 + round((count("adaLN-Zero", None) - one) / (count(conditioning, 2) - one))
