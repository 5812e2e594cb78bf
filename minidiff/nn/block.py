"""One attention and one block: every transformer of the course is made of these.

Self-attention, causal and prefix attention are masks (`nn.masks`). Cross-attention is a `context`. One softmax over
streams with weights of their own (MM-DiT, arXiv 2403.03206) is `joint`. Positions that rotate are `nn.rope`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks
from minidiff.nn.init import zeroed
from minidiff.validate import describe, require

Rotate = Callable[[Tensor], Tensor]
Activation = Callable[[Tensor], Tensor]


def unturned(heads: Tensor) -> Tensor:
    """No rotation: positions, if any, were added to the tokens."""
    return heads


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU's tanh approximation (arXiv 1606.08415, section 2), DiT's activation."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702·x), the approximation of GELU (arXiv 1606.08415, section 2) that OpenAI trained CLIP with."""
    return x * torch.sigmoid(1.702 * x)


class Attend(nn.Module):
    """softmax(QKᵀ/√d)V (arXiv 1706.03762, eq. 1), the only call of it and so the one place where maps are hooked.

    q (B, heads, L, d), k and v (B, heads, M, d) → (B, heads, L, d). mask: boolean, (…, L, M) with or without the batch
    in front, True where row i may look at column j; a row needs at least one. No parameters.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            fits = mask.dtype == torch.bool and 2 <= mask.ndim <= 3 and mask.shape[-1] == k.shape[2]
            fits = fits and mask.shape[-2] in (1, q.shape[2]) and mask.shape[:-2] in ((), (1,), (len(q),))
            expected = f"bool, shape (L, M) or (B, L, M) with L = {q.shape[2]} (or 1) and M = {k.shape[2]}"
            require(fits, "mask", describe(mask), expected)
            mask = mask if mask.ndim == 2 else mask[:, None]  # the same for all heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Within the block, every attention of `model` leaves its map: {module's name: [(B, heads, L, M), …]}, one a call.

    Recomputed as softmax(QKᵀ/√d) from the very Q and K that were used; times V it is what the module gave, ≤ 1e-5.
    """
    maps: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
            q, k, _, *rest = inputs
            assert q is not None
            assert k is not None
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if rest and rest[0] is not None:
                scores = scores.masked_fill(~(rest[0] if rest[0].ndim == 2 else rest[0][:, None]), float("-inf"))
            maps.setdefault(name, []).append(scores.softmax(-1).detach())

        return keep

    named = [(name.removesuffix(".attend"), m) for name, m in model.named_modules() if isinstance(m, Attend)]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


