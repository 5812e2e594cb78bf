"""Temporal layers equal diffusers' on the same weights (fp32): of ModelScope, AnimateDiff, Latte and SVD."""

import pytest
import torch
from diffusers import LatteTransformer3DModel
from diffusers.models.resnet import AlphaBlender, TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from minidiff.nn.block import Block, gelu_tanh
from minidiff.nn.init import groups
from minidiff.nn.spacetime import (
    AlongTime,
    Blend,
    FrameTransformer,
    TemporalConv,
    clips_of,
    frames_of,
    separable,
)
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE, B, T, C = 1e-5, 2, 4, 12
CLIP = randn((B, C, T, 3, 5), seeded(0))


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """All weights random, none of them at its initial 0 or 1."""
    generator = seeded(3)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def attend(ours, theirs) -> None:
    pairs = [(ours.q, theirs.to_q), (ours.k, theirs.to_k), (ours.v, theirs.to_v), (ours.out, theirs.to_out[0])]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())


# --- convolutions along time (ModelScope)


def test_convolutions_along_time_are_modelscopes():
    theirs, ours = shaken(TemporalConvLayer(C, C, norm_num_groups=groups(C))), TemporalConv(C).requires_grad_(False)
    for norm, conv, part in zip(ours.norms, ours.convs, (theirs.conv1, theirs.conv2, theirs.conv3, theirs.conv4)):
        norm.load_state_dict(part[0].state_dict())
        conv.conv.weight.data, conv.conv.bias.data = part[-1].weight[..., 0, 0], part[-1].bias
    expected = clips_of(theirs(frames_of(CLIP), num_frames=T), B)
    assert gap(ours(CLIP), expected) <= TOLERANCE
    assert gap(ours(CLIP.flip(2)).flip(2), expected) > 100 * TOLERANCE  # their kernels know before from after
    ours.convs[0], ours.convs[1] = ours.convs[1], ours.convs[0]
    assert gap(ours(CLIP), expected) > 100 * TOLERANCE


