"""The figures of chapter 04: what classifiers say in noise, guided hills, clouds and clothes, the price of strength."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.line import line
from minidiff.show.plots import grid, points
from minidiff.show.style import BLUE, CYCLE, GREEN, ORANGE, panels

COLOR = {"exact": BLUE, "noise-aware": ORANGE, "clean only": GREEN}
Curves = Mapping[str, Tensor]


def answers(x: Tensor, said: Mapping[float, Tensor], push: Mapping[float, Tensor]) -> None:
    """p(y = 1|x_t) and the slope of its logarithm over x (N, 1), for every noise level t: both (N,)."""
    _, (left, right) = panels(1, 2, size=(4.2, 2.9))
    for t in said:
        left.plot(x[:, 0], said[t], label=f"$t$ = {t:g}")
        right.plot(x[:, 0], push[t])
    left.set(xlabel="$x_t$", ylabel="$p(y = 1 | x_t)$", title="The more noise, the less sure")
    right.set(xlabel="$x_t$", ylabel=r"$\nabla \log p(y = 1 | x_t)$", title="… and the weaker the push", ylim=(-12, 12))
    left.legend()
    plt.show()


def steps(x: Tensor, shown: Mapping[int, tuple[Tensor, Tensor, Tensor, float]]) -> None:
    """For a step of 1/n each: the unguided density, the exact product, the moved Gaussian (N,), the share misplaced."""
    _, axes = panels(1, len(shown), size=(3.9, 2.8))
    width = float(x[1, 0] - x[0, 0])
    for ax, (n, (plain, product, moved, missed)) in zip(axes, shown.items()):
        ax.plot(x[:, 0], plain / width, ":", label="unguided step")
        ax.plot(x[:, 0], product / width, label="times $p(y|x_s)$")
        ax.plot(x[:, 0], moved / width, "--", label="moved")
        ax.set(xlim=(-0.7, 1.7), xlabel="$x_s$", ylabel="density", title=f"a step of 1/{n}: {missed:.1%} misplaced")
    axes[0].legend(loc="upper left")
    plt.show()


def hills(drawn: Mapping[str, Sequence[Tensor]], exact: Sequence[Tensor], title: str, top: float = 7.0) -> None:
    """Histograms of the samples (N, 1) of each class, over the exact densities on `line(2.5)`."""
    figure, axes = panels(1, len(drawn), size=(4.2, 2.7), sharey=True)
    for ax, (name, classes) in zip(axes, drawn.items()):
        for y, samples in enumerate(classes):
            ax.hist(samples[:, 0], bins=120, range=(-2.5, 2.5), density=True, alpha=0.45, color=CYCLE[y])
            ax.plot(line(2.5)[:, 0], exact[y], color=CYCLE[y], linewidth=1.2, label=f"$p(x|y = {y})$")
        ax.set(xlabel="$x$", title=name, ylim=(0, top))
    axes[0].set_ylabel("density (bars: samples)")
    axes[0].legend()
    figure.suptitle(title)
    plt.show()


def one_hill(samples: Tensor, exact: Tensor, title: str) -> Figure:
    """One class of `hills`, for the widget."""
    figure, (ax,) = panels(1, 1, size=(5.2, 2.8))
    ax.hist(samples[:, 0], bins=150, range=(-2.5, 2.5), density=True, alpha=0.5, label="samples")
    ax.plot(line(2.5)[:, 0], exact, color="black", label="$p(x|y)$")
    ax.set(xlabel="$x$", ylabel="density", ylim=(0, 8), title=title)
    ax.legend(loc="upper left")
    return figure


def errors(steps: Sequence[int], curves: Mapping[str, Sequence[float]], lowest: float, title: str) -> None:
    """W1 against the number of steps, both on log axes, and the floor."""
    _, ax = plt.subplots(figsize=(5.6, 3.2))
    for name, values in curves.items():
        ax.loglog(steps, values, marker="o", label=name)
    ax.axhline(lowest, color="black", linestyle=":", label="floor: two exact samples")
    ax.set(xlabel="steps", ylabel="W1 to $p(x|y = 1)$", title=title)
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.set_yticks([0.003, 0.01, 0.03, 0.1], ["0.003", "0.01", "0.03", "0.1"])
    ax.minorticks_off()
    ax.legend()
    plt.show()


def _levels(ax: Axes, curves: Curves, column: int, **options: str) -> None:
    for name, curve in curves.items():
        ax.plot(curve[:, 0], curve[:, column], marker="o", markersize=3, color=COLOR[name], label=name)
    ax.set(xlabel="noise level $t$", **options)


def quality(curves: Curves, ignorance: float) -> None:
    """Rows (t, accuracy, cross-entropy) for each classifier; ignorance: the loss of knowing nothing."""
    _, axes = panels(1, 2, size=(3.9, 2.8))
    _levels(axes[0], curves, 1, ylabel="share named right", title="Equally many right, within 2 points …")
    _levels(axes[1], curves, 2, ylabel="cross-entropy", title="… but clean-only is far too sure")
    axes[1].set_yscale("log")
    axes[1].axhline(ignorance, color="black", linestyle=":", label="knowing nothing")
    axes[1].legend()
    plt.show()


def agreement(curves: Curves) -> None:
    """Rows (t, cosine weighed by length, plain mean cosine, how many times too long) for each learned classifier."""
    _, axes = panels(1, 2, size=(3.9, 2.8))
    _levels(axes[0], curves, 1, ylabel="cosine to the exact one", title="Direction: clean-only goes astray in noise")
    for name, curve in curves.items():
        axes[0].plot(curve[:, 0], curve[:, 2], ":", color=COLOR[name], label=f"{name}, plain mean")
    longest = curves["clean only"][-1, 3]
    _levels(
        axes[1],
        curves,
        3,
        ylabel="length / exact length",
        title=f"Length: at the end clean-only is {longest:.0f}× too long",
    )
    axes[1].set_yscale("log")
    axes[0].set_ylim(0, 1.03)
    axes[0].legend(loc="lower left", fontsize=8)
    plt.show()


def clouds(found: Mapping[str, tuple[Tensor, float]], exact: Tensor, lowest: float, limit: float = 3.0) -> None:
    """Guided points (N, 2) and their W1 for every guide, over exact samples of the class in grey."""
    figure, axes = panels(1, len(found), size=(3.2, 3.4))
    for ax, (name, (x, distance)) in zip(axes, found.items()):
        outside = float((x.abs() > limit).any(1).double().mean())
        title = f"{name}: W1 = {distance:.2f}" + (f"\n{outside:.0%} lie outside" if outside > 0.01 else "\n")
        ax.scatter(*exact.T, s=5, color="0.8", linewidths=0)
        points(x, ax=ax, limit=limit, title=title, size=6)
    figure.suptitle(f"Guided to class 0 (blue), over exact samples of it (grey). W1 of two exact samples: {lowest:.2f}")
    plt.show()


def boots(pictures: Tensor, times: Sequence[float], shares: Mapping[str, Sequence[float]]) -> None:
    """One picture (1, H, W) per noise level, and under each the share that every classifier names right there."""
    figure, axes = panels(1, len(times), size=(1.9, 2.3))
    for i, (ax, t) in enumerate(zip(axes, times)):
        grid(pictures[i : i + 1], columns=1, ax=ax, title=f"t = {t:g}")
        ax.set_xlabel("\n".join(f"{name} {values[i]:.0%}" for name, values in shares.items()), fontsize=10)
    figure.suptitle(
        "A drawn boot in noise. Below: the share of 2,000 real test pictures named right at that noise level"
    )
    plt.show()


def wardrobe(pictures: Sequence[Tensor], rows: Sequence[str], classes: Sequence[str], title: str) -> None:
    """The first ten pictures of every row, with the class asked for under each column."""
    ax = grid(torch.cat([row[:10] for row in pictures]), columns=10, rows=rows, scale=0.75, title=title)
    ax.set_xticks([30 * i + 15 for i in range(10)], [name.replace(" ", "\n") for name in classes], fontsize=8)
    plt.show()


def price(curves: Mapping[str, Mapping[str, tuple[list[float], list[float]]]], real: Mapping[str, float]) -> None:
    """For each guide accuracy, guide_accuracy, diversity and recall → (strengths, values); dashed: real pictures."""
    _, axes = panels(1, 3, size=(3.8, 3.1))
    places = {"accuracy": (0, "-"), "guide_accuracy": (0, ":"), "diversity": (1, "-"), "recall": (2, "-")}
    said = {"accuracy": ", says the judge", "guide_accuracy": ", says the guide"}
    for guide, measured in curves.items():
        for key, (strengths, values) in measured.items():
            place, style = places[key]
            name = guide + said.get(key, "")
            axes[place].plot(strengths, values, style, marker="o", markersize=3, color=COLOR[guide], label=name)
    for ax, key in zip(axes[1:], ("diversity", "recall")):
        ax.axhline(real[key], color="black", linestyle="--", linewidth=1, label="real pictures")
    for ax in axes:
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_xticks(strengths, [f"{w:g}" for w in strengths])
        ax.set_xlabel("strength $w$")
    axes[0].set(ylabel="share of the wanted class", ylim=(0, 1.6), title="The guide finds more right than the judge")
    axes[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes[1].set(ylabel="diversity within a class", ylim=(0, None), title="Noise-aware: below real ones from w = 2")
    axes[2].set(ylabel="real pictures covered", ylim=(0, 1.02), title="Noise-aware: recall falls from w = 8 on")
    axes[0].legend(fontsize=8, loc="upper left")
    axes[1].legend(fontsize=8)
    plt.show()
