"""The figures of lecture 04: `python lectures/figures/04_classifier_guidance.py` writes lectures/figures/04_*.png.

About two minutes on one core: two small classifiers are trained. The curves of the last figure are those recorded by
benchmarks/fashion_classifier_guidance.py.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from minidiff import show, times
from minidiff.console import any_sign
from minidiff.data.mixtures import decoys, three_modes
from minidiff.data.real import FASHION_NAMES
from minidiff.guidance import bind, classifier
from minidiff.guides.classifier import PointClassifier
from minidiff.judges.wasserstein import w1
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, sample
from minidiff.schedules import DDPM, Linear
from minidiff.systems import fashion
from minidiff.training import diffuse, fit

HERE = Path(__file__).parent
RECORDED = HERE.parents[1] / "benchmarks" / "results"
LINE, DISCRETE, PLANE, STRAIGHT = three_modes(), DDPM(), decoys(), Linear()
PRIOR = bind(LINE.denoiser(DISCRETE))
COLOR = {"exact": show.style.BLUE, "noise-aware": show.style.ORANGE, "clean only": show.style.GREEN}


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def save(figure: plt.Figure, name: str) -> None:
    few = show.cropped(figure).quantize(128, dither=Image.Dither.NONE)
    few.save(HERE / f"04_{name}.png", optimize=True)


def arrow(x: Tensor, t: Tensor, y: Tensor | int) -> Tensor:
    """∇ log p(y|x_t) on the line: the conditional score minus the prior's."""
    return LINE.score(x, t, DISCRETE, y) - LINE.score(x, t, DISCRETE)


def answers() -> None:
    """What the exact classifier says of the middle hill, at five noise levels, and the arrows it gives."""
    x = show.line(3.0)
    figure, (left, right) = show.panels(1, 2, size=(4.2, 2.8))
    for t in (0.02, 0.1, 0.2, 0.4, 1.0):
        left.plot(x[:, 0], LINE.posterior_label(x, level(t), DISCRETE)[:, 1], label=f"$t$ = {t:g}")
        right.plot(x[:, 0], arrow(x, level(t), 1)[:, 0])
    left.set(xlabel="$x_t$", ylabel="$p(y = 1 | x_t)$", title="The more noise, the less sure")
    right.set(xlabel="$x_t$", ylabel=r"$\nabla \log p(y = 1 | x_t)$", ylim=(-12, 12), title="… and the weaker its push")
    left.legend()
    save(figure, "answers")


def one_step() -> None:
    """One step of Algorithm 1 from x_t = 0.7 towards the middle hill, against the exact product."""
    x, at, t = show.line(3.0), torch.full((1, 1), 0.7, dtype=torch.float64), level(0.2)
    figure, axes = show.panels(1, 2, size=(4.0, 2.7))
    for ax, steps in zip(axes, (10, 100)):
        s = t - 1 / steps
        (alpha, sigma), (alpha_s, sigma_s) = DISCRETE(t), DISCRETE(s)
        fresh = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2
        mean = alpha / alpha_s * sigma_s**2 / sigma**2 * at + alpha_s * fresh / sigma**2 * PRIOR(at, t)
        variance = fresh * sigma_s**2 / sigma**2
        shifted = mean + variance * arrow(at, t, 1)
        plain, moved = (-((x - m) ** 2)[:, 0] / (2 * variance) for m in (mean, shifted))
        product = (plain + LINE.log_prob_label(x, s, DISCRETE, 1)).softmax(0)
        missed = float((product - moved.softmax(0)).abs().sum() / 2)
        for values, name, style in (
            (plain.softmax(0), r"unguided $N(\mu, \Sigma)$", ":"),
            (product, r"$N(\mu, \Sigma) \cdot p(y|x_s)$", "-"),
            (moved.softmax(0), r"moved $N(\mu + \Sigma g, \Sigma)$", "--"),
        ):
            ax.plot(x[:, 0], values / 0.02, style, label=name)
        ax.set(xlim=(-0.6, 1.8), ylim=(0, 3.1), xlabel="$x_s$", ylabel="density")
        ax.set_title(f"a step of 1/{steps}: {missed:.1%} misplaced")
    axes[0].legend(fontsize=8)
    save(figure, "step")


