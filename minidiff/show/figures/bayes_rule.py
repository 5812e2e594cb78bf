"""The figures of chapter 01: hills, arrows and walkers on a line and in the plane."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.line import hill, line, river
from minidiff.show.plots import density, field, lattice
from minidiff.show.style import BLUE, GREEN, ORANGE, panels

Function = Callable[[Tensor], Tensor]


def walkers(trace: Tensor, log_prob: Function, title: str, shown: int = 40, limit: float = 2.5) -> Figure:
    """Paths of the first `shown` walkers, trace (steps + 1, N), beside a histogram of where all of them end."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), width_ratios=(3, 1), sharey=True)
    left.plot(trace[:, :shown].cpu(), linewidth=0.5, alpha=0.7)
    left.set(xlabel="step", ylabel="$x$", title=title, ylim=(-limit, limit))
    right.hist(trace[-1].cpu(), bins=50, range=(-limit, limit), density=True, orientation="horizontal", alpha=0.5)
    right.plot(log_prob(line(limit)).exp(), line(limit)[:, 0], color="black")
    right.set(xlabel="density", title="walkers, and $p$")
    return figure


def guesses(curves: Mapping[float, Tensor], probes: Tensor, averages: Mapping[float, Tensor], title: str) -> Axes:
    """The denoiser on `show.line(3.0)` for every t in `curves`, with dots: the averages at `probes`, by brute force."""
    ax = plt.subplots(figsize=(5.4, 3.2))[1]
    for t, curve in curves.items():
        ax.plot(line(3.0), curve.cpu(), label=f"$t$ = {t:g}")
        ax.plot(probes, averages[t].cpu(), "k.", markersize=5)
    ax.set(xlabel="$x_t$", ylabel=r"best guess $\hat x_0$", title=title)
    ax.legend()
    return ax


def sum_on_a_line(terms: Sequence[tuple[Function, Function, str]], exact: Tensor, title: str) -> Figure:
    """Prior, classifier and their sum as (log-density, arrows, title); in the fourth panel all arrows as curves.

    exact: the score of p(x|y) in closed form on `show.line(3.0)`, (301, 1).
    """
    figure, axes = panels(2, 2, size=(4.2, 2.7))
    names = ("p(x)", "p(y|x)", "p(x|y)")
    for ax, (log_prob, arrows, heading), color, name in zip(axes, terms, (BLUE, ORANGE, GREEN), names):
        hill(log_prob, arrows, ax=ax, color=color, name=name, title=heading)
    x, ax = line(3.0), axes[3]
    prior, classifier, total = (arrows(x).cpu() for _, arrows, _ in terms)
    for curve, label, color in ((prior, "prior", BLUE), (classifier, "+ classifier", ORANGE)):
        ax.plot(x, curve, label=label, color=color)
    ax.plot(x, exact.cpu(), label="exact $p(x|y)$", color=GREEN)
    ax.plot(x[::12], total[::12], "k.", markersize=5, label="= their sum")
    ax.set(xlabel="$x$", ylabel="score", title=title)
    ax.legend()
    return figure


def errors_by_level(levels: Sequence[float], table: Mapping[str, Tensor], claim: float, title: str) -> Axes:
    """Errors (T, 2) of every schedule against t, without t = 0: the rule's, and dashed those of the control."""
    ax = plt.subplots(figsize=(5.6, 3.4))[1]
    for name, row in table.items():
        (drawn,) = ax.loglog(levels[1:], row[1:, 0].clamp(min=1e-17), marker=".", label=name)
        ax.loglog(levels[1:], row[1:, 1].clamp(min=1e-17), "--", linewidth=1, color=drawn.get_color())
    ax.axhline(claim, color="black", linewidth=0.8)
    ax.text(1.0, 2 * claim, "the claim: below this line ", ha="right")
    ax.set(xlabel="noise level $t$", ylabel="largest error", ylim=(1e-17, 1e4), title=title)
    ax.legend(ncol=2, loc=(0.02, 0.3))
    return ax


