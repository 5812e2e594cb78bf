"""Bottlenecks equal diffusers' on the same numbers (fp32): the Gaussian of AutoencoderKL, the codebook of VQModel."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution, VectorQuantizer

from minidiff.codecs.vae import Posterior
from minidiff.codecs.vqvae import Quantizer
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE = 1e-6


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


# --- the Gaussian


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["ordinary", "beyond −30 and 20"])
def test_the_posterior_is_that_of_autoencoder_kl(size):
    parameters = size * randn((3, 8, 4, 5), seeded(0))
    ours, theirs = Posterior.of(parameters), DiagonalGaussianDistribution(parameters)
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.log_variance, theirs.logvar)
    assert gap(ours.std / theirs.std, torch.tensor(1.0)) <= TOLERANCE
    assert gap(ours.kl() / theirs.kl(), torch.tensor(1.0)) <= TOLERANCE
    assert gap(ours.sample(seeded(1)) / theirs.sample(seeded(1)), torch.tensor(1.0)) <= TOLERANCE
    bare = Posterior(*parameters.chunk(2, 1))  # the control: without the clamp
    assert (gap(bare.log_variance, theirs.logvar) > 1) == (size == 30.0)
    swapped = Posterior.of(torch.cat(parameters.chunk(2, 1)[::-1], 1))  # log-variances first
    assert gap(swapped.kl() / theirs.kl(), torch.tensor(1.0)) > 0.01


# --- the codebook


def pair(legacy: bool = False) -> tuple[Quantizer, VectorQuantizer]:
    """The same codes. Theirs with legacy=False is eq. 3 of the paper: β weighs the commitment, not the codebook."""
    ours, theirs = Quantizer(17, 3, decay=None), VectorQuantizer(17, 3, 0.25, legacy=legacy, sane_index_shape=True)
    for codebook in (ours.codebook, theirs.embedding.weight):
        codebook.data = randn((17, 3), seeded(1))
    return ours, theirs


def run(legacy: bool = False, weights: tuple[float, float] = (0.25, 1.0)):
    """(codes, quantised, loss, its gradients for z and codes, the gradient for z of the quantised) of both."""
    ours, theirs = pair(legacy)
    z, slope = randn((2, 3, 4, 5), seeded(0)).requires_grad_(), randn((2, 3, 4, 5), seeded(2))
    quantised, losses, codes = ours(z)
    loss = (weights[0] * losses["commitment"] + weights[1] * losses["codebook"]).mean()
    expected, their_loss, (_, _, their_codes) = theirs(z)
    results = []
    for q, l, c, book in ((quantised, loss, codes, ours.codebook), (expected, their_loss, their_codes, None)):
        book = theirs.embedding.weight if book is None else book
        (straight,) = torch.autograd.grad((slope * q).sum(), z, retain_graph=True)
        results.append([c, q, l, *torch.autograd.grad(l, [z, book]), straight])
    return results


def test_the_codebook_is_that_of_vq_model():
    ours, theirs = run()
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].shape == (2, 4, 5)
    assert len(ours[0].unique()) > 8
    for mine, their in zip(ours[1:], theirs[1:]):
        assert gap(mine, their) <= TOLERANCE
    entries = pair()[1].get_codebook_entry(theirs[0].flatten(), (2, 4, 5, 3))
    assert gap(pair()[0].lookup(ours[0]), entries) <= TOLERANCE


@pytest.mark.parametrize("slip", [{"legacy": True}, {"weights": (1.0, 0.25)}], ids=["theirs", "ours"])
def test_a_swapped_weight_shows_in_the_gradients_alone(slip):
    """diffusers' own default, legacy=True, gives β to the codebook; weights swapped here, too, agree with it again."""
    ours, theirs = run(**slip)
    assert gap(ours[2], theirs[2]) <= TOLERANCE  # the two losses are the same number
    for mine, their in zip(ours[3:5], theirs[3:5]):
        assert gap(mine, their) > 1e-3
    for mine, their in zip(*(part[1:] for part in run(legacy=True, weights=(1.0, 0.25)))):
        assert gap(mine, their) <= TOLERANCE
