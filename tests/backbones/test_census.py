"""The presets have the published numbers of blocks, and as many parameters as diffusers' models, without numbers."""

from functools import partial

import pytest
import torch
from torch import nn

from minidiff.backbones import flux2, mmdit, single_stream
from minidiff.backbones.dit import DiT

BLOCKS = {"sd3_medium": (24, 0), "sd35_large": (38, 0), "flux1": (19, 38), "qwen_image": (60, 0)}
POOLED = {"sd3_medium": 2048, "sd35_large": 2048, "flux1": 768}  # an MLP of the pooled sentence stands beside ours


def meta(build) -> nn.Module:
    with torch.device("meta"):
        return build()


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name):
    net = meta(getattr(mmdit, name))
    assert (len(net.double_blocks), len(net.single_blocks)) == BLOCKS[name]


def theirs(name: str) -> nn.Module:
    import diffusers

    sd3 = {"sample_size": 128, "joint_attention_dim": 4096, "pos_embed_max_size": 192, "in_channels": 16}
    large = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"}
    medium = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536}
    return {
        "sd3_medium": lambda: diffusers.SD3Transformer2DModel(**sd3, **medium),
        "sd35_large": lambda: diffusers.SD3Transformer2DModel(**sd3, **large),
        "flux1": lambda: diffusers.FluxTransformer2DModel(),
        "qwen_image": lambda: diffusers.QwenImageTransformer2DModel(),
    }[name]()


@pytest.mark.parity
@pytest.mark.parametrize("name", BLOCKS)
def test_parameters(name):
    """Theirs has an MLP of the pooled sentence inside; ours learns positions where theirs has fixed sines."""
    ours, other = meta(getattr(mmdit, name)), meta(lambda: theirs(name))
    dim, pooled = ours.dim, POOLED.get(name)
    beside = 0 if pooled is None else (pooled + 1) * dim + (dim + 1) * dim
    places = 0 if ours.place is None else ours.place.numel()
    assert count(ours) - places + beside == count(other)


def test_z_image_has_refiners_and_one_stream():
    net = meta(single_stream.z_image)
    assert (len(net.picture_blocks), len(net.text_blocks), len(net.joint_blocks)) == (2, 2, 30)


@pytest.mark.parity
def test_parameters_of_z_image():
    import diffusers

    assert count(meta(single_stream.z_image)) == count(meta(diffusers.ZImageTransformer2DModel))


def test_flux2_has_few_double_and_many_single_blocks():
    net = meta(flux2.flux2)
    assert (len(net.double_blocks), len(net.single_blocks)) == (8, 48)


@pytest.mark.parity
def test_parameters_of_flux2():
    import diffusers

    assert count(meta(flux2.flux2)) == count(meta(lambda: diffusers.Flux2Transformer2DModel(guidance_embeds=False)))


def test_any_design_can_have_as_many_parameters_as_another():
    """Equal to within half a unit of all its MLPs; the control has the usual width."""
    wanted = count(meta(lambda: DiT(dim=64, depth=4, context_dim=32, reads="cross")))
    designs = {
        "double": lambda hidden: mmdit.MMDiT(dim=64, double=4, context_dim=32, hidden=hidden),
        "double, single": lambda hidden: mmdit.MMDiT(
            dim=64, double=1, single=4, context_dim=32, hidden=hidden, rotary=(4, 6, 6)
        ),
        "single": lambda hidden: single_stream.SingleStream(
            dim=64, depth=4, refiners=1, context_dim=32, hidden=hidden, rotary=(4, 6, 6)
        ),
        "Flux 2": lambda hidden: flux2.Flux2(
            dim=64, double=1, single=4, context_dim=32, hidden=hidden, rotary=(4, 4, 4, 4)
        ),
    }
    for name, build in designs.items():
        hidden = mmdit.width_of(build, wanted)
        found, wider, far = (count(meta(partial(build, hidden + more))) for more in (0, 1, 40))
        assert abs(found - wanted) <= (wider - found) / 2, name
        assert abs(far - wanted) > wider - found  # the control
    with pytest.raises(ValueError, match="parameters: got 1000, expected at least"):
        mmdit.width_of(designs["double"], 1000)
