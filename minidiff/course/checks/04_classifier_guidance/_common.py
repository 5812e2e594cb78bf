"""What two exercises of chapter 04 share."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Classifier = Callable[[Tensor, Tensor], Tensor]


def small_classifier(g: Generator, size: int, n_classes: int, dtype: torch.dtype) -> Classifier:
    """Logits (B, n_classes) of a fixed random two-layer network, which also depends on t: a scalar or (B,)."""
    first = torch.randn(size, 8, generator=g, dtype=torch.float64).to(dtype)
    second = torch.randn(8, n_classes, generator=g, dtype=torch.float64).to(dtype)

    def logits(x_t: Tensor, t: Tensor) -> Tensor:
        level = t.to(x_t.dtype).reshape(-1, 1)
        return torch.tanh(x_t.flatten(1) @ first + level) @ second * (1.5 - level)

    return logits


def chosen(per_class: Tensor, y: Tensor) -> Tensor:
    return per_class.gather(1, y[:, None])[:, 0]
