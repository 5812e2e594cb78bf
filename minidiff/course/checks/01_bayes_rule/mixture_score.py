"""Exercise 01-mixture-score: the score of a few hills."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic
from minidiff.schedules import Linear


def _draw_hills(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(x: Tensor, k: int, dtype: torch.dtype = torch.float64) -> Inputs:
        means, stds = torch.randn(k, generator=g) * 1.5, 0.4 + 0.4 * torch.rand(k, generator=g)
        weights = torch.rand(k, generator=g) + 0.2
        return tuple(v.to(dtype) for v in (x, means, stds, (weights.double() / weights.double().sum())))

    return [
        case(torch.randn(7, generator=g), k=3),
        case(torch.randn(5, generator=g), k=2),
        case(torch.tensor([60.0, -60.0]), k=3),  # so far out that every density is 0 in float64
        case(torch.randn(1, generator=g), k=1),  # one hill, one point
        case(torch.randn(6, generator=g), k=4, dtype=torch.float32),
    ]


def mixture_score(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    """The score of a 1-D Gaussian mixture."""
    mixture = isotropic(means[:, None], stds, weights=weights)
    return mixture.score(x[:, None], torch.zeros((), dtype=x.dtype), Linear())[:, 0]


def _log_normal(x: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """log N(x; m_k, s_k²) without its constant −½·log 2π: (B, K)."""
    return -0.5 * ((x[:, None] - means) / stds) ** 2 - stds.log()


def _pull(x: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    return (means - x[:, None]) / stds**2


def _blend(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor, pull: Tensor) -> Tensor:
    return ((weights.log() + _log_normal(x, means, stds)).softmax(1) * pull).sum(1)


def _bare_softmax(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    share = (weights.log() - 0.5 * ((x[:, None] - means) / stds) ** 2).softmax(1)
    return (share * _pull(x, means, stds)).sum(1)


def _by_division(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    density = weights * _log_normal(x, means, stds).exp()
    return (density * _pull(x, means, stds)).sum(1) / density.sum(1)


def _slope_of_density(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    density = weights * _log_normal(x, means, stds).exp() / (2 * torch.pi) ** 0.5
    return (density * _pull(x, means, stds)).sum(1)


def _by_autograd(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    log_p = (weights.log() + _log_normal(x, means, stds)).logsumexp(1)
    return torch.autograd.grad(log_p.sum(), x)[0]


EXERCISE = Exercise(
    id="01-mixture-score",
    title="The score of a few hills",
    points=3,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_hills,
    reference=mixture_score,
    mistakes=(
        Mistake(
            "prior-weights",
            lambda x, means, stds, weights: (weights * _pull(x, means, stds)).sum(1),
            "You averaged the hills' pulls with the fixed weights π_k. At x a hill counts by its responsibility "
            "r_k(x), its share of the density *there*: a far hill has no say.",
        ),
        Mistake(
            "no-variance",
            lambda x, means, stds, weights: _blend(x, means, stds, weights, means - x[:, None]),
            "Each hill's pull is missing its 1/s_k²: the slope of −(x − m)²/(2s²) is (m − x)/s².",
        ),
        Mistake(
            "std-for-variance",
            lambda x, means, stds, weights: _blend(x, means, stds, weights, (means - x[:, None]) / stds),
            "You divided the pull by the standard deviation s_k; it is the variance, s_k², that belongs there.",
        ),
        Mistake(
            "no-width",
            _bare_softmax,
            "Your responsibilities leave out the factor 1/s_k of each Gaussian: a wide hill is also a low one. It "
            "cancels only where all hills are equally wide; add −log s_k before the softmax.",
        ),
        Mistake(
            "underflow",
            _by_division,
            "The formula is right, but you divide a sum of densities by another, and far from all hills both are 0 "
            "in floating point, so that 0/0 gives NaN. Stay with logarithms and take the shares by a softmax.",
        ),
        Mistake(
            "slope-of-p",
            _slope_of_density,
            "This is the slope of p, not of log p: divide it by p(x), or use responsibilities that sum to 1. The "
            "score must be large far from the data, where p itself is flat.",
        ),
    ),
    alternatives=(_by_autograd,),
    hints=(
        "∇p/p with p = Σ π_k N_k: every term π_k ∇N_k equals π_k N_k·(m_k − x)/s_k². Divide by p: what is the factor?",
        "That factor is r_k = π_k N_k / Σ_j π_j N_j. Its logarithm, up to a constant: "
        "log π_k − log s_k − (x − m_k)²/(2s_k²). Which PyTorch function turns such logarithms into shares?",
        "`x[:, None] - means` has shape (B, K); a `.softmax(1)` of the logarithms gives the shares, and "
        "`(shares * pull).sum(1)` the score.",
    ),
    expected="at the centres of the three hills the score is 0.000, 0.032 and −0.000: next to nothing, and not quite 0 "
    "where a neighbour pulls (no random numbers here, so the spread is 0).",
    trap="inside a hill one responsibility is nearly 1, so wrong weights and missing widths hardly show. Look into a "
    "valley, where two hills pull, or at a point far out.",
    rtol=1e-4,
    atol=1e-5,
)
