"""MMDiT with single blocks equals diffusers' FluxTransformer2DModel on the same weights (fp32)."""

import pytest
import torch
from _copied import modulations, shaken
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from minidiff.backbones.mmdit import MMDiT
from minidiff.nn import rope
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, SIZE, PATCH, HEADS, WIDE, POOLED, DIM, AXES = 4, (8, 12), 2, 2, 12, 10, 32, (4, 6, 6)
X, T = randn((2, CHANNELS, *SIZE), seeded(0)), torch.tensor([0.03, 0.9])
TEXT, SAID = randn((2, 5, WIDE), seeded(1)), randn((2, POOLED), seeded(2))
PLACES = rope.at_origin(5, SIZE[0] // PATCH, SIZE[1] // PATCH)


def theirs(double: int = 2, single: int = 2) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=CHANNELS * PATCH**2, num_layers=double, num_single_layers=single,
        attention_head_dim=DIM // HEADS, num_attention_heads=HEADS, joint_attention_dim=WIDE,
        pooled_projection_dim=POOLED, axes_dims_rope=AXES,
    )  # fmt: skip


def double_blocks(net: MMDiT, other: FluxTransformer2DModel) -> list[tuple[nn.Module, nn.Module]]:
    pairs = []
    for mine, given in zip(net.double_blocks, other.transformer_blocks, strict=True):
        at, text, picture = given.attn, mine["text"], mine["picture"]
        a, b = picture.attention, text.attention
        pairs += [(a.q, at.to_q), (a.k, at.to_k), (a.v, at.to_v), (a.out, at.to_out[0])]
        pairs += [(b.q, at.add_q_proj), (b.k, at.add_k_proj), (b.v, at.add_v_proj), (b.out, at.to_add_out)]
        pairs += [(a.norm_q, at.norm_q), (a.norm_k, at.norm_k)]
        pairs += [(b.norm_q, at.norm_added_q), (b.norm_k, at.norm_added_k)]
        for block, ff, norm in ((picture, given.ff, given.norm1), (text, given.ff_context, given.norm1_context)):
            pairs += [(block.up, ff.net[0].proj), (block.down, ff.net[2])]
            modulations(block.norm1, norm.linear, (1, 0, 2))
            modulations(block.norm2, norm.linear, (4, 3, 5))
    return pairs


def copied(other: FluxTransformer2DModel) -> MMDiT:
    double, single = len(other.transformer_blocks), len(other.single_transformer_blocks)
    net = MMDiT(
        CHANNELS, SIZE, PATCH, DIM, double, HEADS, context_dim=WIDE, single=single, rotary=AXES, waves=256
    ).requires_grad_(False)
    time = other.time_text_embed.timestep_embedder
    pairs = [(net.time.mlp[0], time.linear_1), (net.time.mlp[2], time.linear_2), (net.join, other.context_embedder)]
    pairs += [(net.last, other.norm_out.linear), (net.head, other.proj_out), (net.stem, other.x_embedder)]
    pairs += double_blocks(net, other)
    for block, given in zip(net.single_blocks, other.single_transformer_blocks, strict=True):
        modulations(block.norm, given.norm.linear, (1, 0, 2), 3)
        maps = (given.attn.to_q, given.attn.to_k, given.attn.to_v, given.proj_mlp)
        for name in ("weight", "bias"):
            getattr(block.into, name).data = torch.cat([getattr(m, name) for m in maps])
        pairs += [(block.norm_q, given.attn.norm_q), (block.norm_k, given.attn.norm_k), (block.out, given.proj_out)]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    return net.eval()


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def answer(other: FluxTransformer2DModel, places: Tensor = PLACES) -> Tensor:
    """Theirs takes patches as tokens, and the time in [0, 1]."""
    tokens = other(patchify(X, PATCH), TEXT, SAID, T.double(), img_ids=places[5:], txt_ids=places[:5]).sample
    return unpatchify(tokens, PATCH, SIZE)


@torch.no_grad()
@pytest.mark.parametrize(("double", "single"), [(1, 0), (0, 1), (2, 2), (8, 16)])
def test_the_whole_network(double, single):
    other = shaken(theirs(double, single))
    ours, wanted = copied(other), answer(other)
    given = {"vector": other.time_text_embed.text_embedder(SAID), "context": TEXT}
    tolerance = TOLERANCE if double + single < 10 else DEEP
    assert float(wanted.abs().mean()) > 0.1
    assert gap(ours(X, T.double(), **given), wanted) <= tolerance
    for wrong in ({"vector": given["vector"].flip(0)}, {"context": TEXT.flip(0)}):
        assert gap(ours(X, T.double(), **given | wrong), wanted) > 10 * tolerance
    assert gap(ours(X, T.double().flip(0), **given), wanted) > 10 * tolerance


@torch.no_grad()
def test_order_and_places_of_the_tokens():
    """Text first: with rotary positions the order is part of the model. Rows before columns, text at the origin."""
    other = shaken(theirs())
    ours, given = copied(other), {"vector": other.time_text_embed.text_embedder(SAID), "context": TEXT}
    found = ours(X, T.double(), **given)
    assert gap(found, answer(other)) <= TOLERANCE
    assert gap(found, answer(other, PLACES[:, [0, 2, 1]])) > 100 * TOLERANCE
    moved = PLACES + torch.tensor([0.0, 3.0, 3.0])
    assert gap(found, answer(other, torch.cat([PLACES[:5], moved[5:]]))) > 100 * TOLERANCE
    assert gap(found, answer(other, moved)) <= TOLERANCE  # all moved alike: only differences enter
    ours.places = lambda text, *sizes: PLACES.roll(-5, 0)  # as if the picture came first
    assert gap(ours(X, T.double(), **given), answer(other)) > 100 * TOLERANCE


@torch.no_grad()
def test_padding_is_attended():
    """Flux has no mask of the text: padded tokens are looked at."""
    other = shaken(theirs())
    ours, wanted = copied(other), answer(other)
    given = {"vector": other.time_text_embed.text_embedder(SAID), "context": TEXT}
    found = ours(X, T.double(), **given, context_mask=torch.arange(5) < torch.tensor([5, 3])[:, None])
    assert gap(found[:1], wanted[:1]) <= TOLERANCE
    assert gap(found[1:], wanted[1:]) > 100 * TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero():
    assert float(answer(initialised(lambda: theirs().eval(), 0)).abs().mean()) > 0.05
