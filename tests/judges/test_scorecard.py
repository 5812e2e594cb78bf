"""The scorecard: geometry of relations, questions with controls, and Wilson's interval against its definition."""

from math import sqrt

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import FAILURES, Group, Prompt, World, minimal_pairs, place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import (
    QUESTIONS,
    Score,
    answer,
    matches,
    objects_there,
    oracle,
    related,
    scorecard,
    shares,
    shows,
)
from minidiff.judges.sentences import read
from minidiff.randomness import seeded

RED, BLUE = Group("circle", "red"), Group("square", "blue")


def at(row, column, kind="circle", colour="red", size="medium"):
    return (kind, colour, size, row, column)


def test_directions():
    left, right, above, below = at(8, 4), at(8, 12), at(4, 8), at(12, 8)
    assert related("left of", [left], [right])
    assert related("right of", [right], [left])
    assert related("above", [above], [below])
    assert related("below", [below], [above])
    wrong = [("right of", left, right), ("left of", right, left), ("below", above, below), ("above", left, right)]
    assert not any(related(name, [a], [b]) for name, a, b in wrong)
    assert not related("left of", [at(8, 7)], [at(8, 8)])  # too close to call
    assert not related("left of", [at(3, 4)], [at(11, 10)])  # more above than left
    assert not related("left of", [], [right])


def test_surrounding_is_not_symmetric():
    ring, middle = [at(3, 8), at(11, 3), at(11, 13)], at(8, 8)
    assert related("surrounding", ring, [middle])
    assert not related("surrounding", [middle], ring)
    assert not related("surrounding", ring[:2], [middle])
    assert not related("surrounding", [at(3, 8), at(3, 3), at(3, 13)], [middle])  # all on one side
    large = at(8, 8, size="large")
    assert related("surrounding", [large], [at(8, 5, size="small"), at(8, 11, size="small")])
    assert not related("surrounding", [at(8, 8)], [at(8, 5, size="small")])
    assert not related("surrounding", ring, [large])


@pytest.mark.parametrize("change", ["colour", "kind", "count", "extra", "size", "ground", "absent"])
def test_shows_is_strict(change):
    prompt = Prompt((Group("circle", "red", "small"), BLUE), absent="star")
    good = [at(8, 4, size="small"), at(8, 12, "square", "blue")]
    wrong = {
        "colour": [at(8, 4, colour="blue", size="small"), good[1]], "kind": [at(8, 4, "cross", size="small"), good[1]],
        "count": [*good, good[1]], "extra": [*good, at(3, 3, "cross", "black")], "size": [at(8, 4), good[1]],
        "ground": good, "absent": [*good, at(3, 3, "star", "black")],
    }  # fmt: skip
    assert shows(prompt, good)
    assert not shows(prompt, wrong[change], "snow" if change == "ground" else "plain")


@pytest.mark.parametrize("failure", [*FAILURES, "surrounding"])
def test_minimal_pairs_are_told_apart_from_pixels(failure):
    """Rendered, read back and matched: right for their own caption, wrong for the other, without exception."""
    first, second = zip(*minimal_pairs(failure, 60, 3))
    for mine, other in ((first, second), (second, first)):
        x = render(place(mine, 4))
        assert bool(matches(mine, x).all())
        assert not bool(matches(other, x).any())


@pytest.fixture(scope="module")
def cards():
    """The scorecard of a generator that draws every prompt, and of one that draws the prompt of another caption."""
    world, n, asked = World(), 60, {}
    for question, family in (("one object", "one"), ("counting", "count"), ("position", "relation"),
                             ("attribute binding", "pair"), ("negation", "negation"), ("surrounding", "surrounding"),
                             ("long captions", "several")):  # fmt: skip
        style = "long" if question == "long captions" else "short"
        prompts = World(world.kinds, world.colours, (family,)).prompts(n, 0, "test")
        asked.update(zip(captions(prompts, style), prompts))
    draw = oracle()
    right = scorecard(lambda texts, w, seeds: draw([asked[t] for t in texts]), world, n=n)
    mixed = scorecard(lambda texts, w, seeds: draw([asked[t] for t in texts[1:] + texts[:1]]), world, n=n)
    return right, mixed


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_perfect_generator_answers_everything_and_a_shuffled_one_does_not(cards, question):
    right, mixed = cards
    assert right.scores[question].share == 1.0
    assert not right.failures[question]
    assert mixed.scores[question].share < 0.5
    caption, told, picture = mixed.failures[question][0]
    assert isinstance(caption, str)
    assert isinstance(told, str)
    assert picture.shape == (3, 16, 16)


