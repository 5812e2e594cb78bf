"""A transformer of clips, inflated from one of pictures: its blocks frame by frame, temporal blocks between them."""

from collections.abc import Iterator
from itertools import chain

from torch import Tensor, nn

from minidiff.backbones.dit import AS_CONTEXT, DiT
from minidiff.nn.block import Block, require_context
from minidiff.nn.embeddings import add_vector
from minidiff.nn.spacetime import AlongTime, clips_of, frames_of, separable
from minidiff.shapes import unpatchify
from minidiff.validate import describe, require, require_time


class VideoDiT(nn.Module):
    """`net(x_t, t)`, and what stands beside it: clips x_t (B, channels, T, H, W), any T, H and W as `image` takes them.

    image: a `DiT` of pictures, θ, whose weights are taken as they are. After each of its blocks stands a temporal one,
    φ: a `Block` along time, told t and vector by adaLN-Zero and the frames' order by RoPE (attention in space, then in
    time: arXiv 2210.02303, 2401.03048; fine-tuning of φ alone: 2304.08818). New temporal blocks are
    identities. A clip of one frame is a picture, and passes none: there the network is `image`, to the bit, before and
    after φ has learned. Another `image` with the same architecture may take the place of θ: `net.image = other`.

    t (B,), or a map (B, 1, T or 1, …) as in `DiT`: one time per frame, or per token. vector (B, dim), context (B, M,
    context_dim) and context_mask (B, M) are the clip's, told to every frame; concat (B, concat, T, H, W).

    alpha: of a learned `Blend` at every temporal block, at first; None for none. pictures (B,) bool, with an alpha:
    rows that are sets of pictures without an order; they pass by the temporal blocks.
    sparse: tokens of frame i look at frames 1 and i − 1 (Tune-A-Video, arXiv 2212.11565), see `nn.spacetime.separable`.
    temporal: False leaves out all that mixes frames. None: where there is more than one frame.
    """

    def __init__(
        self, image: DiT, *, alpha: float | None = None, sparse: bool = False, heads: int | None = None,
        hidden: int | None = None,
    ):  # fmt: skip
        super().__init__()
        fits = len(image.size) == 2 and image.conditioning not in AS_CONTEXT
        fits = fits and (image.context_dim is None or image.reads != "tokens")
        got = f"one of {len(image.size)} axes, conditioning={image.conditioning!r}, reads={image.reads!r}"
        require(fits, "image", got, 'a DiT of pictures with adaLN or adaLN-Zero, and a context not read as "tokens"')
        self.image, self.sparse = image, sparse
        heads = image.blocks[0].attention.count if heads is None else heads  # type: ignore[union-attr]
        make = lambda: AlongTime(Block(image.dim, heads, cond_dim=image.dim, hidden=hidden), alpha)  # type: ignore[arg-type]
        self.time = nn.ModuleList(make() for _ in image.blocks)

    def forward(
        self, x_t: Tensor, t: Tensor, *, vector: Tensor | None = None, context: Tensor | None = None,
        context_mask: Tensor | None = None, concat: Tensor | None = None, temporal: bool | None = None,
        pictures: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        net, fits = self.image, x_t.ndim == 5 and x_t.shape[1] == self.image.channels
        require(fits, "x_t", describe(x_t), f"clips (B, {net.channels}, T, H, W)")
        require_time(t, batch=len(x_t), map_of=x_t)
        require_context(context, net.context_dim, context_mask)
        b, frames = len(x_t), x_t.shape[2]
        temporal = frames > 1 if temporal is None else temporal
        require(concat is None or concat.ndim == 5, "concat", describe(concat), "clips (B, C, T, H, W)")
        beside = None if concat is None else frames_of(concat)
        z, times, size = net.embed(frames_of(x_t), self._times(t, b, frames), beside)
        told = add_vector(times, None if vector is None else vector.repeat_interleave(frames, 0))  # (B·T, [N,] dim)
        cond = told.unflatten(0, (b, frames))
        cond = cond[:, 0] if t.ndim < 2 else cond if cond.ndim == 4 else cond[:, :, None]
        given, rotate = net.modulation(cond), net.rotation(size, z.shape[1], z.device)
        z = z.unflatten(0, (b, frames))  # (B, T, N, dim)
        for block, time in zip(net.blocks, self.time):
            z = separable(
                block, time, z, given, context, context_mask, rotate, time_cond=cond, temporal=temporal,  # type: ignore
                sparse=self.sparse, pictures=pictures,
            )  # fmt: skip
        return clips_of(unpatchify(net.read_out(z.flatten(0, 1), told), net.patch, size), b)

    @staticmethod
    def _times(t: Tensor, batch: int, frames: int) -> Tensor:
        """Times of all frames: (B·T,), or a map (B·T, 1, H, W) where they differ within a frame."""
        if t.ndim < 2:
            return t.expand(batch).repeat_interleave(frames)
        maps = frames_of(t.expand(-1, -1, frames, -1, -1))
        return maps.reshape(-1) if maps.shape[1:] == (1, 1, 1) else maps

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """φ, for `fit(groups=lambda model: model.net.temporal_parameters())`: θ stays what it was."""
        return self.time.parameters()

    def tuned_parameters(self) -> Iterator[nn.Parameter]:
        """What Tune-A-Video trains (arXiv 2212.11565): φ, and W^Q of self- and cross-attention."""
        asks = [m.q for name, m in self.image.named_modules() if name.endswith((".attention", ".cross"))]
        return chain(self.time.parameters(), *(layer.parameters() for layer in asks))  # type: ignore[union-attr]
