"""Figures of one-dimensional worlds: hills with arrows that point uphill, and densities flowing from data to noise."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from minidiff.show.plots import _axes
from minidiff.show.style import BLACK, BLUE, CYCLE, GREEN, RED
from minidiff.validate import describe, require

Function = Callable[[Tensor], Tensor]


def line(limit: float, n: int = 301) -> Tensor:
    """n points from −limit to limit, (n, 1) float64: what the functions of a 1-D mixture take."""
    return torch.linspace(-limit, limit, n, dtype=torch.float64)[:, None]


def hill(
    log_prob: Function, score: Function, limit: float = 3.0, n: int = 21, ax: Axes | None = None, title: str = "",
    color: str = BLUE, full: float = 10.0, name: str = "p(x)",
) -> Axes:  # fmt: skip
    """A 1-D density as a filled hill, and under it arrows of its score: green to the right, red to the left.

    log_prob: (N, 1) → (N,). score: (N, 1) → (N, 1). An arrow grows with the score until it fills the gap to the next
    one, at |score| = `full`, and no further; hills drawn with one `full` and one `limit` can be compared.
    """
    ax = _axes(ax, (5.4, 2.8))
    x = line(limit)
    p = log_prob(x).detach().exp().cpu().numpy()
    ax.fill_between(x[:, 0].numpy(), p, color=color, alpha=0.25, linewidth=0)
    ax.plot(x[:, 0].numpy(), p, color=color)
    at, gap = line(limit, n)[:, 0].numpy(), 2 * limit / (n - 1)
    s = score(line(limit, n)).detach().cpu()[:, 0].numpy()
    length = np.clip(s / full, -1, 1) * 0.9 * gap
    depth = -0.14 * p.max()
    ax.quiver(
        at - length / 2, np.full(n, depth), length, np.zeros(n), color=np.where(s > 0, GREEN, RED), angles="xy",
        scale_units="xy", scale=1, width=0.007, headwidth=4, headlength=4, headaxislength=3.6, minlength=0.2,
    )  # fmt: skip
    ax.axhline(0, color=BLACK, linewidth=0.6)
    ax.set(xlim=(-limit - gap / 2, limit + gap / 2), ylim=(2 * depth, None))
    ax.set(xlabel="$x$", ylabel=f"${name}$", title=title, yticks=[v for v in ax.get_yticks()[:-1] if v >= 0])
    return ax


def river(
    log_prob: Callable[[Tensor, Tensor], Tensor], times: Tensor, paths: Tensor, labels: Tensor | None = None,
    limit: float = 3.0, ax: Axes | None = None, title: str = "",
) -> Axes:  # fmt: skip
    """A 1-D density p_t(x) in shades of grey over time, t = 1 (noise) on the left and t = 0 (data) on the right.

    log_prob(x, t): (N, 1) and a scalar t → (N,). Over it, paths (T, N) at `times` (T,), coloured by labels (N,).
    Every column is scaled to its own maximum, so that the narrow hills near t = 0 do not hide the rest.
    """
    require(len(times) == len(paths), "times", describe(times), f"shape ({len(paths)},), as there are paths")
    ax = _axes(ax, (5.4, 3.2))
    x = line(limit, 161)
    t = torch.linspace(1, 0, 121, dtype=torch.float64)
    p = torch.stack([log_prob(x, s).detach().cpu().exp() for s in t], dim=1)  # (161, 121)
    p = (p / p.amax(0, keepdim=True)).numpy()
    ax.imshow(p, origin="lower", aspect="auto", extent=(1, 0, -limit, limit), cmap="Greys", vmax=1.4)
    colors = [CYCLE[int(y) % len(CYCLE)] for y in labels] if labels is not None else [BLUE] * paths.shape[1]
    for path, color in zip(paths.detach().cpu().T.numpy(), colors):
        ax.plot(times.numpy(), path, color=color, linewidth=0.8, alpha=0.7)
    ax.grid(False)
    ax.set(xlim=(1, 0), ylim=(-limit, limit), xlabel="noise level $t$", ylabel="$x$", title=title)
    return ax
