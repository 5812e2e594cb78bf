"""Conversations of texts and pictures: how they are written down, what is learned from, and when an edit is as told."""

from collections import deque

import pytest
import torch

from minidiff.backbones.interleaved import pictures_in
from minidiff.data.aspects import ASPECTS, asked, aspects_of
from minidiff.data.captions import captions
from minidiff.data.prompts import World
from minidiff.data.scenes import COLOURS, SHAPES
from minidiff.encoders.tokenizer import END, PAD, START, UNKNOWN
from minidiff.judges.sentences import read as sentence
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import initialised
from minidiff.shapes import patchify
from minidiff.systems import hunyuan
from minidiff.training import fit, step_generator

SMALL = World(SHAPES[:3], COLOURS[:4], ("one",))


def truth(n: int, world: World = hunyuan.WORLD, split: str | None = "test"):
    prompts, aspects, edits = hunyuan.stories(n, world, 0, split)
    before, after = (hunyuan.pictures_of([getattr(e, k) for e in edits], aspects) for k in ("before", "after"))
    return prompts, aspects, edits, before, after


def test_a_conversation_is_written_turn_by_turn():
    _, _, edits, before, after = truth(8)
    rows = [["a wide picture of a red star", b, e.text, a] for b, e, a in zip(before, edits, after)]
    found = hunyuan.written([*rows, rows[0][:1]], [hunyuan.SIGNS.begin])
    for i, (b, edit, a) in enumerate(zip(before, edits, after)):
        ids = found["tokens"][i][found["tokens"][i] != PAD].tolist()
        shape = int(aspects_of([b]))
        picture = hunyuan.SIGNS.picture(shape)
        first = [START, *(hunyuan.TOKENS.ids[w] for w in ["a", "wide", "picture", "of", "a", "red", "star"]), END]
        told = [START, *(hunyuan.TOKENS.ids[w] for w in edit.text.split()), END]
        assert ids == [*first, *picture, *told, *picture, hunyuan.SIGNS.begin]
        assert UNKNOWN not in ids
        squares = [k for k, token in enumerate(ids) if token == hunyuan.SIGNS.square]
        assert torch.equal(found["pixels"][i, squares], torch.cat([patchify(p[None], 4)[0] for p in (b, a)]))
    assert not bool(found["pixels"][found["tokens"] != hunyuan.SIGNS.square].any())
    assert int((found["tokens"][8] != PAD).sum()) == len(first) + 1


def test_what_is_dropped_keeps_its_place():
    """Words alone become UNKNOWN: marks, ratios and squares stay, and so do all positions."""
    _, _, edits, before, after = truth(5)
    tokens = hunyuan.written([[b, e.text, a] for b, e, a in zip(before, edits, after)])["tokens"]
    silent = hunyuan.silenced(tokens)
    words = torch.tensor([sorted(hunyuan.TOKENS.ids.values())])[0]
    said = torch.isin(tokens, words)
    assert bool(said.any(1).all())
    assert bool((silent[said] == UNKNOWN).all())
    assert torch.equal(silent[~said], tokens[~said])


def test_batches_are_captions_and_edits_in_turn():
    draw = hunyuan.draw_turns(32)
    batches = [draw(step_generator(0, step)) for step in range(8)]
    dropped = []
    for step, batch in enumerate(batches):
        found = pictures_in(batch["tokens"], hunyuan.SIGNS)
        count = torch.zeros(32).index_add(
            0, torch.cat([p.row for p in found]), torch.ones(sum(len(p.row) for p in found))
        )
        assert count.tolist() == [[1, 2, 2][step % 3]] * 32
        captioned = batch["tokens"][:, 0] == START
        assert bool(captioned.all()) == (step % 3 != 1)
        for p in found:  # the picture that is drawn has the shape of the one before
            assert len(p.row.unique()) * [1, 2, 2][step % 3] == len(p.row)
        assert bool((batch["tokens"][:, -1] != PAD).any())
        assert batch["x0"].shape == batch["eps"].shape == (*batch["tokens"].shape, 48)
        dropped += (batch["tokens"] == UNKNOWN).any(1).tolist()
    assert sum(dropped) / len(dropped) == pytest.approx(0.1, abs=0.06)


def test_what_is_learned_from_is_not_what_is_asked_later():
    draw = hunyuan.draw_turns(32)
    texts = hunyuan.TOKENS.decode(draw(step_generator(0, 0))["tokens"].clamp(max=len(hunyuan.TOKENS) - 1))
    plain = [text.split(" picture of ")[1] for text in texts if " picture of " in text]
    prompts = [prompt for prompt in map(sentence, plain) if prompt]
    assert len(prompts) > 20
    assert {prompt.split for prompt in prompts} == {"train"}


def test_an_edit_is_as_told_or_not():
    """What was drawn by the renderer is right; the picture before it, or another one, is not."""
    _, _, edits, before, after = truth(120)
    right = lambda pictures: sum(hunyuan.as_told(e.after, s) for e, s in zip(edits, hunyuan.read(pictures))) / 120
    assert right(after) == 1
    assert right(before) == 0
    assert right(after[1:] + after[:1]) <= 0.02
    assert not hunyuan.as_told(edits[0].after, None)
    (kind, colour, size, row, column), *rest = edits[0].after
    assert hunyuan.as_told(edits[0].after, [(kind, colour, size, row + 1, column - 1), *rest])
    assert not hunyuan.as_told(edits[0].after, [(kind, colour, size, row + 2, column), *rest])


def test_the_words_tell_the_shape():
    """A net of 70,000 numbers asked for the ratio after 120 steps: right with its caption, at chance with the next."""
    net, draw = initialised(lambda: hunyuan.build(32, 2), 0), hunyuan.draw_turns(32, SMALL)
    *_, last = deque(fit(net, draw, 120, optimizer=Muon, groups=muon_groups, ema_decay=0.9, bar=False), maxlen=1)
    prompts, aspects, *_ = truth(150, SMALL, None)
    told = [[asked(text, aspect)] for text, aspect in zip(captions(prompts), aspects.tolist())]
    chosen = hunyuan.choose(last.ema.eval(), told)
    assert float((chosen == aspects).float().mean()) >= 0.95
    assert float((chosen == aspects.roll(1)).float().mean()) == pytest.approx(1 / 3, abs=0.12)


def test_a_picture_has_the_shape_that_was_chosen_and_depends_on_its_own_seed_alone():
    net = initialised(lambda: hunyuan.build(32, 2), 0).eval()
    _, _, edits, before, _ = truth(4)
    rows = [["a tall picture of a red star"], *([b, e.text] for b, e in zip(before, edits))]
    made = hunyuan.generate(net, rows, 1.0, [5, 6, 7, 8, 9], steps=3)
    sizes = [list(ASPECTS.values())[k] for k in hunyuan.choose(net, rows).tolist()]
    assert [tuple(picture.shape[1:]) for picture in made] == sizes
    for k in (0, 3):
        (alone,) = hunyuan.generate(net, rows[k : k + 1], 1.0, [5 + k], steps=3)
        assert torch.allclose(alone, made[k], atol=1e-4)
        (other,) = hunyuan.generate(net, rows[k : k + 1], 1.0, [1], steps=3)
        assert not torch.allclose(other, made[k], atol=1e-2)