def strength() -> None:
    """Both algorithms at w = 1 and w = 3: 3,000 points of each class, 250 steps."""
    y = torch.arange(3).repeat_interleave(3000)
    figure, axes = show.panels(1, 4, size=(2.7, 2.6), sharey=True)
    settings = [(number, w) for w in (1.0, 3.0) for number in (1, 2)]
    for ax, (number, w) in zip(axes, settings):
        generator = seeded(0)
        noise = randn((len(y), 1), generator, torch.float64)
        if number == 1:
            denoise, step = PRIOR, ddpm(DISCRETE, shift=lambda x, t, w=w: w * arrow(x, t, y))
        else:
            denoise = classifier(PRIOR, lambda x, t: LINE.log_prob_label(x, t, DISCRETE, y), DISCRETE, w)
            step = ddim(DISCRETE)
        *_, points = sample(denoise, noise, times.linear(250), step, generator)
        for k, part in enumerate(points.split(3000)):
            color, grid = show.style.CYCLE[k], show.line(2.4)
            ax.hist(part[:, 0], bins=100, range=(-2.4, 2.4), density=True, alpha=0.45, color=color)
            ax.plot(grid[:, 0], LINE.log_prob(grid, level(0.0), DISCRETE, k).exp(), color=color, linewidth=1.2)
        ax.set(xlabel="$x$", ylim=(0, 6), title=f"Algorithm {number}, $w$ = {w:g}")
    axes[0].set_ylabel("density")
    save(figure, "strength")


def trained() -> dict[str, PointClassifier]:
    def clean_clock(batch: int, generator: Generator | None = None) -> Tensor:
        return torch.zeros(batch)

    models = {}
    for name, clock, steps in (("noise-aware", times.uniform, 1500), ("clean only", clean_clock, 500)):
        model = initialised(lambda: PointClassifier(STRAIGHT, dim=2, n_classes=3), seed=0)
        *_, last = fit(model, diffuse(PLANE.draw(256), clock), steps, lr=3e-3, bar=False)
        models[name] = last.ema
    return models


def compare(model: PointClassifier, t: float) -> tuple[float, float]:
    """Cosine to the exact gradient, weighed by its length, and how many times too long the learned one is."""
    x0, y = PLANE.sample(2000, seeded(7))
    x_t = STRAIGHT.add_noise(x0, randn(x0.shape, seeded(8), torch.float64), level(t)).requires_grad_()
    got = torch.autograd.grad(model.log_prob(x_t, level(t), y).sum(), x_t)[0]
    x_t = x_t.detach()
    exact = PLANE.score(x_t, level(t), STRAIGHT, y) - PLANE.score(x_t, level(t), STRAIGHT)
    length = exact.norm(dim=1)
    cosine = (length * F.cosine_similarity(got, exact, dim=1, eps=1e-30)).sum() / length.sum()
    return float(cosine), float(got.norm(dim=1).mean() / length.mean())


def arrows(models: dict[str, PointClassifier]) -> None:
    levels = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
    figure, axes = show.panels(1, 3, size=(3.2, 2.9))
    show.points(*PLANE.sample(1200, seeded(0)), ax=axes[0], limit=2.6, size=5, title="Three classes with decoys")
    for name, model in models.items():
        cosines, lengths = zip(*(compare(model, t) for t in levels))
        axes[1].plot(levels, cosines, marker="o", markersize=3, color=COLOR[name], label=name)
        axes[2].semilogy(levels, lengths, marker="o", markersize=3, color=COLOR[name])
        print(f"arrows, {name}: mean cosine {sum(cosines) / len(cosines):.3f}, length at t = 0.98: {lengths[-1]:.1f}")
    axes[1].set(
        xlabel="noise level $t$",
        ylabel="cosine to the exact one",
        ylim=(0, 1.03),
        title="Direction: noise misleads clean-only",
    )
    axes[2].set(xlabel="noise level $t$", ylabel="length / exact length", title="Length: clean-only is far too sure")
    axes[1].legend(loc="lower left")
    save(figure, "arrows")


def clouds(models: dict[str, PointClassifier]) -> None:
    target = PLANE.of_class(0).sample(800, seeded(5))[0]
    guides = {"exact": lambda x, t: PLANE.log_prob_label(x, t, STRAIGHT, 0)}
    guides |= {n: lambda x, t, f=f: f.log_prob(x, t, torch.tensor(0)) for n, f in models.items()}
    figure, axes = show.panels(1, 3, size=(3.0, 3.1))
    for start in (0.999, 1.0):  # the figure shows the second; the first is a number of section 8
        for ax, (name, log_prob) in zip(axes, guides.items()):
            guided = classifier(bind(PLANE.denoiser(STRAIGHT)), log_prob, STRAIGHT)
            grid = times.linear(50, start=start)
            *_, x = sample(guided, randn((800, 2), seeded(3), torch.float64), grid, ddim(STRAIGHT))
            distance = w1(x, target)
            print(f"clouds, {name}, grid from {start}: W1 {distance:.3f}")
            if start == 1.0:
                outside = float((x.abs() > 3).any(1).double().mean())
                title = f"{name}: W1 = {distance:.2f}" + (f"\n{outside:.0%} are outside" if outside > 0.01 else "\n")
                show.density(lambda x: PLANE.log_prob(x, level(0.0), STRAIGHT, 0), 3.0, ax=ax, cmap="Greys", alpha=0.5)
                show.points(x, ax=ax, limit=3.0, title=title, size=5)
    save(figure, "clouds")


