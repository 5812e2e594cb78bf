"""Exercise 05-neighbour-recall: neighbour recall."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.judges.coverage import covered, precision, recall


def _draw_clouds(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def cloud(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return scale * torch.randn(n, d, generator=g, dtype=torch.float64) + shift

    def lattice(real: int, fake: int) -> tuple[Tensor, Tensor]:
        points = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0)).double()
        return tuple(points[torch.randperm(25, generator=g)[:n]] for n in (real, fake))  # type: ignore

    line = torch.arange(4, dtype=torch.float64)[:, None]
    return [
        (cloud(60, 2), cloud(60, 2), 3),
        (cloud(60, 2), cloud(60, 2, 0.5), 3),  # fakes that vary too little
        (cloud(40, 3), cloud(70, 3, 1.0, 1.0), 2),  # unequal sizes, fakes beside the data
        (torch.cat([cloud(30, 2), cloud(30, 2, 1.0, 20.0)]), cloud(50, 2), 1),  # one of two modes forgotten
        (cloud(5, 2), cloud(4, 2), 3),  # k is as large as it may be
        (*lattice(12, 9), 2),  # many points lie exactly on the surface of a ball
        (lattice(1, 5)[0], lattice(1, 5)[1], 1),  # one real point
        (torch.cat([line, line + 0.5]), line.repeat_interleave(2, dim=0), 1),  # every fake twice: balls of radius 0
    ]


def neighbour_recall(real: Tensor, fake: Tensor, k: int) -> float:
    """Share of real points in at least one ball around a fake point."""
    return recall(real, fake, k)


def _radii(cloud: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point."""
    return torch.cdist(cloud, cloud, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, k]


def _self_counted(real: Tensor, fake: Tensor, k: int) -> float:
    return float((torch.cdist(real, fake) <= _radii(fake, k - 1)).any(1).double().mean())


def _nearest_ball(real: Tensor, fake: Tensor, k: int) -> float:
    distance, nearest = torch.cdist(real, fake).min(1)
    return float((distance <= _radii(fake, k)[nearest]).double().mean())


def _by_hand(real: Tensor, fake: Tensor, k: int) -> float:
    hits = 0
    radius = [torch.linalg.vector_norm(fake - f, dim=1).sort().values[k] for f in fake]
    for r in real:
        hits += any(torch.linalg.vector_norm(r - f) <= size for f, size in zip(fake, radius))
    return hits / len(real)


EXERCISE = Exercise(
    id="05-neighbour-recall",
    title="Measure what guidance costs",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_clouds,
    reference=neighbour_recall,
    mistakes=(
        Mistake(
            "precision",
            lambda real, fake, k: precision(real, fake, k),
            "This is precision: the share of fakes near the data. Recall asks the other way round: "
            "which share of the *real* points lies in the balls around the *fakes*?",
        ),
        Mistake(
            "self-counted",
            _self_counted,
            "Each fake point counted itself among its neighbours, at distance 0, so all balls are one neighbour too "
            "small (and empty for k = 1). Take the k-th nearest *other* point.",
        ),
        Mistake(
            "real-radius",
            lambda real, fake, k: float(
                (torch.cdist(real, fake) <= _radii(real, min(k, len(real) - 1))[:, None]).any(1).double().mean()
            ),
            "Your balls are centred on the real points. That measure exists under the name of coverage "
            "(arXiv 2002.09797), but recall builds its balls around the fakes, with the fakes' own spacing.",
        ),
        Mistake(
            "nearest-ball",
            _nearest_ball,
            "You tested the ball of the nearest fake only. A lonely fake further away may have a ball large enough to "
            "reach the point: it is covered if *any* ball holds it.",
        ),
        Mistake(
            "open-balls",
            lambda real, fake, k: float((torch.cdist(real, fake) < _radii(fake, k)).any(1).double().mean()),
            "Your balls leave out their surface: a point whose distance is exactly the radius is covered, too. With "
            "copies among the fakes some radii are 0, and then the surface is all there is.",
        ),
        Mistake(
            "mean-radius",
            lambda real, fake, k: float((torch.cdist(real, fake) <= _radii(fake, k).mean()).any(1).double().mean()),
            "You gave all balls the same, average radius. Each fake has its own: the distance to its k-th neighbour, "
            "small in crowds and large in thin places.",
        ),
    ),
    alternatives=(
        _by_hand,
        lambda real, fake, k: covered(real, fake, k).double().mean(),
    ),
    shortcuts=("minidiff.judges.coverage.covered", "minidiff.judges.coverage.precision"),
    hints=(
        "Two steps: a radius for every fake point, then a yes or no for every real point.",
        "`torch.cdist(fake, fake)` has zeros on its diagonal: each point is its own nearest. Which order statistic is "
        "the k-th nearest *other* one?",
        "`radius = torch.cdist(fake, fake).sort(1).values[:, k]`; a real point counts if its distance to any fake is "
        "at most that fake's radius.",
    ),
    expected="recall is 0.970 ± 0.007 at w = 0, 0.53 ± 0.02 at w = 3 and 0.21 ± 0.03 at w = 7 (5 seeds of 500 points).",
    trap="precision and recall are the same function with the arguments exchanged, and for a good sampler they are the "
    "same number. Guidance pulls them apart: precision stays, recall falls.",
)
