"""Stable Diffusion of the sprite world: what is frozen, what is read, what is predicted, and what it draws."""

from dataclasses import replace

import pytest
import torch

from minidiff.conditioning import Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.predictions import EPS, V
from minidiff.randomness import randn, seeded
from minidiff.shapes import expand_like
from minidiff.systems import clip_sprites, latent, stable_diffusion
from minidiff.systems.latent_edits import image_to_image, inpainted
from minidiff.training import fit
from minidiff.weights import fingerprint


@pytest.fixture(scope="module")
def autoencoder():
    return latent.AUTOENCODER.load()


@pytest.fixture(scope="module")
def model():
    return stable_diffusion.MODEL.load()


def words_of(model: Denoiser) -> Frozen:
    return model.net.conditioning  # type: ignore[return-value]


def test_training_moves_the_u_net_alone(autoencoder):
    model = stable_diffusion.MODEL.untrained()
    tower = words_of(model).encoder
    before, codec, unet = fingerprint(tower), fingerprint(autoencoder), fingerprint(model.net.backbone)
    assert fingerprint(tower.tower) == fingerprint(clip_sprites.MODEL.load().text)
    list(fit(model.train(), latent.draw(autoencoder), 2, **stable_diffusion.MODEL.options, bar=False))
    assert fingerprint(tower) == before
    assert fingerprint(autoencoder) == codec
    assert fingerprint(model.net.backbone) != unet  # the control: training shows


def test_the_shipped_tower_is_clips_to_the_bit(model):
    tower = words_of(model).encoder
    assert tower.skip == 1
    assert fingerprint(tower.tower) == fingerprint(clip_sprites.MODEL.load().text)
    assert fingerprint(tower.tower) != fingerprint(clip_sprites.MODEL.untrained().text)


@torch.no_grad()
@pytest.mark.parametrize(("one", "other"), [(EPS, V), (V, EPS)], ids=["ε to v", "v to ε"])
def test_the_same_network_answer_in_eps_and_in_v_is_the_same_picture(model, one, other):
    """out_v = (out_ε − σ·x_t… )/α and back: with x̂0 from one, what the other would have said gives x̂0 again."""
    z, eps = randn((9, 4, 16, 16), seeded(0)), randn((9, 4, 16, 16), seeded(1))
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    at = expand_like(t, z)
    x_t = model.schedule.add_noise(z.double(), eps.double(), t)
    tokens = latent.tokenizer().encode(["a cat in the snow"] * 9)
    output = model.net(x_t.float(), t.float(), tokens=tokens).double()
    x0 = one.to_x0(model.schedule, x_t, output, at)
    alpha, sigma = model.schedule(at)
    noise = (x_t - alpha * x0) / sigma
    converted = other.target(model.schedule, x0, noise, at)
    assert (other.to_x0(model.schedule, x_t, converted, at) - x0).abs().max() <= 1e-6
    assert (other.to_x0(model.schedule, x_t, output, at) - x0).abs().max() > 0.1  # the control: not converted


def test_the_block_and_the_prediction_are_arguments():
    tower = clip_sprites.MODEL.untrained().text
    last, before = (stable_diffusion.build(skip, EPS, tower) for skip in (0, 1))
    tokens = latent.tokenizer().encode(["a dog", ""])
    with torch.no_grad():
        context = [words_of(m).encoder.encode(tokens).context for m in (last, before)]
    assert (context[0] - context[1]).abs().max() > 0.01
    assert last.prediction is EPS
    assert stable_diffusion.build(tower=tower).prediction is V


def test_eps_is_sampled_from_where_there_is_something_to_see(autoencoder):
    model = stable_diffusion.build(1, EPS, clip_sprites.MODEL.untrained().text).eval()
    draw = lambda start: latent.pictures_of(model, autoencoder, 2, start=start)(["a dog"], 0.0, [0])
    assert draw(0.8).shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"^t: got .* EPS network"):
        draw(1.0)


@pytest.fixture(scope="module")
def drawn(model, autoencoder):
    """20 held-out captions of lone sprites and 8 of two families, at w = 1."""
    worlds = [replace(SpriteWorld(), families=families) for families in (("one",), ("snow", "riding"))]
    prompts = [p for world, n in zip(worlds, (16, 8)) for p in world.prompts(n, 2, "test")]
    texts = captions(prompts)
    return prompts, latent.pictures_of(model, autoencoder, steps=30)(texts, 1.0, range(24))


def test_held_out_sentences_become_their_pictures(drawn):
    prompts, pictures = drawn
    right = matches(prompts, pictures).float()
    assert right[:16].mean() >= 0.8
    assert right[16:].mean() >= 0.5
    assert matches(prompts[5:] + prompts[:5], pictures).float().mean() <= 0.35  # the control: captions of others


def test_an_untrained_text_encoder_says_nothing(model, autoencoder, drawn):
    """The same U-Net beside a tower that has read nothing: pictures, but not those that were asked for."""
    prompts, right = drawn[0][:12], matches(*(each[:12] for each in drawn)).float().mean()
    deaf = stable_diffusion.build(tower=clip_sprites.MODEL.untrained().text)
    trained = {k: v for k, v in model.state_dict().items() if ".encoder." not in k}
    assert deaf.load_state_dict(trained, strict=False).unexpected_keys == []
    pictures = latent.pictures_of(deaf.eval(), autoencoder, steps=30)(captions(prompts), 1.0, range(12))
    assert matches(prompts, pictures).float().mean() <= right - 0.4


def test_a_picture_is_edited_and_filled_in_as_by_any_other_latent_denoiser(model, autoencoder):
    before = [Prompt((Group("snowman"), Group("dog")), "left of")] * 4
    after = [replace(p, groups=(Group("snowman"), Group("tree"))) for p in before]
    pictures = render(place(before, 0), 64)
    near, far = (
        image_to_image(model, autoencoder, pictures, captions(after), 1.0, t0, range(4), 15) for t0 in (0.2, 0.9)
    )
    apart = lambda x: float((x - pictures).square().mean())
    assert apart(near) < 0.3 * apart(far)
    keep = torch.zeros(64, 64, dtype=torch.bool)
    keep[:, :32] = True
    x = inpainted(model, autoencoder, pictures, keep, captions(after), 1.0, range(4), 15)
    assert torch.equal(x[..., :32], pictures[..., :32])
    assert not torch.equal(x[..., 32:], pictures[..., 32:])
    assert int((parse(x).scenes.kind >= 0).sum()) >= 4  # the snowmen are still there


def test_the_record_keeps_the_scores():
    scores = stable_diffusion.MODEL.record()["scores"]
    assert {f"{family}, w={w}" for family in latent.FAMILIES for w in (0, 1)} <= scores.keys()
    assert scores["one, w=1"] >= 0.85
    for family in latent.FAMILIES:
        assert scores[f"{family}, w=1"] >= scores[f"{family}, w=1, another caption"]
