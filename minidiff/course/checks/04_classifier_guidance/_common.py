"""What several exercises of chapter 04 share."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.validate import describe, require

Classifier = Callable[[Tensor, Tensor], Tensor]


def small_classifier(
    g: Generator, shape: tuple[int, ...], n_classes: int, dtype: torch.dtype, sharp: float = 1.0, every: bool = False
) -> Classifier:
    """Logits (B, n_classes) of a fixed random two-layer network for pictures of `shape` (B, …), which depends on t.

    sharp: a factor on the logits; at 2000 the probability of an unlikely class is 0 in float64. every: t must be (B,),
    not one for all. As a real network would, it refuses an x_t or a t of another shape.
    """
    size = torch.Size(shape[1:]).numel()
    first = torch.randn(size, 8, generator=g, dtype=torch.float64).to(dtype)
    second = torch.randn(8, n_classes, generator=g, dtype=torch.float64).to(dtype)

    def logits(x_t: Tensor, t: Tensor) -> Tensor:
        require_shapes(x_t, t, shape, dtype, every)
        level = t.to(x_t.dtype).reshape(-1, 1)
        return sharp * (torch.tanh(x_t.flatten(1) @ first + level) @ second * (1.5 - level))

    return logits


def require_shapes(x_t: Tensor, t: Tensor, shape: tuple[int, ...], dtype: torch.dtype, every: bool = False) -> None:
    """`ValueError` unless x_t is like (B, *shape[1:]) of `dtype`, and t a scalar or (B,); with `every`, (B,) only."""
    fits = x_t.shape[1:] == shape[1:] and x_t.dtype == dtype
    require(fits, "x_t", describe(x_t), f"shape (B, {', '.join(map(str, shape[1:]))}) and {str(dtype)[6:]}")
    allowed = ((len(x_t),),) if every else ((), (len(x_t),))
    require(isinstance(t, Tensor) and tuple(t.shape) in allowed, "t", describe(t), " or ".join(map(str, allowed)))


def chosen(per_class: Tensor, y: Tensor) -> Tensor:
    return per_class.gather(1, y[:, None])[:, 0]


def gradient_of(value: Callable[[Tensor], Tensor], x_t: Tensor) -> Tensor:
    """The gradient of value(x_t).sum() with respect to x_t."""
    with torch.enable_grad():  # samplers of the library call it without gradients
        x_t = x_t.detach().clone().requires_grad_()
        return torch.autograd.grad(value(x_t).sum(), x_t)[0]
