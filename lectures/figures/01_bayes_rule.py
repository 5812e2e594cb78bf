"""The figures of lecture 01: `python lectures/figures/01_bayes_rule.py` writes lectures/figures/01_*.png."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

from minidiff import show, times
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import Denoise, bind, classifier
from minidiff.judges.wasserstein import w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Linear

HERE = Path(__file__).parent
WORLD, PLANE, SCHEDULE = three_modes(), ring(6, radius=1.6, std=0.35, n_classes=3), Linear()
CLEAN, GRID = torch.tensor(0.0, dtype=torch.float64), times.linear(50, start=0.999)


def slope(f, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def travel(denoise: Denoise, n: int = 2000, grid: Tensor | None = None) -> Tensor:
    """n points from noise to data, with every station: (51, n, 1)."""
    noise = GRID[0] * randn((n, 1), seeded(0), dtype=torch.float64)
    return torch.stack([noise, *sample(denoise, noise, GRID if grid is None else grid, heun(SCHEDULE))])


def guided(log_prob, w: float = 1.0) -> Denoise:
    return classifier(bind(WORLD.denoiser(SCHEDULE)), log_prob, SCHEDULE, w)


def save(figure: plt.Figure, name: str) -> None:
    with Image.open(io.BytesIO(show.png(figure))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(HERE / f"01_{name}.png", optimize=True)


def hills() -> None:
    figure, axes = show.panels(1, 3, size=(3.4, 2.7))
    for ax, t, title in zip(axes, (0.0, 0.3, 0.8), ("t = 0: 3 hills", "t = 0.3: 2 hills", "t = 0.8: 1 hill")):
        t = torch.tensor(t, dtype=torch.float64)
        log_p, score = (lambda x, t=t: WORLD.log_prob(x, t, SCHEDULE)), (lambda x, t=t: WORLD.score(x, t, SCHEDULE))
        show.hill(log_p, score, ax=ax, n=15, full=6.0, name="p_t(x)", title=title)
    save(figure, "hills")


def river() -> None:
    figure, axes = show.panels(1, 2, size=(5.0, 3.2), sharey=True)
    free = travel(bind(WORLD.denoiser(SCHEDULE)))[:, :40, 0]
    labels = WORLD.posterior_label(free[-1][:, None], CLEAN, SCHEDULE).argmax(1)
    show.river(lambda x, t: WORLD.log_prob(x, t, SCHEDULE), GRID, free, labels, ax=axes[0])
    axes[0].set_title("The prior's scores: each hill in its proportion")
    asked = travel(guided(lambda x, t: WORLD.log_prob_label(x, t, SCHEDULE, 2)))[:, :40, 0]
    show.river(lambda x, t: WORLD.log_prob(x, t, SCHEDULE, 2), GRID, asked, torch.full((40,), 2), ax=axes[1])
    axes[1].set_title("+ the classifier's: the same noise, hill 2 only")
    save(figure, "river")


def fields() -> None:
    t, at = torch.tensor(0.4, dtype=torch.float64), {"limit": 2.4}
    log_py = lambda x: PLANE.log_prob_label(x, t, SCHEDULE, 0)
    prior, likelihood = lambda x: PLANE.score(x, t, SCHEDULE), lambda x: slope(log_py, x)
    figure, axes = show.panels(1, 3, size=(3.2, 3.4))
    show.density(lambda x: PLANE.log_prob(x, t, SCHEDULE), ax=axes[0], alpha=0.8, **at)
    show.density(log_py, ax=axes[1], cmap="Oranges", alpha=0.8, **at)
    show.density(lambda x: PLANE.log_prob(x, t, SCHEDULE, 0), ax=axes[2], cmap="Greens", alpha=0.8, **at)
    drawn = {
        "The prior: to any cloud": prior,
        "+ classifier: away from the others": likelihood,
        "= posterior: to class 0 alone": lambda x: prior(x) + likelihood(x),
    }
    for ax, (title, vectors) in zip(axes, drawn.items()):
        show.field(vectors, ax=ax, n=15, scale=90.0, title=title, **at)
    save(figure, "fields")


def clean() -> None:
    log_py = lambda x, t: WORLD.log_prob_label(x, t, SCHEDULE, 2)
    clean_py = lambda x, t: log_py(x, CLEAN)
    levels, errors = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], []
    for t in torch.tensor(levels, dtype=torch.float64):
        x0 = WORLD.sample(1000, seeded(5))[0]
        x = SCHEDULE.add_noise(x0, randn(x0.shape, seeded(6), torch.float64), t)
        right = slope(lambda x, t=t: log_py(x, t), x)
        errors.append(float((slope(lambda x, t=t: clean_py(x, t), x) - right).norm() / right.norm()))
    figure, (left, right) = show.panels(1, 2, size=(4.4, 3.2))
    left.loglog(levels, errors, marker="o", markersize=4)
    title = f"Clean, $t$ = 0.9: off by {errors[-1]:.0f} times the truth"
    left.set(xlabel="noise level $t$", ylabel="relative error of the gradient", title=title)
    wanted = WORLD.of_class(2).sample(2000, seeded(202))[0]
    for name, f in {"noisy": log_py, "clean": clean_py}.items():
        points = travel(guided(f), grid=times.linear(50))[-1]  # kinder to the clean one than GRID
        label = f"{name}: W1 = {w1(points, wanted):.2f}"
        right.hist(points[:, 0], bins=80, range=(-1, 6), density=True, alpha=0.6, label=label)
    x = show.line(6.0)
    right.plot(x, WORLD.log_prob(x, CLEAN, SCHEDULE, 2).exp(), color="black", label="exact $p(x|y)$")
    right.set(xlim=(-1, 6), xlabel="$x$", ylabel="density", title="Guided by it, many fly past the hill")
    right.legend(loc="upper right")
    save(figure, "clean")


def exponent() -> None:
    x, log_py = show.line(6.0, 2401), lambda x, t: WORLD.log_prob_label(x, t, SCHEDULE, 2)
    figure, axes = show.panels(1, 3, size=(3.2, 2.8), sharey=True)
    for ax, w in zip(axes, (0.0, 1.0, 3.0)):
        tilted = (WORLD.log_prob(x, CLEAN, SCHEDULE) + w * log_py(x, CLEAN)).softmax(0)
        wanted = x[torch.multinomial(tilted, 2000, replacement=True, generator=seeded(300))]
        points = travel(guided(log_py, w))[-1]
        ax.hist(points[:, 0], bins=80, range=(-2.5, 2.5), density=True, alpha=0.5, label="sampled")
        ax.plot(x, tilted / 0.005, color="black", linewidth=1.4, label="$p(x)\\,p(y|x)^w$")
        ax.set(xlim=(-2.5, 2.5), xlabel="$x$", title=f"w = {w:g}: W1 {w1(points, wanted):.2f}")
    axes[0].legend(loc="upper right")
    save(figure, "exponent")


if __name__ == "__main__":
    for draw in (hills, river, fields, clean, exponent):
        draw()
