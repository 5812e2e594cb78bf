"""The quantizer against NumPy, k-means and a search by hand; straight-through gradients; restarts; that it learns."""

import re

import numpy as np
import pytest
import torch

from minidiff.codecs import vqvae as page
from minidiff.codecs.losses import psnr
from minidiff.codecs.vqvae import SMOOTHING, VQVAE, Quantizer
from minidiff.data.prompts import World, place
from minidiff.data.scenes import SHAPES, render
from minidiff.randomness import initialised, randn, seeded
from minidiff.training import chunked, fit

Z = randn((2, 3, 4, 5), seeded(0))


def quantizer(size: int = 7, dim: int = 3, **options) -> Quantizer:
    """With codes as far apart as the vectors of Z."""
    built = Quantizer(size, dim, **options)
    built.codebook.data = randn((size, dim), seeded(1))
    return built


# --- the nearest code


def test_the_nearest_code_is_found_and_looked_up():
    q = quantizer().eval()
    quantised, losses, codes = q(Z)
    assert codes.shape == (2, 4, 5)
    assert codes.dtype == torch.int64
    for b, i, j in np.ndindex(2, 4, 5):
        squares = ((q.codebook - Z[b, :, i, j]) ** 2).sum(1)
        assert int(codes[b, i, j]) == int(squares.argmin())
        assert torch.allclose(quantised[b, :, i, j], q.codebook[codes[b, i, j]], atol=1e-6)
    assert torch.equal(q.lookup(codes), q.codebook[codes].permute(0, 3, 1, 2))
    by_hand = ((Z - q.lookup(codes)) ** 2).mean((1, 2, 3))
    assert torch.allclose(losses["commitment"], by_hand)
    assert list(losses) == ["commitment"]


def test_gradients_go_straight_through():
    z, slope = Z.clone().requires_grad_(), randn(Z.shape, seeded(2))
    q = quantizer().eval()
    quantised, losses, codes = q(z)
    (gradient,) = torch.autograd.grad((slope * quantised).sum(), z)
    assert torch.equal(gradient, slope)
    (pull,) = torch.autograd.grad(losses["commitment"].sum(), z)
    assert torch.allclose(pull, 2 * (Z - q.lookup(codes)) / 60, atol=1e-6)
    assert not q.lookup(q.nearest(z)).requires_grad  # the control: the code itself has no gradient at all


def test_codes_that_are_parameters_have_the_codebook_loss_and_no_averages():
    q = quantizer(decay=None)
    z, before = Z.clone().requires_grad_(), q.codebook.detach().clone()
    quantised, losses, codes = q(z)
    assert torch.equal(q.codebook, before)
    assert [name for name, _ in q.named_parameters()] == ["codebook"]
    towards, none = torch.autograd.grad(losses["codebook"].sum(), [q.codebook, z], allow_unused=True)
    assert none is None
    rows, chosen = Z.movedim(1, -1).reshape(-1, 3), codes.flatten()
    expected = torch.zeros_like(before).index_add(0, chosen, 2 * (before[chosen] - rows) / 60)
    assert torch.allclose(towards, expected, atol=1e-6)
    assert torch.autograd.grad(quantised.sum(), q.codebook, allow_unused=True)[0] is None


# --- codes that follow


@pytest.mark.parametrize("smoothing", [SMOOTHING, 0.5])
def test_averages_are_those_of_the_appendix_by_numpy(monkeypatch, smoothing):
    monkeypatch.setattr(page, "SMOOTHING", smoothing)
    q = quantizer(decay=0.9, restart=0.0)
    book = q.codebook.numpy().astype(np.float64).copy()
    counts, sums = np.zeros(7), np.zeros((7, 3))
    for step in range(5):
        z = randn((2, 3, 4, 5), seeded(step))
        rows = z.numpy().transpose(0, 2, 3, 1).reshape(-1, 3)
        choice = ((rows[:, None] - book) ** 2).sum(-1).argmin(1)
        for k in range(7):
            counts[k] = 0.9 * counts[k] + 0.1 * (choice == k).sum()
            sums[k] = 0.9 * sums[k] + 0.1 * rows[choice == k].sum(0)
        smoothed = (counts + smoothing) / (counts.sum() + 7 * smoothing) * counts.sum()
        book[counts > 0] = (sums / smoothed[:, None])[counts > 0]
        _, _, codes = q(z)
        assert codes.flatten().tolist() == choice.tolist()
        np.testing.assert_allclose(q.codebook.numpy(), book, atol=1e-5)
    assert np.abs(sums / counts.mean() - book).max() > 0.1  # the control: without its own count


