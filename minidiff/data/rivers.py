"""Rivers: clips of one number per frame whose joint distribution is known, the toy of temporal fine-tuning.

Every frame, seen alone, is a point of a Gaussian mixture. What makes T frames a clip is that they belong together:

    z ~ π,    x_i = μ_z + s_z·a_i,    a_1 ~ N(0, 1),    a_{i+1} = ρ·a_i + √(1 − ρ²)·n_i,    n_i ~ N(0, 1).

The mode z is the clip's, and within it the frames are an AR(1) process with correlation ρ from one to the next. Each
a_i is N(0, 1), so every frame has the mixture's own distribution, whatever ρ is. All frames together are once more a
mixture, in T dimensions, with means μ_k·1 and covariances s_k²·ρ^|i−j|: density, score and E[x0|x_t] at every noise
level are those of `mixtures.Mixture`. This is figure 2 of Align your Latents (arXiv 2304.08818) with a known truth.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minidiff.data.mixtures import Levels, Mixture
from minidiff.validate import describe, integer, number, require, require_floating, require_time


def aligned(frame: Mixture, frames: int, rho: float = 0.9) -> Mixture:
    """p(x_1 … x_T), dim = frames, exact; `frame`, with dim 1, is the distribution of each of them. ρ in [0, 1].

    With ρ = 0 frames of one clip share their mode and nothing else; with ρ = 1 they are all the same.
    """
    require(frame.dim == 1, "frame", f"a mixture in {frame.dim} dimensions", "one in 1 dimension")
    frames, rho = integer("frames", frames), number("rho", rho, "a number in [0, 1]", lambda v: 0 <= v <= 1)
    apart = torch.arange(frames)
    together = torch.as_tensor(rho, dtype=frame.means.dtype) ** (apart[:, None] - apart).abs()  # 0⁰ = 1
    return Mixture(frame.means.expand(-1, frames), frame.covariances * together, frame.weights, frame.labels)


def covariance(joint: Mixture) -> Tensor:
    """Cov(x0) of any mixture, (D, D): Σ_k π_k·(C_k + m_k·m_kᵀ) − m̄·m̄ᵀ with m̄ = Σ_k π_k·m_k."""
    mean = joint.weights @ joint.means
    seconds = joint.covariances + joint.means[:, :, None] * joint.means[:, None, :]
    return torch.einsum("k,kij->ij", joint.weights, seconds) - torch.outer(mean, mean)


def correlation(joint: Mixture) -> Tensor:
    """The exact correlation of any two frames, (D, D).

    For `aligned` it is (v + ρ^|i−j|·w)/(v + w), with v = Var(μ_z) and w = E[s_z²]: what the shared mode gives stays
    at any distance.
    """
    exact = covariance(joint)
    scale = exact.diagonal().sqrt()
    return exact / torch.outer(scale, scale)


def measured(x: Tensor) -> Tensor:
    """The correlation of any two frames over clips x (N, T), N ≥ 2 and each frame with some spread: (T, T)."""
    require_floating("x", x, finite=True)
    fits = x.ndim == 2 and len(x) >= 2 and bool((x.amax(0) > x.amin(0)).all())
    require(fits, "x", describe(x), "at least two clips (N, T), each frame with values that differ")
    return torch.corrcoef(x.T).reshape(x.shape[1], x.shape[1])


def neighbours(correlations: Tensor) -> float:
    """The mean correlation of a frame and the next, of (T, T) with T ≥ 2."""
    fits = correlations.ndim == 2 and correlations.shape[0] == correlations.shape[1] >= 2
    require(fits, "correlations", describe(correlations), "shape (T, T), T ≥ 2")
    return float(correlations.diagonal(1).mean())


def each_alone(frame: Mixture, schedule: Levels) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact denoiser of clips for one who knows single frames only: x_t (B, T), t → E[x0_i | x_t,i], (B, T).

    Sampled with it, frames are independent: what a perfect image model makes of a clip's noise. t: a scalar or (B,).
    """
    require(frame.dim == 1, "frame", f"a mixture in {frame.dim} dimensions", "one in 1 dimension")

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        require_floating("x_t", x_t)
        require(x_t.ndim == 2, "x_t", describe(x_t), "shape (B, T)")
        require_time(t, batch=len(x_t))
        every = t.repeat_interleave(x_t.shape[1]) if t.ndim else t
        return frame.denoise(x_t.reshape(-1, 1), every, schedule).reshape(x_t.shape)

    return denoise
