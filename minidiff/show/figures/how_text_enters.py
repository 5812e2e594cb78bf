"""The figures of chapter 13. Functions take data and draw; they return nothing, so that a cell may end with one."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import FancyBboxPatch, Patch
from torch import Tensor, nn

from minidiff.show.plots import grid
from minidiff.show.style import BLACK, BLUE, CYCLE, GREEN, ORANGE, SKY, panels
from minidiff.validate import require

TEXT, PICTURE, BOTH = ORANGE, BLUE, GREEN


def layers_of(backbone: nn.Module) -> list[str]:
    """What stands above one another in a transformer: "cross", "refiners", "double" or "both", block by block."""
    kinds = {"blocks": "cross", "double_blocks": "double", "single_blocks": "both", "joint_blocks": "both"}
    found = ["refiners"] * len(getattr(backbone, "text_blocks", ()))
    for name, module in backbone.named_children():
        if name in kinds and isinstance(module, nn.ModuleList):
            found += [kinds[name]] * len(module)
    require(len(found) > 0, "backbone", type(backbone).__name__, f"one with {', '.join(kinds)}")
    return found


def layouts(designs: Mapping[str, Sequence[str]], title: str) -> None:
    """`layers_of` each design, the first block at the bottom. Boxes are weights; a line is one softmax over both."""
    most = max(map(len, designs.values()))
    _, axes = panels(1, len(designs), size=(1.75, 0.45 * most + 1.1))
    for ax, (name, layers) in zip(axes, designs.items()):
        ax.set_axis_off()
        ax.set(xlim=(0, 2), ylim=(-0.9, most), title=name)
        ax.title.set_fontsize(9.5)
        for y, kind in enumerate(layers):
            _block(ax, kind, y)
        for x, word, colour in ((0.5, "text", TEXT), (1.5, "picture", PICTURE)):
            ax.text(x, -0.5, word, ha="center", color=colour, fontsize=9)
        if layers[0] == "cross":  # the text stands beside all blocks, and goes in everywhere
            ax.add_patch(FancyBboxPatch((0.15, 0.1), 0.7, len(layers) - 0.2, "round,pad=0.02", fc="none", ec=TEXT))
    named = {"text's own weights": TEXT, "picture's own weights": PICTURE, "weights for both": BOTH}
    handles = [Patch(color=colour, label=label) for label, colour in named.items()]
    axes[-1].figure.legend(handles=handles, loc="outside lower center", ncols=3)
    axes[0].figure.suptitle(title)


def _block(ax, kind: str, y: float) -> None:
    box = lambda x, width, colour: ax.add_patch(
        FancyBboxPatch((x, y + 0.15), width, 0.7, "round,pad=0.02", facecolor=colour, edgecolor="none")
    )
    if kind == "both":
        box(0.15, 1.7, BOTH)
        return
    box(1.15, 0.7, PICTURE)
    if kind in ("double", "refiners"):
        box(0.15, 0.7, TEXT)
    if kind == "double":
        ax.plot([0.87, 1.13], [y + 0.5, y + 0.5], color=BLACK, linewidth=2)
    if kind == "cross":
        ax.annotate("", (1.13, y + 0.5), (0.87, y + 0.5), arrowprops={"arrowstyle": "->", "color": BLACK})


def places(found: Mapping[str, tuple[Tensor, Tensor]], title: str) -> None:
    """Of each design (text (M, 2), picture (N, 2)): row and column of every token, words numbered in their order."""
    _, axes = panels(1, len(found), size=(2.7, 2.8))
    for ax, (name, (text, picture)) in zip(axes, found.items()):
        ax.plot(picture[:, 1], picture[:, 0], "s", color=PICTURE, markersize=7, label="picture")
        ax.plot(text[:, 1], text[:, 0], "o", color=TEXT, markersize=6, label="text")
        if len({tuple(place) for place in text.tolist()}) > 1:
            for k, (row, column) in enumerate(text.tolist()):
                ax.annotate(str(k + 1), (column, row), (4, 4), textcoords="offset points", fontsize=8)
        else:
            ax.annotate(
                f"all {len(text)} words",
                (float(text[0, 1]), float(text[0, 0])),
                (7, -11),
                textcoords="offset points",
                fontsize=8,
            )
        ax.set(title=name, xlabel="column", aspect="equal")
        ax.invert_yaxis()
    axes[0].set_ylabel("row")
    axes[0].legend(loc="lower left", fontsize=8)
    axes[0].figure.suptitle(title)


def by_block(
    lines: Mapping[str, Sequence[float]], ylabel: str, title: str, chance: float | None = None,
    top: float | None = None,
) -> None:  # fmt: skip
    """A line for each name over its blocks, from the first (0) to the last (1) of each network."""
    _, (ax,) = panels(1, 1, size=(5.8, 3.2))
    for i, (name, values) in enumerate(lines.items()):
        across = torch.linspace(0, 1, len(values)) if len(values) > 1 else [0.0]
        ax.plot(across, values, "o-", color=CYCLE[i % len(CYCLE)], markersize=4, label=name)
    if chance is not None:
        ax.axhline(chance, color=BLACK, linewidth=1, linestyle="--")
    most = max(max(values) for values in lines.values()) if top is None else top
    ax.set(xlabel="block (0: the first, 1: the last)", ylabel=ylabel, title=title, ylim=(-0.03 * most, 1.05 * most))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def pointing(picture: Tensor, names: Sequence[str], rows: Mapping[str, Tensor], title: str) -> None:
    """A picture (3, S, S), and for each network its maps (len(names), h, w) in a row, each on a scale of its own."""
    figure, axes = panels(len(rows), 1 + len(names), size=(1.12, 1.5))
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    for i, (network, maps) in enumerate(rows.items()):
        first, *rest = axes[i * (1 + len(names)) : (i + 1) * (1 + len(names))]
        grid(picture[None], columns=1, ax=first)
        first.set_ylabel(network)
        for ax, name, weights in zip(rest, names, maps):
            ax.imshow(weights.numpy(), cmap="Blues", vmin=0)
            ax.set_title(name, fontsize=8, loc="center")
    figure.suptitle(title)


def compared(table: Mapping[str, Mapping[str, tuple[float, float]]], xlabel: str, title: str) -> None:
    """table[question][design] = (mean, standard deviation): a panel for each question, a mark with its spread."""
    _, axes = panels(1, len(table), size=(1.9, 2.6), sharey=True)
    for ax, (question, rows) in zip(axes, table.items()):
        for y, (mean, sd) in enumerate(rows.values()):
            ax.errorbar(mean, y, xerr=sd, fmt="o", color=CYCLE[y % len(CYCLE)], capsize=3)
        ax.set(title=question, yticks=range(len(rows)), yticklabels=list(rows), xlabel=xlabel)
        ax.title.set_fontsize(10)
    axes[0].invert_yaxis()
    axes[0].figure.suptitle(title)


def gates(found: Mapping[str, Tensor], title: str) -> None:
    """What share of a picture token's reading is words: (blocks, heads) for each name, on one scale from 0 to 1."""
    figure, axes = panels(1, len(found), size=(2.2, 2.6))
    for ax, (name, table) in zip(axes, found.items()):
        shown = ax.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in [((i, j), float(table[i, j])) for i in range(len(table)) for j in range(table.shape[1])]:
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value > 0.6 else BLACK)
        ax.set(title=name, xlabel="head", ylabel="block")
        ax.set_xticks(range(table.shape[1]), [str(1 + k) for k in range(table.shape[1])])
        ax.set_yticks(range(len(table)), [str(1 + k) for k in range(len(table))])
        ax.grid(False)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="share of words")
    figure.suptitle(title)


def taken(groups: Mapping[str, Mapping[str, float]], title: str) -> None:
    """For each design three bars: as trained, and with something taken away."""
    _, (ax,) = panels(1, 1, size=(6.4, 0.2 * sum(len(g) + 1 for g in groups.values()) + 0.8))
    colours, y, marks = {}, 0.0, []
    for design, bars in groups.items():
        marks.append((y + (len(bars) - 1) / 2, design))
        for name, value in bars.items():
            colour = colours.setdefault(name, (BLUE, SKY, ORANGE)[len(colours) % 3])
            ax.barh(y, value, color=colour, height=0.8)
            ax.text(value + 0.01, y, f"{value:.2f}", va="center", fontsize=8)
            y += 1
        y += 0.8
    ax.set_yticks([at for at, _ in marks], [design for _, design in marks])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.08), xlabel="pictures that are right", title=title)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
