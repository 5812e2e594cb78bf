"""The claims of chapter 05, each with a control that must fail. Thresholds come from seeds 0 to 2 or more."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import find, load_chapter, load_experiments
from minidiff.data.mixtures import gaussian, isotropic, lookalikes, ring
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, cfg, extrapolate, within
from minidiff.judges.coverage import diversity, recall
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear
from minidiff.training import diffuse, fit
from minidiff.weights import record

LINEAR, WORLD = Linear(), lookalikes()
EXACT = WORLD.denoiser(LINEAR)
STRENGTHS = (-1.0, 0.0, 1.0, 3.0, 7.0, 15.0)
Y = torch.arange(2).repeat_interleave(500)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.stress) for seed in (1, 2))]  # a claim is tested by each alone


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


CLEAN = level(0.0)


def generate(denoise: Callable, seed: int = 0, n: int = 1000, dim: int = 2, steps: int = 25) -> Tensor:
    *_, x = sample(denoise, randn((n, dim), seeded(seed), torch.float64), times.linear(steps), heun(LINEAR))
    return x


def accuracy(x: Tensor, y: Tensor = Y) -> float:
    return float((WORLD.posterior_label(x, CLEAN, LINEAR).argmax(1) == y).double().mean())


def outside(x: Tensor) -> float:
    """Share of points whose class density is below that of 99 % of the class's data; 0.01 for exact samples."""
    shares = []
    for c in (0, 1):
        rare = WORLD.log_prob(WORLD.of_class(c).sample(20_000, seeded(7))[0], CLEAN, LINEAR, c).quantile(0.01)
        shares.append(float((WORLD.log_prob(x[c == Y], CLEAN, LINEAR, c) < rare).double().mean()))
    return sum(shares) / 2


def in_lookalikes(x: Tensor) -> float:
    return float((x[:, 1].abs() > 0.75).double().mean())


def test_lookalikes_have_one_typical_component_per_class_and_two_that_could_be_either():
    own = WORLD.posterior_label(WORLD.means, CLEAN, LINEAR)[torch.arange(6), WORLD.labels]
    assert WORLD.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(WORLD.means[3:], WORLD.means[:3] * torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert float(own[[0, 3]].min()) > 0.999
    assert float(own[[1, 2, 4, 5]].max()) < 0.7


# 1. the implicit classifier


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), DDPM(), Karras()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("t", [0.02, 0.2, 0.5, 0.9])
def test_conditional_minus_unconditional_score_is_the_gradient_of_the_classifier(schedule, t):
    t = level(t)
    x0, y = WORLD.sample(200, seeded(1))
    x = schedule.add_noise(x0, randn(x0.shape, seeded(2), torch.float64), t).requires_grad_()
    gradient = torch.autograd.grad(WORLD.log_prob_label(x, t, schedule, y).sum(), x)[0]
    x = x.detach()
    implied = WORLD.score(x, t, schedule, y) - WORLD.score(x, t, schedule)
    assert float((implied - gradient).norm() / gradient.norm()) < 1e-9
    # the control: the classifier of another noise level
    other = level(float(t) + 0.05)
    wrong = WORLD.score(x, other, schedule, y) - WORLD.score(x, other, schedule)
    assert float((wrong - gradient).norm() / gradient.norm()) > 1e-3


# 2. coordinates


