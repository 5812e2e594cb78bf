"""Guidance: functions from denoisers to denoisers.

A `Denoise` is a function (x_t, t) → x̂0 with its condition already bound. Everything here takes such functions and
returns one, so guidance nests, samplers never see conditions, and guidance never sees a sampler's state.

Working on x̂0 loses nothing. Tweedie's formula, ∇log p(x_t) = (α·E[x0|x_t] − x_t)/σ², is affine, so that adding g to
a score is adding (σ²/α)·g to x̂0, and an extrapolation of scores is the same extrapolation of x̂0, ε, v or velocity.

The strength is the lecture's w. Classifier guidance adds w·∇log p(y|x_t): w = 1 is Bayes' rule. Classifier-free
guidance is (1 + w)·cond − w·uncond: w = 0 is the plain conditional, w = −1 the unconditional model.
`w` may be a number (Python's, NumPy's, a 0-d tensor), or a tensor of shape (B,) with one strength per picture.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minidiff.operators import Operator, misfit, residual
from minidiff.schedules import Schedule
from minidiff.shapes import differentiable, expand_like
from minidiff.validate import describe, number, require, require_broadcast, require_floating

Denoise = Callable[[Tensor, Tensor], Tensor]
LogProb = Callable[[Tensor, Tensor], Tensor]
Weight = float | Tensor


def _strength(w: Weight, argument: str = "w") -> Weight:
    """w as a Python number, or as a tensor (B,); checked when guidance is made, so that no step waits for a GPU."""
    if isinstance(w, Tensor) and (w.ndim > 0 or w.requires_grad):
        require(bool(torch.isfinite(w).all()), argument, w.tolist(), "finite strengths")
        return w
    return number(argument, w, "a finite number, or a tensor (B,) with one per picture", math.isfinite)


def _weight(w: Weight, x: Tensor) -> Weight:
    """w so that it broadcasts over x, in float32 or better."""
    if not isinstance(w, Tensor):
        return w
    require(w.ndim == 0 or tuple(w.shape) == (len(x),), "w", describe(w), f"a number or shape ({len(x)},)")
    return expand_like(w.to(x.device, _at_least_fp32(x)), x)


def _at_least_fp32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _is_zero(w: Weight) -> bool:
    return not isinstance(w, Tensor) and w == 0


def from_guidance_scale(guidance_scale: float) -> float:
    """Other libraries' `guidance_scale` s means uncond + s·(cond − uncond); here w = s − 1 (so s = 7.5 is w = 6.5)."""
    return guidance_scale - 1.0


def bind(denoiser: Callable[..., Tensor], **cond: Any) -> Denoise:
    """Fix the condition: `bind(model, y=labels)` is a function of (x_t, t) alone."""
    return lambda x_t, t: denoiser(x_t, t, **cond)


def mix(good: Denoise, *others: tuple[Denoise, Weight]) -> Denoise:
    """good + Σᵢ wᵢ·(good − badᵢ): guidance with any number of branches, each with a strength of its own.

    Every combination of denoisers whose weights add up to 1 can be written so; LTX-2 (arXiv 2601.03233) steers text and
    the other modality by two of them. A branch with w = 0 is never evaluated; without branches it is `good`.
    """
    given = [(bad, _strength(w)) for bad, w in others]
    branches = [(bad, w) for bad, w in given if not _is_zero(w)]
    if not branches:
        return good
    weights = [w for _, w in branches]
    return lambda x_t, t: _mixed(x_t, good(x_t, t), [bad(x_t, t) for bad, _ in branches], weights)


