"""Sliders that redraw a figure, with a static picture where no live front end is there.

`explore(draw, w=Slider(0, 8, 0.5, start=1), shape=["ring", "moons"])` shows one control per keyword over the figure
that `draw(**values)` returns. The cell's output carries two forms of itself: the live widget, which JupyterLab shows,
and a PNG of a few settings, which a printed page, GitHub or a PDF shows instead.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from minidiff.validate import describe, require

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Slider:
    """A float slider from `low` to `high` in steps of `step`, beginning at `start`."""

    low: float
    high: float
    step: float
    start: float
    label: str | None = None

    def __post_init__(self) -> None:
        fits = self.low <= self.start <= self.high and self.low < self.high and self.step > 0
        require(fits, "Slider", (self.low, self.high, self.step, self.start), "low ≤ start ≤ high and step > 0")


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes; closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()


def cropped(figure: Figure, margin: int = 8) -> Image.Image:
    """The figure as a picture, RGB, without the white around it but for `margin` pixels; closes it."""
    with Image.open(io.BytesIO(png(figure))) as picture:
        whole = picture.convert("RGB")
    left, top, right, bottom = ImageChops.invert(whole).getbbox() or (0, 0, *whole.size)
    # Not beyond the figure: what lies outside would be black.
    far = min(right + margin, whole.width), min(bottom + margin, whole.height)
    return whole.crop((max(left - margin, 0), max(top - margin, 0), *far))


class Explorer:
    """The controls and the picture of `explore`. `set(w=3)` moves a control as a hand would; `values` reads all."""

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, Slider | Sequence[Any]]):
        require(
            callable(draw) and len(controls) > 0,
            "draw, controls",
            describe(draw),
            "a function and at least one control",
        )
        self.draw, self.held = draw, False
        self.controls = {name: _control(name, spec) for name, spec in controls.items()}
        # In its own size: a VBox would stretch it over the page, and blur it.
        natural = {"align_self": "flex-start", "max_width": "100%"}
        self.picture = ipywidgets.Image(format="png", value=png(draw(**self.values)), layout=natural)
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        self.box = ipywidgets.VBox([*self.controls.values(), self.picture])

    @property
    def values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Controls move together: the figure is drawn once, when the last has moved, if any has."""
        for name in values:
            require(name in self.controls, "control", name, f"one of {sorted(self.controls)}")
        before, self.held = self.values, True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self.held = False
        if self.values != before:
            self._redraw()

    def _redraw(self, change: object = None) -> None:
        if not self.held:
            self.picture.value = png(self.draw(**self.values))


def _control(name: str, spec: Slider | Sequence[Any]) -> ipywidgets.ValueWidget:
    # One redraw per gesture (continuous_update off): a drawing slower than the hand would otherwise lag behind it.
    wide: dict[str, Any] = {"style": {"description_width": "initial"}, "layout": {"width": "420px"}}
    if isinstance(spec, Slider):
        return ipywidgets.FloatSlider(
            value=spec.start, min=spec.low, max=spec.high, step=spec.step, description=spec.label or name,
            continuous_update=False, **wide,
        )  # fmt: skip
    if isinstance(spec, str):  # redrawn when Enter is pressed or the field is left
        return ipywidgets.Text(value=spec, description=name, continuous_update=False, **wide)
    require(len(spec) > 0, name, spec, "a Slider, a text or a list of choices")
    return ipywidgets.Dropdown(options=list(spec), description=name, **wide)


def explore(
    draw: Callable[..., Figure], static: Sequence[Mapping[str, Any]] = (), **controls: Slider | Sequence[Any]
) -> Explorer:
    """Show controls over the figure `draw(**values) -> Figure`; returns the `Explorer`.

    static: settings for the fallback picture, stacked; by default the first values alone. A control is a `Slider`, a
    text to edit (its first value), or a list of choices, options being values or (label, value) pairs.
    """
    explorer = Explorer(draw, controls)
    display(fallback(explorer, explorer.box, static), raw=True)
    return explorer


def fallback(explorer: Explorer, box: ipywidgets.Box, static: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What `display` shows raw: `box` where it can live, else a picture of the settings in `static`, stacked."""
    pages = [png(explorer.draw(**{**explorer.values, **values})) for values in static] or [explorer.picture.value]
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    settings = ", ".join(f"{name} = {value}" for name, value in explorer.values.items())
    # In text, as a notebook keeps it: what is displayed raw is not encoded on its way into the file.
    picture = b64encode(stacked(pages)).decode("ascii")
    return {WIDGET_VIEW: view, "image/png": picture, "text/plain": f"[interactive figure: {settings}]"}


def stacked(pages: Sequence[bytes]) -> bytes:
    """Put PNG pages under one another."""
    if len(pages) == 1:
        return pages[0]
    arrays = [plt.imread(io.BytesIO(page))[..., :3] for page in pages]
    width = max(a.shape[1] for a in arrays)
    sheet = np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]), (0, 0)), constant_values=1.0) for a in arrays])
    buffer = io.BytesIO()
    plt.imsave(buffer, sheet)
    return buffer.getvalue()
