"""Sampling a mixture with its exact denoiser gives the mixture back: W1 at the floor of two exact samples."""

import pytest
import torch

from minidiff import times
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import bind, classifier, extrapolate
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear

SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
STEPS = {  # steps enough for the error of the grid to drown in the floor
    "ddpm": (ddpm, 300),
    "ddim": (ddim, 200),
    "ddim-1": (lambda s: ddim(s, 1.0), 300),
    "euler": (euler, 200),
    "heun": (heun, 60),
    "dpmpp_2m": (dpmpp_2m, 60),
}
combinations = pytest.mark.parametrize(
    ("step", "steps", "schedule"),
    [(*s, schedule) for s in STEPS.values() for schedule in SCHEDULES.values()],
    ids=[f"{a}-{b}" for a in STEPS for b in SCHEDULES],
)
N1, N2 = 4000, 500


def draw(denoise, schedule, step, steps: int, n: int, dim: int, seed: int) -> torch.Tensor:
    generator = seeded(seed)
    sigma = schedule(torch.tensor(1.0, dtype=torch.float64))[1]
    x = sigma * randn((n, dim), generator, torch.float64)
    *_, x = sample(denoise, x, times.linear(steps), step, generator)
    return x


@pytest.fixture(scope="module")
def floors() -> dict[str, tuple[float, float]]:
    """Mean and spread of W1 between two exact samples of the sizes used below."""
    one, two = three_modes(), ring()
    return {
        "1-D": floor(lambda n, g: one.sample(n, g)[0], N1, repeats=20),
        "2-D": floor(lambda n, g: two.sample(n, g)[0], N2, repeats=8),
        "1-D, y = 2": floor(lambda n, g: one.of_class(2).sample(n, g)[0], N1, repeats=20),
    }


def at_floor(distance: float, floor: tuple[float, float]) -> bool:
    mean, spread = floor
    return distance <= mean + 4 * spread


@combinations
def test_one_dimension(step, steps, schedule, floors):
    world = three_modes()
    x = draw(world.denoiser(schedule), schedule, step(schedule), steps, N1, 1, seed=1)
    distance = w1(x, world.sample(N1, seeded(2))[0])
    assert at_floor(distance, floors["1-D"]), (distance, floors["1-D"])


@pytest.mark.slow
@combinations
def test_two_dimensions(step, steps, schedule, floors):
    world = ring()
    x = draw(world.denoiser(schedule), schedule, step(schedule), steps, N2, 2, seed=1)
    distance = w1(x, world.sample(N2, seeded(2))[0])
    assert at_floor(distance, floors["2-D"]), (distance, floors["2-D"])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_labels(schedule, floors):
    """The conditional denoiser, and the unconditional one with the exact classifier at w = 1, both sample p(x|y)."""
    world, y = three_modes(), 2
    exact = world.of_class(y).sample(N1, seeded(2))[0]
    log_prob = lambda x, t: world.log_prob_label(x, t, schedule, y)
    conditional = bind(world.denoiser(schedule), y=y)
    bayes = classifier(world.denoiser(schedule), log_prob, schedule, 1.0)
    for denoise in (conditional, bayes):
        distance = w1(draw(denoise, schedule, dpmpp_2m(schedule), 100, N1, 1, seed=1), exact)
        assert at_floor(distance, floors["1-D, y = 2"]), (distance, floors["1-D, y = 2"])


WRONG = {
    "means too far out": lambda s: lambda x, t: 1.05 * three_modes().denoise(x, t, s),
    "another label": lambda s: bind(three_modes().denoiser(s), y=1),
    "guided": lambda s: extrapolate(bind(three_modes().denoiser(s), y=2), bind(three_modes().denoiser(s)), 0.3),
    "another schedule": lambda s: three_modes().denoiser(Cosine() if isinstance(s, Linear) else Linear()),
    "late by a twentieth": lambda s: lambda x, t: three_modes().denoise(x, (t - 0.05).clamp(min=0.001), s),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_a_wrong_denoiser_is_found_out(wrong, schedule, floors):
    """The control, at the same size: slight mistakes lie above the floor."""
    x = draw(wrong(schedule), schedule, dpmpp_2m(schedule), 60, N1, 1, seed=1)
    assert not at_floor(w1(x, three_modes().sample(N1, seeded(2))[0]), floors["1-D"])


def test_too_few_steps_are_found_out(floors):
    x = draw(three_modes().denoiser(Linear()), Linear(), ddim(Linear()), 8, N1, 1, seed=1)
    assert not at_floor(w1(x, three_modes().sample(N1, seeded(2))[0]), floors["1-D"])
