"""Every sampler, step by step, equals diffusers' scheduler on the same network and noise (float32)."""

import diffusers
import pytest

from benchmarks import parity
from minidiff.guidance import bind, extrapolate
from minidiff.predictions import EPS
from minidiff.samplers import ddim, ddpm
from minidiff.schedules import DDPM

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5


@pytest.mark.parametrize(
    ("cases", "least"),
    [(parity.table_cases, 14), (parity.straight_cases, 6), (parity.karras_cases, 4), (parity.guided_cases, 3)],
    ids=["DDPM's table", "straight path", "Karras' sigmas", "guidance"],
)
def test_trajectories_are_equal(cases, least):
    rows = list(cases())
    print("\n" + parity.table(rows))
    assert len(rows) >= least
    for row in rows:
        assert row["trajectory"] <= TOLERANCE, row
        assert row["picture"] <= TOLERANCE, row
        assert 0.1 < row["size"] < 10, row  # a picture, neither nothing nor an explosion


def test_with_its_own_float32_table_diffusers_differs_by_the_rounding_of_the_table():
    for row in parity.shipped_table_cases():
        assert TOLERANCE < row["picture"] <= 1e-4, row


def stock(**options) -> dict:
    return parity.from_table("control", diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False), **options)


@pytest.mark.parametrize(
    "slip",
    [
        {"step": ddim(DDPM(), 0.5), "eta": 0.0},
        {"step": ddim(DDPM(), 0.0), "eta": 0.5},
        {"step": ddpm(DDPM(), "large"), "eta": 1.0},
        {"step": ddim(DDPM(1000, 1e-4, 0.021)), "eta": 0.0},
    ],
    ids=["eta here", "eta there", "another variance", "another table"],
)
def test_slight_differences_are_found(slip):
    assert stock(prediction=EPS, steps=50, **slip)["trajectory"] > 100 * TOLERANCE


def test_a_guidance_scale_is_not_a_strength():
    """w = s instead of w = s − 1."""
    network = lambda y: parity.raw(DDPM(), EPS, y=y)
    pipeline = lambda x, t: network(0.0)(x, t) + 2.0 * (network(1.0)(x, t) - network(0.0)(x, t))
    for w, equal in ((1.0, True), (2.0, False)):
        guide = lambda model, w=w: extrapolate(bind(model, y=1.0), bind(model), w)
        gap = stock(step=ddim(DDPM()), prediction=EPS, steps=50, guide=guide, output=pipeline)["trajectory"]
        assert (gap <= TOLERANCE) == equal, gap
        assert equal or gap > 100 * TOLERANCE
