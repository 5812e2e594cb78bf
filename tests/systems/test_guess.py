"""The guess: conversations become codes, and codes become pictures; what the shipped three do, beside controls."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.data.scenes import assemble, render
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.judges.scenes import parse, same
from minidiff.systems import guess
from minidiff.systems.hunyuan import as_told
from minidiff.systems.hunyuan import read as seen_in
from minidiff.training import step_generator

EMPTY = guess.TOKENS.encode([""])[0]


@pytest.fixture(scope="module")
def three():
    return guess.Guess.load()


# --- conversations


def test_each_instruction_changes_the_object_that_it_names_and_no_other():
    told, short = guess.stories(300, 0, "train"), 0
    for story in told:
        for text, before, after in zip(story.texts[1:], story.scenes, story.scenes[1:]):
            gone, new = [t for t in before if t not in after], [t for t in after if t not in before]
            assert len(gone) == 1
            assert len(new) == (0 if text.startswith("remove") else 1)
            kind, colour, *place = gone[0]
            assert new == [] or list(new[0][2:]) == place
            named = f"the {colour} {kind}" in text
            short += not named
            assert named or (f"the {kind}" in text and [t[0] for t in before].count(kind) == 1)
            assert after
    assert 0.3 < short / 600 < 0.5  # half of those where one of a kind is there
    assert {story.prompt.split for story in told} == {"train"}
    tokens = guess.TOKENS.encode([text for story in told for text in story.texts])
    assert not bool((tokens == UNKNOWN).any())
    assert bool((tokens == 2).any(1).all())
    assert max(guess.TOKENS.lengths([text for story in told for text in story.texts])) == guess.LENGTH


def test_batches_are_a_function_of_seed_and_step_and_a_tenth_of_the_texts_is_silent(three):
    draws = [guess.draw_conversations(8, three.codec) for _ in range(2)]
    first, again = (draw(step_generator(0, 20)) for draw in draws)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert (first["tokens"].shape, first["codes"].shape) == ((8, 3, 10), (8, 3, 4, 4))
    assert not torch.equal(first["codes"], draws[0](step_generator(0, 21))["codes"])
    tokens = torch.cat([draws[0](step_generator(0, step))["tokens"] for step in range(16, 48)])
    assert float((tokens == EMPTY).all(-1).float().mean()) == pytest.approx(guess.DROP, abs=0.03)


def test_a_conversation_is_written_with_the_codes_of_its_pictures(three):
    story, other = guess.stories(2, 0, "test")
    before, after = (render(assemble([scene])) for scene in story.scenes[:2])
    a, b = (three.codec.encode(x)[0] for x in (before, after))
    rows = [[story.texts[0], before[0], story.texts[1], b, story.texts[2]], ["", before[0], other.texts[1], a, ""]]
    tokens, codes = guess.written(three.codec, rows)
    assert torch.equal(codes, torch.stack([torch.stack([a, b]), torch.stack([a, a])]))
    assert guess.TOKENS.decode(tokens[0]) == story.texts
    assert torch.equal(tokens[1, 0], EMPTY)
    assert torch.equal(guess.written(three.codec, [rows[1][1:]])[0], tokens[1:])  # an empty text is put before it


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows: "),
        ([["a red star", "make it blue"]], r"rows: .*text, picture, …, text"),
        ([["a red star"], ["a red star", torch.zeros(4, 4, dtype=torch.int64), "remove the star"]], "rows: .*as long"),
        ([[torch.zeros(3, 8, 8), "remove the star"]], r"rows: .*pictures \(3, 16, 16\)"),
        ([[torch.zeros(4, 4), "remove the star"]], r"rows: .*codes int64 \(4, 4\)"),
        ([[torch.full((4, 4), 512), "remove the star"]], "codes: .*codes 0 … 511"),
    ],
    ids=["none", "no picture", "lengths", "size", "float codes", "range"],
)
def test_what_is_no_conversation_is_refused(three, rows, message):
    with pytest.raises(ValueError, match=message):
        guess.decide(three, rows, 0.0, range(len(rows)))


# --- pictures as codes, codes as pictures


@torch.no_grad()
def test_sixteen_codes_are_a_picture(three):
    """Read exactly as drawn by the codec's own decoder: as the record says, on fewer pictures."""
    x = render(assemble([s.scenes[i % 3] for i, s in enumerate(guess.stories(100, 5, "test"))]))
    codes, drawn = three.codec.encode(x), parse(x).scenes
    assert codes.shape == (100, 4, 4)

    def right(codes):
        read = parse(three.codec.decode(codes, clamp=True))
        return float((same(drawn, read.scenes) & read.readable).float().mean())

    recorded = guess.CODES.record()["scores"]
    assert right(codes) == pytest.approx(recorded["read as drawn"], abs=0.12)
    assert right(codes.roll(1, 0)) <= 0.03  # the controls: another's; each code exchanged for the next
    assert right((codes + 1) % guess.SIZE) == 0


