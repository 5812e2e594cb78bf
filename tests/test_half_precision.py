"""Every schedule × step × grid × dtype, with every prediction: finite and where it should be, or refused by name.

A grid ends at t = 0, where σ is 0 and x̂0 alone counts, and passes 1e-11 and less on its way: there ε̂ = (x − α·x̂0)/σ
of an x̂0 that is a little off is larger than the 65,504 of half precision, and inf − inf is not a number.
"""

import itertools
import math

import pytest
import torch
from torch import nn

from minidiff import times
from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, classifier, extrapolate, likelihood
from minidiff.predictions import EPS, VELOCITY, X0, Prediction, V, velocity_weight
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule
from minidiff.shapes import expand_like

SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
STEPS = {
    "ddpm": ddpm,
    "ddpm-large": lambda s: ddpm(s, "large"),
    "ddim": ddim,
    "ddim-1": lambda s: ddim(s, 1.0),
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
GRIDS = {
    "linear": times.linear(10),
    "shifted, 3": times.shifted(10, 3.0),
    "shifted, .1": times.shifted(10, 0.1),
    "karras": times.karras(10),
    "karras, 25": times.karras(10, rho=25.0),  # down to t = 1e-37
    "linear_quadratic": times.linear_quadratic(10),
}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
PICTURE = 0.5


class Sure(nn.Module):
    """The exact network of a world of one picture, all of whose numbers are `PICTURE`."""

    def __init__(self, schedule: Schedule, prediction: Prediction):
        super().__init__()
        self.schedule, self.prediction = schedule, prediction

    def forward(self, x_t, t):
        at, x0 = expand_like(t, x_t), torch.full_like(x_t, PICTURE)
        alpha, sigma = self.schedule(at)
        target = self.prediction.target(self.schedule, x0.to(at), (x_t - alpha * x0) / sigma, at)
        return target.clamp(-1e4, 1e4).to(x_t.dtype)


class Lost(nn.Module):
    """A network that is wrong everywhere, also at t = 0."""

    def forward(self, x_t, t):
        return 0.3 * x_t


def start(schedule: Schedule, dtype: torch.dtype) -> torch.Tensor:
    return (schedule(torch.tensor(1.0))[1] * randn((4, 3), seeded(range(4)))).to(dtype)


def last(denoise, schedule, step, grid, dtype) -> torch.Tensor:
    *_, x = sample(denoise, start(schedule, dtype), grid, step(schedule), seeded(range(4)))
    assert x.dtype == dtype
    return x


@every_dtype
@every
def test_a_wrong_denoiser_gives_finite_pictures(schedule, dtype):
    for (name, step), (grid_name, grid) in itertools.product(STEPS.items(), GRIDS.items()):
        x = last(lambda x, t: 0.3 * x, schedule, step, grid, dtype)
        assert bool(torch.isfinite(x).all()), (name, grid_name)


@every_dtype
@every
def test_the_exact_denoiser_gives_its_picture(schedule, dtype):
    """To the rounding of the dtype, and to the noise of σ = .002 that Karras' path leaves."""
    least = 4 * torch.finfo(dtype).eps + 5 * float(schedule(torch.tensor(0.0, dtype=torch.float64))[1])
    for (name, step), (grid_name, grid) in itertools.product(STEPS.items(), GRIDS.items()):
        curved = name == "euler" and not isinstance(schedule, Linear)  # off by the error of ten steps
        if curved or (name == "ddpm-large" and isinstance(schedule, Karras)):  # large noise in the last step
            continue
        x = last(lambda x, t: torch.full_like(x, PICTURE), schedule, step, grid, dtype)
        assert float((x.double() - PICTURE).abs().max()) <= least, (name, grid_name)


@every_dtype
@every
@pytest.mark.parametrize("prediction", [X0, V, VELOCITY], ids=lambda p: p.name)
def test_every_prediction_is_finite(schedule, prediction, dtype):
    """On Karras' path a velocity is up to 450, and its product with σ = 80 more than half precision holds."""
    rounding = torch.finfo(dtype).eps * float(schedule(torch.tensor(1.0))[1])
    for name, grid in GRIDS.items():
        lost, sure = (Denoiser(net, schedule, prediction) for net in (Lost(), Sure(schedule, prediction)))
        assert bool(torch.isfinite(last(lost, schedule, ddpm, grid, dtype)).all()), name
        off = float((last(sure, schedule, ddpm, grid, dtype).double() - PICTURE).abs().max())
        assert off <= 0.01 + 4 * rounding, (name, off)


@every_dtype
@every
def test_an_eps_network_is_finite_or_refused_by_name(schedule, dtype):
    """At t = 1 Linear and Cosine have α = 0, where ε says nothing of x0; a little below it can be used."""
    refused = isinstance(schedule, (Linear, Cosine))
    model = Denoiser(Sure(schedule, EPS), schedule, EPS)
    for grid, step in itertools.product(GRIDS.values(), (ddpm, heun)):
        if refused:
            with pytest.raises(ValueError, match=r"^t: got a time with α\(t\) = 0 for an EPS network, expected"):
                last(model, schedule, step, grid, dtype)
        below = torch.cat([grid.new_tensor([0.99]), grid[grid < 0.99]]) if refused else grid
        assert bool(torch.isfinite(last(model, schedule, step, below, dtype)).all())


@every_dtype
@every
def test_the_exact_mixture_is_finite_in_every_dtype(schedule, dtype):
    denoise = bind(ring().denoiser(schedule), y=1)
    for step, grid in itertools.product((ddpm, heun, dpmpp_2m), (GRIDS["karras"], GRIDS["shifted, 3"])):
        x = (schedule(torch.tensor(1.0))[1] * randn((4, 2), seeded(range(4)))).to(dtype)
        *_, x = sample(denoise, x, grid, step(schedule), seeded(range(4)))
        assert x.dtype == dtype
        assert bool(torch.isfinite(x).all())
        assert float(x.abs().max()) < 10


@every_dtype
@every
@pytest.mark.parametrize("t", [1e-12, 1e-4, 0.5, 0.9999, 1 - 1e-12, 1.0])
def test_guidance_is_finite_at_the_ends(schedule, dtype, t):
    """σ²/α is 1e12 near t = 1; also with times and strengths per picture, in the dtype of the pictures."""
    x = start(schedule, dtype)
    flat = lambda x, t: 0 * x.sum(1)
    for at in (
        torch.tensor(t, dtype=torch.float64),
        torch.full((4,), t, dtype=torch.float32),
        torch.full((4,), t).to(dtype),
    ):
        for w in (2.0, torch.full((4,), 2.0, dtype=dtype)):
            for guided in (
                classifier(lambda x, t: 0.5 * x, flat, schedule, w),
                likelihood(lambda x, t: 0.5 * x, lambda x0: 0 * x0.sum(1), schedule, w),
                extrapolate(lambda x, t: 0.5 * x, lambda x, t: 0.25 * x, w),
            ):
                got = guided(x, at)
                assert got.dtype == dtype
                assert bool(torch.isfinite(got).all())


@every_dtype
@every
@pytest.mark.parametrize("prediction", [EPS, X0, V, VELOCITY], ids=lambda p: p.name)
def test_losses_are_finite_at_the_ends(schedule, prediction, dtype):
    x0, eps = randn((4, 3), seeded(0), dtype), randn((4, 3), seeded(1), dtype)
    model = Denoiser(Lost(), schedule, prediction, velocity_weight)
    for t in (0.0, 1e-7, 1.0):
        for kind in (dtype, torch.float32):
            assert bool(torch.isfinite(model.loss(x0, torch.full((4,), t, dtype=kind), eps)).all()), t


def test_the_noise_of_a_picture_that_is_a_little_off_cannot_be_held():
    """The control: what the steps would form if they were written with ε̂."""
    x, x0 = torch.full((3,), 0.5, dtype=torch.float16), torch.full((3,), 0.4, dtype=torch.float16)
    t = GRIDS["karras"][-2]
    eps = (x - (1 - t) * x0) / t
    assert bool(torch.isinf(eps).all())
    assert not bool(torch.isfinite(0 * eps).any())
    assert math.isfinite(float((0 / t * x + x0).sum()))
