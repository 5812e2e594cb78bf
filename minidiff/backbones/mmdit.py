"""Text as a stream of its own (MM-DiT): two sets of weights, one softmax; then, in Flux, one set for both."""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Block, Rotate, gelu_tanh, joint, require_context, unturned
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import zeroed
from minidiff.nn.parallel import Parallel
from minidiff.shapes import beside, patch_sides, patchify, sizes_of, unpatchify
from minidiff.validate import require, require_time

Places = Callable[..., Tensor]


class MMDiT(nn.Module):
    """`net(x_t, t, context=…)`: x_t (B, channels, *size), t (B,), context (B, M, context_dim), vector (B, dim).

    double: blocks in which text and picture have weights, norms and MLPs of their own and one softmax over both (arXiv
    2403.03206, figure 2). single: blocks after them, `Parallel`, in which both are one sequence (Flux 1). The sequence
    is text, then picture. Time and vector modulate all norms; modulations and the last map begin at zero, so that
    every block is the identity and the network answers 0.

    ends: the last double block's text is looked at and goes no further (SD3). context_norm: RMSNorm of what the
    encoder says, before the map to dim (Qwen-Image). rotary: in place of learned positions RoPE, these many numbers of
    a head for each axis; x_t may then have any size that the patch divides. places(M, *patches a side): the positions
    of text and picture, in this order (`rope.at_origin`: Flux 1; `rope.centred`: Qwen-Image). hidden: width of the
    MLPs, 4·dim unless given. waves: sinusoids of the time.
    """

    def __init__(
        self, channels: int = 3, size: Sequence[int] = (16, 16), patch: int | Sequence[int] = 4, dim: int = 128,
        double: int = 4, heads: int = 4, *, context_dim: int, single: int = 0, ends: bool = False,
        context_norm: bool = False, concat: int = 0, place_std: float = 0.02, rotary: Sequence[int] | None = None,
        places: Places = rope.at_origin, qk_norm: bool = True, hidden: int | None = None, eps: float = 1e-6,
        waves: int = 64,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.size, self.patch = channels, tuple(size), patch_sides(patch, len(size))
        fits = all(n % p == 0 for n, p in zip(self.size, self.patch))
        require(fits, "patch", self.patch, f"divisors of size = {self.size}")
        require(dim % heads == 0, "heads", heads, f"a divisor of dim = {dim}")
        fits = rotary is None or (len(rotary) == 1 + len(self.size) and sum(rotary) == dim // heads)
        require(fits, "rotary", rotary, f"{1 + len(self.size)} even widths that add up to dim/heads = {dim // heads}")
        require(not (ends and single), "ends", ends, "False where single blocks follow, which need the text")
        self.dim, self.context_dim, self.concat, self.eps = dim, context_dim, concat, eps
        self.rotary, self.places = rotary, places
        inside, n = prod(self.patch), prod(k // p for k, p in zip(self.size, self.patch))
        self.time = TimeEmbedding(dim, waves)
        self.stem = nn.Linear(inside * (channels + concat), dim)
        self.place = None if rotary else nn.Parameter(place_std * torch.randn(n, dim))
        self.context_norm = nn.RMSNorm(context_dim, eps=1e-6) if context_norm else nn.Identity()
        self.join = nn.Linear(context_dim, dim)
        make = lambda ends: Block(
            dim, heads, cond_dim=dim, hidden=hidden, activation=gelu_tanh, qk_norm=qk_norm, eps=eps, ends=ends
        )
        self.double_blocks = nn.ModuleList(
            nn.ModuleDict({"text": make(ends and i == double - 1), "picture": make(False)}) for i in range(double)
        )
        self.single_blocks = nn.ModuleList(
            Parallel(dim, heads, cond_dim=dim, hidden=hidden, eps=eps) for _ in range(single)
        )
        self.last = zeroed(nn.Linear(dim, 2 * dim))
        self.head = zeroed(nn.Linear(dim, inside * channels))

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        size = sizes_of(x_t, self.channels, self.patch, None if self.rotary else self.size)
        require_time(t, batch=len(x_t))
        require_context(context, self.context_dim, context_mask)
        assert context is not None
        cond = add_vector(self.time(t.expand(len(x_t))), vector)  # (B, dim)
        picture = self.stem(patchify(beside(x_t, concat, self.concat), self.patch))  # (B, N, dim)
        picture = picture if self.place is None else picture + self.place
        text = self.join(self.context_norm(context))  # (B, M, dim)
        m, n = text.shape[1], picture.shape[1]
        mask = None if context_mask is None else masks.beside(masks.keys(context_mask), None, m, n)
        rotate = self._rotation(m, size, x_t.device)
        for pair in self.double_blocks:
            assert isinstance(pair, nn.ModuleDict)
            blocks = [pair["text"], pair["picture"]]
            text, picture = joint(blocks, [text, picture], cond, mask, rotate)  # type: ignore[arg-type]
        both = torch.cat([text, picture], 1)
        for block in self.single_blocks:
            both = block(both, cond, mask, rotate)
        return unpatchify(self._read_out(both[:, m:], cond), self.patch, size)

    def _read_out(self, z: Tensor, cond: Tensor) -> Tensor:
        """(B, N, dim) → (B, N, numbers of a patch)."""
        scale, shift = self.last(F.silu(cond))[:, None].chunk(2, dim=-1)
        return self.head(F.layer_norm(z, (self.dim,), eps=self.eps) * (1 + scale) + shift)

    def _rotation(self, text: int, size: tuple[int, ...], device: torch.device) -> Rotate:
        if self.rotary is None:
            return unturned
        places = self.places(text, *(n // p for n, p in zip(size, self.patch)))
        return rope.Rotary(places.to(device), self.rotary)


def sd3_medium() -> MMDiT:
    """SD3 medium (arXiv 2403.03206, depth 24): 24 double blocks, width 64·24, 16 latent channels, patches of 2."""
    return MMDiT(16, (128, 128), 2, 64 * 24, 24, 24, context_dim=4096, ends=True, qk_norm=False, waves=256)


def sd35_large() -> MMDiT:
    """SD 3.5 large: 38 double blocks, width 64·38, queries and keys normed."""
    return MMDiT(16, (128, 128), 2, 64 * 38, 38, 38, context_dim=4096, ends=True, waves=256)


def flux1() -> MMDiT:
    """Flux 1 (schnell: no embedding of a guidance strength): 19 double, then 38 single blocks, width 128·24."""
    return MMDiT(16, (128, 128), 2, 128 * 24, 19, 24, context_dim=4096, single=38, rotary=(16, 56, 56), waves=256)


def qwen_image() -> MMDiT:
    """Qwen-Image (arXiv 2508.02324): 60 double blocks, width 128·24, MSRoPE, no vector."""
    return MMDiT(
        16, (128, 128), 2, 128 * 24, 60, 24, context_dim=3584, context_norm=True, rotary=(16, 56, 56),
        places=rope.centred, waves=256,
    )  # fmt: skip


def width_of(build: Callable[[int], nn.Module], parameters: int) -> int:
    """The width of MLPs at which build(hidden) has as many parameters as another design, to within half a unit.

    The count is a straight line in that width: two networks without numbers (device "meta") tell it.
    """
    with torch.device("meta"):
        one, two = (sum(p.numel() for p in build(hidden).parameters()) for hidden in (1, 2))
    hidden = 1 + round((parameters - one) / (two - one))
    require(hidden >= 1, "parameters", parameters, f"at least {one}, what the design has beside its MLPs")
    return hidden
