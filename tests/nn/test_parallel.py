"""Attention beside the MLP: the identity at first, the same numbers as its parts one by one, masks and rotations."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.nn import masks, rope
from minidiff.nn.block import attention_maps, gelu_tanh
from minidiff.nn.parallel import Parallel
from minidiff.randomness import randn, seeded

DIM, HEADS = 16, 2
X, COND = randn((2, 5, DIM), seeded(0)), randn((2, DIM), seeded(1))
SEEN = masks.keys(torch.arange(5) < torch.tensor([5, 3])[:, None])


def shaken(block: Parallel) -> Parallel:
    generator = seeded(3)
    for parameter in block.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return block.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("gated", [False, True])
def test_a_new_block_is_the_identity(gated):
    assert torch.equal(Parallel(DIM, HEADS, cond_dim=DIM, gated=gated)(X, COND), X)
    assert gap(shaken(Parallel(DIM, HEADS, cond_dim=DIM, gated=gated))(X, COND), X) > 0.1


@pytest.mark.parametrize("gated", [False, True])
def test_it_is_the_sum_of_its_two_branches(gated):
    """One fused map out of [mixed, hidden] is a map of each, added: what makes the two branches parallel."""
    block = shaken(Parallel(DIM, HEADS, cond_dim=DIM, hidden=24, gated=gated))
    h, gate = block.norm(X, COND)
    *qkv, inside = block.into(h).split([DIM, DIM, DIM, 24 * (1 + gated)], -1)
    q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in qkv)
    q, k = block.norm_q(q), block.norm_k(k)
    mixed = ((q @ k.transpose(-1, -2) / (DIM / HEADS) ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    made = inside[..., :24] * gelu_tanh(inside[..., 24:]) if gated else gelu_tanh(inside)
    attention = F.linear(mixed, block.out.weight[:, :DIM], block.out.bias)
    mlp = F.linear(made, block.out.weight[:, DIM:])
    assert gap(block(X, COND), X + gate * (attention + mlp)) <= 1e-5
    assert gap(block(X, COND), X + gate * attention) > 0.01


def test_masks_and_rotations_count():
    block, places = shaken(Parallel(DIM, HEADS, cond_dim=DIM)), torch.arange(5.0)[:, None]
    out = block(X, COND, SEEN)
    changed = X.clone()
    changed[1, 3:] *= -1
    assert gap(block(changed, COND, SEEN)[1, :3], out[1, :3]) == 0
    assert gap(block(changed, COND)[1, :3], block(X, COND)[1, :3]) > 1e-3
    turned = block(X, COND, rotate=rope.Rotary(places, (8,)))
    assert gap(turned, block(X, COND, rotate=rope.Rotary(places + 7, (8,)))) <= 1e-5
    assert gap(turned, block(X, COND)) > 1e-3
    with attention_maps(block) as maps:
        block(X, COND, SEEN)
    ((only,),) = maps.values()
    assert only.shape == (2, HEADS, 5, 5)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads"):
        Parallel(DIM, 3)
