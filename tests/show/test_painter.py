"""The canvas without a browser: what a mouse does is done here by calling what it calls."""

import matplotlib.pyplot as plt
import pytest
import torch

from minidiff.show.painter import Painter, paint
from minidiff.show.widgets import WIDGET_VIEW

PALETTE = {"ground": (0.95, 0.95, 0.95), "red": (0.9, 0.1, 0.1), "black": (0.0, 0.0, 0.0)}


def blank() -> torch.Tensor:
    return torch.full((3, 16, 16), 0.9)


@pytest.fixture
def painter():
    seen = []

    def draw(guide, t0):
        seen.append((guide, t0))
        figure, ax = plt.subplots(figsize=(2, 2))
        ax.imshow(((guide + 1) / 2).permute(1, 2, 0).numpy())
        return figure

    made = Painter(draw, PALETTE, blank())
    made.seen = seen
    return made


def stroke(painter, *xy):
    painter._down(*xy[0])
    for point in xy[1:]:
        painter._move(*point)
    painter._up(*xy[-1])


def test_a_stroke_colours_the_cells_under_it_and_no_others(painter):
    c = painter.cell
    stroke(painter, (5 * c, 3 * c), (7 * c, 3 * c))  # a brush of 2×2, centred on corners of cells
    want = blank()
    want[:, 2:4, 4:8] = torch.tensor([0.8, -0.8, -0.8])[:, None, None]
    torch.testing.assert_close(painter.guide, want)
    painter._move(10 * c, 10 * c)  # a hand that only passes over paints nothing
    torch.testing.assert_close(painter.guide, want)


def test_another_colour_and_the_border(painter):
    painter.colour.value = "black"
    stroke(painter, (0, 0))
    stroke(painter, (16 * painter.cell, 16 * painter.cell))
    assert bool((painter.guide[:, 0, 0] == -1).all())
    assert bool((painter.guide[:, 15, 15] == -1).all())
    assert int((painter.guide == -1).all(0).sum()) == 2
    stroke(painter, (-50, -50))  # outside: nothing
    assert int((painter.guide == -1).all(0).sum()) == 2


def test_the_button_samples_what_is_painted_with_the_slider_s_t0(painter):
    assert len(painter.seen) == 1
    before = painter.picture.value
    stroke(painter, (80, 80))
    painter.t0.value = 0.7
    assert painter.picture.value == before  # painting alone samples nothing
    painter.sample.click()
    guide, t0 = painter.seen[-1]
    assert t0 == 0.7
    assert torch.equal(guide, painter.guide)
    assert painter.picture.value != before
    painter.clear.click()
    torch.testing.assert_close(painter.guide, blank())
    assert not torch.equal(guide, painter.guide)  # what was handed out is not painted over


def test_the_output_is_a_widget_and_a_picture(monkeypatch):
    shown = []
    monkeypatch.setattr("minidiff.show.painter.display", lambda bundle, raw: shown.append(bundle))
    painter = paint(lambda guide, t0: plt.figure(figsize=(1, 1)), PALETTE, blank())
    (bundle,) = shown
    assert bundle[WIDGET_VIEW]["model_id"] == painter.box.model_id
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert "red" in bundle["text/plain"]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="palette: got"):
        Painter(None, {"ground": (1, 1, 1)}, blank())
    with pytest.raises(ValueError, match="guide: got"):
        Painter(None, PALETTE, torch.zeros(1, 3, 16, 16))
