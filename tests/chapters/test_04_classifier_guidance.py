"""The claims of chapter 04, each with a control that must fail. Thresholds: three seeds, with a margin."""

import json
import re

import jupytext
import pytest
import torch
import torch.nn.functional as F

from minidiff import times
from minidiff.data.mixtures import decoys, three_modes
from minidiff.guidance import bind, classifier
from minidiff.guides.classifier import PointClassifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, sample
from minidiff.schedules import DDPM, Linear
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
