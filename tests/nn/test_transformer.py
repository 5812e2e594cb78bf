"""The transformer block against PyTorch's own layer and against the definition of a mask."""

import pytest
import torch
import torch.nn.functional as F
from minidiff.nn.transformer import Attention, Block, quick_gelu

from minidiff.randomness import randn, seeded


def torch_layer(block: Block, dim: int, heads: int) -> torch.nn.TransformerEncoderLayer:
    """PyTorch's pre-norm layer with the weights of `block`."""
    layer = torch.nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    parts = (block.attention.q, block.attention.k, block.attention.v)
    layer.self_attn.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
    layer.self_attn.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
    for theirs, mine in (
        (layer.self_attn.out_proj, block.attention.out),
        (layer.norm1, block.norm1),
        (layer.norm2, block.norm2),
        (layer.linear1, block.up),
        (layer.linear2, block.down),
    ):
        theirs.load_state_dict(mine.state_dict())
    return layer


def random_block(**options) -> Block:
    block = Block(16, 4, **options)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=seeded(parameter.numel()))
    return block.eval().requires_grad_(False)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_block_equals_pytorchs_layer(causal, masked):
    x, block = randn((3, 6, 16), seeded(0)), random_block(causal=causal)
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    triangle = torch.ones(6, 6, dtype=torch.bool).triu(1) if causal else None  # PyTorch's masks are True where closed
    theirs = torch_layer(block, 16, 4)
    expected = theirs(x, src_mask=triangle, src_key_padding_mask=~mask if masked else None)
    assert torch.allclose(block(x, mask=mask if masked else None), expected, atol=1e-5)
    other = random_block(causal=not causal)
    assert not torch.allclose(other(x, mask=mask if masked else None), expected, atol=1e-2)


def test_cross_attention_is_softmax_of_scaled_products():
    x, context = randn((2, 5, 8), seeded(0)), randn((2, 3, 12), seeded(1))
    layer = Attention(8, heads=2, context_dim=12)
    heads = lambda y: y.unflatten(-1, (2, 4)).transpose(1, 2)
    q, k, v = heads(layer.q(x)), heads(layer.k(context)), heads(layer.v(context))
    mixed = (q @ k.transpose(-1, -2) / 2.0).softmax(-1) @ v
    assert torch.allclose(layer(x, context), layer.out(mixed.transpose(1, 2).flatten(2)), atol=1e-6)


def test_a_masked_context_is_a_shorter_context():
    x, context = randn((2, 5, 16), seeded(0)), randn((2, 4, 12), seeded(1))
    block, mask = random_block(context_dim=12), (torch.arange(4) < 3).expand(2, 4)
    assert torch.allclose(block(x, context, context_mask=mask), block(x, context[:, :3]), atol=1e-5)
    assert not torch.allclose(block(x, context), block(x, context[:, :3]), atol=1e-2)


def test_quick_gelu_is_close_to_gelu_and_not_equal():
    x = torch.linspace(-6, 6, 1001)
    gap = (quick_gelu(x) - F.gelu(x)).abs().max()
    assert 0.01 < gap < 0.03


def test_unusable_input_is_named():
    x = randn((2, 5, 16), seeded(0))
    with pytest.raises(ValueError, match="heads: got"):
        Block(16, 3)
    with pytest.raises(ValueError, match="causal: got"):
        Attention(16, 4, causal=True, context_dim=8)
    with pytest.raises(ValueError, match="context: got"):
        Block(16, 4)(x, context=x)
    with pytest.raises(ValueError, match="context: got"):
        Block(16, 4, context_dim=8)(x)
    with pytest.raises(ValueError, match="mask: got"):
        Block(16, 4)(x, mask=torch.ones(2, 5))
