"""The toy of temporal fine-tuning (arXiv 2304.08818, figure 2): an MLP of single frames, inflated to clips."""

from collections.abc import Iterator

from torch import Tensor, nn

from minidiff.backbones.mlp import MLP
from minidiff.nn.block import Block
from minidiff.nn.spacetime import AlongTime
from minidiff.validate import describe, require, require_shape


class VideoMLP(nn.Module):
    """`net(x_t, t)`: clips x_t (B, T) of one number per frame, any T; t (B,).

    image: a denoiser of single frames, θ, `MLP(1, …)`, taken as it is. After each of its layers stands a temporal one,
    φ: attention across the frames with RoPE, told t as the image's layers are, and blended with a learned α
    (`nn.spacetime.Blend`). New temporal layers are identities, so that the frames of a clip are at first denoised each
    by itself. alpha: at first; hidden: width of a temporal layer's MLP.

    temporal: False is α = 1, the image model to the bit. None: where there is more than one frame.
    """

    def __init__(self, image: MLP, heads: int = 4, alpha: float = 0.5, hidden: int | None = None):
        super().__init__()
        sizes = image.stem.in_features, image.head.out_features
        require(sizes == (1, 1), "image", f"an MLP of {sizes[0]} numbers → {sizes[1]}", "one of 1 number → 1")
        self.image, width = image, image.width
        self.time = nn.ModuleList(
            AlongTime(Block(width, heads, cond_dim=width, hidden=hidden), alpha) for _ in range(len(image.mix))
        )

    def forward(self, x_t: Tensor, t: Tensor, *, temporal: bool | None = None) -> Tensor:
        require(x_t.ndim == 2, "x_t", describe(x_t), "clips (B, T)")
        require_shape("t", t, (len(x_t),))
        b, frames = x_t.shape
        temporal = frames > 1 if temporal is None else temporal

        def along(layer: nn.Module):
            def mix(h: Tensor, embedding: Tensor) -> Tensor:  # (B·T, width) each
                return layer(h.reshape(b, frames, 1, -1), embedding[::frames]).reshape(h.shape)

            return mix

        between = [along(layer) for layer in self.time] if temporal else ()
        return self.image(x_t.reshape(-1, 1), t.repeat_interleave(frames), between=between).reshape(b, frames)

    def alphas(self) -> list[float]:
        """α of every layer: 1 is the image's layer alone."""
        return [float(layer.blend.alpha.detach()) for layer in self.time]  # type: ignore[union-attr]

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """φ, for `fit(groups=lambda model: model.net.temporal_parameters())`: θ stays what it was."""
        return self.time.parameters()
