"""Drag a frame over a large picture and see what a model draws that is told where the frame is.

`frame(draw, sheet, side, …)` shows the sheet with a square frame on it, the controls of `explore` with two sliders for
the frame's corner, and the figure `draw(top, left, **values)`. The frame is moved by the mouse or by the sliders.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from ipycanvas import Canvas, hold_canvas
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.style import RED
from minidiff.show.widgets import Explorer, Slider, fallback
from minidiff.validate import describe, require

Draw = Callable[..., Figure]


class Framer:
    """A canvas with the sheet (3, n, n) in [−1, 1], a frame of `side` pixels on it, and an `Explorer` beside it.

    A frame is moved down or to the right, never both, as photographs are longer one way at most: the shorter of the
    hand's two ways is dropped. scale: screen pixels for a pixel of the sheet.
    """

    def __init__(
        self, draw: Draw, sheet: Tensor, side: int, controls: Mapping[str, Slider | Sequence[Any]] | None = None,
        scale: int = 3,
    ):  # fmt: skip
        fits = sheet.ndim == 3 and sheet.shape[0] == 3 and sheet.shape[1] == sheet.shape[2] > side > 0
        require(fits, "sheet, side", f"{describe(sheet)}, {side}", "a square picture (3, n, n) and a smaller side")
        self.side, self.scale, self.room = side, scale, sheet.shape[1] - side
        colours = ((sheet.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0)
        self.pixels = colours.repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy()
        self.grip: tuple[float, float] | None = None  # the frame's corner less the hand, while the mouse is pressed
        self.at = 0, 0
        slide = lambda name: Slider(0, self.room, 1, start=0, label=f"{name} of the crop")
        self.explorer = Explorer(draw, {"top": slide("top"), "left": slide("left"), **(controls or {})})
        # In its own size: a box would stretch it, so that squares are none and a hand's way is not the frame's.
        n = self.pixels.shape[0]
        self.canvas = Canvas(width=n, height=n, layout={"flex": f"0 0 {n}px", "height": f"{n}px"})
        self._wire()
        self._show()
        self.box = ipywidgets.HBox([self.canvas, self.explorer.box], layout={"align_items": "flex-start"})

    def _wire(self) -> None:
        self.canvas.on_mouse_down(self._down)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._up)
        self.canvas.on_mouse_out(self._up)
        self.canvas.on_client_ready(self._show)  # a page that was reloaded has an empty canvas
        for name in ("top", "left"):
            self.explorer.controls[name].observe(self._follow, names="value")

    def corner(self, x: float, y: float) -> tuple[int, int]:
        """(top, left) of a frame whose corner a hand put at (x, y) of the canvas."""
        top, left = (min(max(round(v / self.scale), 0), self.room) for v in (y, x))
        return (top, 0) if top > left else (0, left)

    def _down(self, x: float, y: float) -> None:
        top, left = self.at
        self.grip = left * self.scale - x, top * self.scale - y

    def _move(self, x: float, y: float) -> None:
        if self.grip is not None:
            self.at = self.corner(x + self.grip[0], y + self.grip[1])
            self._show()

    def _up(self, x: float, y: float) -> None:
        """Draws when the hand lets go: a model is slower than a hand."""
        if self.grip is not None:
            self.grip = None
            self.explorer.set(top=self.at[0], left=self.at[1])

    def _follow(self, change: object) -> None:
        if self.grip is None:
            self.at = round(self.explorer.values["top"]), round(self.explorer.values["left"])
            self._show()

    def _show(self) -> None:
        top, left = (v * self.scale for v in self.at)
        with hold_canvas():
            self.canvas.put_image_data(self.pixels, 0, 0)
            self.canvas.stroke_style, self.canvas.line_width = RED, 3
            self.canvas.stroke_rect(left + 1, top + 1, self.side * self.scale - 2)


def frame(
    draw: Draw, sheet: Tensor, side: int, static: Sequence[Mapping[str, Any]] = (), **controls: Slider | Sequence[Any]
) -> Framer:
    """Show a `Framer`; where no live front end is, the figures of the settings in `static`, as with `explore`."""
    framer = Framer(draw, sheet, side, controls)
    display(fallback(framer.explorer, framer.box, static), raw=True)
    return framer
