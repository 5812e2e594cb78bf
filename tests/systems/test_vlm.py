"""A chat model that sees: its answers follow the picture, and so do edits by a generator that sees its states alone."""

from random import Random

import pytest
import torch

from minidiff.data.edits import Edit, after, before, edits
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.systems import llm, vlm
from minidiff.training import step_generator

STAR, DISC = ("star", "red", "medium", 4, 4), ("circle", "blue", "medium", 11, 11)


@pytest.fixture(scope="module")
def seeing():
    return vlm.SEEING.load()


@pytest.fixture(scope="module")
def editor():
    return vlm.EDITOR.load()


def test_what_is_asked_of_a_picture_is_answered_by_it():
    prompt, rng = Prompt((Group("star", "red"), Group("circle", "blue"))), Random(0)
    asked = {vlm.asked(prompt, [STAR, DISC], rng) for _ in range(300)}
    assert (vlm.DESCRIBE, "a red star and a blue circle") in asked
    assert ("user : remove the red star . assistant :", "a blue circle") in asked
    assert ("user : make the blue circle red . assistant :", "a red star and a red circle") in asked
    assert ("user : is there a star ? assistant :", "yes") in asked
    assert ("user : remove the red star . assistant :", "an empty picture") in {
        vlm.asked(Prompt((Group("star", "red"),)), [STAR], rng) for _ in range(200)
    }
    twice = {vlm.asked(Prompt((Group("star", "red", count=2),)), [STAR, STAR], rng)[0] for _ in range(200)}
    assert not any("make" in question or "remove" in question for question in twice)  # which of the two?


def test_every_word_of_an_instruction_is_known_and_fits():
    texts = [edit.text for edit in edits(300, 0, "train")]
    rows = vlm.instructed(texts)
    assert rows.shape == (300, vlm.TOLD)
    assert not bool((rows == UNKNOWN).any())
    assert bool((rows == 2).any(1).all())  # END is in every row: nothing was cut


def test_it_began_as_the_chat_model():
    built, text = vlm.build().state_dict(), llm.MODEL.load().state_dict()
    assert all(torch.equal(built[name], value) for name, value in text.items())
    assert built.keys() - text.keys() == {"look.weight", "look.bias", "spot"}


def test_answers_follow_the_picture(seeing):
    prompts = vlm.WORLD.prompts(200, 3, "test")
    prompts = [p for p in prompts if len(p.groups) == 1 and p.groups[0].count == 1 and p.groups[0].size == "medium"][
        :20
    ]
    x0, question = render(place(prompts, 1)), [vlm.DESCRIBE] * len(prompts)
    said = [llm.read(text) for text in llm.ask(seeing, question, x0)]
    right = sum(a is not None and a.groups == p.groups for a, p in zip(said, prompts))
    other = sum(a is not None and a.groups == p.groups for a, p in zip(said[1:], prompts))
    assert right >= 0.85 * len(prompts)
    assert other <= 0.4 * len(prompts)


def test_an_edit_follows_the_picture_that_is_shown(editor):
    """One instruction, two pictures that both fit it: each result keeps what its own picture had."""
    kept = [("circle", "blue", "medium", 11, 11), ("cross", "green", "medium", 11, 11)]
    told = "make the red star yellow"
    asked = [Edit(told, [STAR, other], [("star", "yellow", "medium", 4, 4), other]) for other in kept for _ in range(8)]
    drawn = vlm.editor(editor, steps=25)(before(asked), [told] * 16, 1.0, range(16))
    same, _ = vlm.done(asked, drawn)
    exchanged, _ = vlm.done(asked[8:] + asked[:8], drawn)
    assert int(same.sum()) >= 9
    assert int(exchanged.sum()) == 0


def test_done_asks_for_kinds_and_colours_and_places():
    asked = edits(60, 2, "test")
    assert all(part.all() for part in vlm.done(asked, after(asked)))
    assert not bool(vlm.done(asked, before(asked))[0].any())
    (one,) = edits(1, 5, "test", "colour")
    kind, colour, size, row, column = one.after[0]
    moved = Edit(one.text, one.before, [(kind, colour, size, (row + 8) % 16, column), *one.after[1:]])
    same, there = vlm.done([moved], after([one]))
    assert (bool(same), bool(there)) == (True, False)


def test_a_tenth_of_the_batches_is_silent_and_a_fifth_asks_for_nothing():
    draw = vlm.draw_edits(32)
    batches = [draw(step_generator(0, step)) for step in range(16)]
    silent = torch.cat([(batch["picture"] == 0).all(-1).all(-1).all(-1) for batch in batches])
    assert float(silent.float().mean()) == pytest.approx(0.1, abs=0.04)
    same = torch.cat([(batch["picture"] == batch["x0"]).flatten(1).all(1) for batch in batches])
    assert float(same.float().mean()) == pytest.approx(0.18, abs=0.05)  # of those that are not silent


def test_the_records_follow_the_picture():
    looks, edited = vlm.SEEING.record()["scores"], vlm.EDITOR.record()["scores"]
    for question, least in (("colour", 0.9), ("present", 0.85), ("relation", 0.7)):
        assert looks[question] >= least > looks[f"{question}, the next picture"] + 0.2
    for what in vlm.KINDS_OF_EDIT:
        assert edited[what] >= 0.5 > edited[f"{what}, the next picture"] + 0.3
        assert edited[f"{what}, grey"] <= 0.1
