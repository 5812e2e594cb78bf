"""What stands beside a network: it turns labels, words and frozen encoders into the four things a backbone takes.

    vector        (B, D)         added to the time embedding
    context       (B, L, D)      tokens to look at
    context_mask  (B, L) bool    True for real tokens, False for padding
    concat        (B, C, H, W)   more channels of the input

A conditioning is a module `conditioning(batch, **cond) -> dict` with some of these. Its keyword-only arguments are the
names of the conditions, so that a misspelt one is a `TypeError`; the null condition is another dict of the same names.
A backbone knows none of this: exchanging the conditioning exchanges what a generator listens to.
"""

import inspect
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.block import Block
from minidiff.nn.embeddings import TimeEmbedding, waves
from minidiff.shapes import differentiable
from minidiff.validate import describe, indexing, integer, require, require_labels

Given = dict[str, Tensor]


class Encoded(NamedTuple):
    """What a text encoder says of a caption: pooled (B, out) or None, tokens (B, L, dim), mask (B, L) bool or None."""

    vector: Tensor | None
    context: Tensor
    mask: Tensor | None


class TextEncoder(Protocol):
    """Anything that reads tokens (B, L) int64. dim: width of its token vectors; out: of the pooled one, 0 for none."""

    dim: int
    out: int

    def encode(self, tokens: Tensor) -> Encoded: ...


class Conditioned(nn.Module):
    """`net(x_t, t, **cond)` for `Denoiser`: a backbone, and a conditioning beside it that reads `cond`."""

    def __init__(self, conditioning: nn.Module, backbone: nn.Module):
        super().__init__()
        self.conditioning, self.backbone = conditioning, backbone

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.backbone(x_t, t, **self.conditioning(len(x_t), **cond))


class Labels(nn.Embedding):
    """Labels 0 … n_classes − 1, and n_classes for "no label": y, a scalar or (B,) int64 → vector (B, dim).

    `ValueError` for a label outside, if y is on the CPU; a GPU's embedding stops the program by itself.
    """

    def __init__(self, n_classes: int, dim: int):
        n_classes = integer("n_classes", n_classes)
        super().__init__(n_classes + 1, dim)
        self.n_classes = n_classes

    def forward(self, batch: int, *, y: Tensor) -> Given:  # type: ignore[override]
        n, device = self.n_classes, self.weight.device
        expected = f"labels 0 … {n - 1} of {n} classes, or {n} for no label"
        require_labels("y", y, batch, expected)
        with indexing("y", y, n, expected, device):
            return {"vector": super().forward(differentiable(y).to(device)).expand(batch, -1)}


def require_tokens(tokens: object, batch: int, length: int, name: str = "tokens") -> None:
    """`tokens` must be int64 of shape (batch, at most `length`)."""
    fits = isinstance(tokens, Tensor) and tokens.dtype == torch.int64 and tokens.ndim == 2
    fits = fits and tokens.shape[0] == batch and tokens.shape[1] <= length  # type: ignore[union-attr]
    require(fits, name, describe(tokens), f"int64 tokens (B, L), B = {batch} and L ≤ {length}")