def test_the_codebook_moves_in_training_alone_and_never_in_a_graph():
    q, z = quantizer(), Z.clone().requires_grad_()
    before = q.codebook.clone()
    q.eval()(z)
    q.train().nearest(z)
    assert torch.equal(q.codebook, before)
    quantised, _, codes = q(z)
    assert not torch.equal(q.codebook, before)
    assert not any(b.requires_grad for b in q.buffers())
    assert torch.allclose(quantised.detach(), before[codes].movedim(-1, 1), atol=1e-6)  # the codes of before
    quantised.sum().backward()


def test_without_restarts_a_code_that_was_never_chosen_stays_where_it_is():
    q = quantizer(restart=0.0)
    q.codebook[5:] = far = torch.tensor([[50.0, 60.0, 70.0], [-50.0, -60.0, -70.0]])
    before = q.codebook.clone()
    q(Z)
    assert torch.equal(q.codebook[5:], far)
    assert not torch.allclose(q.codebook[:5], before[:5], atol=0.01)


def test_of_constant_input_the_codes_become_the_means_of_their_cells():
    """With decay 0 every update is a step of Lloyd's; averages come to the same end."""
    centres = 4 * randn((5, 3), seeded(3))
    z = (centres[torch.arange(40) % 5] + 0.3 * randn((40, 3), seeded(4))).T.reshape(1, 3, 8, 5)
    rows, q = z[0].flatten(1).T, Quantizer(5, 3, decay=0.8, restart=0.0)
    q.codebook.copy_(centres + 0.5)
    off = lambda: max(float((q.codebook[k] - rows[q.nearest(z).flatten() == k].mean(0)).abs().max()) for k in range(5))
    assert off() > 0.2
    for _ in range(60):
        q(z)
    assert off() < 1e-4
    assert q.nearest(z).flatten().bincount().tolist() == [8] * 5


# --- dead codes


def collapsed(restart: float) -> tuple[Quantizer, list[float]]:
    """Codes of which two stand amidst the vectors and 30 far outside; perplexity over 60 updates."""
    q = Quantizer(32, 3, decay=0.9, restart=restart)
    q.codebook.fill_(100.0)
    q.codebook[:2] = randn((2, 3), seeded(5))
    q.counts.fill_(16.0)  # as if all had once been in use
    q.sums.copy_(16 * q.codebook)
    course = []
    for step in range(60):
        _, _, codes = q(randn((8, 3, 8, 8), seeded(step)), seeded(1000 + step))
        course.append(float(q.perplexity(codes)))
    return q, course


def test_restarts_revive_a_collapsed_codebook():
    _, course = collapsed(restart=0.03)
    assert course[0] <= 2
    assert course[-1] > 2 * course[0]
    assert course[-1] > 20
    q, without = collapsed(restart=0.0)
    assert max(without) <= 2
    assert float(q.codebook[2:].min()) > 90


def test_a_new_codebook_is_placed_by_the_first_batch():
    def placed(seed: int) -> torch.Tensor:
        q = Quantizer(16, 3)
        q.codebook.zero_()  # all at one place, so that the first takes every vector
        q(Z, seeded(seed))
        return q.codebook

    rows = Z.movedim(1, -1).reshape(-1, 3)
    assert torch.allclose(placed(0)[0], rows.mean(0), atol=1e-3)
    assert float(torch.cdist(placed(0)[1:], rows).min(1).values.max()) < 2e-3  # vectors of the batch, up to ε
    assert len(placed(0).unique(dim=0)) > 10
    assert torch.equal(placed(0), placed(0))
    assert not torch.equal(placed(0), placed(1))  # the generator decides which


