"""Figures that several chapters draw: grids of pictures, clouds of points, vector fields, densities, log-log slopes.

Every function draws into `ax` when given one and returns the axes; colours follow `style.CYCLE`.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from minidiff.show.style import CYCLE
from minidiff.validate import describe, require


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return ax if ax is not None else plt.subplots(figsize=size)[1]


def grid(
    pictures: Tensor, columns: int = 10, rows: Sequence[str] | None = None, title: str = "", scale: float = 0.62,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Show pictures (B, 1 or 3, H, W) in [−1, 1] row by row; values outside are clipped. `rows` labels the rows."""
    fits = pictures.ndim == 4 and pictures.shape[1] in (1, 3)
    require(fits, "pictures", describe(pictures), "shape (B, 1 or 3, H, W)")
    x = ((pictures.detach().float().cpu().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1)
    b, h, w, c = x.shape
    n_rows = -(-b // columns)
    sheet = torch.ones(n_rows, columns, h + 2, w + 2, c)
    for i in range(b):
        sheet[i // columns, i % columns, 1:-1, 1:-1] = x[i]
    sheet = sheet.permute(0, 2, 1, 3, 4).reshape(n_rows * (h + 2), columns * (w + 2), c)
    ax = _axes(ax, (max(columns * scale, 3.0), n_rows * scale + 0.4))
    ax.imshow(sheet.squeeze(-1).numpy(), vmin=0, vmax=1)
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([(i + 0.5) * (h + 2) for i in range(n_rows)] if rows else [], rows or [])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def points(
    x: Tensor, y: Tensor | None = None, ax: Axes | None = None, title: str = "", names: Sequence[str] | None = None,
    size: float = 6.0, alpha: float = 0.5, limit: float | None = None,
) -> Axes:  # fmt: skip
    """Scatter 2-D points (N, 2), coloured by label y (N,) if given; equal axes, ±`limit`."""
    require(x.ndim == 2 and x.shape[1] == 2, "x", describe(x), "shape (N, 2)")
    ax = _axes(ax, (3.4, 3.4))
    p, labels = x.detach().cpu().numpy(), (torch.zeros(len(x)) if y is None else y.cpu()).numpy()
    for k in np.unique(labels):
        name = names[int(k)] if names else None
        ax.scatter(*p[labels == k].T, s=size, alpha=alpha, color=CYCLE[int(k) % len(CYCLE)], linewidths=0, label=name)
    if names:
        ax.legend(markerscale=2, loc="upper right")
    if limit is not None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title=title)
    return ax


def field(
    vectors: Callable[[Tensor], Tensor], limit: float = 2.5, n: int = 17, ax: Axes | None = None, title: str = "",
    color: str = "#000000", scale: float | None = None,
) -> Axes:  # fmt: skip
    """Arrows of a vector field (N, 2) → (N, 2) on an n×n lattice over [−limit, limit]²; equal axes.

    Arrows share one `scale` (matplotlib's quiver scale: vector units per axes width) so that fields can be compared.
    """
    ax = _axes(ax, (3.4, 3.4))
    xy = lattice(limit, n)
    v = vectors(xy).detach().cpu().numpy()
    ax.quiver(*xy.numpy().T, *v.T, color=color, angles="xy", scale=scale, width=0.005)
    ax.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit), xlabel="$x_1$", ylabel="$x_2$", title=title)
    return ax


def lattice(limit: float = 2.5, n: int = 17) -> Tensor:
    """The n×n points of a square lattice over [−limit, limit]², (n², 2) float64, rows of equal x₂."""
    line = torch.linspace(-limit, limit, n, dtype=torch.float64)
    x2, x1 = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x1.flatten(), x2.flatten()], dim=1)


def density(
    log_prob: Callable[[Tensor], Tensor], limit: float = 2.5, n: int = 120, ax: Axes | None = None, title: str = "",
    cmap: str = "Blues", alpha: float = 1.0,
) -> Axes:  # fmt: skip
    """A 2-D density as filled contours; `log_prob`: (N, 2) → (N,). Under coloured points: cmap "Greys", alpha 0.4."""
    ax = _axes(ax, (3.4, 3.4))
    p = log_prob(lattice(limit, n)).detach().exp().reshape(n, n).cpu().numpy()
    line = np.linspace(-limit, limit, n)
    ax.contourf(line, line, p, levels=12, cmap=cmap, alpha=alpha)
    ax.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit), xlabel="$x_1$", ylabel="$x_2$", title=title)
    return ax


def slopes(
    errors: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str = "calls of the network",
    ylabel: str = "error", title: str = "", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Errors against work, both on log axes, one line per name → (work, errors); the legend gives each fitted slope."""
    ax = _axes(ax, (5.2, 3.6))
    for name, (work, error) in errors.items():
        slope = np.polyfit(np.log(work), np.log(error), 1)[0]
        ax.loglog(work, error, marker="o", markersize=4, label=f"{name}: slope {slope:.2f}")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend()
    return ax
