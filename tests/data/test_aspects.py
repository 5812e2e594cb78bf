"""Pictures in the shape that is asked for, and scenes anywhere in them."""

import pytest
import torch

from minidiff.data.aspects import ASPECTS, asked, aspects_of, drawn, moved
from minidiff.data.prompts import World, place
from minidiff.data.scenes import LATTICE, render
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.randomness import seeded


def test_the_word_of_a_shape_is_asked_for():
    said = [asked("a red circle", k) for k in range(3)]
    assert said == [
        "a picture of a red circle", "a wide picture of a red circle", "a tall picture of a red circle",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="aspect: got 3, expected 0 … 2"):
        asked("a red circle", 3)


def test_scenes_stand_anywhere_in_their_shape_and_still_show_their_prompts():
    prompts = World().prompts(300, 0)
    aspects = torch.arange(300) % 3
    before = place(prompts, 1)
    scenes = moved(before, aspects, seeded(2))
    by = torch.stack([scenes.row - before.row, scenes.column - before.column], -1)
    assert torch.equal(by.amax(1), by.amin(1))  # all objects of a scene alike
    for k, room in enumerate(([0, 0], [0, 8], [8, 0])):
        steps = by[aspects == k, 0]
        assert steps.amin(0).tolist() == [0, 0]
        assert steps.amax(0).tolist() == room
    pictures = drawn(scenes, aspects)
    assert torch.equal(aspects_of(pictures), aspects)
    for k, size in enumerate(ASPECTS.values()):
        rows = (aspects == k).nonzero()[:, 0]
        together = torch.stack([pictures[i] for i in rows.tolist()])
        assert torch.equal(together, render(scenes[rows], LATTICE, size))
        assert bool(same(parse(together).scenes, scenes[rows]).all())
        assert bool(matches([prompts[i] for i in rows.tolist()], together).all())


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"pictures: got one of shape \(3, 16, 20\)"):
        aspects_of([torch.zeros(3, 16, 20)])
