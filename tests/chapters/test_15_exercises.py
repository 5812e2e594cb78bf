"""The exercises of chapter 15: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
from _answers import answers
from torch import Tensor

from minidiff.systems.design import cells

# ---------------------------------------------------------------- names


def named(
    whole=lambda a, s: a + s, scale=lambda x, w: x / w, time=lambda a, s, w: s / w,
    like=lambda level, x: level.reshape(-1, *[1] * (x.ndim - 1)), order=lambda x, t: (x, t),
):  # fmt: skip
    def renamed(x_t, alpha, sigma):
        w = whole(alpha, sigma)
        return order(scale(x_t, like(w, x_t)), time(alpha, sigma, w))

    return renamed


RENAMED = {
    "on the circle": named(whole=lambda a, s: (a**2 + s**2).sqrt()),
    "squares": named(whole=lambda a, s: a**2 + s**2),
    "by α": named(whole=lambda a, s: a.clamp(min=1e-3)),
    "by σ": named(whole=lambda a, s: s.clamp(min=1e-3)),
    "difference": named(whole=lambda a, s: (a - s).abs().clamp(min=1e-3)),
    "the mean of both": named(whole=lambda a, s: (a + s) / 2),
    "not scaled": named(scale=lambda x, w: x),
    "times the whole": named(scale=lambda x, w: x * w),
    "divided by the root": named(scale=lambda x, w: x / w.sqrt()),
    "the picture's part": named(time=lambda a, s, w: a / w),
    "σ": named(time=lambda a, s, w: s),
    "1 − α": named(time=lambda a, s, w: 1 - a),
    "the ratio": named(time=lambda a, s, w: s / a.clamp(min=1e-3)),
    "an angle": named(time=lambda a, s, w: torch.atan2(s, a) * 2 / torch.pi),
    "the first level for all": named(like=lambda level, x: level[0]),
    "time of the first": named(time=lambda a, s, w: (s / w)[:1].expand_as(s)),
    "times with axes": named(time=lambda a, s, w: (s / w)[:, None]),
    "time first": named(order=lambda x, t: (t, x)),
    "in double": named(order=lambda x, t: (x.double(), t.double())),
    "the picture alone": named(order=lambda x, t: x),
}

# ---------------------------------------------------------------- weights


def weighed(
    ratio=lambda ell: (ell / 2).exp(), noise=lambda r: r**2, v=lambda r: 1 + r**2, velocity=lambda r: (1 + r) ** 2,
    order=lambda *three: three,
):  # fmt: skip
    def weights(ell):
        r = ratio(ell)
        return order(noise(r), v(r), velocity(r))

    return weights


WEIGHTS = {
    "e^ℓ for the ratio": weighed(ratio=lambda ell: ell.exp()),
    "noise over picture": weighed(ratio=lambda ell: (-ell / 2).exp()),
    "to base ten": weighed(ratio=lambda ell: 10 ** (ell / 2)),
    "ℓ itself": weighed(ratio=lambda ell: ell / 2),
    "noise not squared": weighed(noise=lambda r: r),
    "noise turned over": weighed(noise=lambda r: r**-2),
    "noise alike": weighed(noise=torch.ones_like),
    "v of signal": weighed(v=lambda r: r**2 / (1 + r**2)),
    "v of noise": weighed(v=lambda r: 1 / (1 + r**2)),
    "v as max(1, SNR)": weighed(v=lambda r: (r**2).clamp(min=1)),
    "v not squared": weighed(v=lambda r: (1 + r**2).sqrt()),
    "velocity not squared": weighed(velocity=lambda r: 1 + r),
    "velocity without the middle": weighed(velocity=lambda r: 1 + r**2),
    "velocity of 1 − t": weighed(velocity=lambda r: (1 + 1 / r) ** 2),
    "velocity as t²": weighed(velocity=lambda r: (1 + r) ** -2),
    "velocity, half": weighed(velocity=lambda r: (1 + r) ** 2 / 2),
    "velocity first": weighed(order=lambda a, b, c: (c, b, a)),
    "without v": weighed(order=lambda a, b, c: (a, c)),
    "in one tensor": weighed(order=lambda *three: torch.stack(three)),
    "normed": weighed(order=lambda *three: tuple(w / sum(three) for w in three)),
}

# ---------------------------------------------------------------- cells


def refused(
    carried=lambda a, e, c: a == "U-Net" and c != "cross-attention",
    outside=lambda a, e, c: c == "one sequence" and e != "language model",
    first=("architecture", "conditioning"), second=("encoder", "conditioning"), fits=(),
):  # fmt: skip
    def reason(architecture, encoder, conditioning):
        given = architecture, encoder, conditioning
        return first if carried(*given) else second if outside(*given) else fits

    return reason


CELLS = {
    "all exist": refused(lambda *_: False, lambda *_: False),
    "none exists": refused(lambda *_: True),
    "every U-Net": refused(carried=lambda a, e, c: a == "U-Net"),
    "U-Nets may join": refused(carried=lambda a, e, c: a == "U-Net" and c == "one sequence"),
    "U-Nets may be one sequence": refused(carried=lambda a, e, c: a == "U-Net" and c == "joint attention"),
    "transformers": refused(carried=lambda a, e, c: a == "transformer" and c != "cross-attention"),
    "transformers may not cross": refused(outside=lambda a, e, c: c == "cross-attention" and a == "transformer"),
    "CLIP beside one sequence": refused(outside=lambda a, e, c: c == "one sequence" and e == "CLIP"),
    "two readers beside one sequence": refused(outside=lambda a, e, c: c == "one sequence" and "+" in e),
    "no language model in one sequence": refused(outside=lambda a, e, c: c == "one sequence" and e[:3] == "lan"),
    "CLIP may not join": refused(outside=lambda a, e, c: c != "cross-attention" and e != "language model"),
    "architecture and encoder": refused(first=("architecture", "encoder")),
    "the same axes": refused(second=("architecture", "conditioning")),
    "exchanged axes": refused(first=("encoder", "conditioning"), second=("architecture", "conditioning")),
    "one axis": refused(first=("architecture",)),
    "three axes": refused(first=("architecture", "encoder", "conditioning")),
    "True": refused(first=True, second=True, fits=False),
    "None": refused(fits=None),
    "a sentence": refused(first="architecture and conditioning", second="encoder and conditioning", fits=""),
}

# ---------------------------------------------------------------- intervals


def bounded(
    z=1.959964, middle=lambda p, n, z: p + z * z / (2 * n),
    half=lambda p, n, z: z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5, below=lambda n, z: 1 + z * z / n,
    none=(0.0, 1.0), third=lambda a, b: (a & ~b, a != b), whole=lambda found: found,
):  # fmt: skip
    def of(right, asked):
        k, n = int(right.sum()), int(asked.sum())
        if n == 0:
            return none
        p = k / n
        m, h = middle(p, n, z), half(p, n, z)
        return (m - h) / below(n, z), (m + h) / below(n, z)

    def intervals(first, second):
        every = torch.ones_like(first)
        rows = [of(first, every), of(second, every), of(*third(first, second))]
        return whole(torch.tensor(rows, dtype=torch.float64))

    return intervals


WILSON = {
    "90 %": bounded(z=1.645),
    "99 %": bounded(z=2.576),
    "one deviation": bounded(z=1.0),
    "centred on the share": bounded(middle=lambda p, n, z: p),
    "the middle of a whole z²": bounded(middle=lambda p, n, z: p + z * z / n),
    "half of 4n": bounded(half=lambda p, n, z: z * (p * (1 - p) / n + z * z / (4 * n)) ** 0.5),
    "not rooted": bounded(half=lambda p, n, z: z * (p * (1 - p) / n + z * z / (4 * n * n))),
    "p alone": bounded(half=lambda p, n, z: z * (p / n + z * z / (4 * n * n)) ** 0.5),
    "of n − 1": bounded(half=lambda p, n, z: z * (p * (1 - p) / max(n - 1, 1) + z * z / (4 * n * n)) ** 0.5),
    "not below": bounded(below=lambda n, z: 1),
    "below, of 2n": bounded(below=lambda n, z: 1 + z * z / (2 * n)),
    "nothing known is ½": bounded(none=(0.5, 0.5)),
    "nothing known is 0": bounded(none=(0.0, 0.0)),
    "nothing known is not a number": bounded(none=(float("nan"),) * 2),
    "all prompts": bounded(third=lambda a, b: (a & ~b, torch.ones_like(a))),
    "the first where the second is right": bounded(third=lambda a, b: (a & b, b)),
    "where one is right": bounded(third=lambda a, b: (a & ~b, a | b)),
    "agreements": bounded(third=lambda a, b: (a & b, a == b)),
    "the second's": bounded(third=lambda a, b: (b & ~a, a != b)),
    "two rows": bounded(whole=lambda found: found[:2]),
    "ends first": bounded(whole=lambda found: found.T),
    "high, low": bounded(whole=lambda found: found.flip(1)),
    "single precision": bounded(whole=lambda found: found.float()),
    "in per cent": bounded(whole=lambda found: 100 * found),
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "paradigms exchanged": ('design.paradigm == "flow matching"', 'design.paradigm != "flow matching"'),
    "always flows": ('design.paradigm == "flow matching"', "True"),
    "never flows": ('design.paradigm == "flow matching"', "False"),
    "schedules exchanged": ("Linear() if flows else DDPM()", "DDPM() if flows else Linear()"),
    "one schedule": ("Linear() if flows else DDPM()", "DDPM()"),
    "weights written into": ("w.clone().requires_grad_()", "w.requires_grad_()"),
    "first weights keep": ("optimizer.step()", "pass"),
    "gradients add up": ("optimizer.zero_grad()", "pass"),
    "the rate stays": ("lr * (1 - i / steps)", "lr"),
    "the rate falls one step early": ("(1 - i / steps)", "(1 - (i + 1) / steps)"),
    "one step less": ("for i in range(steps):", "for i in range(steps - 1):"),
    "the first rows": ("torch.randint(len(pictures), (batch,), generator=generator)", "torch.arange(batch) % 4"),
    "rows from elsewhere": ("(batch,), generator=generator)", "(batch,))"),
    "clocks exchanged": (".sigmoid() if flows else", ".sigmoid() if not flows else"),
    "DDPM's clock for both": (
        "t = torch.randn(batch, generator=generator).sigmoid() if flows else torch.rand", "t = torch.rand",
    ),
    "one time a batch": ("alpha, sigma = (level", "t = t[:1].expand(batch)\n        alpha, sigma = (level"),
    "one noise a batch": ("torch.randn(x0.shape, generator=generator)",
        "torch.randn(x0[:1].shape, generator=generator).expand_as(x0)"),
    "picture and noise exchanged": ("alpha * x0 + sigma * eps, t", "sigma * x0 + alpha * eps, t"),
    "time not told": ("alpha * x0 + sigma * eps, t,", "alpha * x0 + sigma * eps, 0 * t,"),
    "captions in order": ("t, tokens[rows])", "t, tokens[rows.sort().values])"),
    "velocity turned round": ("eps - x0 if flows", "x0 - eps if flows"),
    "velocity for both": ("eps - x0 if flows else eps", "eps - x0"),
    "pictures asked": ("eps - x0 if flows else eps", "x0"),
    "absolute errors": (".square().mean()", ".abs().mean()"),
    "a sum": (".square().mean()", ".square().sum().sqrt()"),
    "one seed": ("torch.Generator().manual_seed(s))", "torch.Generator().manual_seed(seeds[0]))"),
    "noise of the run": ("generator=torch.Generator().manual_seed(s))", "generator=generator)"),
    "upwards": ("torch.linspace(1, 0, steps + 1)", "torch.linspace(1e-3, 1, steps + 1)"),
    "one step less to draw": ("torch.linspace(1, 0, steps + 1)", "torch.linspace(1, 0, steps + 2)"),
    "ends early": ("torch.linspace(1, 0, steps + 1)", "torch.linspace(1, 0.05, steps + 1)"),
    "asked at the end of the step": ("t.expand(len(x))", "s.expand(len(x))"),
    "untrained weights": ("said = net(now,", "said = net(weights,"),
    "velocity added": ("x - sigma * said if flows", "x + sigma * said if flows"),
    "not divided by α": ("(x - sigma * said) / alpha", "(x - sigma * said)"),
    "latents cut": ('design.space == "pixels"', "True"),
    "pixels not cut": ('design.space == "pixels"', "False"),
    "spaces exchanged": ('design.space == "pixels"', 'design.space == "latents"'),
    "cut to half": ("x0.clamp(-1, 1)", "x0.clamp(-0.5, 0.5)"),
    "cut at the end alone": ("x0 = x0.clamp(-1, 1)", "x0 = x0.clamp(-1, 1) if s == 0 else x0"),
    "old noise level": ("sigma_s / sigma * (x", "(x"),
    "old picture level": ("x = alpha_s * x0", "x = alpha * x0"),
    "what the network said as noise": (
        "sigma_s / sigma * (x - alpha * x0)", "sigma_s * (said if not flows else x + (1 - t) * said)",
    ),
    "the picture alone": ("        return x\n", "        return x0 * 0.9 + x * 0.1 + 0.01\n"),
    "pictures at once": ("    return draw\n", "    return draw(tokens, range(len(tokens)), 4)\n"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "15-cell", {"torch": torch, "Tensor": Tensor})


TestAnswers = answers(
    chapter="15_design_space",
    build="15-cell",
    experiment="15-open",
    wrong={"15-renamed": RENAMED, "15-weights": WEIGHTS, "15-cells": CELLS, "15-wilson": WILSON},
    right={"15-renamed": named(), "15-weights": weighed(), "15-cells": refused(), "15-wilson": bounded()},
    slips=SLIPS,
)


def test_the_two_rules_leave_what_the_design_space_leaves(master):
    reason = master("15-cells", {})
    left = [d for d in cells() if reason(d.architecture, d.encoder, d.conditioning) == ()]
    assert left == [d for d in cells() if d.reason is None]
    assert len(left) == 40
    assert len([d for d in cells() if refused(outside=lambda *_: False)(*_asked(d)) == ()]) == 48, "the control"


def _asked(design):
    return design.architecture, design.encoder, design.conditioning
