"""CLIP of sprites: what it learns from, and what its text tower knows."""

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, minimal_pairs
from minidiff.encoders.clip import Hidden
from minidiff.encoders.tokenizer import UNKNOWN
from minidiff.judges.ranking import recall_at
from minidiff.systems import clip_scenes, clip_sprites
from minidiff.systems.clip_scenes import held_out, mixed
from minidiff.systems.latent import REUSE, WORLD
from minidiff.training import step_generator


@pytest.fixture(scope="module")
def model():
    return clip_sprites.MODEL.load()


def test_a_batch_never_holds_a_picture_twice_and_a_chunk_holds_each_four_times():
    draw = clip_sprites.draw_pairs(16)
    batches = [draw(step_generator(0, step))["x0"].flatten(1) for step in range(16)]
    assert all(len(batch.unique(dim=0)) == 16 for batch in batches)
    _, counts = torch.cat(batches).unique(dim=0, return_counts=True)
    assert counts.tolist() == [REUSE] * (256 // REUSE)
    first, again = (clip_sprites.draw_pairs(16)(step_generator(0, 5)) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["x0"].flatten(1), batches[6])


def test_rows_stand_beside_their_swaps():
    prompts = clip_scenes.beside_their_swaps(400, torch.Generator().manual_seed(0), clip_sprites.WORLD)
    assert all(WORLD.split_of(p) == "train" for p in prompts)
    pairs = [(a, b) for a, b in zip(prompts[::2], prompts[1::2]) if a.relation not in (None, "surrounding")]
    assert 30 <= len(pairs) <= 80  # riding, relation and half of snow: 2.5 of 11 families
    assert all(a == b.swapped() for a, b in pairs)
    assert not any(a == b for a, b in pairs)


def test_every_word_is_known_and_no_caption_is_cut():
    told = [*captions(WORLD.prompts(1000, 0)), *LECTURE]
    assert not bool((clip_sprites.tokens(told) == UNKNOWN).any())
    assert bool((clip_sprites.tokens(["some unicorn"]) == UNKNOWN).any())  # the control


@torch.no_grad()
def test_held_out_pictures_find_their_captions(model):
    recalls, shuffled = [], []
    for seed in range(3):
        prompts = held_out(50, 100 + seed, WORLD)
        look = model.encode_image(clip_sprites.pictures(prompts, seed))
        similarity = look @ model.encode_text(clip_sprites.tokens(captions(prompts))).T
        recalls += [recall_at(similarity), recall_at(similarity.T)]
        shuffled.append(recall_at(similarity[mixed(50, seed)]))
    assert sum(recalls) / 6 >= 0.7
    assert sum(shuffled) / 3 <= 0.1  # chance .02


@torch.no_grad()
def test_it_tells_who_is_left_of_whom(model):
    pairs = minimal_pairs("relation", 1500, 1, WORLD)
    pairs = [pair for pair in pairs if WORLD.split_of(pair[0]) == "test"][:200]
    shown, swapped = ([pair[i] for pair in pairs] for i in (0, 1))

    def right(clip):
        seen = clip.encode_image(clip_sprites.pictures(shown, 1))
        one, other = (clip.encode_text(clip_sprites.tokens(captions(p))) for p in (shown, swapped))
        return float(((seen * one).sum(1) > (seen * other).sum(1)).double().mean())

    assert right(model) >= 0.8
    assert 0.35 <= right(clip_sprites.MODEL.untrained().eval()) <= 0.65  # the control


@torch.no_grad()
def test_hidden_tokens_are_those_of_the_block_that_is_asked_for(model):
    rows = clip_sprites.tokens(["a cat in the snow", "a dog"])
    last, before = (Hidden(model.text, skip).encode(rows) for skip in (0, 1))
    _, context, mask = model.text.encode(rows)
    assert torch.equal(last.context, context)
    assert last.mask is not None
    assert torch.equal(last.mask, mask)
    assert mask.sum(1).tolist() == [7, 4]
    assert last.vector is None
    by_hand = model.text.blocks[-1](before_norm(model.text, rows), mask=torch.ones(7, 7).tril().bool())
    assert torch.allclose(model.text.norm(by_hand), last.context, atol=1e-5)
    assert (last.context - before.context).abs().max() > 0.1  # the control
    with pytest.raises(ValueError, match=r"^skip: got 4"):
        Hidden(model.text, 4).encode(rows)


def before_norm(tower, rows):
    """What goes into the tower's last block."""
    kept = []
    handle = tower.blocks[-1].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    tower.features(rows)
    handle.remove()
    return kept[0]


def test_the_last_block_learns_at_end_alone_and_the_one_before_at_every_word():
    """Why Stable Diffusion 2 reads the block before the last."""
    tower = clip_sprites.MODEL.untrained().text.requires_grad_(True)
    rows = clip_sprites.tokens(["a cat left of a dog"])
    kept = []
    handles = [
        block.register_forward_hook(lambda module, inputs, out: (out.retain_grad(), kept.append(out))[0])
        for block in tower.blocks[-2:]
    ]
    tower(rows).square().sum().backward()
    for handle in handles:
        handle.remove()
    before, last = (out.grad[0].abs().sum(1) for out in kept)
    end = rows.shape[1] - 1
    assert (last > 0).nonzero().flatten().tolist() == [end]
    assert bool((before > 0).all())


def test_the_record_keeps_the_scores():
    scores = clip_sprites.MODEL.record()["scores"]
    assert scores["R@1 of 50, caption for a picture"] >= 0.7
    assert scores["R@1 of 50, picture for a caption"] >= 0.7
    assert scores["R@1 of 50, pairs shuffled (chance 0.02)"] <= 0.05
    assert scores["relation or its swap (chance 0.5)"] >= 0.8
