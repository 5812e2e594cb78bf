"""The picture of failures shows the wrong pictures, with what was asked and read, and nothing when all is right."""

import pytest
import torch

from minidiff.data.prompts import World, place
from minidiff.data.scenes import render
from minidiff.judges.scorecard import Score, Scorecard, scorecard
from minidiff.show.failures import failures


def test_each_wrong_picture_stands_under_its_caption():
    world = World(families=("one",))
    drawn = render(place(world.prompts(12, 5, "train"), 6))
    card = scorecard(lambda texts, w, seeds: drawn, world, n=12, questions=("colours",))
    figure = failures(card, columns=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == min(4, len(card.failures["colours"]))
    for ax, (caption, read, picture) in zip(shown, card.failures["colours"]):
        assert ax.get_title().replace("\n", " ") == caption
        assert [t.get_text().replace("\n", " ") for t in ax.texts][-1] == read
        torch.testing.assert_close(torch.tensor(ax.images[0].get_array().data), (picture.permute(1, 2, 0) + 1) / 2)


def test_nothing_wrong_is_nothing_to_show():
    with pytest.raises(ValueError, match="card: got a scorecard without failures"):
        failures(Scorecard({"colours": Score(3, 3)}, {"colours": []}))
