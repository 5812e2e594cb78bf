"""Schedules: rates by hand against autodiff, the papers' formulas, ends, dtypes, bad times."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule

few = settings(max_examples=25, deadline=None)
SCHEDULES = {
    "linear": Linear(),
    "cosine": Cosine(),
    "ddpm": DDPM(),
    "ddpm-10": DDPM(10, 1e-3, 0.3),
    "karras": Karras(),
    "karras-straight": Karras(rho=1.0),
    "karras-short": Karras(0.01, 10.0, 3.0),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
VARIANCE_PRESERVING = pytest.mark.parametrize("schedule", [Cosine(), DDPM(), DDPM(10, 1e-3, 0.3)])


def rate_error(schedule: Schedule, t: torch.Tensor) -> float:
    """Largest relative difference between `rates` and autodiff of the levels."""
    t = t.clone().requires_grad_()
    worst = 0.0
    for level, rate in zip(schedule(t), schedule.rates(t)):
        if level.requires_grad:
            (slope,) = torch.autograd.grad(level.sum(), t, retain_graph=True)
        else:
            slope = torch.zeros_like(t)  # α = 1 does not depend on t
        worst = max(worst, float(((slope - rate).abs() / (1 + slope.abs())).detach().max()))
    return worst


@every
def test_rates_equal_autodiff(schedule):
    t = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    assert rate_error(schedule, t) <= 1e-12


def test_a_rate_off_by_a_thousandth_is_caught():
    class Off(Cosine):
        def rates(self, t):
            d_alpha, d_sigma = super().rates(t)
            return d_alpha, 1.001 * d_sigma

    assert rate_error(Off(), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)) > 1e-4


@every
def test_rates_equal_central_differences(schedule):
    """Autodiff and the hand share the code of the levels' formula; this does not look at it."""
    h = 1e-6
    t = torch.linspace(0.05033, 0.95033, 31, dtype=torch.float64)  # away from the table's corners, k/1000 and k/10
    for upper, lower, rate in zip(schedule(t + h), schedule(t - h), schedule.rates(t)):
        torch.testing.assert_close((upper - lower) / (2 * h), rate, rtol=1e-6, atol=1e-7)


@every
@few
@given(st.floats(0, 1), st.floats(0, 1))
def test_noise_grows_and_signal_does_not(schedule, a, b):
    lo, hi = sorted((a, b))
    (alpha_lo, sigma_lo), (alpha_hi, sigma_hi) = (schedule(torch.tensor(v, dtype=torch.float64)) for v in (lo, hi))
    assert alpha_hi <= alpha_lo
    assert sigma_hi >= sigma_lo
    if hi - lo > 1e-9:
        assert sigma_hi > sigma_lo
        assert alpha_hi / sigma_hi < alpha_lo / sigma_lo if sigma_lo > 0 else True


