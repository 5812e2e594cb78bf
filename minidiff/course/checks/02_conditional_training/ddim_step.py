"""Exercise 02-ddim-step: a DDIM step."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.samplers import ddim
from minidiff.schedules import DDPM, Cosine, Linear, Schedule

from .._common import normal
from ._common import require_one_time

Denoise = Callable[[Tensor, Tensor], Tensor]


class _Denoiser:
    """A made-up x̂0, beyond ±1 in places (no clipping), at one time for the whole batch; it counts its calls."""

    def __init__(self, a: float):
        self.a, self.calls = a, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        require_one_time(t)
        self.calls += 1
        return 2 * torch.tanh(self.a * x) * (1.2 - t).to(x.dtype)


def _draw_steps(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(schedule: Schedule, t: float, s: float, shape=(5, 2), dtype: torch.dtype = torch.float64) -> Inputs:
        denoise = _Denoiser(1 + float(torch.rand((), generator=g)))
        times = (torch.tensor(v, dtype=torch.float64) for v in (t, s))
        return denoise, normal(shape, g, dtype), *times, schedule

    return [
        case(Linear(), 0.7, 0.5),
        case(Cosine(), 0.7, 0.5),
        case(Linear(), 1.0, 0.9),  # α_t = 0: the first step of every trajectory
        case(Linear(), 3e-4, 1e-4, (2, 3)),  # hardly any noise: no lower limit of σ is needed
        case(DDPM(), 0.1, 0.0, (1, 3)),  # σ_s = 0: the last one
        case(DDPM(), 0.6, 0.2, (2, 1, 3, 3), torch.float32),
    ]


def _with_calls(answer: Tensor, denoise: _Denoiser, *others: object) -> tuple[Tensor, int]:
    return answer, denoise.calls


def ddim_step(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    """x_s = α_s·x̂0 + σ_s·ε̂."""
    return ddim(schedule)(denoise, x_t, t, s, None)


def _ddim_eps_at_s(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (alpha_t, _), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x0 = denoise(x_t, t)
    return alpha_s * x0 + (x_t - alpha_t * x0) / sigma_s * sigma_s


def _ddim_asked_at_s(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x0 = denoise(x_t, s)
    return alpha_s * x0 + sigma_s * (x_t - alpha_t * x0) / sigma_t


def _ddim_linear_only(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    alpha, sigma = schedule(t)
    x0 = denoise(x_t, t)
    return x_t + (s - t) * ((x_t - alpha * x0) / sigma - x0)


def _ddim_alpha_forgotten(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (_, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x0 = denoise(x_t, t)
    return alpha_s * x0 + sigma_s * (x_t - x0) / sigma_t


def _ddim_old_noise(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (_, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    return alpha_s * denoise(x_t, t) + sigma_s * x_t / sigma_t


def _ddim_asked_twice(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    return alpha_s * denoise(x_t, t) + sigma_s * (x_t - alpha_t * denoise(x_t, t)) / sigma_t


def _ddim_as_a_mix(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    shrink = sigma_s / sigma_t
    return shrink * x_t + (alpha_s - shrink * alpha_t) * denoise(x_t, t)


EXERCISE = Exercise(
    id="02-ddim-step",
    title="One step of DDIM",
    points=2,
    difficulty=2,
    importance=5,
    minutes=10,
    draw=_draw_steps,
    reference=ddim_step,
    probe=_with_calls,
    mistakes=(
        Mistake(
            "eps-at-s",
            _ddim_eps_at_s,
            "You divided by σ_s to get ε̂. The state x_t was made with the levels of t, so ε̂ = (x_t − α_t·x̂0)/σ_t; "
            "the levels of s come in only when you mix anew.",
        ),
        Mistake(
            "asked-at-s",
            _ddim_asked_at_s,
            "You asked the denoiser about time s. The state is still at t: call `denoise(x_t, t)`.",
        ),
        Mistake(
            "linear-only",
            _ddim_linear_only,
            "x_t + (s − t)·(ε̂ − x̂0) is DDIM on the straight path only. In general: take x̂0 and ε̂ apart, then mix "
            "them with α_s and σ_s.",
        ),
        Mistake(
            "alpha-t-forgotten",
            _ddim_alpha_forgotten,
            "You took x_t − x̂0 for the noise. The picture is in x_t with weight α_t only: ε̂ = (x_t − α_t·x̂0)/σ_t.",
        ),
        Mistake(
            "picture-counted-twice",
            _ddim_old_noise,
            "You rescaled all of x_t as if it were noise. It still holds α_t·x̂0: take that out before you divide.",
        ),
        Mistake(
            "asked-twice",
            _ddim_asked_twice,
            "Right, but you called the denoiser twice for the same answer. It is a run of the network, the expensive "
            "part: keep x̂0 in a variable.",
        ),
    ),
    alternatives=(_ddim_as_a_mix,),
    hints=(
        "One call of the denoiser tells both unknowns of x_t = α_t·x0 + σ_t·ε. Write ε̂ in terms of x̂0.",
        "ε̂ = (x_t − α_t·x̂0)/σ_t. Now make the picture that x̂0 and ε̂ would give at time s.",
        "`alpha_s * x0 + sigma_s * (x_t - alpha_t * x0) / sigma_t`",
    ),
    expected="16 steps to the three hills end at W1 = 0.056 ± 0.017 from exact samples (5 seeds); two exact samples "
    "are 0.024 ± 0.005 apart.",
    trap="at s close to t nearly every formula returns something close to x_t, and a long chain of such steps ends "
    "somewhere plausible. Look at the last step: at s = 0 it must return x̂0 and nothing else.",
    rtol=1e-4,
    atol=1e-5,
)
