"""Exercise 01-bayes-gap: which classifier may guide?"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import Mixture, ring, three_modes
from minidiff.schedules import Karras, Linear, Schedule

LogDensity = Callable[[Tensor], Tensor]


_LINEAR = Linear()


def _draw_triples(seed: int) -> list[Inputs]:
    g, line, plane = Generator().manual_seed(seed), three_modes(), ring(6, n_classes=3)

    def case(
        m: Mixture, b: int, t: float, y: int, c: float = 0.0, stretch: float = 1.0, schedule: Schedule = _LINEAR
    ) -> Inputs:
        at = torch.tensor(t, dtype=torch.float64)
        x = schedule(at)[1] * torch.randn(b, m.dim, generator=g, dtype=torch.float64)

        def lent(f: LogDensity) -> LogDensity:
            def log_density(x: Tensor) -> Tensor:
                assert x.shape[1:] == (m.dim,), f"x has shape {tuple(x.shape)}, expected points (B, {m.dim})"
                return f(x)

            return log_density

        return (
            lent(lambda x: m.log_prob(x, at, schedule)),
            lent(lambda x: stretch * m.log_prob_label(x, at, schedule, y) + c),
            lent(lambda x: m.log_prob(x, at, schedule, y)),
            x,
        )

    return [
        case(line, 8, t=0.3, y=2),  # Bayes' rule holds
        case(line, 8, t=0.5, y=0, c=2.0),  # and still does with any constant
        case(plane, 6, t=0.5, y=1, stretch=0.5),
        case(plane, 1, t=0.5, y=0, c=-1.0, stretch=-40.0),  # batch of one, far worse than none
        case(line, 3, t=0.5, y=1, stretch=1 + 1e-6),  # next to right
        case(plane, 2, t=1.0, y=1, stretch=0.0, schedule=Karras()),  # σ = 80: tiny scores, and no classifier
    ]


def slope(f: LogDensity, x: Tensor) -> Tensor:
    """∇f(x) for f: (B, D) → (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def bayes_gap(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> float:
    """‖∇log p(x) + ∇log p(y|x) − ∇log p(x|y)‖ / ‖∇log p(x|y)‖ over the batch."""
    prior, likelihood, posterior = (slope(f, x) for f in (log_prior, log_likelihood, log_posterior))
    return float((prior + likelihood - posterior).norm() / posterior.norm())


def _gap_of_values(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> float:
    gap = log_prior(x) + log_likelihood(x) - log_posterior(x)
    return float(gap.norm() / log_posterior(x).norm())


def _measure(rule: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., float]:
    """Another measure, from the gradients of prior, likelihood and posterior."""
    return lambda log_prior, log_likelihood, log_posterior, x: float(
        rule(slope(log_prior, x), slope(log_likelihood, x), slope(log_posterior, x))
    )


def _in_one_go(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> Tensor:
    gap = slope(lambda v: log_prior(v) + log_likelihood(v) - log_posterior(v), x)
    return gap.square().sum().sqrt() / slope(log_posterior, x).square().sum().sqrt()


EXERCISE = Exercise(
    id="01-bayes-gap",
    title="Which classifier may guide?",
    points=3,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_triples,
    reference=bayes_gap,
    mistakes=(
        Mistake(
            "values",
            _gap_of_values,
            "You compared the logarithms themselves. They differ by log p(y), and by any constant that the classifier "
            "is off by, which does no harm. Compare their gradients with respect to x.",
        ),
        Mistake(
            "signed",
            _measure(lambda prior, likelihood, posterior: (prior + likelihood - posterior).sum() / posterior.sum()),
            "You added up differences with their signs, so that errors to the left and to the right cancel. Take a "
            "norm: square first, then add.",
        ),
        Mistake(
            "not-relative",
            _measure(lambda prior, likelihood, posterior: (prior + likelihood - posterior).norm()),
            "You did not divide by ‖∇log p(x|y)‖. Scores grow without limit as t goes to 0: an error of 1 may be "
            "everything or nothing.",
        ),
        Mistake(
            "squared",
            _measure(
                lambda prior, likelihood, posterior: (
                    (prior + likelihood - posterior).square().sum() / posterior.square().sum()
                )
            ),
            "This is the square of the relative error: take the root. A gap of 10 % would pass as 1 %.",
        ),
        Mistake(
            "no-prior",
            _measure(lambda prior, likelihood, posterior: (likelihood - posterior).norm() / posterior.norm()),
            "You compared the classifier's gradient alone with that of p(x|y). The prior's must be added to it.",
        ),
        Mistake(
            "no-likelihood",
            _measure(lambda prior, likelihood, posterior: (prior - posterior).norm() / posterior.norm()),
            "You left the classifier out: this is the gap that guidance is there to close, whatever the classifier.",
        ),
    ),
    alternatives=(_in_one_go,),
    hints=(
        "You need three gradients with respect to x. Write a small helper: x must require a gradient, and "
        "`torch.autograd.grad` wants one number, so add up the batch.",
        "`x = x.detach().requires_grad_()`, then `torch.autograd.grad(f(x).sum(), x)[0]` has shape (B, D). Adding up "
        "is harmless: f of one point does not depend on the others.",
        "`gap = prior + likelihood - posterior`, and `gap.norm() / posterior.norm()` is the number.",
    ),
    expected="right, with or without a constant: below 1e-15; twice as sure: 0.60 ± 0.01; told t = 0.4 instead of "
    "0.5: 0.51 ± 0.02; a clean one: 2.79 ± 0.08 (5 seeds).",
    trap="the logarithms themselves look like the natural thing to compare. But log p(x) + log p(y|x) − log p(x|y) "
    "is log p(y), not 0, even for the perfect classifier; only its gradient is 0. (And the prediction: twice as sure "
    "is exactly as far off as no classifier, as both are wrong by one times the classifier's gradient.)",
    atol=1e-9,
)
