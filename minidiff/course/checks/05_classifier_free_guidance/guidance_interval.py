"""Exercise 05-guidance-interval: guidance in an interval."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import Denoise, bind, extrapolate, within


class _Counting:
    """A smooth made-up model of (x_t, t, y) that counts the pictures it is asked about."""

    def __init__(self, seed: int):
        g = Generator().manual_seed(seed)
        self.shift = torch.randn(4, 2, generator=g, dtype=torch.float64)
        self.pictures = 0

    def __call__(self, x_t: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        self.pictures += len(x_t)
        return torch.tanh(x_t + self.shift[y].to(x_t)) * (1 - t / 2)


def _draw_intervals(seed: int) -> list[Inputs]:
    def case(i: int, n: int, w: float, low: float, high: float) -> Inputs:
        y = torch.arange(n) % 3
        return _Counting(10 * seed + i), y, torch.full((n,), 3), w, low, high

    return [
        case(0, 5, 3.0, 0.25, 0.75),
        case(1, 1, 7.0, 0.0, 0.5),
        case(2, 4, -1.0, 0.5, 1.0),
        case(3, 3, 1.0, 0.0, 1.0),
    ]


def interval(model: Callable[..., Tensor], y: Tensor, null: Tensor, w: float, low: float, high: float) -> Denoise:
    """Classifier-free guidance while low ≤ t ≤ high, the plain conditional outside."""
    plain = bind(model, y=y)
    return within(extrapolate(plain, bind(model, y=null), w), plain, low, high)


def _along_t(answer: Denoise, model: _Counting, y: Tensor, *rest: object) -> tuple[Tensor, ...]:
    """x̂0 at five times, ends of the interval included, and how many pictures the model saw on the way."""
    x = torch.linspace(-1, 1, 2 * len(y), dtype=torch.float64).reshape(len(y), 2)
    found = [answer(x, torch.tensor(t, dtype=torch.float64)) for t in (1.0, 0.75, 0.5, 0.25, 0.0)]
    return torch.stack(found), torch.tensor(model.pictures)


def _switched(when: Callable[[float, float, float], bool], outside: str = "cond") -> Callable[..., Denoise]:
    def wrong(model: Callable[..., Tensor], y: Tensor, null: Tensor, w: float, low: float, high: float) -> Denoise:
        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            if not when(float(t), low, high):
                return model(x_t, t, y=y if outside == "cond" else null)
            cond = model(x_t, t, y=y)
            return cond + w * (cond - model(x_t, t, y=null))

        return denoise

    return wrong


def _wasteful(model, y, null, w, low, high):
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = model(x_t, t, y=y), model(x_t, t, y=null)
        return cond + w * (cond - uncond) if low <= float(t) <= high else cond

    return denoise


def _batched(model, y, null, w, low, high):
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if not low <= float(t) <= high:
            return model(x_t, t, y=y)
        cond, uncond = model(torch.cat([x_t, x_t]), t, y=torch.cat([y, null])).chunk(2)
        return torch.lerp(uncond, cond, 1 + w)

    return denoise


EXERCISE = Exercise(
    id="05-guidance-interval",
    title="Guide only where it helps",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_intervals,
    reference=interval,
    probe=_along_t,
    mistakes=(
        Mistake(
            "inside-out",
            _switched(lambda t, low, high: not low <= t <= high),
            "You guide outside the interval and leave the inside plain. Turn the condition round.",
        ),
        Mistake(
            "null-outside",
            _switched(lambda t, low, high: low <= t <= high, outside="null"),
            "Outside the interval you fall back to the unconditional branch, so the label is forgotten there. "
            "Fall back to the conditional one (w = 0), not to w = −1.",
        ),
        Mistake(
            "both-always",
            _wasteful,
            "The values are right, but you evaluate the null branch also where nothing uses it. Half of the gain of an "
            "interval is speed: call the model once outside it.",
        ),
        Mistake(
            "one-sided",
            _switched(lambda t, low, high: t <= high),
            "You check the upper end of the interval only: below `low` guidance should be off as well.",
        ),
        Mistake(
            "open-ends",
            _switched(lambda t, low, high: low < t < high),
            "Your interval leaves out its own ends. They belong to it: low ≤ t ≤ high. At t = 1, pure noise, "
            "this decides whether the very first step is guided.",
        ),
        Mistake(
            "always",
            _switched(lambda t, low, high: True),
            "You guide at every t: `low` and `high` are not used.",
        ),
    ),
    alternatives=(_batched, _switched(lambda t, low, high: not (t < low or t > high))),
    hints=(
        "Return a function of (x_t, t) that asks: is t in the interval?",
        "Outside: `model(x_t, t, y=y)` and nothing else. Inside: both branches, combined with w.",
        "`if low <= float(t) <= high:` … Beware of evaluating the null branch before this line.",
    ),
    expected="w = 3 for t ≤ 0.4 gives accuracy 0.995 ± 0.003 with 0.56 ± 0.02 of the points in the lookalike clouds; "
    "guided everywhere only 0.23 ± 0.03 are there (5 seeds).",
    trap="evaluating both branches everywhere gives the right points, so no picture tells you; only the clock does.",
)