@pytest.mark.parametrize("w", [-1.0, 0.5, 7.0])
def test_guiding_any_affine_coordinate_is_guiding_all_and_clipping_is_not(w):
    t, x = level(0.4), randn((300, 2), seeded(3), torch.float64)
    c, n = EXACT(x, t, y=0), EXACT(x, t)
    (alpha, sigma), (d_alpha, d_sigma) = LINEAR(t), LINEAR.rates(t)
    eps = lambda x0: (x - alpha * x0) / sigma
    maps = [
        eps,
        lambda x0: (alpha * x0 - x) / sigma**2,
        lambda x0: alpha * eps(x0) - sigma * x0,
        lambda x0: d_alpha * x0 + d_sigma * eps(x0),
    ]
    guided = extrapolate(bind(EXACT, y=0), bind(EXACT), w)(x, t)
    for f in maps:
        assert float((f(guided) - ((1 + w) * f(c) - w * f(n))).abs().max()) < 1e-12
    clipped = lambda x0: x0.clamp(-1, 1)
    if w > 0:
        assert float((clipped(guided) - ((1 + w) * clipped(c) - w * clipped(n))).abs().max()) > 0.1


# 3. condition dropout, and autoguidance, on one small training


@pytest.fixture(scope="module", params=SEEDS)
def trained(request) -> tuple[Denoiser, Denoiser, Denoiser]:
    """(with 15 % dropped, the same after 150 of its 900 steps, never dropped, for 450 steps)"""

    def train(drop: float, steps: int) -> tuple[Denoiser, Denoiser]:
        network = initialised(
            lambda: Denoiser(Conditioned(Labels(2, 64), MLP(2, width=64)), LINEAR, VELOCITY), seed=request.param
        )
        draw, early = diffuse(WORLD.draw(256), drop=drop, null={"y": torch.tensor(2)}), network
        for progress in fit(network, draw, steps=steps, lr=3e-3, ema_decay=0.99, seed=request.param, bar=False):
            if progress.step == 150:
                early = deepcopy(progress.ema)
        return progress.ema, early

    model, early = train(0.15, 900)
    return model, early, train(0.0, 450)[0]


@torch.no_grad()
def error(network: Denoiser, with_label: bool) -> float:
    """Relative L2 error of ε against the exact branch."""
    g = seeded(5)
    x0, y = WORLD.sample(3000, g)
    t = 0.02 + 0.96 * torch.rand(3000, generator=g, dtype=torch.float64)
    x_t = LINEAR.add_noise(x0, randn(x0.shape, g, torch.float64), t)
    learned = network(x_t.float(), t.float(), y=y if with_label else torch.full_like(y, 2)).double()
    alpha, sigma = LINEAR(t[:, None])
    eps, exact = ((x_t - alpha * x) / sigma for x in (learned, EXACT(x_t, t, y=y if with_label else None)))
    return float((eps - exact).norm() / exact.norm())


@pytest.mark.slow
def test_dropping_trains_the_null_branch_and_without_it_the_branch_is_useless(trained):
    model, _, control = trained
    assert error(model, True) < 0.11
    assert error(model, False) < 0.15
    assert error(control, True) < 0.13
    assert error(control, False) > 0.25


@pytest.mark.slow
def test_autoguidance_removes_outliers_and_keeps_diversity_which_guidance_does_not(trained):
    model, early, _ = trained
    good = bind(model, y=Y)
    plain, auto, guided = (
        generate(lambda x, t, d=d: d(x.float(), t).double())
        for d in (good, extrapolate(good, bind(early, y=Y), 1.0), cfg(model, {"y": Y}, {"y": torch.tensor(2)}, 1.0))
    )
    assert outside(auto) < 0.7 * outside(plain)
    assert abs(diversity(auto, Y) / diversity(plain, Y) - 1) < 0.05
    assert diversity(guided, Y) < 0.95 * diversity(plain, Y)


