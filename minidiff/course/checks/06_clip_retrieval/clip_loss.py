"""Exercise 06-clip-loss: CLIP's loss, in both directions."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.clip import contrastive_loss

from .._common import normal


def _draw_features(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, d: int, scale: float, dtype: torch.dtype = torch.float64) -> Inputs:
        images = normal((b, d), g)
        texts = images + normal((b, d), g)  # captions that fit, more or less
        lengths = 0.3 + 3 * torch.rand(2, b, 1, generator=g, dtype=torch.float64)
        return (images * lengths[0]).to(dtype), (texts * lengths[1]).to(dtype), scale

    return [
        case(6, 4, 5.0),
        case(3, 8, 14.0, torch.float32),
        case(4, 4, 0.5),  # as many pairs as numbers: a wrong axis goes unnoticed by PyTorch
        case(1, 5, 3.0),  # a single pair cannot be mistaken: 0
    ]


def _crossed(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def _units(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    return F.normalize(images, dim=1), F.normalize(texts, dim=1)


def clip_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Symmetric InfoNCE of B pairs, averaged."""
    return contrastive_loss(*_units(images, texts), scale).mean()


def _one_direction(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    a, b = _units(images, texts)
    return _crossed(scale * a @ b.T)


def _raw(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    logits = scale * images @ texts.T
    return (_crossed(logits) + _crossed(logits.T)) / 2


def _batch_axis(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return _raw(F.normalize(images, dim=0), F.normalize(texts, dim=0), scale)


def _pulling_only(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    a, b = _units(images, texts)
    return -scale * (a * b).sum(1).mean()


EXERCISE = Exercise(
    id="06-clip-loss",
    title="Symmetric InfoNCE",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_features,
    reference=clip_loss,
    mistakes=(
        Mistake(
            "one-direction",
            _one_direction,
            "You asked one question only: which text belongs to this picture? Row by row, no column ever competes. "
            "Ask the other one too, which picture belongs to this text (`logits.T`), and take the mean of the two.",
        ),
        Mistake(
            "no-scale",
            lambda images, texts, scale: clip_loss(images, texts, 1.0),
            "You left the scale out. Cosines lie in [−1, 1], so their softmax is nearly flat however well the pairs "
            "fit: the loss cannot get near 0. Multiply the cosines by `scale`.",
        ),
        Mistake(
            "divided",
            lambda images, texts, scale: clip_loss(images, texts, 1 / scale),
            "You divided by `scale`. A *temperature* τ divides; the scale is 1/τ and multiplies.",
        ),
        Mistake(
            "not-normalised",
            _raw,
            "You compared inner products of raw features. Then a long vector is similar to everything. Bring every "
            "row to length 1 first: the tables must hold cosines.",
        ),
        Mistake(
            "normalised-over-the-batch",
            _batch_axis,
            "You normalised along the batch: every *column* of numbers got length 1, not every vector. "
            "A picture's vector must not depend on its company: `F.normalize(x, dim=1)`.",
        ),
        Mistake(
            "pulling-only",
            _pulling_only,
            "You pull the pairs together, and nothing pushes the others apart: all pictures and texts on one spot "
            "would be perfect. The softmax over the other texts, and the other pictures, is what pushes.",
        ),
    ),
    alternatives=(
        lambda images, texts, scale: (lambda s: (s.logsumexp(0) + s.logsumexp(1) - 2 * s.diagonal()).mean() / 2)(
            scale * F.cosine_similarity(images[:, None], texts[None], dim=2)
        ),
        lambda images, texts, scale: contrastive_loss(*_units(texts, images), scale).mean(),
    ),
    hints=(
        "Three steps: unit vectors, the B×B table of scaled cosines, and a B-way question in every row and column.",
        "In row i and in column i the right answer is i. `F.cross_entropy(logits, torch.arange(B))` asks the rows.",
        "`(F.cross_entropy(logits, t) + F.cross_entropy(logits.T, t)) / 2`, with `logits = scale * a @ b.T`.",
    ),
    expected="the trained model on 50 held-out pairs: 0.016 ± 0.015; with the captions passed on by one "
    "37.0 ± 1.2 (5 seeds).",
    trap="with pairs drawn at random, rows and columns of the table look alike, and the loss of one direction is close "
    "to that of the other; only where one caption fits many pictures do the two part.",
)
