"""The claims of chapter 03, each with a control that must fail. Thresholds: three seeds, with a margin."""

import hashlib
import inspect
import re

import pytest
import torch

from minidiff import operators, times
from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import find, load_chapter, load_experiments
from minidiff.data.captions import captions
from minidiff.data.mixtures import ring
from minidiff.data.prompts import World, place
from minidiff.data.scenes import Scenes, render
from minidiff.editing import sdedit
from minidiff.encoders.tokenizer import END, N_SPECIALS, PAD
from minidiff.guidance import bind, classifier, likelihood, project
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.judges.wasserstein import w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.systems import scenes_captioner, scenes_unconditional
from minidiff.weights import record

F64, LINEAR, NOISE, N = torch.float64, Linear(), 0.1, 32
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.stress) for seed in (1, 2))]  # a claim is tested by each alone
HIDDEN = torch.rand(16, 16, generator=seeded(3)) < 0.25
PROBLEMS = {
    "inpaint": operators.mask(HIDDEN), "deblur": operators.blur(1.5), "colourise": operators.grey(),
    "enlarge": operators.downsample(2),
}  # fmt: skip


# ---------------------------------------------------------------- points


@pytest.mark.parametrize("seed", SEEDS)
def test_the_exact_forward_model_samples_the_posterior_and_the_shortcuts_do_not(seed):
    world, A, y, n = ring(8), torch.tensor([[1.0, 0.5]], dtype=F64), torch.tensor([0.9], dtype=F64), 1500
    posterior, prior, op = world.observed(A, y, 0.3), bind(world.denoiser(LINEAR)), operators.matrix(A)
    along = A[0] / A[0].norm()
    target = posterior.sample(60_000, seeded(9))[0] @ along
    exact = lambda x, t: world.log_prob_observation(x, t, LINEAR, A, y, 0.3)
    guides = {
        "exact": classifier(prior, exact, LINEAR),
        "dps": likelihood(prior, operators.log_likelihood(op, y[None], 0.3), LINEAR),
        "projection": project(prior, op, operators.pseudo_inverse(op, (2,)), y[None]),
    }
    distance = {}
    for name, guide in guides.items():
        start = randn((n, 2), seeded(seed), F64)
        *_, x = sample(guide, start, times.linear(150, start=0.999), ddpm(LINEAR), seeded(50 + seed))
        distance[name] = w1(x @ along, target)
    assert distance["exact"] <= 0.03, distance
    assert distance["dps"] > 0.035, distance  # its bias
    assert distance["projection"] > 0.15, distance


# ---------------------------------------------------------------- scenes


def fingerprint(model) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()


@pytest.fixture(scope="module")
def model():
    found = scenes_unconditional.MODEL.load()
    before = fingerprint(found)
    yield found
    assert fingerprint(found) == before, "the weights changed"


@pytest.fixture(scope="module")
def truth():
    return place(scenes_unconditional.WORLD.prompts(N, 7, "test"), 8)


def draw(guided, n: int = N, seed: int = 0):
    start = randn((n, 3, 16, 16), seeded(range(seed, seed + n)))
    *_, x = sample(guided, start, times.linear(50), ddpm(LINEAR), seeded(range(seed + 1000, seed + 1000 + n)))
    return x


def correct(x, truth, colour: bool = True) -> float:
    read = parse(x)
    hide = lambda s: s if colour else Scenes(s.kind, torch.where(s.kind >= 0, 0, -1), s.size, s.row, s.column, s.ground)
    return float((read.readable & same(hide(read.scenes), hide(truth))).double().mean())


def test_the_model_has_no_text_input(model):
    assert model.net.context_dim is None
    assert "tokens" not in inspect.signature(type(model).forward).parameters
    with pytest.raises(TypeError, match="tokens"):
        model(torch.zeros(2, 3, 16, 16), torch.tensor(0.5), tokens=torch.zeros(2, 12, dtype=torch.int64))


