"""What a transformer of words and pictures learns from, and when a description is true."""

import pytest
import torch

from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.systems import transfusion
from minidiff.training import step_generator


def test_a_description_is_true_where_the_picture_shows_it_and_nothing_else():
    star, both = Prompt((Group("star", "red"),)), Prompt((Group("star", "red"), Group("circle", "blue")))
    pictures = render(place([star, both, star, star], 0))
    said = ["a red star", "a red star", "a red star and a blue circle", "star red a"]
    assert transfusion.true_of(said, pictures).tolist() == [True, False, False, False]


def test_a_quarter_of_the_rows_begins_with_the_picture_which_is_then_nearly_clean():
    draw = transfusion.draw_both(64)
    batches = [draw(step_generator(0, step)) for step in range(20)]
    first, t = (torch.cat([batch[k] for batch in batches]) for k in ("picture_first", "t"))
    silent = torch.cat([(batch["tokens"][:, 1] == 2) for batch in batches])
    assert float(first.float().mean()) == pytest.approx(transfusion.DESCRIBED, abs=0.05)
    assert float(t[first].max()) <= transfusion.SEEN
    assert float((t[first] == 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(t[~first].mean()) > 0.5
    assert not bool(silent[first].any())  # what is to be said is never empty
    assert float(silent[~first].float().mean()) == pytest.approx(0.1, abs=0.04)
