"""The conversation without a browser: what a hand does is done here by calling what it calls."""

import matplotlib.pyplot as plt
import pytest
import torch

from minidiff.data.edits import told
from minidiff.data.scenes import assemble, render
from minidiff.show.chat import NO_PICTURE, Chat, chat, judged, page, wish
from minidiff.show.widgets import WIDGET_VIEW
from minidiff.systems.hunyuan import read

WORDS = {"a", "wide", "tall", "picture", "of", "the", "red", "blue", "green", "circle", "star", "cross", "and", "make",
    "turn", "into", "remove", "it"}  # fmt: skip
CIRCLE, STAR = ("circle", "red", "medium", 4, 4), ("star", "blue", "medium", 11, 11)
FIRST = "a picture of a red circle and a blue star"


def drawn(*objects, cells=(16, 16)) -> torch.Tensor:
    return render(assemble([list(objects)]), 16, cells)[0]


def after(text, *objects):
    """The lines of the judge for a picture of `objects` that came after CIRCLE and STAR."""
    return judged(text, drawn(*objects), list(objects), (drawn(CIRCLE, STAR), [CIRCLE, STAR]))


@pytest.fixture
def talk():
    """A reply that does as it is told, and writes down what it was asked."""
    asked = []

    def reply(history, text, seed):
        asked.append((list(history), text, seed))
        return drawn(*told(text, read([history[-1]])[0])) if history else drawn(CIRCLE, STAR)

    made = Chat(reply, WORDS)
    made.asked = asked
    yield made
    plt.close("all")


def test_every_turn_is_asked_with_all_that_was_said_and_drawn_before(talk):
    talk.seed.value = 5
    for typed in (FIRST, "  Now make the RED circle green. ", "remove the star"):
        talk.line.value = typed
        talk.ask.click()
        assert talk.line.value == ""
    assert [(text, seed) for _, text, seed in talk.asked] == [
        (FIRST, 5), ("make the red circle green", 5), ("remove the star", 5)
    ]  # fmt: skip
    history = talk.asked[2][0]
    assert history[::2] == [FIRST, "make the red circle green"]
    assert torch.equal(history[1], drawn(CIRCLE, STAR))
    assert torch.equal(history[3], drawn(("circle", "green", *CIRCLE[2:]), STAR))
    assert len(talk.column.children) == len(talk.turns) == 3
    assert all(right for turn in talk.turns for right, _ in turn.lines)
    assert [text for _, text in talk.turns[2].lines] == ["followed: no blue star", "kept: the green circle"]


def test_enter_asks_and_other_messages_do_not(talk):
    talk.line.value = FIRST
    talk._pressed(talk.line, {"event": "other"}, [])
    assert talk.turns == []
    talk._pressed(talk.line, {"event": "submit"}, [])
    assert len(talk.turns) == 1


@pytest.mark.parametrize(("typed", "why"), [
    ("a picture of a zebra", "Never read: zebra. It knows: a and"),
    ("make the cross green", "There is no “the cross”"),
    ("make it green", "“it” could be 2 things"),
    (" . ", "Say what to draw"),
])  # fmt: skip
def test_a_refused_sentence_stays_and_nothing_is_lost(talk, typed, why):
    talk.say(FIRST)
    turns, shown = list(talk.turns), talk.column.children
    talk.line.value = typed
    talk.ask.click()
    assert talk.message.value.startswith(why)
    assert talk.line.value == typed
    assert talk.turns == turns
    assert talk.column.children == shown
    assert len(talk.asked) == 1
    assert talk.say("remove the star")
    assert talk.message.value == ""


def test_an_instruction_needs_a_picture(talk):
    assert not talk.say("make the red circle green")
    assert talk.message.value == NO_PICTURE
    assert talk.asked == []


def test_start_again_forgets_the_turns_and_keeps_the_seed(talk):
    talk.seed.value = 3
    talk.say(FIRST)
    talk.say("a zebra")
    talk.again.click()
    assert (talk.turns, talk.column.children, talk.line.value, talk.message.value) == ([], (), "", "")
    talk.say(FIRST)
    assert talk.asked[-1] == ([], FIRST, 3)


