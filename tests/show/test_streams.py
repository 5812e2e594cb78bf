"""The page behind the widget of words and picture: which map is shown, on which scale, what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minidiff.show import Explorer, Slider
from minidiff.show.streams import MEAN, Looked, both_ways, chosen

WORDS = {"a", "red", "cat"}
asked: list[tuple[str, str, float, int]] = []


def maps(blocks: int, heads: int, words: int, back: bool = True):
    """Block i, head h, word m, square n, all but n from 1: 100·i + 10·h + m + n/100; the other way 1000 less that."""
    i, h, m, n = torch.meshgrid(*(torch.arange(float(k)) for k in (blocks, heads, words, 4)), indexing="ij")
    table = 100 * (i + 1) + 10 * (h + 1) + m + n / 100
    read = {f"b{k}": table[k].mT for k in range(blocks)}
    return read, {f"b{k}": 1000 - table[k] if back else None for k in range(blocks)}


def look(design: str, text: str, t: float, seed: int) -> Looked:
    asked.append((design, text, t, seed))
    words = [*text.split(), "END"]
    read, reads = maps(2 if design == "short" else 3, 2, len(words), design != "cross")
    return Looked(torch.zeros(3, 4, 4), torch.ones(3, 4, 4), words, read, reads)


@pytest.fixture
def draw():
    asked.clear()
    yield both_ways(look, WORDS, {"joint": 3, "short": 2, "cross": 3}, longest=3)
    plt.close("all")


def test_one_block_one_head_or_means():
    read, back = maps(3, 2, 5)
    assert torch.equal(chosen(read, "2", "1"), read["b1"][0])
    assert torch.allclose(chosen(read, MEAN, "2"), (read["b0"][1] + read["b1"][1] + read["b2"][1]) / 3)
    assert torch.allclose(chosen(back, "3", MEAN), back["b2"].mean(0))
    assert chosen(maps(3, 2, 5, back=False)[1], "1", MEAN) is None
    for block, head, name in (("4", "1", "block"), ("0", MEAN, "block"), ("1", "3", "head")):
        with pytest.raises(ValueError, match=f"{name}: got {block if name == 'block' else head}, expected 1 …"):
            chosen(read, block, head)


def drawn(figure: plt.Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


def test_each_word_has_its_column_above_and_its_row_below(draw):
    figure = draw(" A RED cat. ", "joint", "2", "1", 0.5, 7.0)
    assert asked == [("joint", "a red cat", 0.5, 7)]
    shown = drawn(figure)
    read, back = (table["b1"][0] for table in maps(3, 2, 4))
    assert len(shown) == 2 * (1 + 4)
    for m in range(4):
        assert np.allclose(shown[1 + m], read[:, m].reshape(2, 2))
        assert np.allclose(shown[6 + m], back[m].reshape(2, 2))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["it sees", "a", "red", "cat", "END", "it guesses", "a", "red", "cat", "END"]
    assert figure.get_suptitle() == "“a red cat” · joint · block: 2 · head: 1 · t = 0.5"


def test_maps_of_a_row_share_one_scale(draw):
    figure = draw("a cat", "joint", "1", "1", 0.5, 0.0)
    limits = [ax.images[0].get_clim() for ax in figure.axes[1:4]]
    assert len(set(limits)) == 1
    assert "darkest: 112.03" in figure.axes[0].texts[0].get_text()


def test_a_block_beyond_the_last_is_the_last(draw):
    assert "block: 2 ·" in draw("a cat", "short", "3", MEAN, 0.5, 0.0).get_suptitle()
    assert "block: 3 ·" in draw("a cat", "joint", "3", MEAN, 0.5, 0.0).get_suptitle()


def test_where_words_read_nothing_it_says_so(draw):
    figure = draw("a cat", "cross", "1", MEAN, 0.5, 0.0)
    assert len(drawn(figure)) == 2 + 3
    assert "words read nothing here" in {text.get_text() for ax in figure.axes for text in ax.texts}


def test_what_nobody_has_read_is_refused_before_anything_is_looked_at(draw):
    assert draw("a zebra", "joint", "1", MEAN, 0.5, 0.0).axes[0].get_title(loc="left") == "Never read: zebra"
    assert "4 words" in draw("a red red cat", "joint", "1", MEAN, 0.5, 0.0).axes[0].get_title(loc="left")
    assert asked == []
    with pytest.raises(ValueError, match="design: got 'other', expected one of"):
        draw("a cat", "other", "1", MEAN, 0.5, 0.0)


def test_the_widget_draws_anew_for_every_control(draw):
    controls = {
        "sentence": "a cat", "design": ["joint", "cross"], "block": [MEAN, "1"], "head": [MEAN, "2"],
        "t": Slider(0, 1, 0.1, start=0.5), "seed": Slider(0, 9, 1, start=0),
    }  # fmt: skip
    explorer = Explorer(draw, controls)
    seen = [explorer.picture.value]
    for change in ({"sentence": "a red cat"}, {"design": "cross"}, {"block": "1"}, {"head": "2"}, {"t": 0.9}):
        explorer.set(**change)
        seen.append(explorer.picture.value)
    assert len({*seen}) == 6
    assert asked[-1] == ("cross", "a red cat", 0.9, 0)
