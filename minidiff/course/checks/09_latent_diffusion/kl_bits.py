"""Exercise 09-kl-bits: how many bits a latent holds."""

from math import log

import torch
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from minidiff.codecs.vae import Posterior
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_posteriors(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], spread: float = 1.0, dtype: torch.dtype = torch.float64) -> Inputs:
        return normal(shape, g, dtype), spread * normal(shape, g, dtype) - 1

    prior = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    narrow = torch.full((2, 3), -20.0, dtype=torch.float64)
    return [
        case((3, 2, 4, 2)),
        case((4, 4, 4, 4)),  # as many pictures as channels, rows and columns
        case((1, 4, 2, 3)),  # one picture
        case((3, 2, 2, 3), dtype=torch.float32),
        case((2, 5), spread=3.0),  # vectors
        (prior, prior.clone()),  # the posterior is the prior: it says nothing
        (normal((2, 3), g), narrow),  # hardly any noise: many bits
    ]


def kl_bits(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, 1)) of each picture in bits, (B,)."""
    return Posterior(mean, log_variance).kl() / log(2)


def _terms(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The KL of every single number, in bits."""
    return (mean**2 + log_variance.exp() - 1 - log_variance) / (2 * log(2))


def _sign(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean**2 + log_variance.exp() - 1 + log_variance).flatten(1).sum(1) / (2 * log(2))


def _deviations(mean: Tensor, log_variance: Tensor) -> Tensor:
    return _terms(mean, 2 * log_variance).flatten(1).sum(1)


def _reversed(mean: Tensor, log_variance: Tensor) -> Tensor:
    terms = (1 + mean**2) * torch.exp(-log_variance) - 1 + log_variance
    return terms.flatten(1).sum(1) / (2 * log(2))


def _by_distributions(mean: Tensor, log_variance: Tensor) -> Tensor:
    nats = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    return nats.reshape(len(mean), -1).sum(1) / log(2)


def _one_by_one(mean: Tensor, log_variance: Tensor) -> Tensor:
    return torch.stack([_terms(m, v).sum() for m, v in zip(mean, log_variance)])


EXERCISE = Exercise(
    id="09-kl-bits",
    title="How many bits does a latent hold?",
    points=2,
    difficulty=1,
    importance=4,
    minutes=8,
    draw=_draw_posteriors,
    reference=kl_bits,
    mistakes=(
        Mistake(
            "mean-over-numbers",
            lambda mean, log_variance: _terms(mean, log_variance).flatten(1).mean(1),
            "You took the mean over the numbers of a latent. That is bits per number. The numbers are independent, so "
            "that the bits of a picture are their sum.",
        ),
        Mistake(
            "nats",
            lambda mean, log_variance: _terms(mean, log_variance).flatten(1).sum(1) * log(2),
            "Your result is in nats: a natural logarithm counts in units of ln 2 = 0.693 bits. Divide by ln 2.",
        ),
        Mistake(
            "sign-of-the-logarithm",
            _sign,
            "You added ln σ². Then a narrow posterior, σ → 0, would cost less than nothing. It costs −ln σ²: the "
            "more exactly a number is told, the more bits it takes.",
        ),
        Mistake(
            "deviation-for-variance",
            _deviations,
            "You read `log_variance` as ln σ. It is ln σ²: its exponential is the variance already, nothing is to be "
            "squared or doubled.",
        ),
        Mistake(
            "whole-batch",
            lambda mean, log_variance: _terms(mean, log_variance).sum(),
            "You added up the whole batch. Each picture has bits of its own: flatten all axes but the first and sum "
            "over what is left.",
        ),
        Mistake(
            "the-other-way-round",
            _reversed,
            "You computed KL(N(0, 1) ‖ q), the other way round. The average is over what the encoder sends, so over "
            "q: its variance stands above, not below.",
        ),
    ),
    alternatives=(_by_distributions, _one_by_one),
    hints=(
        "First the KL of one number, from its mean and variance. What do many independent numbers cost together?",
        "One number: ½(μ² + σ² − 1 − ln σ²) nats, with σ² = `log_variance.exp()`.",
        "`0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)`, then `.flatten(1).sum(1) / math.log(2)`.",
    ),
    expected="5,689 ± 17 bits for a picture of 98,304 bits (5 sets of 64). Of them 0.29 ± 0.01 lie where something is "
    "painted, on 0.25 ± 0.01 of the places: an empty place costs nearly as much.",
    trap="a mean over the numbers is the loss that autoencoders are trained with, so that it looks familiar; and in "
    "nats everything is right but for a factor, which the weight of the KL swallows.",
    rtol=1e-4,
)
