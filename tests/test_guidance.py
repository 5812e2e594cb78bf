"""Guidance: exact identities on mixtures, edges of w, nesting, and clear refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.mixtures import gaussian, ring, three_modes
from minidiff.denoiser import Denoiser
from minidiff.guidance import (
    bind,
    cfg,
    classifier,
    dps,
    extrapolate,
    from_guidance_scale,
    inpaint,
    likelihood,
    mix,
    mix_conditions,
    project,
    within,
)
from minidiff.guides.classifier import PointClassifier
from minidiff.operators import log_likelihood, mask, matrix, pseudo_inverse
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, seeded
from minidiff.samplers import dpmpp_2m, heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear

few = settings(max_examples=25, deadline=None)
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
STRENGTHS = [-1.0, -0.5, 0.0, 1.0, 3.0, 15.0]


def f64(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def points(n: int = 12, seed: int = 0, dim: int = 2) -> torch.Tensor:
    return 1.5 * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def forbidden(x_t, t):
    raise AssertionError("this branch must not be evaluated")


def coordinates(schedule, x_t, x0, t) -> dict[str, torch.Tensor]:
    """x̂0 in the coordinates of the four predictions, and as a score."""
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    eps = (x_t - alpha * x0) / sigma
    return {"eps": eps, "v": alpha * eps - sigma * x0, "velocity": d_alpha * x0 + d_sigma * eps, "score": -eps / sigma}


@every_schedule
@pytest.mark.parametrize("w", STRENGTHS)
def test_guiding_x0_is_guiding_eps_v_velocity_and_score(schedule, w):
    exact, x_t = ring().denoiser(schedule), points()
    good, bad = bind(exact, y=1), bind(exact)
    for t in (f64(0.05), f64(0.4), f64(0.9)):
        guided = coordinates(schedule, x_t, extrapolate(good, bad, w)(x_t, t), t)
        plain, null = (coordinates(schedule, x_t, d(x_t, t), t) for d in (good, bad))
        for name, value in guided.items():
            want = (1 + w) * plain[name] - w * null[name]
            scale = (1 + abs(w)) * (1 + float(plain[name].abs().max()))
            assert float((value - want).abs().max()) <= 1e-12 * scale, (name, float(t))


def test_the_other_convention_by_formula():
    """guidance_scale s: uncond + s·(cond − uncond)."""
    exact, x_t, t = ring().denoiser(Linear()), points(), f64(0.5)
    cond, uncond = exact(x_t, t, y=1), exact(x_t, t)
    for s in (0.0, 1.0, 2.0, 7.5):
        ours = extrapolate(bind(exact, y=1), bind(exact), from_guidance_scale(s))(x_t, t)
        torch.testing.assert_close(ours, uncond + s * (cond - uncond), rtol=0, atol=1e-13)
    off_by_one = extrapolate(bind(exact, y=1), bind(exact), 7.5)(x_t, t)
    assert float((off_by_one - (uncond + 7.5 * (cond - uncond))).abs().max()) > 1e-2  # w = s is another strength


def test_zero_strength_is_the_same_function_and_costs_nothing():
    good = bind(ring().denoiser(Linear()), y=0)
    assert extrapolate(good, forbidden, 0.0) is good
    assert extrapolate(good, forbidden, 0) is good
    assert classifier(good, forbidden, Linear(), 0.0) is good
    assert likelihood(good, forbidden, Linear(), 0.0) is good


@every_schedule
def test_minus_one_is_the_unconditional_model(schedule):
    exact, x_t = ring().denoiser(schedule), points()
    for t in (f64(0.1), f64(0.7)):
        got = extrapolate(bind(exact, y=1), bind(exact), -1.0)(x_t, t)
        torch.testing.assert_close(got, exact(x_t, t), rtol=0, atol=1e-14)


@few
@given(st.lists(st.floats(-2, 16), min_size=1, max_size=6), st.integers(0, 2**31))
def test_one_strength_per_picture(strengths, seed):
    exact, x_t, t = ring().denoiser(Linear()), points(len(strengths), seed), f64(0.6)
    good, bad = bind(exact, y=1), bind(exact)
    together = extrapolate(good, bad, torch.tensor(strengths, dtype=torch.float64))(x_t, t)
    for i, w in enumerate(strengths):
        torch.testing.assert_close(
            together[i : i + 1], extrapolate(good, bad, w)(x_t[i : i + 1], t), rtol=0, atol=1e-12
        )


@every_schedule
@pytest.mark.parametrize("w", [-1.0, 0.0, 2.5])
@pytest.mark.parametrize("t", [f64(0.5), torch.linspace(0.1, 0.9, 12, dtype=torch.float64)], ids=["scalar", "(B,)"])
def test_both_branches_in_one_call(schedule, w, t):
    calls = []
    y, none = torch.arange(12) % 2, torch.tensor(-1)

    def counted(x_t, t, *, y):
        calls.append(len(x_t))
        return ring().denoise(x_t, t, schedule, y)

    together = cfg(counted, {"y": y}, {"y": none}, w)(points(), t)
    assert calls == [24]
    exact = ring().denoiser(schedule)
    apart = extrapolate(bind(exact, y=y), bind(exact), w)(points(), t)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


def test_guidance_nests():
    """Two conditions, each with its own strength, around a third as base: sums of differences."""
    exact, x_t, t = ring(6, n_classes=3).denoiser(Cosine()), points(), f64(0.5)
    a, b, base = (bind(exact, y=k) for k in (0, 1, 2))
    nested = extrapolate(extrapolate(a, base, 2.0), b, 0.5)(x_t, t)
    want = 1.5 * (3 * a(x_t, t) - 2 * base(x_t, t)) - 0.5 * b(x_t, t)
    torch.testing.assert_close(nested, want, rtol=0, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("y", [0, 1])
def test_bayes_rule(schedule, y):
    """Classifier guidance with the exact p(y|x_t) at w = 1 is the exact conditional denoiser, at every noise level."""
    mixture, x_t = ring(), points()
    log_prob = lambda x, t: mixture.log_prob_label(x, t, schedule, y)
    guided = classifier(mixture.denoiser(schedule), log_prob, schedule, 1.0)
    for t in (f64(0.01), f64(0.2), f64(0.5), f64(0.8), f64(0.99), torch.linspace(0.05, 0.95, 12, dtype=torch.float64)):
        want = mixture.denoise(x_t, t, schedule, y)
        torch.testing.assert_close(guided(x_t, t), want, rtol=1e-9, atol=1e-9)


@every_schedule
def test_classifier_guidance_in_the_papers_symbols(schedule):
    """ε̂ = ε − σ·w·∇log p(y|x_t): line 4 of Algorithm 2 of arXiv 2105.05233."""
    mixture, x_t, t, w = ring(), points(), f64(0.4), 3.0
    log_prob = lambda x, t: mixture.log_prob_label(x, t, schedule, 1)
    alpha, sigma = schedule(t)
    leaf = x_t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_prob(leaf, t).sum(), leaf)
    eps = lambda x0: (x_t - alpha * x0) / sigma
    plain = mixture.denoiser(schedule)
    got = eps(classifier(plain, log_prob, schedule, w)(x_t, t))
    torch.testing.assert_close(got, eps(plain(x_t, t)) - sigma * w * gradient, rtol=1e-9, atol=1e-9)


def test_adding_a_constant_to_the_classifier_changes_nothing():
    mixture, x_t, t = ring(), points(), f64(0.4)
    plain = lambda x, t: mixture.log_prob_label(x, t, Linear(), 1)
    shifted = lambda x, t: plain(x, t) + 17.0
    a, b = (classifier(mixture.denoiser(Linear()), f, Linear(), 2.0)(x_t, t) for f in (plain, shifted))
    assert torch.equal(a, b)


def orders(guided, schedule, start: float, step, counts=(16, 32, 64)) -> list[float]:
    """Observed orders of convergence from `start` to t = 0.05, against 512 Heun steps of the exact conditional."""
    x = schedule(f64(start))[1] * torch.linspace(-1.5, 1.5, 9, dtype=torch.float64)[:, None]
    exact = bind(three_modes().denoiser(schedule), y=2)
    *_, reference = sample(exact, x, times.linear(512, start, 0.05), heun(schedule))
    errors = []
    for n in counts:
        *_, x0 = sample(guided, x, times.linear(n, start, 0.05), step)
        errors.append(float((x0 - reference).abs().mean()))
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("step", [heun, dpmpp_2m], ids=["heun", "dpmpp_2m"])
def test_one_step_from_alpha_zero_costs_classifier_guidance_its_order(schedule, step):
    """x̂0 + (σ²/α)·∇log p(y|x_t) is ∞·0 at α = 0, read as x̂0: a first-order error. From t = 0.999 the order is 2."""
    mixture = three_modes()
    log_prob = lambda x, t: mixture.log_prob_label(x, t, schedule, 2)
    guided = classifier(mixture.denoiser(schedule), log_prob, schedule, 1.0)
    assert max(orders(guided, schedule, 1.0, step(schedule))) < 1.2
    assert min(orders(guided, schedule, 0.999, step(schedule))) > 1.4
    assert min(orders(bind(mixture.denoiser(schedule), y=2), schedule, 1.0, step(schedule))) > 1.4


@pytest.mark.parametrize("w", [1.0, 2.0])
def test_likelihood_of_a_gaussian_in_closed_form(w):
    """For x0 ~ N(m, c), x̂0 is affine in x_t with slope J = αc/(α²c + σ²), so ∇log N(y; x̂0, s²) = J·(y − x̂0)/s²."""
    m, c, y, s2 = 0.3, 0.4, -0.7, 0.2
    world = gaussian(f64(m)[None], f64(c)[None, None])
    x_t = points(dim=1)
    for name, schedule in SCHEDULES.items():
        for t in (f64(0.2), f64(0.7)):
            alpha, sigma = schedule(t)
            slope = alpha * c / (alpha**2 * c + sigma**2)
            x0 = m + slope * (x_t - alpha * m)
            log_likelihood = lambda x0: -((y - x0[:, 0]) ** 2) / (2 * s2)
            got = likelihood(world.denoiser(schedule), log_likelihood, schedule, w)(x_t, t)
            want = x0 + w * sigma**2 / alpha * slope * (y - x0) / s2
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10, msg=name)


def test_likelihood_is_biased_and_the_bias_is_the_known_one():
    """The exact posterior uses the variance s² + Var[x0|x_t] where this uses s²: too strong, except at low noise."""
    m, c, y, s2 = 0.3, 0.4, -0.7, 0.2
    world, x_t = gaussian(f64(m)[None], f64(c)[None, None]), points(dim=1)
    guided = likelihood(world.denoiser(Linear()), lambda x0: -((y - x0[:, 0]) ** 2) / (2 * s2), Linear())

    def ratio(t: float) -> float:
        alpha, sigma = Linear()(f64(t))
        slope = alpha * c / (alpha**2 * c + sigma**2)
        left = sigma**2 * c / (alpha**2 * c + sigma**2)  # Var[x0|x_t]
        x0 = m + slope * (x_t - alpha * m)
        exact = x0 + sigma**2 / alpha * slope * (y - x0) / (s2 + left)
        return float(((guided(x_t, f64(t)) - x0) / (exact - x0)).mean())

    assert ratio(0.5) == pytest.approx(1 + (0.25 * c / (0.25 * c + 0.25)) / s2, rel=1e-9)
    assert abs(ratio(0.01) - 1) < 1e-3


def test_gradients_leave_nothing_behind():
    """No graph, no grad on the input, whether the caller runs with or without gradients."""
    net = torch.nn.Linear(2, 2).double()
    log_prob = lambda x, t: net(x).sum(1)
    for context in (torch.no_grad, torch.enable_grad):
        x_t = points()
        with context():
            moved = classifier(lambda x, t: x, log_prob, Linear())(x_t, f64(0.5))
            through = likelihood(lambda x, t: 2 * x, lambda x0: -x0.square().sum(1), Linear())(x_t, f64(0.5))
        assert not moved.requires_grad
        assert not through.requires_grad
        assert x_t.grad is None
        assert net.weight.grad is None


def test_inpainting_replaces_what_is_known():
    denoise = ring().denoiser(Linear())
    x_t, known = points(), torch.full((1, 2), 9.0, dtype=torch.float64)
    mask = torch.tensor([[True, False]])
    got = inpaint(denoise, known, mask)(x_t, f64(0.5))
    assert bool((got[:, 0] == 9).all())
    assert torch.equal(got[:, 1], denoise(x_t, f64(0.5))[:, 1])


@every_schedule
def test_the_exact_forward_model_gives_the_exact_posterior(schedule):
    """`classifier` with p(y|x_t) in closed form is the posterior's own denoiser; DPS, which uses p(y|x̂0), is not."""
    world, x_t = ring(), points()
    A, y, noise = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64), 0.3
    log_prob = lambda x, t: world.log_prob_observation(x, t, schedule, A, y, noise)
    exact = classifier(world.denoiser(schedule), log_prob, schedule)
    biased = likelihood(world.denoiser(schedule), log_likelihood(matrix(A), y[None], noise), schedule)
    for t in (f64(0.1), f64(0.5), f64(0.9)):
        want = world.observed(A, y, noise).denoise(x_t, t, schedule)
        torch.testing.assert_close(exact(x_t, t), want, rtol=1e-8, atol=1e-8)
    assert (
        float((biased(x_t, f64(0.5)) - world.observed(A, y, noise).denoise(x_t, f64(0.5), schedule)).abs().max()) > 0.1
    )


