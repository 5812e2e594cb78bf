"""The figures of chapter 08. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, CYCLE, panels


def bars(shares: Mapping[str, Sequence[float]], names: Sequence[str], ylabel: str, title: str) -> None:
    """Groups of bars on a logarithmic axis, one group for each of `names`, in it one bar for each key."""
    _, (ax,) = panels(1, 1, size=(1.1 * len(names) + 2.2, 2.9))
    width = 0.8 / len(shares)
    for i, (name, values) in enumerate(shares.items()):
        x = [k + (i - (len(shares) - 1) / 2) * width for k in range(len(names))]
        ax.bar(x, values, 0.9 * width, color=CYCLE[i % len(CYCLE)], label=name)
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel=ylabel, title=title, yscale="log")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def softness(drawn: Mapping[str, Tensor], title: str) -> None:
    """A panel for each temperature: the shares (K,) that one draw gives to the codes."""
    figure, axes = panels(1, len(drawn), size=(2.3, 2.2))
    for ax, (name, shares) in zip(axes, drawn.items()):
        ax.bar(range(len(shares)), shares.numpy(), color=CYCLE[0])
        ax.set(ylim=(0, 1.05), xlabel="code", title=name, xticks=[])
    axes[0].set_ylabel("share")
    figure.suptitle(title)


def slopes(temperatures: Tensor, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], title: str) -> None:
    """Statistics of a slope over temperatures, both axes logarithmic: measured as dots, by formula as lines."""
    _, (ax,) = panels(1, 1, size=(5.4, 3.0))
    for i, name in enumerate(found):
        ax.plot(temperatures, found[name], "o", color=CYCLE[i], label=name)
        ax.plot(temperatures, expected[name], "-", color=CYCLE[i], linewidth=1, label=f"{name}, by formula")
    ax.set(xscale="log", yscale="log", xlabel="temperature τ", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def codebook(tiles: Tensor, uses: Tensor, title: str, columns: int = 8) -> None:
    """What each code that occurs looks like, (K, 3, s, s), most used first; beside it how often each occurs."""
    order = uses.argsort(descending=True)
    there = order[uses[order] > 0]
    figure, (left, right) = panels(1, 2, size=(4.6, 3.0), width_ratios=[1.3, 1])
    grid(tiles[there], columns=columns, ax=left, title="the mean of what each stands for")
    right.plot(range(1, len(uses) + 1), uses[order].double().clamp(min=0.3), "-", color=CYCLE[0])
    right.set(yscale="log", xlabel="rank of the code", ylabel="uses", title="how often")
    figure.suptitle(title)


def numbered(pictures: Sequence[Tensor], codes: Sequence[Tensor | None], names: Sequence[str], title: str) -> None:
    """Pictures (3, S, S) side by side; over each, where codes (h, w) are given, the number of every place."""
    figure, axes = panels(1, len(pictures), size=(3.1, 3.3))
    for ax, picture, numbers, name in zip(axes, pictures, codes, names):
        grid(picture[None], columns=1, ax=ax, title=name)
        if numbers is None:
            continue
        step = picture.shape[-1] / numbers.shape[-1]
        for y, row in enumerate(numbers.tolist()):
            for x, number in enumerate(row):
                at = (1 + (x + 0.5) * step, 1 + (y + 0.5) * step)
                ax.text(*at, str(number), ha="center", va="center", fontsize=6, color=BLACK)
    figure.suptitle(title)


def looks(masks: Mapping[str, Tensor], tokens: Sequence[str], title: str) -> None:
    """Masks (L, L), True (dark) where the row may look at the column; `tokens` names the columns."""
    figure, axes = panels(1, len(masks), size=(0.28 * len(tokens) + 1.4, 0.28 * len(tokens) + 1.2))
    for ax, (name, seen) in zip(axes, masks.items()):
        ax.imshow(seen.numpy(), cmap="Blues", vmin=0, vmax=1.3)
        ax.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
        ax.set_yticks(range(len(tokens)), tokens, fontsize=7)
        ax.grid(False)
        ax.set(title=name)
    figure.suptitle(title)


def best_of(counts: Sequence[int], curves: Mapping[str, Sequence[float]], title: str) -> None:
    """Shares over the number of candidates, on an axis where each step doubles."""
    _, (ax,) = panels(1, 1, size=(5.6, 3.2))
    for (name, values), style in zip(curves.items(), ("o-", "s--", ":", "-.")):
        ax.plot(counts, values, style, label=name)
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(n) for n in counts])
    ax.set(xlabel="candidates n", ylabel="shown wholly", ylim=(-0.03, 1.03), title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def ranked(pictures: Tensor, scores: Tensor, texts: Sequence[str], title: str) -> None:
    """A row for each text: its candidates (B, n, 3, S, S), ordered by their scores (B, n), best first, scores below."""
    order = scores.argsort(1, descending=True)
    n, side = pictures.shape[1], pictures.shape[-1] + 2
    sorted_ = torch.stack([x[i] for x, i in zip(pictures, order)]).flatten(0, 1)
    beside = 0.1 * max(map(len, texts))
    _, (ax,) = panels(1, 1, size=(0.95 * n + beside, 0.95 * len(texts) + 0.8))
    grid(sorted_, columns=n, rows=texts, ax=ax, title=title)
    ends = scores.gather(1, order).mean(0)
    ax.set_xticks([side * (i + 0.5) for i in range(n)], [f"{value:.2f}" for value in ends], fontsize=8)
    ax.set_xlabel("mean cosine with the caption", fontsize=9)


def cosines(found: Mapping[str, Tensor], title: str) -> None:
    """Histograms of cosines, one outline for each name."""
    _, (ax,) = panels(1, 1, size=(5.8, 3.1))
    bins = torch.linspace(-1, 1, 61).tolist()
    for i, (name, values) in enumerate(found.items()):
        x = values.flatten().numpy()
        ax.hist(x, bins=bins, density=True, histtype="step", linewidth=1.6, color=CYCLE[i % len(CYCLE)], label=name)
    ax.set(yscale="log", xlabel="cosine", ylabel="density", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def walk(rows: Mapping[str, Tensor], fractions: Sequence[float], title: str) -> None:
    """Rows of equally many pictures (F, 3, S, S); below them the fractions, if given."""
    n, side = (next(iter(rows.values())).shape[i] for i in (0, -1))
    beside = 0.1 * max(len(line) for name in rows for line in name.split("\n"))
    figure, (ax,) = panels(1, 1, size=(1.1 * n + beside, 1.1 * len(rows) + 0.8))
    grid(torch.cat(list(rows.values())), columns=n, rows=list(rows), ax=ax)
    side += 2
    ax.set_xticks([side * (i + 0.5) for i in range(len(fractions))], [f"{f:.2g}" for f in fractions])
    figure.suptitle(title)


def surprise(nats: Mapping[str, Tensor], title: str) -> None:
    """Maps (h, w) of nats on one scale of colours, with its bar."""
    figure, axes = panels(1, len(nats), size=(3.2, 2.9))
    most = max(float(values.max()) for values in nats.values())
    for ax, (name, values) in zip(axes, nats.items()):
        image = ax.imshow(values.numpy(), cmap="magma", vmin=0, vmax=most)
        ax.set(title=name, xticks=[], yticks=[])
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="nats a code")
    figure.suptitle(title)
