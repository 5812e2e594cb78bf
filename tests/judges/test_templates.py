"""Templates are what the renderer draws: each laid over the ground is the picture of its object alone."""

import pytest
import torch

from minidiff.data.scenes import COLOURS, KINDS, SHAPES, SIZES, assemble, margin, render
from minidiff.judges.templates import templates


@pytest.mark.parametrize("cells", [(16, 16), (16, 24)])
def test_a_template_over_the_ground_is_the_picture_of_its_object(cells):
    found = templates(16, cells)
    empty = render(assemble([[]]), 16, cells)[0]
    chosen = torch.arange(0, len(found.label), 97)
    labels = found.label[chosen].tolist()
    things = [[(KINDS[kind], COLOURS[0], SIZES[size], row, column)] for kind, size, row, column in labels]
    drawn = render(assemble(things), 16, cells)
    alone = render(assemble([[("square", COLOURS[0], "large", 8, 8)]]), 16, cells)[0, :, 8, 8]  # its colour, unmixed
    cover = found.cover[chosen].unflatten(1, cells)[:, None]
    laid = empty * (1 - cover) + alone[:, None, None] * cover
    assert float((laid - drawn).abs().max()) < 0.02
    assert float((laid.roll(1, 0) - drawn).abs().amax((1, 2, 3)).median()) > 0.5  # the control: another's place


@pytest.mark.parametrize(("side", "kinds"), [(16, SHAPES), (32, KINDS)])  # sprites begin at 32 px
def test_every_place_that_cuts_nothing_off_and_no_other(side, kinds):
    found = templates(side, (16, 24))
    places = sum((16 - 2 * margin(size)) * (24 - 2 * margin(size)) for size in SIZES)
    assert len(found.label) == len(kinds) * places
    assert int(found.tinted.sum()) == len(SHAPES) * places
