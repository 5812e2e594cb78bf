"""The exercises of chapter 04: wrong answers that look right, and the built sampler against the library's."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from minidiff import times
from minidiff.course import check
from minidiff.course.exercise import find
from minidiff.data.mixtures import decoys
from minidiff.guidance import bind
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Karras, Linear

PLANE, STRAIGHT = decoys(), Linear()


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
