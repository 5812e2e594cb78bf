"""The autoencoder of latent diffusion: its Gaussian, its shapes, its normalisation, that it learns."""

import copy
import re

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minidiff.codecs import vae as page
from minidiff.codecs.losses import psnr
from minidiff.codecs.vae import VAE, Posterior
from minidiff.data.prompts import World, place
from minidiff.data.scenes import SHAPES, render
from minidiff.nn.conv import Residual
from minidiff.randomness import initialised, randn, seeded
from minidiff.training import chunked, fit

SMALL = {"width": 8, "depth": (1, 1)}


def small(**options) -> VAE:
    """With every weight away from zero, so that every block takes part."""
    vae, generator = VAE(**(SMALL | options)), seeded(0)
    for parameter in vae.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return vae


def pictures(n: int, generator: torch.Generator) -> torch.Tensor:
    return render(place(World(SHAPES).prompts(n, generator), generator))


def decibels(y: torch.Tensor, x: torch.Tensor) -> float:
    return float(psnr(y.detach(), x).mean())


# --- the posterior


def test_the_divergence_is_that_of_torch_distributions():
    parameters = randn((3, 8, 2, 5), seeded(0))
    posterior = Posterior.of(parameters)
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).sum((1, 2, 3))
    assert torch.allclose(posterior.kl(), expected, rtol=1e-5)
    assert torch.equal(Posterior(torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)).kl(), torch.zeros(2))
    backwards = kl_divergence(Normal(0.0, 1.0), Normal(posterior.mean, posterior.std)).sum((1, 2, 3))
    assert not torch.allclose(posterior.kl(), backwards, rtol=0.1)


def test_samples_have_the_moments_of_the_posterior_and_pass_gradients_to_both():
    mean, log_variance = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -3.0])
    wide = lambda v: v.reshape(1, 2, 1, 1).expand(40_000, 2, 1, 1)
    posterior = Posterior(wide(mean).requires_grad_(), wide(log_variance).requires_grad_())
    z = posterior.sample(seeded(0))
    n_sigma = (z.detach().mean(0).flatten() - mean).abs() / (log_variance.div(2).exp() / 200)
    assert float(n_sigma.max()) < 4
    assert torch.allclose(z.var(0).flatten(), log_variance.exp(), rtol=0.04)
    assert not torch.allclose(z.std(0).flatten(), log_variance.exp(), rtol=0.04)  # a standard deviation is no variance
    d_mean, d_log_variance = torch.autograd.grad(z.sum(), [posterior.mean, posterior.log_variance])
    assert torch.equal(d_mean, torch.ones_like(d_mean))
    assert torch.allclose(d_log_variance, (z - posterior.mean).detach() / 2, atol=1e-6)


def test_extreme_log_variances_stay_finite():
    posterior = Posterior.of(torch.tensor([0.0, 0.0, 1e4, -1e4]).reshape(1, 4, 1, 1))
    assert posterior.log_variance.flatten().tolist() == [20.0, -30.0]
    assert bool(torch.isfinite(posterior.kl()).all())


# --- the autoencoder


def test_the_size_that_latent_diffusion_uses():
    vae, x = VAE(), randn((1, 3, 64, 64), seeded(0))
    assert vae.latents(x).shape == (1, 4, 16, 16)
    assert vae.decode(vae.latents(x)).shape == x.shape
    assert sum(p.numel() for p in vae.parameters()) == 132_408


@pytest.mark.parametrize(("factor", "height", "width"), [(2, 6, 10), (4, 16, 8), (8, 8, 24)])
def test_any_size_that_the_factor_divides(factor, height, width):
    vae, x = small(factor=factor, channels=5, colours=2), randn((2, 2, height, width), seeded(0))
    reconstruction, posterior = vae(x, seeded(1))
    assert reconstruction.shape == x.shape
    assert posterior.mean.shape == posterior.std.shape == (2, 5, height // factor, width // factor)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 8, 6), "(1, 3, 8, 6), expected at least one picture (3, H, W) with H, W divisible by 4"),
        (torch.zeros(1, 4, 8, 8), "x: got float32 tensor of shape (1, 4, 8, 8)"),
        (torch.zeros(3, 8, 8), "x: got float32 tensor of shape (3, 8, 8)"),
        (torch.zeros(1, 3, 0, 8), "x: got float32 tensor of shape (1, 3, 0, 8)"),
        (torch.zeros(0, 3, 8, 8), "x: got float32 tensor of shape (0, 3, 8, 8)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "x: got uint8 tensor"),
    ],
)
def test_other_pictures_are_refused(x, message):
    for call in (small().encode, small().latents, small()):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(x)


def test_latents_with_another_number_of_channels_are_refused():
    for channels in (1, 3):  # one channel would broadcast over the four of `scale`
        with pytest.raises(ValueError, match=r"z: got .*expected shape \(B, 4, h, w\)"):
            small().decode(torch.zeros(2, channels, 2, 2))


