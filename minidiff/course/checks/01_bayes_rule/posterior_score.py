"""Exercise 01-posterior-score: Bayes' rule for scores."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_scores(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: float, dtype: torch.dtype = torch.float64, size: float = 1.0) -> Inputs:
        prior, likelihood = (size * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2))
        return prior.to(dtype), likelihood.to(dtype), w

    return [
        case((5, 2), w=1.0),  # Bayes' rule
        case((5, 2), w=2.5),
        case((5, 2), w=0.0),  # the condition switched off
        case((1, 3), w=-1.0),  # away from the condition, batch of one
        case((2, 2), w=-2.5),
        case((3, 2), w=7.53),
        case((3, 1), w=0.25, size=1e4),  # scores near the data are large
        case((2, 1, 4, 4), w=3.0, dtype=torch.float32),  # pictures
    ]


def posterior_score(prior_score: Tensor, likelihood_score: Tensor, w: float) -> Tensor:
    """∇ log p(x|y) with the likelihood weighed by w."""
    return prior_score + w * likelihood_score


EXERCISE = Exercise(
    id="01-posterior-score",
    title="Bayes' rule for scores",
    points=2,
    difficulty=1,
    importance=5,
    minutes=5,
    draw=_draw_scores,
    reference=posterior_score,
    mistakes=(
        Mistake(
            "w-forgotten",
            lambda prior_score, likelihood_score, w: prior_score + likelihood_score,
            "You left out w: the two scores are added as they are, which is right only at w = 1.",
        ),
        Mistake(
            "one-plus-w",
            lambda prior_score, likelihood_score, w: prior_score + (1 + w) * likelihood_score,
            "You weighed the likelihood by 1 + w instead of w. The factor 1 + w belongs to classifier-free guidance, "
            "which starts from the conditional score; here you start from the unconditional one.",
        ),
        Mistake(
            "mixture",
            lambda prior_score, likelihood_score, w: (1 - w) * prior_score + w * likelihood_score,
            "You mixed the two scores with weights 1 − w and w. Bayes' rule multiplies the densities, so their "
            "logarithms add, and the prior keeps the weight 1.",
        ),
        Mistake(
            "minus",
            lambda prior_score, likelihood_score, w: prior_score - w * likelihood_score,
            "You subtracted the likelihood's score. The minus sign in Bayes' rule belongs to log p(y), "
            "whose gradient with respect to x is zero.",
        ),
        Mistake(
            "w-on-both",
            lambda prior_score, likelihood_score, w: w * (prior_score + likelihood_score),
            "You weighed both terms by w. Only the likelihood is weighed; the prior keeps the weight 1.",
        ),
    ),
    alternatives=(lambda prior_score, likelihood_score, w: torch.add(prior_score, likelihood_score, alpha=w),),
    hints=(
        "Write down log p(x|y) with Bayes' rule: three terms. Which of them depend on x?",
        "The gradient of log p(y) with respect to x is zero, so two scores are left, and they add.",
        "At w = 1: `prior_score + likelihood_score`. Now let w weigh the term that speaks of y.",
    ),
    expected="at w = 1 the sum equals the exact conditional score; the largest difference is below 1e-12 in float64.",
    trap="at w = 1, the value everybody tries first, leaving w out, mixing and Bayes' rule can all look plausible; "
    "try w = 0, which must give back the prior's score and nothing else.",
)
