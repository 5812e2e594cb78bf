"""DALL-E 1 of the sprite world: pictures as 64 codes, drawn one after another, and CLIP that chooses among them."""

from collections import deque
from dataclasses import replace

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.systems import clip_sprites, dalle1
from minidiff.training import fit, step_generator
from minidiff.weights import fingerprint

TWO = replace(dalle1.WORLD, families=("relation", "riding"))


@pytest.fixture(scope="module")
def dvae():
    return dalle1.DVAE.load()


@pytest.fixture(scope="module")
def prior():
    return dalle1.PRIOR.load()


# --- stage 1


@torch.no_grad()
def test_64_codes_are_a_picture(dvae):
    prompts = dalle1.WORLD.prompts(60, 3, "test")
    x = render(place(prompts, 3), 64)
    codes, drawn = dvae.encode(x), parse(x).scenes
    assert codes.shape == (60, 8, 8)
    read = parse(dvae.decode(codes, clamp=True))
    assert float((same(drawn, read.scenes) & read.readable).float().mean()) >= 0.95
    # Controls: a codec that was not trained; all codes exchanged for others in the same way.
    untrained = dalle1.DVAE.untrained().eval().reconstruct(x[:10])
    renamed = dvae.decode((codes[:10] + 1) % dalle1.SIZE)
    for wrong in (parse(pictures.clamp(-1, 1)) for pictures in (untrained, renamed)):
        assert not bool((same(drawn[:10], wrong.scenes) & wrong.readable).any())


def test_the_codebook_is_used():
    """Of 1000 held-out pictures; measured by `minidiff train`."""
    found = dalle1.DVAE.record()["scores"]
    assert found["codes in use"] >= 0.6
    assert found["perplexity"] >= 10
    assert found["read as drawn"] >= 0.95
    assert found["read as drawn, another's codes"] <= 0.02


# --- stage 2


def test_batches_are_a_function_of_seed_and_step_and_a_tenth_is_silent(dvae):
    draws = [dalle1.draw_codes(8, dvae) for _ in range(2)]
    first, again = (draw(step_generator(0, 70)) for draw in draws)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert first["codes"].shape == (8, 8, 8)
    assert not torch.equal(first["codes"], draws[0](step_generator(0, 71))["codes"])
    tokens = torch.cat([draws[0](step_generator(0, step))["tokens"] for step in range(64, 128)])
    assert not bool((tokens == UNKNOWN).any())
    silent = (tokens == dalle1.tokenizer().encode([""])[0, : tokens.shape[1]]).all(1).float().mean()
    assert float(silent) == pytest.approx(dalle1.DROP, abs=0.05)


def test_stage_2_leaves_the_dvae_alone(dvae):
    before = fingerprint(dvae)
    deque(fit(dalle1.PRIOR.untrained(), dalle1.draw_codes(4, dvae), 2, **dalle1.PRIOR.options, bar=False), maxlen=1)
    assert fingerprint(dvae) == before
    moved = dalle1.DVAE.load().requires_grad_(True)
    deque(fit(moved, dalle1.draw_pictures(2), 1, bar=False), maxlen=1)
    assert fingerprint(moved) != before  # the control: training it would show


@torch.no_grad()
def test_nothing_leaks_through_the_shipped_model(prior, dvae):
    tokens = dalle1.read(captions(TWO.prompts(2, 0)))
    codes = dvae.encode(render(place(TWO.prompts(2, 0), 0), 64))
    other = codes.clone()
    other[:, 4, 4] = (other[:, 4, 4] + 1) % dalle1.SIZE
    (words, before), (same_words, after) = prior(tokens, codes), prior(tokens, other)
    assert torch.equal(words, same_words)
    assert torch.equal(before[:, :37], after[:, :37])
    assert (before[:, 37:] - after[:, 37:]).abs().max() > 0.1  # the control


@pytest.fixture(scope="module")
def drawn(prior, dvae):
    prompts = TWO.prompts(48, 5, "test")
    return prompts, dalle1.pictures_of(prior, dvae)(captions(prompts), 0.0, range(48))


def test_held_out_sentences_become_their_pictures(drawn):
    prompts, pictures = drawn
    assert pictures.shape == (48, 3, 64, 64)
    assert float(pictures.abs().max()) <= 1.0
    right = matches(prompts, pictures).float().mean()
    assert right >= 0.5
    assert matches(prompts[5:] + prompts[:5], pictures).float().mean() <= right / 2  # the control: others' captions


def test_a_picture_does_not_depend_on_its_batch(prior, dvae, drawn):
    texts = captions(drawn[0][:3])
    generate = dalle1.pictures_of(prior, dvae, batch=2)
    assert (generate(texts, 0.0, range(3)) - drawn[1][:3]).abs().max() < 1e-4
    assert (generate(texts, 0.0, range(1, 4)) - drawn[1][:3]).abs().max() > 0.1  # the control: other seeds


def test_what_cannot_be_drawn_is_refused(prior, dvae):
    generate = dalle1.pictures_of(prior, dvae)
    with pytest.raises(ValueError, match=r"^texts: got "):
        generate("a cat", 0.0, [0])
    with pytest.raises(ValueError, match=r"^seeds: got "):
        generate(["a cat"], 0.0, [0, 1])
    with pytest.raises(ValueError, match=r"^pictures: got "):
        dalle1.rerank(["a cat"], torch.zeros(1, 3, 64, 64))


# --- the best of many


def test_clip_finds_the_right_picture_among_wrong_ones():
    prompts = TWO.prompts(40, 9, "test")
    right, wrong = render(place(prompts, 1), 64), [render(place(prompts, 2), 64).roll(i, 0) for i in range(1, 8)]
    where = torch.arange(40) % 8
    candidates = torch.stack([right, *wrong], 1)
    order = torch.stack([torch.arange(8).roll(int(i)) for i in where])
    candidates = candidates[torch.arange(40)[:, None], order]  # the right one is at place `where`
    chosen = dalle1.rerank(captions(prompts), candidates)
    assert (chosen == where).float().mean() >= 0.85
    untrained = clip_sprites.MODEL.untrained().eval()  # the control: chance is an eighth
    assert (dalle1.rerank(captions(prompts), candidates, untrained) == where).float().mean() <= 0.4


def test_the_best_of_several_is_one_of_them_and_has_seeds_of_its_own():
    """A stand-in draws the right picture for every fourth seed, and ground otherwise."""
    prompts = TWO.prompts(6, 4, "test")
    texts, pictures = captions(prompts), render(place(prompts, 0), 64)
    seen = []

    def generate(asked, w, seeds):
        seen.extend(seeds)
        rows = [
            pictures[texts.index(text)] if seed % 4 == 2 else torch.ones(3, 64, 64) for text, seed in zip(asked, seeds)
        ]
        return torch.stack(rows)

    best = dalle1.best_of(generate, 4)(texts, 0.0, range(6))
    assert sorted(seen) == list(range(24))
    assert torch.equal(best, pictures)
    assert not torch.equal(generate(texts, 0.0, range(6)), pictures)  # the control: one sample each
