"""The exercises of chapter 02: inputs, right answers, and wrong ones that deserve an answer of their own."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.predictions import VELOCITY
from minidiff.samplers import ddim
from minidiff.schedules import DDPM, Cosine, Linear, Schedule
from minidiff.shapes import expand_like

Net = Callable[..., Tensor]
Denoise = Callable[[Tensor, Tensor], Tensor]
Velocity = Callable[[Tensor, Tensor], Tensor]


def _randn(shape: tuple[int, ...], g: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


# ------------------------------------------------------------------------------------------------ 1: the loss


def _draw_losses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    a, b, c = _randn((3,), g).tolist()

    def net(x: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        t_, y_ = expand_like(t, x), expand_like(y, x)
        return torch.sin(a * x) + (b * t_ + c * y_).to(x.dtype)

    def case(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Inputs:
        t = torch.rand(shape[0], generator=g, dtype=torch.float64).to(dtype)
        t[0] = 1.0  # pure noise is a training time too
        y = torch.randint(10, (shape[0],), generator=g)
        return net, _randn(shape, g, dtype), _randn(shape, g, dtype), t, y

    # In every case B equals the last axis or is 1: t of shape (B,) then broadcasts over pixels without an error.
    return [case((4, 1, 4, 4)), case((2, 2)), case((1, 1, 3, 3)), case((3, 2, 5, 3), torch.float32)]


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


def _loss_clean_input(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return _mean((net(x0, t, y=y) - (eps - x0)).square())


def _loss_summed(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    t_ = expand_like(t, x0)
    return (net((1 - t_) * x0 + t_ * eps, t, y=y) - (eps - x0)).square().flatten(1).sum(1)


def _loss_lerp(net: Net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    x_t = torch.lerp(x0, eps, expand_like(t, x0))
    squares = F.mse_loss(net(x_t, t, y=y), eps - x0, reduction="none")
    return squares.mean(dim=tuple(range(1, x0.ndim)))


VELOCITY_LOSS = Exercise(
    id="02-velocity-loss",
    title="The loss of one batch",
    points=2,
    difficulty=2,
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
            "clean-input",
            _loss_clean_input,
            "You gave the network the clean x0. It has to learn from the noisy x_t, the only thing a sampler has.",
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

# ------------------------------------------------------------------------------- 2: x0 and eps from a velocity


def _draw_velocities(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(schedule: Schedule, shape: tuple[int, ...], t: float, dtype: torch.dtype = torch.float64) -> Inputs:
        return schedule, _randn(shape, g, dtype), _randn(shape, g, dtype), torch.tensor(t, dtype=torch.float64)

    return [
        case(Linear(), (4, 2), 0.3),
        case(Cosine(), (4, 2), 0.3),
        case(Linear(), (1, 1, 4, 4), 0.0),  # no noise: σ = 0
        case(Cosine(), (2, 3), 1.0),  # only noise: α = 0
        case(DDPM(), (3, 1, 2, 2), 0.5, torch.float32),
    ]


def x0_and_eps(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Solve x_t = α·x0 + σ·ε and u = α'·x0 + σ'·ε."""
    (alpha, _), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    x0 = VELOCITY.to_x0(schedule, x_t, u, t)
    eps = (alpha * u - d_alpha * x_t) / (alpha * d_sigma - d_alpha * schedule(t)[1])
    return x0, eps


