"""DiT equals diffusers' DiTTransformer2DModel on the same weights (fp32); theirs does not begin at zero, ours does."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Labels
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.randomness import initialised, randn, seeded

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
CHANNELS, SIZE, PATCH, HEADS, DEPTH, CLASSES = 3, 8, 2, 2, 3, 10
DIM = 32
WAVES = 256
PERIOD = 10_000 ** (WAVES / 2 / (WAVES / 2 - 1))
"""Their frequencies end *at* 1/10,000, ours one short of 1/max_period: the longer period has the same frequencies."""
X, STEP, Y = randn((3, CHANNELS, SIZE, SIZE), seeded(0)), torch.tensor([3, 40, 90]), torch.tensor([0, 7, CLASSES])


def theirs(patch: int = PATCH) -> DiTTransformer2DModel:
    """Without dropout of classes: in training mode diffusers would draw some at random."""
    return DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=DIM // HEADS, in_channels=CHANNELS, num_layers=DEPTH,
        sample_size=SIZE, patch_size=patch, num_embeds_ada_norm=CLASSES,
    )  # fmt: skip


def shaken(net: nn.Module) -> nn.Module:
    generator = seeded(3)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.eval().requires_grad_(False)


def shift_scale(value: Tensor) -> Tensor:
    """Theirs is shift, scale; ours scale, shift."""
    return torch.cat(value.chunk(2)[::-1])


def copied(other: DiTTransformer2DModel, patch: int = PATCH) -> Conditioned:
    """Theirs has embeddings of time and class in every block, of which the last layer uses the first block's."""
    net = DiT(CHANNELS, (SIZE, SIZE), patch, DIM, DEPTH, HEADS, eps=1e-6)
    net.time = TimeEmbedding(DIM, WAVES, PERIOD)
    first = other.transformer_blocks[0].norm1.emb
    labels = Labels(CLASSES, DIM)
    labels.load_state_dict({"weight": first.class_embedder.embedding_table.weight})
    pairs = [(net.time.mlp[0], first.timestep_embedder.linear_1), (net.time.mlp[2], first.timestep_embedder.linear_2)]
    for block, given in zip(net.blocks, other.transformer_blocks, strict=True):
        at, mine = given.attn1, block.attention
        pairs += [(mine.q, at.to_q), (mine.k, at.to_k), (mine.v, at.to_v), (mine.out, at.to_out[0])]
        pairs += [(block.up, given.ff.net[0].proj), (block.down, given.ff.net[2])]
        block.norm2.eps = 1e-5  # the original, as ours, has one number for all; theirs this one here, 1e-6 elsewhere
        for name, value in given.norm1.linear.state_dict().items():
            parts = value.chunk(6)
            for norm, order in ((block.norm1, (1, 0, 2)), (block.norm2, (4, 3, 5))):
                getattr(norm.modulation, name).data = torch.cat([parts[i] for i in order])
    pairs += [(net.head, other.proj_out_2)]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    net.last.load_state_dict({k: shift_scale(v) for k, v in other.proj_out_1.state_dict().items()})
    kernel = other.pos_embed.proj  # a convolution (dim, C, p, p) over patches; ours reads a patch as p, p, C
    net.stem.load_state_dict({"weight": kernel.weight.permute(0, 2, 3, 1).flatten(1), "bias": kernel.bias})
    net.place.data = other.pos_embed.pos_embed[0].clone()  # fixed sines there; here they are where learning begins
    return Conditioned(labels, net).eval().requires_grad_(False)


def same_embeddings(other: DiTTransformer2DModel) -> DiTTransformer2DModel:
    """As in the published weights: one embedding, of which every block holds a copy."""
    for block in other.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(other.transformer_blocks[0].norm1.emb.state_dict())
    return other


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@torch.no_grad()
@pytest.mark.parametrize("patch", [2, 4])
def test_the_whole_network(patch):
    other = same_embeddings(shaken(theirs(patch)))
    ours, wanted = copied(other, patch), other(X, timestep=STEP, class_labels=Y).sample
    t = STEP.double() / 1000
    assert gap(ours(X, t, y=Y), wanted) <= TOLERANCE
    assert float(wanted.abs().mean()) > 0.1
    assert gap(ours(X, t.flip(0), y=Y), wanted) > 100 * TOLERANCE
    assert gap(ours(X, t, y=Y.flip(0)), wanted) > 100 * TOLERANCE


@torch.no_grad()
def test_every_kind_of_weight_counts():
    """One number of each parameter moved, in turn: the answers are no longer equal."""
    other = same_embeddings(shaken(theirs()))
    ours, wanted, t = copied(other), other(X, timestep=STEP, class_labels=Y).sample, STEP.double() / 1000
    for name, p in ours.named_parameters():
        if ".k.bias" in name or "conditioning" in name:  # softmax does not see a key's bias; a label may not be asked
            continue
        kept = p.data.clone()
        p.data.view(-1)[0] += 0.5
        assert gap(ours(X, t, y=Y), wanted) > 2 * TOLERANCE, name
        p.data = kept
    assert gap(ours(X, t, y=Y), wanted) <= TOLERANCE


@torch.no_grad()
def test_positions_are_what_the_sines_say():
    """Half of the numbers tell the column, half the row: sines, then cosines, of frequencies 1 … 1/10,000."""
    place = copied(theirs()).backbone.place.reshape(4, 4, DIM)
    rate = 10_000.0 ** (-torch.arange(DIM // 4) / (DIM // 4))
    # Their grid is counted in units of a reference grid, of which this one is whole: 0, 1, 2, 3.
    angles = torch.arange(4.0)[:, None] * rate
    axis = torch.cat([angles.sin(), angles.cos()], 1)  # (4, dim/2)
    assert gap(place[..., : DIM // 2], axis[None].expand(4, -1, -1)) <= TOLERANCE
    assert gap(place[..., DIM // 2 :], axis[:, None].expand(-1, 4, -1)) <= TOLERANCE


@torch.no_grad()
def test_theirs_does_not_begin_at_zero_and_ours_does():
    """The original zeroes modulations and the last map (adaLN-Zero); diffusers' class is for weights that are there."""
    new, t = initialised(lambda: theirs().eval(), 0), STEP.double() / 1000
    assert float(new(X, timestep=STEP, class_labels=Y).sample.abs().mean()) > 0.05
    ours = initialised(lambda: Conditioned(Labels(CLASSES, DIM), DiT(CHANNELS, (SIZE, SIZE), PATCH, DIM, DEPTH)), 0)
    assert torch.equal(ours(X, t, y=Y), torch.zeros_like(X))