def test_dps_is_the_likelihood_with_the_papers_strength():
    """ζ/r·∇r²: at each point the same as `likelihood` with 1/(2·noise²) = ζ/r."""
    world, x_t, t, zeta = ring(), points(1), f64(0.4), 0.7
    A = torch.tensor([[1.0, 0.5], [0.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([[0.9, -0.3]], dtype=torch.float64)
    plain = world.denoiser(Linear())
    r = float((y - plain(x_t, t) @ A.T).norm())
    same = likelihood(plain, log_likelihood(matrix(A), y, (r / (2 * zeta)) ** 0.5), Linear())
    torch.testing.assert_close(dps(plain, matrix(A), y, Linear(), zeta)(x_t, t), same(x_t, t))
    assert dps(plain, matrix(A), y, Linear(), 0.0) is plain


def test_projection_explains_the_observation_to_the_last_bit():
    denoise, x_t, t = ring().denoiser(Linear()), points(), f64(0.5)
    A = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    y = torch.full((1, 1), 0.9, dtype=torch.float64)
    got = project(denoise, matrix(A), pseudo_inverse(matrix(A), (2,)), y)(x_t, t)
    torch.testing.assert_close(got @ A.T, y.expand(len(got), 1))
    across = torch.tensor([[0.5, -1.0]], dtype=torch.float64)  # what A does not see stays
    torch.testing.assert_close(got @ across.T, denoise(x_t, t) @ across.T)


def test_projection_with_a_mask_is_inpainting():
    denoise, x_t = ring().denoiser(Linear()), points()
    keep, known = torch.tensor([[True, False]]), torch.full((1, 2), 9.0, dtype=torch.float64)
    hide = mask(keep)
    got = project(denoise, hide, pseudo_inverse(hide, (2,)), hide(known))(x_t, f64(0.5))
    torch.testing.assert_close(got, inpaint(denoise, known, keep)(x_t, f64(0.5)))


@few
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_switches_exactly_at_its_ends(a, b, t):
    low, high = sorted((a, b))
    one, two = (lambda x, t: torch.ones_like(x)), (lambda x, t: 2 * torch.ones_like(x))
    switched = within(one, two, low, high)
    x = torch.zeros(3, 2)
    for at in (t, low, high):
        assert float(switched(x, f64(at)).mean()) == (1.0 if low <= at <= high else 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_dtypes_stay(dtype):
    x_t = points().to(dtype)
    good, bad = (lambda x, t: x * 0.5), (lambda x, t: x * 0.25)
    log_prob = lambda x, t: -x.float().square().sum(1)
    for w in (2.0, torch.full((12,), 2.0)):
        for guided in (
            extrapolate(good, bad, w),
            classifier(good, log_prob, Linear(), w),
            likelihood(good, lambda x0: -x0.float().square().sum(1), Linear(), w),
        ):
            for t in (f64(0.5), torch.full((12,), 0.5)):
                got = guided(x_t, t)
                assert (got.dtype, got.shape) == (dtype, x_t.shape)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_alpha_zero_is_finite(schedule):
    mixture, x_t = ring(), points()
    log_prob = lambda x, t: mixture.log_prob_label(x, t, schedule, 1)
    for t in (f64(1.0), torch.tensor([1.0, 0.5] * 6, dtype=torch.float64)):
        got = classifier(mixture.denoiser(schedule), log_prob, schedule, 5.0)(x_t, t)
        assert bool(torch.isfinite(got).all())
        at_one = t == 1 if t.ndim else torch.ones(12, dtype=torch.bool)
        torch.testing.assert_close(got[at_one], mixture.denoise(x_t, t, schedule)[at_one])


def run(guided):
    return guided(torch.zeros(3, 2), torch.tensor(0.5))


identity = lambda x, t: x
smooth = lambda x, t: -x.square().sum(1)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: run(extrapolate(identity, identity, math.nan)), "w"),
        (lambda: run(extrapolate(identity, identity, math.inf)), "w"),
        (lambda: run(extrapolate(identity, identity, "3")), "w"),
        (lambda: run(extrapolate(identity, identity, torch.ones(2))), "w"),
        (lambda: run(extrapolate(identity, identity, torch.tensor([1.0, math.nan, 1.0]))), "w"),
        (lambda: run(classifier(identity, smooth, Linear(), math.nan)), "w"),
        (lambda: run(classifier(identity, lambda x, t: x.sum(), Linear())), "log_prob"),
        (lambda: run(classifier(identity, lambda x, t: x, Linear())), "log_prob"),
        (lambda: run(classifier(identity, lambda x, t: smooth(x, t).detach(), Linear())), "log_prob"),
        (lambda: run(likelihood(identity, lambda x0: x0.sum(), Linear())), "log_likelihood"),
        (lambda: run(likelihood(identity, lambda x0: x0.detach().sum(1), Linear())), "log_likelihood"),
        (lambda: cfg(identity, {"y": torch.ones(3)}, {"label": torch.ones(3)}, 1.0), "null"),
        (lambda: inpaint(identity, torch.zeros(2), torch.ones(2)), "mask"),
        (lambda: within(identity, identity, 0.8, 0.2), "low, high"),
        (lambda: within(identity, identity, -0.1, 0.2), "low, high"),
        (lambda: within(identity, identity, 0.1, math.nan), "low, high"),
        (lambda: within(identity, identity, 0.1, 0.9)(torch.zeros(3, 2), torch.rand(3)), "t"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        call()


# any number of branches


def test_mix_is_an_affine_combination_of_its_branches():
    x, t = torch.randn(3, 2, dtype=torch.float64), f64(0.5)
    good, text, sound = ((lambda x_t, t, k=k: k * x_t + k) for k in (1.0, 2.0, 5.0))
    w_text, w_sound = 3.0, torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    a, b, c = (branch(x, t) for branch in (good, text, sound))
    expected = (1 + w_text + w_sound[:, None]) * a - w_text * b - w_sound[:, None] * c
    torch.testing.assert_close(mix(good, (text, w_text), (sound, w_sound))(x, t), expected, atol=1e-12, rtol=0)
    assert not torch.allclose(mix(good, (text, w_text), (sound, 2.0))(x, t), expected)


def test_extrapolate_and_cfg_are_its_cases_and_zero_branches_are_never_asked():
    x, t, good, bad = torch.randn(3, 2), torch.tensor(0.5), lambda x_t, t: x_t, lambda x_t, t: x_t.sin()
    assert torch.equal(mix(good, (bad, 2.0))(x, t), extrapolate(good, bad, 2.0)(x, t))

    def never(x_t, t):
        raise AssertionError("a branch without weight was evaluated")

    assert mix(good) is good
    assert mix(good, (never, 0.0)) is good
    assert torch.equal(mix(good, (never, 0), (bad, 2.0))(x, t), extrapolate(good, bad, 2.0)(x, t))
    with pytest.raises(AssertionError, match="without weight"):
        mix(good, (never, 1e-9))(x, t)


def test_three_conditions_in_one_call_are_three_calls():
    calls = []

    def denoiser(x_t, t, *, y):
        calls.append(len(x_t))
        return x_t * (1 + y[:, None]).to(x_t)

    x, t = torch.randn(4, 2), torch.tensor(0.5)
    cond, null, other = ({"y": torch.tensor(y)} for y in ([1, 2, 3, 4], 0, 7))
    rows = lambda c: {"y": c["y"].expand(4)}
    apart = mix(bind(denoiser, **cond), (bind(denoiser, **rows(null)), 2.0), (bind(denoiser, **rows(other)), -0.5))
    once = mix_conditions(denoiser, cond, (null, 2.0), (other, -0.5))
    expected = apart(x, t)
    calls.clear()
    torch.testing.assert_close(once(x, t), expected)
    assert calls == [12]
    with pytest.raises(ValueError, match="null: got"):
        mix_conditions(denoiser, cond, ({"z": torch.tensor(0)}, 1.0))


# where there is nothing to explain, and where gradients are switched off


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dps_of_a_misfit_of_zero_is_the_denoiser(dtype):
    """√ has no slope at 0: 0/0 made the picture NaN, for good, and the pictures beside it stayed."""
    plain, x_t, t = (lambda x, t: 0.5 * x), points(3).to(dtype), f64(0.4)
    A, see_nothing = mask(torch.tensor([True, False])), mask(torch.tensor([False, False]))
    y = A(plain(x_t, t))
    y[1] += 1  # the second picture has something to explain
    got = dps(plain, A, y, Linear())(x_t, t)
    assert got.dtype == dtype
    assert torch.equal(got[[0, 2]], plain(x_t, t)[[0, 2]])
    alone = dps(plain, A, y[1:2], Linear())(x_t[1:2], t)
    torch.testing.assert_close(got[1:2], alone)
    assert float((got[1] - plain(x_t, t)[1]).abs().max()) > 0.1
    for operator, seen in ((see_nothing, torch.zeros_like(x_t)), (A, A(plain(x_t, t)))):
        assert torch.equal(dps(plain, operator, seen, Linear())(x_t, t), plain(x_t, t))


def test_dps_around_inpainting_is_inpainting():
    """What is known is explained to the last bit, so r is 0 from the first step to the last."""
    x, known, keep = points(), torch.full((1, 2), 9.0, dtype=torch.float64), torch.tensor([[True, False]])
    filled = inpaint(ring().denoiser(Linear()), known, keep)
    guided = dps(filled, mask(keep), mask(keep)(known), Linear())
    for step in (heun(Linear()), dpmpp_2m(Linear())):
        *_, one = sample(filled, x, times.linear(8), step)
        *_, two = sample(guided, x, times.linear(8), step)
        assert torch.equal(one, two)
    assert bool(torch.isfinite(two).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("other", [torch.float16, torch.float32, torch.float64])
def test_what_is_known_takes_the_type_of_the_pictures(dtype, other):
    """Before, a float64 picture beside a float32 network: an error of matrix products, in the step after."""
    net = torch.nn.Linear(2, 2).to(dtype).requires_grad_(False)
    known, keep = torch.full((1, 2), 0.3, dtype=other), torch.tensor([[True, False]])
    guided = inpaint(lambda x, t: net(x), known, keep)
    *_, x = sample(guided, points().to(dtype), times.linear(4), heun(Linear()))
    assert x.dtype == dtype
    torch.testing.assert_close(x[:, 0], known[0, 0].to(dtype).expand(12))
    there = project(lambda x, t: net(x), mask(keep), lambda y: y, mask(keep)(known))(points().to(dtype), f64(0.5))
    assert there.dtype == dtype


def labelled(x_t, t, *, y):
    return x_t * (1 + y[:, None]).to(x_t)


@pytest.mark.parametrize(
    ("call", "argument", "expected"),
    [
        (lambda: cfg(labelled, {"y": 1}, {"y": torch.tensor(0)}, 1.0), "cond", "a dict of tensors"),
        (lambda: cfg(labelled, {"y": torch.ones(3)}, {"y": 10}, 1.0), "null", "a dict of tensors"),
        (lambda: cfg(labelled, 1, 10, 1.0), "cond", "a dict of tensors"),
        (lambda: cfg(labelled, {"y": [1, 2, 3]}, {"y": torch.tensor(0)}, 1.0), "cond", "a dict of tensors"),
        (lambda: cfg(labelled, None, {"y": torch.tensor(0)}, 1.0), "cond", "a dict of tensors"),
        (lambda: run(cfg(labelled, {"y": torch.ones(2)}, {"y": torch.tensor(0)}, 1.0)), r"cond\['y'\]", "one row for"),
        (lambda: run(cfg(labelled, {"y": torch.ones(3)}, {"y": torch.ones(2)}, 1.0)), r"null\['y'\]", "broadcasts"),
        (lambda: mix_conditions(labelled, {"y": torch.ones(3)}, ({"y": 0}, 1.0)), "null", "a dict of tensors"),
        (lambda: run(inpaint(identity, torch.ones(3, 3), torch.ones(2) > 0)), "known", "broadcasts over x_t"),
        (lambda: run(inpaint(identity, torch.ones(3, 2), torch.ones(4, 3, 2) > 0)), "mask", "broadcasts over x_t"),
        (lambda: inpaint(identity, 0.5, torch.ones(2) > 0), "known", "a floating-point tensor"),
        (lambda: inpaint(identity, torch.zeros(2, dtype=torch.uint8), torch.ones(2) > 0), "known", "a floating-point"),
        (lambda: dps(identity, identity, torch.zeros(1, 2), Linear(), math.nan), "zeta", "a finite number"),
        (lambda: run(dps(identity, lambda x: x, 1.0, Linear())), "y", "that of the operator's output"),
        (lambda: extrapolate(identity, identity, None), "w", "a finite number"),
        (lambda: extrapolate(identity, identity, True), "w", "a finite number"),
    ],
)  # fmt: skip
def test_what_was_expected_is_said(call, argument, expected):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .*{expected}"):
        call()


def test_a_null_condition_takes_the_type_of_the_condition():
    """A float64 null beside a float32 condition would make both of them float64, and the network refuse them."""
    seen = []
    denoiser = lambda x_t, t, *, text: seen.append(text.dtype) or x_t
    cfg(denoiser, {"text": torch.ones(3, 4)}, {"text": torch.zeros(4, dtype=torch.float64)}, 2.0)(*inputs())
    assert seen == [torch.float32]


def inputs():
    return torch.zeros(3, 2), torch.tensor(0.5)


def test_a_zero_of_any_kind_asks_no_branch():
    good = bind(ring().denoiser(Linear()), y=0)
    for zero in (np.float32(0), np.int64(0), torch.tensor(0.0), np.array(0.0)):
        assert extrapolate(good, forbidden, zero) is good
        assert classifier(good, forbidden, Linear(), zero) is good
        assert likelihood(good, forbidden, Linear(), zero) is good
        assert dps(good, forbidden, points(), Linear(), zero) is good


def test_a_learned_strength_keeps_its_gradient():
    w = torch.tensor(0.0, requires_grad=True)
    x_t = points()
    extrapolate(lambda x, t: x, lambda x, t: 0.5 * x, w)(x_t, f64(0.5)).sum().backward()
    assert float(w.grad) == pytest.approx(0.5 * float(x_t.sum()), rel=1e-5)


def everything_guided() -> dict:
    """Every guidance that needs a gradient, with trained networks of the library."""
    model = initialised(lambda: Denoiser(Conditioned(Labels(3, 16), MLP(2, width=16)), Linear(), VELOCITY), seed=0)
    judge = initialised(lambda: PointClassifier(Linear(), 2, 3), seed=1)
    for net in (model, judge):
        for k, p in enumerate(net.parameters()):
            torch.nn.init.normal_(p, std=0.3, generator=seeded(k))
    A, y = matrix(torch.tensor([[1.0, 0.5]])), torch.tensor([[0.4]])
    return {
        "classifier": lambda k: classifier(bind(model, y=k), lambda x, t: judge.log_prob(x, t, k), Linear(), 2.0),
        "likelihood": lambda k: likelihood(bind(model, y=k), log_likelihood(A, y, 0.3), Linear()),
        "dps": lambda k: dps(bind(model, y=k), A, y, Linear()),
    }


@pytest.mark.parametrize("name", ["classifier", "likelihood", "dps"])
def test_guidance_under_inference_mode(name):
    """Noise, labels and times made inside; networks outside: the same pictures as under no_grad."""
    make = everything_guided()[name]

    def pictures() -> torch.Tensor:
        *_, x = sample(make(torch.arange(12) % 3), points().float(), times.linear(6, 0.99), heun(Linear()))
        return x

    with torch.inference_mode():
        inside = pictures()
    assert torch.equal(inside.clone(), pictures())
    with torch.no_grad():
        assert torch.equal(inside.clone(), pictures())


def test_what_inference_mode_does_not_allow_is_said():
    """A gradient that needs a tensor made inside: PyTorch keeps none, and the function is not at fault."""
    with torch.inference_mode():
        weights, x_t, t = torch.ones(2), torch.ones(3, 2), torch.tensor(0.5)
        log_prob = lambda x, t: (weights * x).square().sum(1)
        with pytest.raises(ValueError, match=r"^log_prob: got tensors made in torch.inference_mode\(\), .* clones"):
            classifier(identity, log_prob, Linear())(x_t, t)
        with pytest.raises(ValueError, match=r"^denoise or log_likelihood: got tensors made in torch.inference_mode"):
            likelihood(lambda x, t: weights * x, lambda x0: -x0.square().sum(1), Linear())(x_t, t)
    weights = weights.clone()
    assert classifier(identity, log_prob, Linear())(torch.ones(3, 2), torch.tensor(0.5)).shape == (3, 2)


def test_another_runtime_error_comes_through():
    def broken(x, t):
        raise RuntimeError("mat1 and mat2")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        classifier(identity, broken, Linear())(*inputs())
