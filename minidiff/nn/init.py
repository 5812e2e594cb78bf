"""How layers begin: at zero, so that what they add to is unchanged at first; and how many groups fit."""

from typing import TypeVar

from torch import nn

L = TypeVar("L", bound=nn.Module)


def groups(channels: int) -> int:
    """The largest number of groups up to 8 that divides `channels`."""
    return next(g for g in range(8, 0, -1) if channels % g == 0)


def zeroed(layer: L) -> L:
    """The layer with all its parameters set to 0, so that what it adds to is unchanged at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
