"""Prompts and captions: splits that never mix, minimal pairs that differ in one thing, words that say what is there."""

from collections import Counter

import pytest
import torch

from minidiff.data.captions import STYLES, caption, captions, vocabulary
from minidiff.data.prompts import FAILURES, FAMILIES, LECTURE, SIDEWAYS, Group, Prompt, World, minimal_pairs, place
from minidiff.data.scenes import COLOURS, KINDS, SHAPES, SIZES
from minidiff.encoders.tokenizer import CLIP_LENGTH, UNKNOWN, WordTokenizer, split
from minidiff.judges.scorecard import shows

EVERYTHING = World(kinds=KINDS)


def test_the_same_seed_gives_the_same_prompts_and_places():
    a, b = World().prompts(50, 7), World().prompts(50, 7)
    assert a == b
    assert a != World().prompts(50, 8)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    first, second = (place(a, g) for g in generators)
    assert torch.equal(first.row, second.row)
    assert not torch.equal(first.row, place(a, 4).row)


def test_held_out_contents_are_never_drawn_in_training():
    train, test = (World().prompts(4000, seed, name) for seed, name in ((0, "train"), (1, "test")))
    contents = {p.content for p in train}, {p.content for p in test}
    assert not contents[0] & contents[1]
    assert len(contents[1]) > 300
    share = Counter(p.split for p in World().prompts(4000, 2))["test"] / 4000
    assert share == pytest.approx(0.1, abs=0.03)
    # Control: without the split, the same draw does mix.
    assert {p.content for p in World().prompts(4000, 3)} & contents[1]


def test_a_content_is_held_out_in_every_arrangement():
    a, b = Group("circle", "red"), Group("star", "blue")
    variants = [Prompt((a, b)), Prompt((b, a)), *(Prompt((a, b), r) for r in SIDEWAYS)]
    variants += [Prompt((Group("circle", "red", "large"), Group("star", "blue", "small")), "surrounding")]
    assert len({p.split for p in variants}) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_placed_prompt_shows_what_it_says(family):
    prompts = World(EVERYTHING.kinds, COLOURS, (family,)).prompts(200, 0)
    scenes = place(prompts, 1)
    assert all(shows(p, scenes.objects(i)) for i, p in enumerate(prompts))


def test_the_lectures_prompts_can_be_placed_and_told_apart():
    scenes = place(list(LECTURE.values()), 0)
    grounds = ["plain", "plain", "snow", "plain"]
    for i, p in enumerate(LECTURE.values()):
        told = [shows(q, scenes.objects(i), grounds[i]) for q in LECTURE.values()]
        assert told == [q is p for q in LECTURE.values()]


@pytest.mark.parametrize("failure", [*FAILURES, "surrounding"])
def test_a_minimal_pair_is_two_different_pictures(failure):
    for seed in range(3):
        pairs = minimal_pairs(failure, 60, seed)
        first, second = (place([pair[i] for pair in pairs], seed) for i in (0, 1))
        for i, (a, b) in enumerate(pairs):
            assert shows(a, first.objects(i))
            assert shows(b, second.objects(i))
            assert not shows(b, first.objects(i))
            assert not shows(a, second.objects(i))
            assert caption(a) != caption(b)


@pytest.mark.parametrize("failure", ["relation", "attribute", "surrounding"])
def test_order_is_all_that_differs(failure):
    """A bag of words cannot tell these captions apart, once plurals are set aside."""
    stem = lambda text: sorted(w.removesuffix("es") if w == "crosses" else w.removesuffix("s") for w in text.split())
    number = {"a": "", "an": "", "some": ""}
    for a, b in minimal_pairs(failure, 100, 0):
        bags = [[number.get(w, w) for w in stem(caption(p))] for p in (a, b)]
        assert sorted(bags[0]) == sorted(bags[1])


def test_long_captions_differ_only_past_clips_limit():
    words = vocabulary()
    tokenizer, longer = WordTokenizer(words), WordTokenizer(words, 200)
    for a, b in minimal_pairs("length", 50, 0):
        texts = [caption(p, "long") for p in (a, b)]
        assert int(tokenizer.lengths(texts).min()) > CLIP_LENGTH
        cut = tokenizer.encode(texts)
        assert torch.equal(cut[0], cut[1])
        assert texts[0] != texts[1]
        whole = longer.encode(texts)
        assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("style", ["short", "paraphrase", "long"])
