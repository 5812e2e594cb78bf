"""The claims of chapter 01, each with a control that must fail. Thresholds come from seeds 0 to 4."""

import pytest
import torch
from torch import Tensor

from minidiff import times
from minidiff.data.mixtures import isotropic, ring, three_modes
from minidiff.guidance import bind, classifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear

LINE, PLANE, LINEAR = three_modes(), ring(6, radius=1.6, std=0.35, n_classes=3), Linear()
LEVELS = [0.0, 1e-9, 1e-6, 1e-3, 0.03, 0.2, 0.5, 0.8, 0.99, 1 - 1e-9, 1.0]
SCHEDULES = [Linear(), Cosine(), DDPM(), Karras()]


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


CLEAN = level(0.0)


def slope(f, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def noisy(world, schedule, t: Tensor, n: int = 200) -> Tensor:
    x0, _ = world.sample(n, seeded(3))
    return schedule.add_noise(x0, randn(x0.shape, seeded(4), torch.float64), t)


def log_share(world, x: Tensor, t: Tensor, schedule, y: int) -> Tensor:
    """log p(y|x_t) from the responsibilities: no conditional density is used."""
    return world.posterior_label(x, t, schedule)[:, y].log()


@pytest.mark.parametrize("world", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_bayes_rule_holds_at_every_noise_level(world, schedule):
    for t in map(level, LEVELS):
        x = noisy(world, schedule, t)
        prior = world.score(x, t, schedule)
        for y in range(world.n_classes):
            target = world.score(x, t, schedule, y)
            term = slope(lambda x, t=t, y=y: log_share(world, x, t, schedule, y), x)
            assert (prior + term - target).abs().max() <= 1e-11  # claimed: 1e-6
            if 1e-3 <= t <= 0.5:  # control: at another time's noise level the classifier is wrong
                late = slope(lambda x, t=t, y=y: world.log_prob_label(x, t + 0.05, schedule, y), x)
                assert (prior + late - target).abs().max() > 1e-3


def test_a_constant_per_class_changes_nothing_and_a_function_of_x_does():
    x, t = noisy(PLANE, LINEAR, level(0.4)), level(0.4)
    plain = slope(lambda x: log_share(PLANE, x, t, LINEAR, 1), x)
    assert torch.equal(plain, slope(lambda x: log_share(PLANE, x, t, LINEAR, 1) + 123.0, x))
    assert not torch.allclose(plain, slope(lambda x: log_share(PLANE, x, t, LINEAR, 1) + 0.1 * x[:, 0], x))


def test_the_noisy_classifier_is_the_average_of_the_clean_one():
    grid = torch.linspace(-4, 4, 2001, dtype=torch.float64)[:, None]
    for t in map(level, (0.03, 0.3, 0.7)):
        x, (alpha, sigma) = noisy(LINE, LINEAR, t), LINEAR(t)
        origin = LINE.log_prob(grid, CLEAN, LINEAR) - (x - alpha * grid.T) ** 2 / (2 * sigma**2)
        average = origin.softmax(1) @ LINE.posterior_label(grid, CLEAN, LINEAR)
        exact = LINE.posterior_label(x, t, LINEAR)
        assert (average - exact).abs().max() < 1e-10
        if t >= 0.3:  # control: the clean one at x_t
            assert (LINE.posterior_label(x, CLEAN, LINEAR) - exact).abs().max() > 0.1


def clean_error(t: float) -> float:
    x = noisy(LINE, LINEAR, level(t), 1000)
    right = slope(lambda x: LINE.log_prob_label(x, level(t), LINEAR, 2), x)
    return float((slope(lambda x: LINE.log_prob_label(x, CLEAN, LINEAR, 2), x) - right).norm() / right.norm())


def test_the_clean_classifier_is_right_at_t_0_only():
    errors = [clean_error(t) for t in (1e-6, 1e-3, 0.03, 0.1, 0.3, 0.5, 0.9)]
    assert errors == sorted(errors)
    assert errors[0] < 1e-5 < 0.5 < errors[4] < 50 < errors[-1]


def test_two_hills_the_clean_log_odds_are_too_steep_by_the_stated_factor():
    s, t, x = 0.25, level(0.5), torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    two = isotropic(torch.tensor([[1.0], [-1.0]], dtype=torch.float64), s)
    odds = lambda t: two.log_prob_label(x, t, LINEAR, 0) - two.log_prob_label(x, t, LINEAR, 1)
    alpha, sigma = LINEAR(t)
    factor = (alpha**2 * s**2 + sigma**2) / (alpha * s**2)
    assert abs(factor - 8.5) < 1e-12
    assert torch.allclose(odds(CLEAN), factor * odds(t), atol=1e-10)


def travel(log_prob, w: float, seed: int, n: int = 1000) -> Tensor:
    guided = classifier(bind(LINE.denoiser(LINEAR)), log_prob, LINEAR, w)
    *_, x = sample(guided, randn((n, 1), seeded(seed), torch.float64), times.linear(50), heun(LINEAR))
    return x


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_prior_plus_classifier_samples_the_conditional_and_the_controls_do_not(seed):
    for y in range(3):
        draw = lambda n, g, y=y: LINE.of_class(y).sample(n, g)[0]
        wanted, (lowest, _) = draw(1000, seeded(100 + seed)), floor(draw, 1000)
        right = w1(travel(lambda x, t, y=y: LINE.log_prob_label(x, t, LINEAR, y), 1.0, seed), wanted)
        without = w1(travel(lambda x, t, y=y: LINE.log_prob_label(x, t, LINEAR, y), 0.0, seed), wanted)
        assert right < lowest + 0.03
        assert without > 0.5
    clean = w1(travel(lambda x, t: LINE.log_prob_label(x, CLEAN, LINEAR, 2), 1.0, seed), wanted)
    assert clean > without, "here a clean classifier is worse than none"


GRID = torch.linspace(-6, 6, 2401, dtype=torch.float64)[:, None]


def tilted(w: float) -> Tensor:
    """p(x)·p(y=2|x)^w on the grid, summing to 1."""
    return (LINE.log_prob(GRID, CLEAN, LINEAR) + w * LINE.log_prob_label(GRID, CLEAN, LINEAR, 2)).softmax(0)


def mismatch(w: float, t: Tensor) -> float:
    """Relative error of the w-weighted arrows against the score of the diffused p(x)·p(y|x)^w."""
    x, (alpha, sigma) = torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None], LINEAR(t)
    origin = tilted(w).log() - (x - alpha * GRID.T) ** 2 / (2 * sigma**2)
    target = (alpha * origin.softmax(1) @ GRID - x) / sigma**2
    weighted = LINE.score(x, t, LINEAR) + w * slope(lambda x: LINE.log_prob_label(x, t, LINEAR, 2), x)
    mass = origin.logsumexp(1).softmax(0)[:, None]
    return float((mass * (weighted - target) ** 2).sum().sqrt() / (mass * target**2).sum().sqrt())


def test_the_weighted_arrows_are_a_diffused_score_at_w_0_and_1_only():
    for t in map(level, (0.1, 0.3, 0.5)):
        assert max(mismatch(0.0, t), mismatch(1.0, t)) < 1e-10
        assert min(mismatch(0.5, t), mismatch(2.0, t), mismatch(3.0, t)) > 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_w_3_does_not_sample_the_cube_and_w_1_does(seed):
    far = {}
    for w in (1.0, 3.0):
        wanted = GRID[torch.multinomial(tilted(w), 1000, replacement=True, generator=seeded(300 + seed))]
        far[w] = w1(travel(lambda x, t: LINE.log_prob_label(x, t, LINEAR, 2), w, seed), wanted)
    assert far[1.0] < 0.04
    assert 0.3 < far[3.0] < 0.55


@pytest.mark.parametrize("w", [-0.5, 0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("u", [0.1, 1.0, 10.0])
def test_the_worked_example_of_the_lecture(w, u):
    """x0 ~ N(0, 1), y = x0 + N(0, 1): the precisions from densities on a grid, by second differences."""
    h, y = 1e-3, 0.7
    x = torch.tensor([-h, 0.0, h], dtype=torch.float64)[:, None]
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    noise, prior, likelihood = -((x - grid) ** 2) / (2 * u), -(grid**2) / 2, -((y - grid) ** 2) / 2
    curvature = lambda f: -float(f[0] - 2 * f[1] + f[2]) / h**2
    log_p = (noise + prior).logsumexp(1)
    log_py = (noise + prior + likelihood).logsumexp(1) - log_p
    first = curvature(log_p + w * log_py)
    second = curvature((noise + prior + w * likelihood).logsumexp(1))
    claimed = u * w * (w - 1) / ((1 + u) * (1 + 2 * u) * (1 + u * (1 + w)))
    assert abs(first - (1 + 2 * u + w) / ((1 + u) * (1 + 2 * u))) < 1e-5
    assert abs(first - second - claimed) < 1e-5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_walkers_without_noise_levels_stay_on_their_side(seed):
    g, h = seeded(seed), 0.005
    x = 1.2 + 0.1 * randn((1000, 1), g, torch.float64)
    for _ in range(400):
        x = x + h * LINE.score(x, CLEAN, LINEAR) + (2 * h) ** 0.5 * randn(x.shape, g, torch.float64)
    assert (x < -0.5).double().mean() < 0.08  # the density puts half there
