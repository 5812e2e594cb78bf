"""Exercise 05-train-and-guide: both branches in one network, and a sampler that uses them."""

from math import inf

import torch
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, extrapolate, within
from minidiff.predictions import VELOCITY
from minidiff.samplers import euler, sample
from minidiff.schedules import Linear
from minidiff.training import drop_condition, fit

from .._common import normal
from ._common import Batches, Net, Sampler, TinyNet, by_hand


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(sizes: list[int], shape: tuple[int, ...], p: float, labels: int = 4, null: int = 3) -> Inputs:
        net = TinyNet(labels)
        classes = torch.tensor([y for y in range(labels) if y != null])
        batches = [
            (normal((n, *shape), g, torch.float32), classes[torch.randint(labels - 1, (n,), generator=g)])
            for n in sizes
        ]
        weights = net.first_weights(torch.Size(shape).numel(), g)
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        return (
            net,
            weights,
            batches,
            null,
            p,
            0.05,
            Generator().manual_seed((7_000_003 * (seed + 1) + len(sizes)) % 2**32),
        )

    return [
        case([5] * 4, (2,), p=0.4),
        case([1] * 4, (3,), p=0.5),  # one picture at a time
        case([2, 3, 1], (1, 2, 2), p=0.5, null=0),  # pictures; "no label" need not be the last
        case([4] * 2, (2,), p=0.0),  # the null branch stays as it was
        case([3] * 2, (2,), p=1.0, labels=2, null=1),  # and here the conditional one
    ]


class _Bound(nn.Module):
    """`net` with weights of its own: `net(x_t, t, y=y)`."""

    def __init__(self, net: Net, weights: list[Tensor]):
        super().__init__()
        self.net = lambda *given: net(*given)  # a copy of this module, as `fit` makes one, shares it
        self.weights = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in weights)

    def forward(self, x_t: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        return self.net(list(self.weights), x_t, t, y)


def train_and_guide(
    net: Net, weights: list[Tensor], batches: Batches, null: int, p: float, lr: float, generator: Generator
) -> Sampler:
    """`fit` without average, limit or course of the learning rate; then `within` and `extrapolate` in Euler's steps."""
    model = Denoiser(_Bound(net, weights), Linear(), VELOCITY)

    def noisy(of_step) -> dict[str, Tensor]:
        x0, y = batches[of_step.step]
        t = torch.rand(len(x0), generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        return {"x0": x0, "t": t, "eps": eps, **drop_condition({"y": y}, {"y": torch.tensor(null)}, p, generator)}

    constant, adam = lambda step, steps, peak: peak, torch.optim.Adam
    for _ in fit(model, noisy, len(batches), lr=lr, optimizer=adam, lr_at=constant, clip=inf, bar=False):
        pass

    def walk(noise: Tensor, y: Tensor, times: Tensor, w: float, low: float, high: float) -> Tensor:
        plain = bind(model, y=y)
        guided = within(extrapolate(plain, bind(model, y=torch.full_like(y, null)), w), plain, low, high)
        *_, x = sample(guided, noise, times, euler(Linear()))
        return x

    return walk


def _walked(sampler: Sampler, net: TinyNet, weights: list[Tensor], batches: Batches, null: int, *rest) -> tuple:
    """Samples at several strengths and intervals, the noise afterwards, and how many pictures one run asked about."""
    classes = [y for y in range(net.labels) if y != null]
    y = torch.tensor([*classes, *classes, classes[0]])
    noise = normal((len(y), *batches[0][0].shape[1:]), Generator().manual_seed(len(y)), torch.float32)
    grid = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)
    settings = ((0.0, 0.0, 1.0), (-1.0, 0.0, 1.0), (2.0, 0.0, 0.25), (2.0, 0.6, 0.7))
    found = torch.stack([sampler(noise, y, grid, *setting) for setting in settings])
    one = sampler(noise[:1], y[:1], grid[1:3], 2.0, 0.75, 1.0)
    before = net.pictures
    both_ends = sampler(noise, y, grid, 3.0, 0.5, 0.75)
    return found, one, both_ends, noise, torch.tensor(net.pictures - before)


EXERCISE = Exercise(
    id="05-train-and-guide",
    title="Build it: one network for both branches, guided in an interval",
    points=6,
    difficulty=5,
    importance=5,
    minutes=45,
    draw=_draw_runs,
    reference=train_and_guide,
    probe=_walked,
    rtol=1e-4,
    atol=1e-4,
    mistakes=(
        Mistake(
            "null-never-trained",
            by_hand("null-untrained"),
            "Your network is never shown `null` in training, so that its row of the table keeps the numbers it began "
            "with, and guidance pushes away from nonsense. Put `null` in place of y wherever the coin says so.",
        ),
        Mistake(
            "whole-batch",
            by_hand("whole-batch"),
            "You throw one coin for the whole batch: every step then trains one branch only. Throw one per picture.",
        ),
        Mistake(
            "scale-for-w",
            by_hand("scale"),
            "Your strength is the guidance_scale of other libraries, s = 1 + w: at w = 0 you leave the label out. Here "
            "w counts from the conditional branch.",
        ),
        Mistake(
            "inside-out",
            by_hand("inside-out"),
            "Your sampler guides outside the interval and leaves the inside plain. Turn the condition round.",
        ),
        Mistake(
            "drops-while-sampling",
            by_hand("drops"),
            "Your sampler drops labels as well: a share p of the conditional branch is none. Dropping belongs to the "
            "training; a sampler asks for exactly the labels it is given, and for `null`.",
        ),
        Mistake(
            "both-always",
            by_hand("both-always"),
            "The samples are right, but you ask for the null branch at every step, also where nothing uses it. "
            "Half of the gain of an interval is speed: outside, one evaluation is enough.",
        ),
    ),
    alternatives=(by_hand(),),
    hints=(
        "Two parts. Training: copies of the weights that require gradients, an optimizer, and for each batch noise, "
        "labels, loss, step. Sampling: a function inside your function, which finds the trained copies by itself.",
        "The velocity is dx/dt = ε − x0, and x_t = (1 − t)·x0 + t·ε with t of shape (B, 1, …); the network wants "
        "t of shape (B,), in the sampler too: `t.to(x).expand(len(x))`.",
        "`seen = torch.where(torch.rand(len(y), generator=generator) < p, null, y)`; and in the sampler, under "
        "`torch.no_grad()`: `u = net(now, x, clock, y)`, only inside the interval "
        "`u = u + w * (u - net(now, x, clock, torch.full_like(y, null)))`, then `x = x + (s - t) * u`.",
    ),
    expected="accuracy 0.81 ± 0.02 at w = 0, 0.999 ± 0.002 at w = 3 and 0.95 ± 0.02 at w = 3 for t ≤ 0.3; in lookalike "
    "clouds 0.33 ± 0.04 at w = 3 and 0.63 ± 0.03 in the interval; near the data 0.84 ± 0.05 at w = 3, and 0.12 ± 0.15 "
    "of the control (6 seeds).",
    trap="a null branch that was never trained raises no error and leaves the loss as it is; at w = 0 the samples are "
    "even right, and at w = 3 nearly all are judged right: they run away on the right side. "
    "And an interval the wrong way round still guides, only where it was not meant to.",
    shortcuts=("minidiff.training.diffuse", "minidiff.guidance.cfg", "minidiff.guidance.mix"),
)