class Attention(nn.Module):
    """Multi-head attention (arXiv 1706.03762): tokens x (B, L, dim) look at themselves, or at a (B, M, context_dim).

    inner: width of all heads together, dim unless given. qk_norm: RMSNorm of each query and key (arXiv 2302.05442),
    with eps. bias: of the four maps.
    """

    def __init__(
        self, dim: int, heads: int, context_dim: int | None = None, inner: int | None = None, qk_norm: bool = False,
        bias: bool = True, eps: float = 1e-6,
    ):  # fmt: skip
        super().__init__()
        inner = dim if inner is None else inner
        require(heads >= 1 and inner % heads == 0, "heads", heads, f"a divisor of {inner}")
        self.count, source = heads, dim if context_dim is None else context_dim
        self.q, self.out = nn.Linear(dim, inner, bias), nn.Linear(inner, dim, bias)
        self.k, self.v = nn.Linear(source, inner, bias), nn.Linear(source, inner, bias)
        self.norm_q, self.norm_k = (nn.RMSNorm(inner // heads, eps=eps) if qk_norm else nn.Identity() for _ in "qk")
        self.attend = Attend()

    def split(self, x: Tensor) -> Tensor:
        """(B, L, inner) → (B, heads, L, inner/heads)."""
        return x.unflatten(-1, (self.count, -1)).transpose(1, 2)

    def heads(self, x: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Q of x, and K, V of what it looks at, x itself unless given: each (B, heads, L or M, d)."""
        seen = x if seen is None else seen
        q, k, v = (self.split(y) for y in (self.q(x), self.k(seen), self.v(seen)))
        return self.norm_q(q), self.norm_k(k), v

    def back(self, mixed: Tensor) -> Tensor:
        """(B, heads, L, d) → (B, L, dim)."""
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(
        self, x: Tensor, seen: Tensor | None = None, mask: Tensor | None = None, rotate: Rotate = unturned
    ) -> Tensor:
        q, k, v = self.heads(x, seen)
        return self.back(self.attend(rotate(q), rotate(k), v, mask))


class Past:
    """Keys and values that a block has made so far, (B, heads, M, d) each; `joint` puts those of new tokens behind.

    Under a causal mask nothing that comes later changes them, so that a sequence can be read token by token and each
    token is computed once. One per block and sequence; the mask is then (…, L new tokens, M + L).
    """

    def __init__(self):
        self.kept: tuple[Tensor, Tensor] | None = None

    def followed_by(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values up to here, which are kept."""
        if self.kept is not None:
            k, v = (torch.cat([old, new], 2) for old, new in zip(self.kept, (k, v)))
        self.kept = k, v
        return k, v


class Norm(nn.LayerNorm):
    """LayerNorm before one branch of a block, and the gate after it: (x, cond) → (normed x, gate).

    learned     cond_dim None: its own weight and bias, gate 1
    adaLN-Zero  cond_dim d: scale, shift and gate are a linear map of SiLU(cond), all zero at first (arXiv 2212.09748)
    adaLN       the same with zero False: scale and shift alone, of a map that begins as any other does; gate 1
    shared      shared True: cond *is* scale, shift and gate, made once for all blocks; each adds its own constant
                (adaLN-single, arXiv 2310.00426), or none with own False (Flux 2)

    cond: (B, d), or (B, L, d) where each token has its own; in the shared case 3·dim numbers in place of d.
    """

    def __init__(
        self, dim: int, cond_dim: int | None = None, shared: bool = False, eps: float = 1e-5, zero: bool = True,
        own: bool = True,
    ):  # fmt: skip
        super().__init__(dim, eps=eps, elementwise_affine=cond_dim is None and not shared)
        self.shared = shared
        require(zero or not shared, "zero", zero, "True where the modulation is shared")
        self.modulation = None
        if cond_dim is not None and not shared:
            self.modulation = zeroed(nn.Linear(cond_dim, 3 * dim)) if zero else nn.Linear(cond_dim, 2 * dim)
        self.constant = nn.Parameter(torch.zeros(3 * dim)) if shared and own else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor | float]:  # type: ignore[override]
        normed = super().forward(x)
        if self.modulation is None and not self.shared:
            return normed, 1.0
        require(cond is not None, "cond", "nothing", "a condition: this norm is modulated")
        assert cond is not None
        if self.modulation is not None:
            made = self.modulation(F.silu(cond))
        else:
            made = cond if self.constant is None else cond + self.constant
        scale, shift, *gate = (made if made.ndim == 3 else made[:, None]).split(normed.shape[-1], dim=-1)
        return normed * (1 + scale) + shift, gate[0] if gate else 1.0


def require_context(context: Tensor | None, context_dim: int | None, context_mask: Tensor | None = None) -> None:
    """A context (B, M, context_dim) must come where one is looked at, and nowhere else; with it a mask (B, M) bool."""
    expected = "nothing" if context_dim is None else f"a tensor of shape (B, M, {context_dim})"
    fits = (context is None) == (context_dim is None)
    fits = fits and (context is None or (context.ndim == 3 and context.shape[-1] == context_dim))
    require(fits, "context", describe(context), expected)
    if context_mask is not None:
        fits = context is not None and context_mask.dtype == torch.bool and context_mask.shape == context.shape[:2]
        expected = "nothing" if context is None else f"bool, shape {tuple(context.shape[:2])}"
        require(fits, "context_mask", describe(context_mask), expected)


class Block(nn.Module):
    """x + g·attention(norm x), [+ cross-attention(norm x, context)], + g·MLP(norm x): (B, L, dim) → (B, L, dim).

    Pre-norm (arXiv 2002.04745). cond_dim, shared, zero, own: how a condition modulates the norms (`Norm`). context_dim:
    width of a context (B, M, context_dim) that every token looks at: by an attention of its own after the first, or,
    where `merged`, with its keys and values in the same softmax as the tokens' own. hidden: width of the MLP, 4·dim
    unless given; gated: it is up₁(x)·activation(up₂(x)), with two maps of that width (arXiv 2002.05202). Masks:
    `Attend`. rotate: turns queries and keys by their positions (`nn.rope`). ends: its tokens are looked at by the other
    streams of `joint` and go no further, as SD3's text in the last block: no map back, no MLP, no gate. bias: of maps.
    """

    def __init__(
        self, dim: int, heads: int, *, cond_dim: int | None = None, shared: bool = False,
        context_dim: int | None = None, merged: bool = False, hidden: int | None = None,
        gated: bool = False, activation: Activation = F.gelu, qk_norm: bool = False, eps: float = 1e-5,
        zero: bool = True, ends: bool = False, own: bool = True, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        require(not ends or context_dim is None, "ends", ends, "False with a context_dim")
        require(not merged or context_dim is not None, "merged", merged, "False without a context_dim")
        hidden = 4 * dim if hidden is None else hidden
        self.shared, self.context_dim, self.merged = shared, context_dim, merged
        self.activation, self.gated, self.ends = activation, gated, ends
        self.norm1 = Norm(dim, cond_dim, shared, eps, zero, own)
        self.attention = Attention(dim, heads, qk_norm=qk_norm, bias=bias)
        if merged:
            self.context_k, self.context_v = (nn.Linear(context_dim, dim) for _ in "kv")  # type: ignore[arg-type]
        elif context_dim is not None:
            self.norm_cross, self.cross = nn.LayerNorm(dim, eps), Attention(dim, heads, context_dim, qk_norm=qk_norm)
        if ends:
            self.attention.out = nn.Identity()  # type: ignore[assignment]
            if self.norm1.modulation is not None and zero:
                self.norm1.modulation = zeroed(nn.Linear(self.norm1.modulation.in_features, 2 * dim))
            return
        self.norm2 = Norm(dim, cond_dim, shared, eps, zero, own)
        self.up, self.down = nn.Linear(dim, hidden * (1 + gated), bias), nn.Linear(hidden, dim, bias)

    def forward(
        self, x: Tensor, cond: Tensor | None = None, context: Tensor | None = None, mask: Tensor | None = None,
        context_mask: Tensor | None = None, rotate: Rotate = unturned, past: Past | None = None,
    ) -> Tensor:  # fmt: skip
        (x,) = joint([self], [x], cond, mask, rotate, [context], [context_mask], past)
        return x

    def halves(self, cond: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What each of the two norms is given."""
        if not self.shared or cond is None:
            return cond, cond
        first, second = cond.chunk(2, dim=-1)
        return first, second

    def merge(self, k: Tensor, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """K and V of the tokens, followed by those of the context."""
        also = self.attention.norm_k(self.attention.split(self.context_k(context)))
        return torch.cat([k, also], 2), torch.cat([v, self.attention.split(self.context_v(context))], 2)

    def after(
        self, x: Tensor, mixed: Tensor, gate: Tensor | float, cond: Tensor | None, context: Tensor | None,
        context_mask: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """The rest of the block, once the (joint) attention has mixed: (B, heads, L, d) → (B, L, dim)."""
        if self.ends:
            return x
        x = x + gate * self.attention.back(mixed)
        if self.context_dim is not None and not self.merged:
            x = x + self.cross(self.norm_cross(x), context, context_mask)
        h, gate = self.norm2(x, self.halves(cond)[1])
        *value, h = self.up(h).chunk(1 + self.gated, -1)
        h = self.activation(h)
        return x + gate * self.down(value[0] * h if self.gated else h)


def joint(
    blocks: Sequence[Block], streams: Sequence[Tensor], cond: Tensor | Sequence[Tensor] | None = None,
    mask: Tensor | None = None, rotate: Rotate = unturned, contexts: Sequence[Tensor | None] | None = None,
    context_masks: Sequence[Tensor | None] | None = None, past: Past | None = None,
) -> list[Tensor]:  # fmt: skip
    """One softmax over the tokens of all streams (B, Lᵢ, dim), each with its own weights: one is DiT, two are MM-DiT.

    All blocks have the same number of heads and the same width of each; mask and rotate are for the streams in a row.
    past: tokens of the same sequence that came before these, to which these are added. cond: for all, or one a stream.
    """
    conds = [cond] * len(blocks) if cond is None or isinstance(cond, Tensor) else list(cond)
    contexts, context_masks = ([None] * len(blocks) if given is None else given for given in (contexts, context_masks))
    for block, context in zip(blocks, contexts):
        require_context(context, block.context_dim)
    normed = [block.norm1(x, block.halves(c)[0]) for block, x, c in zip(blocks, streams, conds)]
    q, k, v = (torch.cat(part, 2) for part in zip(*(block.attention.heads(h) for block, (h, _) in zip(blocks, normed))))
    q, k = rotate(q), rotate(k)
    if past is not None:
        k, v = past.followed_by(k, v)
    for block, context, seen in zip(blocks, contexts, context_masks):
        if block.merged and context is not None:
            mask = masks.beside(mask, seen, k.shape[2], context.shape[1])
            k, v = block.merge(k, v, context)
    mixed = blocks[0].attention.attend(q, k, v, mask).split([x.shape[1] for x in streams], 2)
    return [
        block.after(x, m, gate, c, context, seen)
        for block, x, m, (_, gate), c, context, seen in zip(
            blocks, streams, mixed, normed, conds, contexts, context_masks
        )
    ]
