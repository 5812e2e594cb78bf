"""MMDiT equals diffusers' SD3Transformer2DModel on the same weights (fp32)."""

import pytest
import torch
from _copied import modulations, shaken
from diffusers import SD3Transformer2DModel
from torch import Tensor

from minidiff.backbones.mmdit import MMDiT
from minidiff.randomness import initialised, randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, SIZE, HEADS, WIDE, POOLED, DIM = 4, 8, 2, 12, 10, 32
X, STEP = randn((2, CHANNELS, SIZE, SIZE), seeded(0)), torch.tensor([30.0, 900.0])
TEXT, SAID = randn((2, 5, WIDE), seeded(1)), randn((2, POOLED), seeded(2))


def theirs(depth: int = 2, qk_norm: bool = True) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=depth,
        attention_head_dim=DIM // HEADS, num_attention_heads=HEADS, joint_attention_dim=WIDE,
        caption_projection_dim=DIM, pooled_projection_dim=POOLED, pos_embed_max_size=SIZE,
        qk_norm="rms_norm" if qk_norm else None,
    )  # fmt: skip


def copied(other: SD3Transformer2DModel, qk_norm: bool = True) -> MMDiT:
    depth = len(other.transformer_blocks)
    net = MMDiT(
        CHANNELS, (SIZE, SIZE), 2, DIM, depth, HEADS, context_dim=WIDE, ends=True, qk_norm=qk_norm, waves=256
    ).requires_grad_(False)
    time = other.time_text_embed.timestep_embedder
    pairs = [(net.time.mlp[0], time.linear_1), (net.time.mlp[2], time.linear_2), (net.join, other.context_embedder)]
    pairs += [(net.last, other.norm_out.linear), (net.head, other.proj_out)]  # scale, shift: ours in the same order
    for mine, given in zip(net.double_blocks, other.transformer_blocks, strict=True):
        at, text, picture = given.attn, mine["text"], mine["picture"]
        a, b = picture.attention, text.attention
        pairs += [(a.q, at.to_q), (a.k, at.to_k), (a.v, at.to_v), (a.out, at.to_out[0])]
        pairs += [(b.q, at.add_q_proj), (b.k, at.add_k_proj), (b.v, at.add_v_proj)]
        if qk_norm:
            pairs += [(a.norm_q, at.norm_q), (a.norm_k, at.norm_k)]
            pairs += [(b.norm_q, at.norm_added_q), (b.norm_k, at.norm_added_k)]
        pairs += [(picture.up, given.ff.net[0].proj), (picture.down, given.ff.net[2])]
        modulations(picture.norm1, given.norm1.linear, (1, 0, 2))
        modulations(picture.norm2, given.norm1.linear, (4, 3, 5))
        if text.ends:
            pairs += [(text.norm1.modulation, given.norm1_context.linear)]
            continue
        pairs += [(b.out, at.to_add_out), (text.up, given.ff_context.net[0].proj)]
        pairs += [(text.down, given.ff_context.net[2])]
        modulations(text.norm1, given.norm1_context.linear, (1, 0, 2))
        modulations(text.norm2, given.norm1_context.linear, (4, 3, 5))
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    kernel = other.pos_embed.proj  # a convolution (dim, C, p, p) over patches; ours reads a patch as p, p, C
    net.stem.load_state_dict({"weight": kernel.weight.permute(0, 2, 3, 1).flatten(1), "bias": kernel.bias})
    net.place.data = other.pos_embed.cropped_pos_embed(SIZE, SIZE)[0].clone()
    return net.eval()


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def both(depth: int = 2, qk_norm: bool = True) -> tuple[MMDiT, Tensor, Tensor]:
    other = shaken(theirs(depth, qk_norm))
    wanted = other(X, TEXT, SAID, STEP).sample
    return copied(other, qk_norm), wanted, other.time_text_embed.text_embedder(SAID)


@torch.no_grad()
@pytest.mark.parametrize(("depth", "qk_norm"), [(1, True), (2, True), (2, False), (24, True)])
def test_the_whole_network(depth, qk_norm):
    ours, wanted, vector = both(depth, qk_norm)
    tolerance = TOLERANCE if depth < 10 else DEEP
    assert float(wanted.abs().mean()) > 0.1
    t = STEP.double() / 1000
    assert gap(ours(X, t, vector=vector, context=TEXT), wanted) <= tolerance
    for wrong in ({"vector": vector.flip(0)}, {"vector": None}, {"context": TEXT.flip(0)}):
        assert gap(ours(X, t, **{"vector": vector, "context": TEXT} | wrong), wanted) > 10 * tolerance
    assert gap(ours(X, t.flip(0), vector=vector, context=TEXT), wanted) > 10 * tolerance


@torch.no_grad()
def test_padding_is_attended():
    """Their network has no mask of the text: padded tokens are looked at, and a mask gives other numbers."""
    ours, wanted, vector = both()
    seen = torch.arange(5) < torch.tensor([5, 3])[:, None]
    found = ours(X, STEP.double() / 1000, vector=vector, context=TEXT, context_mask=seen)
    assert gap(found[:1], wanted[:1]) <= TOLERANCE
    assert gap(found[1:], wanted[1:]) > 100 * TOLERANCE


@torch.no_grad()
def test_text_and_picture_have_weights_of_their_own():
    """Theirs puts the picture first, ours the text: without positions the order is nothing, the weights are."""
    ours, wanted, vector = both()
    t, pair = STEP.double() / 1000, ours.double_blocks[0]
    pair["text"], pair["picture"] = pair["picture"], pair["text"]
    assert gap(ours(X, t, vector=vector, context=TEXT), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_the_last_text_has_no_gate_and_scale_before_shift():
    """Its map has two parts, scale first; all other maps of theirs have shift first."""
    ours, wanted, vector = both()
    norm = ours.double_blocks[-1]["text"].norm1
    norm.modulation.weight.data = norm.modulation.weight.data.roll(DIM, 0)
    assert gap(ours(X, STEP.double() / 1000, vector=vector, context=TEXT), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero():
    new = initialised(lambda: theirs().eval(), 0)
    assert float(new(X, TEXT, SAID, STEP).sample.abs().mean()) > 0.05
