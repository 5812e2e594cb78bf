"""Two encoders side by side, and numbers beside the pooled sentence: SDXL's two additions to what is told."""

import pytest
import torch
from torch import nn

from minidiff.conditioning import Channels, Encoded, Frozen, Sized
from minidiff.nn.embeddings import TimeEmbedding, waves
from minidiff.randomness import initialised, randn, seeded

TOKENS = torch.tensor([[1, 4, 5, 2, 0], [1, 6, 2, 0, 0]])


class Looked(nn.Module):
    """Every token's vector is its own row of a table; pooled, their mean; padding (0) is not seen."""

    def __init__(self, words: int, dim: int, pools: bool = True):
        super().__init__()
        self.table, self.dim, self.out = nn.Embedding(words, dim), dim, dim if pools else 0

    def encode(self, tokens):
        each = self.table(tokens)
        return Encoded(each.mean(1) if self.out else None, each, tokens != 0)


def two() -> tuple[Looked, Looked, torch.Tensor]:
    ids = torch.tensor([0, 1, 2, 3, 8, 4, 6])
    return (*initialised(lambda: (Looked(7, 6, False), Looked(9, 4)), 0), ids)


def test_channels_stand_side_by_side_and_speak_of_the_same_word():
    first, second, ids = two()
    vector, context, mask = Channels([first, second], [None, ids]).encode(TOKENS)
    assert context.shape == (2, 5, 10)
    assert torch.equal(context[..., :6], first.table(TOKENS))
    assert torch.equal(context[..., 6:], second.table(ids[TOKENS]))
    assert not torch.equal(context[..., 6:], second.table(TOKENS))  # the control: words by another's numbers
    assert vector is not None
    assert torch.equal(vector, second.table(ids[TOKENS]).mean(1))
    assert mask is not None
    assert torch.equal(mask, TOKENS != 0)
    both = Channels([first, second], [None, ids])
    assert (both.dim, both.out) == (10, 4)
    assert not [name for name in both.state_dict() if "ids" in name]
    with pytest.raises(ValueError, match=r"^ids: got 1 of them, expected one per encoder"):
        Channels([first, second], [None])


def sized(numbers: int = 3) -> Sized:
    first, second, ids = two()
    text = Frozen(Channels([first, second], [None, ids]), 5, context_dim=8, vector_dim=7)
    return initialised(lambda: Sized(text, 7, numbers, dim=12, features=16), 1)


@torch.no_grad()
def test_every_number_and_the_pooled_sentence_reach_the_vector():
    module, sizes = sized(), torch.tensor([[64.0, 48, 0], [96, 64, 17]])
    given = module(2, tokens=TOKENS, sizes=sizes)
    assert {k: tuple(v.shape) for k, v in given.items()} == {
        "vector": (2, 12), "context": (2, 5, 8), "context_mask": (2, 5),
    }  # fmt: skip
    for k in range(3):
        other = sizes.clone()
        other[0, k] += 1
        changed = (module(2, tokens=TOKENS, sizes=other)["vector"] - given["vector"]).abs().amax(1)
        assert changed[0] > 1e-3
        assert changed[1] == 0
    said = module(2, tokens=TOKENS.roll(1, 0), sizes=sizes)
    assert (said["vector"] - given["vector"]).abs().amax() > 1e-3
    # By hand: waves of each number side by side, after the pooled vector.
    told = torch.cat([waves(sizes[:, k], 16) for k in range(3)], 1)
    pooled = module.inner(2, tokens=TOKENS)["vector"]
    assert torch.equal(given["vector"], module.mlp(torch.cat([pooled, told], 1)))
    assert not torch.allclose(given["vector"], module.mlp(torch.cat([pooled, told.flip(1)], 1)))


@pytest.mark.parametrize("bad", [None, [64, 64, 0], torch.ones(2, 4), torch.ones(1, 3), torch.ones(2, 3).long()])
def test_bad_sizes_are_named(bad):
    with pytest.raises(ValueError, match=r"^sizes: got .+, expected floating-point numbers of shape \(2, 3\)"):
        sized()(2, tokens=TOKENS, sizes=bad)
    with pytest.raises(TypeError):
        sized()(2, tokens=TOKENS, sizes=torch.ones(2, 3), size=torch.ones(2, 3))


def test_a_time_is_embedded_as_before():
    """`waves` is what the time embedding always was, to the bit."""
    t, embed = torch.rand(5, generator=seeded(0)), initialised(lambda: TimeEmbedding(12), 0)
    rank = torch.arange(32) / 32
    angles = t[..., None] * (1000 * torch.exp(-torch.log(torch.tensor(10_000.0)) * rank))
    by_hand = embed.mlp(torch.cat([angles.cos(), angles.sin()], -1))
    assert (embed(t) - by_hand).abs().max() < 1e-4
    assert torch.equal(embed(t), embed.mlp(waves(t, 64, 1000.0)))
    assert waves(randn((2, 3), seeded(0)), 8).shape == (2, 3, 8)
