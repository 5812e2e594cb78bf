"""Noise schedules: how much picture and how much noise there is at time t.

    x_t = α(t)·x0 + σ(t)·ε,        ε ~ N(0, I),        t = 0 data, t = 1 noise

A schedule is one callable t → (α, σ). `rates` gives (dα/dt, dσ/dt), written by hand and checked against autodiff in
the tests. Both work elementwise on a tensor t of any shape; samplers pass a scalar on the CPU, in float64, which
then multiplies pictures of any dtype on any device.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from minidiff.shapes import expand_like
from minidiff.validate import integer, positive, require, require_floating, require_like, require_time


class Schedule(ABC):
    """α(t) and σ(t) on [0, 1]; α falls (or stays), σ rises, so the signal-to-noise ratio (α/σ)² falls."""

    @abstractmethod
    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(dα/dt, dσ/dt), each with the shape of t."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ), each with the shape of t. `ValueError` if t is not floating-point or leaves [0, 1]."""
        require_time(t)
        return self._levels(t)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = α(t)·x0 + σ(t)·ε, like x0, for x0, ε of shape (B, …) and t a scalar, (B,), or a map (B, 1, …)."""
        require_floating("x0", x0, min_dim=1)
        require_like("eps", eps, x0, "x0")
        require_time(t, batch=len(x0), map_of=x0)
        # Times of half precision are read in float32: there σ of `Karras`, a seventh power, would be 2 % off.
        alpha, sigma = self(expand_like(t, x0).to(x0.device, torch.promote_types(t.dtype, torch.float32)))
        return (alpha * x0 + sigma * eps).to(x0.dtype)


class Linear(Schedule):
    """The straight path of rectified flow and flow matching: α = 1 − t, σ = t (arXiv 2209.03003, 2210.02747)."""

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)


class Cosine(Schedule):
    """α = cos(πt/2), σ = sin(πt/2): the quarter circle (arXiv 2102.09672 without its small offset)."""

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # sin(π/2·(1 − t)) rather than cos(πt/2): exactly 0 at t = 1 instead of 6e-17.
        return torch.sin((1 - t) * (math.pi / 2)), torch.sin(t * (math.pi / 2))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half_pi = math.pi / 2
        return -half_pi * torch.sin(t * half_pi), half_pi * torch.sin((1 - t) * half_pi)


class DDPM(Schedule):
    """The discrete schedule of DDPM (arXiv 2006.11239) as a function of continuous time.

    β runs linearly from `beta_start` to `beta_end` over `n` training steps; ᾱ_k = ∏_{i≤k}(1 − β_i). At t = k/n,
    α = √ᾱ_k and σ = √(1 − ᾱ_k) exactly; in between log ᾱ is linear. The paper's step index k (1 … n) is t = k/n.
    dσ/dt grows like t^(−1/2); below σ = 1e-4 (t ≈ 1e-7) it is held at its value there, so that t = 0 is no infinity.
    """

    def __init__(self, n: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02):
        self.n, names, expected = integer("n", n), "beta_start, beta_end", "0 < start ≤ end < 1"
        beta_start, beta_end = (positive(names, beta, expected) for beta in (beta_start, beta_end))
        require(beta_start <= beta_end < 1, names, (beta_start, beta_end), expected)
        betas = torch.linspace(beta_start, beta_end, self.n, dtype=torch.float64)
        self.log_alpha_bar = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])  # (n + 1,)

    def _log_alpha_bar(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log ᾱ(t) and its slope d log ᾱ/dt."""
        table = self.log_alpha_bar.to(t.device)
        position = t.to(torch.float64) * self.n
        left = position.detach().floor().clamp(max=self.n - 1).long()
        rise = table[left + 1] - table[left]
        return table[left] + (position - left) * rise, self.n * rise

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha_bar, _ = self._log_alpha_bar(t)
        return torch.exp(log_alpha_bar / 2).to(t.dtype), torch.sqrt(-torch.expm1(log_alpha_bar)).to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha_bar, slope = self._log_alpha_bar(t)
        sigma = torch.sqrt(-torch.expm1(log_alpha_bar)).clamp(min=1e-4)
        d_alpha = slope / 2 * torch.exp(log_alpha_bar / 2)
        d_sigma = -slope / 2 * torch.exp(log_alpha_bar) / sigma
        return d_alpha.to(t.dtype), d_sigma.to(t.dtype)


class Karras(Schedule):
    """The variance-exploding path with Karras' spacing (arXiv 2206.00364, eq. 5): α = 1 and

    σ(t) = (σ_min^(1/ρ) + t·(σ_max^(1/ρ) − σ_min^(1/ρ)))^ρ.  Equal steps in t are the paper's steps in σ.
    At t = 0 a trace of noise, σ_min, is left; x0 is data with standard deviation near 0.5.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        names, expected = "sigma_min, sigma_max", "0 < sigma_min < sigma_max"
        sigma_min, sigma_max = (positive(names, sigma, expected) for sigma in (sigma_min, sigma_max))
        require(sigma_min < sigma_max, names, (sigma_min, sigma_max), expected)
        self.rho = positive("rho", rho)
        self.low = sigma_min ** (1 / self.rho)
        self.span = sigma_max ** (1 / self.rho) - self.low

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), (self.low + t * self.span) ** self.rho

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self.rho * self.span * (self.low + t * self.span) ** (self.rho - 1)
