"""Edits in words: what they say is what happens, and nothing else does."""

from random import Random

import pytest
import torch

from minidiff.data.edits import KINDS_OF_EDIT, after, before, edit_of, edits, instructs, objection, told
from minidiff.judges.scenes import parse


def things(pictures: torch.Tensor) -> list[list]:
    seen = parse(pictures)
    assert bool(seen.readable.all())
    return [sorted(seen.scenes.objects(i), key=str) for i in range(len(pictures))]


def test_an_edit_changes_one_object_and_no_other():
    found = edits(200, 0, "train")
    assert {edit.text.split()[0] for edit in found} == {"remove", "make", "turn"}
    for edit, was, now in zip(found, things(before(found)), things(after(found))):
        gone, come = [t for t in was if t not in now], [t for t in now if t not in was]
        assert len(gone) == 1
        kind, colour, *_ = gone[0]
        assert f"the {colour} {kind}" in edit.text
        if edit.text.startswith("remove"):
            assert come == []
            continue
        new_kind, new_colour, *where = come[0]
        assert tuple(where) == gone[0][2:]  # the same size, in the same place
        told = f"make the {colour} {kind} {new_colour}", f"turn the {colour} {kind} into a {new_kind}"
        assert edit.text == told[new_kind != kind]
        assert (new_kind != kind) != (new_colour != colour)


def test_edits_are_of_one_split_and_the_same_again():
    assert edits(50, 3, "test") == edits(50, 3, "test") != edits(50, 4, "test")
    looks = lambda found: {tuple(sorted(t[:2] for t in edit.before)) for edit in found}
    pairs = [{look for look in looks(edits(400, 1, split)) if len(look) == 2} for split in ("train", "test")]
    assert len(pairs[0]) > 50 < 20 * len(pairs[1])
    assert not pairs[0] & pairs[1]


def test_each_kind_of_edit_can_be_asked_for():
    for what, verb in zip(KINDS_OF_EDIT, ("make", "turn", "remove")):
        assert {edit.text.split()[0] for edit in edits(20, 0, "train", what)} == {verb}
    alone = edit_of([("star", "red", "medium", 4, 4)], Random(0), "remove")
    assert alone.after == []


RED, BLUE, STAR = ("circle", "red", "medium", 3, 4), ("circle", "blue", "small", 9, 4), ("star", "red", "medium", 9, 12)


def test_an_instruction_is_read_back_into_the_scene_after_it():
    found = edits(500, 7, "train")
    assert {len(edit.before) for edit in found} == {1, 2, 3, 4}
    for edit in found:
        assert told(edit.text, edit.before) == edit.after
        assert told(f"Now {edit.text}.", edit.before) == edit.after
        assert objection(edit.text, edit.before) is None
        assert instructs(edit.text)
    others = found[1:] + found[:1]  # the control: another's instruction
    assert sum(told(other.text, edit.before) == edit.after for edit, other in zip(found, others)) < 25


def test_less_than_both_words_will_do_where_one_object_is_meant():
    scene = [RED, STAR]
    assert told("make the circle blue", scene) == [("circle", "blue", "medium", 3, 4), STAR]
    assert told("turn the star into a cross", scene) == [RED, ("cross", "red", "medium", 9, 12)]
    assert told("now  REMOVE the circle.", scene) == [STAR]
    assert told("remove the blue one", [BLUE, STAR]) == [STAR]
    assert told("make it black", [RED]) == [("circle", "black", "medium", 3, 4)]
    assert told("make the red circle red", scene) == scene
    assert told("remove the star", [STAR]) == []
    assert told("turn it into an astronaut", [STAR]) is None


@pytest.mark.parametrize(("text", "scene", "why"), [
    ("make the circle green", [RED, BLUE], "could be 2 things"),
    ("remove it", [RED, STAR], "could be 2 things"),
    ("remove the red one", [RED, STAR], "could be 2 things"),
    ("remove the cross", [RED, STAR], "no “the cross”"),
    ("remove it", [], "no “it”"),
    ("make the red circle pink", [RED], "“pink” is none of red, green"),
    ("make the red circle star", [RED], "“star” is none of red, green"),
    ("turn the red circle into a blue", [RED], "“blue” is none of circle"),
    ("make the red circle blue", [RED, BLUE], "a blue circle already"),
    ("make the cat blue", [("cat", None, "medium", 3, 4)], "A cat cannot be changed"),
    ("a red circle", [RED], "No instruction"),
    ("make blue", [RED], "No instruction"),
    ("", [RED], "No instruction"),
])  # fmt: skip
def test_what_cannot_be_carried_out_has_a_sentence_that_says_why(text, scene, why):
    kept = list(scene)
    assert told(text, scene) is None
    assert why in objection(text, scene)
    assert scene == kept