def test_theirs_and_ours_begin_as_the_identity():
    assert torch.equal(TemporalConvLayer(C, C, norm_num_groups=groups(C))(frames_of(CLIP), T), frames_of(CLIP))
    assert torch.equal(TemporalConv(C)(CLIP), CLIP)
    # Their temporal transformer does not, unless its map back is zeroed, as ours is from the start.
    theirs = TransformerTemporalModel(2, C // 2, C, norm_num_groups=groups(C), double_self_attention=False)
    assert gap(theirs(frames_of(CLIP), num_frames=T).sample, frames_of(CLIP)) > 0.01
    assert torch.equal(FrameTransformer(C, 2)(CLIP), CLIP)


# --- attention along time at every pixel (AnimateDiff, ModelScope)


def frame_transformers() -> tuple[TransformerTemporalModel, FrameTransformer]:
    theirs = shaken(
        TransformerTemporalModel(
            2, C // 2, C, norm_num_groups=groups(C), attention_bias=True, double_self_attention=False
        )
    )
    ours, (block,) = FrameTransformer(C, 2, rotary=False).requires_grad_(False), theirs.transformer_blocks
    own = ours.along.block
    attend(own.attention, block.attn1)
    pairs = [(ours.norm, theirs.norm), (ours.into, theirs.proj_in), (ours.back, theirs.proj_out)]
    pairs += [(own.norm1, block.norm1), (own.norm2, block.norm3)]
    pairs += [(own.up, block.ff.net[0].proj), (own.down, block.ff.net[2])]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    return theirs, ours


def test_attention_along_time_is_diffusers_temporal_transformer():
    theirs, ours = frame_transformers()
    expected = clips_of(theirs(frames_of(CLIP), num_frames=T).sample, B)
    assert gap(ours(CLIP), expected) <= TOLERANCE
    assert gap(clips_of(theirs(frames_of(CLIP), num_frames=1).sample, B), expected) > 100 * TOLERANCE
    ours.along.rotary, ours.along.width = True, C // 2  # positions that theirs does not have
    assert gap(ours(CLIP), expected) > 100 * TOLERANCE
    theirs, ours = frame_transformers()
    ours.along.block.attention.q, ours.along.block.attention.k = (
        ours.along.block.attention.k,
        ours.along.block.attention.v,
    )
    assert gap(ours(CLIP), expected) > 100 * TOLERANCE


# --- α (Stable Video Diffusion)


@pytest.mark.parametrize("alpha", [0.2, 0.9])
def test_a_blend_is_diffusers_alpha_blender(alpha):
    logit = torch.tensor([alpha]).logit().item()
    z, mixed = CLIP, CLIP.flip(0) - 1
    ours, learned = Blend(alpha), AlphaBlender(logit, "learned")
    assert gap(ours(z, mixed), learned(z, mixed)) <= TOLERANCE
    assert gap(ours(mixed, z), learned(z, mixed)) > 100 * TOLERANCE
    both, pictures = AlphaBlender(logit, "learned_with_images"), torch.tensor([True, False])
    indicator = pictures[:, None].expand(B, T).float()  # theirs is one per frame
    assert gap(ours(z, mixed, pictures), both(z, mixed, indicator)) <= TOLERANCE
    assert gap(ours(z, mixed, ~pictures), both(z, mixed, indicator)) > 100 * TOLERANCE


# --- space, then time (Latte)


HEADS, DIM = 2, 16


def latte() -> LatteTransformer3DModel:
    """Latte, shaken, with captions that say nothing: its blocks read them without a norm, which ours does not have."""
    net = shaken(
        LatteTransformer3DModel(
            num_attention_heads=HEADS, attention_head_dim=DIM // HEADS, in_channels=3, out_channels=3, num_layers=2,
            cross_attention_dim=DIM, attention_bias=True, sample_size=8, patch_size=2, caption_channels=DIM,
            activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
            video_length=T, num_embeds_ada_norm=1000,
        )
    )  # fmt: skip
    for block in net.transformer_blocks:
        for parameter in block.attn2.to_out[0].parameters():
            parameter.data.zero_()
    return net


def shift_scale_gate(value: torch.Tensor) -> torch.Tensor:
    """Theirs is shift, scale, gate of attention, then of the MLP. Ours is scale, shift, gate."""
    parts = value.chunk(6, -1)
    return torch.cat([parts[i] for i in (1, 0, 2, 4, 3, 5)], -1)


def copied(theirs: torch.nn.Module) -> Block:
    block = Block(DIM, HEADS, shared=True, activation=gelu_tanh, eps=1e-6).requires_grad_(False)
    attend(block.attention, theirs.attn1)
    block.up.load_state_dict(theirs.ff.net[0].proj.state_dict())
    block.down.load_state_dict(theirs.ff.net[2].state_dict())
    constants = shift_scale_gate(theirs.scale_shift_table.flatten())
    block.norm1.constant.data, block.norm2.constant.data = constants.chunk(2)
    return block


def test_attention_in_space_then_in_time_is_lattes():
    """From what goes into Latte's second pair of blocks to what comes out of it: its own folding of frames, not ours.

    The second: before the first temporal block, Latte adds positions to the tokens, where ours turns queries and keys.
    """
    net, kept = latte(), {}
    into, out = net.transformer_blocks[1], net.temporal_transformer_blocks[1]
    into.register_forward_pre_hook(lambda _, given: kept.__setitem__("x", given[0]))
    into.register_forward_pre_hook(lambda _, given: kept.__setitem__("made", given[4]))
    out.register_forward_hook(lambda _, given, output: kept.__setitem__("out", output))
    clips, text = randn((B, 3, T, 8, 8), seeded(1)), randn((B, 5, DIM), seeded(2))
    net(clips, torch.tensor([100, 700]), text)
    x = kept["x"].unflatten(0, (B, T))  # (B·T, N, dim) → (B, T, N, dim)
    made = shift_scale_gate(kept["made"].unflatten(0, (B, T))[:, 0])  # one of a clip's T equal rows
    expected = kept["out"].unflatten(0, (B, -1)).transpose(1, 2)  # (B·N, T, dim) → (B, T, N, dim)
    space, time = copied(into), AlongTime(copied(out), rotary=False)
    assert gap(separable(space, time, x, made), expected) <= TOLERANCE
    assert gap(separable(time.block, AlongTime(space, rotary=False), x, made), expected) > 100 * TOLERANCE
    assert gap(separable(space, time, x, made, temporal=False), expected) > 100 * TOLERANCE
    assert gap(separable(space, time, x, made, sparse=True), expected) > 100 * TOLERANCE
