"""What a reconstruction costs: pixels, edges, features of a network, an adversary; and how the last two are weighed."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn.init import groups
from minidiff.validate import describe, integer, require, require_floating, require_like


def pixel_loss(y: Tensor, x: Tensor, l1: float = 1.0, mse: float = 1.0, edges: float = 0.5) -> Tensor:
    """l1·mean |y − x| + mse·mean (y − x)² + edges·(the same |·| of the steps to the next pixel, across and down): (B,).

    y: reconstructions of x (B, C, H, W), H, W ≥ 2. An edge that is blurred costs little in the mean over all pixels,
    but much in the mean of the steps, which are zero nearly everywhere.
    """
    _require_pair(y, x)
    error = y - x
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    mean = lambda e: e.flatten(1).mean(1)
    return l1 * mean(error.abs()) + mse * mean(error.square()) + edges * (mean(across.abs()) + mean(down.abs()))


def psnr(y: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of y against x (B, C, H, W) in [−1, 1]: −10·log₁₀ mean ((y − x)/2)², (B,).

    +∞ for equal pictures; 20 dB is an error of a tenth of the range.
    """
    _require_pair(y, x)
    return -10 * torch.log10(((y - x) / 2).square().flatten(1).mean(1))


Features = Callable[[Tensor], Sequence[Tensor]]
"""A frozen network that was trained for something else: pictures (B, C, H, W) → several maps (B, C_l, H_l, W_l)."""


def perceptual(features: Features) -> Callable[[Tensor, Tensor], Tensor]:
    """The distance (y, x) → (B,) of pictures as `features` sees them.

    Every map is scaled to length 1 along its channels; the squared differences are summed over channels, averaged over
    places, summed over maps. That is LPIPS (arXiv 1801.03924, eq. 1) with all its learned weights 1, and as that lies
    in 0 … 4 per map. Gradients reach y alone; the network's own parameters are the caller's to freeze.
    """
    require(callable(features), "features", type(features).__name__, "a callable: pictures → feature maps")
    # 1e-8 under the root, for places where a ReLU left nothing: 0·∞ is no number
    unit = lambda maps: [m * (m.square().sum(1, keepdim=True) + 1e-8).rsqrt() for m in maps]

    def distance(y: Tensor, x: Tensor) -> Tensor:
        _require_pair(y, x)
        with torch.no_grad():
            wanted = unit(_maps(features(x), len(x)))
        gaps = [(a - b).square().sum(1).flatten(1).mean(1) for a, b in zip(unit(features(y)), wanted)]
        return torch.stack(gaps).sum(0)

    return distance


def _maps(maps: Sequence[Tensor], batch: int) -> Sequence[Tensor]:
    fits = isinstance(maps, Sequence) and len(maps) > 0
    fits = fits and all(isinstance(m, Tensor) and m.ndim >= 3 and len(m) == batch for m in maps)
    got = [describe(m) for m in maps] if isinstance(maps, Sequence) else describe(maps)
    require(fits, "features", got, f"a list of maps ({batch}, C, …)")
    return maps


class PatchGAN(nn.Module):
    """Pictures (B, colours, H, W) → one score per patch, (B, 1, h, w), large for real ones (arXiv 1611.07004, 3.2.2).

    layers: convolutions of stride 2, each with twice the channels of the one before, from `width` to at most 8·width;
    then two of stride 1. With 4×4 kernels a score sees 16, 34, 70 pixels a side for 1, 2, 3 layers (the norms aside);
    H and W must be at least 3·2^layers. GroupNorm in place of the paper's BatchNorm: a picture's scores do not depend
    on its batch.

    `loss(model, x0)` is the adversary's for `training.alternate`; model has `reconstruct(x)`.
    """

    def __init__(self, colours: int = 3, width: int = 32, layers: int = 2):
        super().__init__()
        self.colours, self.least = colours, 3 * 2 ** integer("layers", layers)
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        net: list[nn.Module] = [nn.Conv2d(colours, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (narrow, wide) in enumerate(pairwise(widths)):
            stride = 2 if i < layers - 1 else 1
            net += [nn.Conv2d(narrow, wide, 4, stride, padding=1), nn.GroupNorm(groups(wide), wide), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*net, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        require_floating("x", x)
        fits = x.ndim == 4 and x.shape[1] == self.colours and min(x.shape[2:]) >= self.least
        require(fits, "x", describe(x), f"shape (B, {self.colours}, H, W) with H, W ≥ {self.least}")
        return self.net(x)

    def loss(self, model: nn.Module, x0: Tensor) -> Tensor:
        with torch.no_grad():
            fake = model.reconstruct(x0)  # type: ignore[operator]
        return hinge(self(x0), self(fake))


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss ½ (mean max(0, 1 − real) + mean max(0, 1 + fake)) of scores (B, …): (B,).

    The generator's is −mean fake. arXiv 1705.02894; halved as in VQGAN's code (2012.09841).
    """
    require_like("fake", fake, real, "real")
    return 0.5 * (F.relu(1 - real) + F.relu(1 + fake)).reshape(len(real), -1).mean(1)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """λ = ‖∇L_rec‖/(‖∇L_gan‖ + 1e-4) at the decoder's last layer, at most 1e4: VQGAN, arXiv 2012.09841, eq. 7.

    1e-4 and 1e4 are those of its code. The two losses are scalars, `last` is `Body.last`. With L_rec + λ·L_gan both
    pull equally hard at that layer. λ is a constant: no gradient flows through it.
    """
    for name, loss in (("reconstruction", reconstruction), ("adversarial", adversarial)):
        require(loss.ndim == 0 and loss.requires_grad, name, describe(loss), "a scalar loss that depends on `last`")
    size = lambda loss: torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
    return (size(reconstruction) / (size(adversarial) + 1e-4)).clamp(0, 1e4)


def _require_pair(y: Tensor, x: Tensor) -> None:
    require_floating("x", x, min_dim=2)
    require_like("y", y, x, "x")
