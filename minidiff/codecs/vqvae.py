"""Pictures as integers: VQ-VAE (arXiv 1711.00937). The encoder and decoder of `vae`, with a codebook between them."""

import torch
from torch import Generator, Tensor, nn

from minidiff.codecs.losses import pixel_loss
from minidiff.codecs.vae import Body
from minidiff.validate import describe, indexing, integer, not_negative, number, require, require_floating

SMOOTHING = 1e-5
"""ε of Laplace smoothing, in uses, as in DeepMind's Sonnet: no sum is divided by a count of zero."""


class Quantizer(nn.Module):
    """Vectors z (B, dim, h, w) → the nearest of `size` codes, the codebook (size, dim).

    decay: in training, codes follow the vectors that chose them, as moving averages (appendix A.1). None: they are
    parameters, and the codebook loss moves them (eq. 3).
    restart: with averages, a code that is chosen less often than `restart` times its fair share, the mean over all
    codes, is dead. It begins anew at a random vector of the batch (Jukebox, 2005.00341, section 3.1), with the fair
    share as its count, so that it has time to find its use. A new codebook has no counts: its unused codes are dead,
    and the first batch places them. 0: never.

    The averages are those of one process. `ValueError` for other shapes and dtypes.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, size: int = 512, dim: int = 64, decay: float | None = 0.99, restart: float = 0.03):
        super().__init__()
        self.size, self.dim, self.restart = integer("size", size), integer("dim", dim), not_negative("restart", restart)
        self.decay = None if decay is None else number("decay", decay, "a number in [0, 1)", lambda v: 0 <= v < 1)
        codebook = torch.empty(size, dim).uniform_(-1 / size, 1 / size)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("counts", torch.zeros(size))  # N of appendix A.1: uses of each code in a batch
            self.register_buffer("sums", torch.zeros(size, dim))  # m: the sum of the vectors that chose it

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """The index of the code at the least Euclidean distance: (B, h, w), int64."""
        self._require_vectors(z)
        return torch.cdist(_rows(z).to(self.codebook), self.codebook).argmin(1).reshape(len(z), *z.shape[2:])

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) → their vectors (B, dim, h, w). `ValueError` for a code outside 0 … size − 1."""
        fits = isinstance(codes, Tensor) and codes.dtype == torch.int64 and codes.ndim == 3
        require(fits, "codes", describe(codes), "int64, shape (B, h, w)")
        with indexing("codes", codes, self.size - 1, f"codes 0 … {self.size - 1}", self.codebook.device):
            return nn.functional.embedding(codes.to(self.codebook.device), self.codebook).movedim(-1, 1)

    def forward(self, z: Tensor, generator: Generator | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Quantised vectors (B, dim, h, w), losses, codes (B, h, w).

        To gradients the quantised vectors are z itself (straight through). Losses, not yet weighed, (B,): "commitment"
        moves z towards its code, "codebook" the code towards z (only where codes are parameters). In training mode the
        averages then take this batch in; `generator` draws the vectors at which dead codes begin anew.
        """
        codes = self.nearest(z)
        quantised = self.lookup(codes)
        gap = lambda a, b: (a - b).square().flatten(1).mean(1)
        losses = {"commitment": gap(z, quantised.detach())}
        if self.decay is None:
            losses["codebook"] = gap(quantised, z.detach())
        elif self.training:
            self._follow(_rows(z.detach()), codes.flatten(), generator)
        return z + (quantised - z).detach(), losses, codes

    @torch.no_grad()
    def _follow(self, rows: Tensor, codes: Tensor, generator: Generator | None) -> None:
        """N ← γN + (1 − γ)n,  m ← γm + (1 − γ)Σz,  e = m/N, N smoothed: appendix A.1."""
        assert self.decay is not None
        uses = torch.bincount(codes, minlength=self.size).to(self.counts)
        self.counts.lerp_(uses, 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, codes, rows.to(self.sums)), 1 - self.decay)
        self._restart(rows, generator)
        total = self.counts.sum()
        smoothed = total * (self.counts + SMOOTHING) / (total + self.size * SMOOTHING)
        used = self.counts[:, None] > 0  # a code that was never chosen stays where it is
        self.codebook.copy_(torch.where(used, self.sums / smoothed[:, None], self.codebook))

    def _restart(self, rows: Tensor, generator: Generator | None) -> None:
        """Dead codes get the fair share of uses, all of them of one random row."""
        fair, source = self.counts.mean(), generator.device if generator is not None else "cpu"
        chosen = torch.randint(len(rows), (self.size,), generator=generator, device=source).to(rows.device)
        dead = self.counts < self.restart * fair
        self.sums.copy_(torch.where(dead[:, None], fair * rows[chosen], self.sums))
        self.counts.copy_(torch.where(dead, fair, self.counts))

    def perplexity(self, codes: Tensor) -> Tensor:
        """e to the entropy of how often each code occurs, a scalar: how many codes are in use, 1 … size."""
        share = torch.bincount(codes.flatten(), minlength=self.size) / codes.numel()
        return torch.exp(torch.special.entr(share).sum())

    def _require_vectors(self, z: Tensor) -> None:
        require_floating("z", z)
        fits = z.ndim == 4 and z.shape[1] == self.dim and z.numel() > 0
        require(fits, "z", describe(z), f"shape (B, {self.dim}, h, w), not empty")


def _rows(z: Tensor) -> Tensor:
    """(B, dim, h, w) → (B·h·w, dim)."""
    return z.movedim(1, -1).flatten(0, 2)


class VQVAE(nn.Module):
    """Pictures (B, colours, H, W) in [−1, 1] ↔ codes (B, H/factor, W/factor), int64, 0 … size − 1.

    commitment: β of eq. 3. decay, restart: of the `Quantizer`. The rest is as in `VAE`.
    """

    def __init__(
        self, size: int = 512, dim: int = 8, factor: int = 4, width: int = 64, depth: tuple[int, int] = (1, 2),
        colours: int = 3, commitment: float = 0.25, decay: float | None = 0.99, restart: float = 0.03,
    ):  # fmt: skip
        super().__init__()
        self.body = Body(dim, dim, factor, width, depth, colours)
        self.quantizer = Quantizer(size, dim, decay, restart)
        self.commitment = not_negative("commitment", commitment)

    def encode(self, x: Tensor) -> Tensor:
        """The codes of pictures."""
        return self.quantizer.nearest(self.body.encode(x))

    def decode(self, codes: Tensor, clamp: bool = False) -> Tensor:
        """The pictures of codes. Pixels may leave [−1, 1] a little, unless clamp."""
        pictures = self.body.decode(self.quantizer.lookup(codes))
        return pictures.clamp(-1, 1) if clamp else pictures

    def forward(self, x: Tensor, generator: Generator | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The reconstruction, the quantizer's losses, the codes. In training mode the codebook follows, too."""
        quantised, losses, codes = self.quantizer(self.body.encode(x), generator)
        return self.body.decode(quantised), losses, codes

    def reconstruct(self, x: Tensor) -> Tensor:
        """decode(encode(x)): no gradient, and the codebook stays as it is."""
        return self.decode(self.encode(x))

    def loss(self, x0: Tensor, generator: Generator | None = None) -> Tensor:
        """pixel_loss + β·commitment (+ codebook, where codes are parameters), (B,): eq. 3."""
        reconstruction, losses, _ = self(x0, generator)
        moved = losses.pop("codebook", 0.0)
        return pixel_loss(reconstruction, x0) + self.commitment * losses["commitment"] + moved
