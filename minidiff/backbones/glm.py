"""A diffusion transformer that is told what to draw by another model's codes: the decoder of GLM-Image.

    x_t (B, C, H, W) → patches → linear ──┐
    codes (B, h, w)  → vectors → MLP ───── + ──┐
    words, if any (B, M, d)    → MLP ──────────┴ blocks → norm → linear → patches → the answer, like x_t

One code for each patch: its vector is added to the patch's token. A code that is dropped has the vector 0, which goes
through the MLP like any other. Words (of what is to be *written* in a picture) and patches go through the same weights
and one softmax; only the scales, shifts and gates that time gives them differ.

The design is that of GLM-Image's public code (diffusers' `GlmImageTransformer2DModel`), which `tests/parity` compares.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Block, gelu_tanh, require_context
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.shapes import patch_sides, patchify, sizes_of, unpatchify
from minidiff.validate import describe, indexing, require, require_time


def mlp(inside: int, dim: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, dim), activation, nn.Linear(dim, dim))


class Glm(nn.Module):
    """`net(x_t, t, codes=…, dropped=…)`: x_t (B, channels, H, W) of any size that the patch divides, t (B,).

    codes (B, H/patch, W/patch) int64 in 0 … size − 1. dropped: bool, of the codes' shape, or (B,) for all of a picture;
    none unless given. context_dim: width of a context (B, M, context_dim), padding left out by context_mask. vector
    (B, cond_dim) is added to the time's embedding (theirs: of the picture's size and crop). cond_dim: width of that,
    dim unless given. Positions are rotary, rows and columns alike; words stay at the origin. At first every block is
    the identity and the answer 0, as in `dit` (theirs begins otherwise). `ValueError` for other shapes and codes.
    """

    def __init__(
        self, size: int, channels: int = 3, patch: int = 4, dim: int = 96, depth: int = 4, heads: int = 4, *,
        context_dim: int | None = None, cond_dim: int | None = None, theta: float = 10_000.0,
    ):  # fmt: skip
        super().__init__()
        width, cond_dim = dim // heads, dim if cond_dim is None else cond_dim
        fits = dim % heads == 0 and width % 4 == 0
        require(fits, "heads", heads, f"a divisor of dim = {dim} that leaves a multiple of 4 for each")
        self.channels, self.patch, self.dim, self.size = channels, patch_sides(patch, 2), dim, size
        self.context_dim, self.axes, self.theta = context_dim, (width // 2, width // 2), theta
        inside, streams = channels * prod(self.patch), 1 if context_dim is None else 2
        self.stem, self.code, self.project = nn.Linear(inside, dim), nn.Embedding(size, dim), mlp(dim, dim, nn.SiLU())
        self.join = nn.Identity() if context_dim is None else mlp(context_dim, dim, nn.GELU())
        self.time = TimeEmbedding(cond_dim)
        self.blocks = nn.ModuleList(self._block(dim, heads, width) for _ in range(depth))
        self.modulations = nn.ModuleList(zeroed(nn.Linear(cond_dim, 6 * dim * streams)) for _ in range(depth))
        self.last, self.head = zeroed(nn.Linear(cond_dim, 2 * dim)), zeroed(nn.Linear(dim, inside))

    @staticmethod
    def _block(dim: int, heads: int, width: int) -> Block:
        """Queries and keys have LayerNorm without weights."""
        block = Block(dim, heads, shared=True, own=False, activation=gelu_tanh, qk_norm=True)
        block.attention.norm_q = nn.LayerNorm(width, elementwise_affine=False)  # type: ignore[assignment]
        block.attention.norm_k = nn.LayerNorm(width, elementwise_affine=False)  # type: ignore[assignment]
        return block

    def told(self, codes: Tensor, dropped: Tensor | None = None) -> Tensor:
        """What codes add to the patches' tokens: (B, h, w) → (B, h·w, dim)."""
        with indexing("codes", codes, self.size - 1, f"codes 0 … {self.size - 1}", self.code.weight.device):
            vectors = self.code(codes)
        if dropped is not None:
            fits = dropped.dtype == torch.bool and dropped.shape in (codes.shape, codes.shape[:1])
            require(fits, "dropped", describe(dropped), f"bool, shape {tuple(codes.shape)} or ({len(codes)},)")
            vectors = torch.where(dropped.reshape(*dropped.shape, *[1] * (4 - dropped.ndim)), 0.0, vectors)
        return self.project(vectors.flatten(1, 2))

    def forward(
        self, x_t: Tensor, t: Tensor, *, codes: Tensor, dropped: Tensor | None = None, vector: Tensor | None = None,
        context: Tensor | None = None, context_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        size = sizes_of(x_t, self.channels, self.patch)
        rows, columns = (n // p for n, p in zip(size, self.patch))
        fits = codes.dtype == torch.int64 and tuple(codes.shape) == (len(x_t), rows, columns)
        require(fits, "codes", describe(codes), f"int64, shape {(len(x_t), rows, columns)}: one for each patch")
        require_time(t, batch=len(x_t))
        require_context(context, self.context_dim, context_mask)
        cond = F.silu(add_vector(self.time(t.expand(len(x_t))), vector))  # (B, cond_dim)
        z = self.stem(patchify(x_t, self.patch)) + self.told(codes, dropped)  # (B, N, dim)
        n, words = z.shape[1], 0 if context is None else context.shape[1]
        z = z if context is None else torch.cat([z, self.join(context)], 1)
        mask = masks.beside(None, None if context_mask is None else masks.keys(context_mask), n, words)
        places = F.pad(rope.grid(rows, columns), (0, 0, 0, words)).to(z.device)
        rotate = rope.Rotary(places, self.axes, self.theta)
        for block, modulation in zip(self.blocks, self.modulations):
            z = block(z, _spread(modulation(cond), n, words), mask=mask, rotate=rotate)
        scale, shift = self.last(cond)[:, None].chunk(2, -1)
        z = F.layer_norm(z[:, :n], (self.dim,)) * (1 + scale) + shift
        return unpatchify(self.head(z), self.patch, size)


def _spread(made: Tensor, n: int, words: int) -> Tensor:
    """(B, 6·dim) is for all tokens; of (B, 12·dim) the first half is for the n patches, the second for the words."""
    if not words:
        return made
    return torch.cat([part[:, None].expand(-1, k, -1) for part, k in zip(made.chunk(2, -1), (n, words))], 1)
