"""The figure of temporal fine-tuning: what becomes of the noise of a clip's frames, before and after."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.line import river
from minidiff.show.style import panels
from minidiff.validate import describe, require


def before_and_after(
    log_prob: Callable[[Tensor, Tensor], Tensor], times: Tensor, stations: Mapping[str, Sequence[Tensor]],
    limit: float = 3.0, others: int = 5,
) -> Figure:  # fmt: skip
    """Ways of a clip's frames over the density of single frames, and the clips they end in (arXiv 2304.08818, fig. 2).

    log_prob(x, t): of one frame, (N, 1) and a scalar t → (N,). times (S,): from noise to data. stations: for each
    title the states of a sampler at these times, S tensors (clips, T), the noise first. Above, every frame of the first
    clip goes from noise on the left to data on the right, its colour says which frame it is. Below, the finished clips,
    value over frame: the first one with its frames' colours, `others` more in grey.
    """
    for title, states in stations.items():
        fits = len(states) == len(times) and all(x.ndim == 2 and x.shape == states[0].shape for x in states)
        got = f"{len(states)} states, {describe(states[0]) if len(states) else 'none'}"
        require(fits, f"stations[{title!r}]", got, f"{len(times)} tensors (clips, T), one for each of times")
    figure, axes = panels(2, len(stations), size=(4.2, 2.6))
    for column, (title, states) in enumerate(stations.items()):
        above, below = axes[column], axes[column + len(stations)]
        clips = torch.stack([x.detach().cpu() for x in states])  # (S, clips, T)
        frames = clips.shape[2]
        colors = plt.get_cmap("viridis")(torch.linspace(0, 0.92, frames).numpy())
        river(log_prob, times, clips[:, 0], limit=limit, ax=above, title=title)
        for path, color in zip(above.lines, colors):
            path.set(color=color, linewidth=1.2, alpha=0.9)
        order = torch.arange(1, frames + 1)
        for clip in clips[-1, 1 : 1 + others]:
            below.plot(order, clip, color="0.75", linewidth=1.0)
        below.plot(order, clips[-1, 0], color="0.3", linewidth=1.0)
        below.scatter(order, clips[-1, 0], c=colors, s=28, zorder=3)
        below.set(ylim=(-limit, limit), xlabel="frame", ylabel="$x$", xticks=order.tolist())
    return figure
