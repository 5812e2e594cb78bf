"""What the parity tests of transformers with two streams share: random weights, and modulations in our order."""

from collections.abc import Callable

import torch
from torch import nn

from minidiff.randomness import seeded


def shaken(
    net: nn.Module, of_queries: Callable[[str], bool] = lambda name: "norm_" in name and "linear" not in name
) -> nn.Module:
    """Every weight at random, 0.1 large, frozen.

    But gains of queries and keys are about 1: at 0.1 attention would look everywhere alike, and no slip in the
    positions would be seen.
    """
    generator = seeded(3)
    for name, parameter in net.named_parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        if of_queries(name) and parameter.ndim == 1:
            parameter.data += 1
    return net.eval().requires_grad_(False)


def modulations(norm: nn.Module, linear: nn.Module, order: tuple[int, ...], parts: int = 6) -> None:
    """Theirs is shift, scale, gate for attention, then for the MLP. Ours is scale, shift, gate, norm by norm."""
    for name, value in linear.state_dict().items():
        pieces = value.chunk(parts)
        getattr(norm.modulation, name).data = torch.cat([pieces[i] for i in order])