@pytest.fixture(scope="module")
def plain(model):
    """Not guided: the control of all four problems."""
    return draw(bind(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_one_model_solves_four_inverse_problems(model, truth, plain, name):
    forward, x0 = PROBLEMS[name], render(truth)
    y = operators.observe(forward, x0, NOISE, seeded(1))
    share = 1.0
    if name == "inpaint":
        y, share = forward(y), float(HIDDEN.double().mean())
    rms = lambda x: float((operators.residual(forward, x, y).square().mean() / share).sqrt())
    restored = draw(likelihood(bind(model), operators.log_likelihood(forward, y, NOISE), LINEAR))
    assert rms(restored) <= 2 * NOISE < rms(plain)
    colour = name != "colourise"
    assert correct(restored, truth, colour) > 0.35
    assert correct(plain, truth, colour) < 0.1
    if name == "deblur":  # somebody else's measurement gives somebody else's picture
        other = draw(likelihood(bind(model), operators.log_likelihood(forward, y.roll(1, 0), NOISE), LINEAR))
        assert correct(other, truth) < 0.25


@pytest.mark.slow
def test_strokes_trade_faithfulness_for_realism_and_a_likelihood_is_far_more_faithful(model, truth):
    brush = operators.strokes(4)
    guide = brush(render(truth))
    run = lambda t0: sdedit(bind(model), guide, t0, ddpm(LINEAR), LINEAR, 20, seeded(range(N)))
    edits = [guide, *(run(t0) for t0 in (0.15, 0.5, 0.75, 1.0))]
    far = [float(operators.residual(brush, x, guide).mean()) for x in edits]
    unreal = [float(parse(x).error.mean()) for x in edits]
    assert far == sorted(far), far
    assert unreal[0] > 1.5 * unreal[1] > 2 * unreal[2], unreal
    likely = draw(likelihood(bind(model), operators.log_likelihood(brush, guide, NOISE), LINEAR))
    assert float(operators.residual(brush, likely, guide).mean()) < 0.5 * far[1]
    assert float(parse(likely).error.mean()) < 0.4 * unreal[0]  # about SDEdit's at t0 = 0.15, not as low as at 0.5


# ---------------------------------------------------------------- sentences


def test_the_gradient_is_that_of_the_sum_of_the_words(truth):
    """Against a finite difference, and against the sum of single-word gradients; captions differ in length."""
    captioner = scenes_captioner.MODEL.load().double()
    tokens = scenes_captioner.tokens(["a red circle", "a blue star left of a green cross"])
    lengths = (tokens != 0).sum(1)
    assert lengths[0] != lengths[1]
    x, t = render(truth)[:2].double() + 0.3 * randn((2, 3, 16, 16), seeded(0), F64), torch.tensor(0.3, dtype=F64)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(captioner.log_prob(leaf, t, tokens).sum(), leaf)
    way = randn(x.shape, seeded(1), F64)
    h = 1e-5
    difference = (captioner.log_prob(x + h * way, t, tokens) - captioner.log_prob(x - h * way, t, tokens)) / (2 * h)
    torch.testing.assert_close((gradient * way).sum((1, 2, 3)), difference, rtol=1e-5, atol=1e-7)
    words = captioner(leaf, t, tokens[:, :-1]).log_softmax(2).gather(2, tokens[:, 1:, None])[..., 0]
    single = [torch.autograd.grad(words[0, k], leaf, retain_graph=True)[0][0] for k in range(int(lengths[0]) - 1)]
    torch.testing.assert_close(sum(single), gradient[0])
    assert not torch.allclose(sum(single) / len(single), gradient[0], rtol=0.1)  # the mean is another strength


@pytest.mark.slow
def test_sentences_are_obeyed_four_times_as_often_as_by_chance_and_word_order_counts(model):
    captioner = scenes_captioner.MODEL.load()
    prompts = World(families=("relation",)).prompts(24, 5, "train")
    prompts = [*prompts, *(p.swapped() for p in prompts)]
    tokens = scenes_captioner.tokens(captions(prompts))
    told = draw(classifier(bind(model), lambda x, t: captioner.log_prob(x, t, tokens), LINEAR, 12.0), len(prompts))
    plain = draw(bind(model), len(prompts))
    own = float(matches(prompts, told).double().mean())
    chance = torch.stack([matches(prompts, plain.roll(k, 0)).double() for k in range(16)]).mean()
    swapped = float(matches(prompts[24:] + prompts[:24], told).double().mean())
    assert own >= 4 * chance, (own, chance)
    assert own > 0.2
    assert swapped < own / 2, (own, swapped)


@pytest.mark.parametrize("name", ["scenes-unconditional", "scenes-captioner"])
def test_the_weights_say_where_they_come_from(name):
    entry = record(name)
    assert entry["command"] == f"minidiff train {name}"
    assert len(entry["sha256"]) == 64


# ---------------------------------------------------------------- exercises: wrong answers that fewer inputs would pass


def _pictures_or_points(operator, x0, y, noise):
    square = (y - operator(x0)) ** 2
    return -(square.sum((1, 2, 3)) if square.ndim == 4 else square.sum(1).reshape(len(x0), -1)[:, 0]) / (2 * noise**2)


def _never_by_zero(operator, x0, y, noise):
    return -((y - operator(x0)) ** 2).flatten(1).sum(1) / (2 * noise**2 + 1e-6)


def _kalman_with_jitter(mean, covariance, matrix, y, noise):
    seen = matrix @ covariance @ matrix.T + (noise**2 + 1e-6) * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(seen, matrix @ covariance).T
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance


def _precisions_with_jitter(mean, covariance, matrix, y, noise):
    prior = torch.linalg.inv(covariance + 1e-8 * torch.eye(len(mean)).to(mean))
    after = torch.linalg.inv(prior + matrix.T @ matrix / (noise**2 + 1e-8))
    return after @ (prior @ mean + matrix.T @ y / (noise**2 + 1e-8)), after


def _sdedit_with_jitter(mean, std, guide, t0, schedule):
    alpha, sigma = schedule(t0)
    seen = alpha**2 * std**2 + sigma**2 + 1e-8
    gain = alpha * std**2 / seen
    return mean + gain * alpha * (guide - mean), gain**2 * sigma**2 + std**2 * sigma**2 / seen


def _sdedit_of_straight_or_round_paths(mean, std, guide, t0, schedule):
    alpha, sigma = schedule(t0)
    alpha = alpha.clamp(max=1 - sigma if abs(alpha + sigma - 1) < 1e-6 else (1 - sigma**2).clamp(min=0).sqrt())
    seen = alpha**2 * std**2 + sigma**2
    gain = alpha * std**2 / seen
    return mean + gain * alpha * (guide - mean), gain**2 * sigma**2 + std**2 * sigma**2 / seen


def _softmax_then_log(logits, tokens):
    target = tokens[:, 1:]
    return (logits.softmax(2).log().gather(2, target[..., None])[..., 0] * (target != PAD)).sum(1)


def _known_words_only(logits, tokens):
    target = tokens[:, 1:]
    counted = (target >= N_SPECIALS) | (target == END)
    return (logits.log_softmax(2).gather(2, target[..., None])[..., 0] * counted).sum(1)


WRONG = {
    "03-log-likelihood": (_pictures_or_points, _never_by_zero),
    "03-gaussian-posterior": (_kalman_with_jitter, _precisions_with_jitter),
    "03-sdedit-gaussian": (_sdedit_with_jitter, _sdedit_of_straight_or_round_paths),
    "03-caption-log-prob": (_softmax_then_log, _known_words_only),
}
BUILT = {
    "the root is differentiated": ("square.sum(), leaf", "square.sqrt().sum(), leaf"),
    "divided by a misfit of 0": ("torch.where(r > 0, zeta / r, 0.0)", "zeta / r"),
    "everybody's misfit": ("square.sum(), leaf", "square.mean(), leaf"),
    "points only": ("sqrt().reshape(-1, *[1] * (x.ndim - 1))", "sqrt()[:, None]"),
    "a linear path": ("q = alpha * sigma_s / (alpha_s * sigma)", "q = (1 - sigma) * sigma_s / ((1 - sigma_s) * sigma)"),
    "the large variance": ("x = mean + sigma_s *", "x = mean + (sigma if sigma_s > 0 else sigma_s) *"),
    "noise from elsewhere": ("generator=generator, ", ""),
    "the noise is walked on": ("x = noise\n", "x = noise.mul_(1.0).add_(0.1)\n"),
    "never away from the measurement": ("zeta / r, 0.0", "max(zeta, 0.0) / r, 0.0"),
    "one time per picture": ("x0 = denoise(leaf, t)", "x0 = denoise(leaf, t.expand(len(x)))"),
    "no noise in the last step": (
        "torch.randn(x.shape, generator=generator, dtype=x.dtype)",
        "torch.randn(x.shape, generator=generator, dtype=x.dtype) * (s > times[-1])",
    ),
}  # fmt: skip


def _built(root, old: str, new: str):
    """The master's solution of the build with one thing changed."""
    master = (root / "solutions" / "03_forward_models.py").read_text(encoding="utf-8")
    source = master.split('answer="03-dps"\n')[1].split("# %% [markdown]")[0]
    assert source.count(old) == 1, old
    scope = {"torch": torch, "Tensor": torch.Tensor, "Generator": torch.Generator} | dict.fromkeys(
        ("Callable", "Schedule")
    )
    exec(source.replace(old, new), scope)
    return scope["dps"]


@pytest.mark.parametrize(("id", "wrong"), [(id, wrong) for id, found in WRONG.items() for wrong in found])
def test_plausible_wrong_answers_are_refused(id, wrong):
    assert judge(find(id), try_out(find(id), wrong)).kind != "passed"


@pytest.mark.parametrize(("old", "new"), BUILT.values(), ids=BUILT)
def test_a_build_with_one_thing_wrong_is_refused(root, old, new):
    assert judge(find("03-dps"), try_out(find("03-dps"), _built(root, old, new), [0])).kind != "passed"


def test_the_build_as_it_is_passes(root):
    assert (
        judge(find("03-dps"), try_out(find("03-dps"), _built(root, "x = noise\n", "x = noise\n"), [0])).kind == "passed"
    )


def test_the_chapter_has_one_build_and_one_open_experiment():
    exercises = load_chapter("03_forward_models")
    assert [exercise.difficulty for exercise in exercises] == [1, 3, 5, 4, 2]
    assert [task.id for task in load_experiments("03_forward_models")] == ["03-how-unsure"]


def test_the_lecture_is_short_and_keeps_what_the_notebook_asks_to_predict(root):
    text = (root / "lectures" / "03_forward_models.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 3000
    shown = re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)
    for told in ("12.2", "0.222", ".648", ".328", ".984", ".124", ".625", "52 %"):
        assert told in text, told
        assert told not in shown, told
    assert text.count("<details>") == text.count("</details>") >= 8


def test_the_notebooks_titles_say_colours_where_the_metric_ignores_them(root):
    source = (root / "notebooks" / "03_forward_models.py").read_text(encoding="utf-8")
    assert "if colours do not count" in source
    assert "A^+y$" not in source, "the measurement itself is shown"
    assert "Budget: 60 s" in source
