"""Exercise 06-mismatch-auc: is a score any good at finding mismatches?"""

import torch
from torch import Generator, Tensor

from minidiff import retrieval
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_scores(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, share: float, digits: int = 9, unit: float = 1.0) -> Inputs:
        matched = torch.rand(n, generator=g) > share
        matched[0], matched[1] = True, False
        return unit * (normal((n,), g) + 1.2 * matched).round(decimals=digits), matched

    return [
        case(30, 0.3),
        case(40, 0.5, digits=0),
        case(12, 0.8),
        case(2, 0.5),
        case(25, 0.5, unit=-1.0),  # worse than a coin
        case(25, 0.5, unit=1e-12),  # the order counts, not the unit
        case(9, 0.5, unit=0.0),  # the same of everything
    ]


def mismatch_auc(scores: Tensor, matched: Tensor) -> float:
    """P(a matched pair scores above a mismatched one) + ½·P(equal)."""
    return retrieval.auc(scores, matched)


def _compared(scores: Tensor, matched: Tensor, tie: float) -> float:
    gap = scores[matched][:, None] - scores[~matched][None]
    return float(((gap > 0).double() + tie * (gap == 0)).mean())


def _accuracy(scores: Tensor, matched: Tensor) -> float:
    return float(((scores > scores.mean()) == matched).double().mean())


EXERCISE = Exercise(
    id="06-mismatch-auc",
    title="How well does a score find mismatches?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_scores,
    reference=mismatch_auc,
    mistakes=(
        Mistake(
            "ties-lost",
            lambda scores, matched: _compared(scores, matched, 0.0),
            "You gave nothing for ties. A score that says the same of everything then has an AUC of 0 instead of ½, "
            "as if it were always wrong. Two equal scores are a coin flip: count ½.",
        ),
        Mistake(
            "ties-won",
            lambda scores, matched: _compared(scores, matched, 1.0),
            "You counted ties as wins. A score that says the same of everything would be perfect. Count ½.",
        ),
        Mistake(
            "upside-down",
            lambda scores, matched: 1 - mismatch_auc(scores, matched),
            "You asked how often a *mismatched* pair scores higher. Matched pairs are the ones that should.",
        ),
        Mistake(
            "accuracy",
            _accuracy,
            "You chose a threshold and counted right decisions. The AUC needs no threshold: it compares every matched "
            "pair with every mismatched one.",
        ),
        Mistake(
            "difference-of-means",
            lambda scores, matched: float(scores[matched].mean() - scores[~matched].mean()),
            "You subtracted the mean scores. That depends on the unit of the score; the AUC depends on the order only.",
        ),
    ),
    alternatives=(lambda scores, matched: _compared(scores, matched, 0.5),),
    hints=(
        "Take one matched and one mismatched pair at random. How likely does the matched one score higher?",
        "All such comparisons at once: `scores[matched][:, None] - scores[~matched][None, :]`.",
        "The mean of `(gap > 0) + 0.5 * (gap == 0)`.",
    ),
    expected="0.994 ± 0.004 for somebody else's text, 1.000 ± 0.001 for another number, 0.48 ± 0.03 for a text turned "
    "round (5 seeds); a constant score has 0.5 exactly.",
    trap="scores with many digits never tie, and then all three ways to count ties agree.",
)
