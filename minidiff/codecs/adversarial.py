"""The first stage's whole loss (arXiv 2112.10752, section 3.1; VQGAN, 2012.09841): a codec against an adversary."""

from collections.abc import Callable

from torch import Tensor, nn

from minidiff.codecs.losses import adaptive_weight
from minidiff.codecs.vae import VAE
from minidiff.codecs.vqvae import VQVAE
from minidiff.validate import not_negative


class Adversarial(nn.Module):
    """codec.loss + features·distance(ŷ, x) + λ·weight·(−mean score of ŷ), ŷ the reconstruction: (B,).

    distance: such as `losses.perceptual`, or None. λ: `losses.adaptive_weight`, so that with weight 1 both pull equally
    hard at the decoder's last layer. For `training.alternate` with a `losses.PatchGAN`; while no adversary plays, and
    in `training.fit`, the third term is missing. Pictures are what `codec` takes.
    """

    def __init__(
        self, codec: VAE | VQVAE, distance: Callable[[Tensor, Tensor], Tensor] | None = None, features: float = 1.0,
        weight: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        self.codec, self.distance = codec, distance
        self.features, self.weight = not_negative("features", features), not_negative("weight", weight)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.codec.reconstruct(x)

    def loss(self, adversary: nn.Module | None = None, *, x0: Tensor) -> Tensor:
        loss, y = self.codec.loss(x0), None
        if self.distance is not None and self.features > 0:
            y = self.codec(x0)[0]
            loss = loss + self.features * self.distance(y, x0)
        if adversary is None or self.weight == 0:
            return loss
        y = self.codec(x0)[0] if y is None else y
        fooled = -adversary(y).flatten(1).mean(1)
        return loss + self.weight * adaptive_weight(loss.mean(), fooled.mean(), self.codec.body.last) * fooled
