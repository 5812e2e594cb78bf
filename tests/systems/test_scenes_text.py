"""From a sentence to a picture: the shipped model against its captions and against the exact floor."""

import pytest
import torch
from torch import Generator

from minidiff.data.captions import captions
from minidiff.data.exact_scenes import floor
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.judges.scorecard import shares
from minidiff.randomness import randn_like
from minidiff.systems import scenes_text
from minidiff.training import step_generator

LENGTH = 10


@pytest.fixture(scope="module")
def model():
    return scenes_text.TEXT.load()


@pytest.fixture(scope="module")
def generate(model):
    return scenes_text.pictures_of(model, LENGTH)


@pytest.mark.parametrize(
    ("world", "length"), [(scenes_text.WORLD, LENGTH), (scenes_text.MANY, 18), (scenes_text.RINGS, 18)]
)
def test_every_caption_fits_and_has_no_unknown_word(world, length):
    words, texts = scenes_text.tokenizer(length), captions(world.prompts(3000, 0))
    assert int(words.lengths(texts).max()) <= length
    assert not bool((words.encode(texts) == 3).any())
    assert bool((words.encode(["a crimson circle"]) == 3).any())  # the control


def test_pictures_show_their_captions_and_not_the_next_ones(generate):
    found = shares(generate, scenes_text.WORLD, 0.0, n=80)
    assert min(right.share for right, _ in found.values()) >= 0.9, found
    assert found["relation"][1].share <= 0.1


def test_small_ones_around_another_are_what_the_caption_says():
    generate = scenes_text.pictures_of(scenes_text.SURROUNDING.load(), 18)
    ((right, other),) = shares(generate, scenes_text.RINGS, 0.0, n=60).values()
    assert right.share >= 0.85
    assert other.share <= 0.1


def test_the_loss_is_near_the_least_possible_and_the_caption_is_why(model):
    """What 3,000 steps leave above the floor, at t = 0.8 where the caption decides most."""
    g = Generator().manual_seed(0)
    prompts = scenes_text.WORLD.prompts(512, g, "test")
    t = torch.tensor(0.8)
    (least,), _ = floor(prompts, model.schedule, t[None], g)
    x0, tokens = render(place(prompts, g)), scenes_text.tokenizer(LENGTH).encode(captions(prompts))
    x_t = model.schedule.add_noise(x0, randn_like(x0, g), t)
    error = lambda tokens: float((model(x_t, t, tokens=tokens) - x0).square().mean())
    told, untold = error(tokens), error(scenes_text.null(LENGTH)["tokens"].expand_as(tokens))
    assert 0.9 * float(least) < told < 1.5 * float(least)
    assert untold > 1.2 * told


def test_a_picture_belongs_to_its_seed_not_to_its_batch(generate):
    texts = ["a red circle", "a green star left of a blue square", "a black cross"]
    together = generate(texts, 1.0, [5, 6, 7])
    assert torch.allclose(generate(texts[1:2], 1.0, [6]), together[1:2], atol=1e-4)
    assert not torch.allclose(generate(texts[1:2], 1.0, [8]), together[1:2], atol=0.1)


def test_unusable_requests_are_named(generate):
    for texts, seeds, message in (
        ("a red circle", [0], r"texts: got .*a red circle"),
        ([], [], r"texts: got \[\]"),
        (["a red circle"], [0, 1], "seeds: got 2 seeds, expected one per text"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(texts, 0.0, seeds)


def test_batches_are_a_function_of_seed_and_step():
    draw = scenes_text.TEXT.draw()
    first, again = (draw(step_generator(0, 70)) for _ in range(2))
    fresh, other = scenes_text.TEXT.draw()(step_generator(0, 70)), draw(step_generator(0, 71))
    assert all(torch.equal(first[k], again[k]) and torch.equal(first[k], fresh[k]) for k in first)
    assert not torch.equal(first["x0"], other["x0"])
