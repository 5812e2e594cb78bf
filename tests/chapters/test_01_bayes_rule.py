"""The claims of chapter 01, each with a control that must fail. Thresholds come from seeds 0 to 4."""

import importlib
import re

import pytest
import torch
from torch import Tensor

from minidiff import times
from minidiff.course import check
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


def travel(log_prob, w: float, seed: int, n: int = 1000, start: float = 0.999) -> Tensor:
    guided = classifier(bind(LINE.denoiser(LINEAR)), log_prob, LINEAR, w)
    noise = start * randn((n, 1), seeded(seed), torch.float64)
    *_, x = sample(guided, noise, times.linear(50, start=start), heun(LINEAR))
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
    # Here a clean classifier is worse than none, even from t = 1, where the convention spares it the first push.
    kind, unkind = (
        w1(travel(lambda x, t: LINE.log_prob_label(x, CLEAN, LINEAR, 2), 1.0, seed, start=start), wanted)
        for start in (1.0, 0.999)
    )
    assert without < kind < 3 < 20 < unkind


def test_the_limit_of_the_shift_at_t_1_is_a_difference_of_means_and_the_librarys_value_a_convention():
    x, prior = randn((200, 1), seeded(0), torch.float64), bind(LINE.denoiser(LINEAR))
    for y in range(3):
        guided = classifier(prior, lambda x, t, y=y: LINE.log_prob_label(x, t, LINEAR, y), LINEAR)
        shift = lambda t, guided=guided: guided(x, level(t)) - prior(x, level(t))
        limit = LINE.means[y] - LINE.weights @ LINE.means
        assert (shift(1 - 1e-5) - limit).abs().max() < 1e-3
        assert (shift(0.9) - limit).abs().max() > 0.05  # control: not so before the end
        assert not shift(1.0).any()


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


# --- the exercises ----------------------------------------------------------------------------------------------------

GUIDED = importlib.import_module("minidiff.course.checks.01_bayes_rule.guided_sampler")


def walkers(y: Tensor, w: float, kicks: int, seed: int = 0, steps: int = 25) -> Tensor:
    g = seeded(seed)
    noise, grid = randn((len(y), 2), g, torch.float64), times.linear(steps, start=0.99)
    return GUIDED.guided_sampler(*GUIDED._fields(PLANE, LINEAR), LINEAR, grid, noise, y, w, kicks, g)


def test_the_guided_sampler_reaches_the_class_asked_for_and_does_not_without_guidance():
    y, shares, far = torch.arange(300) % 3, [], []
    for w in (1.0, 0.0):
        x = walkers(y, w, kicks=1)
        shares.append(float((PLANE.posterior_label(x, CLEAN, LINEAR).argmax(1) == y).double().mean()))
        far.append(w1(x[y == 0], PLANE.of_class(0).sample(100, seeded(1))[0]))
    assert shares[1] < 0.45 < 0.94 < shares[0]
    assert far[0] < 0.45 < 0.7 < far[1]
    assert torch.equal(walkers(y[:5], 1.0, 2), walkers(y[:5], 1.0, 2)), "all randomness is from the generator"
    assert not torch.equal(walkers(y[:5], 1.0, 2), walkers(y[:5], 1.0, 2, seed=1))


def test_strong_guidance_leaves_the_region_of_its_class_and_neither_the_exponent_nor_the_steps_are_to_blame():
    log_class = lambda x: PLANE.log_prob(x, CLEAN, LINEAR, 0)
    edge = log_class(PLANE.of_class(0).sample(20_000, seeded(10))[0]).quantile(0.05)
    inside = lambda x: float((log_class(x) >= edge).double().mean())
    y = torch.zeros(200, dtype=torch.int64)
    strong = walkers(y, 8.0, kicks=0)
    assert 0.55 < inside(strong) < 0.8  # 69 % ± 2 % of 500
    assert bool((PLANE.posterior_label(strong, CLEAN, LINEAR).argmax(1) == 0).all())
    assert inside(walkers(y, 1.0, kicks=0)) > 0.9  # control: Bayes' rule
    assert inside(walkers(y, 8.0, kicks=0, steps=60)) < 0.75
    assert inside(walkers(y, 8.0, kicks=1)) > 0.82
    pool = PLANE.sample(50_000, seeded(11))[0]
    weight = (8 * PLANE.log_prob_label(pool, CLEAN, LINEAR, 0)).softmax(0)
    assert inside(pool[torch.multinomial(weight, 500, replacement=True, generator=seeded(0))]) > 0.94


def langevin(rule):
    def langevin(score, x, step, noise):
        for z in noise:
            x = rule(score, x, step, z)
        return x

    return langevin


def stops_at_a_summit(score, x, step, noise):
    for z in noise:
        if not score(x).any():
            break
        x = x + step * score(x) + (2 * step) ** 0.5 * z
    return x


def votes(x_t, x0, labels, alpha, sigma, classes=None):
    share = (-(x_t[:, None] - alpha * x0).square().sum(-1) / (2 * sigma**2)).softmax(1)
    return share @ torch.nn.functional.one_hot(labels, classes or int(labels.max()) + 1).to(share)


def without_doubles(x_t, x0, labels, alpha, sigma):
    rows = torch.tensor(sorted({tuple(point): i for i, point in enumerate(x0.tolist())}.values()))
    return votes(x_t, x0[rows], labels[rows], alpha, sigma, int(labels.max()) + 1)


def gap_and_size(log_prior, log_likelihood, log_posterior, x):
    posterior = slope(log_posterior, x)
    return (slope(log_prior, x) + slope(log_likelihood, x) - posterior).norm(), posterior.norm()


