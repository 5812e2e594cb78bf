"""Training clocks against their distributions; sampling grids against their formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minidiff import times
from minidiff.randomness import seeded

few = settings(max_examples=25, deadline=None)
GRIDS = {
    "linear": lambda n: times.linear(n),
    "shifted": lambda n: times.shifted(n, 3.0),
    "karras": lambda n: times.karras(n),
    "linear_quadratic": lambda n: times.linear_quadratic(max(n, 2)),
}


@pytest.mark.parametrize("name", GRIDS)
@few
@given(st.integers(1, 400))
def test_a_grid_falls_strictly_from_one_to_zero(name, steps):
    grid = GRIDS[name](steps)
    assert grid.shape == (max(steps, 2) + 1 if name == "linear_quadratic" else steps + 1,)
    assert grid.dtype == torch.float64
    assert grid[0] == 1.0
    assert grid[-1] == 0.0
    assert bool((grid.diff() < 0).all())


@few
@given(st.integers(1, 200), st.floats(-12, 12))
def test_every_shift_starts_at_exactly_one_and_ends_at_exactly_zero(steps, exponent):
    """shift/(1 + (shift − 1)) is 1.0000000000000002 for .1, and `sample` takes no time above 1."""
    grid = times.shifted(steps, 10**exponent)
    assert grid[0] == 1.0
    assert grid[-1] == 0.0
    assert bool((grid.diff() < 0).all())
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    torch.testing.assert_close(grid, t / (t + (1 - t) / 10**exponent), rtol=1e-12, atol=0)


def test_the_shifts_that_were_refused_are_sampled():
    wrong = [s for s in (k / 100 for k in range(1, 100)) if s / (1 + (s - 1)) > 1]
    assert 0.1 in wrong  # the control: with the paper's denominator
    assert len(wrong) > 10
    for shift in wrong:
        assert times.shifted(7, shift)[0] == 1.0


@few
@given(st.integers(2, 400), st.floats(0.05, 1.0), st.floats(0.2, 20.0))
def test_ends_are_exactly_what_was_asked_for(steps, start, rho):
    """At σ of exactly 0 a sampler adds no noise; at 1e-16 it does, and asks the network once more."""
    for grid in (
        times.linear(steps, start),
        times.karras(steps, start, rho=rho),
        times.linear_quadratic(steps, start=start),
    ):
        assert grid[0] == start
        assert grid[-1] == 0.0


@few
@given(st.integers(1, 60), st.floats(0.05, 1.0), st.floats(0.0, 0.95), st.floats(0.2, 9.0))
def test_ends_other_than_one_and_zero(steps, start, share, knob):
    end = share * start
    for grid in (
        times.linear(steps, start, end),
        times.karras(steps, start, end, rho=knob),
    ):
        torch.testing.assert_close(grid[[0, -1]], torch.tensor([start, end], dtype=torch.float64), rtol=0, atol=1e-12)
        assert float(grid.max()) <= 1.0
        assert float(grid.min()) >= 0.0
    shift = lambda t: knob * t / (1 + (knob - 1) * t)
    ends = torch.tensor([shift(start), shift(end)], dtype=torch.float64)
    torch.testing.assert_close(times.shifted(steps, knob, start, end)[[0, -1]], ends, rtol=0, atol=1e-12)


def test_shift_one_is_linear_and_large_shift_stays_near_the_noise():
    torch.testing.assert_close(times.shifted(10, 1.0), times.linear(10))
    assert float(times.shifted(10, 5.0)[5]) == pytest.approx(5 * 0.5 / (1 + 4 * 0.5))


def test_karras_in_numbers():
    grid = times.karras(4, rho=7.0)
    for i, t in enumerate(grid.tolist()):
        assert t == pytest.approx((1 - i / 4) ** 7, abs=1e-15)
    torch.testing.assert_close(times.karras(9, rho=1.0), times.linear(9))


def test_linear_quadratic_in_numbers():
    """50 steps of 1000, as Movie Gen uses it: 25 steps of 1/1000, then quadratic and smooth at the joint."""
    grid = times.linear_quadratic(50, emulated=1000)
    torch.testing.assert_close(grid[:26], 1 - torch.arange(26, dtype=torch.float64) / 1000)
    tail = -grid[25:].diff()
    second = tail.diff()
    assert float((second - second.mean()).abs().max()) <= 1e-12  # a parabola
    assert float(tail[0]) == pytest.approx(
        1 / 1000 + float(second.mean()) / 2, rel=1e-9
    )  # that leaves at the same speed


@pytest.mark.parametrize(
    ("clock", "cdf"),
    [
        (times.uniform, stats.uniform.cdf),
        (times.logit_normal(), lambda t: stats.norm.cdf(stats.logistic.ppf(t))),
        (times.logit_normal(-0.5, 0.8), lambda t: stats.norm.cdf((stats.logistic.ppf(t) + 0.5) / 0.8)),
    ],
)
def test_clocks_follow_their_distribution(clock, cdf):
    draws = clock(4000, seeded(1))
    assert draws.shape == (4000,)
    assert float(draws.min()) >= 0
    assert float(draws.max()) <= 1
    assert stats.kstest(draws.numpy(), cdf).pvalue > 1e-3
    assert stats.kstest(draws.numpy(), lambda t: cdf(t) ** 1.2).pvalue < 1e-3  # the control: a slightly wrong one
    assert torch.equal(draws, clock(4000, seeded(1)))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: times.linear(0), "steps"),
        (lambda: times.linear(2.5), "steps"),
        (lambda: times.linear(4, start=1.5), "start, end"),
        (lambda: times.linear(4, start=0.2, end=0.4), "start, end"),
        (lambda: times.linear(4, start=math.nan), "start, end"),
        (lambda: times.linear(4, end=-0.1), "start, end"),
        (lambda: times.shifted(4, 0.0), "shift"),
        (lambda: times.shifted(4, math.nan), "shift"),
        (lambda: times.shifted(4, math.inf), "shift"),
        (lambda: times.karras(4, rho=-1.0), "rho"),
        (lambda: times.karras(4, rho=math.inf), "rho"),
        (lambda: times.linear_quadratic(1), "steps"),
        (lambda: times.shifted(10, 1e17), "shift"),  # all but the last would be 1
        (lambda: times.karras(1000, rho=200.0), "rho"),  # most would be 0
        (lambda: times.linear(10, 1.0, 1 - 4e-16), "steps"),
        (lambda: times.linear_quadratic(10, emulated=10), "emulated"),
        (lambda: times.logit_normal(math.nan, 1.0), "mean"),
        (lambda: times.logit_normal(0.0, -1.0), "std"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        call()
