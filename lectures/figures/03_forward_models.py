"""The figures of lecture 03: `python lectures/figures/03_forward_models.py` writes lectures/figures/03_*.png.

It also prints the numbers of the lecture's tables. About three minutes on one core.
"""

from dataclasses import fields
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff import operators, show, times
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.mixtures import ring
from minidiff.data.prompts import World, place
from minidiff.data.scenes import Scenes, render
from minidiff.editing import sdedit
from minidiff.guidance import Denoise, bind, classifier, dps, likelihood, project
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import Step, ddim, ddpm, heun, sample
from minidiff.schedules import Linear
from minidiff.show.figures.forward_models import sheet
from minidiff.systems import scenes_captioner, scenes_unconditional

HERE, F64, LINEAR, NOISE, N = Path(__file__).parent, torch.float64, Linear(), 0.1, 128
TRUTH = place(scenes_unconditional.WORLD.prompts(N, 7, "test"), 8)
X0, MODEL = render(TRUTH), scenes_unconditional.MODEL.load()
KEPT = torch.rand(16, 16, generator=seeded(3)) < 0.25
PROBLEMS = {
    "inpaint": operators.mask(KEPT), "deblur": operators.blur(1.5), "colourise": operators.grey(),
    "enlarge": operators.downsample(2),
}  # fmt: skip


def save(figure: plt.Figure, name: str) -> None:
    show.cropped(figure).save(HERE / f"03_{name}.png", optimize=True)


def points() -> None:
    """Samplers of the points' posterior against exact samples; W1 over three seeds."""
    world, A, y = ring(8), torch.tensor([[1.0, 0.5]], dtype=F64), torch.tensor([0.9], dtype=F64)
    posterior, prior, op, n = world.observed(A, y, 0.3), bind(world.denoiser(LINEAR)), operators.matrix(A), 3000
    target, along = posterior.sample(60_000, seeded(9))[0], A[0] / A[0].norm()
    across = torch.stack([-along[1], along[0]])
    guides = {
        "exact $p(y|x_t)$": bind(posterior.denoiser(LINEAR)),
        "DPS": likelihood(prior, operators.log_likelihood(op, y[None], 0.3), LINEAR),
        "DPS, ζ = 1": dps(prior, op, y[None], LINEAR, 1.0), "DPS, ζ = 4": dps(prior, op, y[None], LINEAR, 4.0),
        "projection": project(prior, op, operators.pseudo_inverse(op, (2,)), y[None]),
    }  # fmt: skip
    figure, axes = show.panels(1, 4, size=(2.6, 2.8))
    shown = [target[:n]]
    for name, guide in guides.items():
        for label, step, steps in (("ddpm 200", ddpm, 200), ("ddpm 800", ddpm, 800), ("heun 60", heun, 60)):
            if label == "ddpm 800" and name != "DPS":
                continue
            rows = []
            for seed in range(3):
                start = randn((n, 2), seeded(10 + seed), F64)
                *_, x = sample(guide, start, times.linear(steps, start=0.999), step(LINEAR), seeded(20 + seed))
                rows.append([w1(x @ along, target @ along), w1(x @ across, target @ across)])
                if seed == 0 and label == "ddpm 200" and "ζ" not in name:
                    shown.append(x)
            print("points", name, label, [[round(v, 3) for v in pair] for pair in zip(*rows)], flush=True)
    for u, which in ((along, "along"), (across, "across")):
        print("points floor", which, floor(lambda k, g, u=u: posterior.sample(k, g)[0] @ u, n))
    titles = ("true posterior", "exact $p(y|x_t)$", "DPS", "projection")
    for ax, x, title in zip(axes, shown, titles):
        zero = torch.tensor(0.0, dtype=F64)
        show.density(lambda v, z=zero: world.log_prob(v, z, LINEAR), ax=ax, cmap="Greys", alpha=0.4)
        show.points(x, ax=ax, limit=2.4, size=2, alpha=0.3, title=title)
    save(figure, "points")


