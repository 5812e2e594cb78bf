"""Edits in words: what they say is what happens, and nothing else does."""

from random import Random

import torch

from minidiff.data.edits import KINDS_OF_EDIT, after, before, edit_of, edits
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