# 4. the effect of w


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_rises_with_w_and_diversity_and_recall_fall(seed):
    null = bind(EXACT)
    sweep = [generate(extrapolate(bind(EXACT, y=Y), null, w), seed) for w in STRENGTHS]
    real = [WORLD.of_class(c).sample(500, seeded(100 + seed + c))[0] for c in (0, 1)]
    rank = lambda values: float(spearmanr(STRENGTHS, values).statistic)
    assert rank([accuracy(x) for x in sweep]) >= 0.9
    assert rank([diversity(x, Y) for x in sweep]) <= -0.9
    assert rank([sum(recall(real[c], x[c == Y]) for c in (0, 1)) for x in sweep]) <= -0.9
    assert outside(sweep[-1]) > 0.3  # the price at w = 15
    assert torch.allclose(sweep[0], generate(null, seed), atol=1e-9)  # w = −1 is the null branch
    # the control: with shuffled labels the accuracy is chance
    shuffled = Y[torch.randperm(1000, generator=seeded(seed))]
    assert abs(accuracy(generate(extrapolate(bind(EXACT, y=shuffled), null, 3.0), seed)) - 0.5) < 0.06


@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_ring_without_lookalikes_diversity_rises(seed):
    world = ring(n=6, std=0.3, n_classes=3)
    exact, zeros = world.denoiser(LINEAR), torch.zeros(1000, dtype=torch.int64)
    values = [
        diversity(generate(extrapolate(bind(exact, y=0), bind(exact), w), seed), zeros) for w in (0.0, 1.0, 3.0, 7.0)
    ]
    assert values == sorted(values)
    assert values[-1] > 1.3 * values[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_interval_at_small_t_keeps_the_lookalikes_at_the_same_accuracy(seed):
    plain, null = bind(EXACT, y=Y), bind(EXACT)
    everywhere = generate(extrapolate(plain, null, 1.0), seed)
    late = generate(within(extrapolate(plain, null, 3.0), plain, 0.0, 0.3), seed)
    early = generate(within(extrapolate(plain, null, 3.0), plain, 0.3, 1.0), seed)
    assert abs(accuracy(late) - accuracy(everywhere)) < 0.02
    assert in_lookalikes(late) > in_lookalikes(everywhere) + 0.1
    assert in_lookalikes(early) < in_lookalikes(late) - 0.2  # the control: the other part of the way


@pytest.mark.parametrize("seed", SEEDS)
def test_a_negative_prompt_removes_its_class_and_leaves_the_others_alike(seed):
    world = ring(n=6, std=0.3, n_classes=3)
    exact = world.denoiser(LINEAR)

    def shares(w: float) -> Tensor:
        x = generate(extrapolate(bind(exact), bind(exact, y=2), w), seed)
        return world.posterior_label(x, CLEAN, LINEAR).argmax(1).bincount(minlength=3) / len(x)

    assert abs(float(shares(0.0)[2]) - 1 / 3) < 0.06
    assert float(shares(3.0)[2]) < 0.02
    assert float(shares(3.0)[:2].min()) > 0.42


# 5. what guidance does not sample


def guided_gaussian(path: Karras, w: float, c: float = 1.0, d: float = 2.0) -> Callable:
    """Guidance between N(0, c) and N(0, d), whose denoisers are E[x0|x_t] = v·x_t/(v + σ²)."""
    good, bad = ((lambda x, t, v=v: v / (v + path(t)[1] ** 2) * x) for v in (c, d))
    return extrapolate(good, bad, w)


def ode_scale(path: Karras, w: float, steps: int, c: float = 1.0, d: float = 2.0) -> float:
    """The ODE is linear, so one point tells by how much all variances are multiplied."""
    one = torch.ones(1, 1, dtype=torch.float64)
    *_, x = sample(guided_gaussian(path, w, c, d), one, times.linear(steps), heun(path))
    return float(x) ** 2


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0, 4.0])
def test_the_ode_samples_variance_two_to_the_one_minus_gamma(gamma):
    path = Karras(sigma_min=0.01, sigma_max=80.0)
    found = 80.0**2 * ode_scale(path, gamma - 1, 400)
    assert found == pytest.approx(2 ** (1 - gamma), rel=0.005)
    if gamma > 1:
        assert abs(found / (2 / (gamma + 1)) - 1) > 0.2  # not the tilted density