def _pair_linear_only(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return x_t - t * u, x_t + (1 - t) * u


def _pair_no_determinant(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    return d_sigma * x_t - sigma * u, alpha * u - d_alpha * x_t


def _pair_divided_by_sigma(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule(t)
    x0 = VELOCITY.to_x0(schedule, x_t, u, t)
    return x0, (x_t - alpha * x0) / sigma


def _pair_from_v(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule(t)
    return alpha * x_t - sigma * u, sigma * x_t + alpha * u


def _pair_levels_swapped(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    (sigma, alpha), (d_sigma, d_alpha) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return (d_sigma * x_t - sigma * u) / determinant, (alpha * u - d_alpha * x_t) / determinant


def _pair_solved(schedule: Schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    matrix = torch.stack([torch.stack(schedule(t)), torch.stack(schedule.rates(t))]).to(x_t)  # (2, 2)
    both = torch.linalg.solve(matrix, torch.stack([x_t.flatten(), u.flatten()]))
    return both[0].reshape(x_t.shape), both[1].reshape(x_t.shape)


X0_AND_EPS = Exercise(
    id="02-x0-and-eps",
    title="Clean picture and noise from a velocity, on any schedule",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_velocities,
    reference=x0_and_eps,
    mistakes=(
        Mistake(
            "linear-only",
            _pair_linear_only,
            "x_t − t·u and x_t + (1 − t)·u are right for `Linear` and no other schedule: there α = 1 − t, σ = t and "
            "the rates are −1 and 1. Take all four numbers from `schedule`.",
        ),
        Mistake(
            "no-determinant",
            _pair_no_determinant,
            "You eliminated one unknown but did not divide by what is left in front of the other, α·σ' − α'·σ. "
            "It is 1 on `Linear`, which hides it, and π/2 on `Cosine`.",
        ),
        Mistake(
            "divided-by-sigma",
            _pair_divided_by_sigma,
            "You found ε as (x_t − α·x̂0)/σ. That is right while σ > 0, and 0/0 at t = 0. Solve for ε directly: the "
            "determinant α·σ' − α'·σ does not vanish there.",
        ),
        Mistake(
            "v-not-velocity",
            _pair_from_v,
            "You used the formulas of v = α·ε − σ·x0. The velocity is another quantity: u = α'·x0 + σ'·ε, with the "
            "rates of the schedule.",
        ),
        Mistake(
            "alpha-sigma-swapped",
            _pair_levels_swapped,
            "You swapped α and σ (and their rates): `schedule(t)` returns (α, σ), first the picture's share, then "
            "the noise's.",
        ),
    ),
    alternatives=(_pair_solved,),
    shortcuts=("minidiff.predictions.VELOCITY",),
    hints=(
        "Two linear equations, two unknowns. Multiply them so that one unknown cancels when you subtract.",
        "σ'·(first) − σ·(second) has no ε left; α·(second) − α'·(first) has no x0 left.",
        "x0 = (σ'·x_t − σ·u)/(α·σ' − α'·σ). The same denominator serves ε.",
    ),
    expected="a pair of float64 pictures survives the round trip with an error below 1e-12 (5 seeds: 8e-16 ± 2e-16).",
    trap="on Linear, the schedule everybody tries first, the determinant is exactly 1 and forgetting it changes "
    "nothing. A formula tried on one schedule has not been tried.",
    rtol=1e-4,
    atol=1e-5,
)

# ------------------------------------------------------------------------------------------ 3: what a loss weighs

Weights = tuple[Tensor, Tensor, Tensor]


def _draw_times(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    t = 0.02 + 0.96 * torch.rand(5, generator=g, dtype=torch.float64)
    return [(Linear(), t), (Cosine(), t), (DDPM(), t), (Linear(), torch.tensor(0.5, dtype=torch.float64))]


def loss_weights(schedule: Schedule, t: Tensor) -> Weights:
    """The weight of ‖x̂0 − x0‖² in the losses of ε, v and velocity."""
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return (alpha / sigma) ** 2, ((alpha**2 + sigma**2) / sigma) ** 2, (determinant / sigma) ** 2


def _weights_upside_down(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, velocity = loss_weights(schedule, t)
    return 1 / eps, 1 / v, 1 / velocity


def _weights_not_squared(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, velocity = loss_weights(schedule, t)
    return eps.sqrt(), v.sqrt(), velocity.sqrt()


def _weights_on_the_circle(schedule: Schedule, t: Tensor) -> Weights:
    eps, _, velocity = loss_weights(schedule, t)
    return eps, eps + 1, velocity


def _weights_on_the_line(schedule: Schedule, t: Tensor) -> Weights:
    eps, v, _ = loss_weights(schedule, t)
    return eps, v, 1 / schedule(t)[1] ** 2


def _weights_of_noise(schedule: Schedule, t: Tensor) -> Weights:
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    return torch.ones_like(alpha), ((alpha**2 + sigma**2) / alpha) ** 2, (determinant / alpha) ** 2


def _weights_from_slopes(schedule: Schedule, t: Tensor) -> Weights:
    from minidiff.predictions import EPS, V

    def weight(prediction) -> Tensor:  # x̂0 is affine in the output; its slope tells how errors are carried over
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        slope = prediction.to_x0(schedule, zero, one, t) - prediction.to_x0(schedule, zero, zero, t)
        return 1 / slope**2

    return weight(EPS), weight(V), weight(VELOCITY)


LOSS_WEIGHTS = Exercise(
    id="02-loss-weights",
    title="The same information, other weights",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_times,
    reference=loss_weights,
    mistakes=(
        Mistake(
            "upside-down",
            _weights_upside_down,
            "Your weights are the inverse of the right ones. If ε̂ − ε = −(α/σ)·(x̂0 − x0), then the loss of ε is "
            "(α/σ)² times that of x0: near the data, where σ is small, an error of ε is a *large multiple* of it.",
        ),
        Mistake(
            "not-squared",
            _weights_not_squared,
            "You give the factors between the errors. The losses are *squared* errors, so the factors are squared.",
        ),
        Mistake(
            "v-on-the-circle",
            _weights_on_the_circle,
            "Your weight of v is SNR + 1, which holds where α² + σ² = 1 (Cosine, DDPM). On Linear it is not: keep "
            "α² + σ² in the formula.",
        ),
        Mistake(
            "velocity-on-the-line",
            _weights_on_the_line,
            "Your weight of the velocity is 1/σ², which holds on `Linear` only. In general the determinant "
            "α·σ' − α'·σ stands above σ, and it depends on the schedule.",
        ),
        Mistake(
            "errors-of-eps",
            _weights_of_noise,
            "You weighed the errors of ε̂; asked for are the weights of ‖x̂0 − x0‖². Replace ε̂ − ε by "
            "−(α/σ)·(x̂0 − x0), as x_t is given.",
        ),
    ),
    alternatives=(_weights_from_slopes,),
    hints=(
        "x_t is fixed, so α·x̂0 + σ·ε̂ = x_t = α·x0 + σ·ε. What does an error in x̂0 do to ε̂?",
        "ε̂ − ε = −(α/σ)·(x̂0 − x0). Put that into v̂ − v = α·(ε̂ − ε) − σ·(x̂0 − x0), and likewise into u.",
        "Squares of: α/σ for ε, (α² + σ²)/σ for v, (α·σ' − α'·σ)/σ for the velocity.",
    ),
    expected="for one and the same flawed denoiser on Linear at t = 0.1, the loss of ε is 81 times that of x0, those "
    "of v and velocity 67.24 and 100 times: exact factors, whatever the seed (5 seeds, spread < 1e-12).",
    trap="on the quarter circle (Cosine, DDPM) the weight of v is exactly SNR + 1, a formula that many papers "
    "quote; on the straight path it is not.",
    rtol=1e-6,
    atol=0.0,
)

# ---------------------------------------------------------------------------------------------- 4: a DDIM step


def _toy_denoise(a: float) -> Denoise:
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(a * x) * (1.2 - t).to(x.dtype)

    return denoise


def _draw_steps(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    denoise = _toy_denoise(1 + float(torch.rand((), generator=g)))

    def case(schedule: Schedule, t: float, s: float, shape=(5, 2), dtype: torch.dtype = torch.float64) -> Inputs:
        times = (torch.tensor(v, dtype=torch.float64) for v in (t, s))
        return denoise, _randn(shape, g, dtype), *times, schedule

    return [
        case(Linear(), 0.7, 0.5),
        case(Cosine(), 0.7, 0.5),
        case(Linear(), 1.0, 0.9),  # α_t = 0: the first step of every trajectory
        case(DDPM(), 0.1, 0.0, (1, 3)),  # σ_s = 0: the last one
        case(DDPM(), 0.6, 0.2, (2, 1, 3, 3), torch.float32),
    ]


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


def _ddim_as_a_mix(denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    shrink = sigma_s / sigma_t
    return shrink * x_t + (alpha_s - shrink * alpha_t) * denoise(x_t, t)


DDIM_STEP = Exercise(
    id="02-ddim-step",
    title="One step of DDIM",
    points=2,
    difficulty=2,
    importance=5,
    minutes=10,
    draw=_draw_steps,
    reference=ddim_step,
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

# ---------------------------------------------------------------------------------------------- 5: Heun's step


class _Slope:
    """u(x, t) for Heun's step: undefined (0/0) at t = 0 like a denoiser's, and counting its calls."""

    def __init__(self, a: float):
        self.a, self.calls = a, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return torch.cos(self.a * x) * (t / t).to(x.dtype) + x * t.to(x.dtype)


def _draw_slopes(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(t: float, s: float, shape=(5, 2), dtype: torch.dtype = torch.float64) -> Inputs:
        slope = _Slope(1 + float(torch.rand((), generator=g)))
        return slope, _randn(shape, g, dtype), *(torch.tensor(v, dtype=torch.float64) for v in (t, s))

    return [case(0.8, 0.5), case(1.0, 0.6, (1, 3)), case(0.3, 0.0), case(0.5, 0.4, (2, 1, 3, 3), torch.float32)]


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


HEUN_STEP = Exercise(
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

# ------------------------------------------------------------------------------------ 6: measuring an order


def _draw_errors(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(order: float, plateau: float, n: int) -> Inputs:
        calls = torch.tensor([4.0 * 2**k for k in range(n)], dtype=torch.float64)
        wobble = torch.exp(0.1 * _randn((n,), g))
        return calls, 3.0 * calls ** (-order) * wobble + plateau * (1 + 0.2 * _randn((n,), g).abs()), plateau

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


OBSERVED_ORDER = Exercise(
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

EXERCISES = (VELOCITY_LOSS, X0_AND_EPS, LOSS_WEIGHTS, DDIM_STEP, HEUN_STEP, OBSERVED_ORDER)