def relative(*functions_and_x):
    gap, size = gap_and_size(*functions_and_x)
    return float(gap / size)


def padded(*functions_and_x):
    gap, size = gap_and_size(*functions_and_x)
    return float(gap / (size + 1e-6))


def walk_with_kicks_of_its_own(score, logits, schedule, times, noise, y, w, kicks, generator):
    return GUIDED.guided_sampler(score, logits, schedule, times, noise, y, w, kicks, torch.Generator().manual_seed(99))


def walk_with_scalar_times(score, logits, schedule, times, noise, y, w, kicks, generator):
    one = lambda field: lambda x, t: field(x, t[0])
    return GUIDED.guided_sampler(one(score), one(logits), schedule, times, noise, y, w, kicks, generator)


def walk_on_the_linear_schedule(score, logits, schedule, times, noise, y, w, kicks, generator):
    return GUIDED.guided_sampler(score, logits, LINEAR, times, noise, y, w, kicks, generator)


def walk_to_one_class(score, logits, schedule, times, noise, y, w, kicks, generator):
    return GUIDED.guided_sampler(score, logits, schedule, times, noise, y[:1].expand(len(y)), w, kicks, generator)


def walk_with_positive_strength(score, logits, schedule, times, noise, y, w, kicks, generator):
    return GUIDED.guided_sampler(score, logits, schedule, times, noise, y, max(w, 0.0), kicks, generator)


# Answers that people may well give; all but the last group passed before the inputs were widened.
PLAUSIBLE = {
    "w from −1 on": ("01-posterior-score", lambda p, q, w: p + max(w, -1) * q),
    "w up to 3": ("01-posterior-score", lambda p, q, w: p + min(w, 3) * q),
    "w in tenths": ("01-posterior-score", lambda p, q, w: p + round(w, 1) * q),
    "clipped scores": ("01-posterior-score", lambda p, q, w: p.clamp(-10, 10) + w * q.clamp(-10, 10)),
    "clipped places": (
        "01-langevin",
        langevin(lambda f, x, h, z: (x + h * f(x) + (2 * h) ** 0.5 * z).clamp(-5, 5)),
    ),
    "clipped arrows": ("01-langevin", langevin(lambda f, x, h, z: x + h * f(x).clamp(-100, 100) + (2 * h) ** 0.5 * z)),
    "small steps only": (
        "01-langevin",
        langevin(lambda f, x, h, z: x + min(h, 0.1) * f(x) + (2 * min(h, 0.1)) ** 0.5 * z),
    ),
    "stops at a summit": ("01-langevin", stops_at_a_summit),
    "three classes": ("01-noisy-classifier", lambda *inputs: votes(*inputs, 3)),
    "α = 1 − σ": ("01-noisy-classifier", lambda x_t, x0, y, alpha, sigma: votes(x_t, x0, y, 1 - sigma, sigma)),
    "σ = 1 − α": ("01-noisy-classifier", lambda x_t, x0, y, alpha, sigma: votes(x_t, x0, y, alpha, 1 - alpha)),
    "padded σ": (
        "01-noisy-classifier",
        lambda x_t, x0, y, alpha, sigma: votes(x_t, x0, y, alpha, (sigma**2 + 1e-6) ** 0.5),
    ),
    "x_t/α": ("01-noisy-classifier", lambda x_t, x0, y, alpha, sigma: votes(x_t / alpha, x0, y, 1, sigma / alpha)),
    "doubles dropped": ("01-noisy-classifier", without_doubles),
    "at most 3": ("01-bayes-gap", lambda *inputs: min(3.0, relative(*inputs))),
    "rounded": ("01-bayes-gap", lambda *inputs: round(relative(*inputs), 6)),
    "small is zero": ("01-bayes-gap", lambda *inputs: relative(*inputs) if relative(*inputs) > 1e-3 else 0.0),
    "padded": ("01-bayes-gap", padded),
    "kicks of its own": ("01-guided-sampler", walk_with_kicks_of_its_own),
    "t without its batch": ("01-guided-sampler", walk_with_scalar_times),
    "Linear, whatever was asked": ("01-guided-sampler", walk_on_the_linear_schedule),
    "one class for all": ("01-guided-sampler", walk_to_one_class),
    "no negative w": ("01-guided-sampler", walk_with_positive_strength),
}


@pytest.mark.parametrize(("exercise", "answer"), PLAUSIBLE.values(), ids=PLAUSIBLE)
def test_plausible_wrong_answers_are_refused(exercise, answer):
    result = check(exercise, answer)
    assert not result.passed
    assert result.score == 0.0


def test_the_same_answers_pass_with_the_slip_taken_out():
    step = langevin(lambda f, x, h, z: x + h * f(x) + (2 * h) ** 0.5 * z)
    right = {"01-langevin": step, "01-noisy-classifier": votes, "01-bayes-gap": relative}
    assert {id: check(id, answer).kind for id, answer in right.items()} == dict.fromkeys(right, "passed")


def test_the_lecture_is_short_and_folds_away_what_the_notebook_asks_to_predict(root):
    text = (root / "lectures" / "01_bayes_rule.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 3000
    folded = "".join(re.findall(r"<details>.*?</details>", text, re.DOTALL))
    for spoiler in ("3 % are on the left-hand hill", "$W_1=2.0$", "off by 0.43", "01_clean.png", "01_exponent.png"):
        assert spoiler in folded
        assert text.count(spoiler) == 1
