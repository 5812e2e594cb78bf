"""Reconstruction losses by hand: pixels and edges, features of a network, hinge, patches, the adaptive weight."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidiff.codecs.losses import PatchGAN, adaptive_weight, hinge, perceptual, pixel_loss, psnr
from minidiff.codecs.vae import VAE
from minidiff.codecs.vqvae import VQVAE
from minidiff.randomness import randn, seeded
from minidiff.training import alternate

X, Y = randn((2, 3, 8, 8), seeded(0)), randn((2, 3, 8, 8), seeded(1))


# --- pixels


def test_a_step_that_is_blurred_costs_by_hand():
    x = torch.tensor([-1.0, -1, 1, 1]).expand(1, 1, 3, 4)
    y = torch.tensor([-1.0, -0.5, 0.5, 1]).expand(1, 1, 3, 4)
    assert float(pixel_loss(y, x, 1, 0, 0)) == pytest.approx(0.25)  # two of four pixels are off by a half
    assert float(pixel_loss(y, x, 0, 1, 0)) == pytest.approx(0.125)
    assert float(pixel_loss(y, x, 0, 0, 1)) == pytest.approx(2 / 3)  # steps: ½, −1, ½ too much; none downwards
    assert float(pixel_loss(y, x)) == pytest.approx(0.25 + 0.125 + 1 / 3)
    assert float(pixel_loss(x + 0.3, x, 0, 0, 1)) == pytest.approx(0, abs=1e-6)  # brightness has no edges
    assert torch.allclose(pixel_loss(Y, X)[1:], pixel_loss(Y[1:], X[1:]))


def test_decibels():
    x = torch.zeros(1, 3, 4, 4)
    assert float(psnr(x + 0.2, x)) == pytest.approx(20, abs=1e-4)
    assert float(psnr(x + 0.02, x)) == pytest.approx(40, abs=1e-3)
    assert float(psnr(x, x)) == float("inf")


def test_pictures_must_be_alike():
    for loss in (pixel_loss, psnr, perceptual(lambda x: [x])):
        with pytest.raises(ValueError, match=r"y: got .*expected the same as x"):
            loss(X[:1], X)


# --- features


def network() -> nn.Module:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)
    return nn.ModuleList([first, second]).requires_grad_(False)


def features_of(net: nn.Module):
    def features(x):
        h = F.relu(net[0](x))
        return [h, net[1](h)]

    return features


def test_the_perceptual_loss_is_twice_one_minus_the_cosine_at_every_place():
    features = features_of(network())
    distance = perceptual(features)
    pairs = list(zip(features(Y), features(X)))
    expected = sum(2 * (1 - F.cosine_similarity(a, b, dim=1)).flatten(1).mean(1) for a, b in pairs)
    assert torch.allclose(distance(Y, X), expected, atol=1e-5)
    mean_square = sum((a - b).square().sum(1).flatten(1).mean(1) for a, b in pairs)
    assert not torch.allclose(distance(Y, X), mean_square, rtol=0.1)  # the control: maps that are not scaled
    assert torch.equal(distance(X, X), torch.zeros(2))
    assert torch.allclose(distance(Y, X), distance(X, Y))
    bright = perceptual(lambda x: [7 * m for m in features(x)])
    assert torch.allclose(bright(Y, X), distance(Y, X), atol=1e-5)


def test_opposite_features_are_4_apart():
    assert torch.allclose(perceptual(lambda x: [x, x])(X, -X), torch.full((2,), 8.0), atol=1e-5)


def test_noise_that_moves_is_the_same_to_features_of_texture_and_another_picture_to_pixels():
    net = network()
    texture = perceptual(lambda x: [F.pad(x, [1] * 4, "circular").unfold(2, 3, 1).unfold(3, 3, 1).std((2, 3))])
    pooled = perceptual(lambda x: [net[0](F.pad(x, [1] * 4, "circular")).square().mean((2, 3), keepdim=True)])
    moved = X.roll((2, 3), (2, 3))
    for distance in (texture, pooled):
        assert float(distance(moved, X).max()) < 1e-5
    assert float(pixel_loss(moved, X, 1, 0, 0).min()) > 0.5
    assert float(perceptual(lambda x: [x])(moved, X).min()) > 0.5


def test_gradients_reach_y_alone_and_stay_finite_where_all_features_are_zero():
    y, x = Y.clone().requires_grad_(), X.clone().requires_grad_()
    perceptual(features_of(network()))(y, x).sum().backward()
    assert x.grad is None
    assert float(y.grad.abs().max()) > 0
    dark = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = perceptual(lambda x: [x])(dark, torch.ones(1, 3, 4, 4)).sum()
    assert float(loss.detach()) == pytest.approx(1)  # from nothing to a vector of length 1
    loss.backward()
    assert bool(torch.isfinite(dark.grad).all())


@pytest.mark.parametrize("maps", [lambda x: x, lambda x: [], lambda x: [x[:1]], lambda x: [x.mean((1, 2, 3))]])
def test_features_that_are_no_maps_are_refused(maps):
    with pytest.raises(ValueError, match=r"features: got .*expected a list of maps \(2, C, …\)"):
        perceptual(maps)(Y, X)


# --- the adversary


def test_hinge_by_hand():
    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]), torch.tensor([[-3.0, 0.0], [0.5, -1.0]])
    # picture 0: real (0 + 0.5)/2, fake (0 + 1)/2; picture 1: real (2 + 0)/2, fake (1.5 + 0)/2
    assert hinge(real, fake).tolist() == pytest.approx([0.375, 0.875])
    assert hinge(fake, real).tolist() != pytest.approx([0.375, 0.875])
    assert float(hinge(torch.ones(1), -torch.ones(1))) == 0  # beyond the margin nothing more is to be gained


@pytest.mark.parametrize(("layers", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_its_patch_and_no_more(layers, seen):
    net = PatchGAN(1, 4, layers)
    for i, layer in enumerate(net.net):
        if isinstance(layer, nn.GroupNorm):
            net.net[i] = nn.Identity()
    x = randn((1, 1, 96, 96), seeded(0)).requires_grad_()
    scores = net(x)
    middle = scores.shape[2] // 2
    scores[0, 0, middle, middle].backward()
    touched = x.grad[0, 0] != 0
    assert int(touched.any(0).sum()) == int(touched.any(1).sum()) == seen


def test_scores_do_not_depend_on_the_batch_and_small_pictures_are_refused():
    net = PatchGAN(3, 8, 2)
    x = randn((3, 3, 12, 16), seeded(0))
    assert net(x).shape == (3, 1, 1, 2)
    assert torch.allclose(net(x)[1:2], net(x[1:2]), atol=1e-5)
    for bad in (x[:, :, :11], x[:, :2], x[0]):
        with pytest.raises(ValueError, match=re.escape("expected shape (B, 3, H, W) with H, W ≥ 12")):
            net(bad)


def test_the_adaptive_weight_by_hand():
    decoder = nn.Linear(4, 3, bias=False)
    h, target, direction = randn((5, 4), seeded(0)), randn((5, 3), seeded(1)), randn((3,), seeded(2))
    y = decoder(h)
    reconstruction, adversarial = (y - target).square().mean(), -(y @ direction).mean()
    d_rec = 2 * (y - target).T @ h / 15
    d_gan = -direction[:, None] * h.mean(0)
    weight = adaptive_weight(reconstruction, adversarial, decoder.weight)
    assert float(weight) == pytest.approx(float((d_rec.norm() / (d_gan.norm() + 1e-4)).detach()), rel=1e-5)
    assert not weight.requires_grad
    assert float(adaptive_weight(reconstruction, 3 * adversarial, decoder.weight)) == pytest.approx(
        float(weight) / 3, rel=1e-3
    )
    (reconstruction + weight * adversarial).backward()  # the graph is still there
    assert torch.allclose(decoder.weight.grad, d_rec + weight * d_gan, atol=1e-5)


def test_the_adaptive_weight_has_an_end():
    w = torch.ones(1, requires_grad=True)
    assert float(adaptive_weight((5 * w).sum(), (0 * w).sum(), w)) == 1e4  # 5/1e-4 without the clamp
    assert float(adaptive_weight((0.5 * w).sum(), (0 * w).sum(), w)) == pytest.approx(5e3)
    with pytest.raises(ValueError, match="adversarial: got"):
        adaptive_weight(w.sum(), w, w)


class Against(nn.Module):
    """A codec with an adversary, the way `alternate` trains it."""

    def __init__(self, codec: nn.Module):
        super().__init__()
        self.codec, self.weights = codec, []

    def reconstruct(self, x):
        return self.codec.reconstruct(x)

    def loss(self, adversary, x0):
        loss = self.codec.loss(x0)
        if adversary is None:
            return loss
        fooled = -adversary(self.codec(x0)[0]).flatten(1).mean(1)
        self.weights.append(adaptive_weight(loss.mean(), fooled.mean(), self.codec.body.last))
        return loss + 0.1 * self.weights[-1] * fooled


@pytest.mark.parametrize("codec", [VAE(width=8), VQVAE(16, 4, width=8)], ids=["vae", "vqvae"])
def test_a_codec_trains_in_turn_with_its_adversary(codec):
    adversary, model = PatchGAN(3, 8, 1), Against(codec)
    before = [p.detach().clone() for p in adversary.parameters()]
    draw = lambda generator: {"x0": torch.randn(2, 3, 8, 8, generator=generator)}
    progress = list(alternate(model, adversary, draw, 4, start=2, bar=False))
    assert [p.adversary_loss is None for p in progress] == [True, True, False, False]
    assert len(model.weights) == 2
    assert all(float(w) > 0 for w in model.weights)
    assert any(not torch.equal(p, b) for p, b in zip(adversary.parameters(), before))
