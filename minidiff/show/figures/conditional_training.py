"""Figures of chapter 02: averages of noise, what the losses weigh, how training went, samplers against calls."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import CYCLE, panels

Pair = tuple[Tensor, Tensor]


def averages(
    x_t: Tensor, eps: Tensor, middle: Tensor, curves: Mapping[str, Pair], titles: tuple[str, str]
) -> list[Axes]:
    """Left all pairs (x_t, ε) with the first curve over them, right the others. A curve: (averages, exact).

    x_t, eps: (N, 1), of which 4,000 are drawn; middle: (bins, 1); each curve's two tensors: (bins, 1), NaN left out.
    """
    _, axes = panels(1, 2, size=(4.6, 3.3), sharey=True)
    axes[0].plot(x_t[:4000], eps[:4000], ".", color="grey", markersize=1.5, alpha=0.5)
    axes[0].plot([], [], ".", color="grey", label="single pairs")
    for i, (name, (averaged, exact)) in enumerate(curves.items()):
        ax, colour = axes[min(i, 1)], CYCLE[i]
        ax.plot(middle, exact, color=colour, label=f"{name}: exact")
        ax.plot(
            middle, averaged, "o", markersize=4, color=colour, label=f"{name}: average of a bin" if i == 0 else None
        )
    for ax, title in zip(axes, titles):
        ax.set(xlabel="noisy $x_t$", title=title)
        ax.legend(fontsize=8)
    axes[0].set_ylabel(r"noise $\varepsilon$")
    return axes


def weights_and_clocks(
    t: Tensor, formulas: Mapping[str, Tensor], at: Sequence[float], dots: Mapping[str, Sequence[float]],
    clocks: Mapping[str, Tensor],
) -> list[Axes]:  # fmt: skip
    """Left the weight of each loss: `formulas` over t as lines, measured `dots` at times `at`. Right drawn `clocks`."""
    _, (left, right) = panels(1, 2, size=(4.6, 3.4))
    for name, colour in zip(formulas, CYCLE):
        left.semilogy(t, formulas[name], color=colour, label=name)
        left.plot(at, dots[name], "o", markersize=4, color=colour)
    left.set(xlabel="$t$", ylabel=r"weight of $\Vert\hat x_0 - x_0\Vert^2$")
    left.set_title("Lines: formulas, dots: measured losses (Linear)")
    left.legend()
    right.hist([v.numpy() for v in clocks.values()], 40, density=True, histtype="step", linewidth=1.8, label=[*clocks])
    right.set(xlabel="$t$", ylabel="density", title="Two clocks: how often a time is trained")
    right.legend(loc="lower center")
    return [left, right]


def loss_curve(steps: Sequence[int], losses: Sequence[float], floors: Mapping[str, float], title: str) -> Axes:
    """A training loss over steps, with horizontal lines at what is possible."""
    ax = plt.subplots(figsize=(6.0, 3.1))[1]
    ax.plot(steps, losses, label="training loss, mean of 50 steps")
    for (name, value), style in zip(floors.items(), ("-", "--", ":")):
        ax.axhline(value, color="black", linewidth=1, linestyle=style, label=f"{name}: {value:.3f}")
    ax.set(xlabel="step", ylabel="loss", title=title, ylim=(0.9 * min(floors.values()), None))
    ax.legend()
    return ax


def error_by_time(middle: Tensor, errors: Mapping[str, Sequence[float]], title: str) -> Axes:
    """Relative errors against the noise level, log axis, one line per name."""
    ax = plt.subplots(figsize=(6.0, 3.1))[1]
    for (name, values), marker, style in zip(errors.items(), "os^", ("-", "--", ":")):
        ax.semilogy(middle, values, marker=marker, linestyle=style, label=name)
    ax.set(xlabel="noise level $t$", ylabel=r"relative error of $\hat\varepsilon$", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def distances(calls: Sequence[int], found: Mapping[str, Tensor], lowest: float, title: str) -> Axes:
    """W1 against calls of the denoiser: means with their spread, (len(calls), seeds) each; a grey band is the floor.

    Names begin with their path, "straight: Euler": paths have colours, and the steps on one path have markers.
    """
    ax, paths = plt.subplots(figsize=(7.4, 3.7))[1], [name.split(":")[0] for name in found]
    for i, (name, values) in enumerate(found.items()):
        colour, marker = CYCLE[[*dict.fromkeys(paths)].index(paths[i])], "os^D"[paths[:i].count(paths[i])]
        look = {"marker": marker, "markersize": 5, "capsize": 2, "color": colour}
        ax.errorbar(calls, values.mean(1), values.std(1), label=name, **look)
    ax.axhspan(0.01, lowest, color="grey", alpha=0.2, label="two exact samples", linewidth=0)
    ax.set(xscale="log", yscale="log", ylim=(0.015, 0.7), xlabel="calls of the denoiser", ylabel="W1 to exact samples")
    ax.set_xticks(calls, [str(n) for n in calls])
    ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    ax.minorticks_off()
    ax.set_title(title)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def side_by_side(sheets: Mapping[str, Tensor], names: Sequence[str], columns: int) -> list[Axes]:
    """Sheets of pictures next to each other, titled by their names; `names` label the rows of the first."""
    _, axes = panels(1, len(sheets), size=(0.42 * columns + 1.0, 0.42 * len(names) + 0.5))
    for i, (ax, (title, x)) in enumerate(zip(axes, sheets.items())):
        grid(x, columns=columns, rows=names if i == 0 else None, ax=ax, title=title)
    return axes


def recorded_run(steps: Sequence[int], losses: Sequence[float], title: str) -> Axes:
    """The loss of a recorded run, logarithmic in the step."""
    ax = plt.subplots(figsize=(6.0, 2.7))[1]
    ax.semilogx(steps, losses)
    ax.set(xlabel="step", ylabel="training loss", title=title)
    return ax
