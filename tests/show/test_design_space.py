"""The figures of chapter 15 show the numbers that they are given."""

import matplotlib.pyplot as plt
import pytest
import torch

from minidiff.judges.scorecard import Score
from minidiff.show.figures import design_space as draw

ROWS = {"good": {"one": (Score(95, 100), Score(4, 100)), "two": (Score(60, 100), Score(1, 100))},
        "poor": {"one": (Score(10, 100), Score(9, 100))}}  # fmt: skip


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_board_has_each_share_its_interval_and_its_control():
    draw.board(ROWS, ["one", "two"], "a title")
    one, two = plt.gcf().axes
    drawn = lambda ax: [tuple(map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata())]
    low, high = (100 * end for end in Score(95, 100).interval)
    assert drawn(one)[:3] == [pytest.approx((low, high)), (95.0,), (4.0,)]
    assert drawn(one)[4:6] == [(10.0,), (9.0,)]
    assert len(drawn(two)) == 3, "who was not asked has no point"
    assert [label.get_text() for label in one.get_yticklabels()] == ["good", "poor"]


def test_a_mark_says_what_the_judge_found():
    pictures = {"a": torch.zeros(2, 3, 8, 8), "b": torch.ones(2, 3, 8, 8)}
    draw.drawn(pictures, ["a cat", "a dog"], {"a": [True, False], "b": [False, True]}, "a title")
    assert [ax.texts[0].get_text() for ax in plt.gcf().axes] == ["✓", "✗", "✗", "✓"]
    assert [ax.get_ylabel() for ax in plt.gcf().axes] == ["a", "", "b", ""]


def test_the_best_of_many_is_the_best_of_each_round():
    draw.best_of(torch.tensor([[0.5, 0.7], [0.5, 0.6]]), 0.5, "a title")
    (ax,) = plt.gcf().axes
    bars = sorted((round(bar.get_x() + bar.get_width() / 2, 3), round(bar.get_height(), 3)) for bar in ax.patches)
    assert bars == [(0.5, 1.0), (0.6, 0.5), (0.7, 0.5)]
