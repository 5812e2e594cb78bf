"""Exercise 05-drop-labels: dropping labels."""

from collections.abc import Callable
from math import log10

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.training import drop_condition

Drop = Callable[[Tensor, Generator], Tensor]  # (labels of a batch, its generator) → the labels that are shown

CALLS, SMALL, LARGE = 80, 16, 40_000  # how many small batches, and their size; pictures per class of the large one


def _draw_droppers(seed: int) -> list[Inputs]:
    shift = 0.05 * float(torch.rand((), generator=Generator().manual_seed(seed)))
    # "No label" may be any number: after the classes, before them, between them.
    return [(10, 0.15 + shift), (-1, 0.5 - shift), (1, 0.3 + shift), (3, 0.0), (3, 1.0)]


def label_dropper(null: int, p: float) -> Drop:
    """A function that replaces each label of a batch by `null` with probability p, independently of the others."""
    return lambda y, generator: drop_condition({"y": y}, {"y": torch.tensor(null)}, p, generator)["y"]


def _tried(drop: Drop, null: int, p: float) -> tuple[object, ...]:
    """What becomes of a large batch, of the same one again, of many small ones; one number for each question.

    The tolerance, 0.02, is more than five standard deviations of what two right answers differ by.
    """
    y = torch.tensor([c for c in range(4) if c != null]).repeat_interleave(LARGE)  # in order of class
    seed = round(1e6 * p)
    large, again, other = (drop(y.clone(), Generator().manual_seed(s)) for s in (seed, seed, seed + 1))
    if not isinstance(large, Tensor) or large.shape != y.shape:
        return (large,)
    gone = (large == null).double()
    small = [drop(torch.arange(SMALL) % 2 + 2, Generator().manual_seed(seed + i)) for i in range(CALLS)]
    counts = torch.tensor([float((s == null).sum()) for s in small])
    scatter = (counts - SMALL * p).square().mean() / (SMALL * p * (1 - p) or 1)  # 1, as the coins are independent
    return (
        gone.mean(),
        gone[:LARGE].mean(),
        ((large == y) | (large == null)).double().mean(),
        torch.zeros_like(large),
        float(torch.equal(large, again)),
        float(torch.equal(large, other)),
        0.03 * log10(float(scatter) + 0.01),  # within the tolerance: up to 4.6 times more or less
        torch.zeros_like(drop(y[:1].clone(), Generator().manual_seed(seed))),  # a batch of one
    )


def _by_coins(coins: Callable[[Tensor, float, Generator], Tensor]) -> Callable[[int, float], Drop]:
    """The dropper that drops where `coins(y, p, generator)` is true."""
    return lambda null, p: lambda y, generator: torch.where(coins(y, p, generator), null, y)


def _exactly(y: Tensor, p: float, generator: Generator) -> Tensor:
    return torch.randperm(len(y), generator=generator) < round(p * len(y))


EXERCISE = Exercise(
    id="05-drop-labels",
    title="Drop the condition, picture by picture",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_droppers,
    reference=label_dropper,
    probe=_tried,
    rtol=0.0,
    atol=0.02,
    mistakes=(
        Mistake(
            "whole-batch",
            _by_coins(lambda y, p, generator: torch.rand((), generator=generator) < p),
            "You throw one coin for the whole batch: all labels go or all stay. The rate is right over many batches, "
            "but every step then trains one branch only. Throw one coin per picture.",
        ),
        Mistake(
            "same-number-always",
            _by_coins(_exactly),
            "You drop exactly round(p·B) labels of every batch. Then the coins are not independent, and a batch of one "
            "either always loses its label or never. Let each picture have its own coin; the number will vary.",
        ),
        Mistake(
            "generator-unused",
            _by_coins(lambda y, p, generator: torch.rand(len(y)) < p),
            "Your coins do not come from `generator`: the same seed gives other labels the second time, and nobody can "
            "repeat your training. Hand `generator=generator` to whatever draws.",
        ),
        Mistake(
            "kept-with-p",
            _by_coins(lambda y, p, generator: torch.rand(len(y), generator=generator) >= p),
            "You kept each label with probability p and dropped the others. p is the share that is dropped.",
        ),
        Mistake(
            "class-zero",
            lambda null, p: lambda y, generator: torch.where(torch.rand(len(y), generator=generator) < p, 0, y),
            "You replaced labels by 0, which is a class of its own: the network would learn that class 0 looks like "
            "everything. Replace them by `null`, the number that no class has.",
        ),
        Mistake(
            "first-rows",
            _by_coins(lambda y, p, generator: torch.arange(len(y)) < round(p * len(y))),
            "You dropped the first p·B rows. If a batch is ordered (here by class), some classes are always dropped "
            "and others never. Which labels go must be random, and must not depend on the label.",
        ),
    ),
    alternatives=(
        lambda null, p: lambda y, generator: y.masked_fill(torch.rand(y.shape, generator=generator) < p, null),
        _by_coins(lambda y, p, generator: torch.bernoulli(torch.full(y.shape, p), generator=generator).bool()),
    ),
    hints=(
        "How many random numbers do you need for a batch of B labels? One, or B? And where do they come from?",
        "`torch.rand(len(y), generator=generator) < p` is true for a share p of the pictures.",
        "Return an inner function `drop(y, generator)`. In it, `torch.where(mask, null, y)` takes `null` where the "
        "mask is true, and leaves `y` itself untouched.",
    ),
    expected="of the 2,000 labels of each class a share of 0.151 ± 0.008 (5 seeds) is dropped at p = 0.15.",
    trap="one coin per batch, or the same number in each, drop the right share on average, so the loss curve "
    "looks healthy; what suffers is the null branch, which you only look at when you guide.",
)
