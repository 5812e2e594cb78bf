"""Exercise 07-dynamic-threshold: keep the guess where pictures are."""

import torch
from torch import Generator, Tensor

from minidiff import thresholding
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_guesses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], scales: list[float], quantile: float, dtype: torch.dtype = torch.float64,
        shift: float = 0.0,
    ) -> Inputs:  # fmt: skip
        scale = torch.tensor(scales, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))
        return (scale * (normal(shape, g) + shift)).to(dtype), quantile

    levels = torch.tensor([-3.0, -2.0, 0.5, 2.0], dtype=torch.float64)
    return [
        case((3, 2, 4, 5), [0.2, 1.5, 6.0], 0.9),  # one picture stays inside, two do not
        case((4, 1, 3, 4), [0.3, 3.0, 1.0, 9.0], 0.995),  # as many pictures as columns
        case((1, 3, 4, 4), [2.0], 0.8),  # one picture
        case((2, 3, 2, 4), [2.0, 4.0], 0.9, torch.float32, shift=-2.0),  # nearly all negative
        case((2, 1, 4, 3), [0.1, 0.2], 1.0),  # nothing to do
        case((3, 1, 3, 2), [0.6, 2.0, 5.0], 1.0),  # the largest
        case((2, 2, 2, 3), [0.6, 3.0], 0.0),  # the smallest
        (
            levels.repeat(2, 3).reshape(2, 1, 3, 4) * torch.tensor([1.0, 0.25]).reshape(2, 1, 1, 1).double(),
            0.75,
        ),  # ties
        case((3, 2, 2, 2, 3), [1.0, 2.0, 4.0], 0.7),  # clips: five axes
    ]


def dynamic_threshold(x0: Tensor, quantile: float) -> Tensor:
    """s = max(1, the quantile of |x̂0| over each picture); clip to [−s, s], divide by s."""
    return thresholding.dynamic(lambda x_t, t: x0, quantile)(x0, torch.tensor(0.0))


def _sizes(x0: Tensor, quantile: float) -> Tensor:
    """The quantile of |x0| of each picture, (B, 1, …)."""
    return x0.abs().flatten(1).quantile(quantile, dim=1).reshape(-1, *[1] * (x0.ndim - 1))


def _of_batch(x0: Tensor, quantile: float) -> Tensor:
    s = x0.abs().flatten().quantile(quantile).clamp(min=1)
    return x0.clamp(-s, s) / s


def _always(x0: Tensor, quantile: float) -> Tensor:
    s = _sizes(x0, quantile)
    return x0.clamp(-s, s) / s


def _signed(x0: Tensor, quantile: float) -> Tensor:
    s = x0.flatten(1).quantile(quantile, dim=1).clamp(min=1).reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-s, s) / s


def _by_sorting(x0: Tensor, quantile: float) -> Tensor:
    out = torch.empty_like(x0)
    for i, picture in enumerate(x0):
        sizes = picture.abs().flatten().sort().values
        place = quantile * (len(sizes) - 1)
        low, high = int(place), min(int(place) + 1, len(sizes) - 1)
        s = max(1.0, float(sizes[low] + (place - low) * (sizes[high] - sizes[low])))
        out[i] = (picture / s).clamp(-1, 1)
    return out


EXERCISE = Exercise(
    id="07-dynamic-threshold",
    title="Dynamic thresholding",
    points=2,
    difficulty=1,
    importance=4,
    minutes=8,
    draw=_draw_guesses,
    reference=dynamic_threshold,
    mistakes=(
        Mistake(
            "static",
            lambda x0, quantile: x0.clamp(-1, 1),
            "You clipped at 1. That is static thresholding: everything beyond becomes equally bright, and what was "
            "drawn there is gone. Clip at s, a size of this very picture, and divide by it.",
        ),
        Mistake(
            "over-the-batch",
            _of_batch,
            "Your quantile goes over the whole batch, so that a picture changes with its neighbours. Each has its own: "
            "`flatten(1)` keeps the pictures apart.",
        ),
        Mistake(
            "no-floor",
            _always,
            "You divide by s even where s < 1: a pale picture is stretched until it saturates. With max(1, …) what "
            "lies within [−1, 1] already stays as it is.",
        ),
        Mistake(
            "never-clipped",
            lambda x0, quantile: x0 / _sizes(x0, quantile).clamp(min=1),
            "You divide by s without clipping at it: the few values beyond the quantile still leave [−1, 1].",
        ),
        Mistake(
            "never-divided",
            lambda x0, quantile: x0.clamp(-_sizes(x0, quantile).clamp(min=1), _sizes(x0, quantile).clamp(min=1)),
            "You clip at s and stop there. The picture then fills [−s, s]; divide by s to bring it back.",
        ),
        Mistake(
            "signed",
            _signed,
            "Your quantile is that of x̂0, not of |x̂0|: a picture that is too *dark* goes unnoticed. Take the absolute "
            "value first.",
        ),
    ),
    alternatives=(
        _by_sorting,
        lambda x0, quantile: (x0 / _sizes(x0, quantile).clamp(min=1)).clamp(-1, 1),
    ),
    hints=(
        "Three steps: one number s for every picture, clip at ±s, divide by s.",
        "`torch.quantile(x0.abs().flatten(1), quantile, dim=1)` has shape (B,). What if it is below 1?",
        "`s = ….clamp(min=1).reshape(-1, *[1] * (x0.ndim - 1))`, then `x0.clamp(-s, s) / s`.",
    ),
    expected="at the limit are 0.079 ± 0.004 of the numbers without a threshold, 0.086 ± 0.004 with the static one, "
    "0.007 ± 0.000 and 0.035 ± 0.001 with the quantiles 0.995 and 0.97; right are 0.64 ± 0.19, 0.59 ± 0.10, "
    "0.23 ± 0.03 and 0.54 ± 0.06 (5 seeds): the price of 0.995 is contrast, 0.32 instead of 0.41.",
    trap="at small w nothing leaves [−1, 1], and then static, dynamic and no thresholding are the same picture; and "
    "in a batch of one the quantile of the batch is that of the picture.",
)
