"""Exercise 01-guided-guess: from arrows to guesses."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import classifier
from minidiff.shapes import expand_like


def _draw_guides(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: float, dtype: torch.dtype = torch.float64, silent: int | None = None) -> Inputs:
        x0_hat, gradient = torch.randn(*shape, generator=g), torch.randn(*shape, generator=g)
        t = 0.1 + 0.8 * torch.rand(shape[0], generator=g)
        if silent is not None:  # pure noise: α = 0, and the classifier has no opinion
            t[silent], gradient[silent] = 1.0, 0.0
        return *(v.to(dtype) for v in (x0_hat, gradient, 1 - t, t)), w

    return [
        case((2, 2), w=1.0),
        case((4, 1, 4, 4), w=2.5),  # pictures as wide as the batch is long
        case((3, 3), w=1.0, silent=1),
        case((1, 2), w=-1.0),
        case((3, 3), w=0.0),
        case((5, 1, 5, 5), w=3.0, dtype=torch.float32),
    ]


def guided_guess(x0_hat: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """The guess of x0 after w·gradient was added to the score: the library's `guidance.classifier`."""
    levels = expand_like(alpha, x0_hat), expand_like(sigma, x0_hat)
    guided = classifier(
        lambda x, t: x0_hat,
        lambda x, t: (x * gradient).flatten(1).sum(1),  # a log-probability with this gradient
        lambda t: levels,  # type: ignore[arg-type]
        w,
    )
    return guided(x0_hat, sigma)


def _shifted(factor: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The guess shifted by w·factor(α, σ)·gradient, α and σ given trailing ones as they should be."""

    def shifted(x0_hat: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
        return x0_hat + w * factor(expand_like(alpha, x0_hat), expand_like(sigma, x0_hat)) * gradient

    return shifted


EXERCISE = Exercise(
    id="01-guided-guess",
    title="From arrows to guesses",
    points=3,
    difficulty=3,
    importance=5,
    minutes=10,
    draw=_draw_guides,
    reference=guided_guess,
    mistakes=(
        Mistake(
            "score-units",
            lambda x0_hat, gradient, alpha, sigma, w: x0_hat + w * gradient,
            "You added the gradient to the guess as if the guess were a score. Tweedie's formula says by which factor "
            "a change of the score changes x̂0: solve it for x̂0.",
        ),
        Mistake(
            "no-alpha",
            _shifted(lambda alpha, sigma: sigma**2),
            "Your factor is σ²; the division by α is missing. It is right only where nothing is shrunk (α = 1).",
        ),
        Mistake(
            "eps-factor",
            _shifted(lambda alpha, sigma: sigma / alpha),
            "Your factor is σ/α: that turns a change of ε into one of x̂0. A change of the *score* carries one more σ, "
            "as score = −ε/σ: the factor is σ²/α.",
        ),
        Mistake(
            "minus",
            _shifted(lambda alpha, sigma: -(sigma**2) / alpha),
            "The sign is wrong: ε̂ is *lowered* by σ·w·∇log p(y|x_t), but x̂0 = (x_t − σε̂)/α, so that x̂0 is raised.",
        ),
        Mistake(
            "wrong-axis",
            lambda x0_hat, gradient, alpha, sigma, w: x0_hat + w * sigma**2 / alpha * gradient,
            "`alpha` and `sigma` of shape (B,) were broadcast along the *last* axis: every column got the noise level "
            "of another picture, and no error was raised, as B equals the width. Give them trailing ones first: "
            "`alpha.reshape(-1, 1, 1, 1)`, or `minidiff.shapes.expand_like`.",
        ),
        Mistake(
            "zero-over-zero",
            _shifted(lambda alpha, sigma: sigma**2 / alpha),
            "Right, but for pure noise: at α = 0 the gradient is 0 as well, and 1/0·0 is NaN. There the condition says "
            "nothing, and the guess must come back unchanged.",
        ),
    ),
    alternatives=(_shifted(lambda alpha, sigma: sigma.square() / alpha.clamp(min=1e-12)),),
    hints=(
        "Tweedie: score = (α·x̂0 − x_t)/σ². Solve for x̂0, then replace the score by score + w·gradient.",
        "x̂0 = (x_t + σ²·score)/α, so the guess moves by σ²/α·w·gradient. Now mind shapes: `alpha` is (B,), `x0_hat` is "
        "(B, …). `expand_like(alpha, x0_hat)` gives it trailing ones.",
        "At α = 0 divide by something else: `sigma**2 / alpha.clamp(min=1e-12)`; the gradient is 0 there.",
    ),
    expected="20 steps from noise bring 97.6 % ± 0.3 % of the points to class 0 (5 seeds), as many as exact samples of "
    "p(x|y) (97.8 % ± 0.2 %), whose clouds overlap a little with the others; without guidance it is 34 %.",
    trap="on points of two dimensions in a batch of five, a forgotten axis is an error message. On square pictures in "
    "a batch as large as they are wide it is silence, and pictures that are guided at each other's noise level.",
)
