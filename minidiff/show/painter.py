"""Paint strokes with the mouse and see what a model makes of them.

`paint(draw, palette, guide)` shows a canvas of 16×16 cells, a row of colours, a slider for t0 and a button, which puts
the figure `draw(guide, t0)` beside the canvas. As with `explore`, the output carries a picture for where no browser is.
"""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import torch
from ipycanvas import Canvas, hold_canvas
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.show.widgets import WIDGET_VIEW, Slider, png
from minidiff.validate import describe, require

Draw = Callable[[Tensor, float], Figure]


class Painter:
    """The canvas, its controls and the figure of `draw(guide, t0)`; `guide` is (3, n, n) in [−1, 1].

    palette: {name: (red, green, blue) in [0, 1]}, the ground first. guide: what is painted at the beginning.
    t0: the slider. cell: side of a cell on the screen, in pixels. brush: side of the brush, in cells.
    """

    def __init__(
        self, draw: Draw, palette: Mapping[str, tuple[float, float, float]], guide: Tensor,
        t0: Slider = Slider(0.1, 1.0, 0.05, start=0.5), cell: int = 18, brush: int = 2,  # noqa: B008 (frozen)
    ):  # fmt: skip
        require(len(palette) >= 2, "palette", list(palette), "a ground and at least one colour")
        fits = guide.ndim == 3 and guide.shape[0] == 3 and guide.shape[1] == guide.shape[2]
        require(fits, "guide", describe(guide), "one square picture (3, n, n)")
        self.draw, self.palette, self.cell, self.brush, self.n = draw, dict(palette), cell, brush, guide.shape[1]
        self.guide = guide.detach().float().cpu().clone()
        self.last: tuple[float, float] | None = None  # where the pressed mouse was
        self.canvas = Canvas(width=self.n * cell, height=self.n * cell, layout={"border": "1px solid gray"})
        self.colour = ipywidgets.ToggleButtons(
            options=list(palette), value=list(palette)[1], style={"button_width": "80px"}, tooltips=[*palette]
        )
        self.t0 = ipywidgets.FloatSlider(
            value=t0.start, min=t0.low, max=t0.high, step=t0.step, description=t0.label or "t0"
        )
        self.sample = ipywidgets.Button(description="sample", button_style="primary")
        self.clear = ipywidgets.Button(description="clear")
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self._wire()
        self._show()
        self._redraw()
        left = ipywidgets.VBox([self.canvas, self.t0, ipywidgets.HBox([self.sample, self.clear])])
        self.box = ipywidgets.VBox([self.colour, ipywidgets.HBox([left, self.picture])])

    def _wire(self) -> None:
        self.canvas.on_mouse_down(self._down)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._up)
        self.canvas.on_mouse_out(self._up)
        self.canvas.on_client_ready(self._show)  # a page that was reloaded has an empty canvas
        self.sample.on_click(self._redraw)
        self.clear.on_click(self._wipe)

    def _down(self, x: float, y: float) -> None:
        self.last = x, y
        self.dab(x, y)

    def _move(self, x: float, y: float) -> None:
        """Dabs along the way from the last place: a quick hand leaves no gaps."""
        if self.last is None:
            return
        x0, y0 = self.last
        dabs = max(1, round(max(abs(x - x0), abs(y - y0)) / self.cell))
        for k in range(1, dabs + 1):
            self.dab(x0 + (x - x0) * k / dabs, y0 + (y - y0) * k / dabs)
        self.last = x, y

    def _up(self, x: float, y: float) -> None:
        self.last = None

    def dab(self, x: float, y: float) -> None:
        """One touch of the brush, centred at (x, y) in pixels of the canvas, in the chosen colour."""
        top, left = (round(v / self.cell - self.brush / 2) for v in (y, x))
        rows, columns = (range(max(v, 0), min(v + self.brush, self.n)) for v in (top, left))
        rgb = self.palette[str(self.colour.value)]
        with hold_canvas():
            for row in rows:
                for column in columns:
                    self.guide[:, row, column] = 2 * torch.tensor(rgb) - 1
                    self._fill(row, column, rgb)

    def _fill(self, row: int, column: int, rgb: Sequence[float]) -> None:
        self.canvas.fill_style = "#" + "".join(f"{round(255 * min(max(v, 0.0), 1.0)):02x}" for v in rgb)
        self.canvas.fill_rect(column * self.cell, row * self.cell, self.cell, self.cell)

    def _show(self) -> None:
        """Put `guide` on the canvas, cell by cell."""
        with hold_canvas():
            for row in range(self.n):
                for column in range(self.n):
                    self._fill(row, column, ((self.guide[:, row, column] + 1) / 2).tolist())

    def _wipe(self, button: object) -> None:
        self.guide[:] = 2 * torch.tensor(next(iter(self.palette.values())))[:, None, None] - 1
        self._show()

    def _redraw(self, button: object = None) -> None:
        self.picture.value = png(self.draw(self.guide.clone(), self.t0.value))


def paint(
    draw: Draw, palette: Mapping[str, tuple[float, float, float]], guide: Tensor,
    t0: Slider = Slider(0.1, 1.0, 0.05, start=0.5),  # noqa: B008
) -> Painter:  # fmt: skip
    """Show a `Painter` that begins with `guide`; the fallback picture is the figure of that guide at t0.start."""
    painter = Painter(draw, palette, guide, t0)
    view = {"version_major": 2, "version_minor": 0, "model_id": painter.box.model_id}
    text = f"[a canvas to paint on: {', '.join(palette)}; t0 = {t0.start}]"
    display({WIDGET_VIEW: view, "image/png": bytes(painter.picture.value), "text/plain": text}, raw=True)
    return painter
