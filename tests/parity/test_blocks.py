"""Blocks equal diffusers' on the same weights (fp32): Flux, cross-attention, the norms of DiT and PixArt."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_flux import FluxPosEmbed, FluxTransformerBlock

from minidiff.nn import masks
from minidiff.nn.block import Block, gelu_tanh, joint
from minidiff.nn.rope import Rotary, grid
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
DIM, HEADS = 32, 2
TEXT, PICTURE, COND = randn((2, 3, DIM), seeded(0)), randn((2, 6, DIM), seeded(1)), randn((2, DIM), seeded(2))


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """All weights random, none of them at its initial 0 or 1."""
    generator = seeded(3)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def reordered(linear: torch.nn.Linear) -> dict[str, torch.Tensor]:
    """Theirs is six parts: shift, scale, gate of attention, then of the MLP. Ours is scale, shift, gate of one norm."""
    return {name: shift_scale_gate(value) for name, value in linear.state_dict().items()}


def shift_scale_gate(value: torch.Tensor) -> torch.Tensor:
    parts = value.chunk(6)
    return torch.cat([parts[i] for i in (1, 0, 2, 4, 3, 5)])


def modulations(block: Block, theirs: torch.nn.Linear) -> None:
    for name, value in reordered(theirs).items():
        for norm, part in zip((block.norm1, block.norm2), value.chunk(2)):
            getattr(norm.modulation, name).data = part


def attend(ours, q, k, v, out, norm_q=None, norm_k=None) -> None:
    pairs = [(ours.q, q), (ours.k, k), (ours.v, v), (ours.out, out)]
    pairs += [] if norm_q is None else [(ours.norm_q, norm_q), (ours.norm_k, norm_k)]
    for mine, theirs in pairs:
        mine.load_state_dict(theirs.state_dict())


def mlp(block: Block, feed_forward) -> None:
    block.up.load_state_dict(feed_forward.net[0].proj.state_dict())
    block.down.load_state_dict(feed_forward.net[2].state_dict())


# --- rotary positions


@pytest.mark.parametrize("width", [2, 8, 16])
def test_rotary_positions_are_those_of_flux(width):
    positions, heads = torch.arange(20) * 7, randn((2, 3, 20, width), seeded(0))
    tables = get_1d_rotary_pos_embed(width, positions, use_real=True, freqs_dtype=torch.float64)
    expected = apply_rotary_emb(heads, tables, use_real=True)
    assert gap(Rotary(positions[:, None], (width,))(heads), expected) <= 1e-6
    assert gap(Rotary(positions[:, None] + 1, (width,))(heads), expected) > 0.1
    if width > 2:  # halves in place of neighbouring numbers: with one pair they are the same
        halves = apply_rotary_emb(heads, tables, use_real=True, use_real_unbind_dim=-2)
        assert gap(Rotary(positions[:, None], (width,))(heads), halves) > 0.1


def test_rotary_positions_on_three_axes_are_those_of_flux():
    places, heads, axes = grid(2, 3, 4) * 5, randn((2, 3, 24, 16), seeded(0)), (4, 6, 6)
    expected = apply_rotary_emb(heads, FluxPosEmbed(10_000, list(axes))(places))
    assert gap(Rotary(places, axes)(heads), expected) <= 1e-6
    assert gap(Rotary(places.flip(1), axes)(heads), expected) > 0.1


# --- two streams


def flux() -> tuple[FluxTransformerBlock, list[Block]]:
    theirs = shaken(FluxTransformerBlock(DIM, HEADS, DIM // HEADS))
    make = lambda: Block(DIM, HEADS, cond_dim=DIM, activation=gelu_tanh, qk_norm=True, eps=1e-6)
    (text, picture), at = [make().requires_grad_(False) for _ in "tp"], theirs.attn
    attend(picture.attention, at.to_q, at.to_k, at.to_v, at.to_out[0], at.norm_q, at.norm_k)
    attend(text.attention, at.add_q_proj, at.add_k_proj, at.add_v_proj, at.to_add_out, at.norm_added_q, at.norm_added_k)
    modulations(picture, theirs.norm1.linear)
    modulations(text, theirs.norm1_context.linear)
    mlp(picture, theirs.ff)
    mlp(text, theirs.ff_context)
    return theirs, [text, picture]


PLACES = torch.cat([torch.zeros(3, 2), grid(2, 3)])


def flux_gaps(theirs, blocks: list[Block], places: torch.Tensor | None = PLACES, order=(0, 1)) -> list[float]:
    tables = FluxPosEmbed(10_000, [8, 8])(PLACES)
    expected = theirs(PICTURE, TEXT, COND, tables)
    rotate = {} if places is None else {"rotate": Rotary(places, (8, 8))}
    streams = [TEXT, PICTURE]
    found = joint([blocks[i] for i in order], [streams[i] for i in order], COND, **rotate)
    return [gap(found[order.index(i)], expected[i]) for i in (0, 1)]


def test_two_streams_are_fluxs_double_block():
    assert max(flux_gaps(*flux())) <= TOLERANCE


def swap(a: torch.nn.Linear, b: torch.nn.Linear) -> None:
    a.weight.data, b.weight.data = b.weight.data, a.weight.data


SLIPS = {
    "q and k swapped": lambda text, picture: swap(picture.attention.q, picture.attention.k),
    "scale and shift swapped": lambda text, picture: picture.norm1.modulation.weight.data.copy_(
        picture.norm1.modulation.weight.data.roll(DIM, 0)
    ),
    "text's norm": lambda text, picture: setattr(text.attention, "norm_q", picture.attention.norm_k),
    "no norm of keys": lambda text, picture: setattr(picture.attention, "norm_k", torch.nn.Identity()),
    "another activation": lambda text, picture: setattr(picture, "activation", torch.relu),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_in_the_weights_are_found(slip):
    theirs, blocks = flux()
    SLIPS[slip](*blocks)
    assert max(flux_gaps(theirs, blocks)) > 100 * TOLERANCE


def test_slips_in_the_positions_are_found():
    theirs, blocks = flux()
    assert min(flux_gaps(theirs, blocks, None)) > 100 * TOLERANCE
    assert min(flux_gaps(theirs, blocks, PLACES.flip(1))) > 100 * TOLERANCE
    # With positions the order of the streams is part of the block; they go with their tokens.
    assert max(flux_gaps(theirs, blocks, torch.cat([PLACES[3:], PLACES[:3]]), order=(1, 0))) <= TOLERANCE
    assert min(flux_gaps(theirs, blocks, PLACES, order=(1, 0))) > 100 * TOLERANCE


# --- diffusers' one-stream block


def basic(**options) -> BasicTransformerBlock:
    return shaken(BasicTransformerBlock(DIM, HEADS, DIM // HEADS, attention_bias=True, **options))


def copied(theirs: BasicTransformerBlock, **options) -> Block:
    block = Block(DIM, HEADS, **options).requires_grad_(False)
    own = theirs.attn1
    attend(block.attention, own.to_q, own.to_k, own.to_v, own.to_out[0])
    mlp(block, theirs.ff)
    return block


@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_is_that_of_stable_diffusion(padded):
    theirs = basic(cross_attention_dim=20, activation_fn="gelu")
    block, context = copied(theirs, context_dim=20), randn((2, 4, 20), seeded(4))
    at = theirs.attn2
    attend(block.cross, at.to_q, at.to_k, at.to_v, at.to_out[0])
    for mine, other in ((block.norm1, theirs.norm1), (block.norm_cross, theirs.norm2), (block.norm2, theirs.norm3)):
        mine.load_state_dict(other.state_dict())
    valid = torch.arange(4) < torch.tensor([4, 2])[:, None]
    bias = torch.zeros(2, 1, 4).masked_fill(~valid[:, None], -1e9) if padded else None  # theirs is added to the scores
    expected = theirs(PICTURE, encoder_hidden_states=context, encoder_attention_mask=bias)
    seen = masks.keys(valid)
    assert gap(block(PICTURE, context=context, context_mask=seen if padded else None), expected) <= TOLERANCE
    assert gap(block(PICTURE, context=context, context_mask=None if padded else seen), expected) > 100 * TOLERANCE
    swap(block.cross.q, block.cross.out)
    assert gap(block(PICTURE, context=context, context_mask=seen if padded else None), expected) > 100 * TOLERANCE


def test_adaln_zero_is_that_of_dit():
    theirs = basic(
        activation_fn="gelu-approximate", norm_type="ada_norm_zero", num_embeds_ada_norm=10, norm_eps=1e-6,
        norm_elementwise_affine=False,
    )  # fmt: skip
    block = copied(theirs, cond_dim=DIM, activation=gelu_tanh, eps=1e-6)
    modulations(block, theirs.norm1.linear)
    t, y = torch.tensor([3, 700]), torch.tensor([1, 9])
    cond, expected = theirs.norm1.emb(t, y), theirs(PICTURE, timestep=t, class_labels=y)
    assert gap(block(PICTURE, cond), expected) <= TOLERANCE
    assert gap(block(PICTURE, cond.flip(0)), expected) > 100 * TOLERANCE
    swap(block.attention.q, block.attention.v)
    assert gap(block(PICTURE, cond), expected) > 100 * TOLERANCE


def test_a_shared_modulation_is_that_of_pixart():
    theirs = basic(
        activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_eps=1e-6, norm_elementwise_affine=False
    )
    block, made = copied(theirs, shared=True, activation=gelu_tanh, eps=1e-6), randn((2, 6 * DIM), seeded(4))
    constants = shift_scale_gate(theirs.scale_shift_table.flatten())
    block.norm1.constant.data, block.norm2.constant.data = constants.chunk(2)
    ours = torch.stack([shift_scale_gate(row) for row in made])
    expected = theirs(PICTURE, timestep=made)
    assert gap(block(PICTURE, ours), expected) <= TOLERANCE
    assert gap(block(PICTURE, made), expected) > 100 * TOLERANCE
    block.norm1.constant.data = constants[: 3 * DIM] * 0
    assert gap(block(PICTURE, ours), expected) > 100 * TOLERANCE
