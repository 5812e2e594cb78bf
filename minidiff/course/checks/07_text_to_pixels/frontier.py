"""Exercise 07-frontier: which runs are worth their cost."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, digits: int = 6, unit: float = 1.0) -> Inputs:
        cost = torch.rand(n, generator=g, dtype=torch.float64)
        score = 0.5 * cost + torch.rand(n, generator=g, dtype=torch.float64)
        return 1e9 * (0.1 + cost).round(decimals=digits), unit * score.round(decimals=digits)

    some = lambda *numbers: torch.tensor(numbers, dtype=torch.float64)
    return [
        case(30),
        case(40, digits=1),  # many ties in both
        case(12, unit=-1.0),  # scores below 0: a loss, turned round
        (some(1, 2, 3, 4, 5), some(0.1, 0.5, 0.52, 0.9, 0.91)),  # all of them, though some lie below the chord
        (some(2, 2, 1, 1, 3), some(0.5, 0.5, 0.3, 0.3, 0.5)),  # twins, and one that costs more for the same
        (some(3, 3, 3), some(0.9, 0.2, 0.9)),  # the same cost
        (some(1, 2, 3), some(0.7, 0.7, 0.7)),  # the same score
        (some(4, 1), some(0.1, 0.9)),  # the dearest is the worst
        (some(5), some(0.0)),  # one run
    ]


def on_frontier(cost: Tensor, score: Tensor) -> Tensor:
    """(N,) bool: no other run is at least as cheap and at least as good, and better in one of them."""
    fits = (cost <= cost[:, None]) & (score >= score[:, None])  # (run, another)
    better = (cost < cost[:, None]) | (score > score[:, None])
    return ~(fits & better).any(1)


def _strictly_both(cost: Tensor, score: Tensor) -> Tensor:
    return ~((cost < cost[:, None]) & (score > score[:, None])).any(1)


def _twins_lost(cost: Tensor, score: Tensor) -> Tensor:
    fits = (cost <= cost[:, None]) & (score >= score[:, None])
    return fits.sum(1) == 1


def _records(cost: Tensor, score: Tensor) -> Tensor:
    """In order of cost, whatever is as good as the best before it."""
    order = torch.argsort(cost, stable=True)
    best = score[order].cummax(0).values
    return torch.zeros(len(cost), dtype=torch.bool).index_put((order,), score[order] >= best)


def _upside_down(cost: Tensor, score: Tensor) -> Tensor:
    fits = (cost <= cost[:, None]) & (score <= score[:, None])
    better = (cost < cost[:, None]) | (score < score[:, None])
    return ~(fits & better).any(1)


def _hull(cost: Tensor, score: Tensor) -> Tensor:
    """Runs that are best at some price λ ≥ 0 of cost: score − λ·cost."""
    rise, more = score - score[:, None], cost - cost[:, None]  # (run, another)
    least = torch.where(more > 0, rise / more, 0.0).amax(1).clamp(min=0)
    most = torch.where(more < 0, rise / more, torch.inf).amin(1)
    return (least <= most) & ~((more == 0) & (rise > 0)).any(1)


def _one_by_one(cost: Tensor, score: Tensor) -> Tensor:
    keep = []
    for c, s in zip(cost.tolist(), score.tolist()):
        rivals = [(d, r) for d, r in zip(cost.tolist(), score.tolist()) if (d, r) != (c, s)]
        keep.append(not any(d <= c and r >= s for d, r in rivals))
    return torch.tensor(keep)


def _by_sorting(cost: Tensor, score: Tensor) -> Tensor:
    keep, best = torch.zeros(len(cost), dtype=torch.bool), -torch.inf
    for price in cost.unique().tolist():  # from cheap to dear
        here = cost == price
        top = float(score[here].max())
        keep |= here & (score == top) & (top > best)
        best = max(best, top)
    return keep


EXERCISE = Exercise(
    id="07-frontier",
    title="Which runs are worth their cost?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_runs,
    reference=on_frontier,
    mistakes=(
        Mistake(
            "beaten-in-both",
            _strictly_both,
            "You drop a run only if another is cheaper *and* better. One that is as good for less, or better for the "
            "same, beats it as well: at least equal in both, and better in one.",
        ),
        Mistake(
            "twins-lost",
            _twins_lost,
            "Two runs of equal cost and equal score beat each other in your answer, and both are gone. Neither is "
            "better in anything: a run is beaten only by one that is better in something.",
        ),
        Mistake(
            "as-good-is-kept",
            _records,
            "You go from cheap to dear and keep what is at least as good as the best so far. A dearer run with the "
            "*same* score is no gain; and of several runs at one cost only the best may stay.",
        ),
        Mistake(
            "upside-down",
            _upside_down,
            "You kept cheap runs with *low* scores. Cost should be low and the score high.",
        ),
        Mistake(
            "hull-only",
            _hull,
            "You kept the corners of the convex hull. A run below the straight line between two others is on the "
            "frontier as long as no single run beats it: half of one run and half of another cannot be had.",
        ),
    ),
    alternatives=(_one_by_one, _by_sorting),
    hints=(
        "When does run j beat run i? Write it with ≤ and ≥, then ask for one strict sign.",
        "All pairs at once: `cost <= cost[:, None]` is (run i, another j). Which sign has the score?",
        "`beaten = (at_least_as_good & (cheaper | better)).any(1)`; the frontier is `~beaten`.",
    ),
    expected="3 to 4 of the 12 ways (5 seeds). At 4 calls for a picture 0.73 ± 0.10 are right without guidance in 4 "
    "steps, 0.39 ± 0.11 with guidance in 2; no guided way with fewer than 8 steps is ever on the frontier.",
    trap="measured costs and scores hardly ever tie, and then all of these but the hull and the wrong side agree. "
    "Shares out of 16 tie all the time.",
)
