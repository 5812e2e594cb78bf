"""Exercise 15-cell: one cell of the design space, from its two first choices to a function that draws."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import torch
from torch import Generator, Tensor, nn

from minidiff import thresholding
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.denoiser import Denoiser
from minidiff.predictions import EPS, VELOCITY
from minidiff.samplers import ddim, sample
from minidiff.schedules import DDPM, Linear
from minidiff.systems.design import Design
from minidiff.training import fit
from minidiff.validate import require
from minidiff.values import describe_value

from .._common import normal
from ._tiny import WORDS, Net, Weights, linear

Draw = Callable[[Tensor, Sequence[int], int], Tensor]


def _draw_cells(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(paradigm: Any, space: Any, shape: tuple[int, ...], n: int, batch: int, steps: int, length: int = 2):
        pictures = 0.5 + 1.5 * normal((n, *shape), g, torch.float32)
        pictures = pictures.clamp(-1, 1) if space == "pixels" else 2 * pictures
        tokens, size = torch.randint(WORDS, (n, length), generator=g), pictures[0].numel()
        weights = [0.3 * normal(s, g, torch.float32) for s in ((size, size), (WORDS, size), (size,))]
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((5_000_011 * (seed + 1) + 10 * n + batch) % 2**32)
        return (
            Design(paradigm, space, "transformer", "CLIP", "cross-attention"),
            linear(shape),
            weights,
            pictures,
            tokens,
            steps,
            batch,
            0.05,
            own,
        )

    return [
        case("flow matching", "latents", (4,), 6, 4, 5),
        case("DDPM", "latents", (2, 2, 2), 5, 3, 4),
        case("flow matching", "pixels", (3, 2, 2), 7, 2, 3, length=1),
        case("DDPM", "pixels", (5,), 4, 1, 6, length=3),  # one picture at a time
    ]


class _Student(nn.Module):
    """`net` with weights of its own."""

    def __init__(self, net: Net, weights: Weights):
        super().__init__()
        self.net = lambda *given: net(*given)  # a copy of this module, as `fit` makes one, shares it
        self.weights = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in weights)

    def forward(self, x_t: Tensor, t: Tensor, *, tokens: Tensor) -> Tensor:
        return self.net(list(self.weights), x_t, t, tokens)


def cell(
    design: Design, net: Net, weights: Weights, pictures: Tensor, tokens: Tensor, steps: int, batch: int, lr: float,
    generator: Generator,
) -> Draw:  # fmt: skip
    """`Denoiser`, `fit` with a rate that falls to 0, and DDIM of what is kept in range."""
    flows = design.paradigm == "flow matching"
    schedule, asked = (Linear(), VELOCITY) if flows else (DDPM(), EPS)
    model = Denoiser(_Student(net, weights), schedule, asked)

    def noisy(_: Generator) -> dict[str, Tensor]:
        rows = torch.randint(len(pictures), (batch,), generator=generator)
        clock = torch.randn(batch, generator=generator).sigmoid() if flows else torch.rand(batch, generator=generator)
        eps = torch.randn(pictures[rows].shape, generator=generator)
        return {"x0": pictures[rows], "t": clock, "eps": eps, "tokens": tokens[rows]}

    falling = lambda step, steps, peak: peak * (1 - step / steps)
    list(fit(model, noisy, steps, lr=lr, optimizer=torch.optim.Adam, lr_at=falling, clip=inf, bar=False))

    def draw(tokens: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
        noise = torch.stack([torch.randn(pictures.shape[1:], generator=Generator().manual_seed(s)) for s in seeds])
        denoise = lambda x, t: model(x, t.float(), tokens=tokens)
        kept = thresholding.static(denoise) if design.space == "pixels" else denoise
        return list(sample(kept, noise, torch.linspace(1, 0, steps + 1), ddim(schedule)))[-1]

    return draw


def _by_hand(flaw: str = "") -> Callable[..., Draw]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def cell(
        design: Design, net: Net, weights: Weights, pictures: Tensor, tokens: Tensor, steps: int, batch: int, lr: float,
        generator: Generator,
    ) -> Draw:  # fmt: skip
        flows = design.paradigm == "flow matching"
        velocity = flows and flaw != "noise"
        levels = (lambda t: (1 - t, t)) if flows or flaw == "straight" else DDPM()
        broad = lambda k: k.reshape(-1, *[1] * (pictures.ndim - 1))

        def guess(now: Weights, x: Tensor, t: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
            """What the network says, and the picture that follows from it."""
            alpha, sigma = (broad(k) for k in levels(t))
            said = net(now, x, t, told)
            return said, x - sigma * said if velocity else (x - sigma * said) / alpha

        now = [w.clone().requires_grad_() for w in weights]
        adam = torch.optim.Adam(now, lr=lr)
        for i in range(steps):
            adam.param_groups[0]["lr"] = lr * (steps - i) / steps
            rows = torch.randint(len(pictures), (batch,), generator=generator)
            even = flaw == "clock" or not flows
            t = torch.rand(batch, generator=generator) if even else torch.randn(batch, generator=generator).sigmoid()
            x0, eps = pictures[rows], torch.randn((batch, *pictures.shape[1:]), generator=generator)
            alpha, sigma = (broad(k) for k in levels(t))
            said, picture = guess(now, alpha * x0 + sigma * eps, t, tokens[rows])
            off = picture - x0 if flaw == "pictures" else said - (eps - x0 if velocity else eps)
            adam.zero_grad()
            off.pow(2).mean().backward()
            adam.step()

        @torch.no_grad()
        def draw(tokens: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
            sources = [Generator().manual_seed(seeds[0] if flaw == "seed" else seed) for seed in seeds]
            x = torch.stack([torch.randn(pictures.shape[1:], generator=source) for source in sources])
            for t, s in pairwise(torch.linspace(1, 0, steps + 1)):
                (alpha, sigma), (alpha_s, sigma_s) = levels(t), levels(s)
                picture = guess(now, x, t.repeat(len(x)), tokens)[1]
                picture = picture.clamp(-1, 1) if design.space == "pixels" or flaw == "clamp" else picture
                x = alpha_s * picture + sigma_s / sigma * (x - alpha * picture)
            return x

        return draw

    return cell


def _drawn(draw: Draw, *inputs: Any) -> tuple[Tensor, ...]:
    """Pictures of captions; again, of one alone; in one step, with other captions."""
    require(callable(draw), "what your function returns", describe_value(draw), "a function draw(tokens, seeds, steps)")
    told, seeds = inputs[4][:3], [3, 8, 3]
    return draw(told, seeds, 4), draw(told, seeds, 4), draw(told[2:], [3], 4), draw(told.flip(0), [1, 2, 2**40], 1)


EXERCISE = Exercise(
    id="15-cell",
    title="Build it: a cell, from its name to its pictures",
    points=6,
    difficulty=4,
    importance=5,
    minutes=45,
    draw=_draw_cells,
    reference=cell,
    probe=_drawn,
    rtol=1e-3,
    atol=1e-3,
    mistakes=(
        Mistake("noise-for-both", _by_hand("noise"), "Your flow matching is asked for the noise, too. On the straight "
            "path α is 0 at t = 1, and you divide by it there: ask for the velocity, ε − x0."),
        Mistake("straight-for-both", _by_hand("straight"), "Your DDPM walks the straight path. Its own has α² + σ² = "
            "1: `DDPM()` of `minidiff.schedules` has both for every t."),
        Mistake("one-clock", _by_hand("clock"), "Both of your paradigms draw times evenly. Flow matching here has "
            "`torch.sigmoid(torch.randn(…))`: more of the middle."),
        Mistake("pictures-compared", _by_hand("pictures"), "You compare pictures. Then every level of noise counts "
            "alike (DDPM: α²/σ² is lost, flow matching: 1/t²). Compare what was *asked*: the noise, or the velocity."),
        Mistake("latents-cut", _by_hand("clamp"), "You keep latents within [−1, 1]. Only pixels have such bounds; "
            "latents go as far as they like."),
        Mistake("one-seed", _by_hand("seed"), "You draw all noise from the first seed. Picture i belongs to seed i: "
            "then it is the same whatever stands beside it."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.training.diffuse", "minidiff.systems.generator.generator", "minidiff.predictions.X0",
        "minidiff.samplers.euler"),
    hints=(
        "Three questions to the paradigm, once, at the top: which schedule, which times, what is asked. One more, in "
        "`draw`: how x̂0 follows from the answer. All else is the same for both.",
        "Training: `x_t = alpha * x0 + sigma * eps` with α and σ of shape (B, 1, …); the target is `eps - x0` or "
        "`eps`. Drawing: x̂0 is `x - sigma * said` or `(x - sigma * said) / alpha`; in pixels `.clamp(-1, 1)`.",
        "A step from t to s, for both: `x = alpha_s * x0 + sigma_s / sigma * (x - alpha * x0)`, under "
        "`torch.no_grad()`; the rate: `optimizer.param_groups[0][\"lr\"] = lr * (1 - i / steps)`.",
    ),
    expected="read as asked: DDPM 0.38 ± 0.03, flow matching 0.74 ± 0.04; as the next caption asks 0.00 ± 0.00 both; "
    "nearest to what was asked 0.99 ± 0.01 and 1.00 ± 0.00 (5 seeds). So both obey, and one draws more cleanly.",
    trap="each of these draws something, and its loss falls: it is another loss. A clock or a weight of the other "
    "paradigm leaves every shape as it is.",
)  # fmt: skip
