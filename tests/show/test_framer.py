"""The frame without a browser: what a mouse does is done here by calling what it calls."""

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from minidiff.show.framer import Framer, frame
from minidiff.show.widgets import WIDGET_VIEW


def sheet() -> torch.Tensor:
    return torch.linspace(-1, 1, 96).expand(3, 96, 96)


@pytest.fixture
def framer():
    seen = []

    def draw(top, left, size):
        seen.append((top, left, size))
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.plot([0, top], [0, left])
        return figure

    made = Framer(draw, sheet(), 64, {"size": [64, 16]})
    made.seen = seen
    return made


def drag(framer, *xy):
    framer._down(*xy[0])
    for point in xy[1:]:
        framer._move(*point)
    framer._up(*xy[-1])


def test_a_hand_moves_the_frame_and_the_model_is_asked_once_it_lets_go(framer):
    assert framer.seen == [(0, 0, 64)]
    drag(framer, (50, 50), (50, 60), (52, 50 + 3 * 17))  # the frame is gripped where the hand is
    assert framer.at == (17, 0)
    assert framer.seen[1:] == [(17, 0, 64)]
    framer._move(200, 200)  # a hand that only passes over moves nothing
    assert framer.at == (17, 0)
    drag(framer, (100, 100), (100 + 3 * 30, 100))
    assert framer.seen[2:] == [(0, 30, 64)], "two sliders moved, and one figure was drawn"
    drag(framer, (100, 100), (100, 100))
    assert len(framer.seen) == 3, "nothing moved, nothing drawn"


def test_a_frame_stays_on_the_sheet_and_goes_one_way(framer):
    assert framer.corner(-20, 500) == (32, 0)
    assert framer.corner(500, 500) == (0, 32)
    assert framer.corner(3 * 8, 3 * 9) == (9, 0)
    assert framer.corner(1, 1) == (0, 0)


def test_sliders_move_the_frame_too(framer):
    framer.explorer.set(left=12.0)
    assert framer.at == (0, 12)
    framer.explorer.set(size=16)
    assert framer.seen[-1] == (0, 12, 16)


def test_the_canvas_shows_the_sheet(framer):
    assert framer.pixels.shape == (288, 288, 3)
    assert int(framer.pixels[0, 0, 0]) == 0
    assert int(framer.pixels[0, -1, 0]) == 255


def test_a_notebook_can_keep_the_output(monkeypatch):
    shown = []
    monkeypatch.setattr("minidiff.show.framer.display", lambda bundle, raw: shown.append(bundle))
    framer = frame(lambda top, left: plt.figure(figsize=(1, 1)), sheet(), 64, static=[{}, {"top": 16.0}])
    (bundle,) = shown
    assert bundle[WIDGET_VIEW]["model_id"] == framer.box.model_id
    nbformat.validate(nbformat.v4.new_output("display_data", data=bundle), ref="display_data", version=4)


@pytest.mark.parametrize(("picture", "side"), [(sheet()[None], 64), (sheet(), 96), (sheet()[:, :80], 64), (sheet(), 0)])
def test_a_frame_that_does_not_fit_is_refused(picture, side):
    with pytest.raises(ValueError, match=r"^sheet, side: got"):
        Framer(lambda top, left: plt.figure(), picture, side)
