"""Clips and pictures of mixed sizes in one sequence, as Sora's report tells it: patches of space and time, in a row."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minidiff.backbones.dit import AS_CONTEXT, DiT
from minidiff.nn import masks, rope
from minidiff.nn.block import require_context
from minidiff.nn.embeddings import add_vector
from minidiff.shapes import unpatchify
from minidiff.validate import describe, require, require_shape, require_time


class Packed(nn.Module):
    """`net(parts, t)`: n clips (channels, T, H, W) of any sizes, T = 1 for pictures; t (n,) → n tensors like the parts.

    net: a `DiT` of clips with RoPE, so that no size is its own. The patches of all parts stand in one row (1, L, dim),
    without padding; a mask keeps each part to itself, positions begin anew with each, and time and vector (n, dim) are
    its own (arXiv 2307.06304, "patch n' pack"; spacetime patches of "native" size: OpenAI's report on Sora, 2024).
    context (n, M, context_dim), context_mask (n, M): the texts, one a part. A part comes out as if it were alone, but
    for rounding.

    A softmax goes over all L tokens; what it saves is padding, not products that the mask closes.
    """

    def __init__(self, net: DiT):
        super().__init__()
        fits = net.rotary is not None and net.conditioning not in AS_CONTEXT
        fits = fits and (net.context_dim is None or net.reads != "tokens")
        got = f"rotary={net.rotary}, conditioning={net.conditioning!r}, reads={net.reads!r}"
        require(fits, "net", got, 'a DiT with rotary, adaLN or adaLN-Zero, and a context not read as "tokens"')
        self.net = net

    def forward(
        self, parts: Sequence[Tensor], t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> list[Tensor]:  # fmt: skip
        net, n = self.net, len(parts)
        require(n > 0, "parts", "none", "at least one clip or picture")
        for part in parts:
            fits = part.ndim == 1 + len(net.size)
            require(fits, "parts", describe(part), f"tensors ({net.channels}, sides), with {len(net.size)} sides")
        require_shape("t", t, (n,))
        require_time(t)
        require_context(context, net.context_dim, context_mask)
        require(context is None or len(context) == n, "context", describe(context), f"one row for each of {n} parts")
        into = [net.embed(part[None], t[i : i + 1]) for i, part in enumerate(parts)]
        lengths = torch.tensor([z.shape[1] for z, _, _ in into], device=t.device)
        owner = torch.arange(n, device=t.device).repeat_interleave(lengths)  # (L,)
        z = torch.cat([z for z, _, _ in into], 1)  # (1, L, dim)
        cond = add_vector(torch.cat([times for _, times, _ in into]), vector)[owner][None]  # (1, L, dim)
        places = torch.cat([rope.grid(*(k // p for k, p in zip(size, net.patch))) for _, _, size in into])
        rotate = rope.Rotary(places.to(z.device), net.rotary)  # type: ignore[arg-type]
        texts, seen = self._texts(context, context_mask, owner)
        given, own = net.modulation(cond), masks.packed(owner)
        for block in net.blocks:
            z = block(z, given, texts, own, seen, rotate)
        out = net.read_out(z, cond).split(lengths.tolist(), 1)
        return [unpatchify(tokens, net.patch, size)[0] for tokens, (_, _, size) in zip(out, into)]

    @staticmethod
    def _texts(
        context: Tensor | None, context_mask: Tensor | None, owner: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """All texts in a row, (1, n·M, context_dim), and which of it each token looks at: (1, L, n·M), its own's."""
        if context is None:
            return None, None
        n, m = context.shape[:2]
        whose = torch.arange(n, device=owner.device).repeat_interleave(m)
        seen = owner[:, None] == whose
        seen = seen if context_mask is None else seen & context_mask.flatten()
        return context.reshape(1, n * m, -1), seen[None]
