"""The MLP and the U-Net: shapes, zero at birth, conditions that matter, and errors that name the argument."""

import pytest
import torch

from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.randomness import initialised, randn, seeded


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """A model with all weights random, so that nothing is zero by construction."""
    generator = seeded(0)
    for p in model.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return model.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


NETS = {
    "mlp": (lambda: MLP(2, width=16), (2,)),
    "unet": (lambda: UNet(1, widths=(8, 16), depth=1, embedding=16), (1, 8, 8)),
    "unet, patch 2": (lambda: UNet(3, widths=(8, 16), depth=2, patch=2, embedding=16), (3, 12, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_output_has_the_shape_of_the_input_and_is_zero_at_birth(name):
    build, shape = NETS[name]
    x, t, vector = torch.randn(4, *shape), torch.rand(4), torch.randn(4, 16)
    assert torch.equal(build()(x, t, vector=vector), torch.zeros_like(x))
    assert gap(shaken(build())(x, t, vector=vector), torch.zeros_like(x)) > 1e-2


@pytest.mark.parametrize("name", NETS)
def test_time_vector_and_input_all_matter_and_rows_do_not_mix(name):
    build, shape = NETS[name]
    net = shaken(build())
    x, t, vector = torch.randn(4, *shape), torch.rand(4), torch.randn(4, 16)
    out = net(x, t, vector=vector)
    assert gap(net(x, t.flip(0), vector=vector), out) > 1e-3
    assert gap(net(x, t, vector=vector.flip(0)), out) > 1e-3
    assert gap(net(x.flip(0), t, vector=vector), out) > 1e-3
    assert gap(net(x[1:2], t[1:2], vector=vector[1:2]), out[1:2]) <= 1e-5
    assert gap(net(x, t, vector=torch.zeros(4, 16)), net(x, t)) == 0  # no vector is one of zeros


@pytest.mark.parametrize("name", NETS)
def test_a_misspelt_input_is_a_type_error(name):
    build, shape = NETS[name]
    for wrong in ("y", "vectors"):
        with pytest.raises(TypeError, match=wrong):
            build()(torch.randn(2, *shape), torch.rand(2), **{wrong: torch.randn(2, 16)})


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float64, 1e-4)])
def test_half_precision_and_double(name, dtype, tolerance):
    build, shape = NETS[name]
    net, x, t, vector = shaken(build()), torch.randn(2, *shape), torch.rand(2), torch.randn(2, 16)
    wanted = net(x, t, vector=vector)
    found = net.to(dtype)(x.to(dtype), t, vector=vector.to(dtype))
    assert found.dtype == dtype
    assert gap(found.double(), wanted.double()) <= tolerance * float(wanted.abs().max())


def test_the_unet_sees_the_whole_picture():
    """With attention every output pixel depends on every input pixel; without it, a far corner is out of reach."""
    for attention in (True, False):
        make = lambda attention=attention: UNet(1, widths=(8, 8), depth=1, attention=attention, embedding=16)
        net = shaken(initialised(make, 0)).double()
        x = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
        # GroupNorm couples all pixels weakly; its statistics are frozen to isolate the layers themselves.
        for module in net.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda v: v
        net(x, torch.tensor([0.5], dtype=torch.float64))[0, 0, 0, 0].backward()
        reached = float(x.grad[0, 0, -1, -1].abs()) > 0
        assert reached == attention


CONTEXT = randn((2, 4, 12), seeded(1))
VALID = torch.arange(4) < torch.tensor([4, 2])[:, None]


def reading(**options) -> UNet:
    return UNet(1, widths=(8, 16), depth=1, embedding=16, context_dim=12, **options)