def _mixed(x_t: Tensor, x0: Tensor, bad: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    mixed = x0
    for other, w in zip(bad, weights):
        mixed = mixed + _weight(w, x_t) * (x0 - other)
    return mixed.to(x0.dtype)


def extrapolate(good: Denoise, bad: Denoise, w: Weight) -> Denoise:
    """good + w·(good − bad), `mix` with one branch: one formula, several names, by what `bad` is.

    the unconditional model   classifier-free guidance      (arXiv 2207.12598)
    another prompt            negative prompt
    a weaker model            autoguidance                  (arXiv 2406.02507)

    w = 0 returns `good` to the bit and never evaluates `bad`; w = −1 is `bad`.
    """
    return mix(good, (bad, w))


Condition = Mapping[str, Tensor]


def mix_conditions(denoiser: Callable[..., Tensor], cond: Condition, *others: tuple[Condition, Weight]) -> Denoise:
    """`mix` of one denoiser under several conditions, all branches in one call of the network.

    The same numbers as `mix(bind(denoiser, **cond), (bind(denoiser, **other), w), …)` up to rounding, faster where a
    call has a fixed cost. Entries of `cond` have shape (B, …) or are a scalar, those of `others` the same or without B.
    `ValueError` for conditions that are no dicts of tensors with the same keys.
    """
    _require_condition("cond", cond)
    for other, _ in others:
        _require_condition("null", other)
        require(cond.keys() == other.keys(), "null", sorted(other), f"the keys of cond, {sorted(cond)}")
    n, weights = 1 + len(others), [_strength(w) for _, w in others]

    def rows(name: str, x_t: Tensor) -> Tensor:
        first = cond[name].expand(len(x_t)) if cond[name].ndim == 0 else cond[name]
        require(len(first) == len(x_t), f"cond[{name!r}]", describe(first), f"one row for each of {len(x_t)} pictures")
        for other, _ in others:
            require_broadcast(f"null[{name!r}]", other[name], first, f"cond[{name!r}]")
        return torch.cat([first, *(other[name].to(first).expand_as(first) for other, _ in others)]).to(x_t.device)

    def mixed(x_t: Tensor, t: Tensor) -> Tensor:
        times = torch.cat([t] * n) if t.ndim else t
        x0, *bad = denoiser(torch.cat([x_t] * n), times, **{k: rows(k, x_t) for k in cond}).chunk(n)
        return _mixed(x_t, x0, bad, weights)

    return mixed


def _require_condition(argument: str, cond: object) -> None:
    fits = isinstance(cond, Mapping) and all(isinstance(v, Tensor) for v in cond.values())
    got = {k: describe(v) for k, v in cond.items()} if isinstance(cond, Mapping) else describe(cond)
    require(fits, argument, got, 'a dict of tensors, such as {"y": torch.tensor([3, 1])}')


def cfg(denoiser: Callable[..., Tensor], cond: Condition, null: Condition, w: Weight) -> Denoise:
    """Classifier-free guidance with both branches in one call of the network, on a batch of 2B.

    The same numbers as `extrapolate(bind(denoiser, **cond), bind(denoiser, **null), w)` up to rounding.
    """
    return mix_conditions(denoiser, cond, (null, w))


@contextlib.contextmanager
def _differentiating(argument: str) -> Iterator[None]:
    """Gradients inside, also for a caller under torch.no_grad() or torch.inference_mode()."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        expected = "tensors made outside of it, or clones of them, or torch.no_grad() in its place"
        raise ValueError(f"{argument}: got tensors made in torch.inference_mode(), expected {expected}") from error


def _gradient(log_prob: LogProb, x: Tensor, t: Tensor) -> Tensor:
    with _differentiating("log_prob"):
        x, t = differentiable(x).detach().requires_grad_(), differentiable(t)
        value = log_prob(x, t)
        require(
            value.shape == x.shape[:1],
            "log_prob",
            describe(value),
            f"one value per picture, shape ({len(x)},)",
        )
        require(value.requires_grad, "log_prob", "values without a gradient", "a differentiable function of x_t")
        return torch.autograd.grad(value.sum(), x)[0]


def _moved(x0: Tensor, w: Weight, schedule: Schedule, x: Tensor, t: Tensor, gradient: Tensor) -> Tensor:
    """x̂0 + w·(σ²/α)·gradient. σ²/α is the factor from a score to x̂0, in float32 or better: near α = 0 it is large.

    0 where α = 0: pure noise tells nothing of y, so the gradient is 0.
    """
    alpha, sigma = schedule(expand_like(t.to(_at_least_fp32(t)), x))
    factor = torch.where(alpha > 0, sigma**2 / alpha.clamp(min=torch.finfo(alpha.dtype).tiny), 0.0)
    factor = factor.to(x.device, _at_least_fp32(x)) if factor.ndim else factor
    return (x0 + _weight(w, x) * factor * gradient.to(_at_least_fp32(x))).to(x0.dtype)


def classifier(denoise: Denoise, log_prob: LogProb, schedule: Schedule, w: Weight = 1.0) -> Denoise:
    """Classifier guidance: x̂0 + w·(σ²/α)·∇_x log p(y|x_t), i.e. ε̂ = ε − σ·w·∇_x log p(y|x_t) (arXiv 2105.05233).

    `log_prob(x_t, t)` gives log p(y|x_t) of the wanted y, shape (B,), for a classifier that has seen *noisy* pictures.
    w = 1 is Bayes' rule; w = 0 returns `denoise` to the bit.

    Start the grid a little below t = 1 where α(1) = 0 (Linear, Cosine): times.linear(n, start=0.999). There x̂0 has a
    limit as α → 0, but σ²/α·∇ is ∞·0, taken as 0; one step from t = 1 itself makes every sampler first order.
    """
    w = _strength(w)
    if _is_zero(w):
        return denoise

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        gradient = _gradient(log_prob, x_t, t)
        return _moved(denoise(x_t, t), w, schedule, x_t, t, gradient)

    return guided


def likelihood(
    denoise: Denoise, log_likelihood: Callable[[Tensor], Tensor], schedule: Schedule, w: Weight = 1.0
) -> Denoise:
    """Plug in a forward model p(y|x0), evaluated at x̂0(x_t) and differentiated *through* the denoiser.

    This is diffusion posterior sampling (arXiv 2209.14687): ∇_x log p(y | x̂0(x_t)) stands in for ∇_x log p(y|x_t),
    which is biased except where p(x0|x_t) is narrow. `log_likelihood(x0)` has shape (B,). w = 0 is `denoise`.
    """
    w = _strength(w)
    if _is_zero(w):
        return denoise

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        x0, gradient = _through(denoise, log_likelihood, x_t, t)
        return _moved(x0, w, schedule, x_t, t, gradient)

    return guided


def _through(
    denoise: Denoise, log_likelihood: Callable[[Tensor], Tensor], x_t: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """x̂0(x_t) and ∇_x log_likelihood(x̂0(x_t)), both like x_t."""
    with _differentiating("denoise or log_likelihood"):
        leaf = differentiable(x_t).detach().requires_grad_()
        x0 = denoise(leaf, differentiable(t))
        value = log_likelihood(x0)
        require(value.shape == x_t.shape[:1], "log_likelihood", describe(value), f"shape ({len(x_t)},)")
        require(value.requires_grad, "log_likelihood", "values without a gradient", "a differentiable function")
        return x0.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def dps(denoise: Denoise, operator: Operator, y: Tensor, schedule: Schedule, zeta: Weight = 1.0) -> Denoise:
    """`likelihood` for y = A(x0) + n with the strength of arXiv 2209.14687, Algorithm 1: ζ/r instead of 1/(2·noise²),

        score + (ζ/r)·(−∇_x r²) = score − 2ζ·∇_x r,        r = ‖y − A(x̂0(x_t))‖,

    so that the gradient is bounded however far off x̂0 is, and the noise need not be known. The paper adds −(ζ/r)·∇r² to
    every *step*, we to the *score*: here ζ means the same for every number of steps. zeta = 0 is `denoise`. Where
    r = 0 the gradient is 0: there is nothing to explain.
    """
    minus_r = lambda x0: -residual(operator, x0, y) * y[0].numel() ** 0.5
    return likelihood(denoise, minus_r, schedule, 2 * _strength(zeta, "zeta"))


def project(denoise: Denoise, operator: Operator, inverse: Operator, y: Tensor) -> Denoise:
    """Naive projection: x̂0 + A⁺(y − A(x̂0)), the nearest picture that explains y to the last bit (arXiv 2212.00490).

    inverse: A⁺, such as `operators.pseudo_inverse(operator, shape)`. Right only if y is free of noise, and even then it
    does not sample p(x0|y): what is seen changes the denoiser's guess of the rest only through x_t, and too little.
    With `operators.mask` it is `inpaint`.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        return x0 + inverse(misfit(operator, x0, y))

    return guided


def inpaint(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Replace x̂0 by `known` where `mask` is true; both broadcast over x_t, whose dtype and device the result has."""
    require(isinstance(mask, Tensor) and mask.dtype == torch.bool, "mask", describe(mask), "a boolean tensor")
    require_floating("known", known)

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        require_broadcast("mask", mask, x_t, "x_t")
        require_broadcast("known", known, x_t, "x_t")
        x0 = denoise(x_t, t)
        return torch.where(mask.to(x0.device), known.to(x0), x0)

    return guided


def within(guided: Denoise, plain: Denoise, low: float, high: float) -> Denoise:
    """`guided` while low ≤ t ≤ high, `plain` outside: a guidance interval (arXiv 2404.07724)."""
    low, high = (number("low, high", end, "0 ≤ low ≤ high ≤ 1", math.isfinite) for end in (low, high))
    require(0.0 <= low <= high <= 1.0, "low, high", (low, high), "0 ≤ low ≤ high ≤ 1")

    def switched(x_t: Tensor, t: Tensor) -> Tensor:
        require(t.ndim == 0, "t", describe(t), "a scalar time (all pictures of a sampler's step share it)")
        return guided(x_t, t) if low <= float(t) <= high else plain(x_t, t)

    return switched
