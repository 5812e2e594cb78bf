"""MMDiT with MSRoPE equals diffusers' QwenImageTransformer2DModel on the same weights (fp32)."""

import pytest
import torch
from _copied import modulations, shaken
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

from minidiff.backbones.mmdit import MMDiT
from minidiff.nn import rope
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, PATCH, HEADS, WIDE, DIM, AXES = 4, 2, 2, 12, 32, (4, 6, 6)
SIZES = [(8, 8), (6, 10), (10, 6)]  # an odd number of patches too: the middle is not in the middle
T, TEXT = torch.tensor([0.03, 0.9]), randn((2, 5, WIDE), seeded(1))
SEEN = torch.arange(5) < torch.tensor([5, 3])[:, None]


def theirs(depth: int = 2) -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        patch_size=PATCH, in_channels=CHANNELS * PATCH**2, out_channels=CHANNELS, num_layers=depth,
        attention_head_dim=DIM // HEADS, num_attention_heads=HEADS, joint_attention_dim=WIDE, axes_dims_rope=AXES,
    )  # fmt: skip


def copied(other: QwenImageTransformer2DModel) -> MMDiT:
    net = MMDiT(
        CHANNELS, SIZES[0], PATCH, DIM, len(other.transformer_blocks), HEADS, context_dim=WIDE, context_norm=True,
        rotary=AXES, places=rope.centred, waves=256,
    ).requires_grad_(False)  # fmt: skip
    time = other.time_text_embed.timestep_embedder
    pairs = [(net.time.mlp[0], time.linear_1), (net.time.mlp[2], time.linear_2), (net.join, other.txt_in)]
    pairs += [(net.last, other.norm_out.linear), (net.head, other.proj_out), (net.stem, other.img_in)]
    for mine, given in zip(net.double_blocks, other.transformer_blocks, strict=True):
        at, text, picture = given.attn, mine["text"], mine["picture"]
        a, b = picture.attention, text.attention
        pairs += [(a.q, at.to_q), (a.k, at.to_k), (a.v, at.to_v), (a.out, at.to_out[0])]
        pairs += [(b.q, at.add_q_proj), (b.k, at.add_k_proj), (b.v, at.add_v_proj), (b.out, at.to_add_out)]
        pairs += [(a.norm_q, at.norm_q), (a.norm_k, at.norm_k)]
        pairs += [(b.norm_q, at.norm_added_q), (b.norm_k, at.norm_added_k)]
        for block, ff, norm in ((picture, given.img_mlp, given.img_mod), (text, given.txt_mlp, given.txt_mod)):
            pairs += [(block.up, ff.net[0].proj), (block.down, ff.net[2])]
            modulations(block.norm1, norm[1], (1, 0, 2))
            modulations(block.norm2, norm[1], (4, 3, 5))
    for mine, given in [*pairs, (net.context_norm, other.txt_norm)]:
        mine.load_state_dict(given.state_dict())
    return net.eval()


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def answer(other: QwenImageTransformer2DModel, x: Tensor, seen: Tensor | None = None) -> Tensor:
    """Theirs takes patches as tokens, their number on each axis, and the time in [0, 1]."""
    patches = [[(1, x.shape[2] // PATCH, x.shape[3] // PATCH)]] * len(x)
    tokens = other(patchify(x, PATCH), TEXT, seen, T, patches).sample
    return unpatchify(tokens, PATCH, x.shape[2:])


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("depth", "masked"), [(2, False), (2, True), (20, False)])
def test_the_whole_network(size, depth, masked):
    other, x, seen = shaken(theirs(depth)), randn((2, CHANNELS, *size), seeded(0)), SEEN if masked else None
    ours, wanted = copied(other), answer(other, x, seen)
    tolerance = TOLERANCE if depth < 10 else DEEP
    assert float(wanted.abs().mean()) > 0.1
    assert gap(ours(x, T, context=TEXT, context_mask=seen), wanted) <= tolerance
    assert gap(ours(x, T, context=TEXT.flip(0), context_mask=seen), wanted) > 10 * tolerance
    assert gap(ours(x, T.flip(0), context=TEXT, context_mask=seen), wanted) > 10 * tolerance
    if masked:  # here padding is left out, in SD3 and Flux it is looked at
        assert gap(ours(x, T, context=TEXT), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_the_picture_is_centred_and_the_text_goes_on_from_its_corner():
    other, x = shaken(theirs()), randn((2, CHANNELS, 6, 10), seeded(0))
    ours, wanted = copied(other), answer(other, x)

    def shifted(text: int, *sizes: int) -> Tensor:
        places = rope.centred(text, *sizes)
        return torch.cat([places[:text] + 1, places[text:]])

    for wrong in (rope.at_origin, shifted, lambda text, *sizes: rope.centred(text, *sizes).roll(-text, 0)):
        ours.places = wrong
        assert gap(ours(x, T, context=TEXT), wanted) > 100 * TOLERANCE
    ours.places = rope.centred
    assert gap(ours(x, T, context=TEXT), wanted) <= TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero():
    new, x = initialised(lambda: theirs().eval(), 0), randn((2, CHANNELS, 8, 8), seeded(0))
    assert float(answer(new, x).abs().mean()) > 0.05