@pytest.mark.parametrize("gamma", [1.0, 3.0, 8.0])
def test_the_correction_for_a_finite_largest_noise_level(gamma):
    path = Karras(sigma_min=0.002, sigma_max=3.0)
    found = 9.0 * ode_scale(path, gamma - 1, 400)
    corrected = 2 ** (1 - gamma) * 9 / 10 * (11 / 10) ** (gamma - 1)
    assert found == pytest.approx(corrected, rel=0.005)
    assert abs(found / 2 ** (1 - gamma) - 1) > 0.05  # the control: without the correction


@pytest.mark.parametrize(("c", "d", "w"), [(0.5, 1.5, 2.0), (0.5, 1.5, -1.0), (2.0, 0.7, 1.0)])
def test_the_ode_extrapolates_the_logarithm_of_the_variance(c, d, w):
    path = Karras(sigma_min=0.01, sigma_max=80.0)
    found = 80.0**2 * ode_scale(path, w, 400, c, d)
    assert found == pytest.approx(c ** (1 + w) * d**-w, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    "gamma", [3.0, pytest.param(2.0, marks=pytest.mark.stress), pytest.param(4.0, marks=pytest.mark.stress)]
)
def test_the_sde_samples_a_third_variance(gamma):
    """Ancestral sampling with the posterior's variance approaches it from below, with β from above."""
    path = Karras(sigma_min=0.01, sigma_max=20.0)
    theory, tilted = (2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), 2 / (gamma + 1)
    guided = guided_gaussian(path, gamma - 1)

    def variance(step) -> float:
        found = []
        for seed in range(3):
            g = seeded(seed)
            start = 20.0 * randn((20_000, 1), g, torch.float64)
            *_, x = sample(guided, start, times.linear(800), step, g)
            found.append(float(x.var()))
        return sum(found) / 3

    below, above = variance(ddim(path, eta=1.0)), variance(ddpm(path, "large"))
    assert below == pytest.approx(theory, rel=0.03)
    assert above == pytest.approx(theory, rel=0.03)
    assert below < above
    assert abs(above / tilted - 1) > 0.1
    assert abs(above / 2 ** (1 - gamma) - 1) > 0.1  # and not the ODE's


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_between_gaussians_of_equal_width_the_mean_is_overshot_by_w(w):
    path = Karras(sigma_min=0.01, sigma_max=80.0)
    shape = torch.eye(1, dtype=torch.float64)
    good, bad = (bind(gaussian(torch.full((1,), m, dtype=torch.float64), shape).denoiser(path)) for m in (1.5, 0.0))
    zero = torch.zeros(1, 1, dtype=torch.float64)  # the mean of the noise goes to the mean of the samples
    *_, x = sample(extrapolate(good, bad, w), zero, times.linear(100), heun(path))
    assert float(x) == pytest.approx((1 + w) * 1.5, rel=0.02)


def test_in_a_mixture_guidance_overshoots_the_mode_and_the_tilted_density():
    pair = isotropic(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.5)
    exact = pair.denoiser(LINEAR)
    line = torch.linspace(-2, 5, 2001, dtype=torch.float64)[:, None]
    log_p, log_y = pair.log_prob(line, CLEAN, LINEAR, 1), pair.log_prob_label(line, CLEAN, LINEAR, 1)
    means = {
        w: float(generate(extrapolate(bind(exact, y=1), bind(exact), w), n=4000, dim=1).mean()) for w in (0, 3, 15)
    }
    tilted = {w: float((log_p + w * log_y).softmax(0) @ line[:, 0]) for w in means}
    assert abs(means[0] - 1) < 0.03  # the control: no guidance, no overshoot
    assert means[3] > tilted[3] + 0.03
    assert means[15] > tilted[15] + 0.2


# 6. the recorded run on real pictures


