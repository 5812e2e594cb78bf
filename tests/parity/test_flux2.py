"""Flux2 equals diffusers' Flux2Transformer2DModel on the same weights (fp32)."""

import pytest
import torch
from _copied import shaken
from diffusers import Flux2Transformer2DModel
from torch import Tensor, nn

from minidiff.backbones.flux2 import Flux2
from minidiff.nn import rope
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, SIZE, PATCH, HEADS, WIDE, DIM, AXES = 4, (4, 6), 2, 2, 12, 32, (4, 4, 4, 4)
X, T, TEXT = randn((2, CHANNELS, *SIZE), seeded(0)), torch.tensor([0.03, 0.9]), randn((2, 5, WIDE), seeded(1))
PLACES = rope.four_axes(5, SIZE[0] // PATCH, SIZE[1] // PATCH)


def theirs(double: int = 2, single: int = 2) -> Flux2Transformer2DModel:
    net = Flux2Transformer2DModel(
        patch_size=1, in_channels=CHANNELS * PATCH**2, num_layers=double, num_single_layers=single,
        attention_head_dim=DIM // HEADS, num_attention_heads=HEADS, joint_attention_dim=WIDE, axes_dims_rope=AXES,
        guidance_embeds=False,
    )  # fmt: skip
    return shaken(net)


def reordered(weight: Tensor, order: tuple[int, ...]) -> Tensor:
    """Theirs is shift, scale, gate, for attention and then for the MLP; ours is scale, shift, gate."""
    pieces = weight.chunk(len(order))
    return torch.cat([pieces[i] for i in order])


def swapped(weight: Tensor) -> Tensor:
    """Their SwiGLU is silu(first half)·second half, ours first·silu(second)."""
    return torch.cat(weight.chunk(2)[::-1])


def copied(other: Flux2Transformer2DModel, order: tuple[int, ...] = (1, 0, 2, 4, 3, 5)) -> Flux2:
    double, single = len(other.transformer_blocks), len(other.single_transformer_blocks)
    net = Flux2(CHANNELS, PATCH, DIM, double, single, HEADS, context_dim=WIDE, rotary=AXES, waves=256)
    net = net.eval().requires_grad_(False)
    time = other.time_guidance_embed.timestep_embedder
    pairs = [(net.time.mlp[0], time.linear_1), (net.time.mlp[2], time.linear_2), (net.join, other.context_embedder)]
    pairs += [(net.stem, other.x_embedder), (net.last, other.norm_out.linear), (net.head, other.proj_out)]
    for mine, given, rows in (
        (net.picture, other.double_stream_modulation_img, order), (net.text, other.double_stream_modulation_txt, order),
        (net.both, other.single_stream_modulation, order[:3]),
    ):  # fmt: skip
        mine.weight.data = reordered(given.linear.weight, rows)
    for pair, given in zip(net.double_blocks, other.transformer_blocks, strict=True):
        text, picture = pair["text"], pair["picture"]
        at, a, b = given.attn, picture.attention, text.attention
        pairs += [(a.q, at.to_q), (a.k, at.to_k), (a.v, at.to_v), (a.out, at.to_out[0])]
        pairs += [(b.q, at.add_q_proj), (b.k, at.add_k_proj), (b.v, at.add_v_proj), (b.out, at.to_add_out)]
        pairs += [
            (a.norm_q, at.norm_q),
            (a.norm_k, at.norm_k),
            (b.norm_q, at.norm_added_q),
            (b.norm_k, at.norm_added_k),
        ]
        for block, ff in ((picture, given.ff), (text, given.ff_context)):
            block.up.weight.data = swapped(ff.linear_in.weight)
            pairs.append((block.down, ff.linear_out))
    for block, given in zip(net.single_blocks, other.single_transformer_blocks, strict=True):
        qkv, mlp = given.attn.to_qkv_mlp_proj.weight.split([3 * DIM, 6 * DIM])
        block.into.weight.data = torch.cat([qkv, swapped(mlp)])
        pairs += [(block.out, given.attn.to_out), (block.norm_q, given.attn.norm_q), (block.norm_k, given.attn.norm_k)]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    return net


def answered(other: Flux2Transformer2DModel, picture_places: Tensor | None = None) -> Tensor:
    places = PLACES[5:] if picture_places is None else picture_places
    out = other(
        hidden_states=patchify(X, PATCH), encoder_hidden_states=TEXT, timestep=T, img_ids=places,
        txt_ids=PLACES[:5], guidance=None, return_dict=False,
    )[0]  # fmt: skip
    return unpatchify(out, (PATCH, PATCH), SIZE)


@pytest.mark.parametrize(("double", "single", "tolerance"), [(1, 0, TOLERANCE), (1, 1, TOLERANCE), (2, 3, TOLERANCE),
                                                             (8, 24, DEEP)])  # fmt: skip
def test_the_network_is_diffusers(double, single, tolerance):
    other = theirs(double, single)
    assert float((copied(other)(X, T, context=TEXT) - answered(other)).abs().max()) <= tolerance


def test_scale_comes_before_shift_here_and_after_it_there():
    other = theirs()
    wrong = copied(other, (0, 1, 2, 3, 4, 5))(X, T, context=TEXT)
    assert float((wrong - answered(other)).abs().max()) > 100 * TOLERANCE


def test_positions_have_four_axes_and_turn_slowly():
    other = theirs()
    mine = copied(other)
    assert PLACES[:5].tolist() == [[0, 0, 0, k] for k in range(5)]
    assert PLACES[5:].tolist() == [[0, i, j, 0] for i in range(2) for j in range(3)]
    right = answered(other)
    later = PLACES[5:] + torch.tensor([10.0, 0, 0, 0])  # as a reference picture
    assert float((answered(other, later) - right).abs().max()) > 100 * TOLERANCE
    mine.theta = 10_000.0  # as in Flux 1
    assert float((mine(X, T, context=TEXT) - right).abs().max()) > 10 * TOLERANCE


def test_padding_is_attended_there_and_can_be_left_out_here():
    other = theirs()
    mine, told = copied(other), torch.ones(2, 5, dtype=torch.bool)
    told[:, 3:] = False
    masked = mine(X, T, context=TEXT, context_mask=told)
    assert float((masked - answered(other)).abs().max()) > 100 * TOLERANCE
    short = mine(X, T, context=TEXT[:, :3])
    assert float((masked - short).abs().max()) <= TOLERANCE


def test_at_the_start_it_answers_nothing_and_diffusers_does_not():
    net = initialised(lambda: Flux2(CHANNELS, PATCH, DIM, 2, 2, HEADS, context_dim=WIDE, rotary=AXES), 0)
    assert float(net(X, T, context=TEXT).detach().abs().max()) == 0
    torch.manual_seed(0)
    fresh = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDE, axes_dims_rope=AXES, guidance_embeds=False,
    )  # fmt: skip
    assert float(answered(fresh).abs().max()) > 0.01


def test_no_map_has_a_bias_and_no_block_a_modulation():
    net = Flux2(CHANNELS, PATCH, DIM, 1, 1, HEADS, context_dim=WIDE, rotary=AXES)
    assert not any(isinstance(part, nn.Linear) and part.bias is not None for part in net.modules())
    assert not any("modulation" in name or "constant" in name for name, _ in net.named_parameters())
