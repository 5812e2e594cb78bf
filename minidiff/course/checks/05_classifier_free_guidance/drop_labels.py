"""Exercise 05-drop-labels: dropping labels."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.training import drop_condition


def _draw_labels(seed: int) -> list[Inputs]:
    # So many that two right answers with different random numbers differ by 0.004 (one standard deviation) in the
    # smallest class: the tolerance of 0.02 is five times as wide.
    def case(i: int, p: float, n_classes: int = 10, n: int = 200_000) -> Inputs:
        g = Generator().manual_seed(10 * seed + i)
        y = torch.randint(n_classes, (n,), generator=g).sort().values
        return y, n_classes, p, g

    return [case(0, 0.15), case(1, 0.5, n_classes=3), case(2, 0.1), case(3, 0.0, n=50), case(4, 1.0, n=50)]


def drop_labels(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    """Each label becomes `null` with probability p, independently of the others."""
    return drop_condition({"y": y}, {"y": torch.tensor(null)}, p, generator)["y"]


def _dropped(answer: Tensor, y: Tensor, null: int, p: float, generator: Generator) -> tuple[Tensor, ...]:
    """Shares dropped (of all, of class 0), share of the rest that kept its label, and the answer's shape and type."""
    if not isinstance(answer, Tensor) or answer.shape != y.shape:
        return (answer,)
    gone = answer == null
    kept = (answer == y) | gone
    return gone.double().mean(), gone[y == 0].double().mean(), kept.double().mean(), torch.zeros_like(answer)


def _whole_batch(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    return torch.full_like(y, null) if float(torch.rand((), generator=generator)) < p else y.clone()


def _first_rows(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    return torch.where(torch.arange(len(y)) < round(p * len(y)), null, y)


EXERCISE = Exercise(
    id="05-drop-labels",
    title="Drop the condition, picture by picture",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_labels,
    reference=drop_labels,
    probe=_dropped,
    rtol=0.0,
    atol=0.02,
    mistakes=(
        Mistake(
            "whole-batch",
            _whole_batch,
            "You flipped one coin for the whole batch: all labels go or all stay. The rate is right over many batches, "
            "but every step then trains one branch only. Flip one coin per picture.",
        ),
        Mistake(
            "kept-with-p",
            lambda y, null, p, generator: torch.where(torch.rand(len(y), generator=generator) < p, y, null),
            "You kept each label with probability p and dropped the others. p is the share that is dropped.",
        ),
        Mistake(
            "class-zero",
            lambda y, null, p, generator: torch.where(torch.rand(len(y), generator=generator) < p, 0, y),
            "You replaced labels by 0, which is a class of its own: the network would learn that class 0 looks like "
            "everything. Replace them by `null`, the number that no class has.",
        ),
        Mistake(
            "first-rows",
            _first_rows,
            "You dropped the first p·B rows. If a batch is ordered (here by class), some classes are always dropped "
            "and others never. Which labels go must be random, and must not depend on the label.",
        ),
        Mistake(
            "never",
            lambda y, null, p, generator: y.clone(),
            "No label was dropped. Compare one random number per picture with p, and use the result.",
        ),
    ),
    alternatives=(
        lambda y, null, p, generator: y.masked_fill(torch.rand(y.shape, generator=generator) < p, null),
        lambda y, null, p, generator: torch.where(
            torch.bernoulli(torch.full(y.shape, p), generator=generator).bool(), torch.full_like(y, null), y
        ),
    ),
    hints=(
        "How many random numbers do you need for a batch of B labels? One, or B?",
        "`torch.rand(len(y), generator=generator) < p` is true for a share p of the pictures.",
        "`torch.where(mask, null, y)` takes `null` where the mask is true, and leaves `y` itself untouched.",
    ),
    expected="of the 2,000 labels of each class a share of 0.151 ± 0.008 (5 seeds) is dropped at p = 0.15.",
    trap="one coin per batch, or the first rows of each batch, drop the right share on average, so the loss curve "
    "looks healthy; what suffers is the null branch, which you only look at when you guide.",
)