def test_the_recorded_run_belongs_to_the_shipped_weights_and_shows_what_the_lecture_says(root):
    run = json.loads((root / "benchmarks" / "results" / "fashion_cfg.json").read_text(encoding="utf-8"))
    assert run["weights"] == {name: record(name)["sha256"] for name in ("fashion-denoiser", "fashion-judge")}
    ranks = run["rank_correlation_with_w"]["w >= 0"]
    whole = {(r["seed"], r["w"]): r for r in run["rows"] if (r["low"], r["high"]) == (0.0, 1.0)}
    for seed in range(3):  # the title of the figure: from w = 0 on, every step; up to there recall rises
        for name in ("diversity", "recall"):
            falling = [whole[seed, w][name] for w in STRENGTHS[1:]]
            assert all(before > after for before, after in pairwise(falling))
        assert whole[seed, -1.0]["recall"] < whole[seed, 0.0]["recall"]
    assert all(len(values) >= 3 for values in ranks.values())
    assert all(max(ranks[name]) <= -0.9 for name in ("diversity", "recall"))
    assert all(min(ranks[name]) >= 0.9 for name in ("saturation", "out_of_range"))
    # From w = 3 on nearly every picture is judged right, and 1 of 500 shuffles the ranks. The rise to there counts.
    for seed in range(3):
        accuracy = {r["w"]: r["accuracy"] for r in run["rows"] if r["seed"] == seed and r["low"] == 0.0}
        assert accuracy[-1.0] < 0.15 < 0.85 < accuracy[0.0] < accuracy[1.0] < accuracy[3.0]
        assert min(accuracy[w] for w in (3.0, 7.0, 15.0)) >= 0.995


# 7. the exercises: wrong answers that a glance, or fewer inputs, would let through


def _rows_of_four(cond, null, w):
    return cond + (w[:, None, None, None] if cond.ndim == 4 else w[:, None] if cond.ndim == 2 else w) * (cond - null)


def _no_less_than_minus_one(cond, null, w):
    return cond + w.clamp(min=-1).reshape(-1, *[1] * (cond.ndim - 1)) * (cond - null)


def _null_if_nobody_is_guided(cond, null, w):
    w = w.reshape(-1, *[1] * (cond.ndim - 1))
    return null.clone() if not w.any() else cond + w * (cond - null)


def _dropper(coins: Callable, null_of: Callable = lambda null, y: null) -> Callable:
    return lambda null, p: lambda y, generator: torch.where(coins(y, p, generator), null_of(null, y), y)


def _near_the_exact_number(y, p, generator):
    number = int(p * len(y)) + int(torch.rand((), generator=generator) < p * len(y) % 1)
    return torch.randperm(len(y), generator=generator) < number


def _own_seed(y, p, generator):
    return torch.rand(len(y), generator=seeded(0)) < p


def _fair(y, p, generator):
    return torch.rand(len(y), generator=generator) < p


def _sorted_variances(c, d, w):
    c, d = min(c, d), max(c, d)
    return c ** (1 + w) * d**-w, 1 / ((1 + w) / c - w / d)


def _whole_powers(c, d, w):
    ode = c
    for _ in range(abs(round(w))):
        ode *= c / d if w > 0 else d / c
    return ode, 1 / ((1 + w) / c - w / d)


def _zeros_removed(real, fake, k):
    among = torch.cdist(fake, fake)
    radius = among.masked_fill(among == 0, torch.inf).sort(1).values[:, k - 1]
    return float((torch.cdist(real, fake) <= radius).any(1).double().mean())


def _open_balls(real, fake, k):
    radius = torch.cdist(fake, fake).sort(1).values[:, k]
    return float((torch.cdist(real, fake) < radius).any(1).double().mean())


def _built(old: str, new: str) -> Callable:
    """The master's solution of the build with one thing changed."""
    from pathlib import Path

    master = Path(__file__).parents[2] / "solutions" / "05_classifier_free_guidance.py"
    source = master.read_text(encoding="utf-8").split('answer="05-train-and-guide"\n')[1].split("# %% [markdown]")[0]
    assert source.count(old) == 1, old
    scope: dict = {"torch": torch, "Tensor": Tensor, "Generator": torch.Generator}
    exec(source.replace(old, new), scope)
    return scope["train_and_guide"]


