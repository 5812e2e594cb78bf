"""Exercise 01-guided-sampler: a guided sampler from scores alone."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import Mixture, ring, three_modes
from minidiff.schedules import Cosine, Karras, Linear, Schedule

from .._common import normal

Field = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) → one row for each walker; t has shape (B,)


def _fields(world: Mixture, schedule: Schedule) -> tuple[Field, Field]:
    """The score (B, D), and logits (B, C) that are no log-probabilities before they are normalised."""

    def clocked(x: Tensor, t: Tensor) -> None:
        assert t.shape == (len(x),), f"t has shape {tuple(t.shape)}, expected one time for each walker: ({len(x)},)"

    def score(x: Tensor, t: Tensor) -> Tensor:
        clocked(x, t)
        return world.score(x, t, schedule)

    def logits(x: Tensor, t: Tensor) -> Tensor:
        clocked(x, t)
        n = world.n_classes
        every = torch.arange(n).repeat(len(x))  # every point with every label
        joint = world.log_prob(x.repeat_interleave(n, 0), t.repeat_interleave(n), schedule, every)
        return world.log_prior_label(x) + joint.reshape(len(x), n)

    return score, logits


def _draw_walks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    line, plane = three_modes(), ring(6, radius=1.6, std=0.35, n_classes=3)

    def case(
        world: Mixture, schedule: Schedule, times: list[float], y: list[int], w: float, kicks: int,
        dtype: torch.dtype = torch.float64,
    ) -> Inputs:  # fmt: skip
        noise, grid = normal((len(y), world.dim), g, dtype), torch.tensor(times, dtype=torch.float64)
        # The same seed in every case: what is drawn elsewhere than from `generator` shows.
        kicked = Generator().manual_seed(seed)
        return *_fields(world, schedule), schedule, grid, noise, torch.tensor(y), w, kicks, kicked

    return [
        case(plane, Linear(), [0.95, 0.6, 0.2], [0, 1, 2, 2, 0], w=1.0, kicks=1),
        case(plane, Linear(), [0.9, 0.4, 0.0], [2, 0, 1], w=2.5, kicks=1),  # down to data
        case(line, Cosine(), [0.8, 0.3], [2], w=1.0, kicks=2),  # one walker
        case(line, Karras(), [0.7, 0.5], [1, 0], w=0.0, kicks=1),  # σ far above 1, and nobody asks for a class
        case(plane, Linear(), [0.9, 0.5], [1, 1, 0], w=-1.0, kicks=0),  # away from the class, no kicks
        case(plane, Linear(), [0.8, 0.4], [0, 2], w=4.0, kicks=1, dtype=torch.float32),  # as many as axes
    ]


def _slope(logits: Field, x: Tensor, t: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
    """∇_x of what `read` makes of the logits (B, C), summed."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(read(logits(leaf, t)).sum(), leaf)[0]


def _walk(
    read: Callable[[Tensor, Tensor], Tensor] = lambda v, y: v.log_softmax(1).gather(1, y[:, None]),
    step: Callable[[Tensor], Tensor] = lambda sigma: 0.1 * sigma**2,
    scaled: bool = True, guided_kicks: bool = True, late: bool = False,
) -> Callable[..., Tensor]:  # fmt: skip
    """The right sampler, or one with something changed: what is differentiated, the step of the kicks, …"""

    def walk(
        score: Field, logits: Field, schedule: Schedule, times: Tensor, noise: Tensor, y: Tensor, w: float,
        kicks: int, generator: Generator,
    ) -> Tensor:  # fmt: skip
        def arrow(x: Tensor, t: Tensor, w: float) -> Tensor:
            clock = t.to(x).expand(len(x))
            return score(x, clock) + w * _slope(logits, x, clock, lambda v: read(v, y))

        x = schedule(times[0])[1] * noise if scaled else noise
        for t, s in pairwise(times):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
            uphill = arrow(x, t, w)
            x = alpha_s * (x + sigma_t**2 * uphill) / alpha_t - sigma_s * sigma_t * uphill
            h = step(sigma_s)
            for _ in range(kicks):
                z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                x = x + h * arrow(x, t if late else s, w if guided_kicks else 0.0) + (2 * h).sqrt() * z
        return x

    return walk


def guided_sampler(
    score: Field, logits: Field, schedule: Schedule, times: Tensor, noise: Tensor, y: Tensor, w: float, kicks: int,
    generator: Generator,
) -> Tensor:  # fmt: skip
    """DDIM steps along the guided score, each followed by `kicks` steps of Langevin's walk of size σ²/10."""
    return _walk()(score, logits, schedule, times, noise, y, w, kicks, generator)


