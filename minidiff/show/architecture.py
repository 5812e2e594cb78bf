"""An architecture as it runs: the modules that were called, in their order, and the shapes that left them.

`trace` runs a network once and notes what happened; `diagram` draws it. Nothing is written down by hand, so that the
drawing cannot disagree with the code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from minidiff.nn.block import Attend
from minidiff.show.style import BLACK, CYCLE, panels
from minidiff.validate import require


@dataclass
class Called:
    """One call of a module: its name in the network, its class, the shapes that came out, without the batch.

    shapes: {"": shape} for a tensor, {name: shape} for a dict of tensors. looks_at: how many keys its queries looked at
    where these were others than themselves (the words of a sentence), or None. parameters: of the module.
    """

    name: str
    kind: str
    parameters: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    looks_at: int | None = None

    @property
    def text(self) -> str:
        """ "96×16×16", or "context 18×96, mask 18"."""
        return ", ".join(f"{name} {'×'.join(map(str, s))}".strip() for name, s in self.shapes.items())


def trace(model: nn.Module, run: Callable[[], Any], kinds: Sequence[type[nn.Module]]) -> list[Called]:
    """The calls of modules of these classes during `run()`, in order. One inside another is part of the outer one.

    `ValueError` if there were none.
    """
    calls: list[Called] = []
    open_now: list[Called] = []
    handles = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object) -> None:
            parameters = sum(p.numel() for p in module.parameters())
            open_now.append(Called(name, type(module).__name__, parameters))
            if len(open_now) == 1:
                calls.append(open_now[0])

        return hook

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        parts = output if isinstance(output, dict) else {"": output}
        open_now.pop().shapes = {k: tuple(v.shape[1:]) for k, v in parts.items() if isinstance(v, Tensor)}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if open_now and inputs[0].shape[2] != inputs[1].shape[2]:
            open_now[0].looks_at = inputs[1].shape[2]

    for name, module in model.named_modules():
        if isinstance(module, tuple(kinds)):
            handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
        if isinstance(module, Attend):
            handles.append(module.register_forward_hook(look))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    require(bool(calls), "kinds", [kind.__name__ for kind in kinds], "classes of modules that the run calls")
    return calls


def diagram(calls: Sequence[Called], title: str, ax: Axes | None = None) -> Axes:
    """Boxes in the order of the calls, lower where a picture is smaller; arrows: looks at the words.

    Maps of features (C, H, W) are named C×side; other shapes are written out above the row.
    """
    pictures = [c for c in calls if len(c.shapes.get("", ())) == 3]
    others = [c for c in calls if c not in pictures]
    ax = panels(1, 1, size=(0.46 * len(pictures) + 1, 3.0))[1][0] if ax is None else ax
    sides = sorted({c.shapes[""][-1] for c in pictures}, reverse=True)
    colours = {kind: CYCLE[i % len(CYCLE)] for i, kind in enumerate(dict.fromkeys(c.kind for c in pictures))}
    floor = -float(len(sides)) - 0.3
    for x, call in enumerate(pictures):
        y = -float(sides.index(call.shapes[""][-1]))
        box = FancyBboxPatch(
            (x - 0.36, y - 0.32), 0.72, 0.64, boxstyle="round,pad=0.03", facecolor=colours[call.kind], alpha=0.85,
            linewidth=0,
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(
            x, y, f"{call.shapes[''][0]}\n×{call.shapes[''][-1]}²", ha="center", va="center", fontsize=7.5, color="w"
        )
        if call.looks_at is not None:
            style = {"arrowstyle": "->", "color": BLACK, "linewidth": 1.2}
            ax.annotate("", (x, y - 0.34), (x, floor), arrowprops=style)
    for kind, colour in colours.items():
        ax.plot([], [], "s", color=colour, label=kind)
    words = sorted({c.looks_at for c in pictures if c.looks_at is not None})
    ax.plot([-0.4, len(pictures) - 0.6], [floor, floor], color=BLACK, linewidth=2.5)
    told = " · ".join(f"{c.kind}: {c.text}" for c in others if c.text)
    ax.text(-0.4, floor - 0.12, f"{words[0] if words else 0} words   {told}", va="top", fontsize=8, color=BLACK)
    ax.set(xlim=(-0.8, len(pictures) - 0.2), ylim=(floor - 0.5, 0.7), yticks=[-i for i in range(len(sides))])
    ax.set(yticklabels=[f"{s}×{s}" for s in sides], xticks=[], title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.legend(ncols=len(colours), loc="upper center", bbox_to_anchor=(0.5, 0.02), fontsize=8)
    return ax
