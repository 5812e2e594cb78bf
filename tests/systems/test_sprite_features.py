"""The small classifier whose features are a perceptual loss."""

import pytest
import torch

from minidiff.codecs.losses import perceptual
from minidiff.data.prompts import place
from minidiff.data.scenes import assemble, render
from minidiff.systems import sprite_features
from minidiff.systems.latent import WORLD
from minidiff.systems.sprite_features import LABELS, MODEL, SpriteCNN, labels_of
from minidiff.training import step_generator


def test_labels_by_hand():
    scenes = assemble(
        [[("cat", None, "small", 3, 3), ("cat", None, "small", 9, 9), ("fish", None, "medium", 12, 3)], []]
    )
    labels = labels_of(scenes)
    assert labels.shape == (2, 30)
    assert [LABELS[i] for i in labels[0].nonzero().flatten().tolist()] == ["small cat", "medium fish"]
    assert float(labels[1].sum()) == 0


def test_a_batch_is_a_function_of_its_step():
    first, again = (sprite_features.draw_labelled(4)(step_generator(0, 3)) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert first["x0"].shape == (4, 3, 64, 64)
    other = sprite_features.draw_labelled(4)(step_generator(0, 4))
    assert not torch.equal(first["x0"], other["x0"])


@torch.no_grad()
def test_it_names_held_out_pictures_and_its_features_see_what_pixels_hardly_do():
    model = MODEL.load()
    assert [m.shape[1:] for m in model.features(torch.zeros(2, 3, 64, 64))] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    scenes = place(WORLD.prompts(150, 4, "test"), 4)
    named, truth = model(render(scenes, 64)) > 0, labels_of(scenes).bool()
    share = lambda t: float((named == t).all(1).float().mean())
    assert share(truth) >= 0.7
    assert share(truth.roll(1, 0)) <= 0.1  # the control
    # A small dog for a small cat: a few pixels, but other features than the same change of brightness everywhere.
    cat, dog = (render(assemble([[(kind, None, "small", 8, 8)]]), 64) for kind in ("cat", "dog"))
    apart = (dog - cat).square().mean().sqrt()
    brighter = cat - apart
    distance = perceptual(model.features)
    assert float(distance(dog, cat)) > 2 * float(distance(brighter, cat))


def test_bad_shapes_are_named():
    for x in (torch.zeros(1, 3, 12, 16), torch.zeros(1, 1, 16, 16), torch.zeros(3, 16, 16)):
        with pytest.raises(ValueError, match=r"^x: got"):
            SpriteCNN().features(x)
