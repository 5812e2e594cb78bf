"""What the U-Net is made of equals the parts of diffusers' UNet2DConditionModel on the same weights (fp32)."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from minidiff.nn import masks
from minidiff.nn.conv import PixelTransformer, ResBlock
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
WIDTH, WIDER, CONTEXT_DIM, EMBEDDING = 16, 32, 20, 64


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    generator = seeded(3)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def theirs(linear: bool = True) -> UNet2DConditionModel:
    """Stable Diffusion's network with two narrow levels, both of which read. linear: Stable Diffusion 2, not 1."""
    net = UNet2DConditionModel(
        sample_size=8, block_out_channels=(WIDTH, WIDER), layers_per_block=1, norm_num_groups=8, attention_head_dim=4,
        cross_attention_dim=CONTEXT_DIM, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), use_linear_projection=linear,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    return shaken(net)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def load(mine: torch.nn.Module, other: torch.nn.Module) -> None:
    """Same weights; a bias that they do not have is 0; a 1×1 convolution is a linear map."""
    state = {name: value.reshape(getattr(mine, name).shape) for name, value in other.state_dict().items()}
    mine.load_state_dict({name: torch.zeros_like(value) for name, value in mine.state_dict().items()} | state)


def copied(other) -> PixelTransformer:
    (inner,) = other.transformer_blocks
    ours = PixelTransformer(other.config.in_channels, other.config.num_attention_heads, CONTEXT_DIM)
    block = ours.block
    pairs = [(ours.norm, other.norm), (ours.into, other.proj_in), (ours.back, other.proj_out)]
    pairs += [(block.norm1, inner.norm1), (block.norm_cross, inner.norm2), (block.norm2, inner.norm3)]
    for mine, at in ((block.attention, inner.attn1), (block.cross, inner.attn2)):
        pairs += [(mine.q, at.to_q), (mine.k, at.to_k), (mine.v, at.to_v), (mine.out, at.to_out[0])]
    for mine, given in [*pairs, (block.up, inner.ff.net[0].proj), (block.down, inner.ff.net[2])]:
        load(mine, given)
    return ours.eval().requires_grad_(False)


PLACES = {
    "down, level 0": lambda net: net.down_blocks[0],
    "down, level 1": lambda net: net.down_blocks[1],
    "middle": lambda net: net.mid_block,
    "up, level 0": lambda net: net.up_blocks[1],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "1×1 convolutions"])
@pytest.mark.parametrize("padded", [False, True])
def test_pixels_read_as_in_stable_diffusion(place, linear, padded):
    other = PLACES[place](theirs(linear)).attentions[0]
    ours, width = copied(other), other.config.in_channels
    x, context = randn((2, width, 4, 6), seeded(0)), randn((2, 5, CONTEXT_DIM), seeded(1))
    valid = torch.arange(5) < torch.tensor([5, 3])[:, None]
    expected = other(x, encoder_hidden_states=context, encoder_attention_mask=valid.long() if padded else None).sample
    seen = masks.keys(valid)
    assert gap(expected, x) > 0.1
    assert gap(ours(x, context, seen if padded else None), expected) <= TOLERANCE
    assert gap(ours(x, context, None if padded else seen), expected) > 100 * TOLERANCE


SLIPS = {
    "not gated": lambda ours: setattr(ours.block, "activation", torch.ones_like),
    "value and gate swapped": lambda ours: ours.block.up.weight.data.copy_(
        ours.block.up.weight.data.roll(4 * WIDTH, 0)
    ),
    "another activation": lambda ours: setattr(ours.block, "activation", torch.relu),
    "reads before it looks around": lambda ours: ours.block.norm_cross.weight.data.mul_(0.5),
    "no way back": lambda ours: ours.back.weight.data.copy_(ours.back.weight.data.T.clone()),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_are_found(slip):
    other = theirs().down_blocks[0].attentions[0]
    ours = copied(other)
    x, context = randn((2, WIDTH, 4, 6), seeded(0)), randn((2, 5, CONTEXT_DIM), seeded(1))
    SLIPS[slip](ours)
    assert gap(ours(x, context), other(x, encoder_hidden_states=context).sample) > 100 * TOLERANCE


@pytest.mark.parametrize("place", ["down, level 0", "down, level 1", "middle", "up, level 0"])
def test_a_block_with_a_time_is_that_of_diffusers(place):
    other = PLACES[place](theirs()).resnets[0]
    c_in, c_out = other.in_channels, other.out_channels
    assert other.norm1.num_groups == 8  # ours: the largest up to 8 that divides the channels
    ours = ResBlock(c_in, c_out, EMBEDDING).eval().requires_grad_(False)
    pairs = [(ours.norm1, other.norm1), (ours.conv1, other.conv1), (ours.norm2, other.norm2), (ours.conv2, other.conv2)]
    pairs += [(ours.modulation, other.time_emb_proj)]
    for mine, given in pairs + ([(ours.skip, other.conv_shortcut)] if c_in != c_out else []):
        load(mine, given)
    assert (ours.norm1.eps, other.norm1.eps) == (1e-5, 1e-5)
    x, embedding = randn((2, c_in, 4, 6), seeded(0)), randn((2, EMBEDDING), seeded(1))
    expected = other(x, embedding)
    assert gap(ours(x, embedding), expected) <= TOLERANCE
    assert gap(ours(x, embedding.flip(0)), expected) > 100 * TOLERANCE
    for name in ("weight", "bias"):  # the scale after the shift
        part = getattr(ours.modulation, name)
        part.data = part.data.roll(c_out, 0)
    assert gap(ours(x, embedding), expected) > 100 * TOLERANCE
