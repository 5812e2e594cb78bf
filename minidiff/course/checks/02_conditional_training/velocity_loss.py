"""Exercise 02-velocity-loss: the loss of one batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import VELOCITY
from minidiff.schedules import Linear
from minidiff.shapes import expand_like
from minidiff.validate import describe, require

from .._common import normal
from ._common import require_one_time_each

Net = Callable[..., Tensor]


def _draw_losses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    a, b, c = normal((3,), g).tolist()

    def net(x: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        require_one_time_each(x, t)
        labels = y.shape == x.shape[:1] and y.dtype == torch.int64
        require(labels, "the network's y", describe(y), f"int64 labels of shape ({len(x)},)")
        t_, y_ = expand_like(t, x), expand_like(y, x)
        return torch.sin(a * x) + (b * t_ + c * y_).to(x.dtype)

    def case(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Inputs:
        t = torch.rand(shape[0], generator=g, dtype=torch.float64).to(dtype)
        t[0] = 1.0  # pure noise is a training time too
        y = torch.randint(10, (shape[0],), generator=g)
        return net, normal(shape, g, dtype), normal(shape, g, dtype), t, y

    # In every case B equals the last axis or is 1: t of shape (B,) then broadcasts over pixels without an error.
    shapes = ((4, 1, 4, 4), (2, 2), (1, 1, 3, 3), (3, 1, 2, 3))
    return [*(case(shape) for shape in shapes), case((3, 2, 5, 3), torch.float32)]


def _mean(squares: Tensor) -> Tensor:
    return squares.flatten(1).mean(1)


def velocity_loss(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Flow matching's loss of each picture."""
    schedule, t_ = Linear(), expand_like(t, x0)
    target = VELOCITY.target(schedule, x0, eps, t_)
    return _mean((net(schedule.add_noise(x0, eps, t), t, y=y) - target).square())


def _loss_raw_t(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return _mean((net((1 - t) * x0 + t * eps, t, y=y) - (eps - x0)).square())


def _loss_flipped(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return _mean((net((1 - t_) * x0 + t_ * eps, t, y=y) - (x0 - eps)).square())


def _loss_reversed_time(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return _mean((net(t_ * x0 + (1 - t_) * eps, t, y=y) - (eps - x0)).square())


def _loss_eps(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return _mean((net((1 - t_) * x0 + t_ * eps, t, y=y) - eps).square())


def _loss_expanded_t(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return _mean((net((1 - t_) * x0 + t_ * eps, t_, y=y) - (eps - x0)).square())


def _loss_summed(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return (net((1 - t_) * x0 + t_ * eps, t, y=y) - (eps - x0)).square().flatten(1).sum(1)


def _loss_lerp(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    x_t = torch.lerp(x0, eps, expand_like(t, x0))
    squares = F.mse_loss(net(x_t, t, y=y), eps - x0, reduction="none")
    return squares.mean(dim=tuple(range(1, x0.ndim)))


EXERCISE = Exercise(
    id="02-velocity-loss",
    title="The loss of one batch",
    points=2,
    difficulty=1,
    importance=5,
    minutes=10,
    draw=_draw_losses,
    reference=velocity_loss,
    mistakes=(
        Mistake(
            "time-not-expanded",
            _loss_raw_t,
            "You multiplied pictures (B, C, H, W) by t of shape (B,). PyTorch lines shapes up from the right, so your "
            "times run along the pixels of a row: silent where B equals the width, an error elsewhere. Give t "
            "trailing ones: `expand_like(t, x0)`.",
        ),
        Mistake(
            "target-flipped",
            _loss_flipped,
            "Your target is x0 − ε. Here t = 0 is data and t = 1 is noise, so the velocity dx_t/dt points from data "
            "to noise: ε − x0. (Papers that count time the other way round have the other sign.)",
        ),
        Mistake(
            "time-reversed",
            _loss_reversed_time,
            "You noised with x_t = t·x0 + (1 − t)·ε, where t = 1 is the data. In this course t = 0 is data: "
            "x_t = (1 − t)·x0 + t·ε.",
        ),
        Mistake(
            "target-eps",
            _loss_eps,
            "Your target is ε, which is DDPM's. The velocity is the derivative of x_t = (1 − t)·x0 + t·ε with "
            "respect to t: both terms contribute.",
        ),
        Mistake(
            "expanded-time-to-the-network",
            _loss_expanded_t,
            "You handed the network t with trailing ones, shape (B, 1, …). That shape is for multiplying pictures; "
            "a network embeds one time per picture, shape (B,). Keep both: `t` for `net`, the expanded one for x_t.",
        ),
        Mistake(
            "sum-of-pixels",
            _loss_summed,
            "You summed over channels and pixels. Take the mean, so that the loss, and with it the right learning "
            "rate, does not depend on the size of the picture.",
        ),
    ),
    alternatives=(_loss_lerp,),
    hints=(
        "Three things happen: make x_t, ask the network, compare with the target. Which shapes do t and x0 have?",
        "`t_ = expand_like(t, x0)` broadcasts over pictures; the network itself wants t of shape (B,).",
        "x_t = (1 - t_) * x0 + t_ * eps; the target is eps - x0; then `.square().flatten(1).mean(1)`.",
    ),
    expected="on 20,000 points the best possible conditional network has a loss of 1.379 ± 0.005, and the best "
    "network that ignores the label 1.512 ± 0.003 (5 seeds): neither is zero.",
    trap="with t of shape (B,) and square pictures, PyTorch raises no error whenever the batch size equals the width, "
    "and the network still learns something. Test with a batch size that is not one of the picture's sides.",
)
