"""What the frozen encoder of sentences reads, and what its recorded scores have to show beside their controls."""

from random import Random

import pytest
import torch

from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.systems import text_lm
from minidiff.systems.text_lm import LENGTH, MODEL, WORLD, corpus, linear_probe, tokenizer
from minidiff.training import diffuse, draw_rows, fit, step_generator
from minidiff.weights import fingerprint


def test_texts_hold_every_family_and_nothing_held_out():
    trained = WORLD.prompts(3000, 0, "train")
    assert {p.relation for p in trained} >= {"riding", "surrounding", "left of", None}
    assert {p.ground for p in trained} == {"plain", "snow"}
    assert not [p for p in trained if p.split == "test"]
    held = {p.content for p in LECTURE.values() if len(p.groups) > 1}
    assert held.isdisjoint({p.content for p in trained})
    assert all(WORLD.split_of(p) == "test" for p in LECTURE.values())


def test_every_word_is_known_and_the_longest_text_fits():
    texts = corpus(1000, 3, twice=1.0) + captions(list(LECTURE.values())) + [""]
    assert not bool((tokenizer().encode(texts) == UNKNOWN).any())
    assert int(tokenizer().lengths(texts).max()) <= LENGTH
    assert all(" . " in text for text in texts[:1000])
    assert not any(" . " in text for text in corpus(100, 3, twice=0.0))


def test_draws_are_functions_of_their_generator():
    draw = text_lm.draw_texts(8, n=200)
    one, same, other = (draw(step_generator(0, step)) for step in (3, 3, 4))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert one["inputs"].shape != other["inputs"].shape or not torch.equal(one["inputs"], other["inputs"])
    assert bool(((one["tokens"] == one["inputs"]) | (one["tokens"] == -100) | (one["tokens"] > 3)).all())


def test_questions_point_at_the_words_asked_about():
    prompts = text_lm.two_colours(50, 0, "train")
    rows, places, colours = text_lm.questions(prompts, 0)
    words = tokenizer().decode(rows.gather(1, places))
    for prompt, named, pair in zip(prompts, words, colours.tolist()):
        first = prompt if prompt.relation in ("left of", "above") else prompt.turned()
        assert named == " ".join(g.kind for g in first.groups)
        assert [text_lm.COLOURS[c] for c in pair] == [g.colour for g in first.groups]
    starts = (places[:, 0] < places[:, 1]).double().mean()
    assert 0.3 < float(starts) < 0.7  # who is named first does not tell who is on the left


def test_a_linear_probe_finds_what_is_linear_and_nothing_else():
    x, y = randn((400, 5), seeded(0)), torch.arange(400) % 2
    shifted = x + 3.0 * y[:, None]
    assert float((linear_probe(shifted[:300], y[:300], shifted[300:]) == y[300:]).double().mean()) > 0.95
    assert float((linear_probe(x[:300], y[:300], x[300:]) == y[300:]).double().mean()) < 0.7


def test_recorded_scores_are_above_their_controls():
    found = MODEL.record()["scores"]
    once, twice = "hidden words, said once", "hidden words, said twice"
    assert found[once] > 2 * found[f"{once}, the most frequent"]
    assert found[twice] > found[once] + 0.15  # what the other sentence says is looked up
    colour, side = "colour of an object, at its word", "left or upper object or the other, at its word"
    for name in (colour, side):
        assert found[name] > found[f"{name}, bag of words"] + 0.15
        assert found[name] > found[f"{name}, untrained"] + 0.1
    nearer = "a paraphrase is nearer than its swap, tokens"
    assert found[nearer] > max(0.6, found[f"{nearer}, untrained"] + 0.02)


def test_the_shipped_encoder_binds_colours_as_its_record_says():
    model = MODEL.load()
    prompts = [text_lm.two_colours(n, seed, split) for n, seed, split in ((600, 0, "train"), (200, 1, "test"))]
    (x, y), (others, answers) = (_nouns(model, p) for p in prompts)
    assert float((linear_probe(x, y, others) == answers).double().mean()) > 0.9
    (x, y), (others, answers) = (_nouns(MODEL.untrained(), p) for p in prompts)
    assert float((linear_probe(x, y, others) == answers).double().mean()) < 0.7


@torch.no_grad()
def _nouns(model, prompts):
    rows, places, colours = text_lm.questions(prompts, 0)
    context = model.eval().encode(rows).context
    return context[torch.arange(len(rows))[:, None], places].flatten(0, 1), colours.flatten()


@pytest.mark.parametrize("levels", [(), (0,)])
def test_a_unet_learns_on_top_and_the_shipped_hash_stays(levels):
    def build() -> Denoiser:
        net = UNet(3, (8, 16), 1, embedding=16, context_dim=16, attention_levels=levels)
        return Denoiser(Conditioned(Frozen(MODEL.load(), LENGTH, 16, 16), net), Linear(), VELOCITY)

    model = initialised(build, 0)
    encoder = model.net.conditioning.encoder
    before, map_before = fingerprint(encoder), model.net.conditioning.to_context.weight.detach().clone()
    texts = [text_lm.said(p, Random(0)) for p in WORLD.prompts(8, 0, "train")]
    data = {"x0": randn((8, 3, 8, 8), seeded(0)), "tokens": text_lm.tokens(texts)}
    for _ in fit(model, diffuse(draw_rows(data, 8)), 4, lr=1e-2, bar=False):
        pass
    assert fingerprint(encoder) == before
    assert not torch.equal(model.net.conditioning.to_context.weight, map_before)
    with torch.no_grad():
        next(encoder.parameters())[0, 0] += 1.0
    assert fingerprint(encoder) != before
