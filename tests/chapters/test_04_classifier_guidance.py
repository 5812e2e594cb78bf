"""The claims of chapter 04, each with a control that must fail. Thresholds: three seeds, with a margin."""

import json
import re
from itertools import pairwise

import jupytext
import pytest
import torch
import torch.nn.functional as F

from minidiff import times
from minidiff.course import check
from minidiff.data.mixtures import decoys, three_modes
from minidiff.guidance import bind, classifier
from minidiff.guides.classifier import PointClassifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, sample
from minidiff.schedules import DDPM, Karras, Linear
from minidiff.systems import fashion
from minidiff.training import diffuse, fit
from minidiff.weights import record

LINE, DISCRETE, PLANE, STRAIGHT, N = three_modes(), DDPM(), decoys(), Linear(), 600
PRIOR = bind(LINE.denoiser(DISCRETE))


def run(algorithm: int, w: float, y: int, seed: int = 0, steps: int = 200):
    generator = seeded(seed)
    noise = randn((N, 1), generator, torch.float64)
    if algorithm == 1:
        denoise, step = PRIOR, ddpm(DISCRETE, shift=lambda x, t: w * arrow(x, t, y))
    else:
        denoise = classifier(PRIOR, lambda x, t: LINE.log_prob_label(x, t, DISCRETE, y), DISCRETE, w)
        step = ddim(DISCRETE)
    *_, x = sample(denoise, noise, times.linear(steps), step, generator)
    return x


def arrow(x, t, y):
    return LINE.score(x, t, DISCRETE, y) - LINE.score(x, t, DISCRETE)


@pytest.mark.parametrize("algorithm", [1, 2])
def test_at_strength_1_both_algorithms_sample_the_conditional(algorithm):
    target = LINE.of_class(1)
    lowest, _ = floor(lambda n, g: target.sample(n, g)[0], N)
    for seed in range(2):
        exact = target.sample(N, seeded(100 + seed))[0]
        assert w1(run(algorithm, 1.0, 1, seed), exact) < lowest + 0.03
    assert w1(run(algorithm, 0.0, 1, steps=40), exact) > 0.5  # the mechanism removed
    assert w1(run(algorithm, 1.0, 0, steps=40), exact) > 0.5  # another wish


def test_at_strength_3_samples_are_narrower_than_the_power_says():
    grid = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
    zero = torch.tensor(0.0, dtype=torch.float64)
    log_power = LINE.log_prob(grid, zero, DISCRETE) + 3 * LINE.log_prob_label(grid, zero, DISCRETE, 1)
    p = log_power.softmax(0)
    power = float(p @ (grid - p @ grid) ** 2)
    assert power == pytest.approx(0.0196, abs=1e-4)
    assert float(run(1, 3.0, 1).var()) < 0.8 * power
    assert float(run(2, 3.0, 1).var()) < 0.01 * power
    assert float(run(2, 1.0, 1).var()) > 0.8 * 0.0225  # the control: no collapse at w = 1


def clean_clock(batch, generator=None):
    return torch.zeros(batch)


def shuffled(draw):
    def mixed(generator):
        batch = draw(generator)
        return {**batch, "y": batch["y"][torch.randperm(len(batch["y"]), generator=generator)]}

    return mixed


@pytest.fixture(scope="module")
def guides():
    def trained(clock, steps, draw):
        model = initialised(lambda: PointClassifier(STRAIGHT, dim=2, n_classes=3), seed=0)
        *_, last = fit(model, diffuse(draw, clock), steps, lr=3e-3, bar=False)
        return last.ema

    draw = PLANE.draw(256)
    return {
        "noise-aware": trained(times.uniform, 900, draw),
        "clean": trained(clean_clock, 300, draw),
        "shuffled": trained(times.uniform, 150, shuffled(draw)),
    }


def cosine(model, t: float) -> float:
    """Agreement with the exact gradient, each point weighed by its exact length."""
    x0, y = PLANE.sample(1000, seeded(7))
    at = torch.tensor(t, dtype=torch.float64)
    x = STRAIGHT.add_noise(x0, randn(x0.shape, seeded(8), torch.float64), at).requires_grad_()
    got = torch.autograd.grad(model.log_prob(x, at, y).sum(), x)[0]
    exact = PLANE.score(x.detach(), at, STRAIGHT, y) - PLANE.score(x.detach(), at, STRAIGHT)
    length = exact.norm(dim=1)
    return float((length * F.cosine_similarity(got, exact, dim=1, eps=1e-30)).sum() / length.sum())


