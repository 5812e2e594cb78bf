"""The figures of lecture 02. Run `python lectures/figures/02_conditional_training.py`; takes about 20 seconds.

The trained networks' errors come from benchmarks/results/conditional_training.json; everything else is computed here.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from minidiff import show, times
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import bind
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.show.style import BLUE, GREEN, ORANGE, RED

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "conditional_training.json"
COLOURS = {"eps": BLUE, "x0": ORANGE, "v": GREEN, "velocity": RED}


def save(name: str) -> None:
    plt.savefig(HERE / f"02_{name}.png", dpi=100)
    plt.close()


def exact_eps(x_t: Tensor, t: Tensor, y: int | None) -> Tensor:
    alpha, sigma = Cosine()(t)
    return (x_t - alpha * three_modes().denoise(x_t, t, Cosine(), y)) / sigma


def average() -> None:
    """200,000 pairs (x_t, ε) in bins of x_t: their averages and the exact curves."""
    t = torch.tensor(0.3, dtype=torch.float64)
    x0, y = three_modes().sample(200_000, seeded(2))
    eps = randn(x0.shape, seeded(3), torch.float64)
    x_t = Cosine().add_noise(x0, eps, t)
    edges = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
    middle, box = (edges[1:] + edges[:-1])[:, None] / 2, torch.bucketize(x_t[:, 0].contiguous(), edges) - 1
    _, (left, right) = show.panels(1, 2, size=(4.4, 3.2), sharey=True)
    left.plot(x_t[:4000], eps[:4000], ".", color="grey", markersize=1.5, alpha=0.5)
    for ax, label, rows in [(left, None, y >= 0)] + [(right, k, y == k) for k in range(3)]:
        counts = torch.stack([(rows & (box == k)).sum() for k in range(30)])
        means = torch.stack([eps[rows & (box == k), 0].mean() for k in range(30)])
        many = counts > 500
        (drawn,) = ax.plot(middle[many], exact_eps(middle, t, label)[many], label=f"y = {label}")
        ax.plot(middle[many], means[many], "o", markersize=4, color=drawn.get_color())
    left.set(xlabel="$x_t$", ylabel=r"noise $\varepsilon$", title="The average noise (dots) lies on the exact curve")
    right.set(xlabel="$x_t$", title="Given the label: another curve each")
    right.legend()
    save("average")


def weights(ax: Axes) -> None:
    t = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)
    alpha, sigma = Linear()(t)
    curves = {"eps": alpha / sigma, "x0": torch.ones_like(t), "v": (alpha**2 + sigma**2) / sigma, "velocity": 1 / sigma}
    for name, curve in curves.items():
        ax.semilogy(t, curve**2, color=COLOURS[name], label=name)
    ax.set(
        xlabel="$t$", ylabel=r"weight of $\|\hat x_0 - x_0\|^2$", title="ε: 361 at t = 0.05, nothing at t = 1 (Linear)"
    )
    ax.legend()


def learned(ax: Axes) -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name, colour in COLOURS.items():
        runs = [v["bins"] for k, v in found.items() if k.startswith(f"points/{name} on Cosine")]
        ax.semilogy(
            torch.arange(10) / 10 + 0.05, torch.tensor(runs).mean(0), "o-", markersize=4, color=colour, label=name
        )
    ax.axhline(0.05, color="black", linewidth=1)
    ax.set(
        xlabel="$t$",
        ylabel=r"relative error of the learned $\varepsilon$",
        title="$x_0$ fails at small $t$, ε near 1 (Cosine)",
    )
    ax.legend()


def weights_and_errors() -> None:
    _, (left, right) = show.panels(1, 2, size=(4.4, 3.3))
    weights(left)
    learned(right)
    save("weights")


def orders(ax: Axes) -> None:
    """Error against calls on the eight clouds, between t = 0.98 and 0.02, where no formula changes."""
    path, start, work = Linear(), randn((100, 2), seeded(15), torch.float64), [8, 16, 32, 64, 128]
    denoise = bind(ring().denoiser(path), y=0)
    grid = lambda steps: times.linear(steps, start=0.98, end=0.02)
    *_, reference = sample(denoise, start, grid(400), heun(path))
    errors = {}
    for name, step, calls in (("Euler", euler(path), 1), ("Heun", heun(path), 2), ("DPM++ 2M", dpmpp_2m(path), 1)):
        ends = [list(sample(denoise, start, grid(n // calls), step))[-1] for n in work]
        errors[name] = work, [float((x - reference).norm(dim=1).mean()) for x in ends]
    show.slopes(
        errors,
        ylabel="distance to the exact end point",
        title="Heun and 2M fall faster than Euler; Heun is ahead here",
        ax=ax,
    )


def few_calls(ax: Axes) -> None:
    """20,000 points after 8 calls of the exact denoiser, on the three hills."""
    noise, line, x = randn((20_000, 1), seeded(0), torch.float64), three_modes(), show.line(2.2)
    ax.fill_between(x[:, 0], line.log_prob(x, torch.tensor(0.0), Linear()).exp(), color="grey", alpha=0.3, linewidth=0)
    for path, step, colour, name in (
        (DDPM(), ddpm(DDPM()), RED, "DDPM, ancestral"), (Linear(), euler(Linear()), BLUE, "Euler, straight path"),
        (Linear(), dpmpp_2m(Linear()), GREEN, "DPM++ 2M, straight path"),
    ):  # fmt: skip
        *_, end = sample(bind(line.denoiser(path)), noise, times.linear(8), step, seeded(1))
        ax.hist(
            end[:, 0].numpy(),
            80,
            range=(-2.2, 2.2),
            density=True,
            histtype="step",
            color=colour,
            linewidth=1.5,
            label=name,
        )
    ax.set(
        xlabel="$x$", ylabel="density", ylim=(0, 1.5), title="After 8 calls (grey: exact) DDPM still fills the valleys"
    )
    ax.legend(fontsize=8, loc="upper right")


def samplers() -> None:
    _, (left, right) = show.panels(1, 2, size=(4.6, 3.6))
    orders(left)
    few_calls(right)
    save("samplers")


if __name__ == "__main__":
    average()
    weights_and_errors()
    samplers()