def test_perplexity_counts_the_codes_in_use():
    q = Quantizer(8, 1)
    assert float(q.perplexity(torch.arange(8))) == pytest.approx(8)
    assert float(q.perplexity(torch.tensor([[3, 3], [5, 5]]))) == pytest.approx(2)
    assert float(q.perplexity(torch.zeros(9, dtype=torch.int64))) == pytest.approx(1)
    assert float(q.perplexity(torch.tensor([0, 0, 0, 1]))) == pytest.approx(0.75**-0.75 * 0.25**-0.25)


# --- the codec


def pictures(n: int, generator: torch.Generator) -> torch.Tensor:
    return render(place(World(SHAPES).prompts(n, generator), generator))


@pytest.mark.parametrize(("factor", "height", "width"), [(2, 6, 10), (4, 64, 64)])
def test_pictures_become_integers_and_integers_pictures(factor, height, width):
    codec, x = VQVAE(32, 4, factor, width=8), randn((2, 3, height, width), seeded(0))
    codec(x)  # places the codes
    codec.eval()
    y, _, codes = codec(x)
    assert codes.dtype == torch.int64
    assert codes.shape == (2, height // factor, width // factor)
    assert torch.equal(codec.encode(x), codes)
    assert torch.allclose(codec.decode(codes), y, atol=1e-5)
    assert torch.allclose(codec.reconstruct(x), y, atol=1e-5)
    assert torch.equal(codec.decode(codes, clamp=True), codec.decode(codes).clamp(-1, 1))


def test_the_loss_weighs_commitment_and_codebook():
    x = randn((2, 3, 8, 8), seeded(0))
    for decay in (None, 0.9):
        codec = VQVAE(16, 4, width=8, decay=decay, commitment=0.0).eval()
        bare, (_, losses, _) = codec.loss(x), codec(x)
        codec.commitment = 3.0
        assert torch.allclose(codec.loss(x) - bare, 3 * losses["commitment"], atol=1e-6)
        assert ("codebook" in losses) == (decay is None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.encode(torch.zeros(1, 3, 6, 8)), "x: got float32 tensor of shape (1, 3, 6, 8)"),
        (lambda c: c.decode(torch.zeros(1, 2, 2)), "codes: got float32 tensor"),
        (lambda c: c.decode(torch.zeros(2, 2, dtype=torch.int64)), "expected int64, shape (B, h, w)"),
        (lambda c: c.decode(torch.full((1, 2, 2), 16)), "codes: got values from 16 to 16, expected codes 0 … 15"),
        (lambda c: c.decode(torch.full((1, 2, 2), -1)), "codes: got values from -1 to -1, expected codes 0 … 15"),
        (lambda c: c.quantizer(torch.zeros(1, 3, 2, 2)), "z: got float32 tensor of shape (1, 3, 2, 2), expected"),
        (lambda c: Quantizer(0, 3), "size: got int 0, expected an integer ≥ 1"),
        (lambda c: Quantizer(2, 3, decay=1.0), "decay: got float 1.0, expected a number in [0, 1)"),
        (lambda c: Quantizer(2, 3, restart=-1.0), "restart: got"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(VQVAE(16, 4, width=8))


def test_it_learns_scenes():
    """Seeds 0, 1, 2 reach 21.0, 21.2, 21.9 dB, with another picture's codes at most 13.1, untrained at most 7.9."""
    codec = initialised(lambda: VQVAE(64, 4, factor=2, width=32), 0)
    held_out = pictures(128, seeded(99))
    decibels = lambda y: float(psnr(y.detach(), held_out).mean())
    assert decibels(codec.reconstruct(held_out)) < 9
    draw = chunked(lambda n: lambda generator: {"x0": pictures(n, generator)}, 16, 32)
    *_, last = fit(codec, draw, 120, lr=3e-3, ema_decay=0.9, bar=False)
    codes = last.ema.encode(held_out)
    assert decibels(last.ema.decode(codes)) > 19
    assert decibels(last.ema.decode(codes.roll(1, 0))) < 15
    assert float(last.ema.quantizer.perplexity(codes)) > 5
