"""Predictions: a target and its inverse, on every schedule and at its ends."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.predictions import EPS, VELOCITY, X0, V
from minidiff.schedules import DDPM, Cosine, Karras, Linear

few = settings(max_examples=25, deadline=None)
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_prediction = pytest.mark.parametrize("prediction", [EPS, X0, V, VELOCITY], ids=lambda p: p.name)


def pair(seed: int, dtype=torch.float64, shape=(3, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    x0, eps = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x0, eps


def round_trip(schedule, prediction, x0, eps, t):
    alpha, sigma = schedule(t)
    return prediction.to_x0(schedule, alpha * x0 + sigma * eps, prediction.target(schedule, x0, eps, t), t)


@every_schedule
@every_prediction
@few
@given(st.floats(0, 0.999), st.integers(0, 2**31))
def test_round_trip(schedule, prediction, t, seed):
    x0, eps = pair(seed)
    t = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule(t)
    # ε → x̂0 divides by α, so rounding grows with σ/α; the others are well posed (V on VE is its own case: σ² + 1)
    scale = float(1 + sigma**2 / alpha**2) if prediction in (EPS, V, VELOCITY) else 1.0
    assert float((round_trip(schedule, prediction, x0, eps, t) - x0).abs().max()) <= 1e-13 * scale


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), DDPM()], ids=["linear", "cosine", "ddpm"])
@pytest.mark.parametrize("prediction", [X0, V, VELOCITY], ids=lambda p: p.name)
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_both_ends_are_well_posed(schedule, prediction, t):
    x0, eps = pair(0)
    back = round_trip(schedule, prediction, x0, eps, torch.tensor(t, dtype=torch.float64))
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("t", [torch.tensor(1.0), torch.tensor([[0.5], [1.0], [0.2]])], ids=["scalar", "one of three"])
def test_noise_says_nothing_where_alpha_is_zero(schedule, t):
    _, eps = pair(0, torch.float32)
    with pytest.raises(ValueError, match=r"t: got a time with α.t. = 0 for an EPS network, expected α.t. > 0"):
        EPS.to_x0(schedule, eps, eps, t)


@every_schedule
@every_prediction
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 0.2)])
def test_short_dtypes(schedule, prediction, dtype, tolerance):
    x0, eps = pair(1, dtype)
    for t in (0.01, 0.2, 0.35) if schedule is SCHEDULES["karras"] else (0.01, 0.3, 0.6):  # σ ≤ 0.6 in all
        back = round_trip(schedule, prediction, x0, eps, torch.tensor(t, dtype=torch.float64))
        assert back.dtype == dtype
        assert float((back - x0).abs().max()) <= tolerance


@every_schedule
def test_velocity_is_the_derivative_of_the_path(schedule):
    x0, eps = pair(2)
    for t in (0.1003, 0.5003, 0.9003):
        at = torch.tensor(t, dtype=torch.float64)
        path = lambda u: schedule(u)[0] * x0 + schedule(u)[1] * eps
        slope = torch.autograd.functional.jvp(path, at, torch.ones_like(at))[1]
        torch.testing.assert_close(VELOCITY.target(schedule, x0, eps, at), slope, rtol=1e-12, atol=1e-12)


def test_what_each_network_is_asked_for():
    """The four targets in the papers' own symbols."""
    x0, eps = pair(3)
    t = torch.tensor(0.3, dtype=torch.float64)
    angle = math.pi / 2 * 0.3
    assert torch.equal(EPS.target(Cosine(), x0, eps, t), eps)
    assert torch.equal(X0.target(Cosine(), x0, eps, t), x0)
    torch.testing.assert_close(V.target(Cosine(), x0, eps, t), math.cos(angle) * eps - math.sin(angle) * x0)
    torch.testing.assert_close(VELOCITY.target(Linear(), x0, eps, t), eps - x0)
    # On the quarter circle the velocity is v, at π/2 per unit of time.
    torch.testing.assert_close(VELOCITY.target(Cosine(), x0, eps, t), math.pi / 2 * V.target(Cosine(), x0, eps, t))


@every_schedule
def test_one_time_per_picture(schedule):
    x0, eps = pair(4)
    t = torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    for prediction in (EPS, X0, V, VELOCITY):
        together = round_trip(schedule, prediction, x0, eps, t[:, None])
        for i in range(3):
            alone = round_trip(schedule, prediction, x0[i], eps[i], t[i])
            torch.testing.assert_close(together[i], alone, rtol=1e-12, atol=1e-12)


def test_the_round_trip_can_fail():
    """The control: a target of one prediction read by the inverse of another is far off."""
    x0, eps = pair(5)
    t = torch.tensor(0.4, dtype=torch.float64)
    x_t = Linear().add_noise(x0, eps, t)
    wrong = V.to_x0(Linear(), x_t, VELOCITY.target(Linear(), x0, eps, t), t)
    assert float((wrong - x0).abs().max()) > 0.1
