"""One stream with refiners: zero at first, what is said counts, pad tokens are learned, bad options are named."""

import pytest
import torch

from minidiff.backbones.single_stream import Sandwich, SingleStream
from minidiff.nn.block import unturned
from minidiff.randomness import randn, seeded

WIDE, DIM, COND = 12, 32, 16
X, T, CONTEXT = randn((2, 3, 8, 8), seeded(0)), torch.tensor([0.3, 0.7]), randn((2, 4, WIDE), seeded(1))
VALID, VECTOR = torch.arange(4) < torch.tensor([4, 2])[:, None], randn((2, COND), seeded(2))


def build(**options) -> SingleStream:
    options = {"rotary": (4, 6, 6), "multiple": 8} | options
    return SingleStream(3, (8, 8), 2, DIM, 2, 2, context_dim=WIDE, cond_dim=COND, **options)


def shaken(net: torch.nn.Module) -> torch.nn.Module:
    generator = seeded(5)
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return net.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def test_a_new_network_answers_zero_and_modulated_blocks_are_the_identity():
    assert torch.equal(build()(X, T, context=CONTEXT, vector=VECTOR), torch.zeros_like(X))
    z, cond = randn((2, 5, DIM), seeded(3)), randn((2, COND), seeded(4))
    assert torch.equal(Sandwich(DIM, 2, 24, COND)(z, unturned, cond), z)
    assert gap(Sandwich(DIM, 2, 24)(z, unturned), z) > 0.1  # a refiner of text is no identity


def test_all_that_is_said_counts_and_pictures_do_not_mix():
    net, said = shaken(build()), {"context": CONTEXT, "vector": VECTOR, "context_mask": VALID}
    out = net(X, T, **said)
    assert gap(net(X[1:], T[1:], **{k: v[1:] for k, v in said.items()}), out[1:]) <= 1e-5
    for key, value in said.items():
        assert gap(net(X, T, **said | {key: value.flip(0)}), out) > 1e-3, key
    assert gap(net(X, T.flip(0), **said), out) > 1e-3


def test_padding_becomes_a_learned_token():
    net, said = shaken(build()), {"context": CONTEXT, "context_mask": VALID}
    out = net(X, T, **said)
    other = torch.where(VALID[..., None], CONTEXT, CONTEXT + 1)
    assert gap(net(X, T, **said | {"context": other}), out) == 0
    net.pad_text.data += 1
    assert gap(net(X, T, **said), out) > 1e-3


def test_any_size_that_the_patch_divides():
    wide = randn((2, 3, 8, 12), seeded(0))
    assert shaken(build())(wide, T, context=CONTEXT).shape == wide.shape
    with pytest.raises(ValueError, match="x_t"):
        build()(wide[..., :11], T, context=CONTEXT)


@pytest.mark.parametrize(("options", "name"), [({"rotary": (8, 8)}, "rotary"), ({"rotary": (4, 4, 4)}, "rotary")])
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        build(**options)


def test_a_context_must_come():
    for wrong in ({}, {"context": CONTEXT[..., 1:]}, {"context": CONTEXT, "context_mask": VALID.float()}):
        with pytest.raises(ValueError, match="context"):
            build()(X, T, **wrong)