def test_chunks_change_nothing_and_bound_what_is_in_memory(monkeypatch):
    vae, x, sizes = small(), randn((7, 3, 8, 8), seeded(0)), []
    whole = vae.latents(x), vae.decode(vae.latents(x))
    for net in (vae.body.encoder, vae.body.decoder):
        net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(page, "CHUNK", 3)
    z = vae.latents(x)
    assert torch.allclose(z, whole[0], atol=1e-6)
    assert torch.allclose(vae.decode(z), whole[1], atol=1e-6)
    assert sizes == [3, 3, 1, 3, 3, 1]


def test_standardised_latents_have_mean_0_and_variance_1_and_decode_to_the_same_pictures():
    vae, x = small(), randn((24, 3, 16, 16), seeded(0)) + 1
    before = vae.latents(x)
    assert not torch.allclose(before.std((0, 2, 3)), torch.ones(4), atol=0.1)  # the control
    expected = vae.decode(before)
    assert vae.standardise(iter(x.split([5, 19]))) is vae
    z = vae.latents(x)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(z.var((0, 2, 3), unbiased=False), torch.ones(4), atol=1e-5)
    assert torch.allclose(vae.decode(z), expected, atol=1e-5)
    assert torch.allclose(vae.reconstruct(x), expected, atol=1e-5)
    again = copy.deepcopy(vae).standardise([x])  # from the posterior's own means, whatever stood there before
    assert torch.allclose(again.scale, vae.scale)
    assert set(vae.state_dict()) >= {"shift", "scale"}


def test_what_cannot_be_standardised_is_refused():
    with pytest.raises(ValueError, match="pictures: got none"):
        small().standardise([])
    with pytest.raises(ValueError, match="pictures: got channels with standard deviations"):
        small().standardise([torch.zeros(2, 3, 4, 4)])


def test_pixels_are_clamped_when_asked():
    vae, z = small(), 100 * randn((2, 4, 2, 2), seeded(0))
    free, kept = vae.decode(z), vae.decode(z, clamp=True)
    assert bool((free.abs() > 1).any())
    assert torch.equal(kept, free.clamp(-1, 1))


def test_the_reconstruction_comes_from_a_sample_and_a_generator_decides_which():
    vae, x = small(), randn((2, 3, 8, 8), seeded(0))
    one, posterior = vae(x, seeded([1, 2]))
    assert torch.allclose(one, vae.body.decode(posterior.sample(seeded([1, 2]))))
    assert torch.allclose(one[1:], vae(x[1:], seeded([2]))[0], atol=1e-6)  # whatever stands beside it
    assert not torch.allclose(one, vae(x, seeded([3, 4]))[0], atol=1e-2)
    assert torch.equal(vae.reconstruct(x), vae.body.decode(posterior.mean))


def test_the_loss_is_pixels_and_a_little_divergence():
    vae, x = small(kl_weight=0.5), randn((2, 3, 8, 8), seeded(0))
    y, posterior = vae(x, seeded(1))
    e = y - x
    across, down = (e[..., 1:] - e[..., :-1]).abs(), (e[..., 1:, :] - e[..., :-1, :]).abs()
    pixels = [e.abs().mean(), e.square().mean(), across.mean() / 2, down.mean() / 2]  # equally many in each picture
    expected = sum(pixels) + 0.5 * posterior.kl().mean() / (4 * 2 * 2)
    assert torch.allclose(vae.loss(x, seeded(1)).mean(), expected, rtol=1e-5)


def test_a_new_residual_block_is_the_identity_and_a_trained_one_its_formula():
    block, x = Residual(4), randn((2, 4, 5, 3), seeded(0))
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.out.weight)
    h = torch.nn.functional.conv2d(x * x.sigmoid(), block.conv.weight, block.conv.bias, padding=1)
    h = torch.einsum("oi,bihw->bohw", block.out.weight[:, :, 0, 0], h * h.sigmoid()) + block.out.bias[:, None, None]
    assert torch.allclose(block(x), x + h, atol=1e-5)


def test_it_learns_scenes():
    """Seeds 0, 1, 2 reach 21.3, 20.5, 21.3 dB; untrained 7.5, 7.6, 7.6."""
    vae = initialised(lambda: VAE(factor=2, width=32), 0)
    held_out = pictures(128, seeded(99))
    assert decibels(vae.reconstruct(held_out), held_out) < 9
    draw = chunked(lambda n: lambda generator: {"x0": pictures(n, generator)}, 16, 32)
    *_, last = fit(vae, draw, 100, lr=3e-3, ema_decay=0.9, bar=False)
    trained = last.ema.standardise([held_out])
    assert decibels(trained.reconstruct(held_out), held_out) > 19
    latents = trained.latents(held_out)
    assert decibels(trained.decode(latents), held_out) > 19
    shuffled = trained.decode(latents.roll(1, 0))  # the control: another picture's latent
    assert decibels(shuffled, held_out) < 14
