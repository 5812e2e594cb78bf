"""Latent diffusion of the sprite world: two stages, and pictures of sentences that nobody drew in training."""

from dataclasses import replace

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.encoders.tokenizer import UNKNOWN, split
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.systems import latent
from minidiff.training import fit, step_generator
from minidiff.weights import fingerprint


@pytest.fixture(scope="module")
def autoencoder():
    return latent.AUTOENCODER.load()


@pytest.fixture(scope="module")
def model():
    return latent.LATENT.load()


def read_right(codec, x, noise=0.0):
    z = codec.latents(x)
    read = parse(codec.decode(z + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(0)), clamp=True))
    return float((same(parse(x).scenes, read.scenes) & read.readable).float().mean())


@torch.no_grad()
def test_the_decoder_draws_what_was_encoded(autoencoder):
    x = render(place(latent.WORLD.prompts(120, 3, "test"), 3), 64)
    assert read_right(autoencoder, x) >= 0.97
    assert read_right(autoencoder, x, noise=0.2) >= 0.95
    assert read_right(latent.AUTOENCODER.untrained(), x) == 0.0  # the control
    z = autoencoder.latents(x)
    assert z.shape == (120, 4, 16, 16)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=0.1)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=0.1)


def test_stage_2_leaves_the_autoencoder_alone(autoencoder):
    before = fingerprint(autoencoder)
    model = latent.LATENT.untrained()
    list(fit(model, latent.draw(autoencoder), 2, **latent.LATENT.options, bar=False))
    assert fingerprint(autoencoder) == before
    moved = latent.AUTOENCODER.load().requires_grad_(True)
    list(fit(moved, latent.draw_pictures(2), 1, bar=False))
    assert fingerprint(moved) != before  # the control: training it would show


def test_batches_are_a_function_of_seed_and_step_and_use_a_picture_again(autoencoder):
    draws = [latent.draw_latents(4, autoencoder) for _ in range(2)]
    first, again = (draw(step_generator(0, 70)) for draw in draws)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["x0"], draws[0](step_generator(0, 71))["x0"])
    chunk = torch.cat([draws[0](step_generator(0, step))["x0"] for step in range(64, 128)]).flatten(1)
    _, counts = chunk.unique(dim=0, return_counts=True)
    assert counts.tolist() == [latent.REUSE] * (256 // latent.REUSE)


def test_some_is_said_half_of_the_time_and_every_word_is_known():
    prompts = replace(latent.WORLD, families=("surrounding",)).prompts(600, 0)
    texts = latent.spoken(prompts, torch.Generator().manual_seed(0))
    could = [text for text, whole in zip(texts, captions(prompts)) if "some" in split(whole)]
    assert len(could) > 400
    assert sum("some" in split(text) for text in could) / len(could) == pytest.approx(0.5, abs=0.07)
    assert {text.replace("some ", "") for text in texts} == {text.replace("some ", "") for text in captions(prompts)}
    told = [*texts, *captions(SpriteWorld().prompts(2000, 0)), *LECTURE]
    assert not bool((latent.tokenizer().encode(told) == UNKNOWN).any())
    lengths = latent.tokenizer().lengths(told)
    assert int(lengths.max()) <= latent.LENGTH


# ---------------------------------------------------------------- stage 2, as shipped


@pytest.fixture(scope="module")
def drawn(model, autoencoder):
    """32 held-out captions of three families, 16 pictures of two of the lecture's prompts, at w = 1."""
    world = replace(latent.WORLD, families=("relation", "riding", "snow"))
    prompts = world.prompts(32, 5, "test")
    told = ["an astronaut riding a horse", "a cat in the snow"] * 8
    generate = latent.pictures_of(model, autoencoder)
    texts = captions(prompts) + told
    return prompts + [LECTURE[text] for text in told], generate(texts, 1.0, range(len(texts)))


def test_held_out_sentences_become_their_pictures(drawn):
    prompts, pictures = drawn
    assert pictures.shape == (48, 3, 64, 64)
    assert pictures.abs().max() <= 1.0
    right = matches(prompts, pictures).float()
    assert right[:32].mean() >= 0.85
    assert right[32:].mean() >= 0.85
    # Control: the captions of others.
    assert matches(prompts[5:] + prompts[:5], pictures).float().mean() <= 0.2


def test_a_picture_does_not_depend_on_its_batch(model, autoencoder, drawn):
    texts = captions(drawn[0][:3])
    generate = latent.pictures_of(model, autoencoder, batch=2)
    assert (generate(texts, 1.0, range(3)) - drawn[1][:3]).abs().max() < 1e-3
    assert (generate(texts, 1.0, range(1, 4)) - drawn[1][:3]).abs().max() > 0.1  # the control: other seeds


def test_an_untrained_model_draws_nothing_that_can_be_read(autoencoder):
    untrained = latent.pictures_of(latent.LATENT.untrained(), autoencoder, steps=10)
    pictures = untrained(["a cat in the snow"] * 4, 0.0, range(4))
    assert not bool(matches([LECTURE["a cat in the snow"]] * 4, pictures).any())


def test_the_record_keeps_the_scores():
    """Measured by `minidiff train`; families of held-out contents, n = 100."""
    scores = latent.LATENT.record()["scores"]
    families = latent.FAMILIES
    assert {f"{family}, w={w}" for family in families for w in (0, 1)} <= scores.keys()
    reached = {"one": 0.95, "relation": 0.93, "riding": 0.93, "snow": 0.9, "count": 0.7}
    reached |= dict.fromkeys([text for text in LECTURE if text != "a lightbulb surrounding plants"], 0.8)
    assert {name: scores[f"{name}, w=1"] for name, bar in reached.items() if scores[f"{name}, w=1"] < bar} == {}
    for family in families:
        assert scores[f"{family}, w=1"] > scores[f"{family}, w=1, another caption"] + 0.1
