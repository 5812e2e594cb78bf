"""Exercise 02-heun-step: Heun's step."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal
from ._common import require_one_time

Velocity = Callable[[Tensor, Tensor], Tensor]


class _Slope:
    """u(x, t) for Heun's step: undefined (0/0) at t = 0 like a denoiser's, steep near it, and counting its calls."""

    def __init__(self, a: float):
        self.a, self.calls = a, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        require_one_time(t)
        self.calls += 1
        return torch.cos(self.a * x) * (t / t).to(x.dtype) + x * t.sqrt().to(x.dtype)


def _draw_slopes(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(t: float, s: float, shape=(5, 2), dtype: torch.dtype = torch.float64) -> Inputs:
        slope = _Slope(1 + float(torch.rand((), generator=g)))
        return slope, normal(shape, g, dtype), *(torch.tensor(v, dtype=torch.float64) for v in (t, s))

    pictures = case(0.5, 0.4, (2, 1, 3, 3), torch.float32)
    return [case(0.8, 0.5), case(1.0, 0.6, (1, 3)), case(0.3, 0.0), case(0.2, 1e-4, (3, 3)), pictures]


def _with_calls(answer: Tensor, velocity: _Slope, *others: Tensor) -> tuple[Tensor, int]:
    return answer, velocity.calls


def heun_step(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One step of Heun's method along dx/dt = velocity(x, t)."""
    slope = velocity(x_t, t)
    x_s = x_t + (s - t) * slope
    return x_s if s == 0 else x_t + (s - t) * (slope + velocity(x_s, s)) / 2


def _heun_is_euler(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    return x_t + (s - t) * velocity(x_t, t)


def _heun_no_end(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    slope = velocity(x_t, t)
    x_s = x_t + (s - t) * slope
    return x_t + (s - t) * (slope + velocity(x_s, s)) / 2


def _heun_old_place(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    slope = velocity(x_t, t)
    return x_t + (s - t) * (slope if s == 0 else (slope + velocity(x_t, s)) / 2)


def _heun_no_half(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    slope = velocity(x_t, t)
    x_s = x_t + (s - t) * slope
    return x_s if s == 0 else x_t + (s - t) * (slope + velocity(x_s, s))


def _heun_from_x_s(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    slope = velocity(x_t, t)
    x_s = x_t + (s - t) * slope
    return x_s if s == 0 else x_s + (s - t) * (slope + velocity(x_s, s)) / 2


def _midpoint(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    half = x_t + (s - t) / 2 * velocity(x_t, t)
    return x_t + (s - t) * velocity(half, (t + s) / 2)


def _heun_as_correction(velocity: Velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    h, first = s - t, velocity(x_t, t)
    second = first if s == 0 else velocity(x_t + h * first, s)
    return torch.lerp(x_t + h * first, x_t + h * second, torch.tensor(0.5, dtype=x_t.dtype))


EXERCISE = Exercise(
    id="02-heun-step",
    title="One step of Heun's method, and its last one",
    points=2,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_slopes,
    reference=heun_step,
    probe=_with_calls,
    mistakes=(
        Mistake(
            "no-end-case",
            _heun_no_end,
            "Your step asks for the velocity at s = 0. There ε̂ = (x − α·x̂0)/σ is 0/0, so the answer is NaN. In the "
            "last step go with the first slope alone.",
        ),
        Mistake(
            "euler",
            _heun_is_euler,
            "This is Euler's method: it keeps the slope of the beginning all the way. Heun goes to the end, asks "
            "there once more, and starts again from x_t with the mean of both slopes.",
        ),
        Mistake(
            "old-place",
            _heun_old_place,
            "You asked for the second slope at time s but at the old place x_t. The second slope belongs to where "
            "Euler's step arrived.",
        ),
        Mistake(
            "no-half",
            _heun_no_half,
            "You added the two slopes. It is their mean that counts: divide by 2.",
        ),
        Mistake(
            "from-the-new-place",
            _heun_from_x_s,
            "You went on from where Euler's step arrived, and so took the way twice. The trial step is only for "
            "asking; start again from x_t.",
        ),
        Mistake(
            "midpoint",
            _midpoint,
            "This is the midpoint rule: also of second order with two calls, and in the last step it even avoids "
            "t = 0, but it is not Heun's method, which takes the mean of the slopes at both ends.",
        ),
    ),
    alternatives=(_heun_as_correction,),
    shortcuts=("minidiff.samplers.heun",),
    hints=(
        "Make Euler's step first. What does the velocity say at the place where you arrive?",
        "x_s = x_t + (s − t)·slope; second = velocity(x_s, s); now go again from x_t with the mean of both.",
        "If `s == 0`, return x_s before asking a second time; otherwise x_t + (s - t) * (slope + second) / 2.",
    ),
    expected="with 64 steps instead of 32 the error falls by a factor 3.80 ± 0.03 (5 seeds); in the limit it is 4.",
    trap="without the end case everything works while you test with steps that stop before t = 0; then the very last "
    "step of the first real trajectory turns every pixel into NaN.",
    rtol=1e-4,
    atol=1e-5,
)
