"""For the exercise that trains a network: a tiny one, and its training and sampling written out."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from minidiff.validate import describe, require

from .._common import normal

Net = Callable[[list[Tensor], Tensor, Tensor, Tensor], Tensor]
Batches = list[tuple[Tensor, Tensor]]
Sampler = Callable[..., Tensor]


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


def by_hand(flaw: str = "") -> Callable[..., Sampler]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def train_and_guide(
        net: Net, weights: list[Tensor], batches: Batches, null: int, p: float, lr: float, generator: Generator
    ) -> Sampler:
        now = [v.clone().requires_grad_() for v in weights]
        optimizer = torch.optim.Adam(now, lr=lr)
        for x0, y in batches:
            t, eps = torch.rand(len(x0), generator=generator), torch.randn(x0.shape, generator=generator)
            coins = torch.rand(() if flaw == "whole-batch" else y.shape, generator=generator)
            seen = y if flaw == "null-untrained" else torch.where(coins < p, null, y)
            at = t.reshape(-1, *[1] * (x0.ndim - 1))
            loss = (net(now, x0 + at * (eps - x0), t, seen) - (eps - x0)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        @torch.no_grad()
        def walk(noise: Tensor, y: Tensor, times: Tensor, w: float, low: float, high: float) -> Tensor:
            x, none = noise, torch.full_like(y, null)
            for t, s in pairwise(times):
                clock, inside = t.to(x).expand(len(x)), low <= float(t) <= high
                if flaw == "inside-out":
                    inside = not inside
                label = torch.where(torch.rand(y.shape, generator=generator) < p, null, y) if flaw == "drops" else y
                u = net(now, x, clock, label)
                if inside or flaw == "both-always":
                    bad = net(now, x, clock, none)
                    if inside:
                        u = torch.lerp(bad, u, w if flaw == "scale" else 1 + w)
                x = x + (s - t).to(x) * u
            return x

        return walk

    return train_and_guide