def too_strong() -> None:
    """How many times too hard DPS pushes, for one Gaussian with variance 1: 1 + Var[x0|x_t]/noise²."""
    t = torch.linspace(0.001, 0.999, 300, dtype=F64)
    alpha, sigma = LINEAR(t)
    figure, ax = plt.subplots(figsize=(5.8, 2.9))
    for noise in (1.0, 0.3, 0.1):
        ax.semilogy(t, 1 + sigma**2 / (alpha**2 + sigma**2) / noise**2, label=f"noise {noise:g}")
    ax.set(xlabel="noise level $t$", ylabel="DPS's push / exact push")
    ax.set_title("The less measurement noise, the more DPS overdoes it")
    ax.legend()
    save(figure, "push")


def draw(guided: Denoise, n: int = N, steps: int = 50, step: Step | None = None) -> Tensor:
    start = randn((n, 3, 16, 16), seeded(range(n)))
    *_, x = sample(guided, start, times.linear(steps), step or ddpm(LINEAR), seeded(range(1000, 1000 + n)))
    return x


def right(x: Tensor, colour: bool = True) -> Tensor:
    """(B,) bool: which of the first B scenes were found; without colour: shapes and places."""
    read, rows = parse(x), len(x)
    hide = lambda s: s if colour else Scenes(s.kind, torch.where(s.kind >= 0, 0, -1), s.size, s.row, s.column, s.ground)
    truth = Scenes(*(getattr(TRUTH, f.name)[:rows] for f in fields(Scenes)))
    return read.readable & same(hide(read.scenes), hide(truth))


def correct(x: Tensor, colour: bool = True) -> float:
    return float(right(x, colour).double().mean())


def inverse_problems() -> None:
    plain = draw(bind(MODEL))
    for name, forward in PROBLEMS.items():
        y = operators.observe(forward, X0, NOISE, seeded(1))
        y = forward(y) if name == "inpaint" else y
        inverse, likely = operators.pseudo_inverse(forward, (3, 16, 16), rtol=0.3), operators.log_likelihood
        guided = likelihood(bind(MODEL), likely(forward, y, NOISE), LINEAR)
        ways = {
            "truth": X0, "unguided": plain, "A⁺y": inverse(y),
            "projection": draw(project(bind(MODEL), forward, inverse, y)), "DPS": draw(guided),
            "DPS, ddim": draw(guided, step=ddim(LINEAR)),
            "DPS, ζ = 4": draw(dps(bind(MODEL), forward, y, LINEAR, 4.0)),
        }  # fmt: skip
        share = float(KEPT.double().mean()) if name == "inpaint" else 1.0
        for way, x in ways.items():
            rms = float(operators.residual(forward, x, y).square().mean().sqrt()) / share**0.5
            print(f"{name}: {way}: residual {rms:.3f}, scene {correct(x):.3f}, without colour {correct(x, False):.3f}")


def restored() -> None:
    """The first ten scenes of the table: what was measured, and what DPS makes of it, each with its verdict."""
    rows, below = {"truth": X0[:10]}, {}
    for name, forward in PROBLEMS.items():
        y = operators.observe(forward, X0, NOISE, seeded(1))
        y = (forward(y) if name == "inpaint" else y)[:10]
        guided = likelihood(bind(MODEL), operators.log_likelihood(forward, y, NOISE), LINEAR)
        rows[f"{name}: y"], rows[f"{name}: DPS"] = y, (x := draw(guided, 10))
        pairs = zip(right(x).tolist(), right(x, colour=False).tolist())
        below[f"{name}: DPS"] = ["right" if a else "other colour" if b else "other scene" for a, b in pairs]
    sheet(rows, "One model, four measurements: what was measured, and one sample of DPS each", below, scale=0.8)
    save(plt.gcf(), "scenes")


