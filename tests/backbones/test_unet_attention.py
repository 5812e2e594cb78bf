"""The U-Net that reads at several resolutions: silent at birth, deaf to padding, its maps those of what it computed."""

import pytest
import torch
from torch import nn

from minidiff.backbones.unet import UNet
from minidiff.nn.block import Attention, attention_maps
from minidiff.nn.conv import PixelTransformer
from minidiff.randomness import initialised, randn, seeded

X, T, CONTEXT = randn((2, 1, 8, 8), seeded(0)), torch.tensor([0.2, 0.9]), randn((2, 4, 12), seeded(1))
VALID = torch.arange(4) < torch.tensor([4, 2])[:, None]
LEVELS = [(0,), (1,), (0, 1)]


def build(levels: tuple[int, ...], context_dim: int | None = 12) -> UNet:
    make = lambda: UNet(
        1, widths=(8, 16), depth=1, embedding=16, context_dim=context_dim, attention_levels=levels
    )  # fmt: skip
    return initialised(make, 0)


def shaken(net: UNet) -> UNet:
    generator = seeded(2)
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return net.eval()


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def transformers(net: UNet) -> dict[str, PixelTransformer]:
    return {name: module for name, module in net.named_modules() if isinstance(module, PixelTransformer)}


def deaf(net: UNet, keep: str) -> UNet:
    """Of all places that read the context, the one named `keep` alone still does."""
    for name, module in net.named_modules():
        if isinstance(module, Attention) and name.endswith("cross") and not name.startswith(keep):
            nn.init.zeros_(module.out.weight)
    nn.init.zeros_(net.cross.attention.out.weight)
    return net


@pytest.mark.parametrize("levels", LEVELS)
def test_every_block_of_a_level_is_followed_by_a_transformer_of_its_width(levels):
    found = transformers(build(levels))
    assert len(found) == 3 * len(levels)  # depth 1: one block on the way down, two on the way up
    assert sorted({t.block.up.in_features for t in found.values()}) == [(8, 16)[level] for level in levels]
    assert not transformers(build(()))


def test_a_network_without_levels_has_the_keys_it_always_had():
    keys = set(build((), None).state_dict())
    assert {key.rsplit(".", 1)[0] for key in keys if key.startswith("down.1.")} == {"down.1"}  # a convolution
    assert {key.split(".")[0] for key in keys} == {"time", "stem", "down", "middle", "attention", "up", "norm", "head"}
    assert not any("block" in key for key in keys)
    assert any("block" in key for key in build((0,), None).state_dict())


@pytest.mark.parametrize("levels", LEVELS)
def test_at_birth_it_is_the_network_without_them_to_the_bit(levels):
    net, plain = build(levels), build((), None)
    for mine, theirs in zip((net.down, net.up), (plain.down, plain.up)):
        kept = [layer for layer in mine if not isinstance(layer, PixelTransformer)]
        for layer, other in zip(kept, theirs, strict=True):
            other.load_state_dict(layer.state_dict())
    for name in ("time", "stem", "middle", "attention", "norm", "head"):
        getattr(plain, name).load_state_dict(getattr(net, name).state_dict())
    for each in (net, plain):
        nn.init.normal_(each.head.weight, std=0.1, generator=seeded(3))
    expected = plain(X, T)
    assert gap(expected, torch.zeros_like(X)) > 1e-2
    assert torch.equal(net(X, T, context=CONTEXT), expected)
    nn.init.normal_(next(iter(transformers(net).values())).back.weight, generator=seeded(4))
    assert gap(net(X, T, context=CONTEXT), expected) > 1e-3


@pytest.mark.parametrize("levels", LEVELS)
def test_padding_is_not_read_at_any_level(levels):
    net, other = shaken(build(levels)), CONTEXT.clone()
    other[1, 2:] += 3.0
    out = net(X, T, context=CONTEXT, context_mask=VALID)
    assert torch.equal(net(X, T, context=other, context_mask=VALID), out)
    assert gap(net(X, T, context=other), net(X, T, context=CONTEXT)) > 1e-3
    assert gap(net(X[1:], T[1:], context=CONTEXT[1:, :2]), out[1:]) <= 1e-5


@pytest.mark.parametrize("name", sorted(transformers(build((0, 1)))))
def test_a_gradient_reaches_the_context_through_each_transformer_alone(name):
    """Through none but this one; through padding never; and where all are deaf, there is none."""
    reached = {}
    for keep in (name, "nothing"):
        net, context = deaf(shaken(build((0, 1))), keep), CONTEXT.clone().requires_grad_()
        net(X, T, context=context, context_mask=VALID).square().sum().backward()
        reached[keep] = context.grad
    assert bool((reached[name][VALID].abs().amax(-1) > 0).all())
    assert float(reached[name][~VALID].abs().max()) == 0
    assert float(reached["nothing"].abs().max()) == 0


def test_maps_times_values_are_what_the_attention_gave():
    net, seen = shaken(build((0, 1))).requires_grad_(False), {}
    hooks = [
        module.register_forward_hook(lambda m, given, out, name=name: seen.update({name: (m, given, out)}))
        for name, module in net.named_modules()
        if isinstance(module, Attention) and "cross" in name
    ]
    with attention_maps(net) as maps:
        net(X, T, context=CONTEXT, context_mask=VALID)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 7  # six transformers and the middle
    for name, (module, (x, context, *_), out) in seen.items():
        (found,) = maps[name]
        assert found.shape == (2, 4, x.shape[1], 4)
        assert float(found[1, :, :, 2:].abs().max()) == 0
        value = module.heads(x, context)[2]
        assert gap(module.back(found @ value), out) <= 1e-5
        assert gap(module.back(found.flip(-1) @ value), out) > 1e-3


def test_without_a_context_pixels_look_at_one_another():
    net = shaken(build((0,), None))
    assert net(X, T).shape == X.shape
    with attention_maps(net) as maps:
        net(X, T)
    assert sorted(found[0].shape[-1] for found in maps.values()) == [16, 64, 64, 64]


@pytest.mark.parametrize("levels", [(2,), (-1,), (0, 5)])
def test_a_level_that_is_none_is_named(levels):
    with pytest.raises(ValueError, match=r"^attention_levels: got .+, expected some of \(0, 1\)"):
        build(levels)
