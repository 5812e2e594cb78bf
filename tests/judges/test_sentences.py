"""The grammar of captions from the other end: every sentence is read back, what is none is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.data.captions import caption, captions, vocabulary
from minidiff.data.prompts import FAMILIES, LECTURE, SCENIC, Prompt, World
from minidiff.data.scenes import KINDS
from minidiff.data.sprites import SpriteWorld
from minidiff.judges.sentences import distance, read

EVERYTHING = World(kinds=KINDS, families=FAMILIES + SCENIC)


@pytest.mark.parametrize("family", EVERYTHING.families)
def test_what_was_put_into_words_is_read_back(family):
    prompts = replace(EVERYTHING, families=(family,)).prompts(300, 0) + [
        prompt for prompt in LECTURE.values() if family in (prompt.relation, prompt.ground)
    ]
    for prompt, text in zip(prompts, captions(prompts)):
        found = read(text)
        assert found is not None, text
        assert caption(found) == text
        some = prompt.relation == "surrounding"  # its sizes, and how many are "some", go without saying
        assert some or found == prompt


NONE = (
    "", "a", "cat", "a cat cat", "a cat left of", "left of a cat", "two cat", "a cats", "an cat", "a astronaut",
    "a cat and a dog and a fish", "a cat, a dog", "four cats and a dog", "a large cat and a dog", "no cat",
    "a cat surrounding some dogs", "a red cat", "a circle", "a cat in the snow in the snow", "a cat and no cat",
    "a cat riding two dogs", "small a cat", "a cat  and a dog", "some cats", "an empty picture in the snow",
    "a cat left of a dog right of a fish", "five cats", "a mauve circle", "one cat", "A cat", "a cat.",
)  # fmt: skip


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_sentence_is_refused(text):
    assert read(text) is None


@given(st.integers(0, 2**31), st.integers(0, 15), st.sampled_from(["drop", "swap", "put"]))
def test_a_damaged_sentence_is_refused_or_says_something_else(seed, place, how):
    prompt = SpriteWorld().prompts(1, seed)[0]
    words = caption(prompt).split()
    place %= len(words)
    if how == "drop":
        del words[place]
    elif how == "swap":
        words[place], words[-1 - place] = words[-1 - place], words[place]
    else:
        words.insert(place, vocabulary(("short",))[seed % 40])
    text = " ".join(words)
    found = read(text)
    if found is not None and text != caption(prompt):
        assert found != prompt


def test_distance_in_words():
    assert distance("a cat left of a dog", "a cat left of a dog") == 0
    assert distance("a cat left of a dog", "a dog left of a cat") == 2
    assert distance("a cat", "a small cat") == 1
    assert distance("", "a cat") == 2
    assert distance("a cat and a dog", "") == 5
    assert read("an empty picture") == Prompt()


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), min_size=3, max_size=3))
def test_distance_is_a_metric(rows):
    a, b, c = (" ".join(row) for row in rows)
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert (distance(a, b) == 0) == (a == b)
