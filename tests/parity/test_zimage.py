"""SingleStream equals diffusers' ZImageTransformer2DModel on the same weights (fp32)."""

import pytest
import torch
from _copied import shaken
from diffusers import ZImageTransformer2DModel
from torch import Tensor, nn

from minidiff.backbones.single_stream import SingleStream
from minidiff.randomness import initialised, randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, SIZE, HEADS, WIDE, DIM, AXES = 4, (8, 12), 2, 12, 32, (4, 6, 6)
X, T, TEXT = randn((2, CHANNELS, *SIZE), seeded(0)), torch.tensor([0.03, 0.9]), randn((2, 5, WIDE), seeded(1))
LONG = [5, 3]  # words of each text
SEEN = torch.arange(5) < torch.tensor(LONG)[:, None]


def theirs(depth: int = 2) -> ZImageTransformer2DModel:
    return ZImageTransformer2DModel(
        in_channels=CHANNELS, dim=DIM, n_layers=depth, n_refiner_layers=2, n_heads=HEADS, n_kv_heads=HEADS,
        cap_feat_dim=WIDE, axes_dims=list(AXES), axes_lens=[64, 32, 32],
    )  # fmt: skip


def of_zimage(net: nn.Module) -> nn.Module:
    shaken(net, lambda name: "norm" in name)
    for name, parameter in net.named_parameters():
        if "t_embedder" in name:  # 1,024 wide: at 0.1 it would enlarge the rounding of cos(1000·t) of its answer
            parameter.data *= 0.1
        if "pad_token" in name:
            parameter.data *= 10
    return net


def copied(other: ZImageTransformer2DModel) -> SingleStream:
    net = SingleStream(
        CHANNELS, SIZE, 2, DIM, len(other.layers), HEADS, context_dim=WIDE, rotary=AXES, hidden=int(DIM / 3 * 8),
        cond_dim=DIM, time_hidden=1024, waves=256, multiple=32,
    ).requires_grad_(False)  # fmt: skip
    last = other.all_final_layer["2-1"]
    pairs = [(net.time.mlp, other.t_embedder.mlp), (net.join, other.cap_embedder), (net.head, last.linear)]
    pairs += [(net.stem, other.all_x_embedder["2-1"]), (net.last, last.adaLN_modulation[1])]
    for mine, given in (
        *zip(net.picture_blocks, other.noise_refiner, strict=True),
        *zip(net.text_blocks, other.context_refiner, strict=True),
        *zip(net.joint_blocks, other.layers, strict=True),
    ):
        at, own = given.attention, mine.attention
        pairs += [(own.q, at.to_q), (own.k, at.to_k), (own.v, at.to_v), (own.out, at.to_out[0])]
        pairs += [(own.norm_q, at.norm_q), (own.norm_k, at.norm_k), (mine.down, given.feed_forward.w2)]
        pairs += [(mine.before1, given.attention_norm1), (mine.after1, given.attention_norm2)]
        pairs += [(mine.before2, given.ffn_norm1), (mine.after2, given.ffn_norm2)]
        mine.up.weight.data = torch.cat([given.feed_forward.w3.weight, given.feed_forward.w1.weight])
        if mine.modulation is not None:
            pairs += [(mine.modulation, given.adaLN_modulation[0])]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    net.pad_picture.data, net.pad_text.data = other.x_pad_token[0].clone(), other.cap_pad_token[0].clone()
    return net.eval()


def answer(other: ZImageTransformer2DModel, t: Tensor = T, long: list[int] = LONG) -> Tensor:
    """Theirs takes lists of pictures (C, 1, H, W) and of texts (M, WIDE), each as long as it is."""
    texts = [text[:n] for text, n in zip(TEXT, long)]
    return torch.stack(other(list(X[:, :, None]), t, texts).sample)[:, :, 0]


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_the_whole_network(depth):
    other = of_zimage(theirs(depth))
    ours, wanted, tolerance = copied(other), answer(other), TOLERANCE if depth < 10 else DEEP
    assert float(wanted.abs().mean()) > 0.1
    assert gap(ours(X, T, context=TEXT, context_mask=SEEN), wanted) <= tolerance
    assert gap(ours(X, T, context=TEXT.flip(0), context_mask=SEEN), wanted) > 10 * tolerance
    assert gap(ours(X, T.flip(0), context=TEXT, context_mask=SEEN), wanted) > 10 * tolerance


@torch.no_grad()
def test_pad_tokens_are_attended():
    """Where a text ends, learned tokens go on up to a multiple of 32, and the picture looks at them."""
    other = of_zimage(theirs())
    ours, wanted = copied(other), answer(other)
    assert gap(ours(X, T, context=TEXT), wanted) > 100 * TOLERANCE  # not pad tokens but words
    for pad in (ours.pad_text, ours.pad_picture):
        kept = pad.data.clone()
        pad.data = kept * 0
        assert gap(ours(X, T, context=TEXT, context_mask=SEEN), wanted) > 100 * TOLERANCE
        pad.data = kept
    ours.multiple = 1
    assert gap(ours(X, T, context=TEXT, context_mask=SEEN), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_the_picture_comes_after_the_filled_up_text():
    """First axis: words 1 … 32, the picture at 33, counted with the pad tokens; its own pad tokens at 0."""
    other = of_zimage(theirs())
    ours, wanted, places = copied(other), answer(other), SingleStream.places
    assert gap(ours(X, T, context=TEXT, context_mask=SEEN), wanted) <= TOLERANCE
    for move in (-1, 5 - 32):  # counted from 0; after the words without pad tokens

        def moved(text: int, picture: int, patches: list[int], move: int = move) -> Tensor:
            made = places(ours, text, picture, patches)
            made[: patches[0] * patches[1], 0] += move
            return made

        ours.places = moved
        assert gap(ours(X, T, context=TEXT, context_mask=SEEN), wanted) > 10 * TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero():
    assert float(answer(initialised(lambda: theirs().eval(), 0)).abs().mean()) > 0.05
