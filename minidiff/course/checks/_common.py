"""What the exercises of several chapters share."""

import torch
from torch import Generator, Tensor


def normal(shape: tuple[int, ...], g: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, drawn as float64 and rounded: the same inputs in every dtype."""
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)