class Words(nn.Module):
    """Captions as tokens (B, L ≤ length) int64 → context (B, L, dim), learned together with the generator.

    Word vectors plus positions, `depth` blocks over them, and with depth > 0 a last norm. place_std: of the initial
    positions. Word vectors have 1: where their order matters, positions of 0.3 are found sooner than of 0.02. Padding
    is a word like others, and is looked at.
    """

    def __init__(self, vocabulary: int, length: int, dim: int, depth: int = 1, heads: int = 4, place_std: float = 0.3):
        super().__init__()
        self.length, self.words = length, nn.Embedding(vocabulary, dim)
        self.place = nn.Parameter(place_std * torch.randn(length, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, activation=nn.functional.silu) for _ in range(depth))
        self.norm = nn.LayerNorm(dim) if depth else nn.Identity()

    def forward(self, batch: int, *, tokens: Tensor) -> Given:
        require_tokens(tokens, batch, self.length)
        n, device = self.words.num_embeddings, self.place.device
        with indexing("tokens", tokens, n - 1, f"ids 0 … {n - 1} of a vocabulary of {n}", device):
            x = self.words(differentiable(tokens).to(device)) + self.place[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return {"context": self.norm(x)}


class Frozen(nn.Module):
    """A text encoder that is not trained: tokens (B, L) → context (B, L, context_dim), vector (B, vector_dim), mask.

    Only the two linear maps to the backbone's widths learn. context_dim or vector_dim None leaves that part out. The
    encoder stays in evaluation mode, and its weights, part of the state dict, never move.
    """

    def __init__(
        self, encoder: TextEncoder, length: int, context_dim: int | None = None, vector_dim: int | None = None
    ):
        super().__init__()
        require(context_dim is not None or vector_dim is not None, "context_dim, vector_dim", "neither", "at least one")
        require(vector_dim is None or encoder.out > 0, "vector_dim", vector_dim, "None: this encoder pools nothing")
        assert isinstance(encoder, nn.Module)
        self.encoder, self.length = encoder.requires_grad_(False).eval(), length
        self.to_context = None if context_dim is None else nn.Linear(encoder.dim, context_dim)
        self.to_vector = None if vector_dim is None else nn.Linear(encoder.out, vector_dim)

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: int, *, tokens: Tensor) -> Given:
        return self.told(batch, tokens)

    def told(self, batch: int, tokens: Tensor, *more: Tensor) -> Given:
        """What the encoder says of tokens, and of what else it reads, mapped to the backbone's widths."""
        require_tokens(tokens, batch, self.length)
        device = next(self.encoder.parameters()).device
        with torch.no_grad():
            vector, context, mask = self.encoder.encode(tokens.to(device), *(each.to(device) for each in more))
        given: Given = {}
        if self.to_vector is not None and vector is not None:
            given["vector"] = self.to_vector(vector)
        if self.to_context is not None:
            given["context"] = self.to_context(context)
            if mask is not None:
                given["context_mask"] = mask
        return given


class FromEmbedding(nn.Module):
    """One embedding of a whole picture: embedding (B, dim) → vector (B, vector_dim), context (B, tokens, context_dim).

    Two linear maps: one is added to the time embedding, the other is looked at as `tokens` more words (unCLIP, arXiv
    2204.06125, section 2.1). "No condition" is the zero vector, as there. `ValueError` for an embedding of another
    shape.
    """

    def __init__(self, dim: int, vector_dim: int, context_dim: int, tokens: int = 4):
        super().__init__()
        self.dim, self.tokens = integer("dim", dim), integer("tokens", tokens)
        self.to_vector, self.to_context = nn.Linear(dim, vector_dim), nn.Linear(dim, tokens * context_dim)

    def forward(self, batch: int, *, embedding: Tensor) -> Given:
        fits = isinstance(embedding, Tensor) and embedding.shape == (batch, self.dim)
        fits = fits and embedding.dtype.is_floating_point
        require(fits, "embedding", describe(embedding), f"floating-point of shape ({batch}, {self.dim})")
        embedding = embedding.to(self.to_vector.weight)
        context = self.to_context(embedding).unflatten(1, (self.tokens, -1))
        return {"vector": self.to_vector(embedding), "context": context}


class Channels(nn.Module):
    """Several text encoders of the same words, for `Frozen`: their token vectors stand side by side in channels.

    Token i of every encoder must be the same word, or its channels would speak of different ones: ids[k], int64, says
    which id of encoder k each id of the tokens stands for (None: the same). Tokens (B, L) → context (B, L, Σ dim), the
    pooled vector of the last encoder, and where every encoder sees a token (SDXL, arXiv 2307.01952, section 2.1:
    768 + 1280 channels).
    """

    def __init__(self, encoders: Sequence[TextEncoder], ids: Sequence[Tensor | None]):
        super().__init__()
        require(len(ids) == len(encoders) > 0, "ids", f"{len(ids)} of them", f"one per encoder ({len(encoders)})")
        self.encoders = nn.ModuleList(encoders)  # type: ignore[arg-type]
        self.dim, self.out = sum(encoder.dim for encoder in encoders), encoders[-1].out
        for k, table in enumerate(ids):
            self.register_buffer(f"ids{k}", table, persistent=False)

    def encode(self, tokens: Tensor) -> Encoded:
        tables = [getattr(self, f"ids{k}") for k in range(len(self.encoders))]
        read = [e.encode(tokens if ids is None else ids[tokens]) for e, ids in zip(self.encoders, tables)]  # type: ignore
        masks = [each.mask for each in read if each.mask is not None]
        mask = torch.stack(masks).all(0) if masks else None
        return Encoded(read[-1].vector, torch.cat([each.context for each in read], 2), mask)


