"""The image model of which models of clips are made: what it learns from, and what it draws."""

import torch

from minidiff.data import captions as pictures
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import UNKNOWN, split
from minidiff.judges.scorecard import matches
from minidiff.systems import frames
from minidiff.training import step_generator


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_show_what_their_prompts_say_and_no_caption_is_cut():
    prompts, scenes = frames.rows(400, seeded(0))
    x = render(scenes)
    assert int(matches(prompts, x).sum()) == 400
    assert int(matches(prompts[1:] + prompts[:1], x).sum()) < 80  # the control
    texts = pictures.captions(prompts)
    assert max(len(split(text)) for text in texts) + 2 == frames.LENGTH
    tokens = frames.read(texts)["tokens"]
    assert not bool((tokens == UNKNOWN).any())
    assert [" ".join(split(text)) for text in texts] == frames.tokenizer().decode(tokens)
    snowy = sum(prompt.ground == "snow" for prompt in prompts) / 400
    assert abs(snowy - frames.SNOW) < 0.07
    assert not any("moving" in text or "still" in text for text in texts)


def test_held_out_contents_are_not_trained_on():
    held, _ = frames.rows(60, seeded(1), "content")
    seen, _ = frames.rows(600, seeded(2))
    content = lambda prompt: frozenset(group.look for group in prompt.groups)
    assert not {content(prompt) for prompt in held} & {content(prompt) for prompt in seen}


def test_a_batch_is_the_same_for_the_same_step():
    one, other = frames.draw()(step_generator(0, 3)), frames.draw()(step_generator(0, 3))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["x0"].shape == (32, 3, 16, 16)
    assert not torch.equal(one["x0"], frames.draw()(step_generator(0, 4))["x0"])


def test_it_draws_what_it_is_told():
    scores = frames.MODEL.record()["scores"]
    assert scores["one, all of it, w=1"] >= 0.95 > 0.3 > scores["one, another caption, w=1"]
    assert scores["two, all of it, w=1"] >= 0.8 > 0.1 > scores["two, another caption, w=1"]
    prompts, _ = frames.rows(16, seeded(3), "content")
    drawn = frames.pictures_of(frames.MODEL.load(), 25)(pictures.captions(prompts), 1.0, range(16))
    assert int(matches(prompts, drawn).sum()) >= 12
    assert int(matches(prompts[1:] + prompts[:1], drawn).sum()) <= 4