def test_a_learned_gradient_agrees_with_the_exact_one_if_it_saw_noise(guides):
    levels = (0.02, 0.2, 0.4, 0.6, 0.8, 0.9, 0.98)
    means = {name: sum(cosine(f, t) for t in levels) / len(levels) for name, f in guides.items()}
    assert means["noise-aware"] > 0.95, means
    assert means["clean"] < 0.85, means
    assert means["shuffled"] < 0.5, means
    assert cosine(guides["clean"], 0.8) < cosine(guides["noise-aware"], 0.8) - 0.2


def test_only_the_noise_aware_classifier_guides(guides):
    target, distance = PLANE.of_class(0).sample(400, seeded(5))[0], {}
    for name, f in guides.items():
        guided = classifier(
            bind(PLANE.denoiser(STRAIGHT)), lambda x, t, f=f: f.log_prob(x, t, torch.tensor(0)), STRAIGHT
        )
        *_, x = sample(guided, randn((400, 2), seeded(3), torch.float64), times.linear(50), ddim(STRAIGHT))
        distance[name] = w1(x, target)
    assert distance["noise-aware"] < 0.2, distance
    assert distance["clean"] > 1.0, distance
    assert distance["shuffled"] > 0.5, distance


def test_on_clothes_the_independent_judge_agrees_with_the_noise_aware_guide_only():
    model, judge = fashion.DENOISER.load(), fashion.JUDGE.load()
    y = torch.arange(10).repeat(2)
    noise = randn((20, 1, 28, 28), seeded(range(20)))

    def judged(guide, w):
        plain = bind(model, y=fashion.NULL["y"])
        guided = classifier(plain, lambda x, t: guide.log_prob(x, t, y), model.schedule, w)
        *_, x = sample(guided, noise, times.linear(20), dpmpp_2m(model.schedule))
        return judge.predict(x)

    named = judged(fashion.NOISY_CLASSIFIER.load(), 8.0)
    assert (named == y).double().mean() > 0.8
    assert (named == y.roll(1)).double().mean() < 0.2  # shuffled wishes
    assert (judged(fashion.CLEAN_CLASSIFIER.load(), 8.0) == y).double().mean() < 0.5


def test_the_recorded_curve_belongs_to_the_shipped_weights(root):
    recorded = json.loads((root / "benchmarks/results/fashion_classifier_guidance.json").read_text(encoding="utf-8"))
    assert all(record(name)["sha256"] == value for name, value in recorded["weights"].items())
    for seed in {row["seed"] for row in recorded["rows"]}:
        rows = [r for r in recorded["rows"] if r["seed"] == seed and r["guide"] == "noisy" and not r["labelled"]]
        rows.sort(key=lambda r: r["w"])
        accuracies = [r["accuracy"] for r in rows]
        assert accuracies == sorted(accuracies)


# ---------------------------------------------------------------- exercises


def chosen(table, y):
    return table.gather(1, y[:, None])[:, 0]


def gradient_of(value, x):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(value(x).sum(), x)[0]


