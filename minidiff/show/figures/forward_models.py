"""The figures of chapter 03. Functions take data and draw; they return nothing, so that a cell may end with one."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff.show.plots import density, points
from minidiff.show.style import BLACK, GREEN, ORANGE, RED, panels

LogProb = Callable[[Tensor], Tensor]


def densities(log_probs: Mapping[str, LogProb], line: Callable[[Tensor], Tensor], label: str) -> None:
    """Densities of points side by side, each with the dashed line x₂ = `line`(x₁)."""
    _, axes = panels(1, len(log_probs), size=(3.2, 3.2))
    x = torch.linspace(-2.5, 2.5, 2)
    for ax, (name, log_prob) in zip(axes, log_probs.items()):
        density(log_prob, ax=ax, title=name)
        ax.plot(x, line(x), "--", color=ORANGE, label=label)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    axes[0].legend(loc="lower left")


def errors_against_t(levels: Sequence[float], errors: Mapping[str, Sequence[float]], title: str) -> None:
    """One curve a name of an error over the noise level, on a logarithmic scale."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.0))
    for name, values in errors.items():
        ax.semilogy(levels, values, marker="o", markersize=3, label=name)
    ax.set(xlabel="noise level $t$", ylabel="error of the guided guess", title=title)
    ax.legend()


def clouds(samples: Mapping[str, Tensor], log_prob: LogProb, title: str) -> None:
    """Samples (N, 2) over the prior's density in grey, one panel a name."""
    figure, axes = panels(1, len(samples), size=(2.6, 2.8))
    for ax, (name, x) in zip(axes, samples.items()):
        density(log_prob, ax=ax, cmap="Greys", alpha=0.4)
        points(x, ax=ax, limit=2.4, size=2, alpha=0.3, title=name)
    figure.suptitle(title)


def sheet(
    rows: Mapping[str, Tensor], title: str, captions: Mapping[str, Sequence[str]] | None = None, scale: float = 0.75
) -> None:
    """A row of pictures (n, 1 or 3, H, W) in [−1, 1] for each name; captions[name] stand under the pictures of a row.

    The rows may have pictures of different sizes: all are drawn equally large, so that 8×8 numbers look like 8×8.
    """
    captions = captions or {}
    wrapped = {name: [textwrap.fill(text, max(9, round(17 * scale))) for text in captions[name]] for name in captions}
    lines = {name: 1 + max(text.count("\n") for text in texts) for name, texts in wrapped.items()}
    tops, bottom = {}, 0.0
    for name in rows:
        tops[name] = bottom
        bottom += 1.06 + lines.get(name, 0) * 0.15 / scale
    columns = max(len(x) for x in rows.values())
    _, ax = plt.subplots(figsize=(columns * scale + 0.3 + 0.09 * max(map(len, rows)), bottom * scale + 0.4))
    for name, x in rows.items():
        pixels = ((x.detach().float().cpu().clamp(-1, 1) + 1) / 2).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        for j, picture in enumerate(pixels):
            top = tops[name]
            ax.imshow(picture.numpy(), extent=(j + 0.03, j + 0.97, top + 0.97, top + 0.03), interpolation="nearest")
            if name in wrapped:
                ax.text(j + 0.5, top + 1.0, wrapped[name][j], ha="center", va="top", fontsize=7.5, linespacing=1.0)
    ax.set(xlim=(0, columns), ylim=(bottom, 0), xticks=[], title=title)
    ax.set_yticks([tops[name] + 0.5 for name in rows], list(rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)


def closed_form(
    line: Sequence[float], curves: Tensor, starts: Sequence[float], found: Tensor, names: Sequence[str], title: str
) -> None:
    """For each of `names` a panel: the formula, curves (len(line), k), and what was sampled, found (len(starts), k)."""
    figure, axes = panels(1, len(names), size=(3.8, 2.7))
    for k, (ax, name) in enumerate(zip(axes, names)):
        ax.plot(line, curves[:, k], color=BLACK, label="closed form")
        ax.plot(starts, found[:, k], "o", color=ORANGE, label="samples")
        ax.set(xlabel="$t_0$", ylabel=name)
    axes[0].legend()
    figure.suptitle(title)


def trade(starts: Sequence[float], prices: Tensor, other: tuple[float, float], titles: Sequence[str]) -> None:
    """Two distances against t0, prices (len(starts), 2), and against each other; `other`: one more point, a star."""
    _, axes = panels(1, 2, size=(4.0, 3.0))
    names = ("distance to the strokes", "distance to a real scene")
    for k, name in enumerate(names):
        axes[0].plot(starts, prices[:, k], marker="o", label=name)
    axes[0].set(xlabel="$t_0$", ylabel="root mean square", title=titles[0])
    axes[1].plot(*prices.T, marker="o", color=GREEN, label="SDEdit, $t_0$ from 0 (left) to 1")
    axes[1].plot(*other, "*", markersize=13, color=RED, label="strokes as likelihood")
    axes[1].set(xlabel=names[0], ylabel=names[1], title=titles[1])
    for ax in axes:
        ax.legend(loc="upper right" if ax is axes[1] else "best")
