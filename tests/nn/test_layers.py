"""Layers: what they are at birth, what they do to numbers, and that a zeroed block changes nothing."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidiff.nn.conv import PixelAttention, ResBlock
from minidiff.nn.embeddings import TimeEmbedding, TimeLabelEmbedding
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


def test_attention_is_softmax_of_scaled_products():
    x = torch.randn(2, 8, 3, 3)
    layer = PixelAttention(8, heads=2)
    assert torch.equal(layer(x), x)  # zeroed output
    torch.nn.init.normal_(layer.out.weight)
    q, k, v = layer.qkv(layer.norm(x)).reshape(2, 3, 2, 4, 9).unbind(1)  # (B, heads, d, pixels)
    weights = torch.softmax(q.transpose(-1, -2) @ k / math.sqrt(4), dim=-1)
    mixed = (weights @ v.transpose(-1, -2)).transpose(-1, -2).reshape(2, 8, 3, 3)
    assert torch.allclose(layer(x), x + layer.out(mixed), atol=1e-5)


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


def test_labels_add_to_times_and_wrong_ones_are_named():
    embed = TimeLabelEmbedding(3, 16)
    t, y = torch.rand(4), torch.tensor([0, 1, 2, 3])
    assert torch.allclose(embed(t, y) - embed.time(t), embed.label.weight[y], atol=1e-6)
    assert torch.equal(embed(t, torch.tensor(3)), embed(t, torch.full((4,), 3)))
    for bad in (None, y.float(), y[:2], 3):
        with pytest.raises(ValueError, match="y: got"):
            embed(t, bad)
    with pytest.raises(ValueError, match=r"y: got .* expected nothing"):
        TimeLabelEmbedding(0, 16)(t, y)
