"""The chat model: what it is asked, what it answers, what its template holds."""

from random import Random

import pytest
import torch

from minidiff.data.prompts import Group, Prompt
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.systems import llm
from minidiff.training import step_generator

RED, BLUE = Group("circle", "red"), Group("square", "blue")


@pytest.fixture(scope="module")
def model():
    return llm.MODEL.load()


def test_questions_are_answered_by_the_prompt_alone():
    left, rng = Prompt((RED, BLUE), "left of"), Random(0)
    asked = {llm.relation(left, rng) for _ in range(50)}
    assert asked == {
        ("what is left of the blue square ?", "a red circle"),
        ("what is right of the red circle ?", "a blue square"),
        ("is the red circle left of the blue square ?", "yes"),
        ("is the blue square left of the red circle ?", "no"),
    }
    without = Prompt((RED,), absent="star")
    assert {llm.present(without, rng) for _ in range(50)} == {
        ("is there a circle ?", "yes"),
        ("is there a star ?", "no"),
    }
    assert llm.colour(left, rng) in {("what colour is the circle ?", "red"), ("what colour is the square ?", "blue")}
    assert llm.colour(Prompt((RED, Group("circle", "blue"))), rng) is None  # which of the two?
    assert llm.number(Prompt((Group("star", "red", count=3),)), rng) == ("how many red stars are there ?", "three")
    assert llm.reworded(Prompt((RED, BLUE)), rng) is None  # a list has no order of its own


def test_every_word_is_known_and_every_dialogue_fits():
    for style in llm.STYLES:
        found = llm.corpus(300, style, 5)
        tokens, answer = llm.rows(found)
        assert not bool((tokens == UNKNOWN).any())
        assert int(llm.tokenizer().lengths([f"{q} {a}" for q, a in found]).max()) <= llm.LENGTH
        said = llm.tokenizer().decode(tokens.masked_fill(~answer, 0))
        assert said == llm.tokenizer().decode(llm.tokenizer().encode([a for _, a in found]))
    assert not bool((llm.tokenizer().encode([llm.INSTRUCTED]) == UNKNOWN).any())


def test_the_template_is_the_same_before_every_caption():
    rows = llm.chat(["a red circle", "three blue stars and a dog"])
    assert torch.equal(rows[0, : llm.CUT], rows[1, : llm.CUT])
    assert llm.tokenizer().decode(rows[:1, llm.CUT : llm.CUT + 3]) == ["a red circle"]


def test_batches_are_a_function_of_the_step():
    draw = llm.draw_dialogues(8, n=200)
    a, b, c = (draw(step_generator(0, step)) for step in (3, 3, 4))
    assert torch.equal(a["tokens"], b["tokens"])
    assert a["tokens"].shape == a["answer"].shape
    assert not torch.equal(a["tokens"], c["tokens"])


def test_it_answers_what_it_was_never_asked(model):
    """Held-out contents, and the answers of the next question as a control."""
    rng, asked = Random(3), []
    for prompt in llm.WORLD.prompts(60, 9, "test"):
        answered = llm.reworded(prompt, rng) or llm.present(prompt, rng)
        asked.append((f"user : {llm.caption(prompt, 'paraphrase', rng)} . {answered[0]} assistant :", answered[1]))
    said = llm.ask(model, [question for question, _ in asked])
    right = [llm.means(a, wanted) for a, (_, wanted) in zip(said, asked)]
    other = [llm.means(a, wanted) for a, (_, wanted) in zip(said[1:], asked)]
    assert sum(right) >= 0.9 * len(asked)
    assert sum(other) <= 0.5 * len(asked)


def test_it_says_paraphrases_shortly(model):
    said = llm.shortly(model, ["there is a blue square with a red circle on its left", "a red circle without a star"])
    assert said == ["a red circle left of a blue square", "a red circle and no star"]


def test_a_sentence_means_the_same_seen_from_the_other_object():
    assert llm.means("a red circle left of a blue square", "a blue square right of a red circle")
    assert not llm.means("a red circle left of a blue square", "a blue square left of a red circle")
    assert llm.means("yes", "yes")
    assert not llm.means("yes", "no")