def walk(change="", end=lambda x, x0: x):
    """Algorithm 2 with a slip: what is changed, and what is returned."""

    def algorithm_2(eps_model, gradient, x, times, schedule, w):
        even = times[0] + (times[-1] - times[0]) * torch.linspace(0, 1, len(times), dtype=times.dtype)
        for t, s in pairwise(even if change == "even steps" else times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
            strength = max(w, 0.0) if change == "no negative w" else w
            eps = eps_model(x, t[None, None] if change == "t of shape (1, 1)" else t) - sigma * strength * gradient(
                x, t
            )
            x0 = (x - sigma * eps) / alpha
            x = alpha_s * x0 + sigma_s * eps
        return end(x, x0)

    return algorithm_2


def sampler(slip):
    """The sampler of exercise 04-guided-sampler with one slip ("" for none)."""

    def guided_sampler(model, classifier, schedule, times, y, w, shape, generator):
        other = torch.Generator().manual_seed(0) if slip == "a generator of its own" else generator
        draw = lambda: torch.randn(shape, generator=None if slip == "global randomness" else other, dtype=w.dtype)
        each = w if slip == "w along the last axis" else w.reshape(-1, *[1] * (len(shape) - 1))
        each = w[0] if slip == "one strength for all" else each
        x = schedule(times[0])[1] * draw()
        once = draw()
        for t, s in pairwise(times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
            eps, v = model(x, t)
            x0, fresh = (x - sigma * eps) / alpha, sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2
            mean = alpha / alpha_s * sigma_s**2 / sigma**2 * x + alpha_s * fresh / sigma**2 * x0
            at, when = (mean, s) if slip == "gradient at the mean" else (x, t)
            log_f = lambda z: chosen(classifier(z, when).log_softmax(1), y)  # noqa: B023
            gradient = (-1 if slip == "downhill" else 1) * gradient_of(log_f, at)
            if sigma_s == 0:
                return mean
            variance = (fresh * sigma_s**2 / sigma**2) ** (1 - v) * fresh**v
            variance = variance.mean() if slip == "one variance for all pixels" else variance
            noise = once if slip == "the same noise in every step" else draw()
            x = mean + each * variance * gradient + variance.sqrt() * noise
        return x

    return guided_sampler


REFUSED = {
    "04-classifier-gradient": {
        "softmax, then log": lambda c, x, t, y: gradient_of(lambda z: chosen(c(z, t).softmax(1), y).log(), x),
        "… and 1e-8": lambda c, x, t, y: gradient_of(lambda z: (chosen(c(z, t).softmax(1), y) + 1e-8).log(), x),
        "t of shape (B, 1)": lambda c, x, t, y: gradient_of(
            lambda z: chosen(c(z, t.expand(len(x), 1)).log_softmax(1), y), x
        ),
        "all columns of y": lambda c, x, t, y: gradient_of(lambda z: c(z, t).log_softmax(1)[:, y], x),
    },
    "04-noise-aware-loss": {
        "t of shape (B, 1, …)": lambda c, s, x0, y, t, e: F.cross_entropy(
            c(s.add_noise(x0, e, t), t.reshape(-1, *[1] * (x0.ndim - 1))), y, reduction="none"
        ),
        "softmax, then log": lambda c, s, x0, y, t, e: -chosen(c(s.add_noise(x0, e, t), t).softmax(1), y).log(),
        "… and 1e-8": lambda c, s, x0, y, t, e: -(chosen(c(s.add_noise(x0, e, t), t).softmax(1), y) + 1e-8).log(),
        "t kept from its ends": lambda c, s, x0, y, t, e: F.cross_entropy(
            c(s.add_noise(x0, e, t.clamp(1e-3, 1 - 1e-3)), t.clamp(1e-3, 1 - 1e-3)), y, reduction="none"
        ),
    },
    "04-guided-x0": {
        "unguided near t = 1": lambda x0, g, a, s, w: x0 if a < 0.05 else x0 + w * s**2 / a * g,
        "unguided where sigma is 1": lambda x0, g, a, s, w: x0 if s == 1 else x0 + w * s**2 / a * g,
        "unguided where sigma is large": lambda x0, g, a, s, w: x0 if s >= 1 else x0 + w * s**2 / a * g,
        "alpha clamped": lambda x0, g, a, s, w: x0 if a == 0 else x0 + w * s**2 / a.clamp(min=0.01) * g,
        "factor clamped": lambda x0, g, a, s, w: x0 if a == 0 else x0 + (w * s**2 / a).clamp(-100, 100) * g,
    },
    "04-algorithm-2": {
        "returns the last guess": walk(end=lambda x, x0: x0),
        "even steps": walk("even steps"),
        "no negative w": walk("no negative w"),
        "t of shape (1, 1)": walk("t of shape (1, 1)"),
    },
    "04-guided-sampler": {
        slip: sampler(slip)
        for slip in (
            "a generator of its own", "global randomness", "w along the last axis", "one strength for all", "downhill",
            "gradient at the mean", "one variance for all pixels", "the same noise in every step",
        )
    },
}  # fmt: skip
ANSWERS = [(id, name, answer) for id, answers in REFUSED.items() for name, answer in answers.items()]


@pytest.mark.parametrize(("id", "name", "answer"), ANSWERS, ids=[f"{id}: {name}" for id, name, _ in ANSWERS])
def test_plausible_wrong_answers_are_refused(id, name, answer):
    assert not check(id, answer).passed


def test_the_answers_without_their_slips_are_right():
    """The control of the test above: it is the slip that is refused, not the frame around it."""
    assert check("04-algorithm-2", walk()).passed


@pytest.mark.parametrize(("share", "variance"), [(0.0, "small"), (1.0, "large")])
@pytest.mark.parametrize("schedule", [STRAIGHT, Karras()], ids=["Linear", "Karras"])
def test_the_built_sampler_is_the_librarys_where_the_variance_is_fixed(share, variance, schedule):
    from minidiff.course.exercise import find

    y, w, grid = torch.arange(3).repeat(4), torch.full((12,), 1.5, dtype=torch.float64), times.linear(20, 0.9, 0.1)
    score = lambda x, t, y=None: PLANE.score(x, t, schedule, y)
    model = lambda x, t: (-schedule(t)[1] * score(x, t), torch.full_like(x, share))
    logits = lambda x, t: torch.stack([PLANE.log_prob_label(x, t, schedule, k) for k in range(3)], dim=1)
    got = find("04-guided-sampler").reference(model, logits, schedule, grid, y, w, (12, 2), seeded(0))
    generator = seeded(0)
    noise = schedule(grid[0])[1] * randn((12, 2), generator, torch.float64)

    def library(variance):
        step = ddpm(schedule, variance, shift=lambda x, t: 1.5 * (score(x, t, y) - score(x, t)))
        *_, x = sample(bind(PLANE.denoiser(schedule)), noise, grid, step, generator)
        return x

    state = generator.get_state()
    assert torch.allclose(got, library(variance), atol=1e-9)
    generator.set_state(state)
    assert not torch.allclose(got, library("large" if variance == "small" else "small"), atol=1e-2)


# ---------------------------------------------------------------- lecture, notebook, records


def open_text(lecture: str) -> str:
    """The lecture without what is folded away."""
    return re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)


def test_the_lecture_tells_no_measured_number_before_the_notebook_asks(root):
    lecture = (root / "lectures/04_classifier_guidance.md").read_text(encoding="utf-8")
    for number in ("0.0145", "0.00008", "21.5 %", ".964", "0.977", "24.4 points", "502 to 530"):
        assert number in lecture
        assert number not in open_text(lecture)
    assert len(lecture.split()) <= 3000
    assert not [line for line in lecture.splitlines() if line.startswith("|") and r"\|" in line]


def test_the_lectures_tables_are_the_recorded_numbers(root):
    lecture = (root / "lectures/04_classifier_guidance.md").read_text(encoding="utf-8")
    results = root / "benchmarks/results"
    rows = json.loads((results / "fashion_classifier_guidance.json").read_text(encoding="utf-8"))["rows"]
    rows = [r for r in rows if r["seed"] == 0 and r["guide"] == "noisy" and not r["labelled"]]
    right = [f"{r['accuracy']:.3f}".lstrip("0") for r in sorted(rows, key=lambda r: r["w"])]
    assert f"| right, says the judge | {' | '.join(right)} |" in lecture
    rows = json.loads((results / "classifier_guidance_algorithms.json").read_text(encoding="utf-8"))["rows"]
    found = [r for r in rows if (r["method"], r["steps"], r["w"]) == ("Algorithm 1", 50, 1.0)]
    distances = [f"{sum(r['w1']) / len(r['w1']):.3f}" for r in sorted(found, key=lambda r: r["y"])]
    assert f"| 50 | {' | '.join(distances)} |" in lecture


def test_cells_are_short_and_names_do_not_collide(root):
    notebook = jupytext.read(root / "notebooks/04_classifier_guidance.py")
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert [c for c in cells if sum(bool(line.strip()) for line in c.splitlines()) > 15] == []
    functions = [name for c in cells for name in re.findall(r"^def (\w+)", c, re.MULTILINE)]
    assert len(functions) == len(set(functions)) > 10