@torch.no_grad()
def test_a_code_is_of_its_own_pixels_alone(three):
    """So that where an edit leaves the pixels, the codes stay."""
    told = guess.stories(100, 2, "test")
    codes = guess.coded(three.codec, [story.scenes[:2] for story in told])
    x = render(assemble([scene for story in told for scene in story.scenes[:2]])).unflatten(0, (100, 2))
    changed = F.max_pool2d((x[:, 0] - x[:, 1]).abs().amax(1), 4) > 0
    assert 0.2 < float(changed.float().mean()) < 0.5
    assert torch.equal(codes[:, 0][~changed], codes[:, 1][~changed])
    assert float((codes[:, 0] != codes[:, 1])[changed].float().mean()) > 0.8  # the control


def test_the_painter_sees_the_codes_and_nothing_else(three):
    told = guess.stories(60, 5, "test")
    codes = guess.coded(three.codec, [[story.scenes[1]] for story in told])[:, 0]

    def right(codes, dropped=False):
        seen = seen_in(list(guess.paint(three.pixels, codes, range(60), dropped)))
        return sum(as_told(story.scenes[1], things) for story, things in zip(told, seen)) / 60

    recorded = guess.PIXELS.record()["scores"]
    assert right(codes) == pytest.approx(recorded["as drawn"], abs=0.12)
    assert right(codes.roll(1, 0)) <= 0.05
    assert right(codes, dropped=True) <= 0.05


# --- words and codes


@torch.no_grad()
def test_nothing_leaks_through_the_shipped_model(three):
    (story,) = guess.stories(1, 3, "test")
    tokens, codes = guess.TOKENS.encode(story.texts)[None], guess.coded(three.codec, [story.scenes])
    other = codes.clone()
    other[:, 1, 2, 1] = (other[:, 1, 2, 1] + 1) % guess.SIZE  # code 9 of the second picture
    (words, before), (other_words, after) = three.words(tokens, codes), three.words(tokens, other)
    assert torch.equal(words[:, :2], other_words[:, :2])
    assert torch.equal(before[:, 0], after[:, 0])
    assert torch.equal(before[:, 1, :10], after[:, 1, :10])
    assert (before[:, 1, 10:] - after[:, 1, 10:]).abs().max() > 0.1  # the control
    assert (before[:, 2] - after[:, 2]).abs().max() > 0.1


def test_edits_are_as_told_and_only_with_the_conversation_before_them(three):
    found, recorded = guess.editing(three, 50), guess.WORDS.record()["scores"]
    for edit in ("edit 1", "edit 2"):
        assert found[f"{edit}, as told"] == pytest.approx(recorded[f"{edit}, as told"], abs=0.2)
        assert found[f"{edit}, kept"] == pytest.approx(recorded[f"{edit}, kept"], abs=0.15)
        for control in ("another conversation's codes", "painted without codes"):
            assert found[f"{edit}, as told, {control}"] <= 0.06
    assert found["edit 2, as told, the first picture twice"] <= found["edit 2, as told"] / 2


def test_a_conversation_goes_on_with_its_own_codes(three):
    texts = [["a red star left of a blue circle", "make the star green"], ["a black cross", "make the cross red"]]
    pictures = guess.converse(three, texts, 1.0, [3, 4])
    assert [tuple(turn.shape) for turn in pictures] == [(2, 3, 16, 16)] * 2
    said = guess.decide(three, [[row[0]] for row in texts], 1.0, [3, 4])
    rows = [[row[0], codes, row[1]] for row, codes in zip(texts, said)]
    second = guess.paint(three.pixels, guess.decide(three, rows, 1.0, [3, 4]), [3, 4])
    assert torch.equal(pictures[1], second)
    alone = guess.converse(three, texts[1:], 1.0, [4])  # a picture does not depend on its batch
    assert all((a[0] - b[1]).abs().max() < 1e-3 for a, b in zip(alone, pictures))
