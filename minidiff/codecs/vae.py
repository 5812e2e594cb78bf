"""The autoencoder of latent diffusion (arXiv 2112.10752, section 3.1; 1312.6114): 64×64×3 pixels ↔ 16×16×4 latents.

A codec is a `Body`, an encoder and a decoder, with a bottleneck between them: here a Gaussian, in `vqvae` a codebook.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minidiff.codecs.losses import pixel_loss
from minidiff.nn.conv import Residual
from minidiff.randomness import Randomness, randn_like
from minidiff.validate import describe, integer, not_negative, require, require_floating

CHUNK = 64
"""Pictures that go through a network at a time: however many there are, its inner maps take the memory of so many."""


class Body(nn.Module):
    """Pictures (B, colours, H, W) → `encode` → (B, outputs, H/factor, W/factor); (B, inputs, …) → `decode` → pictures.

    Pixels are folded factor×factor into channels at once, so that every convolution works on the coarse grid: at
    factor 4 on a sixteenth of the pixels. depth: residual blocks of the encoder and of the decoder. H and W are any
    multiples of `factor`. `ValueError` for other shapes.
    """

    def __init__(
        self, outputs: int, inputs: int, factor: int = 4, width: int = 64, depth: tuple[int, int] = (1, 2),
        colours: int = 3,
    ):  # fmt: skip
        super().__init__()
        self.inputs, self.factor, self.colours = integer("channels", inputs), integer("factor", factor), colours
        folded, width = colours * factor**2, integer("width", width)
        blocks = [[Residual(width) for _ in range(integer("depth", n, least=0))] for n in depth]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(factor), nn.Conv2d(folded, width, 1), *blocks[0], nn.Conv2d(width, outputs, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), *blocks[1], nn.SiLU(), nn.Conv2d(width, folded, 1),
            nn.PixelShuffle(factor),
        )  # fmt: skip

    def encode(self, x: Tensor) -> Tensor:
        require_floating("x", x)
        fits = x.ndim == 4 and x.shape[1] == self.colours and all(n % self.factor == 0 for n in x.shape[2:])
        expected = f"at least one picture ({self.colours}, H, W) with H, W divisible by {self.factor}"
        require(fits and x.numel() > 0, "x", describe(x), expected)
        return torch.cat([self.encoder(part) for part in x.split(CHUNK)])

    def decode(self, z: Tensor) -> Tensor:
        self.require_latents(z)
        return torch.cat([self.decoder(part) for part in z.split(CHUNK)])

    def require_latents(self, z: Tensor) -> None:
        require_floating("z", z)
        require(z.ndim == 4 and z.shape[1] == self.inputs, "z", describe(z), f"shape (B, {self.inputs}, h, w)")

    @property
    def last(self) -> nn.Parameter:
        """The weights of the decoder's last layer, at which VQGAN compares gradients (`losses.adaptive_weight`)."""
        return self.decoder[-2].weight  # type: ignore[return-value]


@dataclass(frozen=True)
class Posterior:
    """q(z|x): independent Gaussians, one per number of a latent; mean and log_variance (B, C, h, w)."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "Posterior":
        """From an encoder's output (B, 2C, h, w): means, then log-variances, kept within [−30, 20]."""
        mean, log_variance = parameters.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.log_variance)

    def sample(self, generator: Randomness) -> Tensor:
        """mean + std·ε, ε ~ N(0, 1): gradients reach mean and std (1312.6114, section 2.4)."""
        return self.mean + self.std * randn_like(self.mean, generator)

    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ N(0, 1)) in nats, summed over a picture's latent: ½ Σ (μ² + σ² − 1 − ln σ²), (B,).

        1312.6114, appendix B.
        """
        terms = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.flatten(1).sum(1)


class VAE(nn.Module):
    """Pictures (B, colours, H, W) in [−1, 1] ↔ normalised latents (B, channels, H/factor, W/factor).

    `latents` and `decode` speak of latents with mean 0 and variance 1 per channel, which is what a diffusion model
    expects. Until `standardise` has been called they are the posterior's own means. kl_weight: of `loss`.
    `ValueError` for other shapes and for H or W that `factor` does not divide.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, channels: int = 4, factor: int = 4, width: int = 64, depth: tuple[int, int] = (1, 2), colours: int = 3,
        kl_weight: float = 1e-3,
    ):  # fmt: skip
        super().__init__()
        self.body = Body(2 * channels, channels, factor, width, depth, colours)
        self.kl_weight = not_negative("kl_weight", kl_weight)
        self.register_buffer("shift", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1))

    def encode(self, x: Tensor) -> Posterior:
        """q(z|x), before the normalisation."""
        return Posterior.of(self.body.encode(x))

    def latents(self, x: Tensor) -> Tensor:
        """(mean of q(z|x) − shift)/scale."""
        return (self.encode(x).mean - self.shift) / self.scale

    def decode(self, z: Tensor, clamp: bool = False) -> Tensor:
        """The pictures of normalised latents. Pixels may leave [−1, 1] a little, unless clamp."""
        self.body.require_latents(z)  # a single channel would broadcast over `scale`
        pictures = self.body.decode(z * self.scale + self.shift)
        return pictures.clamp(-1, 1) if clamp else pictures

    def forward(self, x: Tensor, generator: Randomness = None) -> tuple[Tensor, Posterior]:
        """The reconstruction from a sample of q(z|x), and q(z|x)."""
        posterior = self.encode(x)
        return self.body.decode(posterior.sample(generator)), posterior

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction from the mean of q(z|x), without noise."""
        return self.body.decode(self.encode(x).mean)

    def loss(self, x0: Tensor, generator: Randomness = None) -> Tensor:
        """pixel_loss + kl_weight·KL per number of the latent, (B,): the negative of a weighted evidence bound.

        `training.fit` seeds PyTorch's own generator at every step, so there no generator is needed.
        """
        reconstruction, posterior = self(x0, generator)
        return pixel_loss(reconstruction, x0) + self.kl_weight * posterior.kl() / posterior.mean[0].numel()

    @torch.no_grad()
    def standardise(self, pictures: Iterable[Tensor]) -> "VAE":
        """Set shift and scale to each channel's mean and standard deviation over batches of pictures; returns self.

        `ValueError` if there are none, or if a channel is the same everywhere.
        """
        moments, count = torch.zeros(2, len(self.shift), dtype=torch.float64, device=self.shift.device), 0
        for x in pictures:
            z = self.encode(x).mean.double().transpose(0, 1).flatten(1)  # (channels, B·h·w)
            moments += torch.stack([z.sum(1), z.square().sum(1)])
            count += z.shape[1]
        require(count > 0, "pictures", "none", "batches of pictures")
        mean, square = moments / count
        std = (square - mean.square()).clamp(min=0).sqrt()
        varies = bool((std > 1e-6 * square.sqrt()).all())
        require(varies, "pictures", f"channels with standard deviations {std.tolist()}", "latents that vary")
        self.shift.copy_(mean[:, None, None])
        self.scale.copy_(std[:, None, None])
        return self