def _by_noise(
    score: Field, logits: Field, schedule: Schedule, times: Tensor, noise: Tensor, y: Tensor, w: float, kicks: int,
    generator: Generator,
) -> Tensor:  # fmt: skip
    """In terms of ε̂ = −σ·score, with the cross-entropy in place of −log p(y|x_t); no kicks at σ = 0."""

    def guess_of_noise(x: Tensor, t: Tensor) -> Tensor:
        clock = torch.full((len(x),), float(t), dtype=x.dtype)
        loss = lambda v: torch.nn.functional.cross_entropy(v, y, reduction="sum")
        return -schedule(t)[1] * (score(x, clock) - w * _slope(logits, x, clock, loss))

    x = noise * schedule(times[0])[1]
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = guess_of_noise(x, t)
        x = alpha_s / alpha_t * x + (sigma_s - alpha_s * sigma_t / alpha_t) * eps
        for _ in range(kicks if sigma_s > 0 else 0):
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + sigma_s * (0.2**0.5 * z - 0.1 * guess_of_noise(x, s))
    return x


EXERCISE = Exercise(
    id="01-guided-sampler",
    title="Build a guided sampler from scores alone",
    points=6,
    difficulty=5,
    importance=5,
    minutes=40,
    draw=_draw_walks,
    reference=guided_sampler,
    mistakes=(
        Mistake(
            "logit-slope",
            _walk(read=lambda v, y: v.gather(1, y[:, None])),
            "You differentiated the logit of class y. A logit is log p(y|x_t) plus something that depends on x_t, too: "
            "normalise over the classes first (`log_softmax(1)`), then differentiate.",
        ),
        Mistake(
            "all-labels",
            _walk(read=lambda v, y: v.log_softmax(1)[:, y]),
            "`log_p[:, y]` has shape (B, B): it takes the classes of *all* walkers in every row, so that each is drawn "
            "to everybody's class. One entry per row: `log_p[torch.arange(len(y)), y]`.",
        ),
        Mistake(
            "step-not-scaled",
            _walk(step=lambda sigma: 0.1 * torch.ones_like(sigma)),
            "Your kicks have the same step at every noise level. At little noise the hills are narrow: a step of 0.1 "
            "throws the walkers off them. Take σ_s²/10.",
        ),
        Mistake(
            "plain-kicks",
            _walk(guided_kicks=False),
            "The step down is guided, but your kicks follow the prior's score alone: they lead the walkers back to "
            "every class. Add w·∇log p(y|x) there, too.",
        ),
        Mistake(
            "late-kicks",
            _walk(late=True),
            "Your kicks ask for the arrows of noise level t, where the walkers no longer are: after the step down they "
            "are at s, and so must be score and classifier.",
        ),
        Mistake(
            "start-not-scaled",
            _walk(scaled=False),
            "You start from `noise` as it is. At times[0] the noise has the standard deviation σ: start from σ·noise. "
            "(On the linear schedule at t = 1 that is the same, on Karras' it is not.)",
        ),
    ),
    alternatives=(_by_noise,),
    hints=(
        "Write the inner function first: `arrow(x, t)`, the guided score. t must become one time for each walker, "
        "`t.expand(len(x))`; the classifier's part is a gradient by `torch.autograd.grad` (exercise 01.4), in which "
        "every walker reads its own class from `logits(...).log_softmax(1)`.",
        "The step down: solve Tweedie's formula for x̂0 with the guided score in it, take ε̂ = −σ_t·(guided score), "
        "and put both together at s: α_s·x̂0 + σ_s·ε̂. Then `kicks` steps of Langevin's walk at s, each with an "
        "`arrow(x, s)` of its own.",
        "`x0 = (x + sigma_t**2 * guided) / alpha_t`, `x = alpha_s * x0 - sigma_s * sigma_t * guided`, then for each "
        "kick `h = 0.1 * sigma_s**2` and `z = torch.randn(x.shape, generator=generator, dtype=x.dtype)`.",
    ),
    expected="98.0 % ± 0.6 % of the 900 walkers end in the class asked for (5 seeds), as do 97.8 % of exact samples; "
    "with w = 0 it is 33.8 % ± 1.3 %. W1 is 0.12 to 0.22, and 0.93 with w = 0; two exact samples of 300 are "
    "0.18 ± 0.08 apart.",
    trap="with the slope of the logit 96 % still end in their class, and it looks right. But a logit log p(x, y) "
    "has the slope of p(x|y), so that the prior counts twice and the clouds are too small: a spread of 0.28, not 0.35.",
    rtol=1e-4,
    atol=1e-4,
    shortcuts=("minidiff.guidance.classifier", "minidiff.samplers.sample"),
)
