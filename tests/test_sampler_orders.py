"""Orders of convergence, measured on a mixture whose ODE is solved in closed form.

In one dimension the probability-flow ODE keeps quantiles: F_s(x_s) = F_t(x_t), with F_t the mixture's distribution
function at time t. So the exact solution is F_s⁻¹(F_t(x)), and no other solver is needed as a reference.
"""

import itertools
import math

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from minidiff import times
from minidiff.data.mixtures import gaussian, three_modes
from minidiff.samplers import ddim, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule

WORLD = three_modes()


def distribution(x: float, t: float, schedule: Schedule) -> float:
    alpha, sigma = (float(v) for v in schedule(torch.tensor(t, dtype=torch.float64)))
    std = (alpha**2 * WORLD.covariances[:, 0, 0] + sigma**2).sqrt()
    return float((WORLD.weights * torch.from_numpy(norm.cdf(((x - alpha * WORLD.means[:, 0]) / std).numpy()))).sum())


def transport(x: torch.Tensor, t: float, s: float, schedule: Schedule) -> torch.Tensor:
    """The exact solution at s of the ODE that starts at x, shape (B, 1), at t."""
    reach = 10 + 60 * float(schedule(torch.tensor(s, dtype=torch.float64))[1])
    solve = lambda u: brentq(lambda z: distribution(z, s, schedule) - u, -reach, reach, xtol=1e-13, rtol=1e-14)
    quantiles = [distribution(v, t, schedule) for v in x[:, 0].tolist()]
    return torch.tensor([[solve(u)] for u in quantiles], dtype=torch.float64)


def errors(step, schedule: Schedule, start: float, end: float, counts: tuple[int, ...]) -> list[float]:
    """Mean absolute error at `end` for each number of steps."""
    alpha, sigma = schedule(torch.tensor(start, dtype=torch.float64))
    x = 0.1 * alpha + sigma * torch.linspace(-1.5, 1.5, 9, dtype=torch.float64)[:, None]
    exact, found = transport(x, start, end, schedule), []
    for n in counts:
        *_, x0 = sample(WORLD.denoiser(schedule), x, times.linear(n, start, end), step)
        found.append(float((x0 - exact).abs().mean()))
    return found


def orders(*arguments) -> list[float]:
    """log2 of the factor by which the error falls each time the number of steps is doubled."""
    return [math.log2(a / b) for a, b in itertools.pairwise(errors(*arguments))]


def assert_order(order: int, found: list[float]) -> None:
    assert all(abs(slope - order) <= 0.2 * order for slope in found), f"orders {found}, expected {order}"


# A finer table than the usual 1,000 entries, whose corners would show at hundreds of steps.
INSIDE = {
    "linear": (Linear(), 0.98, 0.02),
    "cosine": (Cosine(), 0.98, 0.02),
    "ddpm": (DDPM(100_000, 1e-6, 2e-4), 1.0, 0.05),
    "karras": (Karras(0.01, 10.0), 1.0, 0.0),
}
inside = pytest.mark.parametrize(("schedule", "start", "end"), INSIDE.values(), ids=INSIDE)


@inside
@pytest.mark.parametrize("step", [ddim, euler], ids=["ddim", "euler"])
def test_first_order(step, schedule, start, end):
    assert_order(1, orders(step(schedule), schedule, start, end, (64, 128, 256)))


@inside
@pytest.mark.parametrize("step", [heun, dpmpp_2m], ids=["heun", "dpmpp_2m"])
def test_second_order(step, schedule, start, end):
    assert_order(2, orders(step(schedule), schedule, start, end, (64, 128, 256)))


def forgetful_2m(schedule: Schedule):
    """DPM++ 2M that never finds its memory: every state is handed over as a copy."""
    step = dpmpp_2m(schedule)
    return lambda denoise, x, t, s, generator: step(denoise, x.clone(), t, s, generator)


def one_sided_heun(schedule: Schedule):
    """Heun's two calls, but the second at the old place: a plausible slip that costs the order."""
    whole = heun(schedule)

    def step(denoise, x_t, t, s, generator):
        return whole(lambda x, at: denoise(x_t, at), x_t, t, s, generator)

    return step


@inside
@pytest.mark.parametrize("broken", [forgetful_2m, one_sided_heun, euler])
def test_a_first_order_step_cannot_pass_for_a_second_order_one(broken, schedule, start, end):
    found = orders(broken(schedule), schedule, start, end, (32, 64, 128))
    with pytest.raises(AssertionError, match="expected 2"):
        assert_order(2, found)


@pytest.mark.parametrize("steps", [(18, 36, 72), (45, 90, 180)])
def test_heun_does_not_see_the_corners_of_the_ddpm_table(steps):
    """With slopes in t, Heun stops at an error of 2e-3 on grids that meet the table's entries, where the rates jump."""
    assert_order(2, orders(heun(DDPM()), DDPM(), 1.0, 0.1, steps))


@pytest.mark.parametrize("step", [heun, dpmpp_2m], ids=["heun", "dpmpp_2m"])
def test_second_order_from_pure_noise(step):
    """From t = 1 on the linear path, where α = 0 and λ = −∞, down to t = 0.02."""
    assert_order(2, orders(step(Linear()), Linear(), 1.0, 0.02, (64, 128, 256)))


def test_all_the_way_from_noise_to_data():
    """Linear, t = 1 to t = 0, as used. Heun keeps order 2. DPM++ 2M ends with a first-order step and with λ → ∞: 1.6 to
    1.9. DDIM comes near 1 only slowly: 0.65 to 0.9 up to 512 steps."""
    assert_order(2, orders(heun(Linear()), Linear(), 1.0, 0.0, (64, 128, 256)))
    assert all(1.5 < slope < 1.95 for slope in orders(dpmpp_2m(Linear()), Linear(), 1.0, 0.0, (64, 128, 256)))
    assert all(0.65 < slope < 1.0 for slope in orders(ddim(Linear()), Linear(), 1.0, 0.0, (64, 128, 256, 512)))


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), DDPM(), Karras()], ids=["linear", "cosine", "ddpm", "karras"])
def test_a_gaussian_follows_its_closed_form(schedule):
    """One Gaussian N(m, c): x_s = α_s·m + (x_t − α_t·m)·√((α_s²c + σ_s²)/(α_t²c + σ_t²))."""
    m, c, one = 0.4, 0.09, torch.tensor(1.0, dtype=torch.float64)
    world = gaussian(m * one[None], c * one[None, None])
    (a_t, s_t), (a_s, s_s) = schedule(one), schedule(0.1 * one)
    x = a_t * m + s_t * torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    exact = a_s * m + (x - a_t * m) * ((a_s**2 * c + s_s**2) / (a_t**2 * c + s_t**2)).sqrt()
    for step, tolerance in ((ddim, 2e-2), (heun, 1e-3), (dpmpp_2m, 1e-3)):
        *_, found = sample(world.denoiser(schedule), x, times.linear(180, 1.0, 0.1), step(schedule))
        assert float((found - exact).abs().max()) <= tolerance