def clothes() -> None:
    model, judge = fashion.DENOISER.load(), fashion.JUDGE.load()
    guides = {"noise-aware": fashion.NOISY_CLASSIFIER.load(), "clean only": fashion.CLEAN_CLASSIFIER.load()}
    rows = [("noise-aware", w) for w in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)] + [("clean only", 8.0), ("clean only", 16.0)]
    y, pictures, names = torch.arange(10), [], []
    for name, w in rows:
        plain = bind(model, y=fashion.NULL["y"])
        guided = classifier(plain, lambda x, t, f=guides[name]: f.log_prob(x, t, y), model.schedule, w)
        noise = randn((10, 1, 28, 28), seeded(range(10)))
        *_, x = sample(guided, noise, times.linear(25), dpmpp_2m(model.schedule))
        pictures.append(x)
        names.append("no guidance" if w == 0 else f"{name}, w = {w:g}")
        print(f"clothes, {names[-1]}: {int((judge.predict(x) == y).sum())} of 10 judged right")
    ax = show.grid(torch.cat(pictures), rows=names, scale=0.75)
    ax.set_xticks([30 * i + 15 for i in range(10)], [name.replace(" ", "\n") for name in FASHION_NAMES], fontsize=8)
    save(ax.figure, "clothes")


def price() -> None:
    rows = json.loads((RECORDED / "fashion_classifier_guidance.json").read_text(encoding="utf-8"))["rows"]
    per_seed = [r["seed"] for r in rows]  # a benchmark that was interrupted leaves a seed unfinished: leave it out
    rows = [r for r in rows if per_seed.count(r["seed"]) == max(map(per_seed.count, per_seed))]
    real = json.loads((RECORDED / "fashion_cfg.json").read_text(encoding="utf-8"))["real"]
    figure, axes = show.panels(1, 3, size=(3.7, 3.0))
    for guide, name in (("noisy", "noise-aware"), ("clean", "clean only")):
        chosen = [r for r in rows if not r["labelled"] and (r["guide"] == guide or r["w"] == 0)]
        strengths = sorted({r["w"] for r in chosen})
        for ax, key, style in (
            (axes[0], "accuracy", "-"), (axes[0], "guide_accuracy", ":"), (axes[1], "diversity", "-"),
            (axes[2], "recall", "-"),
        ):  # fmt: skip
            values = torch.tensor([[r[key] for r in chosen if r["w"] == w] for w in strengths])
            who = {"accuracy": ", says the judge", "guide_accuracy": ", says the guide"}.get(key, "")
            ax.plot(strengths, values.mean(1), style, marker="o", markersize=3, color=COLOR[name], label=name + who)
            ax.fill_between(strengths, values.amin(1), values.amax(1), color=COLOR[name], alpha=0.2, linewidth=0)
    for ax in axes:
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_xticks([0, 1, 2, 4, 8, 16], ["0", "1", "2", "4", "8", "16"])
        ax.set_xlabel("strength $w$")
    axes[1].axhline(real["diversity"], color="black", linestyle="--", linewidth=1, label="real pictures")
    axes[2].axhline(real["recall"], color="black", linestyle="--", linewidth=1, label="real pictures")
    axes[0].set(
        ylim=(0, 1.55),
        yticks=[0, 0.25, 0.5, 0.75, 1],
        ylabel="share of the wanted class",
        title="The guide finds more right than the judge",
    )
    axes[1].set(ylim=(0, None), ylabel="diversity within a class", title="Noise-aware: below real ones from w = 2")
    axes[2].set(
        ylim=(0, 1.02), ylabel="share of real pictures covered", title="Noise-aware: recall falls from w = 8 on"
    )
    axes[0].legend(fontsize=8, loc="upper left")
    axes[1].legend(fontsize=8)
    save(figure, "price")


def main() -> None:
    answers()
    one_step()
    strength()
    models = trained()
    arrows(models)
    clouds(models)
    clothes()
    price()


if __name__ == "__main__":
    any_sign()
    main()