class Sized(nn.Module):
    """Numbers that tell what was done to a picture, joined with what another conditioning says.

    sizes (B, numbers): each becomes `features` waves, side by side; beside them stands the vector (B, width) of
    `inner`, and an MLP makes the backbone's vector (B, dim) of both. What else `inner` gives is handed on. SDXL's
    micro-conditioning (arXiv 2307.01952, section 2.2): 6 numbers with 256 waves each and a pooled text of 1280.
    """

    def __init__(self, inner: nn.Module, width: int, numbers: int, dim: int, features: int = 32):
        super().__init__()
        self.inner, self.numbers, self.features = inner, integer("numbers", numbers), features
        self.mlp = nn.Sequential(nn.Linear(width + numbers * features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, batch: int, *, sizes: Tensor, **cond: Tensor) -> Given:
        fits = isinstance(sizes, Tensor) and sizes.dtype.is_floating_point and sizes.shape == (batch, self.numbers)
        require(fits, "sizes", describe(sizes), f"floating-point numbers of shape ({batch}, {self.numbers})")
        given = self.inner(batch, **cond)
        told = waves(sizes.to(given["vector"]), self.features).flatten(1)  # (B, numbers·features)
        return given | {"vector": self.mlp(torch.cat([given["vector"], told], 1))}


class Picture(nn.Module):
    """A picture (B, C, H, W) that stands beside x_t: concat. For cascades, inpainting, edits."""

    def forward(self, batch: int, *, picture: Tensor) -> Given:
        fits = isinstance(picture, Tensor) and picture.ndim >= 3 and len(picture) == batch
        require(fits, "picture", describe(picture), f"a tensor of shape ({batch}, C, …)")
        return {"concat": picture}


class LowResolution(nn.Module):
    """What is to be enlarged, and how noisy it is: low (B, C, h, w), level (B,) → concat (B, C, side, side), vector.

    low is enlarged bilinearly; level, in [0, 1], becomes a vector (B, dim), so that the network knows how far to trust
    it (noise conditioning augmentation, arXiv 2106.15282, section 4).
    """

    def __init__(self, side: int, dim: int):
        super().__init__()
        self.side, self.level = integer("side", side), TimeEmbedding(dim)

    def forward(self, batch: int, *, low: Tensor, level: Tensor) -> Given:
        fits = isinstance(low, Tensor) and low.ndim == 4 and len(low) == batch
        require(fits, "low", describe(low), f"a tensor of shape ({batch}, C, h, w)")
        fits = isinstance(level, Tensor) and level.shape in ((), (batch,)) and level.dtype.is_floating_point
        require(fits, "level", describe(level), f"noise levels of shape ({batch},)")
        large = F.interpolate(low, size=(self.side, self.side), mode="bilinear", align_corners=False)
        return {"concat": large, "vector": self.level(level.expand(batch).to(low))}


class Together(nn.Module):
    """Several conditionings at once: each is given the conditions that it has an argument for.

    Vectors add up; contexts, their masks, and channels of concat stand one after the other. A condition that nobody
    has an argument for is a `TypeError`, as everywhere.
    """

    def __init__(self, *parts: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        kinds = [inspect.signature(part.forward).parameters.values() for part in parts]
        self.names = [{p.name for p in ps if p.kind is inspect.Parameter.KEYWORD_ONLY} for ps in kinds]

    def forward(self, batch: int, **cond: Tensor) -> Given:
        unknown = sorted(cond.keys() - set().union(*self.names))
        if unknown:
            raise TypeError(f"unknown condition {unknown[0]!r}, expected some of {sorted(set().union(*self.names))}")
        given = [p(batch, **{k: cond[k] for k in names & cond.keys()}) for p, names in zip(self.parts, self.names)]
        vectors = [g["vector"] for g in given if "vector" in g]
        contexts = [g for g in given if "context" in g]
        pictures = [g["concat"] for g in given if "concat" in g]
        joined: Given = {"vector": torch.stack(vectors).sum(0)} if vectors else {}
        if contexts:
            joined["context"] = torch.cat([g["context"] for g in contexts], 1)
        if any("context_mask" in g for g in contexts):
            joined["context_mask"] = torch.cat([g.get("context_mask", _all(g["context"])) for g in contexts], 1)
        return joined | ({"concat": torch.cat(pictures, 1)} if pictures else {})


def _all(context: Tensor) -> Tensor:
    return torch.ones(context.shape[:2], dtype=torch.bool, device=context.device)
