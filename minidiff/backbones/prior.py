"""The prior of unCLIP (DALL-E 2, arXiv 2204.06125, section 2.2): from a caption to the embedding of a picture."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks
from minidiff.nn.block import Block, require_context
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.init import zeroed
from minidiff.validate import describe, integer, require, require_shape

LAST = 4
"""The tokens after the words: the caption's vector, the time, x_t, the query."""


class Prior(nn.Module):
    """`net(x_t, t, vector=…, context=…)`: x_t (B, channels), t (B,) → (B, channels). A causal transformer over

        context   (B, L ≤ length, dim)   the caption's words, padding left out by context_mask (B, L) bool
        vector    (B, dim)               the embedding of the caption as a whole
        t                                the time
        x_t                              the noisy embedding of a picture
        query                            nothing but a learned place: what stands there in the end is the answer

    in this order, so that the query alone sees everything. It has no adaLN: the time is a token like others. A token
    that is left out looks at itself, at what is before it, and nobody looks at it. The last four tokens have the places
    length … length + 3 however many words there are, so padding may be cut off. features: of the time's sinusoids.
    """

    def __init__(
        self, channels: int, length: int, dim: int = 96, depth: int = 4, heads: int = 4, *, features: int = 64,
        place_std: float = 0.3,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.length, self.dim = integer("channels", channels), integer("length", length), dim
        self.time, self.stem = TimeEmbedding(dim, features), nn.Linear(channels, dim)
        self.place = nn.Parameter(place_std * torch.randn(length + LAST, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), zeroed(nn.Linear(dim, channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor, context: Tensor, context_mask: Tensor | None = None
    ) -> Tensor:
        require_shape("x_t", x_t, (None, self.channels))
        require_shape("t", t, (len(x_t),))
        require_shape("vector", vector, (len(x_t), self.dim))
        require_context(context, self.dim, context_mask)
        fits = len(context) == len(x_t) and context.shape[1] <= self.length
        require(fits, "context", describe(context), f"({len(x_t)}, at most {self.length}, {self.dim})")
        words = context.shape[1]
        last = [vector, self.time(t), self.stem(x_t), torch.zeros_like(vector)]
        place = torch.cat([self.place[:words], self.place[self.length :]])
        x = torch.cat([context, torch.stack(last, 1)], 1) + place  # (B, L + 4, dim)
        seen = _seen(words, context_mask, x.device)
        for block in self.blocks:
            x = block(x, mask=seen)
        return self.head(self.norm(x[:, -1]))


def _seen(words: int, told: Tensor | None, device: torch.device) -> Tensor:
    """(L + 4, L + 4) or (B, L + 4, L + 4): what is before, without padding; each sees itself, so no row is empty."""
    causal = masks.causal(words + LAST, device)
    if told is None:
        return causal
    own = torch.eye(words + LAST, dtype=torch.bool, device=device)
    return causal & masks.keys(F.pad(told, (0, LAST), value=True)) | own
