"""The page behind the widget of text-to-picture systems: what it draws, and what it refuses."""

import matplotlib.pyplot as plt
import pytest
import torch

from minidiff.show import Explorer, Slider
from minidiff.show.playground import Painted, page, refusal, row, tidy, unknown

WORDS = {"a", "cat", "dog", "left", "of", ","}
asked: list[tuple[str, float]] = []


def paint(text: str, w: float) -> Painted:
    asked.append((text, w))
    stages = [torch.zeros(3, side, side) for side in (16, 32, 64)]
    return Painted(stages, text.split(), torch.rand(len(text.split()), 8, 8))


@pytest.fixture
def draw():
    asked.clear()
    yield page({"texts": paint, "pairs": paint}, WORDS)
    plt.close("all")


def titles(figure: plt.Figure) -> list[str]:
    return [ax.get_title(loc="center") for ax in figure.axes if ax.get_title(loc="center")]


def test_stages_and_words_are_shown_with_what_was_typed(draw):
    figure = draw("  A cat  left of a dog. ", "texts", 3.0)
    assert asked == [("a cat left of a dog", 3.0)]
    assert titles(figure) == ["16 px", "32 px", "64 px", "a", "cat", "left", "of", "a", "dog"]
    assert figure.get_suptitle() == "“a cat left of a dog” · reader: texts · w = 3"


def test_unknown_words_are_named_and_nothing_is_drawn(draw):
    figure = draw("a cat left of a zebra, or a Zebra", "texts", 0.0)
    assert asked == []
    assert figure.axes[0].get_title(loc="left") == "Never read: zebra, or"
    assert "cat dog" in figure.axes[0].texts[0].get_text()


def test_a_sentence_that_would_be_cut_is_not_drawn():
    asked.clear()
    figure = page({"texts": paint}, WORDS, longest=5)("a cat left of a dog", "texts", 0.0)
    assert figure.axes[0].get_title(loc="left") == "6 words, read are at most 5"
    assert asked == []
    page({"texts": paint}, WORDS, longest=6)("a cat left of a dog", "texts", 0.0)
    assert len(asked) == 1
    plt.close("all")


def test_every_text_is_looked_at_and_commas_are_no_words():
    assert refusal(["a cat", ""], WORDS, 3) is None
    figure = refusal(["a cat", "a zebra"], {*WORDS, ","}, 3)
    assert figure.axes[0].get_title(loc="left") == "Never read: zebra"
    assert "," not in figure.axes[0].texts[0].get_text()
    assert refusal(["a cat", "a cat left of a dog"], WORDS, 5) is not None
    assert tidy("  A Cat  left of a dog. ") == "a cat left of a dog"
    plt.close("all")


def test_pictures_stand_in_a_row():
    figure = row(torch.zeros(3, 3, 8, 8), "three")
    height, width = figure.axes[0].images[0].get_array().shape[:2]
    assert width > 2.5 * height
    assert figure.axes[0].get_title(loc="left") == "three"
    plt.close("all")


def test_an_empty_sentence_is_no_condition(draw):
    assert "no condition" in draw(" . ", "pairs", 0.0).get_suptitle()
    assert asked == [("", 0.0)]


def test_an_unknown_encoder_is_refused(draw):
    with pytest.raises(ValueError, match=r"encoder: got 'sounds', expected one of \['texts', 'pairs'\]"):
        draw("a cat", "sounds", 0.0)


def test_words_are_told_apart_as_the_tokenizer_does():
    assert unknown("a dog, a horse, a dog and a horse", WORDS) == ["horse", "and"]
    assert unknown("A CAT.", WORDS) == []


def test_the_widget_draws_anew_when_a_sentence_is_typed(draw):
    controls = {"sentence": "a cat", "encoder": ["texts", "pairs"], "w": Slider(0, 8, 1, start=1)}
    explorer = Explorer(draw, controls)
    first = explorer.picture.value
    explorer.set(sentence="a zebra")
    assert explorer.picture.value != first
    assert asked == [("a cat", 1.0)]
    explorer.set(sentence="a dog", encoder="pairs", w=2.0)
    assert asked[-1] == ("a dog", 2.0)
