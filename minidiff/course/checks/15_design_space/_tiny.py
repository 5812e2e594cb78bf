"""For the exercise that builds a cell: a network of one matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from minidiff.validate import describe, require

Weights = list[Tensor]
Net = Callable[[Weights, Tensor, Tensor, Tensor], Tensor]
WORDS = 5


def linear(shape: tuple[int, ...]) -> Net:
    """One matrix, a table of words, and the time; it refuses what has a wrong shape."""

    def net(weights: Weights, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        b = len(x_t)
        fits = tuple(x_t.shape[1:]) == shape and x_t.dtype == torch.float32
        require(fits, "the network's x_t", describe(x_t), f"float32, shape (B, {str(shape)[1:]}")
        require(tuple(t.shape) == (b,), "the network's t", describe(t), f"one time per picture, shape ({b},)")
        require(len(tokens) == b, "the network's tokens", describe(tokens), f"one caption per picture, shape ({b}, L)")
        mix, table, clock = weights
        return (x_t.flatten(1) @ mix + table[tokens].sum(1) + t[:, None] * clock).reshape(x_t.shape)

    return net
