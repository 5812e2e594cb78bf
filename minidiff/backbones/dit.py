"""A diffusion transformer on patches, with adaLN-Zero and, if wanted, a caption's tokens in its context.

DiT (arXiv 2212.09748) with learned positions. Time enters every block through adaLN-Zero; a caption enters as more
tokens of the same sequence ("in-context conditioning", section 3.2 there), which picture tokens attend to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.modulation import ModulatedBlock, modulate
from minidiff.nn.init import zeroed
from minidiff.shapes import patchify, unpatchify
from minidiff.validate import describe, require


class DiT(nn.Module):
    """`net(x_t, t)` or `net(x_t, t, tokens=captions)`: x_t (B, channels, side, side), t (B,), tokens (B, L) int64.

    patch: side of a patch; (side/patch)² picture tokens of width `dim`. vocabulary, text_length: number of words and of
    tokens of a caption, L ≤ text_length; with vocabulary = 0 the network has no text input at all. place_std: of the
    initial positions. Word vectors have 1: where their order matters, positions of 0.3 are found sooner than of 0.02.
    """

    def __init__(
        self, side: int = 16, channels: int = 3, patch: int = 4, dim: int = 128, depth: int = 4, heads: int = 4,
        vocabulary: int = 0, text_length: int = 0, place_std: float = 0.02,
    ):  # fmt: skip
        super().__init__()
        require(side % patch == 0, "patch", patch, f"a divisor of side = {side}")
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        self.side, self.channels, self.patch = side, channels, patch
        self.vocabulary, self.text_length, n = vocabulary, text_length, (side // patch) ** 2
        self.time = TimeEmbedding(dim)
        self.stem = nn.Linear(patch**2 * channels, dim)
        self.place = nn.Parameter(place_std * torch.randn(n, dim))
        if vocabulary:
            self.words = nn.Embedding(vocabulary, dim)
            self.word_place = nn.Parameter(place_std * torch.randn(text_length, dim))
        self.blocks = nn.ModuleList(ModulatedBlock(dim, heads) for _ in range(depth))
        self.last, self.head = zeroed(nn.Linear(dim, 2 * dim)), zeroed(nn.Linear(dim, patch**2 * channels))

    def forward(self, x_t: Tensor, t: Tensor, *, tokens: Tensor | None = None) -> Tensor:
        fits = x_t.ndim == 4 and tuple(x_t.shape[1:]) == (self.channels, self.side, self.side)
        require(fits, "x_t", describe(x_t), f"(B, {self.channels}, {self.side}, {self.side})")
        condition = self.time(t)
        z = self.stem(patchify(x_t, self.patch)) + self.place  # (B, N, dim)
        n = z.shape[1]
        if tokens is not None or self.vocabulary:
            z = torch.cat([z, self.text(tokens, len(x_t)).to(z.dtype)], dim=1)  # (B, N + L, dim)
        for block in self.blocks:
            z = block(z, condition)
        scale, shift = self.last(F.silu(condition)).chunk(2, dim=1)
        return unpatchify(self.head(modulate(z[:, :n], scale, shift)), self.patch, self.side, self.side)

    def text(self, tokens: Tensor | None, batch: int) -> Tensor:
        """Word vectors plus positions: (B, L, dim)."""
        require(self.vocabulary > 0, "tokens", describe(tokens), "nothing: this model reads no text")
        fits = isinstance(tokens, Tensor) and tokens.dtype == torch.int64 and tokens.ndim == 2 and len(tokens) == batch
        expected = f"int64 tokens (B, L), B = {batch} and L ≤ {self.text_length}"
        require(fits and tokens.shape[1] <= self.text_length, "tokens", describe(tokens), expected)  # type: ignore[union-attr]
        assert tokens is not None
        tokens = tokens.to(self.word_place.device)
        return self.words(tokens) + self.word_place[: tokens.shape[1]]
