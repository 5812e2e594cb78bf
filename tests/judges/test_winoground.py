"""Winoground's three scores, against every order of four numbers."""

from itertools import permutations

import pytest
import torch

from minidiff.judges.ranking import winoground


def test_chance_is_a_quarter_a_quarter_and_a_sixth():
    """Of the 24 orders of four different similarities, each equally likely."""
    orders = torch.tensor(list(permutations(range(4))), dtype=torch.float32).reshape(24, 2, 2)
    found = winoground(orders)
    assert {name: int(value.sum()) for name, value in found.items()} == {"text": 6, "image": 6, "group": 4}


def test_text_asks_the_picture_and_image_asks_the_caption():
    rows = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all right
            [[0.5, 0.4], [0.7, 0.8]],  # each picture prefers its own caption; caption 0 prefers picture 1
            [[0.5, 0.7], [0.4, 0.8]],  # the other way round
            [[0.1, 0.9], [0.8, 0.2]],  # exchanged
            [[0.5, 0.5], [0.5, 0.5]],  # a tie counts against it
        ]
    )
    found = winoground(rows)
    assert found["text"].tolist() == [True, True, False, False, False]
    assert found["image"].tolist() == [True, False, True, False, False]
    assert found["group"].tolist() == [True, False, False, False, False]
    turned = winoground(rows.transpose(1, 2))  # pictures and captions trade places, and so do the scores
    assert torch.equal(turned["text"], found["image"])
    assert torch.equal(turned["image"], found["text"])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"similarity: .*expected shape \(N, 2, 2\)"):
        winoground(torch.zeros(4, 4))
