"""Exercise 06-recall-at-k: recall at k."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_tables(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, m: int, k: int, tied: bool = False) -> Inputs:
        table, right = normal((n, m), g), torch.randint(m, (n,), generator=g)
        table[torch.arange(n), right] += 1.0
        return (table * 0 if tied else table), right, k

    return [case(12, 8, 1), case(20, 20, 3), case(15, 9, 5), case(6, 6, 6), case(5, 7, 2, tied=True)]


def recall_at_k(similarity: Tensor, right: Tensor, k: int) -> float:
    """Share of queries whose right answer is among the k most similar; ties count against."""
    own = similarity.gather(1, right[:, None])
    return float(((similarity >= own).sum(1) <= k).double().mean())


def _kind_to_ties(similarity: Tensor, right: Tensor, k: int) -> float:
    own = similarity.gather(1, right[:, None])
    return float(((similarity > own).sum(1) < k).double().mean())


def _off_by_one(similarity: Tensor, right: Tensor, k: int) -> float:
    own = similarity.gather(1, right[:, None])
    return float(((similarity >= own).sum(1) < k).double().mean())


EXERCISE = Exercise(
    id="06-recall-at-k",
    title="Recall at k",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_tables,
    reference=recall_at_k,
    mistakes=(
        Mistake(
            "only-the-best",
            lambda similarity, right, k: recall_at_k(similarity, right, 1),
            "You looked at the best answer only, whatever k is. At k the right answer may stand anywhere among the "
            "first k.",
        ),
        Mistake(
            "kind-to-ties",
            _kind_to_ties,
            "You counted the answers that are *strictly* better. A model that finds everything equally similar then "
            "has a recall of 1. Count ties against it: ≥, not >.",
        ),
        Mistake(
            "off-by-one",
            _off_by_one,
            "You demand a rank below k, counting the right answer itself as rank 1: that is recall at k − 1.",
        ),
        Mistake(
            "least-similar",
            lambda similarity, right, k: recall_at_k(-similarity, right, k),
            "You took the k *smallest* values, as one does with distances. Similar means large.",
        ),
        Mistake(
            "divided-by-k",
            lambda similarity, right, k: recall_at_k(similarity, right, k) / k,
            "You divided by k. That is precision: which share of what was shown is right. Each query has one right "
            "answer, and recall asks whether it was found.",
        ),
    ),
    alternatives=(
        lambda similarity, right, k: float(
            torch.tensor([float(sum(s >= row[j] for s in row) <= k) for row, j in zip(similarity, right)])
            .double()
            .mean()
        ),
    ),
    hints=(
        "For each query: how many answers are at least as similar as the right one, itself included?",
        "`own = similarity.gather(1, right[:, None])` is the similarity of the right answers, (N, 1).",
        "`((similarity >= own).sum(1) <= k).double().mean()`.",
    ),
    expected="R@1 of 1000 held-out pairs: 0.965 ± 0.004 (5 seeds); chance is 0.001.",
    trap="without ties, > and ≥ give the same number; and `topk` breaks ties by place, which rewards whoever stands "
    "first.",
)
