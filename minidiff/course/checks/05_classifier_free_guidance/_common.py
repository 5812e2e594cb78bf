"""A tiny network for the exercise that trains one."""

import torch
from torch import Generator, Tensor

from minidiff.validate import describe, require

from .._common import normal


class TinyNet:
    """One hidden layer, from (weights, x_t, t, y) to a velocity like x_t. It counts the pictures it is asked about."""

    def __init__(self, labels: int):
        self.labels, self.pictures = labels, 0

    def __call__(self, weights: list[Tensor], x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        b = len(x_t)
        require(tuple(t.shape) == (b,), "the network's t", describe(t), f"one time per picture, shape ({b},)")
        fits = y.dtype == torch.int64 and tuple(y.shape) == (b,)
        require(fits, "the network's y", describe(y), f"one label per picture, int64 of shape ({b},)")
        require(bool(((y >= 0) & (y < self.labels)).all()), "the network's y", y.tolist(), f"0 … {self.labels - 1}")
        self.pictures += b
        table, into, clock, out = weights
        h = torch.tanh(x_t.flatten(1) @ into + t.to(x_t)[:, None] * clock + table[y])
        return (h @ out).reshape(x_t.shape)

    def first_weights(self, size: int, g: Generator, width: int = 4) -> list[Tensor]:
        """Random weights for pictures of `size` numbers."""
        shapes = ((self.labels, width), (size, width), (width,), (width, size))
        return [normal(shape, g, torch.float32) for shape in shapes]
