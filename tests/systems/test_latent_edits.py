"""Edits of a picture that is there: what should stay stays, what was asked for is drawn."""

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.systems import latent
from minidiff.systems.latent_edits import image_to_image, inpainted

N = 10
BEFORE = [Prompt((Group("snowman"), Group("dog")), "left of")] * N
AFTER = [Prompt((Group("snowman"), Group("tree")), "left of")] * N
"""A content of the training split: here the edit is asked about, not whether it composes."""


@pytest.fixture(scope="module")
def models():
    return latent.LATENT.load(), latent.AUTOENCODER.load()


@pytest.fixture(scope="module")
def pictures():
    return render(place(BEFORE, 0), 64)


def places(x):
    """Row and column of the left object, (N, 2)."""
    scenes = parse(x).scenes
    left = scenes.column.masked_fill(scenes.kind < 0, 99).argmin(1, keepdim=True)
    return torch.cat([scenes.row.gather(1, left), scenes.column.gather(1, left)], 1).double()


@pytest.fixture(scope="module")
def edited(models, pictures):
    """{t0: the pictures with another sentence}."""
    return {t0: image_to_image(*models, pictures, captions(AFTER), 1.0, t0, range(N), 20) for t0 in (0.2, 0.8, 0.97)}


def test_what_t0_keeps(edited, pictures):
    """t0 = 0.2 keeps the picture; 0.8 keeps places and obeys the sentence; 0.97 keeps no places, either."""
    share = lambda prompts, x: float(matches(prompts, x).float().mean())
    assert share(BEFORE, edited[0.2]) >= 0.7
    assert share(AFTER, edited[0.2]) <= 0.2
    assert share(AFTER, edited[0.8]) >= 0.8
    assert share(BEFORE, edited[0.8]) == 0.0
    still = {t0: float((places(x) == places(pictures)).all(1).double().mean()) for t0, x in edited.items()}
    assert still[0.2] == 1.0
    assert still[0.8] >= 0.8
    assert still[0.97] <= 0.6  # the control
    apart = [float((edited[t0] - pictures).square().mean()) for t0 in sorted(edited)]
    assert apart == sorted(apart)
    assert apart[0] < 0.2 * apart[1]


def test_inpainting_keeps_what_is_kept_to_the_bit_and_draws_the_rest(models, pictures):
    keep = torch.zeros(64, 64, dtype=torch.bool)
    keep[:, :32] = True  # the snowman
    x = inpainted(*models, pictures, keep, captions(AFTER), 1.0, range(N), 30)
    assert torch.equal(x[..., :32], pictures[..., :32])
    assert (places(x) - places(pictures)).abs().max() == 0
    assert matches(AFTER, x).float().mean() >= 0.6
    # Control: without a mask the snowman would stand elsewhere.
    free = inpainted(*models, pictures, torch.zeros_like(keep), captions(AFTER), 1.0, range(N), 30)
    assert not torch.equal(free[..., :32], pictures[..., :32])


def test_what_does_not_fit_is_named(models, pictures):
    texts = captions(AFTER)
    for change, name in (
        ({"pictures": pictures[..., :32]}, "pictures"),
        ({"pictures": pictures[:3]}, "pictures"),
        ({"seeds": range(3)}, "seeds"),
        ({"t0": 0.0}, "t0"),
    ):
        given = {"pictures": pictures, "texts": texts, "w": 0.0, "t0": 0.5, "seeds": range(N)} | change
        with pytest.raises(ValueError, match=rf"^{name}: got"):
            image_to_image(*models, **given)
    for keep in (torch.ones(64, 64), torch.ones(3, 1, 64, 64, dtype=torch.bool), None):
        with pytest.raises(ValueError, match=r"^keep: got"):
            inpainted(*models, pictures, keep, texts, 0.0, range(N))
