"""Exercise 02-observed-order: measuring an order."""

import numpy as np
import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_errors(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(order: float, plateau: float, n: int) -> Inputs:
        calls = torch.tensor([4.0 * 2**k for k in range(n)], dtype=torch.float64)
        wobble = torch.exp(0.1 * normal((n,), g))
        return calls, 3.0 * calls ** (-order) * wobble + plateau * (1 + 0.2 * normal((n,), g).abs()), plateau

    return [case(1.0, 1e-4, 10), case(2.0, 1e-4, 9), case(2.0, 1e-7, 12), case(1.0, 0.0, 5)]


def observed_order(calls: Tensor, errors: Tensor, plateau: float) -> float:
    """The order p in error ≈ C·calls^(−p), from the points well above the plateau."""
    use = errors > 10 * plateau
    return -float(np.polyfit(calls[use].log().numpy(), errors[use].log().numpy(), 1)[0])


def _order_signed(calls: Tensor, errors: Tensor, plateau: float) -> float:
    return -observed_order(calls, errors, plateau)


def _order_with_plateau(calls: Tensor, errors: Tensor, plateau: float) -> float:
    return -float(np.polyfit(calls.log().numpy(), errors.log().numpy(), 1)[0])


def _order_half_log(calls: Tensor, errors: Tensor, plateau: float) -> float:
    use = errors > 10 * plateau
    return -float(np.polyfit(calls[use].numpy(), errors[use].log().numpy(), 1)[0])


def _order_no_log(calls: Tensor, errors: Tensor, plateau: float) -> float:
    use = errors > 10 * plateau
    return -float(np.polyfit(calls[use].numpy(), errors[use].numpy(), 1)[0])


def _order_inverse(calls: Tensor, errors: Tensor, plateau: float) -> float:
    use = errors > 10 * plateau
    return -float(np.polyfit(errors[use].log().numpy(), calls[use].log().numpy(), 1)[0])


def _order_by_hand(calls: Tensor, errors: Tensor, plateau: float) -> float:
    use = errors > 10 * plateau
    x, y = torch.log2(calls[use]), torch.log2(errors[use])
    x, y = x - x.mean(), y - y.mean()
    return float(-(x * y).sum() / (x * x).sum())


EXERCISE = Exercise(
    id="02-observed-order",
    title="Which order has this sampler?",
    points=2,
    difficulty=2,
    importance=3,
    minutes=10,
    draw=_draw_errors,
    reference=observed_order,
    mistakes=(
        Mistake(
            "plateau-included",
            _order_with_plateau,
            "You fitted all points. Those near the plateau say nothing about the method, only about the error that "
            "stays however many steps you take; they flatten the line. Keep `errors > 10 * plateau`.",
        ),
        Mistake(
            "sign",
            _order_signed,
            "The slope of the line is −p, as the error falls; the order p is a positive number.",
        ),
        Mistake(
            "log-of-errors-only",
            _order_half_log,
            "You took the logarithm of the errors alone. A power law is a straight line only when both axes are "
            "logarithmic.",
        ),
        Mistake(
            "no-logs",
            _order_no_log,
            "You fitted a line to the numbers themselves. Take logarithms of both: log(error) = log C − p·log(calls).",
        ),
        Mistake(
            "axes-swapped",
            _order_inverse,
            "You fitted calls against errors; the slope you get is about −1/p. Errors go up the y-axis.",
        ),
    ),
    alternatives=(_order_by_hand,),
    hints=(
        "Take the logarithm of error = C·calls^(−p). Which straight line is that, and what is its slope?",
        "Fit a line to (log calls, log errors) with `np.polyfit(x, y, 1)`, whose first number is the slope.",
        "First keep only `use = errors > 10 * plateau`; then p is minus the slope.",
    ),
    expected="above the plateau the fit gives 1.80 ± 0.05, with all points 1.25 ± 0.06 (5 seeds). The order 2 is that "
    "of small steps; from 16 to 64 calls it is not quite reached.",
    trap="a plot of all points looks fine, and a fitted order of 1.3 for a method of order 2 invites the thought that "
    "theory is optimistic. It is the plateau that bends the line.",
)
