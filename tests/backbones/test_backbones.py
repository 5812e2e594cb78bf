"""The MLP and the U-Net: shapes, zero at birth, conditions that matter, and errors that name the argument."""

import pytest
import torch

from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.randomness import initialised


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """A model with all weights random, so that nothing is zero by construction."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return model


NETS = {
    "mlp": (lambda n: MLP(2, n_classes=n, width=16), (2,)),
    "unet": (lambda n: UNet(1, widths=(8, 16), depth=1, n_classes=n, embedding=16), (1, 8, 8)),
    "unet, patch 2": (lambda n: UNet(3, widths=(8, 16), depth=2, n_classes=n, patch=2, embedding=16), (3, 12, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_output_has_the_shape_of_the_input_and_is_zero_at_birth(name):
    build, shape = NETS[name]
    net = build(3)
    x, t, y = torch.randn(4, *shape), torch.rand(4), torch.tensor([0, 1, 2, 3])
    assert net(x, t, y=y).shape == x.shape
    assert torch.equal(net(x, t, y=y), torch.zeros_like(x))


@pytest.mark.parametrize("name", NETS)
def test_time_label_and_input_all_matter_and_rows_do_not_mix(name):
    build, shape = NETS[name]
    net = shaken(build(3)).eval()
    x, t, y = torch.randn(4, *shape), torch.rand(4), torch.tensor([0, 1, 2, 3])
    out = net(x, t, y=y)
    assert not torch.allclose(net(x, t.flip(0), y=y), out, atol=1e-3)
    assert not torch.allclose(net(x, t, y=y.flip(0)), out, atol=1e-3)
    assert not torch.allclose(net(x.flip(0), t, y=y), out, atol=1e-3)
    assert torch.allclose(net(x[1:2], t[1:2], y=y[1:2]), out[1:2], atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_unconditional_nets_have_no_label(name):
    build, shape = NETS[name]
    net = build(0)
    x, t = torch.randn(2, *shape), torch.rand(2)
    assert net(x, t).shape == x.shape
    with pytest.raises(ValueError, match="y: got"):
        net(x, t, y=torch.tensor([0, 1]))
    with pytest.raises(TypeError):
        net(x, t, label=torch.tensor([0, 1]))  # a misspelt condition is an error, not a default


@pytest.mark.parametrize("name", NETS)
def test_half_precision_and_double(name):
    build, shape = NETS[name]
    for dtype in (torch.bfloat16, torch.float64):
        net = build(3).to(dtype)
        x = torch.randn(2, *shape, dtype=dtype)
        assert net(x, torch.rand(2), y=torch.tensor([0, 3])).dtype == dtype


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (4, 3)),
        ("mlp", (4, 2, 1)),
        ("unet", (4, 3, 8, 8)),
        ("unet", (4, 1, 7, 8)),
        ("unet, patch 2", (4, 3, 6, 8)),
    ],
)
def test_wrong_shapes_are_named(name, shape):
    with pytest.raises(ValueError, match=r"x_t: got float32 tensor of shape"):
        NETS[name][0](3)(torch.randn(shape), torch.rand(4), y=torch.zeros(4, dtype=torch.int64))


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
