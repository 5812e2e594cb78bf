"""The first stage's whole loss, term by term."""

import pytest
import torch

from minidiff.codecs.adversarial import Adversarial
from minidiff.codecs.losses import PatchGAN, adaptive_weight, perceptual
from minidiff.codecs.vae import VAE
from minidiff.codecs.vqvae import VQVAE
from minidiff.randomness import randn, seeded
from minidiff.training import alternate, fit

X = randn((2, 3, 8, 8), seeded(0)).clamp(-1, 1)
CODECS = [lambda: VAE(width=8, kl_weight=0.0), lambda: VQVAE(16, 4, width=8)]


def codec_of(build):
    codec = build().eval()
    if isinstance(codec, VAE):  # no noise, so that terms can be added up by hand
        with torch.no_grad():
            codec.body.encoder[-1].bias[4:] = -60.0
    return codec


@pytest.mark.parametrize("build", CODECS, ids=["vae", "vqvae"])
def test_three_terms_add_up(build):
    codec, adversary = codec_of(build), PatchGAN(3, 8, 1)
    distance = perceptual(lambda x: [x, torch.tanh(3 * x)])
    whole = Adversarial(codec, distance, features=2.0, weight=0.5).loss(adversary, x0=X)
    y = codec(X)[0]
    first = codec.loss(X) + 2 * distance(y, X)
    fooled = -adversary(y).flatten(1).mean(1)
    weight = adaptive_weight(first.mean(), fooled.mean(), codec.body.last)
    assert torch.allclose(whole, first + 0.5 * weight * fooled, atol=1e-5)
    assert not torch.allclose(whole, first, atol=1e-3)  # the control: the third term is felt
    assert torch.allclose(Adversarial(codec, distance, 2.0).loss(x0=X), first, atol=1e-5)
    assert torch.allclose(Adversarial(codec).loss(None, x0=X), codec.loss(X), atol=1e-5)


@pytest.mark.parametrize("build", CODECS, ids=["vae", "vqvae"])
def test_it_trains_in_turn_and_alone(build):
    draw = lambda generator: {"x0": torch.randn(2, 3, 8, 8, generator=generator)}
    adversary, model = PatchGAN(3, 8, 1), Adversarial(build(), perceptual(lambda x: [x]))
    before = [p.detach().clone() for p in adversary.parameters()]
    progress = list(alternate(model, adversary, draw, 3, start=1, bar=False))
    assert [p.adversary_loss is None for p in progress] == [True, False, False]
    assert any(not torch.equal(p, b) for p, b in zip(adversary.parameters(), before))
    list(fit(Adversarial(build()), draw, 1, bar=False))
    with pytest.raises(ValueError, match=r"^weight: got"):
        Adversarial(build(), weight=-1.0)
