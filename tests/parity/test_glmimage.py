"""Glm equals diffusers' GlmImageTransformer2DModel on the same weights (fp32), and drops codes as it does.

Theirs begins otherwise: ours answers 0 at first, as DiT does.
"""

import pytest
import torch
from _copied import shaken
from diffusers import GlmImageTransformer2DModel
from torch import Tensor, nn

from minidiff.backbones.glm import Glm
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.randomness import initialised, randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE, DEEP = 1e-5, 1e-4
CHANNELS, SIZE, PATCH, HEADS, WIDTH, WIDE, COND, WAVES, CODES = 4, (8, 12), 2, 2, 8, 32, 16, 8, 64
DIM = HEADS * WIDTH
X, T, TEXT = randn((2, CHANNELS, *SIZE), seeded(0)), torch.tensor([0.03, 0.9]), randn((2, 5, WIDE), seeded(1))
SAID = torch.randint(CODES, (2, 4, 6), generator=seeded(2))
SIZES = torch.tensor([[0.0, 0.0, 64.0, 96.0], [3.0, 5.0, 128.0, 96.0]])  # crop and size, in pixels
NONE, ALL = torch.zeros(2, 4, 6, dtype=torch.bool), torch.ones(2, 4, 6, dtype=torch.bool)
SOME = torch.rand(2, 4, 6, generator=seeded(4)) < 0.5


def theirs(depth: int = 1) -> GlmImageTransformer2DModel:
    net = GlmImageTransformer2DModel(
        patch_size=PATCH, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=depth, attention_head_dim=WIDTH,
        num_attention_heads=HEADS, text_embed_dim=WIDE, time_embed_dim=COND, condition_dim=WAVES,
        prior_vq_quantizer_codebook_size=CODES,
    )  # fmt: skip
    shaken(net)
    net.prior_token_embedding.weight.data *= 10  # so that one code is told from another
    return net


def pixels(value: Tensor) -> Tensor:
    """The numbers of a patch: theirs channel by channel, ours pixel by pixel, along the last axis."""
    return value.unflatten(-1, (CHANNELS, PATCH**2)).transpose(-1, -2).flatten(-2)


