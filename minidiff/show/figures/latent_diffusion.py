"""The figures of chapter 09. Functions take data and draw; but for `page` they return nothing, so that a cell may end
with one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import torch
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, RED, panels

TEXT = 20
"""Rows of pixels that a caption of two lines takes under a picture of 64."""


def captioned(
    pictures: Tensor, texts: Sequence[str], title: str, columns: int = 8, right: Sequence[bool] | None = None
) -> None:
    """Every picture (B, 3, S, S) over its text; red where `right` says that the picture does not show it."""
    side, n = pictures.shape[-1] + 2, len(pictures)
    white = torch.ones(n, 3, pictures.shape[-1] + TEXT, pictures.shape[-1])
    white[:, :, : pictures.shape[-1]] = pictures.detach().float().cpu()
    _, (ax,) = panels(1, 1, size=(1.25 * columns, 1.25 * (-(-n // columns)) * (side + TEXT) / side + 0.5))
    grid(white, columns=columns, title=title, ax=ax)
    for i, text in enumerate(texts):
        x, y = (i % columns + 0.5) * side, (i // columns) * (side + TEXT) + side
        colour = BLACK if right is None or right[i] else RED
        ax.text(x, y, fill(text, 23), ha="center", va="top", fontsize=6, linespacing=0.95, color=colour)


def rates(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> None:
    """Shares over bits a picture, {name: (bits, shares)}, on a logarithmic axis of bits."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.2))
    for name, (bits, values) in curves.items():
        ax.plot(bits, values, "o-", label=name)
    ax.set(xscale="log", xlabel="bits a picture (entropy)", ylabel="read as drawn", ylim=(-0.03, 1.03), title=title)
    ax.legend()


def spread(latents: Mapping[str, Tensor], title: str) -> None:
    """A panel for each name: the densities of the channels of z (B, C, h, w), beside that of N(0, 1)."""
    figure, axes = panels(1, len(latents), size=(4.2, 2.9))
    for ax, (name, z) in zip(axes, latents.items()):
        limit = float(z.abs().max())
        x = torch.linspace(-limit, limit, 301)
        for k, channel in enumerate(z.transpose(0, 1).flatten(1)):
            ax.hist(channel.numpy(), bins=80, density=True, histtype="step", color=CYCLE[k % len(CYCLE)])
        ax.plot(x, torch.exp(-x.square() / 2) / (2 * torch.pi) ** 0.5, "--", color=BLACK, label="N(0, 1)")
        ax.set(yscale="log", ylim=(1e-4, 10), xlabel="z", title=name)
        ax.legend()
    figure.suptitle(title)


def codes(points: Tensor, codebooks: Mapping[str, Tensor], title: str) -> None:
    """A panel for each name: points (N, 2), and on them the codes (K, 2)."""
    figure, axes = panels(1, len(codebooks), size=(3.4, 3.2))
    for ax, (name, book) in zip(axes, codebooks.items()):
        ax.plot(*points.T.numpy(), ".", color=BLUE, markersize=2, alpha=0.3)
        ax.plot(*book.T.numpy(), "x", color=RED, markersize=6, markeredgewidth=1.5)
        ax.set(title=name, aspect="equal")
    figure.suptitle(title)


def amplified(phi: Tensor, curves: Mapping[str, Tensor], title: str) -> None:
    """What an error of the answer becomes in x̂0, over the angle φ of the schedule (radians)."""
    _, (ax,) = panels(1, 1, size=(5.4, 3.0))
    for (name, values), style in zip(curves.items(), ("-", "--", ":")):
        ax.plot(phi, values, style, label=name)
    ax.set(yscale="log", xlabel="φ (0: picture, π/2: noise)", ylabel="error of x̂0", title=title)
    ax.legend()