WRONG = {
    "05-combine-branches": (_rows_of_four, _no_less_than_minus_one, _null_if_nobody_is_guided),
    "05-drop-labels": (
        _dropper(lambda y, p, generator: torch.randperm(len(y), generator=generator) < round(p * len(y))),
        _dropper(lambda y, p, generator: torch.rand(len(y)) < p),
        _dropper(_near_the_exact_number),
        _dropper(_own_seed),
        _dropper(_fair, lambda null, y: int(y.max()) + 1),  # "no label" is not always the next number
    ),
    "05-cfg-variance": (_sorted_variances, _whole_powers),
    "05-neighbour-recall": (_open_balls, _zeros_removed),
}
BUILT = {
    "open ends": ("if low <= float(t) <= high:", "if low < float(t) < high:"),
    "the end of the step decides": ("if low <= float(t) <= high:", "if low <= float(s) <= high:"),
    "the null branch outside": ("x, clock, y)", "x, clock, y if low <= float(t) <= high else nothing)"),
    "the network asked at the end of the step": ("clock = t.to(x)", "clock = s.to(x)"),
    "noise for data": ("(eps - x0)).square()", "(x0 - eps)).square()"),
    "the first weights are trained": ("w.clone().requires_grad_()", "w.requires_grad_()"),
    "gradients add up": ("        optimizer.zero_grad()\n", ""),
    "a time of shape (B, 1)": ("t_ * eps, t, seen)", "t_ * eps, t_, seen)"),
    "null is the last row": ("p, null, y)", "p, len(weights[0]) - 1, y)"),
    "the noise is walked on": ("x, nothing = noise,", "x, nothing = noise.mul_(1.0).add_(0.1),"),
    "coins from elsewhere": ("torch.rand(len(x0), generator=generator) < p", "torch.rand(len(x0)) < p"),
}  # fmt: skip


@pytest.mark.parametrize(("id", "wrong"), [(id, wrong) for id, found in WRONG.items() for wrong in found])
def test_plausible_wrong_answers_are_refused(id, wrong):
    assert judge(find(id), try_out(find(id), wrong)).kind != "passed"


def test_the_right_answers_beside_them_pass():
    right = find("05-drop-labels")
    assert judge(right, try_out(right, _dropper(_fair))).kind == "passed"
    build = find("05-train-and-guide")
    assert judge(build, try_out(build, _built("optimizer.step()", "optimizer.step()"), [0])).kind == "passed"


@pytest.mark.parametrize(("old", "new"), BUILT.values(), ids=BUILT)
def test_a_build_with_one_thing_wrong_is_refused(old, new):
    build = find("05-train-and-guide")
    assert judge(build, try_out(build, _built(old, new), [0])).kind != "passed"


def test_the_chapter_has_one_build_and_one_open_experiment():
    exercises = load_chapter("05_classifier_free_guidance")
    assert sorted(exercise.difficulty for exercise in exercises) == [1, 2, 3, 4, 5]
    assert [task.id for task in load_experiments("05_classifier_free_guidance")] == ["05-which-interval"]


# 8. the texts


def test_the_lecture_is_short_and_gives_both_strengths_where_it_names_a_system(root):
    text = (root / "lectures" / "05_classifier_free_guidance.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 3000
    assert "$w=6.5$ (scale 7.5)" in text
    assert not re.search(r"guidance_scale` \d", text), "a scale without its w"
    shown = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    for told in ("0.973", "0.51", "0.892", "0.388", "2.72", "0.016"):  # what the notebook asks to predict
        assert told not in shown
    assert text.count("<details>") == text.count("</details>") >= 8
