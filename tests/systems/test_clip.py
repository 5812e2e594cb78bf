"""What the CLIP presets learn from, and the measures that score them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minidiff.data import emoji
from minidiff.data.captions import captions
from minidiff.data.web import collect
from minidiff.encoders.tokenizer import PAD, UNKNOWN, split, trimmed
from minidiff.judges.ranking import recall_at
from minidiff.randomness import initialised
from minidiff.systems import clip_emoji, clip_german, clip_scenes
from minidiff.systems.clip_scenes import colour_captions, shape_captions, singles, zero_shot
from minidiff.training import step_generator


def test_trimming_drops_padding_only_and_changes_no_vector():
    model = initialised(clip_scenes.build, 0).eval()
    tokens = clip_scenes.tokenizer().encode(["a red circle", "three blue stars and no cross"])
    short = trimmed(tokens)
    assert bool((tokens[:, short.shape[1] :] == PAD).all())
    assert bool((short[:, -1] != PAD).any())
    with torch.no_grad():
        assert (model.encode_text(tokens) - model.encode_text(short)).abs().max() < 1e-5
        cut = short.clone()
        cut[:, 2] = short[:, 1]  # the control: a word changed
        assert (model.encode_text(short) - model.encode_text(cut)).abs().max() > 1e-3


@given(st.integers(1, 8), st.integers(0, 1000))
def test_recall_is_1_on_the_diagonal_and_never_falls_with_k(n, seed):
    table = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    found = [recall_at(table, k) for k in range(1, n + 1)]
    assert found == sorted(found)
    assert found[-1] == 1.0
    assert recall_at(table + 100 * torch.eye(n)) == 1.0


def test_recall_counts_ties_against():
    assert recall_at(torch.zeros(4, 4), 3) == 0.0
    assert recall_at(torch.zeros(4, 4), 4) == 1.0
    with pytest.raises(ValueError, match="similarity"):
        recall_at(torch.zeros(4, 3))


def test_training_pairs_never_show_a_held_out_content():
    held = {p.content for seed in range(3) for p in clip_scenes.held_out(50, seed)}
    trained = {p.content for p in clip_scenes.WORLD.prompts(3000, 0, "train")}
    assert len(held) > 50
    assert held.isdisjoint(trained)
    prompts = clip_scenes.held_out(200, 1)
    assert len({p.content for p in prompts}) == 200
    with pytest.raises(ValueError, match="about as many as this world holds out"):
        clip_scenes.held_out(1000, 0, clip_scenes.World(families=("one",)))


def test_draws_are_functions_of_their_generator_and_know_every_word():
    for draw in (clip_scenes.draw_pairs(8), clip_emoji.draw_emoji(8)):
        one, same, other = (draw(step_generator(0, step)) for step in (3, 3, 4))
        assert all(torch.equal(one[k], same[k]) for k in one)
        assert not torch.equal(one["x0"], other["x0"])
        assert one["x0"].abs().max() <= 1.0
    texts = captions(clip_scenes.WORLD.prompts(1000, 0)) + captions(clip_scenes.WORLD.prompts(1000, 1), "paraphrase")
    unknown = {word for text in texts for word in split(text)} - clip_scenes.tokenizer().ids.keys()
    assert unknown <= {"some"}  # the one word that UNKNOWN stands for
    german = clip_german.german_tokens(captions(clip_scenes.WORLD.prompts(500, 0), "german"))
    assert not bool((german == UNKNOWN).any())


def test_translations_carry_the_teachers_vectors():
    teacher = initialised(clip_scenes.build, 0)
    batch = clip_german.draw_translations(16, teacher)(step_generator(0, 0))
    assert batch["target"].shape == (16, 64)
    assert torch.allclose(batch["target"].norm(dim=1), torch.ones(16), atol=1e-5)
    assert not batch["target"].requires_grad


def test_zero_shot_classes_are_unit_vectors_and_find_themselves():
    directions = {
        text: torch.nn.functional.normalize(torch.randn(16, generator=torch.Generator().manual_seed(i)), dim=0)
        for i, text in enumerate(text for family in colour_captions() for text in family)
    }
    encode = lambda texts: torch.stack([directions[t] for t in texts])
    classes = zero_shot(encode, colour_captions())
    assert classes.shape == (6, 16)
    assert torch.allclose(classes.norm(dim=1), torch.ones(6), atol=1e-5)
    for k, family in enumerate(colour_captions()):
        mean = encode(family).mean(0)
        assert float(classes[k] @ mean) == pytest.approx(float(mean.norm()), abs=1e-5)
    by_colour, by_shape = ({text for family in f() for text in family} for f in (colour_captions, shape_captions))
    assert by_colour == by_shape
    x0, colour, kind = singles(2)
    assert x0.shape == (60, 3, 16, 16)
    assert torch.bincount(colour).tolist() == [10] * 6
    assert torch.bincount(kind).tolist() == [12] * 5


def test_the_web_has_the_faults_it_says():
    web = collect(2000, 0)
    copied = web.origin != torch.arange(2000)
    assert int(copied.sum()) == 100
    assert float((~web.matched).double().mean()) == pytest.approx(0.3, abs=0.04)
    own = captions(web.prompts)
    same = torch.tensor([a == b for a, b in zip(own, web.texts)])
    assert torch.equal(same, web.matched)
    gap = (web.pictures[copied] - web.pictures[web.origin[copied]]).std()
    assert 0.03 < float(gap) < 0.06
    black = torch.tensor(["black cross" in text for text in own])
    assert torch.equal(web.safe, ~black)
    assert torch.equal(collect(200, 5).pictures, collect(200, 5).pictures)
    with pytest.raises(ValueError, match="wrong: got"):
        collect(10, 0, wrong=1.5)


def test_augmented_emoji_stay_near_the_originals_and_arrows_are_not_mirrored():
    rgba = emoji.load().rgba[:64].float() / 255
    never = torch.zeros(64, dtype=torch.bool)
    plain = emoji.pictures("fluent")[:64]
    moved = clip_emoji.augmented(rgba, never, step_generator(0, 0))
    assert moved.shape == (64, 3, 32, 32)
    assert moved.abs().max() <= 1.0
    far = (moved - plain).flatten(1).norm(dim=1)
    other = (moved - plain.roll(1, 0)).flatten(1).norm(dim=1)
    assert float((far < other).double().mean()) > 0.6


def test_the_bag_of_words_finds_what_it_was_fitted_on():
    rows = torch.arange(200)
    lines = [clip_emoji.told(i) for i in rows.tolist()]
    fitted = clip_emoji.baseline_table("fluent", lines, rows, rows, strength=1e-3)
    assert recall_at(fitted) > 0.9
    assert recall_at(fitted[torch.randperm(200, generator=step_generator(0, 0))]) < 0.05
