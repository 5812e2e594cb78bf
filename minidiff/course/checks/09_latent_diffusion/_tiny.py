"""For the exercise that trains both stages: an autoencoder and a denoiser of few numbers, which refuse wrong shapes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.validate import describe, require

from .._common import normal

Weights = list[Tensor]
CHANNELS, WORDS = 2, 5


class Linear:
    """Pictures (B, 3, 2H, 2W) or vectors (B, D) ↔ latents (B, 2, H, W) or (B, 2), by one matrix each way."""

    def __init__(self, shape: Sequence[int]):
        self.shape, self.flat = tuple(shape), len(shape) == 1
        self.size = shape[0] * (1 if self.flat else 4)
        self.latent = (CHANNELS,) if self.flat else (CHANNELS, shape[1] // 2, shape[2] // 2)

    def encode(self, codec: Weights, x: Tensor) -> Tensor:
        fits = x.dtype == torch.float32 and tuple(x.shape[1:]) == self.shape
        require(fits, "the pictures given to encode", describe(x), f"float32, shape (B, {str(self.shape)[1:]}")
        rows = x if self.flat else F.pixel_unshuffle(x, 2).movedim(1, -1)
        return (rows @ codec[0]).movedim(-1, 1)

    def decode(self, codec: Weights, z: Tensor) -> Tensor:
        fits = z.dtype == torch.float32 and tuple(z.shape[1:]) == self.latent
        require(fits, "the latents given to decode", describe(z), f"float32, shape (B, {str(self.latent)[1:]}")
        rows = (z.movedim(1, -1) @ codec[1]).movedim(-1, 1)
        return rows if self.flat else F.pixel_shuffle(rows, 2)

    def denoise(self, prior: Weights, z_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        b, words = len(z_t), tokens.shape[-1]
        require(tuple(z_t.shape[1:]) == self.latent, "the denoiser's z_t", describe(z_t), f"latents {self.latent}")
        require(tuple(t.shape) == (b,), "the denoiser's t", describe(t), f"one time per picture, shape ({b},)")
        fits = tokens.dtype == torch.int64 and tuple(tokens.shape) == (b, words)
        require(fits, "the denoiser's tokens", describe(tokens), f"one caption per picture, int64 of shape ({b}, L)")
        table, mix, clock = prior
        told = table[tokens].sum(1) + t.to(z_t)[:, None] * clock  # (B, 2)
        return (z_t.movedim(1, -1) @ mix).movedim(-1, 1) + told.reshape(b, CHANNELS, *[1] * (z_t.ndim - 2))

    def first_weights(self, g: Generator) -> tuple[Weights, Weights]:
        """Of the autoencoder and of the denoiser."""
        draw = lambda *shape: normal(shape, g, torch.float32)
        codec = [draw(self.size, CHANNELS) / self.size**0.5, draw(CHANNELS, self.size) / 2]
        return codec, [draw(WORDS, CHANNELS), draw(CHANNELS, CHANNELS) / 2, draw(CHANNELS)]