def test_a_context_is_read_and_its_padding_is_not():
    net, x, t = shaken(reading()), randn((2, 1, 8, 8), seeded(0)), torch.rand(2)
    out = net(x, t, context=CONTEXT, context_mask=VALID)
    other = CONTEXT.clone()
    other[1, 2:] += 3.0
    assert gap(net(x, t, context=other, context_mask=VALID), out) <= 1e-6
    assert gap(net(x, t, context=other), net(x, t, context=CONTEXT)) > 1e-3
    assert gap(net(x, t, context=CONTEXT.flip(2)), net(x, t, context=CONTEXT)) > 1e-3
    alone = net(x[1:], t[1:], context=CONTEXT[1:, :2])
    assert gap(alone, out[1:]) <= 1e-5


def test_a_new_network_does_not_hear_the_context_yet():
    """The output of the cross-attention begins at zero: a network that is taught to read begins as it was."""
    net, x, t = reading(), randn((2, 1, 8, 8), seeded(0)), torch.rand(2)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    assert gap(net(x, t, context=CONTEXT.flip(0)), net(x, t, context=CONTEXT)) == 0
    torch.nn.init.normal_(net.cross.attention.out.weight)
    assert gap(net(x, t, context=CONTEXT.flip(0)), net(x, t, context=CONTEXT)) > 1e-4


def test_channels_beside_the_picture_are_seen():
    net, x = shaken(UNet(1, widths=(8, 16), depth=1, patch=2, embedding=16, concat=3)), randn((2, 1, 8, 8), seeded(0))
    t, beside = torch.rand(2), randn((2, 3, 8, 8), seeded(1))
    out = net(x, t, concat=beside)
    assert out.shape == x.shape
    for channel in range(3):
        other = beside.clone()
        other[:, channel] += 1.0
        assert gap(net(x, t, concat=other), out) > 1e-3


X, T = torch.zeros(2, 1, 8, 8), torch.rand(2)
UNREAD = lambda: UNet(1, widths=(8, 16), depth=1, embedding=16)
WRONG = [
    (lambda: MLP(2, width=16)(torch.zeros(4, 3), torch.rand(4)), "x_t"),
    (lambda: MLP(2, width=16)(torch.zeros(4, 2, 1), torch.rand(4)), "x_t"),
    (lambda: MLP(2, width=16)(torch.zeros(4, 2), torch.rand(4, 1)), "t"),
    (lambda: MLP(2, width=16)(torch.zeros(4, 2), torch.rand(3)), "t"),
    (lambda: MLP(2, width=16)(torch.zeros(4, 2), torch.rand(4), vector=torch.zeros(4, 8)), "vector"),
    (lambda: UNREAD()(torch.zeros(2, 3, 8, 8), T), "x_t"),
    (lambda: UNREAD()(torch.zeros(2, 1, 7, 8), T), "x_t"),
    (lambda: NETS["unet, patch 2"][0]()(torch.zeros(2, 3, 6, 8), T), "x_t"),
    (lambda: UNREAD()(X, torch.rand(2, 1, 8, 8)), "t"),
    (lambda: UNREAD()(X, torch.tensor(0.5)), "t"),
    (lambda: UNREAD()(X, T, vector=torch.zeros(1, 16)), "vector"),
    (lambda: UNREAD()(X, T, context=CONTEXT), "context"),
    (lambda: UNREAD()(X, T, context_mask=VALID), "context_mask"),
    (lambda: UNREAD()(X, T, concat=X), "concat"),
    (lambda: reading()(X, T), "context"),
    (lambda: reading()(X, T, context=CONTEXT[..., :8]), "context"),
    (lambda: reading()(X, T, context=CONTEXT, context_mask=VALID[:, :3]), "context_mask"),
    (lambda: reading()(X, T, context=CONTEXT, context_mask=VALID.float()), "context_mask"),
    (lambda: UNet(1, widths=(8, 16), depth=1, embedding=16, concat=1)(X, T), "concat"),
    (lambda: UNet(1, widths=(8, 16), depth=1, embedding=16, concat=1)(X, T, concat=X[..., :4]), "concat"),
]


@pytest.mark.parametrize(("call", "name"), WRONG)
def test_wrong_inputs_are_named(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .+, expected .+"):
        call()