def test_what_was_told_is_judged_and_so_is_what_was_not():
    green = ("circle", "green", *CIRCLE[2:])
    make = "make the red circle green"
    assert after(make, green, STAR) == [(True, "followed: a green circle"), (True, "kept: the blue star")]
    assert [right for right, _ in after(make, CIRCLE, STAR)] == [False, True]  # not followed, the rest kept
    assert [right for right, _ in after(make, green)] == [True, False]  # followed, the rest gone
    assert [right for right, _ in after(make, green, (*STAR[:3], 4, 11))] == [True, False]  # moved: not kept
    assert [right for right, _ in after(make, green, (*STAR[:3], 10, 12))] == [True, True]  # by a cell: kept
    assert after(make, green, STAR, ("cross", "red", "medium", 4, 11))[-1] == (False, "3 objects, 2 expected")
    assert [right for right, _ in after("remove the star", CIRCLE)] == [True, True]
    assert after("remove the star", CIRCLE, STAR)[0] == (False, "followed: no blue star")
    assert after("make the red circle red", CIRCLE, STAR) == [
        (True, "kept: the red circle"),
        (True, "kept: the blue star"),
    ]


def test_an_unreadable_picture_is_wrong_and_after_it_nothing_can_be_judged():
    noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert read([noise]) == [None]
    before = drawn(CIRCLE), [CIRCLE]
    make = "make the circle green"
    assert judged(make, noise, None, before) == [(False, "followed: a green circle"), (False, "unreadable")]
    assert [right for right, _ in judged("remove the circle", noise, None, before)] == [False, False]
    ((right, text),) = judged(make, drawn(CIRCLE), [CIRCLE], (noise, None))
    assert right is None
    assert "could not be read" in text
    made = Chat(lambda history, text, seed: noise, WORDS, [FIRST, make])  # asked all the same
    assert [turn.seen for turn in made.turns] == [None, None]
    plt.close("all")


def test_a_wish_is_judged_by_its_caption_and_its_shape():
    wide = drawn(CIRCLE, cells=(16, 24))
    asked = "a wide picture of a red circle"
    assert [right for right, _ in judged(asked, wide, [CIRCLE], None)] == [True, True]
    assert judged(asked, drawn(CIRCLE), [CIRCLE], None)[1] == (False, "wide was asked, square it is")
    assert judged("a picture of a blue star", wide, [CIRCLE], None)[0][0] is False
    assert judged("a red circle", wide, [CIRCLE], None) == [(True, "shows what was asked, and nothing else")]
    assert judged("red red", wide, [CIRCLE], None)[0][0] is None
    changed = judged("make it blue", wide, [("circle", "blue", *CIRCLE[2:])], (drawn(CIRCLE), [CIRCLE]))
    assert changed[1:] == [(False, "wide, and square before")]
    assert wish("tall picture of a red star")[0] == "tall"
    assert wish("red the of") is None


def test_a_turn_is_drawn_with_its_verdicts():
    noted = Chat(lambda history, text, seed: (drawn(CIRCLE), "it chose a square"), WORDS, ["a picture of a blue star"])
    figure = page(noted.turns[0], 1)
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["1. “a picture of a blue star”", "read: red circle", "✗ shows what was asked, and nothing else",
        "· it chose a square"]  # fmt: skip
    assert len({text.get_color() for text in figure.axes[1].texts}) == 3
    plt.close("all")


def test_the_output_is_a_widget_and_a_picture_of_the_opening(monkeypatch):
    shown = []
    monkeypatch.setattr("minidiff.show.chat.display", lambda bundle, raw: shown.append(bundle))
    made = chat(lambda history, text, seed: drawn(CIRCLE), WORDS, ["a red circle", "make it red"])
    (bundle,) = shown
    assert bundle[WIDGET_VIEW]["model_id"] == made.box.model_id
    assert bundle["image/png"].startswith("iVBOR")
    assert bundle["text/plain"] == "[a conversation: a red circle; make it red]"


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="reply: got"):
        Chat(None, WORDS)
    with pytest.raises(ValueError, match="opening: got 'a zebra'"):
        Chat(lambda history, text, seed: drawn(CIRCLE), WORDS, ["a zebra"])
    with pytest.raises(ValueError, match=r"reply: got .*a picture \(3, H, W\)"):
        Chat(lambda history, text, seed: drawn(CIRCLE)[None], WORDS).say("a red circle")
