"""Pictures as integers again: the discrete VAE of DALL-E (arXiv 2102.12092, section 2.1), the encoder and decoder of
`vae` with a choice among K codes between them.

`vqvae` takes the nearest code, through which no gradient goes. Here the encoder says how well *each* code would do; in
training one is drawn, softly. Gumbel noise on the logits makes a draw of an argmax, and a softmax of temperature τ in
its place has a gradient (1611.00712, 1611.01144). While τ falls, the mixture of codes becomes one code.
"""

import math

import torch
from torch import Tensor, nn

from minidiff.codecs.losses import pixel_loss
from minidiff.codecs.vae import Body
from minidiff.codecs.vqvae import Quantizer
from minidiff.randomness import Randomness, gumbel
from minidiff.validate import describe, integer, not_negative, positive, require, require_floating


def gumbel_softmax(logits: Tensor, temperature: Tensor | float, generator: Randomness = None, dim: int = 1) -> Tensor:
    """softmax((logits + Gumbel noise)/τ) along `dim`, the shape of logits (B, …): eq. 2 of 1611.01144.

    τ → 0 gives the one-hot of a draw from softmax(logits), τ → ∞ the same share to every code.
    """
    require_floating("logits", logits, min_dim=2)
    if not isinstance(temperature, Tensor):
        temperature = positive("temperature", temperature)
    noise = gumbel(logits.shape, generator, logits.device).to(logits.dtype)
    return ((logits + noise) / temperature).softmax(dim)


def kl_uniform(logits: Tensor) -> Tensor:
    """KL(softmax(logits) ‖ uniform) = ln K − entropy, in nats, summed over a picture's places: (B, K, h, w) → (B,)."""
    require_floating("logits", logits, min_dim=2)
    log_q = logits.log_softmax(1)
    return (log_q.exp() * (log_q + math.log(logits.shape[1]))).flatten(1).sum(1)


class DVAE(nn.Module):
    """Pictures (B, colours, H, W) in [−1, 1] ↔ codes (B, H/factor, W/factor), int64, 0 … size − 1.

    temperatures, kl_weights: (first, last) of τ and of β, which go from one to the other on half a cosine over the
    first `anneal` batches that `loss` sees in training mode, and stay (the paper's τ: 1 to 1/16). `seen` counts these
    batches. It is a buffer, so that checkpoints and averages carry it: an interrupted run goes on at its temperature.
    size, dim: of the codebook. The rest is as in `VAE`. `ValueError` for other shapes and dtypes.

    Most places show nothing but ground, and a new encoder says nearly the same of all others: after 200 steps 4 of 512
    codes were in use. So each code's logit is brought to mean 0 and standard deviation `spread` over the places of a
    batch (batch normalisation, 1502.03167, which learns other values from there): then 100 were. The paper does
    without it, at batches of 512 and three million steps.
    """

    seen: Tensor

    def __init__(
        self, size: int = 512, dim: int = 64, factor: int = 8, width: int = 128, depth: tuple[int, int] = (1, 2),
        colours: int = 3, temperatures: tuple[float, float] = (1.0, 1 / 16),
        kl_weights: tuple[float, float] = (0.0, 1e-3), anneal: int = 1000, spread: float = 4.0,
    ):  # fmt: skip
        super().__init__()
        self.body = Body(size, dim, factor, width, depth, colours)
        self.codebook = Quantizer(size, dim, decay=None)  # its vectors; nothing here looks for the nearest of them
        nn.init.normal_(self.codebook.codebook)
        self.spread = nn.BatchNorm2d(size)
        nn.init.constant_(self.spread.weight, positive("spread", spread))
        self.temperatures = tuple(positive("temperatures", t) for t in temperatures)
        self.kl_weights = tuple(not_negative("kl_weights", w) for w in kl_weights)
        self.anneal = integer("anneal", anneal)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        return self.codebook.size

    def annealed(self, ends: tuple[float, ...]) -> Tensor:
        """From ends[0] to ends[1] on half a cosine, at the batch that is `seen` next; a scalar."""
        first, last = ends
        done = (self.seen / self.anneal).clamp(max=1)
        return last + (first - last) * 0.5 * (1 + torch.cos(math.pi * done))

    @property
    def temperature(self) -> Tensor:
        """τ of the next batch."""
        return self.annealed(self.temperatures)

    @property
    def kl_weight(self) -> Tensor:
        """β of the next batch."""
        return self.annealed(self.kl_weights)

    def logits(self, x: Tensor) -> Tensor:
        """How well each code would do at each place: (B, size, h, w)."""
        return self.spread(self.body.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """The codes of pictures, at each place the likeliest: no noise, no temperature."""
        return self.logits(x).argmax(1)

    def decode(self, codes: Tensor, clamp: bool = False) -> Tensor:
        """The pictures of codes. Pixels may leave [−1, 1] a little, unless clamp."""
        pictures = self.body.decode(self.codebook.lookup(codes))
        return pictures.clamp(-1, 1) if clamp else pictures

    def mix(self, shares: Tensor) -> Tensor:
        """Pictures of mixtures of codes: shares (B, size, h, w), 1 in sum at each place."""
        fits = isinstance(shares, Tensor) and shares.ndim == 4 and shares.shape[1] == self.size
        require(fits, "shares", describe(shares), f"shape (B, {self.size}, h, w)")
        return self.body.decode(torch.einsum("bkhw,kd->bdhw", shares, self.codebook.codebook))

    def forward(self, x: Tensor, generator: Randomness = None) -> tuple[Tensor, Tensor]:
        """The reconstruction from softly drawn codes at this temperature, and the logits."""
        logits = self.logits(x)
        return self.mix(gumbel_softmax(logits, self.temperature, generator)), logits

    def reconstruct(self, x: Tensor) -> Tensor:
        """decode(encode(x)): from codes, as everything that uses the frozen model sees it."""
        return self.decode(self.encode(x))

    def loss(self, x0: Tensor, generator: Randomness = None) -> Tensor:
        """pixel_loss + β·KL per place, (B,): the negative of a weighted evidence bound (eq. 1 of 2102.12092)."""
        reconstruction, logits = self(x0, generator)
        places = logits[0, 0].numel()
        loss = pixel_loss(reconstruction, x0) + self.kl_weight.detach() * kl_uniform(logits) / places
        if self.training:
            self.seen += 1
        return loss

    def perplexity(self, codes: Tensor) -> Tensor:
        """e to the entropy of how often each code occurs, a scalar in 1 … size."""
        return self.codebook.perplexity(codes)

    def use(self, codes: Tensor) -> float:
        """The share of the codebook that occurs among `codes`."""
        return float((torch.bincount(codes.flatten(), minlength=self.size) > 0).double().mean())
