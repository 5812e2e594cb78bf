"""Exercise 02-train: the whole training of a conditional velocity network."""

from math import inf

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.schedules import Linear
from minidiff.training import drop_condition, fit
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal
from ._common import require_one_time_each
from ._train_by_hand import Draw, Net, Trained, Weights, by_hand


def _net(weights: Weights, x_t: Tensor, t: Tensor, vector: Tensor) -> Tensor:
    """One hidden layer; what it is given must have the shapes of the docstring."""
    require_one_time_each(x_t, t)
    wanted = (len(x_t), weights["labels"].shape[1])
    require(tuple(vector.shape) == wanted, "the network's vector", describe(vector), f"float32, shape {wanted}")
    h = torch.tanh(x_t.flatten(1) @ weights["in"] + t[:, None] * weights["time"] + vector)
    return (h @ weights["out"]).reshape(x_t.shape)


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], steps: int, decay: float = 0.9, drop: float = 0.3, lr: float = 0.05, classes: int = 3
    ) -> Inputs:
        width, size = 4, torch.Size(shape[1:]).numel()
        shapes = {"labels": (classes + 1, width), "in": (size, width), "time": (width,), "out": (width, size)}
        weights = {name: normal(each, g, torch.float32) for name, each in shapes.items()}
        batches = [
            (normal(shape, g, torch.float32), torch.randint(classes, shape[:1], generator=g)) for _ in range(steps)
        ]

        def draw(step: int) -> tuple[Tensor, Tensor]:
            require(0 <= step < steps, "draw's step", step, f"0 … {steps - 1}, as there are {steps} steps")
            x0, y = batches[step]
            return x0.clone(), y.clone()

        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        return _net, weights, draw, steps, lr, decay, drop, Generator().manual_seed(seed + 7_000_003 * steps)

    return [
        case((5, 2), 4),
        case((1, 2), 3),
        case((3, 1, 2, 2), 3, decay=0.2),
        case((4, 2), 1),  # one step: the average has moved as well
        case((4, 2), 2, decay=0.0),  # the average is the latest weights
        case((4, 2), 3, drop=0.0),
        case((2, 3), 5, decay=0.5, drop=1.0, classes=1),
    ]


class _Bound(nn.Module):
    """`net` with its weights as parameters, and the label's row of its table as vector: `net(x_t, t, y=y)`."""

    def __init__(self, net: Net, weights: Weights):
        super().__init__()
        # The average copies this module: a plain function is shared by the copy, whatever `net` is.
        self.net, self.names = lambda *given: net(*given), list(weights)
        self.values = nn.ParameterList(nn.Parameter(weights[name].detach().clone()) for name in self.names)

    def forward(self, x_t: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        weights = dict(zip(self.names, self.values))
        return self.net(weights, x_t, t, weights["labels"][y])

    def state(self) -> Weights:
        return {name: value.detach().clone() for name, value in zip(self.names, self.values)}


def train(
    net: Net, weights: Weights, draw: Draw, steps: int, lr: float, decay: float, drop: float, generator: Generator
) -> Trained:
    """`fit` on the loss of `Denoiser`, without a limit for gradients and at one learning rate."""
    model = Denoiser(_Bound(net, weights), Linear(), VELOCITY)
    null = {"y": torch.tensor(len(weights["labels"]) - 1)}

    def noisy(of_step) -> Weights:
        x0, y = draw(of_step.step)
        t = times.uniform(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator)
        return {"x0": x0, "t": t, "eps": eps, **drop_condition({"y": y}, null, drop, generator)}

    constant = lambda step, steps, peak: peak
    run = list(fit(model, noisy, steps, lr=lr, lr_at=constant, ema_decay=decay, clip=inf, bar=False))
    losses = torch.tensor([progress.loss for progress in run])
    return run[-1].model.net.state(), run[-1].ema.net.state(), losses  # type: ignore


def _flat(answer: Trained, net: Net, weights: Weights, *others: object) -> tuple[Tensor, ...]:
    """Losses, weights and averages, one after the other."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3
    require(fits, "what your function returns", describe_value(answer), "three things: weights, averages, losses")
    found: list[Tensor] = [answer[2]]
    for name, part in (("weights", answer[0]), ("averages", answer[1])):
        fits = isinstance(part, dict) and part.keys() == weights.keys()
        keys = sorted(part) if isinstance(part, dict) else describe_value(part)
        require(fits, f"your {name}", keys, f"a dict with the names of the first weights, {sorted(weights)}")
        found += [part[key] for key in weights]
    return tuple(found)


EXERCISE = Exercise(
    id="02-train",
    title="Build it: train a network that listens to labels",
    points=6,
    difficulty=5,
    importance=5,
    minutes=40,
    draw=_draw_runs,
    reference=train,
    probe=_flat,
    mistakes=(
        Mistake(
            "average-from-zero",
            by_hand("zero"),
            "Your average starts at zero. Until it has forgotten that, all averaged weights are too small. Start it as "
            "a copy of the first weights.",
        ),
        Mistake(
            "average-before-the-step",
            by_hand("early"),
            "You update the average before the optimizer's step, so it is always one step behind. After the last step "
            "it has never seen the last weights. Step first, then average.",
        ),
        Mistake(
            "gradients-not-zeroed",
            by_hand("gradients"),
            "Your gradients add up: `backward` adds to what is in `.grad`. Clear it in every step, before `backward`, "
            "with `optimizer.zero_grad()`.",
        ),
        Mistake(
            "average-is-the-weights",
            by_hand("alias"),
            "Your averages are the trained tensors themselves, under another name: a dict copied by `dict(…)` holds "
            "the same tensors. Clone every tensor.",
        ),
        Mistake(
            "time-with-trailing-ones",
            by_hand("time"),
            "You handed the network t of shape (B, 1, …). That shape multiplies pictures; the network wants one time "
            "per picture, (B,).",
        ),
        Mistake(
            "labels-never-dropped",
            by_hand("never dropped"),
            'You never drop a label, so the last row of the table is never trained, and asking for "no label" gives '
            "whatever it began with. Where the coin says so, replace y by the number of that row.",
        ),
    ),
    alternatives=(by_hand(),),
    shortcuts=("minidiff.training.fit", "minidiff.training.EMA", "minidiff.loop.EMA", "minidiff.training.diffuse"),
    hints=(
        "Before the loop: copies of the weights that require gradients, other copies for the average, an optimizer. "
        "In the loop: batch, noise, network, loss, step, average.",
        '`table = now["labels"]` is one of the trained tensors; `table[y]` has shape (B, D), and its gradient finds '
        'its way into the right rows. "No label" is row `len(table) - 1`.',
        "The end of a step: `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`; under `torch.no_grad()` "
        "`average[k].lerp_(now[k], 1 - d)` for every k, with d = min(decay, (1 + step)/(10 + step)).",
    ),
    expected="after 300 steps the averaged weights are 0.055 ± 0.017 above the least possible loss, the last ones "
    "0.088 ± 0.016, told the wrong label 0.41 to 0.58; samples end at a W1 of 0.16 to 0.23 from their class (5 seeds).",
    trap="most slips leave a loop that learns: the loss falls, and samples look like something. An average from zero "
    "or one step late show only against other numbers, never in a curve.",
    rtol=1e-4,
    atol=1e-5,
)
