"""Layers: what they are at birth, what they do to numbers, and that a zeroed block changes nothing."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidiff.nn.conv import PixelAttention, ResBlock
from minidiff.nn.embeddings import TimeEmbedding, add_vector
from minidiff.nn.init import groups, zeroed


def test_a_new_resblock_is_its_skip_and_a_trained_one_is_not():
    x, e = torch.randn(2, 8, 5, 5), torch.randn(2, 16)
    block = ResBlock(8, 8, 16)
    assert torch.equal(block(x, e), x)
    torch.nn.init.normal_(block.conv2.weight)
    assert not torch.allclose(block(x, e), x)
    wider = ResBlock(8, 12, 16)
    assert torch.equal(wider(x, e), wider.skip(x))


def test_resblock_against_its_formula():
    x, e = torch.randn(2, 8, 5, 5), torch.randn(2, 16)
    block = ResBlock(8, 8, 16)
    torch.nn.init.normal_(block.conv2.weight, std=0.1)
    scale, shift = block.modulation(F.silu(e))[:, :, None, None].chunk(2, dim=1)
    h = block.conv1(F.silu(F.group_norm(x, 8, block.norm1.weight, block.norm1.bias)))
    h = F.group_norm(h, 8, block.norm2.weight, block.norm2.bias) * (1 + scale) + shift
    assert torch.allclose(block(x, e), x + block.conv2(F.silu(h)), atol=1e-6)


@pytest.mark.parametrize("context_dim", [None, 12])
def test_pixels_attend_by_softmax_of_scaled_products(context_dim):
    x, context = torch.randn(2, 8, 3, 2), None if context_dim is None else torch.randn(2, 5, context_dim)
    layer = PixelAttention(8, heads=2, context_dim=context_dim)
    assert torch.equal(layer(x, context), x)  # zeroed output
    own = layer.attention
    torch.nn.init.normal_(own.out.weight)
    pixels = layer.norm(x).flatten(2).transpose(1, 2)  # (B, 6, C), row by row
    seen = pixels if context is None else context
    heads = lambda y: y.unflatten(-1, (2, 4)).transpose(1, 2)
    q, k, v = heads(own.q(pixels)), heads(own.k(seen)), heads(own.v(seen))
    mixed = own.out((torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(4), -1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(layer(x, context), x + mixed.transpose(1, 2).reshape(2, 8, 3, 2), atol=1e-5)
    across = mixed.reshape(2, 3, 2, 8).permute(0, 3, 2, 1).reshape(2, 8, 3, 2)  # column by column: another picture
    assert not torch.allclose(layer(x, context), x + across, atol=1e-2)


@pytest.mark.parametrize("n", [1, 6, 7, 48, 80, 96])
def test_groups_divide(n):
    assert n % groups(n) == 0
    assert 1 <= groups(n) <= 8


def test_zeroed():
    assert all(float(p.detach().abs().max()) == 0 for p in zeroed(torch.nn.Linear(3, 4)).parameters())


def test_times_far_apart_and_close_together_are_told_apart():
    embed = TimeEmbedding(32)
    t = torch.linspace(0, 1, 1001)
    e = embed(t).detach()
    assert float((e[1:] - e[:-1]).norm(dim=1).min()) > 1e-3  # a thousandth of the way is visible
    assert torch.equal(embed(torch.tensor([0.3])), embed(torch.tensor([0.3])))


def test_times_keep_their_precision_in_a_half_precision_net():
    embed = TimeEmbedding(32).bfloat16()
    near = torch.tensor([0.9960, 0.9990])  # both round to 0.9961 or 1.0 in bfloat16
    assert embed(near).dtype == torch.bfloat16
    assert not torch.equal(*embed(near))


def test_times_may_be_one_per_token():
    embed, t = TimeEmbedding(32), torch.rand(2, 5)
    assert embed(t).shape == (2, 5, 32)
    assert torch.allclose(embed(t)[1], embed(t[1]), atol=1e-6)
    assert not torch.allclose(embed(t)[0], embed(t[1]), atol=1e-2)


def test_a_vector_adds_to_the_time_of_every_token_and_wrong_ones_are_named():
    e, tokens, vector = torch.randn(2, 16), torch.randn(2, 5, 16), torch.randn(2, 16)
    assert add_vector(e, None) is e
    assert torch.equal(add_vector(e, vector), e + vector)
    assert torch.equal(add_vector(tokens, vector)[:, 3], tokens[:, 3] + vector)
    for bad in (vector[:1], vector[0], torch.randn(2, 8), tokens):
        for embedding in (e, tokens):
            with pytest.raises(ValueError, match=r"vector: got .* expected shape \(2, 16\)"):
                add_vector(embedding, bad)
