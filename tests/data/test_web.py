"""The small web: what it says of its faults is so, also where a fault does no harm."""

import pytest

from minidiff.data.captions import captions
from minidiff.data.prompts import World
from minidiff.data.web import collect


def test_a_text_that_says_the_same_is_not_wrong():
    """In a world of two captions, half of the texts from elsewhere are right all the same."""
    web = collect(400, 0, wrong=1.0, copied=0.5, world=World(("circle",), ("red", "blue"), ("one",)))
    own = captions(web.prompts)
    assert web.matched.tolist() == [text == said for text, said in zip(web.texts, own)]
    assert 0.3 < float(web.matched.float().mean()) < 0.7
    assert collect(1, 0, wrong=1.0).matched.tolist() == [True]  # there is no other pair


@pytest.mark.parametrize(
    "bad", [{"copied": 0.6}, {"copied": -0.1}, {"wrong": 1.1}, {"n": 0}, {"n": 2.5}, {"seed": 0.5}]
)
def test_unusable_input_is_named(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: got"):
        collect(**({"n": 10, "seed": 0} | bad))
