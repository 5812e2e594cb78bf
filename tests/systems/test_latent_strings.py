"""Latent diffusion of sentences: they come back whole, and new ones obey a grammar written apart from the first."""

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import World
from minidiff.encoders.tokenizer import END, PAD, START
from minidiff.judges.sentences import read
from minidiff.systems import latent_strings as strings
from minidiff.training import fit
from minidiff.weights import fingerprint


@pytest.fixture(scope="module")
def autoencoder():
    return strings.AUTOENCODER.load()


@pytest.fixture(scope="module")
def model():
    return strings.LATENT.load()


@torch.no_grad()
def test_held_out_sentences_come_back_whole(autoencoder):
    tokens = strings.tokenizer().encode(strings.held_out(300, 7))
    z = autoencoder.latents(tokens)
    assert z.shape == (300, 16, 6)
    whole = lambda codec, z: float((codec.decode(z) == tokens).all(1).float().mean())
    assert whole(autoencoder, z) >= 0.98
    assert whole(strings.AUTOENCODER.untrained(), z) == 0.0  # the control
    known = autoencoder.latents(strings.tokenizer().encode(strings.training_set()[0]))
    assert torch.allclose(known.mean((0, 2)), torch.zeros(16), atol=0.02)
    assert torch.allclose(known.std((0, 2)), torch.ones(16), atol=0.02)


def test_the_training_set_is_of_the_families_it_says_and_holds_nothing_of_the_test():
    texts, labels = strings.training_set()
    assert len(texts) == len({*texts}) == len(labels) == 5597
    for text, y in list(zip(texts, labels.tolist()))[::50]:
        prompt = read(text)
        assert prompt is not None
        assert strings.family_of(prompt) == strings.FAMILIES[y]
    assert not {*texts} & {*strings.held_out(500)}


def test_sentences_are_valid_new_and_of_the_family_asked_for(model, autoencoder):
    families = [i % 5 for i in range(120)]
    made = strings.sentences_of(model, autoencoder, families, steps=30)
    told = strings.judged(made, families)
    assert told["valid"] >= 0.9
    assert told["of the family"] >= 0.85
    assert told["new among the valid"] >= 0.5
    assert told["different among the valid"] >= 0.9
    assert strings.judged(made, families[1:] + families[:1])["of the family"] <= 0.1  # the control: another's family
    untrained = strings.sentences_of(strings.LATENT.untrained(), autoencoder, families[:40], steps=10)
    assert strings.judged(untrained, families[:40])["valid"] <= 0.1
    again = strings.sentences_of(model, autoencoder, families[3:6], seed=3, steps=30)
    assert again == made[3:6]


def test_new_sentences_are_near_the_known_but_no_nearer_than_held_out_ones(model, autoencoder):
    known = strings.training_set()[0][::8]
    made = strings.sentences_of(model, autoencoder, [0, 1, 2, 3, 4] * 6, seed=500, steps=30)
    made = [text for text in made if text and text not in known]
    mean = lambda texts: sum(strings.nearest(texts, known)) / len(texts)
    assert mean(made) == pytest.approx(mean(strings.held_out(30, 3)), abs=0.8)
    assert mean(captions(World().prompts(3, 0), "long")) > 20  # the control: other sentences


def test_tokens_that_are_no_sentence_become_an_empty_text():
    a = strings.tokenizer().ids["a"]
    rows = torch.full((5, 18), PAD)
    rows[:, :3] = torch.tensor([START, a, END])
    rows[1, 0], rows[2, 2], rows[3, 5], rows[4, 1] = a, PAD, a, PAD
    assert strings.written(rows) == ["a", "", "", "", ""]


def test_stage_2_leaves_the_autoencoder_alone(autoencoder):
    before = fingerprint(autoencoder)
    untrained = strings.LATENT.untrained()
    list(fit(untrained, strings.draw(autoencoder), 2, **strings.LATENT.options, bar=False))
    assert fingerprint(autoencoder) == before
    moved = strings.AUTOENCODER.load().requires_grad_(True)
    list(fit(moved, strings.AUTOENCODER.draw(), 1, bar=False))
    assert fingerprint(moved) != before  # the control


def test_tokens_and_latents_of_another_shape_are_named(autoencoder):
    for tokens in (torch.zeros(2, 17, dtype=torch.int64), torch.zeros(2, 18)):
        with pytest.raises(ValueError, match=r"^tokens: got"):
            autoencoder.encode(tokens)
    with pytest.raises(ValueError, match=r"^z: got"):
        autoencoder.decode(torch.zeros(2, 6, 16))
