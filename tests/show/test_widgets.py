"""Sliders that redraw: what nobody's hand moves in a test run is moved here."""

import struct
from base64 import b64decode

import matplotlib.pyplot as plt
import nbformat
import pytest

from minidiff.show import Explorer, Slider, cropped, explore, png
from minidiff.show.widgets import WIDGET_VIEW


def line(w: float, name: str = "up") -> plt.Figure:
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.plot([0, 1], [0, w if name == "up" else -w])
    ax.set_ylim(-10, 10)
    return figure


def size(picture: bytes) -> tuple[int, int]:
    picture = bytes(picture)  # ipywidgets hands out a memoryview
    assert picture.startswith(b"\x89PNG")
    return struct.unpack(">II", picture[16:24])


def test_moving_a_control_redraws_and_moving_it_back_restores():
    explorer = Explorer(line, {"w": Slider(0, 8, 0.5, start=1), "name": ["up", "down"]})
    first = explorer.picture.value
    explorer.set(w=3.0)
    moved = explorer.picture.value
    assert moved != first
    assert explorer.values == {"w": 3.0, "name": "up"}
    explorer.set(name="down")
    assert explorer.picture.value != moved
    explorer.set(w=1.0, name="up")
    assert explorer.picture.value == first


def test_figures_are_closed_after_drawing():
    before = plt.get_fignums()
    explorer = Explorer(line, {"w": Slider(0, 8, 0.5, start=1)})
    for w in range(5):
        explorer.set(w=float(w))
    assert plt.get_fignums() == before


def test_the_output_is_a_widget_and_a_picture_of_all_static_settings(monkeypatch):
    shown = []
    monkeypatch.setattr("minidiff.show.widgets.display", lambda bundle, raw: shown.append((bundle, raw)))
    explorer = explore(line, w=Slider(0, 8, 0.5, start=1), static=[{"w": 0.0}, {"w": 8.0}])
    ((bundle, raw),) = shown
    assert raw
    assert bundle[WIDGET_VIEW]["model_id"] == explorer.box.model_id
    one, both = size(explorer.picture.value), size(b64decode(bundle["image/png"], validate=True))
    assert both == (one[0], 2 * one[1])
    assert "w = 1" in bundle["text/plain"]


@pytest.mark.parametrize("static", [[], [{"w": 0.0}, {"w": 8.0}]])
def test_a_notebook_can_keep_the_output(monkeypatch, static):
    shown = []
    monkeypatch.setattr("minidiff.show.widgets.display", lambda bundle, raw: shown.append(bundle))
    explore(line, w=Slider(0, 8, 0.5, start=1), static=static)
    (bundle,) = shown
    output = nbformat.v4.new_output("display_data", data=bundle)
    nbformat.validate(output, ref="display_data", version=4)
    output.data["image/png"] = memoryview(b64decode(bundle["image/png"]))  # what an ipywidgets.Image holds
    with pytest.raises(nbformat.ValidationError):
        nbformat.validate(output, ref="display_data", version=4)


def test_png_closes_the_figure_and_keeps_its_size():
    figure = line(1.0)
    assert size(png(figure, dpi=100)) == (200, 200)
    assert figure.number not in plt.get_fignums()


def test_cropping_takes_the_white_away_and_nothing_else():
    def square(left, colour="k"):
        figure = plt.figure(figsize=(2, 2))
        figure.add_artist(plt.Rectangle((left, 0.5), 0.2, 0.3, color=colour, linewidth=0))
        return figure

    figure = square(0.4)
    picture = cropped(figure)
    assert figure.number not in plt.get_fignums()
    assert all(abs(a - b) <= 2 for a, b in zip(picture.size, (40 + 16, 60 + 16)))  # 20 % and 30 % of 200, two margins
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((28, 38)) == (0, 0, 0)
    assert (
        abs(cropped(square(0.0)).width - (40 + 8)) <= 2
    )  # at the border there is no white to keep, and no black comes
    assert cropped(square(0.4, "w")).size == (200, 200)  # nothing but white: left as it is


@pytest.mark.parametrize("numbers", [(0, 8, 0.5, 9), (8, 0, 0.5, 8), (0, 8, 0, 1), (1, 1, 0.1, 1)])
def test_impossible_sliders_are_refused(numbers):
    with pytest.raises(ValueError, match="Slider: got"):
        Slider(*numbers)


def test_unknown_control_no_control_and_no_choice_are_refused():
    explorer = Explorer(line, {"w": Slider(0, 8, 0.5, start=1)})
    with pytest.raises(ValueError, match=r"control: got v, expected one of \['w'\]"):
        explorer.set(v=1.0)
    with pytest.raises(ValueError, match="at least one control"):
        Explorer(line, {})
    with pytest.raises(ValueError, match="name: got"):
        Explorer(line, {"w": Slider(0, 8, 0.5, start=1), "name": []})


def test_a_text_can_be_typed():
    explorer = Explorer(line, {"w": Slider(0, 8, 0.5, start=1), "name": "up"})
    first = explorer.picture.value
    explorer.set(name="down")
    assert explorer.values == {"w": 1.0, "name": "down"}
    assert explorer.picture.value != first
