"""What the network is asked to predict, and how to get x̂0 back from it, side by side.

Each `Prediction` holds the training target and its inverse, so that they cannot drift apart. With x_t = α·x0 + σ·ε
all four are the same information in other coordinates; they weigh the noise levels differently in training.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from minidiff.schedules import Schedule
from minidiff.validate import positive, require


@dataclass(frozen=True)
class Prediction:
    """`target(schedule, x0, eps, t)` is what the network should output; `to_x0(schedule, x_t, output, t)` inverts it.

    t must broadcast over x0: a scalar, or (B, 1, …) as `shapes.expand_like` makes it.
    """

    name: str
    target: Callable[[Schedule, Tensor, Tensor, Tensor], Tensor]
    to_x0: Callable[[Schedule, Tensor, Tensor, Tensor], Tensor]


def _eps_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    return eps


def _eps_to_x0(schedule: Schedule, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    if t.device.type == "cpu":  # on a GPU, reading the value back would make the host wait
        smallest = float(alpha.detach().min())
        expected = (
            "α(t) > 0: at α = 0 the noise says nothing about x0; start the grid below t = 1, or predict X0, V, VELOCITY"
        )
        require(smallest > 0, "t", f"a time with α(t) = {smallest:g} for an EPS network", expected)
    return (x_t - sigma * output) / alpha


def _x0_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    return x0


def _x0_to_x0(schedule: Schedule, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
    return output


def _v_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    return alpha * eps - sigma * x0


def _v_to_x0(schedule: Schedule, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    whole = alpha**2 + sigma**2
    return alpha / whole * x_t - sigma / whole * output  # σ·output alone would leave the range of half precision


def _velocity_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    d_alpha, d_sigma = schedule.rates(t)
    return d_alpha * x0 + d_sigma * eps


def _velocity_to_x0(schedule: Schedule, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    turn = alpha * d_sigma - d_alpha * sigma
    return d_sigma / turn * x_t - sigma / turn * output  # neither product alone, which half precision cannot hold


EPS = Prediction("eps", _eps_target, _eps_to_x0)
"""The noise ε (DDPM, arXiv 2006.11239). Says nothing about x0 where α = 0."""

X0 = Prediction("x0", _x0_target, _x0_to_x0)
"""The clean picture."""

V = Prediction("v", _v_target, _v_to_x0)
"""v = α·ε − σ·x0 (progressive distillation, arXiv 2202.00512): well posed at both ends."""

VELOCITY = Prediction("velocity", _velocity_target, _velocity_to_x0)
"""dx_t/dt = α'·x0 + σ'·ε (flow matching, arXiv 2210.02747); on the Linear path ε − x0."""


def velocity_weight(schedule: Schedule, t: Tensor, floor: float = 0.1) -> Tensor:
    """The weight that makes an X0 network's error the error of the velocity it implies: (α' − σ'·α/σ)², (B,).

    1/t² on the linear path. σ is kept above `floor`, where a small error of x̂0 would be a huge one of the velocity.
    The network then answers in the space of pictures and is judged in that of velocities (arXiv 2511.13720).
    """
    floor = positive("floor", floor)
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    return (d_alpha - d_sigma * alpha / sigma.clamp(min=floor)) ** 2
