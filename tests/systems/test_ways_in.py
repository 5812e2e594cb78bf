"""Six designs at equal parameters: each takes a training step, is the identity at first, and hears the words."""

import pytest
import torch

from minidiff.nn.block import attention_maps
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems import readers, ways_in
from minidiff.training import fit

X, T = randn((2, 3, 16, 16), seeded(0)), torch.tensor([0.3, 0.8])


def shaken(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.add_(0.05 * randn(p.shape, seeded(k)))
    return net.eval().requires_grad_(False)


def test_all_have_as_many_parameters():
    counts = {name: sum(p.numel() for p in ways_in.backbone(name).parameters()) for name in ways_in.DESIGNS}
    assert max(counts.values()) / min(counts.values()) < 1.005
    usual = {name: sum(p.numel() for p in make(256).parameters()) for name, make in ways_in.DESIGNS.items()}
    assert max(usual.values()) / min(usual.values()) > 1.3  # the control: MLPs of 4·dim


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_each_answers_nothing_at_first_and_hears_the_words_later(design):
    net, context = initialised(lambda: ways_in.backbone(design), 0), randn((2, 7, ways_in.WIDTH), seeded(1))
    assert float(net(X, T, context=context).detach().abs().max()) == 0
    net, other = shaken(net), randn((2, 7, ways_in.WIDTH), seeded(2))
    assert float((net(X, T, context=context) - net(X, T, context=other)).abs().max()) > 1e-3
    with attention_maps(net) as maps:
        net(X, T, context=context)
    shapes = {tuple(m.shape[-2:]) for found in maps.values() for m in found}
    assert ((16, 7) in shapes) == (design == "cross-attention")  # picture looks at words
    both = 16 + (ways_in.FILLED if design == "single" else 7)
    assert ((both, both) in shapes) == (design != "cross-attention")  # each looks at both


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_each_takes_a_training_step_and_draws(design):
    model = initialised(lambda: ways_in.build(design), 0)
    before = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    draw = readers.draw_scenes(4, readers.read_chat, long_share=0.0)
    *_, last = fit(model, draw, 2, bar=False)
    moved = {name for name, p in last.model.named_parameters() if name in before and not torch.equal(p, before[name])}
    assert any("head" in name for name in moved)
    assert not any(".encoder." in name for name in moved)
    pictures = readers.pictures_of(last.model.eval(), readers.read_chat, steps=2)(["a red circle"], 1.0, [0])
    assert pictures.shape == (1, 3, 16, 16)
