"""Exercise 07-noise-augment: what the second stage of a cascade is given."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import cascade
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_lows(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, int, int, int], levels: list[float], factor: int) -> Inputs:
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((7_000_003 * (seed + 1) + 10 * len(levels) + factor) % 2**32)
        return normal(shape, g, torch.float32), torch.tensor(levels), factor, own

    return [
        case((3, 3, 2, 4), [0.1, 0.5, 0.9], 2),
        case((4, 3, 2, 4), [0.0, 0.3, 0.6, 1.0], 2),  # as many pictures as columns, and both ends
        case((1, 3, 3, 2), [0.4], 4),  # one picture
        case((2, 1, 4, 2), [0.8, 0.2], 1),  # nothing to enlarge
        case((2, 3, 1, 5), [0.0, 0.0], 3),  # no noise at all
        case((3, 2, 5, 3), [0.25, 0.25, 0.25], 2),
    ]


def augment(low: Tensor, levels: Tensor, factor: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """((1 − s)·low + s·ε, enlarged; the levels that the network is told)."""
    return _enlarged(cascade.noised(low, levels, generator), factor), levels.clone()


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear")


def _by_hand(flaw: str = "") -> Callable[..., tuple[Tensor, Tensor]]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def augment(low: Tensor, levels: Tensor, factor: int, generator: Generator) -> tuple[Tensor, Tensor]:
        x = _enlarged(low, factor) if flaw == "late" else low
        s = levels if flaw == "axis" else levels[:, None, None, None]
        kept = {"roots": (1 - s**2).sqrt(), "added": torch.ones_like(s)}.get(flaw, 1 - s)
        eps = torch.randn(x.shape[1:] if flaw == "one" else x.shape, generator=generator)
        x = kept * x + s * eps
        told = torch.zeros_like(levels) if flaw == "silent" else levels
        return x if flaw == "late" else _enlarged(x, factor), told

    return augment


def _one_by_one(low: Tensor, levels: Tensor, factor: int, generator: Generator) -> tuple[Tensor, Tensor]:
    eps = torch.randn(low.shape, generator=generator)
    mixed = torch.stack([a.lerp(b, float(s)) for a, b, s in zip(low, eps, levels)])
    size = (factor * low.shape[2], factor * low.shape[3])
    return F.interpolate(mixed, size=size, mode="bilinear", align_corners=False), levels


EXERCISE = Exercise(
    id="07-noise-augment",
    title="Noise on the small picture",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_lows,
    reference=augment,
    mistakes=(
        Mistake("another-schedule", _by_hand("roots"), "You kept √(1 − s²) of the picture. That is the schedule that "
            "preserves variance. Here s means what t means everywhere in this course: (1 − s)·low + s·ε."),
        Mistake("only-added", _by_hand("added"), "You added s·ε and kept the whole picture. At s = 1 nothing of it "
            "should be left: the network must learn to do without it."),
        Mistake("noise-after-enlarging", _by_hand("late"), "You enlarged first. Fine noise on a smooth picture is "
            "easily averaged away, so that it hides next to nothing. Noise goes onto the *small* pixels."),
        Mistake("one-noise-for-all", _by_hand("one"), "You drew one noise and put it on every picture of the batch. "
            "Each needs its own: `torch.randn(low.shape, …)`."),
        Mistake("last-axis", _by_hand("axis"), "Your levels line up with the *last* axis: each column of pixels has "
            "its own, or sizes do not fit. Give them trailing ones: shape (B, 1, 1, 1)."),
        Mistake("level-not-told", _by_hand("silent"), "The picture is right, but you tell the network 0. Told how "
            "noisy its input is, it can trust a clean one and doubt a noisy one; untold, it must doubt all."),
    ),
    alternatives=(_by_hand(), _one_by_one),
    hints=(
        "Three steps in this order: mix with noise, enlarge, and hand on the levels.",
        "`levels[:, None, None, None]` has one level per picture; the noise has the shape of `low`.",
        "`F.interpolate((1 - s) * low + s * eps, scale_factor=factor, mode='bilinear')`.",
    ),
    expected="the paler picture is told apart with an AUC of 0.97 ± 0.01 at s = 0.3, 0.79 ± 0.01 at 0.5, 0.64 ± 0.01 "
    "at 0.7; the blurred one with 1.00 at 0.5, 0.90 ± 0.01 at 0.7 and 0.63 ± 0.01 at 0.9 (5 seeds). At s = 1 "
    "it would be 0.5.",
    trap="all of these train: a network learns to live with whatever it is given. Only where the first stage's "
    "pictures differ from the data does it show which noise it was prepared for.",
)  # fmt: skip