def woven(value: Tensor) -> Tensor:
    """The numbers of each head: theirs are turned in halves, (i, i + d/2), ours in neighbours."""
    return value.unflatten(0, (HEADS, 2, WIDTH // 2)).transpose(1, 2).flatten(0, 2)


def modulated(value: Tensor) -> Tensor:
    """Theirs is shift, scale, gate for attention, then for the MLP, picture and words by turns. Ours: scale, shift,
    gate, for attention and MLP of the picture, then of the words."""
    parts = value.chunk(12)
    return torch.cat([parts[2 * i + words] for words in (0, 1) for i in (1, 0, 2, 4, 3, 5)])


def copied(other: GlmImageTransformer2DModel) -> Glm:
    net = Glm(
        CODES, CHANNELS, PATCH, DIM, len(other.transformer_blocks), HEADS, context_dim=WIDE, cond_dim=COND
    ).requires_grad_(False)  # fmt: skip
    net.time, told = TimeEmbedding(COND, COND), other.time_condition_embed
    pairs = [(net.time.mlp[0], told.timestep_embedder.linear_1), (net.time.mlp[2], told.timestep_embedder.linear_2)]
    pairs += [
        (net.code, other.prior_token_embedding),
        (net.stem, other.image_projector.proj),
        (net.head, other.proj_out),
    ]
    pairs += [(net.last, other.norm_out.linear)]
    for mine, given in ((net.project, other.prior_projector), (net.join, other.glyph_projector)):
        pairs += [(mine[0], given.net[0].proj), (mine[2], given.net[2])]
    for block, modulation, given in zip(net.blocks, net.modulations, other.transformer_blocks, strict=True):
        at, mine = given.attn1, block.attention
        pairs += [(mine.q, at.to_q), (mine.k, at.to_k), (mine.v, at.to_v), (mine.out, at.to_out[0])]
        pairs += [(block.up, given.ff.net[0].proj), (block.down, given.ff.net[2]), (modulation, given.norm1.linear)]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    net.stem.weight.data = pixels(net.stem.weight)
    for layer in (net.head.weight, net.head.bias):
        layer.data = pixels(layer.T).T if layer.ndim == 2 else pixels(layer)
    for block, modulation in zip(net.blocks, net.modulations):
        for layer in (block.attention.q, block.attention.k):
            layer.weight.data, layer.bias.data = woven(layer.weight), woven(layer.bias)
        modulation.weight.data, modulation.bias.data = modulated(modulation.weight), modulated(modulation.bias)
    return net.eval()


def vector(other: GlmImageTransformer2DModel) -> Tensor:
    """What size and crop add to the time: it stands beside our network."""
    told = other.time_condition_embed
    return told.condition_embedder(told.condition_proj(SIZES.flatten()).view(2, -1))


def answer(other: GlmImageTransformer2DModel, dropped: Tensor = NONE, codes: Tensor = SAID) -> Tensor:
    crop, size = SIZES.split(2, 1)
    return other(X, TEXT, codes.flatten(1), dropped.flatten(1), 1000 * T, size, crop).sample


def ours(net: Glm, other: nn.Module, dropped: Tensor | None = None, **changed: Tensor) -> Tensor:
    given = {"codes": SAID, "vector": vector(other), "context": TEXT} | changed  # type: ignore[arg-type]
    return net(X, changed.pop("t", T), dropped=dropped, **{k: v for k, v in given.items() if k != "t"})


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 12])
def test_the_whole_network(depth):
    other = theirs(depth)
    net, wanted, tolerance = copied(other), answer(other), TOLERANCE if depth < 10 else DEEP
    assert float(wanted.abs().mean()) > 0.1
    assert gap(ours(net, other), wanted) <= tolerance
    for wrong in ({"codes": SAID.roll(1, 2)}, {"context": TEXT.flip(0)}, {"vector": vector(other).flip(0)}):
        assert gap(ours(net, other, **wrong), wanted) > 10 * tolerance
    assert gap(ours(net, other, t=T.flip(0)), wanted) > 10 * tolerance


@torch.no_grad()
@pytest.mark.parametrize("dropped", [SOME, ALL], ids=["some", "all"])
def test_dropped_codes_are_zero_before_the_mlp(dropped):
    other = theirs()
    net, wanted = copied(other), answer(other, dropped)
    assert gap(ours(net, other, dropped), wanted) <= TOLERANCE
    assert gap(ours(net, other), wanted) > 1000 * TOLERANCE  # the control: not dropped
    silent = copied(other)
    silent.code.weight.data *= 0
    assert (gap(ours(silent, other), wanted) <= TOLERANCE) == bool(dropped.all())
    without = copied(other)
    for layer in (without.project[2].weight, without.project[2].bias):
        layer.data *= 0  # nothing added at all is something else: zero goes through the MLP, and its biases stay
    assert gap(ours(without, other), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_all_dropped_says_nothing_of_the_codes():
    other = theirs()
    net = copied(other)
    assert torch.equal(ours(net, other, ALL), ours(net, other, ALL, codes=SAID.roll(1, 0)))
    assert torch.equal(ours(net, other, ALL), ours(net, other, torch.tensor([True, True])))
    assert gap(answer(other, ALL), answer(other, ALL, SAID.roll(1, 0))) == 0


@torch.no_grad()
def test_words_and_patches_share_weights_but_not_modulations():
    """The control of `modulated`: with the words' halves and the picture's exchanged the answer is another."""
    other = theirs()
    net, wanted = copied(other), answer(other)
    for layer in (net.modulations[0].weight, net.modulations[0].bias):
        layer.data = torch.cat(layer.chunk(2)[::-1])
    assert gap(ours(net, other), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero():
    other = initialised(lambda: GlmImageTransformer2DModel(**theirs().config).eval(), 0)
    assert float(answer(other).abs().mean()) > 0.05
    net = initialised(lambda: Glm(CODES, CHANNELS, PATCH, DIM, 1, HEADS), 0)
    assert not bool(net(X, T, codes=SAID).any())