def strokes() -> None:
    brush = operators.strokes(4)
    guide, sweep = brush(X0), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    edit = lambda t0: sdedit(bind(MODEL), guide, t0, ddpm(LINEAR), LINEAR, max(5, round(40 * t0)), seeded(range(N)))
    edits = [guide, *map(edit, sweep)]
    likely = draw(likelihood(bind(MODEL), operators.log_likelihood(brush, guide, NOISE), LINEAR))
    price = lambda x: (float(operators.residual(brush, x, guide).mean()), float(parse(x).error.mean()))
    prices = torch.tensor([price(x) for x in edits])
    print(
        "strokes, t0, (faithful, real):",
        [(t, *(round(v, 3) for v in p)) for t, p in zip([0, *sweep], prices.tolist())],
    )
    print("strokes, likelihood:", price(likely), "scene:", correct(likely))
    figure, (left, right) = show.panels(1, 2, size=(4.2, 2.9))
    left.plot([0, *sweep], prices[:, 0], marker="o", label="distance to the strokes")
    left.plot([0, *sweep], prices[:, 1], marker="o", label="distance to a real scene")
    left.set(xlabel="$t_0$", ylabel="root mean square", title="More noise: more real, less faithful")
    right.plot(*prices.T, marker="o", color=show.style.GREEN, label="SDEdit, $t_0$ from 0 to 1")
    right.plot(*price(likely), "*", markersize=13, color=show.style.RED, label="strokes as likelihood")
    right.set(
        xlabel="distance to the strokes",
        ylabel="distance to a real scene",
        title="Knowing the brush: far more faithful",
    )
    left.legend()
    right.legend()
    save(figure, "trade")
    shown = [X0, guide, *(edits[i] for i in (2, 4, 6, 8)), likely]
    rows = ["scene", "strokes", "$t_0$ = 0.2", "0.4", "0.6", "0.8", "likelihood"]
    save(show.grid(torch.cat([x[:10] for x in shown]), columns=10, rows=rows).figure, "strokes")


def sentences() -> None:
    captioner, n = scenes_captioner.MODEL.load(), 64
    prompts = scenes_unconditional.WORLD.prompts(n, 11, "test")
    asked = scenes_captioner.tokens(captions(prompts))
    pairs = World(families=("relation",)).prompts(32, 5, "train")
    for w in (0.0, 1.0, 3.0, 6.0, 12.0, 24.0):
        x = draw(classifier(bind(MODEL), lambda x, t: captioner.log_prob(x, t, asked), LINEAR, w), n)
        shuffled = torch.stack([matches(prompts, x.roll(k, 0)).double() for k in range(1, 33)]).mean()
        print(f"captions, w = {w:g}: own {matches(prompts, x).double().mean():.3f}, another's {shuffled:.3f}, "
              f"readable {parse(x).readable.double().mean():.3f}", flush=True)  # fmt: skip
    both = [*pairs, *(p.swapped() for p in pairs)]
    words = scenes_captioner.tokens(captions(both))
    guided = classifier(bind(MODEL), lambda x, t: captioner.log_prob(x, t, words), LINEAR, 12.0)
    start = randn((32, 3, 16, 16), seeded(range(32))).repeat(2, 1, 1, 1)
    *_, x = sample(guided, start, times.linear(50), ddpm(LINEAR), seeded([*range(32), *range(32)]))
    print(
        "relations: own",
        float(matches(both, x).double().mean()),
        "swapped",
        float(matches(both[32:] + both[:32], x).double().mean()),
    )


def obeyed() -> None:
    """Eight captions at four strengths: a row for each strength, the caption at the foot of each column."""
    captioner, strengths = scenes_captioner.MODEL.load(), (0.0, 1.0, 6.0, 12.0)
    prompts = scenes_unconditional.WORLD.prompts(64, 11, "test")[:8]
    asked, rows = scenes_captioner.tokens(captions(prompts)), {}
    for w in strengths:
        rows[f"w = {w:g}"] = draw(classifier(bind(MODEL), lambda x, t: captioner.log_prob(x, t, asked), LINEAR, w), 8)
    shown = int(matches(prompts, rows["w = 12"]).sum())
    sheet(rows, f"At w = 12, {shown} of these 8 show their caption", {"w = 12": captions(prompts)}, scale=1.15)
    save(plt.gcf(), "sentences")


def main() -> None:
    too_strong()
    points()
    inverse_problems()
    restored()
    strokes()
    sentences()
    obeyed()


if __name__ == "__main__":
    any_sign()
    main()
