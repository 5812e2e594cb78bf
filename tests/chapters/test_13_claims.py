"""What the exercises of chapter 13 claim: words that may change places, counts, maps, the library's own blocks."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import kind
from torch import Tensor

from minidiff.backbones.mmdit import MMDiT
from minidiff.course.exercise import find
from minidiff.nn.block import Block, attention_maps, gelu_tanh, joint
from minidiff.nn.parallel import Parallel
from minidiff.nn.rope import Rotary
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems.dit import gflops


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "13-joint", {"torch": torch, "F": F, "Tensor": Tensor})


def test_words_at_the_origin_may_change_places_and_words_on_the_diagonal_may_not():
    flux, qwen = find("13-placed").reference(4, 2, 3)
    block, x = initialised(lambda: Block(12, 2), 0), randn((1, 10, 12), seeded(0))
    other = x[:, [3, 1, 2, 0, *range(4, 10)]]
    apart = []
    for places in (flux, qwen):
        one, two = (block(tokens, rotate=Rotary(places, (2, 2, 2)))[:, 4:] for tokens in (x, other))
        apart.append(float((one - two).detach().abs().max()))
    assert apart[0] < 1e-6 < 1e-3 < apart[1]


@pytest.mark.parametrize(("double", "single"), [(1, 0), (0, 1)])
def test_counts_are_those_of_real_blocks(double, single):
    sizes, tokens = (3, 7, 16, 24), [torch.zeros(1, n, 16) for n in (3, 7)]
    blocks = [Block(16, 2, cond_dim=16, hidden=24) for _ in range(2 if double else 1)]
    streams = tokens if double else [torch.cat(tokens, 1)]
    seen = gflops(lambda: joint(blocks, streams, torch.zeros(1, 16)))
    real = sum(p.numel() for block in blocks for p in block.parameters()), round(1e9 * seen / 2)
    run = find("13-counted").reference
    assert run(*sizes, bool(single)) == real
    assert run(*sizes, not single) != real  # the control


def test_two_sets_cost_as_much_work_as_one_and_half_of_it_at_equal_parameters():
    run = find("13-counted").reference
    (two, work), (one, same) = (run(512, 4096, 3072, 12288, shared) for shared in (False, True))
    assert two == 2 * one
    assert work == pytest.approx(same, rel=1e-3)
    assert work / (2 * same) == pytest.approx(0.5, rel=1e-3)
    small = [run(5, 16, 64, 128, shared)[1] for shared in (False, True)]
    assert small[0] / small[1] > 1.03  # the control: with few tokens modulations count


@pytest.mark.parametrize("own", [True, False], ids=["the master's", "the reference"])
def test_the_build_is_a_block_of_the_library_and_padding_is_not_heard(built, own):
    run = built() if own else find("13-joint").reference
    net = initialised(lambda: MMDiT(dim=16, double=1, heads=2, context_dim=16, qk_norm=False), 0)
    (pair,) = net.double_blocks
    blocks = [pair["text"], pair["picture"]]
    for block in blocks:
        for norm in (block.norm1, block.norm2):
            torch.nn.init.normal_(norm.modulation.weight, generator=seeded(1))
    maps = lambda block: {
        name: tuple(getattr(block.attention if name in ("q", "k", "v", "out") else block, name).parameters())
        for name in ("q", "k", "v", "out", "up", "down")
    } | {"modulation": tuple(
        torch.cat([getattr(norm.modulation, kind) for norm in (block.norm1, block.norm2)])
        for kind in ("weight", "bias"))}  # fmt: skip
    weights = dict(zip(("text", "picture"), map(maps, blocks)))
    text, picture, cond = (randn(shape, seeded(i)) for i, shape in enumerate([(2, 3, 16), (2, 4, 16), (2, 16)]))
    told = torch.tensor([[True, True, False], [True, True, True]])
    found = run(text, picture, cond, told, weights, 2)
    mask = F.pad(told, (0, 4), value=True)[:, None]
    for mine, theirs in zip(found, joint(blocks, [text, picture], cond, mask)):
        assert torch.allclose(mine, theirs, atol=1e-5)
    other = torch.cat([text[:, :2], text[:, 2:].flip(2)], 1)
    moved = (run(other, picture, cond, told, weights, 2)[1] - found[1]).abs().amax((1, 2))
    assert moved[0] == 0
    assert moved[1] > 1e-3  # the control: there the word is told


def test_in_a_joint_map_rows_look_and_text_comes_first():
    blocks = torch.nn.ModuleList(initialised(lambda: Block(8, 2, activation=gelu_tanh), i) for i in range(2))
    text, picture = randn((1, 2, 8), seeded(0)), randn((1, 3, 8), seeded(1))
    with attention_maps(blocks) as maps:
        joint([*blocks], [text, picture], mask=torch.tensor([[True, False, True, True, True]]))
    ((shares,),) = maps.values()
    told = torch.tensor([[True, False]])
    part, heard, back = find("13-both-ways").reference(shares, told)
    assert torch.equal(part, torch.tensor([[[1.0, 0.0]] * 3]))  # one word is all that can be read
    assert torch.allclose(heard, shares[:, :, 2:, 0].mean(1))
    assert torch.allclose(back[:, 0], 1 - shares[:, :, 0, 0].mean(1))
    assert back[0, 1] == 0


def test_a_parallel_block_is_the_ordinary_one_to_first_order():
    run, g = find("13-parallel").reference, seeded(0)
    first, second = randn((8, 24 + 12), g).double(), randn((20, 8), g).double()
    x, kept = randn((2, 5, 8), g).double(), torch.arange(20) < 8
    apart = []
    for gate in (0.01, 0.001):
        cond = torch.tensor([0.0, 0.0, gate]).repeat_interleave(8).expand(2, -1).double()
        block = lambda x, some, cond=cond: run(
            x, cond, lambda h: h @ first, lambda y: (y * some) @ second, lambda q: q, 2, False
        )
        apart.append(float((block(block(x, kept), ~kept) - block(x, kept | True)).abs().max()))
    assert 90 < apart[0] / apart[1] < 110


def test_the_exercise_is_the_librarys_parallel_block_at_its_start():
    block = initialised(lambda: Parallel(12, 2, shared=True, own=False), 0)
    x, cond = randn((2, 5, 12), seeded(0)), randn((2, 36), seeded(1))
    found = find("13-parallel").reference(x, cond, block.into, block.out, lambda q: q, 2, False)
    assert torch.allclose(found, block(x, cond), atol=1e-6)
    assert not torch.allclose(found, block(x, 0.9 * cond), atol=1e-3)  # the control


def test_what_becomes_of_padding_counts_for_nothing_while_it_is_finite(built):
    last = "return found[0], found[1]"
    assert kind("13-joint", built((last, "return found[0] * told[..., None], found[1]"))) == "passed"
    assert kind("13-joint", built((last, "return found[0] / told[..., None], found[1]"))) != "passed"  # the control
