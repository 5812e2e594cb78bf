"""The figures of chapter 05. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from minidiff.show.plots import field, grid, points
from minidiff.show.style import BLACK, BLUE, GREEN, ORANGE, RED, SKY, panels


def fields(
    vectors: Mapping[str, Callable[[Tensor], Tensor]], scales: Sequence[float], x: Tensor, y: Tensor, title: str
) -> None:
    """Vector fields side by side over the same clouds of points x (N, 2), labels y (N,); scales: as of `show.field`."""
    figure, axes = panels(1, len(vectors), size=(3.3, 3.3))
    for ax, scale, (name, field_of) in zip(axes, scales, vectors.items()):
        points(x, y, ax=ax, alpha=0.12)
        field(field_of, limit=2.2, n=13, ax=ax, title=name, scale=scale)
    figure.suptitle(title)


def bars(values: Mapping[str, float], xlabel: str, title: str) -> None:
    """One horizontal bar a name, with its number; colours alternate between the two branches."""
    _, (ax,) = panels(1, 1, size=(6.2, 2.6))
    drawn = ax.barh(list(values), list(values.values()), color=[BLUE, ORANGE] * len(values))
    ax.bar_label(drawn, fmt=" %.2f")
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)


def clouds(samples: Mapping[str, Tensor], y: Tensor, title: str, columns: int = 3, limit: float = 2.6) -> None:
    """Samples (N, 2) coloured by the class asked for, one panel a name."""
    rows = -(-len(samples) // columns)
    figure, axes = panels(rows, columns, size=(2.9, 2.9))
    for ax, (name, x) in zip(axes, samples.items()):
        points(x, y, ax=ax, limit=limit, size=3, title=name)
    figure.suptitle(title)


def against_w(
    lines: Mapping[str, Sequence[Sequence[float]]], strengths: Sequence[float], title: str,
    real: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """A panel for each name, with one curve a run over evenly spaced strengths; dotted: the value of real data."""
    figure, axes = panels(1, len(lines), size=(2.4, 2.5))
    for ax, (name, runs) in zip(axes, lines.items()):
        for values, colour in zip(runs, (BLUE, ORANGE, RED)):
            ax.plot(range(len(strengths)), values, marker="o", markersize=4, color=colour)
        ticks = [f"{w:g}" for w in strengths]
        ax.set(xticks=range(len(strengths)), xticklabels=ticks, xlabel="w", title=name)
        if real is not None:
            ax.axhline(real[name], color=BLACK, linestyle=":", linewidth=1.2)
        ax.set_ylim(0, 1.05 * max(ax.get_ylim()[1], max(max(values) for values in runs)))
    figure.suptitle(title)


def clothes(pictures: Tensor, strengths: Sequence[float], names: Sequence[str], title: str) -> None:
    """Pictures (len(strengths)·len(names), 1, 28, 28): a row for each w, a column for each class."""
    ax = grid(pictures, columns=len(names), rows=[f"w = {w:g}" for w in strengths], title=title, scale=0.85)
    side = pictures.shape[-1] + 2
    ax.set_xticks([side * (i + 0.5) for i in range(len(names))], names, rotation=30, ha="right")


def variances(
    gamma: Tensor, curves: Mapping[str, Tensor], measured: Mapping[str, Mapping[float, float]], title: str
) -> None:
    """Variance against γ: a line for each derived curve, and dots of the same colour where one was measured."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.6))
    for (name, curve), colour, style in zip(curves.items(), (BLUE, ORANGE, GREEN), ("-", "-", "--")):
        ax.plot(gamma, curve, style, color=colour, label=name)
        dots = measured.get(name, {})
        if dots:
            ax.plot(list(dots), list(dots.values()), "o", color=colour, label=f"{name}, measured")
    ax.set(xlabel="γ = 1 + w", ylabel="variance", ylim=(0, 1.05), title=title)
    ax.legend()


def overshoot(
    line: Tensor, data: Tensor, samples: Mapping[float, Tensor], tilted: Mapping[float, Tensor], title: str
) -> None:
    """Histograms of guided samples (N, 1) against two densities over `line` (M,): the data's and the tilted one's."""
    figure, axes = panels(1, len(samples), size=(3.2, 2.7), sharey=True)
    for ax, (w, x) in zip(axes, samples.items()):
        ax.hist(x[:, 0].numpy(), bins=80, range=(-0.5, 4.0), density=True, color=SKY, label="guided samples")
        ax.plot(line, data, color=BLACK, linewidth=1, label="p(x|y)")
        ax.plot(line, tilted[w], color=RED, linestyle="--", label="tilted density")
        ax.set(xlabel="x", xlim=(-0.5, 4.0), title=f"w = {w:g}: mean of the samples {float(x.mean()):.2f}")
    axes[0].set_ylabel("density")
    axes[0].legend(loc="upper right")
    figure.suptitle(title)
