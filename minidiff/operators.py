"""Forward models y = A(x0) + n: linear operators A, what is observed, and how likely an observation is.

An `Operator` maps pictures (B, C, H, W), or points (B, D), to observations (B, …). It is linear and differentiable, so
that ∇_x ‖y − A(x)‖² = −2·Aᵀ(y − A(x)) comes from autograd and no Aᵀ is written by hand. n is Gaussian with standard
deviation `noise`, in the unit of the observations (pictures lie in [−1, 1]).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.randomness import Randomness, randn_like
from minidiff.validate import describe, integer, not_negative, positive, require, require_floating

Operator = Callable[[Tensor], Tensor]


def mask(keep: Tensor) -> Operator:
    """Inpainting: x·keep. `keep` is boolean, broadcasts over x, and is true where x is seen."""
    require(isinstance(keep, Tensor) and keep.dtype == torch.bool, "keep", describe(keep), "a boolean tensor")
    return lambda x: x * keep.to(x)


def blur(sigma: float, size: int | None = None) -> Operator:
    """Gaussian blur of standard deviation `sigma` pixels, each channel by itself, borders reflected.

    size: of the kernel, odd; by default it reaches 3 sigma. Half of it must be less than the picture's side.
    """
    sigma = positive("sigma", sigma, "a positive number of pixels")
    size = 2 * math.ceil(3 * sigma) + 1 if size is None else integer("size", size)
    require(size % 2 == 1, "size", size, "an odd number of pixels")
    at = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.softmax(-(at**2) / (2 * sigma**2), 0)  # the Gaussian, summing to 1

    def blurred(x: Tensor) -> Tensor:
        _require_pictures(x)
        require(size // 2 < min(x.shape[2:]), "size", size, f"at most {2 * min(x.shape[2:]) - 1} for {describe(x)}")
        kernel = line.to(x).expand(x.shape[1], 1, size)
        x = F.pad(x, [size // 2] * 4, mode="reflect")
        x = F.conv2d(x, kernel[:, :, :, None], groups=x.shape[1])  # a Gaussian is a product: rows, then columns
        return F.conv2d(x, kernel[:, :, None, :], groups=x.shape[1])

    return blurred


def grey() -> Operator:
    """(B, 3, H, W) → (B, 1, H, W), the luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B. Its inverse colourises."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)

    def greyed(x: Tensor) -> Tensor:
        _require_pictures(x)
        require(x.shape[1] == 3, "x", describe(x), "3 channels")
        return torch.einsum("c,bchw->bhw", weights.to(x), x)[:, None]

    return greyed


def downsample(factor: int) -> Operator:
    """Means over factor×factor blocks: (B, C, H, W) → (B, C, H/factor, W/factor). Its inverse is super-resolution."""
    factor = integer("factor", factor)

    def pooled(x: Tensor) -> Tensor:
        _require_pictures(x)
        fits = x.shape[2] % factor == 0 and x.shape[3] % factor == 0
        require(fits, "x", describe(x), f"a height and width divisible by {factor}")
        return F.avg_pool2d(x, factor)

    return pooled


def strokes(cells: int = 4) -> Operator:
    """A picture painted with a brush `cells` pixels wide: every cells×cells block has its mean colour."""
    cells = integer("cells", cells)
    pooled = downsample(cells)
    return lambda x: pooled(x).repeat_interleave(cells, 2).repeat_interleave(cells, 3)


def matrix(A: Tensor) -> Operator:
    """Points (B, D) → (B, m): x @ Aᵀ, for A of shape (m, D)."""
    require_floating("A", A, finite=True)
    require(A.ndim == 2, "A", describe(A), "shape (m, D)")
    return lambda x: x @ A.T.to(x)


def observe(operator: Operator, x0: Tensor, noise: float, generator: Randomness) -> Tensor:
    """y = A(x0) + noise·n with n ~ N(0, I)."""
    noise = not_negative("noise", noise, "a standard deviation ≥ 0")
    clean = operator(x0)
    return clean + noise * randn_like(clean, generator)


def misfit(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """y − A(x), like A(x). y: like A(x), or one observation (1, …) for all. `ValueError` for other shapes."""
    seen = operator(x)
    fits = isinstance(y, Tensor) and y.ndim > 0 and y.shape[1:] == seen.shape[1:] and len(y) in (1, len(seen))
    require(fits, "y", describe(y), f"that of the operator's output, {tuple(seen.shape)}, or one for all")
    return y.to(seen) - seen


def log_likelihood(operator: Operator, y: Tensor, noise: float) -> Callable[[Tensor], Tensor]:
    """x0 ↦ log p(y|x0) = −‖y − A(x0)‖²/(2·noise²), (B,), without the constant that does not depend on x0.

    Its gradient is Aᵀ(y − A(x0))/noise².
    """
    noise = positive("noise", noise, "a positive standard deviation")

    def of(x0: Tensor) -> Tensor:
        return -_at_least_fp32(misfit(operator, x0, y)).flatten(1).square().sum(1) / (2 * noise**2)

    return of


def residual(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """‖y − A(x)‖/√m, (B,): the root mean square over the m numbers of an observation. `noise` for the true x, about.

    Its gradient is 0 where the residual is: there √(Σ r²) would have 0/0.
    """
    away = _at_least_fp32(misfit(operator, x, y)).flatten(1)
    return torch.linalg.vector_norm(away, dim=1) / away.shape[1] ** 0.5


def _at_least_fp32(x: Tensor) -> Tensor:
    """A sum of squares leaves the range of half precision at 65,504."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pseudo_inverse(operator: Operator, shape: tuple[int, ...], rtol: float = 1e-3) -> Operator:
    """A⁺: from an observation to the smallest x of `shape` (without B) that explains it best.

    A is written out as a matrix, one column per number of x, so this is for small pictures (16×16×3 takes a second).
    Directions that A shrinks by more than `rtol` of its largest singular value count as lost.
    """
    rtol = not_negative("rtol", rtol)
    basis = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    inverse = torch.linalg.pinv(operator(basis).flatten(1), rtol=rtol)  # (m, D): row vectors, x = y @ inverse
    return lambda y: (y.flatten(1) @ inverse.to(y)).reshape(len(y), *shape)


def _require_pictures(x: Tensor) -> None:
    require_floating("x", x)
    require(x.ndim == 4, "x", describe(x), "pictures of shape (B, C, H, W)")