def sum_in_the_plane(terms: Sequence[tuple[Function, Function, str]]) -> Figure:
    """Prior, classifier and their sum as (log of the shade, arrows, title), all arrows on one scale."""
    figure, axes = panels(1, 3, size=(3.3, 3.5))
    for ax, (log_shade, arrows, title), cmap in zip(axes, terms, ("Blues", "Oranges", "Greens")):
        density(log_shade, ax=ax, limit=2.4, cmap=cmap, alpha=0.8)
        field(arrows, ax=ax, limit=2.4, n=15, scale=90.0, title=title)
    return figure


def weighted_worlds(
    on_line: tuple[Function, Function, Function], in_plane: tuple[Function, Function], titles: tuple[str, str]
) -> Figure:
    """The widget's figure. on_line: log p, the weighted log-density, its arrows; in_plane: the last two of them."""
    figure, (left, right) = panels(1, 2, size=(4.2, 3.7))
    log_prob, weighted, arrows = on_line
    left.fill_between(line(3.0)[:, 0], log_prob(line(3.0)).exp(), color="grey", alpha=0.3, linewidth=0)
    hill(weighted, arrows, ax=left, name=r"p_t(x)\,p(y|x)^w", title=titles[0])
    weighted, arrows = in_plane
    top = weighted(lattice(3.0, 60)).max()
    density(lambda x: weighted(x) - top, ax=right, limit=3.0, n=60)
    shorten = lambda v: v * (15 / v.norm(dim=1, keepdim=True)).clamp(max=1)  # arrows far out would hide the rest
    field(lambda x: shorten(arrows(x)), ax=right, limit=3.0, n=13, scale=150.0, title=titles[1])
    return figure


def rivers(log_probs: Sequence[Callable], times: Tensor, stations: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """For every class y its p_t(x|y) as a river with 40 of the paths in `stations[y]`, (T, N, 1)."""
    figure, axes = panels(1, len(stations), size=(3.1, 2.9), sharey=True)
    for y, (ax, log_prob, path, title) in enumerate(zip(axes, log_probs, stations, titles)):
        river(log_prob, times, path[:, :40, 0], torch.full((40,), y), ax=ax, title=title)
    return figure


def gradients_and_samples(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], samples: Mapping[str, Tensor], log_prob: Function,
    titles: tuple[str, str],
) -> Figure:  # fmt: skip
    """Left: relative errors of gradients against t, name → (levels, errors). Right: samples and the exact density."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
    for name, (levels, errors) in curves.items():
        left.loglog(levels, errors, marker="o", markersize=4, label=name)
    left.set(xlabel="noise level $t$", ylabel="relative error of the gradient", title=titles[0])
    left.legend(loc="center right")
    for name, points in samples.items():
        right.hist(points[:, 0].cpu(), bins=80, range=(-1, 6), density=True, alpha=0.6, label=name)
    right.plot(line(6.0), log_prob(line(6.0)).exp(), color="black", label="exact $p(x|y)$")
    right.set(xlim=(-1, 6), xlabel="$x$", ylabel="density", title=titles[1])
    right.legend(loc="upper right")
    return figure


def exponents(
    levels: Sequence[float], rows: Mapping[float, Sequence[float]], grid: Tensor, wanted: Tensor, samples: Tensor,
    titles: tuple[str, str],
) -> Figure:  # fmt: skip
    """Left: mismatch of the w-weighted arrows against t. Right: samples with w = 3, and q0 on `grid` (black)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
    for w, row in rows.items():
        left.semilogy(levels, torch.tensor(row).clamp(min=1e-16), marker="o", markersize=4, label=f"$w$ = {w:g}")
    left.set(xlabel="noise level $t$", ylabel="relative mismatch", ylim=(1e-17, 1e2), title=titles[0])
    left.legend(ncol=2, loc="center right")
    right.plot(grid, wanted, color="black", label="$q_0 \\propto p(x)\\,p(y|x)^3$")
    right.hist(samples[:, 0].cpu(), bins=60, range=(0, 3), density=True, alpha=0.5, label="sampled with $w$ = 3")
    right.set(xlim=(0, 3), xlabel="$x$", ylabel="density", title=titles[1])
    right.legend(loc="upper left")
    return figure
