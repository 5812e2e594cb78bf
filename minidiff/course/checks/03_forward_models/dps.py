"""Exercise 03-dps: diffusion posterior sampling, whole (the build of chapter 03)."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from minidiff import guidance, operators
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import Denoise
from minidiff.operators import Operator
from minidiff.samplers import ddpm, sample
from minidiff.schedules import DDPM, Cosine, Linear, Schedule
from minidiff.validate import describe, require

from .._common import normal

Sampler = Callable[[Tensor, Tensor, Generator], Tensor]


class _Clouds:
    """The exact denoiser of three clouds, for pictures of one shape."""

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, dtype: torch.dtype, g: Generator):
        self.shape, self.schedule, self.dtype = shape, schedule, dtype
        self.centres = normal((3, torch.Size(shape[1:]).numel()), g)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        fits = tuple(x_t.shape) == self.shape and x_t.dtype == self.dtype
        require(fits, "the denoiser's x_t", describe(x_t), f"{self.dtype}, shape {self.shape}")
        require(
            isinstance(t, Tensor) and t.ndim == 0, "the denoiser's t", describe(t), "one time, a tensor of shape ()"
        )
        (alpha, sigma), x = self.schedule(t), x_t.double().flatten(1)
        seen = alpha**2 * 0.6**2 + sigma**2
        nearer = (-(x[:, None] - alpha * self.centres).square().sum(2) / (2 * seen)).softmax(1) @ self.centres
        return (nearer + alpha * 0.6**2 / seen * (x - alpha * nearer)).reshape(self.shape).to(self.dtype)


def _draw_measured(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], operator: Operator, schedule: Schedule, zeta: float, dtype=torch.float64
    ) -> Inputs:
        denoise = _Clouds(shape, schedule, dtype, g)
        y = operators.observe(operator, normal(shape, g, dtype), 0.3, g)
        return denoise, operator, operator(y) if shape == (3, 4) else y, schedule, zeta

    matrix, bent = operators.matrix(normal((2, 3), g)), normal((2, 2), g)
    # The second picture was not measured at all: its misfit is 0 from the beginning to the end.
    some = operators.mask(torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool())
    return [
        case((4, 3), matrix, Linear(), 1.0),
        case((3, 4), some, Linear(), 0.5),
        case((2, 3, 2, 2), operators.grey(), Cosine(), 2.0, torch.float32),  # pictures seen in grey
        case((1, 2), lambda x: torch.tanh(x @ bent), DDPM(), 1.0),  # a batch of one; the operator is not linear
        case((3, 3), matrix, Cosine(), -0.5),  # away from the measurement
        case((2, 3), matrix, Linear(), 0.0),  # no guidance
    ]


def dps(denoise: Denoise, operator: Operator, y: Tensor, schedule: Schedule, zeta: float) -> Sampler:
    """Ancestral steps from guesses x̂0 − (ζ/r)·(σ²/α)·∇_{x_t} r², r = ‖y − A(x̂0)‖."""
    guided = guidance.dps(denoise, operator, y, schedule, zeta)

    def sampler(noise: Tensor, times: Tensor, generator: Generator) -> Tensor:
        *_, x = sample(guided, noise, times, ddpm(schedule), generator)
        return x

    return sampler


def _sampled(sampler: Sampler, denoise: _Clouds, operator: Operator, y: Tensor, *rest: object) -> tuple[Tensor, ...]:
    """Two runs from one noise and one seed, a run that ends early, and the noise afterwards."""
    noise = normal(denoise.shape, Generator().manual_seed(len(y)), denoise.dtype)
    grid = torch.tensor([0.95, 0.6, 0.2, 0.0], dtype=torch.float64)
    runs = [sampler(noise, grid, Generator().manual_seed(9_000_017 + len(y))) for _ in range(2)]
    return torch.stack(runs), sampler(noise, grid[:3], Generator().manual_seed(9_000_017)), noise


def _norm(miss: Tensor) -> Tensor:
    return torch.linalg.vector_norm(miss.flatten(1), dim=1)


def _walk(
    denoise: Denoise, operator: Operator, y: Tensor, schedule: Schedule, zeta: float,
    *, value: Callable[[Tensor], Tensor] = _norm, through: bool = True, sign: float = -2.0, factor: bool = True,
    into: str = "guess",
) -> Sampler:  # fmt: skip
    """Written out, with what mistakes change left open: the keywords."""

    def sampler(noise: Tensor, times: Tensor, generator: Generator) -> Tensor:
        x = noise
        for t, s in pairwise(times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
            leaf = x.detach().requires_grad_()
            x0 = denoise(leaf, t)
            leaf = leaf if through else (x0 := x0.detach().requires_grad_())
            push = sign * zeta * torch.autograd.grad(value(y - operator(x0)).sum(), leaf)[0]
            x0 = x0.detach() + (into == "guess") * (sigma**2 / alpha if factor else 1.0) * push
            r = alpha * sigma_s / (alpha_s * sigma)
            x = r * sigma_s / sigma * x + alpha_s * (1 - r**2) * x0
            fresh = (1 - r**2).sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + sigma_s * fresh + (into == "step") * push
        return x

    return sampler


def _by_jacobian(denoise: Denoise, operator: Operator, y: Tensor, schedule: Schedule, zeta: float) -> Sampler:
    """First the pull at x̂0, a unit vector seen through the operator, then Jᵀ of it; the step by way of ε̂."""

    def sampler(noise: Tensor, times: Tensor, generator: Generator) -> Tensor:
        x = noise.clone()
        for t, s in pairwise(times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
            x = x.detach().requires_grad_()
            x0 = denoise(x, t)
            guess = x0.detach().requires_grad_()
            seen = operator(guess)
            miss = (y - seen).detach()
            length = miss.flatten(1).norm(dim=1).reshape(-1, *[1] * (miss.ndim - 1))
            pull = torch.autograd.grad(seen, guess, miss / length.clamp(min=1e-30))[0]
            x0 = (x0 + 2 * zeta * sigma**2 / alpha * torch.autograd.grad(x0, x, pull, retain_graph=True)[0]).detach()
            kept = sigma_s**2 / sigma * alpha / alpha_s
            eps = (x.detach() - alpha * x0) / sigma
            fresh = (sigma_s**2 - kept**2).clamp(min=0).sqrt() * torch.empty_like(x0).normal_(generator=generator)
            x = alpha_s * x0 + kept * eps + fresh
        return x

    return sampler


EXERCISE = Exercise(
    id="03-dps",
    title="Build: diffusion posterior sampling",
    points=6,
    difficulty=5,
    importance=5,
    minutes=45,
    draw=_draw_measured,
    reference=dps,
    probe=_sampled,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake(
            "no-chain-rule",
            lambda *inputs: _walk(*inputs, through=False),
            "You differentiated at x̂0. The score lives at x_t: follow the chain rule through the denoiser. "
            "It turns a correction of measured pixels into one of all that go with them.",
        ),
        Mistake(
            "not-scaled",
            lambda *inputs: _walk(*inputs, value=lambda miss: miss.flatten(1).square().sum(1), sign=-1.0),
            "You pushed along ∇r² without dividing by r. Then the push grows with the misfit, and early on, where the "
            "guess is far off, it throws the picture away. Scale it: ζ/r.",
        ),
        Mistake(
            "whole-batch",
            lambda *inputs: _walk(*inputs, value=lambda miss: miss.norm()),
            "You took one norm over the whole batch, so that a picture is pushed less when others are far off. Every "
            "picture has an r of its own, shape (B,).",
        ),
        Mistake(
            "uphill",
            lambda *inputs: _walk(*inputs, sign=2.0),
            "You moved away from the measurement. The misfit is to shrink: subtract its gradient.",
        ),
        Mistake(
            "no-factor",
            lambda *inputs: _walk(*inputs, factor=False),
            "You added the term of the score to x̂0 as it is. A score that grows by g makes x̂0 grow by (σ²/α)·g.",
        ),
        Mistake(
            "into-the-step",
            lambda *inputs: _walk(*inputs, into="step"),
            "You added the push to x_s after the step, as the paper does. Here it goes into the guess, so that one ζ "
            "means the same for every number of steps.",
        ),
    ),
    alternatives=(_by_jacobian,),
    hints=(
        "One loop over neighbouring times. In it: a leaf, the guess, r², its gradient, the better guess, the step.",
        "`leaf = x.detach().requires_grad_()`, `x0 = denoise(leaf, t)`, and one scalar to differentiate: the sum of "
        "all r². Each picture's gradient is then divided by its own r; use `torch.where(r > 0, ..., 0.0)`.",
        "`x0.detach() - sigma**2 / alpha * torch.where(r > 0, zeta / r, 0.0) * gradient`, with r of shape (B, 1, …); "
        "then mean and noise of the step with `torch.randn(x.shape, generator=generator, dtype=x.dtype)`.",
    ),
    expected="ten garments at ζ = 3, 20 steps (5 seeds): misfit 0.21 ± 0.03 per number, 8.2 ± 0.8 named right; not "
    "guided 0.69 ± 0.05 and 1.6 ± 1.3; with the next one's measurement 0.79 ± 0.07 and 0.",
    trap="near t = 0 the denoiser hardly changes its input, and there the gradient at x̂0 and the one at x_t agree. And "
    "measured pixels come right in every version: a small residual is no proof that the others do.",
    shortcuts=("minidiff.guidance.likelihood", "minidiff.samplers.ddim"),
)
