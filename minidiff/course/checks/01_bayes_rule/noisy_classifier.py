"""Exercise 01-noisy-classifier: a classifier that has seen noise."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic


def _draw_albums(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        b: int, n: int, alpha: float, sigma: float, size: float = 1.0, d: int = 2, far: float = 0.0, classes: int = 3,
        twins: bool = False, dtype: torch.dtype = torch.float64,
    ) -> Inputs:  # fmt: skip
        x0, labels = size * torch.randn(n, d, generator=g), torch.randint(classes, (n,), generator=g)
        labels[: classes + 2] = torch.tensor([*range(classes), classes - 1, classes - 1])  # not equally common
        if twins:  # every point twice, with two labels
            x0, labels = x0.repeat(2, 1), torch.cat([labels, labels.flip(0)])
        x_t = alpha * x0[:b] + sigma * torch.randn(b, d, generator=g) + far
        return x_t.to(dtype), x0.to(dtype), labels, alpha, sigma

    return [
        case(6, 12, 0.5, 0.5),
        case(1, 9, 0.7, 0.3),  # batch of one
        case(4, 15, 0.6, 0.8),  # Cosine: α + σ is not 1
        case(2, 8, 1.0, 20.0, classes=5),  # Karras: nothing shrinks
        case(2, 12, 0.8, 0.2, far=20.0),  # further than exp can reach
        case(3, 6, 0.4, 0.6, twins=True),
        case(3, 7, 0.0, 1.0, classes=2),  # pure noise
        case(3, 20, 0.998, 0.002, size=0.005, classes=2),  # hardly any, on data as small
        case(5, 10, 0.4, 0.6, d=1, dtype=torch.float32),
    ]


def noisy_classifier(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    """p(y|x_t) if the data are exactly these points: a mixture of N hills of width 0, noised."""
    album = isotropic(x0, 0.0, labels)
    t = torch.zeros((), dtype=x_t.dtype)
    return album.posterior_label(x_t, t, lambda t: (torch.full_like(t, alpha), torch.full_like(t, sigma)))


def _votes(share: Tensor, labels: Tensor) -> Tensor:
    """Add up the shares (B, N) of the points of each class: (B, n_classes)."""
    return share @ torch.nn.functional.one_hot(labels).to(share)


def _square_gap(x_t: Tensor, x0: Tensor, alpha: float) -> Tensor:
    return (x_t[:, None] - alpha * x0).square().sum(-1)  # (B, N)


def _nearest(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    return torch.nn.functional.one_hot(labels)[_square_gap(x_t, x0, alpha).argmin(1)].to(x_t)


def _class_means(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    votes = _votes((-_square_gap(x_t, x0, alpha) / (2 * sigma**2)).softmax(1), labels) / labels.bincount()
    return votes / votes.sum(1, keepdim=True)


def _plain_exp(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    votes = _votes(torch.exp(-_square_gap(x_t, x0, alpha) / (2 * sigma**2)), labels)
    return votes / votes.sum(1, keepdim=True)


def _by_class(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    log_weight = -_square_gap(x_t, x0, alpha) / (2 * sigma**2)
    rows = [log_weight[:, labels == y].logsumexp(1) for y in range(int(labels.max()) + 1)]
    return torch.stack(rows, dim=1).softmax(1)


EXERCISE = Exercise(
    id="01-noisy-classifier",
    title="A classifier that has seen noise",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_albums,
    reference=noisy_classifier,
    mistakes=(
        Mistake(
            "not-shrunk",
            lambda x_t, x0, labels, alpha, sigma: _votes(
                (-_square_gap(x_t, x0, 1.0) / (2 * sigma**2)).softmax(1), labels
            ),
            "You compared x_t with x0. Given x0, the noisy point lies around α·x0, not x0: shrink the data first.",
        ),
        Mistake(
            "nearest",
            _nearest,
            "You took the label of the nearest point, for certain. That is the classifier of clean points; with noise, "
            "others may be the origin too, each with the weight exp(−|x_t − α·x0|²/(2σ²)).",
        ),
        Mistake(
            "sigma-not-squared",
            lambda x_t, x0, labels, alpha, sigma: _votes(
                (-_square_gap(x_t, x0, alpha) / (2 * sigma)).softmax(1), labels
            ),
            "You divided the squared distance by 2σ; the Gaussian has 2σ².",
        ),
        Mistake(
            "no-half",
            lambda x_t, x0, labels, alpha, sigma: _votes((-_square_gap(x_t, x0, alpha) / sigma**2).softmax(1), labels),
            "The ½ of the Gaussian is missing: the exponent is −|x_t − α·x0|²/(2σ²). Without it the noise counts as "
            "weaker by √2, and the classifier is too sure of itself.",
        ),
        Mistake(
            "class-means",
            _class_means,
            "You averaged the weights within each class, which makes all classes equally likely beforehand: that is "
            "p(x_t|y), normalised. p(y|x_t) adds the weights up, so that a common class has more votes.",
        ),
        Mistake(
            "underflow",
            _plain_exp,
            "Right, until x_t is far from all data: then every exp(…) is 0 in floating point and 0/0 is NaN. "
            "A softmax over the N points does the same and subtracts the largest exponent first.",
        ),
    ),
    alternatives=(_by_class,),
    hints=(
        "Given x0, x_t is N(α·x0, σ²I). How likely does that make each point of the data as the origin of x_t?",
        "The weights are exp(−|x_t − α·x0|²/(2σ²)), divided by their sum over all N points: a `softmax(1)` of a (B, N) "
        "tensor. Then add up, for each class, the weights of its points.",
        "`share @ one_hot(labels).to(share)` with `torch.nn.functional.one_hot` adds them up: (B, N) @ (N, C).",
    ),
    expected="with 4,000 labelled points, p(y|x_t) at t = 0.5 is off by 0.008 ± 0.003 on average (5 seeds); the "
    "classifier of clean points, asked about x_t, by 0.194 ± 0.003.",
    trap="at small noise the nearest point decides nearly everything, so that a clean classifier seems to do. At large "
    "noise it is just as sure as before, and wrong.",
    rtol=1e-4,
    atol=1e-5,
)
