"""The figures of chapter 15. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
from torch import Tensor

from minidiff.judges.scorecard import Score
from minidiff.show.designer import mapped
from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, GREEN, ORANGE, RED, panels
from minidiff.systems.design import Design


def space(title: str, chosen: Design | None = None) -> None:
    """All 72 cells: grey ones contradict themselves, real models are named in theirs; `chosen` has a frame."""
    _, (ax,) = panels(1, 1, size=(11.0, 7.4))
    mapped(ax, chosen)
    ax.figure.suptitle(title)


def emphasis(curves: Mapping[str, tuple[Tensor, Tensor]], title: str) -> None:
    """How much an error of x̂0 counts at each level of noise: {name: (log signal-to-noise ratios, weight)}."""
    _, (ax,) = panels(1, 1, size=(6.4, 3.4))
    for (name, (level, weight)), style in zip(curves.items(), ("-", "--", "-", "--")):
        ax.semilogy(level, weight, style, label=name)
    ax.set(xlabel="log signal-to-noise ratio ℓ (noise on the left)", ylabel="counts, relative to ℓ = 0")
    ax.set_title(title)
    ax.legend()


def covers(p: Tensor, found: Mapping[str, Tensor], level: float, title: str) -> None:
    """How often an interval holds the true share p (K,), by name; `level` is what it promises."""
    _, (ax,) = panels(1, 1, size=(6.4, 3.0))
    for name, often in found.items():
        ax.plot(p, often, label=name)
    ax.axhline(level, color=BLACK, linewidth=1, linestyle=":")
    ax.set(xlabel="true share", ylabel="holds it", title=title, ylim=(0.6, 1.005))
    ax.legend(loc="lower left")


def best_of(shares: Tensor, truth: float, title: str) -> None:
    """Shares (rounds, systems) of equal systems: those of one, and of each round's best."""
    _, (ax,) = panels(1, 1, size=(6.4, 3.0))
    n = len(shares)
    for name, values, colour in (("one system", shares[:, 0], BLUE), ("the best of them", shares.amax(1), ORANGE)):
        level, count = torch.unique(values, return_counts=True)
        ax.bar(level.tolist(), (count / n).tolist(), width=0.008, alpha=0.7, label=name, color=colour)
    ax.axvline(truth, color=BLACK, linestyle=":", label="the truth of all")
    ax.set(xlabel="share right", ylabel="share of rounds", title=title)
    ax.legend()


def board(rows: Mapping[str, Mapping[str, tuple[Score, Score]]], questions: Sequence[str], title: str) -> None:
    """{system: {question: (right, another caption)}}: shares in per cent with Wilson's interval, a panel a question."""
    _, axes = panels(1, len(questions), size=(2.3, max(2.4, 0.24 * len(rows) + 0.9)), sharey=True)
    for ax, question in zip(axes, questions):
        for y, found in enumerate(rows.values()):
            if question not in found:
                continue
            right, other = found[question]
            low, high = right.interval
            ax.plot([100 * low, 100 * high], [y, y], color=BLUE, linewidth=2)
            ax.plot(100 * right.share, y, "o", color=BLUE, markersize=4)
            ax.plot(100 * other.share, y, "x", color=RED, markersize=4)
        ax.set(title=question, xlabel="right, %", xlim=(-4, 104))
    axes[0].set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes[0].invert_yaxis()
    handles = [axes[0].plot([], [], m, color=c, label=n)[0] for m, c, n in (("o-", BLUE, "own"), ("x", RED, "another"))]
    axes[-1].legend(handles=handles, title="caption", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0].figure.suptitle(title)


def drawn(
    pictures: Mapping[str, Tensor], texts: Sequence[str], right: Mapping[str, Sequence[bool]], title: str
) -> None:
    """{system: (N, 3, S, S)} of N texts: one row a system, a green mark where the judge finds what was asked."""
    _, axes = panels(len(pictures), len(texts), size=(1.15, 1.1))
    for i, (name, row) in enumerate(pictures.items()):
        for j, picture in enumerate(row):
            ax = axes[i * len(texts) + j]
            grid(picture[None], columns=1, ax=ax)
            good = right[name][j]
            ax.text(0.97, 0.03, "✓" if good else "✗", color=GREEN if good else RED, transform=ax.transAxes, ha="right",
                    fontsize=11, fontweight="bold")  # fmt: skip
            if i == 0:
                ax.set_title(fill(texts[j], 15), fontsize=7.5, loc="center")
            if j == 0:
                ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axes[0].figure.suptitle(title)


def paths(found: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> None:
    """{name: (σ/(α + σ) of each step, mean distance to the other path)}: how far two walks are apart."""
    _, (ax,) = panels(1, 1, size=(6.0, 2.9))
    for (name, (at, apart)), colour in zip(found.items(), CYCLE):
        ax.semilogy(at, apart, "o-", markersize=3, label=name, color=colour)
    ax.set(xlabel="time on the straight path (noise on the right)", ylabel="mean |difference|", title=title)
    ax.legend()
