"""Steps one at a time: the papers' formulas, edges, dtypes, seeds, memory, refusals."""

import gc
import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import times
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import bind, extrapolate
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear

few = settings(max_examples=25, deadline=None)
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
STEPS = {
    "ddpm": ddpm,
    "ddpm-large": lambda s: ddpm(s, "large"),
    "ddim": ddim,
    "ddim-0.5": lambda s: ddim(s, 0.5),
    "ddim-1": lambda s: ddim(s, 1.0),
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}
DETERMINISTIC = ["ddim", "euler", "heun", "dpmpp_2m"]
every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def f64(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def points(n: int = 8, dtype=torch.float64) -> torch.Tensor:
    return randn((n, 2), seeded(range(n)), dtype)


def last(states) -> torch.Tensor:
    *_, x = states
    return x


def test_ddim_is_euler_on_the_linear_path():
    """Both move x along x̂0 and ε̂ held fixed; on a straight path that is the same line."""
    for denoise in (
        ring().denoiser(Linear()),
        extrapolate(*(bind(ring().denoiser(Linear()), y=k) for k in (0, 1)), 3.0),
    ):
        for steps in (1, 2, 7, 50):
            one, two = (last(sample(denoise, points(), times.linear(steps), s(Linear()))) for s in (ddim, euler))
            assert float((one - two).abs().max()) <= 1e-12
    # The control: on the quarter circle they differ.
    one, two = (last(sample(ring().denoiser(Cosine()), points(), times.linear(7), s(Cosine()))) for s in (ddim, euler))
    assert float((one - two).abs().max()) > 1e-2


@pytest.mark.parametrize(("k", "j"), [(1000, 999), (500, 480), (500, 100), (21, 1)])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_in_the_papers_symbols(k, j, variance):
    """From step k to j with ᾱ: mean (7) of arXiv 2006.11239 for α = ᾱ_k/ᾱ_j, β = 1 − α; β̃ or β as variance."""
    a_bar = torch.exp(DDPM().log_alpha_bar)
    alpha, a_k, a_j = a_bar[k] / a_bar[j], a_bar[k], a_bar[j]
    beta = 1 - alpha
    x0, x_t, z = points(4), points(4) + 1, randn((4, 2), seeded(9), torch.float64)
    mean = a_j.sqrt() * beta / (1 - a_k) * x0 + alpha.sqrt() * (1 - a_j) / (1 - a_k) * x_t
    var = beta * (1 - a_j) / (1 - a_k) if variance == "small" else beta
    got = ddpm(DDPM(), variance)(lambda x, t: x0, x_t, f64(k / 1000), f64(j / 1000), seeded(9))
    torch.testing.assert_close(got, mean + var.sqrt() * z, rtol=1e-10, atol=1e-10)


def test_ddpms_variances_bracket_each_other():
    small, large = (
        last(sample(lambda x, t: torch.zeros_like(x), points(), times.linear(5, end=0.2), ddpm(Cosine(), v), seeded(0)))
        for v in ("small", "large")
    )
    assert float(large.var()) > float(small.var())


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_in_the_papers_symbols(eta):
    """Equations (12) and (16) of arXiv 2010.02502, whose α is our ᾱ."""
    a_bar, k, j = torch.exp(DDPM().log_alpha_bar), 700, 650
    x_t, z = points(4), randn((4, 2), seeded(9), torch.float64)
    eps = 0.3 * x_t + 0.1
    x0 = (x_t - (1 - a_bar[k]).sqrt() * eps) / a_bar[k].sqrt()
    k_sigma = eta * ((1 - a_bar[j]) / (1 - a_bar[k])).sqrt() * (1 - a_bar[k] / a_bar[j]).sqrt()
    want = a_bar[j].sqrt() * x0 + (1 - a_bar[j] - k_sigma**2).sqrt() * eps + k_sigma * z
    got = ddim(DDPM(), eta)(lambda x, t: x0, x_t, f64(k / 1000), f64(j / 1000), seeded(9))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@every_schedule
def test_eta_one_is_ancestral_sampling(schedule):
    denoise = ring().denoiser(schedule)
    x = schedule(f64(1.0))[1] * points()
    one, two = (last(sample(denoise, x, times.linear(20), s, seeded(3))) for s in (ddim(schedule, 1.0), ddpm(schedule)))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@every_schedule
def test_algorithm_1_shifts_the_mean_by_the_variance_times_the_gradient(schedule):
    """x_s ~ N(μ + Σ·g, Σ): with the same noise, the difference is Σ·g alone."""
    x_t, t, s = points(), f64(0.6), f64(0.5)
    denoise, g = ring().denoiser(schedule), torch.tensor([2.0, -1.0], dtype=torch.float64)
    for variance in ("small", "large"):
        moved = ddpm(schedule, variance, shift=lambda x, t: g.expand_as(x))(denoise, x_t, t, s, seeded(1))
        plain = ddpm(schedule, variance)(denoise, x_t, t, s, seeded(1))
        # Σ measured, not recomputed: with x̂0 = x_t = 0 a step is √Σ·z.
        noise = ddpm(schedule, variance)(lambda x, t: 0 * x, torch.zeros_like(x_t), t, s, seeded(1))
        sigma = (noise / randn(x_t.shape, seeded(1), torch.float64)) ** 2
        torch.testing.assert_close(moved - plain, sigma * g, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [(n, s) for n in ("ddim", "heun", "dpmpp_2m") for s in SCHEDULES.values()] + [("euler", Linear())],
)
def test_a_constant_picture_is_reached_at_any_number_of_steps(name, schedule):
    """If every x̂0 is the same picture, the state stays α·picture + σ·ε: exactly, where a step is a straight line."""
    picture, eps = points() + 2, points() - 1
    levels = [schedule(f64(t)) for t in (1.0, 0.0)]
    start, end = (alpha * picture + sigma * eps for alpha, sigma in levels)
    for steps in (1, 3, 40):
        x = last(sample(lambda x, t: picture, start, times.linear(steps), STEPS[name](schedule)))
        torch.testing.assert_close(x, end, rtol=0, atol=1e-10)


@every_step
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_alpha_zero_is_finite(step, schedule):
    states = list(sample(ring().denoiser(schedule), points(), times.linear(3), step(schedule), seeded(0)))
    assert len(states) == 3
    assert all(bool(torch.isfinite(x).all()) for x in states)


@every_step
@every_schedule
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_short_dtypes_stay_near_float64(step, schedule, dtype, tolerance):
    """A smooth denoiser and the same noise: rounding must not grow along the way."""
    x = schedule(f64(1.0))[1] * points()

    def run(kind: torch.dtype) -> torch.Tensor:
        noise = seeded(range(8))  # two numbers per picture: so few are the same in float32 and float64
        return last(sample(lambda x, t: 0.5 * torch.tanh(x), x.to(kind), times.linear(12), step(schedule), noise))

    short, long = run(dtype), run(torch.float64)
    assert short.dtype == dtype
    assert float((short.double() - long).abs().max()) <= tolerance * float(x.abs().max())


@every_step
@few
@given(st.sampled_from(list(SCHEDULES.values())), st.integers(1, 4), st.integers(0, 2**31), st.data())
def test_a_picture_does_not_depend_on_its_batch(step, schedule, batch, seed, data):
    seeds = [seed + i for i in range(batch)]
    draw = lambda which: last(
        sample(
            ring().denoiser(schedule),
            schedule(f64(1.0))[1] * randn((len(which), 2), seeded(which), torch.float64),
            times.linear(4),
            step(schedule),
            seeded([s + 10**6 for s in which]),
        )
    )
    i = data.draw(st.integers(0, batch - 1))
    torch.testing.assert_close(draw(seeds)[i], draw([seeds[i]])[0], rtol=1e-9, atol=1e-9)


def test_the_shared_generator_is_the_control_of_per_picture_seeds():
    draw = lambda n: last(sample(ring().denoiser(Linear()), points(n), times.linear(4), ddpm(Linear()), seeded(5)))
    assert float((draw(3)[0] - draw(2)[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_steps_draw_nothing(name):
    generator = seeded(0)
    before = generator.get_state()
    last(sample(ring().denoiser(Linear()), points(), times.linear(5), STEPS[name](Linear()), generator))
    assert torch.equal(generator.get_state(), before)


@every_step
def test_calls_of_the_network(step):
    """One call per step; Heun two, except where it ends at σ = 0."""
    calls = []
    denoise = lambda x, t: calls.append(float(t)) or 0.5 * x
    for end, want in ((0.0, 11 if step is heun else 6), (0.1, 12 if step is heun else 6)):
        last(sample(denoise, points(), times.linear(6, end=end), step(Linear()), seeded(0)))
        assert len(calls) == want
        assert calls[0] == 1.0
        calls.clear()


@pytest.mark.parametrize("w", [-1.0, 0.0])
def test_edges_of_w_through_a_whole_trajectory(w):
    exact = ring().denoiser(Cosine())
    guided = extrapolate(bind(exact, y=1), bind(exact), w)
    plain = bind(exact, y=1) if w == 0 else bind(exact)
    for step in (ddim, heun, dpmpp_2m):
        a, b = (last(sample(d, points(), times.linear(10), step(Cosine()))) for d in (guided, plain))
        assert torch.equal(a, b) if w == 0 else float((a - b).abs().max()) <= 1e-12


class TestMemoryOfDPMPP:
    """2M remembers one x̂0 per state; these are the ways to confuse it."""

    grid = times.linear(8)

    def alone(self, x, denoise=None) -> torch.Tensor:
        return last(sample(denoise or three_modes().denoiser(Cosine()), x, self.grid, dpmpp_2m(Cosine())))

    def noise(self, seed: int) -> torch.Tensor:
        return randn((4, 1), seeded(range(seed, seed + 4)), torch.float64)

    def test_it_is_used(self):
        first_order = last(sample(three_modes().denoiser(Cosine()), self.noise(0), self.grid, ddim(Cosine())))
        assert float((self.alone(self.noise(0)) - first_order).abs().max()) > 1e-3

    def test_one_trajectory_after_another(self):
        step, denoise = dpmpp_2m(Cosine()), three_modes().denoiser(Cosine())
        for seed in (0, 10, 0):
            assert torch.equal(last(sample(denoise, self.noise(seed), self.grid, step)), self.alone(self.noise(seed)))

    def test_two_trajectories_in_turns(self):
        step = dpmpp_2m(Cosine())
        mild, sharp = three_modes().denoiser(Cosine()), lambda x, t: 0.1 * x
        pairs = zip(sample(mild, self.noise(0), self.grid, step), sample(sharp, self.noise(10), self.grid, step))
        a, b = last(pairs)
        assert torch.equal(a, self.alone(self.noise(0)))
        assert torch.equal(b, self.alone(self.noise(10), sharp))

    def test_an_abandoned_trajectory_leaves_nothing(self):
        step, denoise = dpmpp_2m(Cosine()), three_modes().denoiser(Cosine())
        states = sample(denoise, self.noise(10), self.grid, step)
        next(states), next(states)
        assert torch.equal(last(sample(denoise, self.noise(0), self.grid, step)), self.alone(self.noise(0)))

    def test_a_replaced_state_starts_afresh(self):
        """After the caller has put in another tensor, the next step is first order: DDIM's."""
        step, denoise = dpmpp_2m(Cosine()), three_modes().denoiser(Cosine())
        x = step(denoise, self.noise(0), self.grid[0], self.grid[1], None)
        for other in (x.clone(), x + 0.3):
            got = step(denoise, other, self.grid[1], self.grid[2], None)
            want = ddim(Cosine())(denoise, other, self.grid[1], self.grid[2], None)
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)

    def test_a_step_may_be_taken_twice_from_the_same_state(self):
        step, denoise = dpmpp_2m(Cosine()), three_modes().denoiser(Cosine())
        x = step(denoise, self.noise(0), self.grid[0], self.grid[1], None)
        once, twice = (step(denoise, x, self.grid[1], self.grid[2], None) for _ in range(2))
        assert torch.equal(once, twice)

    def test_states_that_are_dropped_are_freed(self):
        step = dpmpp_2m(Cosine())
        seen = [weakref.ref(x) for x in sample(three_modes().denoiser(Cosine()), self.noise(0), self.grid, step)]
        gc.collect()
        assert len(seen) == 8
        assert all(reference() is None for reference in seen)


def test_sample_is_lazy_and_leaves_gradients_as_they_were():
    calls = []
    states = sample(lambda x, t: calls.append(t) or x, points(), times.linear(5), ddim(Linear()))
    assert calls == []
    assert torch.is_grad_enabled()
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for i, x in enumerate(sample(lambda x, t: weight * x, points(), times.linear(3), ddim(Linear()))):
        assert torch.is_grad_enabled(), i
        assert not x.requires_grad
    next(states)
    assert len(calls) == 1


def test_steps_see_scalar_float64_times_on_the_cpu():
    seen = []
    last(sample(lambda x, t: seen.append(t) or x, points(), times.linear(3).float(), ddim(Linear())))
    assert all((t.ndim, t.dtype, t.device.type) == (0, torch.float64, "cpu") for t in seen)


def bad_times(draw) -> torch.Tensor:
    kind = draw(st.sampled_from(["rising", "equal", "outside", "nan", "short", "matrix", "whole"]))
    return {
        "rising": torch.linspace(0, 1, 4),
        "equal": torch.tensor([1.0, 0.5, 0.5, 0.0]),
        "outside": torch.tensor([1.0, 0.5, -0.2]),
        "nan": torch.tensor([1.0, math.nan, 0.0]),
        "short": torch.tensor([1.0]),
        "matrix": torch.tensor([[1.0, 0.0]]),
        "whole": torch.tensor([1, 0]),
    }[kind]


@few
@given(st.data())
def test_bad_times_are_named(data):
    grid = bad_times(data.draw)
    with pytest.raises(ValueError, match=r"^times: got .+, expected .+"):
        sample(lambda x, t: x, points(), grid, ddim(Linear()))  # at the call, not at the first step


@few
@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 15))
def test_a_bad_start_is_named(bad, where):
    x = points()
    x.view(-1)[where] = bad
    with pytest.raises(ValueError, match=r"^x: got 1 values that are NaN or infinite, expected finite"):
        sample(lambda x, t: x, x, times.linear(2), ddim(Linear()))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: sample(None, torch.zeros(2, 2, dtype=torch.int64), times.linear(2), ddim(Linear())), "x"),
        (lambda: sample(None, torch.tensor(0.0), times.linear(2), ddim(Linear())), "x"),
        (lambda: sample(None, [0.0], times.linear(2), ddim(Linear())), "x"),
        (lambda: sample(None, torch.zeros(2), 10, ddim(Linear())), "times"),
        (lambda: ddpm(Linear(), "medium"), "variance"),
        (lambda: ddim(Linear(), -0.1), "eta"),
        (lambda: ddim(Linear(), math.nan), "eta"),
        (lambda: last(sample(lambda x, t: x, points(3), times.linear(2), ddpm(Linear()), seeded([1, 2]))), "generator"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        call()
