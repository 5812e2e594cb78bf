"""The figures of lecture 05: `python lectures/figures/05_classifier_free_guidance.py` writes them beside itself."""

import io
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

from minidiff import show, times
from minidiff.data.mixtures import lookalikes
from minidiff.guidance import Denoise, bind, extrapolate, within
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, heun, sample
from minidiff.schedules import Karras, Linear
from minidiff.show.style import BLUE, GREEN, ORANGE, RED
from minidiff.systems import fashion

HERE = Path(__file__).parent
RECORD = HERE.parents[1] / "benchmarks" / "results" / "fashion_cfg.json"
WORLD, SCHEDULE = lookalikes(), Linear()
EXACT, CLEAN = WORLD.denoiser(SCHEDULE), torch.tensor(0.0, dtype=torch.float64)
STRENGTHS = (-1.0, 0.0, 1.0, 3.0, 7.0, 15.0)


def save(figure: plt.Figure, name: str) -> None:
    with Image.open(io.BytesIO(show.png(figure))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(HERE / f"05_{name}.png", optimize=True)


def generate(denoise: Denoise, n: int = 1200) -> Tensor:
    *_, x = sample(denoise, randn((n, 2), seeded(0), torch.float64), times.linear(25), heun(SCHEDULE))
    return x


def sweep() -> None:
    y = torch.arange(1200) % 2
    figure, axes = show.panels(2, 3, size=(2.6, 2.6))
    for ax, w in zip(axes, STRENGTHS):
        x = generate(extrapolate(bind(EXACT, y=y), bind(EXACT), w))
        right = float((WORLD.posterior_label(x, CLEAN, SCHEDULE).argmax(1) == y).double().mean())
        show.points(x, y, ax=ax, limit=2.6, size=3, title=f"w = {w:g}: accuracy {right:.2f}")
    figure.suptitle("Lookalikes are given up, then the typical clouds shrink and move out")
    save(figure, "sweep")


def tilted() -> None:
    line = torch.linspace(-2.4, 2.4, 241, dtype=torch.float64)
    at = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    weight = WORLD.log_prob(at, CLEAN, SCHEDULE, 0) + 3 * WORLD.log_prob_label(at, CLEAN, SCHEDULE, 0)
    density = weight.softmax(0)
    far = float(density[at[:, 1].abs() > 0.75].sum())
    plain = bind(EXACT, y=0)
    guided = extrapolate(plain, bind(EXACT), 3.0)
    figure, axes = show.panels(1, 3, size=(2.9, 2.9))
    levels = torch.linspace(0.02, 1.0, 12) * float(density.max())
    axes[0].contourf(line, line, density.reshape(241, 241), levels=levels, cmap="Blues", extend="max")
    axes[0].set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title=f"tilted density: {far:.2f}")
    for ax, denoise, name in (
        (axes[1], guided, "guided"),
        (axes[2], within(guided, plain, 0.0, 0.3), "for t ≤ 0.3 only"),
    ):
        x = generate(denoise)
        show.points(x, ax=ax, size=3, title=f"{name}: {float((x[:, 1].abs() > 0.75).double().mean()):.2f}")
    for ax in axes:
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4))
    figure.suptitle(
        "Guidance empties lookalike clouds beyond the tilted density\n(class 0, w = 3; share in them, data: 0.67)"
    )
    save(figure, "tilted")


def variance() -> None:
    path = Karras(sigma_min=0.01, sigma_max=20.0)
    gamma = torch.linspace(1, 8.2, 200)
    figure, (ax,) = show.panels(1, 1, size=(5.4, 3.4))
    ax.semilogy(gamma, 2 / (gamma + 1), "--", color=GREEN, label="tilted density: 2/(γ + 1)")
    ax.semilogy(gamma, (2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), color=ORANGE, label="SDE, derived")
    ax.semilogy(gamma, 2 ** (1 - gamma), color=BLUE, label="ODE, derived")
    good, bad = ((lambda x, t, v=v: v / (v + path(t)[1] ** 2) * x) for v in (1.0, 2.0))
    for step, steps, colour in ((heun(path), 100, BLUE), (ddpm(path, "large"), 500, ORANGE)):
        for g in (1.0, 2.0, 3.0, 4.0, 8.0):
            generator = seeded(0)
            start = 20 * randn((20_000, 1), generator, torch.float64)
            *_, x = sample(extrapolate(good, bad, g - 1), start, times.linear(steps), step, generator)
            ax.plot(g, float(x.var()), "o", color=colour, label="measured" if g == 1.0 else None)
    ax.set(xlabel="γ = 1 + w", ylabel="variance", title="Neither sampler follows the tilted density")
    ax.legend()
    save(figure, "variance")


def clothes() -> None:
    rows = [fashion.pictures(range(10), w, per_class=1) for w in STRENGTHS]
    ax = show.grid(torch.cat(rows), rows=[f"w = {w:g}" for w in STRENGTHS], scale=0.75)
    ax.set_xticks([30 * i + 15 for i in range(10)], fashion.FASHION_NAMES, rotation=30)
    ax.set_title("From ignoring the label (top) to harsh black and white (bottom)")
    save(ax.figure, "fashion")


def price() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    whole = [row for row in record["rows"] if (row["low"], row["high"]) == (0.0, 1.0)]
    names = {
        "accuracy": "accuracy", "diversity": "diversity per class", "recall": "neighbour recall",
        "out_of_range": "pixels beyond ±1.05",
    }  # fmt: skip
    figure, axes = show.panels(1, 4, size=(2.5, 2.4))
    for ax, (key, name) in zip(axes, names.items()):
        for seed, colour in enumerate((BLUE, ORANGE, RED)):
            values = [row[key] for row in whole if row["seed"] == seed]
            ax.plot(range(6), values, marker="o", markersize=3, color=colour)
        ax.axhline(record["real"][key], color="black", linestyle=":", linewidth=1)
        ax.set(xticks=range(6), xticklabels=[f"{w:g}" for w in STRENGTHS], xlabel="w", title=name)
        ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    figure.suptitle(
        "From w = 0 on every step costs diversity and recall; from w = 3 on there is no accuracy left to buy\n"
        "(500 pictures a point; a colour for each of three seeds; dotted: real test pictures)"
    )
    save(figure, "price")


if __name__ == "__main__":
    for draw in (sweep, tilted, variance, clothes, price):
        draw()
