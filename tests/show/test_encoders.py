"""The page behind the widget of two captions: what is asked of readers and measures, what is drawn, what is refused."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor

from minidiff.show import Explorer, Slider
from minidiff.show.encoders import two_captions

WORDS = {"a", "cat", "dog", "left", "of"}
A, B = "a cat left of a dog", "a dog left of a cat"
asked: list[tuple[list[str], float, list[int]]] = []


def ordered(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
    """As bright as the caption says, in its order; each seed another picture."""
    asked.append((list(texts), w, list(seeds)))
    level = torch.tensor([0.5 if text.startswith("a cat") else -0.5 for text in texts])
    return level[:, None, None, None] + torch.tensor(seeds)[:, None, None, None] / 100 + torch.zeros(1, 3, 8, 8)


def bag(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
    """Hears the words, but not their order."""
    return ordered([" ".join(sorted(text.split())) for text in texts], w, seeds)


def shared(texts: Sequence[str]) -> float:
    first, second = (set(text.split()) for text in texts)
    return len(first & second) / len(first | second)


@pytest.fixture
def draw():
    asked.clear()
    yield two_captions({"ordered": ordered, "bag": bag}, {"words shared": shared}, WORDS)
    plt.close("all")


def cells(figure: plt.Figure) -> np.ndarray:
    """The middle of every picture: (readers, 4)."""
    return np.asarray(figure.axes[0].images[0].get_array())[5::10, 5::10, 0]


def test_both_captions_are_drawn_from_the_same_noise(draw):
    figure = draw(f" {A.upper()}. ", B, 2.0, 7.0)
    assert asked[0] == ([A, A, B, B], 2.0, [7, 8, 7, 8])
    heard, unheard = cells(figure)
    assert (heard[:2] != heard[2:]).all()
    assert (unheard[:2] == unheard[2:]).all()  # the control: a reader without order
    assert heard[0] != heard[1]  # the seeds differ
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [A, B]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ordered", "bag"]


def test_either_caption_changes_its_own_pictures(draw):
    both = cells(draw(A, A, 1.0, 0.0))[0]
    assert (both[:2] == both[2:]).all()
    for texts, moved in (((B, A), slice(0, 2)), ((A, B), slice(2, 4))):
        changed = cells(draw(*texts, 1.0, 0.0))[0] != both
        assert changed[moved].all()
        assert changed.sum() == 2


def test_what_the_encoders_find_stands_above(draw):
    assert draw(A, B, 1.0, 0.0).get_suptitle() == "words shared 1.000 · w = 1"
    assert draw(A, "a cat", 1.5, 0.0).get_suptitle() == "words shared 0.400 · w = 1.5"


@pytest.mark.parametrize("texts", [(A, "a zebra"), ("a zebra", A)])
def test_a_word_that_nobody_has_read_is_refused_in_either_caption(draw, texts):
    figure = draw(*texts, 1.0, 0.0)
    assert asked == []
    assert figure.axes[0].get_title(loc="left") == "Never read: zebra"
    assert "cat dog" in figure.axes[0].texts[0].get_text()


def test_a_caption_that_would_be_cut_is_refused():
    asked.clear()
    for longest, drawn in ((5, 0), (6, 1)):
        figure = two_captions({"ordered": ordered}, {}, WORDS, longest)("a cat", A, 1.0, 0.0)
        assert len(asked) == drawn
        assert (figure.axes[0].get_title(loc="left") == "6 words, read are at most 5") is (not drawn)
    plt.close("all")


def test_an_empty_caption_is_no_condition(draw):
    figure = draw(A, " . ", 1.0, 0.0)
    assert asked[0][0] == [A, A, "", ""]
    assert "no condition" in figure.axes[0].get_xticklabels()[1].get_text()


def test_the_widget_draws_anew_when_either_caption_is_typed(draw):
    explorer = Explorer(draw, {"first": A, "second": A, "w": Slider(0, 4, 1, start=1), "seed": Slider(0, 9, 1, 0)})
    seen = [explorer.picture.value]
    for change in ({"second": B}, {"first": B}, {"second": "a zebra"}):
        explorer.set(**change)
        seen.append(explorer.picture.value)
    assert len({*seen}) == 4
    assert len(asked) == 2 * 3  # three pages of two readers; of the zebra there is none
