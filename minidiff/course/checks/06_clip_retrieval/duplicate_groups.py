"""Exercise 06-duplicate-groups: near-duplicates."""

import torch
from torch import Generator, Tensor

from minidiff import retrieval
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_chains(seed: int) -> list[Inputs]:
    """Points along a circle: near ones are linked, so that a chain joins ends that are far apart."""
    g = Generator().manual_seed(seed)

    def case(steps: list[float], d: int, threshold: float, mixed: bool = True) -> Inputs:
        angle = torch.tensor(steps, dtype=torch.float64).cumsum(0) * 0.05
        basis = torch.linalg.qr(normal((d, 2), g)).Q.T
        order = torch.randperm(len(steps), generator=g) if mixed else torch.arange(len(steps))
        return (torch.stack([angle.cos(), angle.sin()], 1) @ basis)[order].float(), threshold

    return [
        # 0.05 rad apart: cosine 0.99875. Chains of five and three, one alone; no two alike.
        case([0, 1, 1, 1, 1, 9, 1, 1, 9], 4, 0.998, mixed=False),
        case([0, *[1] * 99], 3, 0.998),  # a copy of a copy of a copy …: 99 links from end to end
        case([0, 9, 1, 1, 9, 1, 1, 1], 4, 0.998, mixed=False),  # the larger groups come later
        case([0, 5, 5, 5], 5, 0.998),
        case([0, 1, 6, 1, 6, 1], 2, 0.998),
        # Exactly at the threshold, in float32 as well: (½, ½, ½, ½) has the cosine ½ with every axis.
        (torch.cat([torch.eye(4)[:3], torch.full((1, 4), 0.5), -torch.eye(4)[:1]]), 0.5),
        (torch.eye(3)[[0, 1, 0, 2, 1]], 1.0),  # only the very same
        (torch.eye(3)[[1, 0, 2]], 0.0),  # all at the threshold
        (torch.eye(2)[:1], 0.9),  # one picture
    ]


def _numbered(first: Tensor) -> Tensor:
    """Labels → 0, 1, … in order of first appearance."""
    seen: dict[int, int] = {}
    return torch.tensor([seen.setdefault(int(value), len(seen)) for value in first])


def duplicate_groups(vectors: Tensor, threshold: float) -> Tensor:
    """Group ids of near-duplicates, 0 upwards in order of first appearance."""
    return retrieval.near_duplicates(vectors, threshold)


def _closed(vectors: Tensor, threshold: float) -> Tensor:
    """The smallest row that links lead to, for every row."""
    linked = (vectors @ vectors.T) >= threshold
    for _ in vectors:
        linked = (linked.double() @ linked.double()) > 0
    return linked.int().argmax(1)


def _greedy(vectors: Tensor, threshold: float) -> Tensor:
    near, groups = (vectors @ vectors.T) >= threshold, []
    kept: list[int] = []
    for i in range(len(vectors)):
        home = next((n for n, j in enumerate(kept) if near[i, j]), None)
        groups.append(len(kept) if home is None else home)
        if home is None:
            kept.append(i)
    return torch.tensor(groups)


EXERCISE = Exercise(
    id="06-duplicate-groups",
    title="Near-duplicates",
    points=3,
    difficulty=4,
    importance=3,
    minutes=15,
    draw=_draw_chains,
    reference=duplicate_groups,
    mistakes=(
        Mistake(
            "one-link",
            lambda vectors, threshold: _numbered(((vectors @ vectors.T) >= threshold).int().argmax(1)),
            "You gave each picture the first one it is linked to *directly*. A copy of a copy is in the same group "
            "even if it is no longer close to the original: follow the links to their end.",
        ),
        Mistake(
            "greedy",
            _greedy,
            "You compared each picture only with the first of each group. The groups then depend on the order in "
            "which pictures arrive, and two groups that a later picture links are never joined.",
        ),
        Mistake(
            "not-numbered",
            _closed,
            "The groups are right, but their numbers are rows. Number them 0, 1, 2, … in order of first appearance.",
        ),
        Mistake(
            "distance",
            lambda vectors, threshold: duplicate_groups(vectors, 1 - threshold),
            "You linked what is at least 1 − threshold similar. The threshold is a cosine: close to 1 means alike.",
        ),
        Mistake(
            "more-than",
            lambda vectors, threshold: duplicate_groups(vectors, threshold + 1e-4),
            "You linked only what is *more* alike than the threshold. It says how alike near-duplicates are at "
            "*least*: a cosine of exactly the threshold counts (`>=`).",
        ),
        Mistake(
            "every-one-alone",
            lambda vectors, threshold: torch.arange(len(vectors)),
            "Every picture is alone in its group. Did you compare vectors for equality? Near-duplicates are near, "
            "not equal.",
        ),
    ),
    alternatives=(lambda vectors, threshold: _numbered(_closed(vectors, threshold)),),
    hints=(
        "Links make a graph: i and j are linked where their cosine is ≥ threshold. The groups are its connected parts.",
        "Give every picture its own row number as a label; then let each take the smallest label among those it is "
        "linked to, again and again, until nothing changes.",
        "`labels = torch.where(linked, labels, N).amin(1)` in a loop; then number the labels in order of appearance.",
    ),
    expected="60 groups, and all copies with their original, at a threshold of 0.98 (5 seeds).",
    trap="with one copy per picture all groups are pairs: one link is then the whole way, and every method agrees.",
)