@every
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_levels_keep_shape_and_dtype(schedule, shape, dtype):
    t = torch.full(shape, 0.5, dtype=dtype)
    exact = (*schedule(t.double()), *schedule.rates(t.double()))
    for got, want in zip((*schedule(t), *schedule.rates(t)), exact):
        assert (got.shape, got.dtype) == (t.shape, dtype)
        torch.testing.assert_close(got.double(), want, rtol=4 * 7 * torch.finfo(dtype).eps, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_ends_are_exact(schedule, dtype):
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    alpha, sigma = schedule(ends)
    assert alpha.tolist() == [1.0, 0.0]
    assert sigma.tolist() == [0.0, 1.0]


def test_linear_is_linear():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(Linear()(t)[0], 1 - t)
    assert torch.equal(Linear()(t)[1], t)


@VARIANCE_PRESERVING
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert float((alpha**2 + sigma**2 - 1).abs().max()) <= 1e-14


def test_cosine_is_the_papers_without_offset():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(Cosine()(t)[0] ** 2, torch.cos(math.pi / 2 * t) ** 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("n", "start", "end"), [(1000, 1e-4, 0.02), (10, 1e-3, 0.3), (1, 0.01, 0.01)])
def test_ddpm_meets_its_table(n, start, end):
    """ᾱ_k = ∏(1 − β_i) at t = k/n, by plain multiplication."""
    betas = [start + (end - start) * i / (n - 1) for i in range(n)] if n > 1 else [start]
    product, table = 1.0, [1.0]
    for beta in betas:
        product *= 1 - beta
        table.append(product)
    alpha, sigma = DDPM(n, start, end)(torch.arange(n + 1, dtype=torch.float64) / n)
    want = torch.tensor(table, dtype=torch.float64)
    torch.testing.assert_close(alpha**2, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma**2, 1 - want, rtol=0, atol=1e-14)


def test_ddpm_between_entries_is_geometric():
    schedule = DDPM()
    left, middle, right = (schedule(torch.tensor(k / 1000, dtype=torch.float64))[0] for k in (500, 500.5, 501))
    assert float(middle) == pytest.approx(float((left * right).sqrt()), rel=1e-12)


def test_ddpm_is_finite_at_zero():
    for dtype in (torch.float64, torch.float32):
        values = torch.stack([*DDPM()(torch.zeros(1, dtype=dtype)), *DDPM().rates(torch.zeros(1, dtype=dtype))])
        assert bool(torch.isfinite(values).all())
        assert values[1] == 0  # σ(0)


@pytest.mark.parametrize(("low", "high", "rho", "n"), [(0.002, 80.0, 7.0, 18), (0.03, 14.6, 5.0, 7)])
def test_karras_steps_are_the_papers(low, high, rho, n):
    t = torch.linspace(1, 0, n, dtype=torch.float64)
    want = [(high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)]
    alpha, sigma = Karras(low, high, rho)(t)
    torch.testing.assert_close(sigma, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=0)
    assert bool((alpha == 1).all())


@every
@few
@given(st.integers(1, 4), st.lists(st.integers(1, 3), max_size=3), st.booleans(), st.integers(0, 2**31))
def test_add_noise_is_the_formula_picture_by_picture(schedule, batch, rest, scalar, seed):
    g = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, batch, *rest, generator=g, dtype=torch.float64)
    t = torch.rand(() if scalar else (batch,), generator=g, dtype=torch.float64)
    x_t = schedule.add_noise(x0, eps, t)
    for i in range(batch):
        alpha, sigma = schedule(t if scalar else t[i])
        torch.testing.assert_close(x_t[i], alpha * x0[i] + sigma * eps[i], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_add_noise_keeps_the_pictures_dtype(dtype):
    x0 = torch.ones(2, 3, dtype=dtype)
    for t in (torch.tensor(0.3, dtype=torch.float64), torch.tensor([0.3, 0.7])):
        assert Linear().add_noise(x0, x0, t).dtype == dtype


@pytest.mark.parametrize(
    ("x0", "eps", "t", "argument"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), torch.rand(2), "x0"),
        (torch.tensor(1.0), torch.tensor(1.0), torch.rand(()), "x0"),
        (torch.zeros(2, 3), torch.zeros(3, 2), torch.rand(2), "eps"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.float64), torch.rand(2), "eps"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.rand(3), "t"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.rand(2, 1), "t"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.5, 1.5]), "t"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.5, math.nan]), "t"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]), "t"),
    ],
)
def test_bad_arguments_are_named(x0, eps, t, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        Linear().add_noise(x0, eps, t)


@every
@few
@given(st.one_of(st.floats(max_value=-1e-6), st.floats(min_value=1.000001), st.just(math.nan)))
def test_times_outside_are_refused(schedule, t):
    with pytest.raises(ValueError, match=r"t: got values from .* expected times in "):
        schedule(torch.tensor([0.5, t], dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: DDPM(0), "n"),
        (lambda: DDPM(10.0), "n"),
        (lambda: DDPM(beta_start=0.03), "beta_start, beta_end"),
        (lambda: DDPM(beta_end=1.0), "beta_start, beta_end"),
        (lambda: Karras(sigma_min=0.0), "sigma_min, sigma_max"),
        (lambda: Karras(sigma_min=2.0, sigma_max=1.0), "sigma_min, sigma_max"),
        (lambda: Karras(rho=0.0), "rho"),
        (lambda: Karras(rho=math.nan), "rho"),
    ],
)
def test_bad_parameters_are_named(make, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        make()
