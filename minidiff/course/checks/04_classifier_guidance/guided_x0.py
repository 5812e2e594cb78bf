"""Exercise 04-guided-x0: from the gradient to the guess."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_guesses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], alpha: float, sigma: float, w: float, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        x0, gradient = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        return x0, gradient, torch.tensor(alpha, dtype=dtype), torch.tensor(sigma, dtype=dtype), w

    return [
        case((4, 2), 0.6, 0.4, w=1.0),  # Linear at t = 0.4
        case((4, 2), 0.6, 0.8, w=3.0),  # a schedule with α² + σ² = 1
        case((1, 3), 0.1, 0.9, w=-1.0),  # a batch of one
        case((2, 1, 3, 3), 0.9, 0.1, w=0.0, dtype=torch.float32),  # no guidance
        case((3, 2), 1.0, 0.0, w=2.0),  # t = 0: no noise left
        case((3, 2), 0.0, 1.0, w=2.0),  # t = 1: a learned gradient is not exactly zero here
        case((2, 2), 1e-4, 0.9999, w=1.0),  # nearly t = 1: still guided
        case((2, 3), 1.0, 2.5, w=1.0),  # a schedule whose noise grows and whose α stays 1
        case((2, 2), 0.5, 1.0, w=-0.5),  # σ = 1 and α > 0
        case((2, 1, 3, 3), 0.0, 1.0, w=0.0, dtype=torch.float32),
    ]


def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """x̂0 + w·σ²/α·∇log f, and x̂0 where α = 0."""
    return x0 + w * sigma**2 / alpha * gradient if alpha > 0 else x0.clone()


EXERCISE = Exercise(
    id="04-guided-x0",
    title="From the gradient to the guess",
    points=2,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_guesses,
    reference=guided_x0,
    mistakes=(
        Mistake(
            "division-by-zero",
            lambda x0, gradient, alpha, sigma, w: x0 + w * sigma**2 / alpha * gradient,
            "Your formula is right, but at t = 1 it divides by α = 0 and fills the picture with infinities or NaN. "
            "0·∞ has a limit there, but the gradient alone does not hold it: return x0 as it is.",
        ),
        Mistake(
            "eps-shift",
            lambda x0, gradient, alpha, sigma, w: x0 - w * sigma * gradient,
            "You shifted x̂0 the way ε is shifted: by −w·σ·∇log f. In x̂0 = (x_t − σ·ε)/α the guess of the noise has "
            "the factor −σ/α, so the shift becomes +w·σ²/α·∇log f.",
        ),
        Mistake(
            "sigma-once",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, gradient / sigma.clamp(min=1e-9), alpha, sigma, w),
            "You have σ/α where σ²/α belongs. One σ turns the gradient into a shift of ε, the other one turns ε into "
            "a shift of the picture.",
        ),
        Mistake(
            "minus",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, -gradient, alpha, sigma, w),
            "You subtracted the shift. It is the guess of the *noise* that loses w·σ·∇log f; the guess of the picture "
            "gains, and moves uphill on log f.",
        ),
        Mistake(
            "one-plus-w",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, gradient, alpha, sigma, 1 + w),
            "You weighed the gradient by 1 + w. That is the habit of classifier-free guidance (chapter 05), which "
            "starts at the conditional model. Here you start at the unconditional one: w = 0 leaves x0 as it is.",
        ),
        Mistake(
            "sigma-decides",
            lambda x0, gradient, alpha, sigma, w: x0.clone() if sigma >= 1 else x0 + w * sigma**2 / alpha * gradient,
            "You asked whether σ is 1, and left the guess alone there. What forbids the division is α = 0. Schedules "
            "that only add noise have α = 1 and a σ of up to 80: they would never be guided.",
        ),
    ),
    alternatives=(
        lambda x0, gradient, alpha, sigma, w: (
            x0 + torch.where(alpha > 0, w * sigma**2 / alpha.clamp(min=1e-30), torch.zeros_like(alpha)) * gradient
        ),
        # By way of ε, with x_t = 0: ε̂ = ε − w·σ·∇log f and x̂0 = (x_t − σ·ε̂)/α.
        lambda x0, gradient, alpha, sigma, w: (
            x0.clone() if alpha == 0 or sigma == 0 else -sigma * (-alpha * x0 / sigma - w * sigma * gradient) / alpha
        ),
    ),
    hints=(
        "Start from what you know: guidance replaces ε by ε − w·σ·∇log f. And x̂0 = (x_t − σ·ε)/α.",
        "Put the first into the second: the x_t part stays, and −σ/α · (−w·σ·∇log f) is left. What happens at α = 0?",
        "`x0 + w * sigma**2 / alpha * gradient`, except where `alpha == 0`: there, `x0`.",
    ),
    expected="at w = 1, with the exact gradient, the guided guess equals E[x0|x_t, y] to 1e-12 at every t up to 0.99; "
    "at t = 1 it is off by 0.66, the length of E[x0|y] − E[x0].",
    trap="for σ = 1 and α = 1 every version agrees, and near t = 0 they all shift by next to nothing. A missing "
    "factor shows in the middle; a missing case only at the very first step, as a picture full of NaN.",
)