def test_the_vocabulary_knows_every_word_but_one(style):
    tokenizer = WordTokenizer(vocabulary(), 300)
    texts = captions(EVERYTHING.prompts(2000, 0) + list(LECTURE.values()), style)
    unknown = {word for text in texts for word in split(text)} - set(tokenizer.words)
    assert unknown == {"some"}
    assert len(tokenizer) == 134
    assert not bool((tokenizer.encode([t.replace("some ", "") for t in texts]) == UNKNOWN).any())
    assert bool((tokenizer.encode(["a mauve zebra"]) == UNKNOWN).any())


def test_captions_in_words():
    red, blue = Group("circle", "red"), Group("square", "blue")
    assert caption(Prompt()) == "an empty picture"
    assert caption(Prompt((red, blue), "left of")) == "a red circle left of a blue square"
    assert caption(Prompt((Group("cross", "red", count=3),), absent="star")) == "three red crosses and no star"
    assert caption(Prompt((red, blue, Group("star", "black", "small")))) == (
        "a red circle, a blue square and a small black star"
    )
    assert [caption(p) for p in LECTURE.values()] == [
        "some plants surrounding a lightbulb", "a lightbulb surrounding some plants", "a cat in the snow",
        "an astronaut riding a horse",
    ]  # fmt: skip


def test_german_has_its_genders_and_cases():
    circle, square, star = Group("circle", "red"), Group("square", "blue"), Group("star", "purple", "small")
    german = lambda *a, **k: caption(Prompt(*a, **k), "german")
    assert german((circle, square), "left of") == "ein roter kreis links von einem blauen quadrat"
    assert german((square, star), "below") == "ein blaues quadrat unter einem kleinen lila stern"
    assert german((Group("circle", "red", count=2),), absent="cat") == "zwei rote kreise und keine katze"
    assert german((Group("cat"),), ground="snow") == "eine katze im schnee"
    assert caption(LECTURE["plants surrounding a lightbulb"], "german") == "einige pflanzen rund um eine glühbirne"


def test_a_german_caption_says_as_much_as_an_english_one():
    """Different English captions have different German ones, and the other way round."""
    prompts = EVERYTHING.prompts(3000, 1)
    pairs = set(zip(captions(prompts), captions(prompts, "german")))
    assert len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})


def test_paraphrases_vary_and_are_reproducible():
    prompts = World(families=("relation",)).prompts(300, 0)
    texts = captions(prompts, "paraphrase", seed=1)
    assert texts == captions(prompts, "paraphrase", seed=1) != captions(prompts, "paraphrase", seed=2)
    assert len({" ".join(w for w in split(t) if w not in (*COLOURS, *SHAPES, *SIZES)) for t in texts}) >= 12


def test_a_scene_can_be_told_from_either_object():
    """Turned, a prompt allows the very same scenes; swapped, none of them."""
    for prompt in World(families=("relation",)).prompts(50, 0):
        things = place([prompt], 1).objects(0)
        assert shows(prompt.turned(), things)
        assert not shows(prompt.swapped(), things)
        assert prompt.turned().turned() == prompt


def test_bad_prompts_are_named():
    red = Group("circle", "red")
    for prompt, message in (
        (lambda: Prompt((Group("circle", "red", count=5),)), "groups: got 5 objects"),
        (lambda: Prompt((red,), "left of"), "groups: got 1, expected 2"),
        (lambda: Prompt((red, red), "beside"), "relation: got 'beside'"),
        (lambda: Prompt((Group("blob", "red"),)), "kind: got 'blob'"),
        (lambda: Prompt((Group("circle", None),)), "colour: got None"),
        (lambda: Prompt((Group("cat", "red"),)), "colour: got 'red'"),
        (lambda: Prompt((red,), absent="circle"), "absent: got 'circle'"),
        (lambda: World(kinds=("blob",)), "kinds: got"),
        (lambda: World().prompts(1, 0, "valid"), "split: got 'valid'"),
        (lambda: World(kinds=("circle",), colours=("red",), families=("empty",)).prompts(1, 0, "test"), "larger world"),
        (lambda: minimal_pairs("syntax", 1, 0), "failure: got 'syntax'"),
        (lambda: caption(Prompt(), "latin"), "style: got 'latin'"),
    ):
        with pytest.raises(ValueError, match=message):
            prompt()
    assert set(STYLES) == {"short", "paraphrase", "long", "german"}