def test_shares_count_whole_pictures_by_family_beside_the_next_caption():
    world, draw, heard = World(families=("one", "relation")), oracle(), []
    prompts = {t: p for f in world.families for p in World(families=(f,)).prompts(40, 3) for t in captions([p])}

    def perfect(texts, w, seeds):
        heard.append((w, list(seeds)))
        return draw([prompts[text] for text in texts])

    found = shares(perfect, world, 2.0, n=40, split=None, seed=3)
    assert heard == [(2.0, list(range(40)))] * 2
    assert {family: right.right for family, (right, _) in found.items()} == {"one": 40, "relation": 40}
    assert all(other.share < 0.2 for _, other in found.values())


def test_objects_count_one_by_one():
    """A red circle and a blue square: each picture shows both, one, neither, or noise, of which nothing is read."""
    both = Prompt((RED, BLUE))
    others = [Prompt((RED, Group("star", "green"))), Prompt((Group("circle", "blue"),))]
    pictures = render(place([both, *others], seeded(0)))
    noise = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1
    parsed = parse(torch.cat([pictures, noise]))
    assert parsed.readable.tolist() == [True, True, True, False]
    assert objects_there([both] * 4, parsed) == (2 + 1 + 0 + 0) / 8
    assert objects_there([both, *others, both], parsed) == (2 + 2 + 1 + 0) / 7


def test_geneval_asks_for_one_thing_at_a_time():
    """The wrong colour does not make "two objects" wrong, nor a third object "colours"; both spoil `shows`."""
    prompt = Prompt((RED, BLUE))
    swapped = [at(8, 4, colour="blue"), at(8, 12, "square", "red")]
    assert answer("two objects", prompt, swapped)
    assert not answer("attribute binding", prompt, swapped)
    assert answer("colours", Prompt((RED,)), [at(8, 8), at(3, 3, "star", "black")])
    assert not answer("counting", Prompt((Group("circle", "red", count=2),)), [at(8, 8)])


def test_unreadable_pictures_answer_nothing():
    prompts = World(families=("empty",)).prompts(5, 0)
    noise = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not bool(matches(prompts, noise).any())
    assert bool(matches(prompts, render(place(prompts, 0))).all())
    prompts = World(families=("relation",)).prompts(5, 0)
    assert bool(matches(prompts, parse(render(place(prompts, 0)))).all())


@pytest.mark.parametrize(("right", "asked"), [(0, 10), (10, 10), (7, 20), (450, 500)])
def test_wilsons_interval_solves_its_equation(right, asked):
    """Its ends are the p at which the observed share is exactly z standard errors away: |k/n − p| = z·√(p(1−p)/n)."""
    score = Score(right, asked)
    for p in score.interval:
        if 1e-9 < p < 1 - 1e-9:
            assert abs(right / asked - p) == pytest.approx(1.959964 * sqrt(p * (1 - p) / asked), rel=1e-6)
    low, high = score.interval
    assert 0 <= low <= score.share <= high + 1e-9 <= 1 + 2e-9
    assert high - low > 0


def test_bad_questions_are_named():
    with pytest.raises(ValueError, match="question: got 'beauty'"):
        answer("beauty", Prompt((RED,)), [])
    with pytest.raises(ValueError, match="n: got 0"):
        scorecard(lambda texts, w, seeds: torch.zeros(0), World(), n=0)
    with pytest.raises(ValueError, match="generate: got float32 tensor of shape \\(1,"):
        scorecard(lambda texts, w, seeds: torch.zeros(1, 3, 16, 16), World(), n=2)
    with pytest.raises(ValueError, match="pictures: got 1 of them, expected 2"):
        matches([Prompt(), Prompt()], torch.zeros(1, 3, 16, 16))


def test_a_worlds_own_split_is_kept():
    """A world of sprites holds out other prompts than the default."""
    asked = []

    def generate(texts, w, seeds):
        asked.extend(texts)
        return torch.zeros(len(texts), 3, 64, 64)

    world = SpriteWorld(families=("riding",))
    shares(generate, world, n=60)
    scorecard(generate, world, n=20, questions=("position",))
    prompts = [read(text) for text in asked]
    assert {world.split_of(prompt) for prompt in prompts} == {"test"}
    assert {prompt.split for prompt in prompts} == {"train", "test"}  # the control: the default's
