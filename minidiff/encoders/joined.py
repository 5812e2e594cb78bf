"""Several frozen text encoders at once, as Stable Diffusion 3 joins them (arXiv 2403.03206, section 4 and figure 2).

CLIP towers read the same tokens, so their vectors can stand side by side in channels. A language model has tokens of
its own, and more of them: its vectors follow on the sequence axis. Both are padded with zeros to one width:

    context = [ CLIP ⊕ CLIP ⊕ 0 ; language ⊕ 0 ]        vector = MLP(pooled CLIP ⊕ pooled CLIP)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.conditioning import Encoded, Given, TextEncoder, require_tokens
from minidiff.randomness import rand
from minidiff.validate import describe, number, require


def join(side_by_side: Sequence[Tensor], behind: Tensor) -> Tensor:
    """[(B, L, d₁), (B, L, d₂), …] and (B, M, d) → (B, L + M, max(Σ dᵢ, d)): channels, then sequence, zeros as padding.

    The order and the padding of Stable Diffusion 3, where Σ dᵢ = 768 + 1280 and d = 4096.
    """
    lengths = {each.shape[:2] for each in side_by_side}
    require(len(lengths) == 1, "side_by_side", [describe(x) for x in side_by_side], "tensors of one batch and length")
    first = torch.cat(list(side_by_side), -1)
    width = max(first.shape[-1], behind.shape[-1])
    return torch.cat([F.pad(x, (0, width - x.shape[-1])) for x in (first, behind)], 1)


def hear(batch: int, encoders: int, drop: float, generator: Generator) -> Tensor:
    """(batch, encoders) bool: each encoder is heard or dropped by itself, each row of a batch by itself.

    Stable Diffusion 3 drops each of its three in about 46 % of all cases, so that any of them can be left out later,
    and all of them together, which is the unconditional branch, in a tenth: .46³ = .10 (arXiv 2403.03206).
    """
    drop = number("drop", drop, "a probability in [0, 1)", lambda v: 0 <= v < 1)
    return rand((batch, encoders), generator) >= drop


class Joined(nn.Module):
    """tokens (B, L), words (B, M), heard (B, encoders) → context (B, L + M, context_dim), context_mask, vector.

    clips: encoders with token vectors and a pooled vector each, which all read `tokens`; language: one that reads
    `words`. None of them learns. heard: bool, in the order (*clips, language); whoever is not heard leaves zeros where
    its numbers were (not its tokens: the picture still finds them there, and that they say nothing).
    """

    def __init__(
        self, clips: Sequence[TextEncoder], language: TextEncoder, lengths: tuple[int, int], context_dim: int,
        vector_dim: int,
    ):  # fmt: skip
        super().__init__()
        require(all(clip.out > 0 for clip in clips), "clips", [clip.out for clip in clips], "encoders that pool")
        self.encoder = nn.ModuleList([*clips, language]).requires_grad_(False).eval()  # type: ignore[list-item]
        self.lengths, self.context_dim = lengths, context_dim
        self.to_context = nn.Linear(max(sum(clip.dim for clip in clips), language.dim), context_dim)
        pooled = sum(clip.out for clip in clips)
        self.to_vector = nn.Sequential(nn.Linear(pooled, vector_dim), nn.SiLU(), nn.Linear(vector_dim, vector_dim))

    def train(self, mode: bool = True) -> "Joined":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: int, *, tokens: Tensor, words: Tensor, heard: Tensor) -> Given:
        require_tokens(tokens, batch, self.lengths[0])
        require_tokens(words, batch, self.lengths[1], "words")
        *clips, language = self.encoder
        shape = batch, len(self.encoder)
        fits = isinstance(heard, Tensor) and heard.dtype == torch.bool and tuple(heard.shape) == shape
        require(fits, "heard", describe(heard), f"bool, shape {shape}")
        device = self.to_context.weight.device
        with torch.no_grad():
            read = [clip.encode(tokens.to(device)) for clip in clips]  # type: ignore[operator]
            said: Encoded = language.encode(words.to(device))  # type: ignore[operator]
        loud = heard.to(device).float()[:, :, None].unbind(1)  # each (B, 1)
        context = join([r.context * on[..., None] for r, on in zip(read, loud)], said.context * loud[-1][..., None])
        vector = torch.cat([r.vector * on for r, on in zip(read, loud)], 1)  # type: ignore[operator]
        told = torch.cat([_mask(read[0]), _mask(said)], 1)
        return {"context": self.to_context(context), "context_mask": told, "vector": self.to_vector(vector)}


def _mask(said: Encoded) -> Tensor:
    if said.mask is not None:
        return said.mask
    return torch.ones(said.context.shape[:2], dtype=torch.bool, device=said.context.device)
