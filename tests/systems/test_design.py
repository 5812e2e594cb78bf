"""The design space: 72 cells, of which 40 take a training step, draw and listen; the others say why they cannot."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from minidiff.backbones.transfusion import Transfusion
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import PAD
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import DDPM, Linear
from minidiff.systems import atlas, design
from minidiff.systems.design import AXES, Design, cells, differing, valid
from minidiff.training import fit, step_generator

TEXTS = ["a cat left of a dog", "a cat", "a dog in the snow", "a cat left of a dog"]
T = torch.tensor([0.5, 0.5, 0.5, 0.5])


def backbone_of(model):
    return model if isinstance(model, Transfusion) else model.net.backbone


def shaken(model):
    """Away from the zeros at which networks begin, so that every number does something."""
    with torch.no_grad():
        for k, (name, p) in enumerate(model.named_parameters()):
            if ".encoder." not in name:
                p.add_(0.05 * randn(p.shape, seeded(k)))
    return model


def padded(cond):
    return {name: value if name == "heard" else F.pad(value, (0, 3), value=PAD) for name, value in cond.items()}


def test_there_are_72_cells_and_40_can_be_built():
    assert len(set(cells())) == 72
    assert len(valid()) == 40
    for axis, values in AXES.items():  # no value is without a cell that can be
        assert {getattr(d, axis) for d in valid()} == set(values)


@pytest.mark.parametrize("axis", AXES)
def test_a_value_that_is_none_is_refused_by_its_axis(axis):
    values = {name: values[0] for name, values in AXES.items()}
    Design(**values)
    with pytest.raises(ValueError, match=f"^{axis}: got 'GAN', expected one of"):
        Design(**values | {axis: "GAN"})


def test_a_cell_that_cannot_be_names_two_axes_and_changing_one_of_them_mends_it():
    for cell in [d for d in cells() if d.reason is not None]:
        named = [axis for axis in AXES if f"{axis} {getattr(cell, axis)!r}" in cell.reason]
        assert len(named) == 2, cell.reason
        for make in (cell.build, cell.draw):
            with pytest.raises(ValueError, match="contradict each other"):
                make()
        assert any(len(differing(cell, other)) == 1 and set(differing(cell, other)) <= set(named) for other in valid())
    clashes = Counter(" × ".join(a for a in AXES if f"{a} '" in d.reason) for d in cells() if d.reason)
    assert clashes == {"architecture × conditioning": 24, "encoder × conditioning": 8}


@pytest.mark.parametrize("cell", valid(), ids=str)
def test_each_takes_a_step_listens_and_draws(cell):
    model = shaken(initialised(cell.build, 0))
    assert abs(sum(p.numel() for p in backbone_of(model).parameters()) / design.PARAMETERS - 1) < 0.015
    batch = cell.draw(4)(step_generator(0, 0))
    assert batch["x0"].shape == (4, *cell.shape)
    if "picture_first" in batch:  # both orders, so that no number is without its use
        batch["picture_first"] = torch.tensor([True, False, True, False])
    learns = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    assert all(".encoder." in name for name in frozen)
    assert bool(frozen) == (cell.conditioning != "one sequence")
    loss = model.loss(**batch)
    assert loss.shape == (4,)
    assert bool(loss.isfinite().all())
    loss.mean().backward()
    least = lambda name: 0.0 if name.endswith(".k.bias") else 1e-8  # a softmax does not see what all its keys share
    assert [name for name, p in learns.items() if p.grad is None or float(p.grad.abs().max()) < least(name)] == []
    assert all(p.grad is None for p in frozen.values())
    torch.optim.SGD(learns.values(), lr=1e-4).step()
    with torch.no_grad():
        assert not torch.equal(model.loss(**batch), loss)

    model.eval().requires_grad_(False)
    denoise = model if isinstance(model, Denoiser) else Denoiser(model, model.schedule, design.X0)
    x_t = randn((1, *cell.shape), seeded(5)).expand(4, -1, -1, -1)
    told = cell.read(TEXTS)
    x = denoise(x_t, T, **told)
    assert float((x[0] - x[3]).abs().max()) < 1e-4 * float(x.abs().max())  # the same caption, another row
    assert float((x[0] - x[1]).abs().max()) > 1e-3 * float(x.abs().max())
    assert float((x[1] - x[2]).abs().max()) > 1e-3 * float(x.abs().max())
    longer = denoise(x_t, T, **padded(told))
    assert float((x - longer).abs().max()) < 1e-4 * float(x.abs().max())  # padding says nothing
    pictures = cell.pictures_of(model, steps=2)(TEXTS[:1], 1.0, [0])
    assert pictures.shape == (1, 3, cell.side, cell.side)
    assert bool(pictures.isfinite().all())


def test_what_the_paradigm_changes():
    one, two = (Design(p, "pixels", "U-Net", "CLIP", "cross-attention") for p in AXES["paradigm"])
    first, second = one.build(), two.build()
    assert isinstance(first.schedule, DDPM)
    assert isinstance(second.schedule, Linear)
    assert (first.prediction.name, second.prediction.name) == ("eps", "velocity")
    assert differing(one, two) == ["paradigm"]


def test_a_weighted_error_of_x0_is_the_error_of_the_noise():
    x0, eps, guess = (randn((8, 3, 4, 4), seeded(k)) for k in range(3))
    t, schedule = torch.linspace(0.3, 0.9, 8), DDPM()
    x_t = schedule.add_noise(x0, eps, t)
    alpha, sigma = (level[:, None, None, None] for level in schedule(t))
    noise = ((x_t - alpha * guess) / sigma - eps).square().flatten(1).mean(1)
    weighted = design.noise_weight(schedule, t) * (guess - x0).square().flatten(1).mean(1)
    torch.testing.assert_close(weighted, noise, rtol=1e-4, atol=1e-5)
    assert float(design.noise_weight(schedule, torch.tensor(0.0))) == pytest.approx(100)  # held down near the data


def test_fit_trains_a_cell_and_the_encoder_stays_as_it_was():
    cell = atlas.model("Flux 1").design
    model = initialised(cell.build, 0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    *_, last = fit(model, cell.draw(4), 2, bar=False)
    moved = {name for name, p in last.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert not any(".encoder." in name for name in moved)


# ---------------------------------------------------------------- real models


def test_every_real_model_sits_in_a_cell_that_can_be():
    assert all(real.design.reason is None for real in atlas.MODELS)
    assert len({real.name for real in atlas.MODELS}) == len(atlas.MODELS)
    assert all(cell.reason is None for cell in atlas.CORNERS.values())


def test_the_lectures_corners_hold_whom_they_are_named_after():
    named = lambda cell: [real.name for real in atlas.models_of(cell)]
    found = {corner: named(cell) for corner, cell in atlas.CORNERS.items()}
    assert found["Stable Diffusion 1 and 2"] == ["Stable Diffusion 1", "Stable Diffusion 2", "SDXL"]
    assert found["Stable Diffusion 3, Flux 1"] == ["Stable Diffusion 3", "Flux 1"]
    assert found["Flux 2, Z-Image, Qwen-Image"][:3] == ["Flux 2", "Z-Image", "Qwen-Image"]
    assert found["Transfusion"] == ["Transfusion"]
    assert found["HunyuanImage 3.0, and the guess"] == ["HunyuanImage 3.0", "GPT-4o's pictures"]
    assert [real.name for real in atlas.MODELS if real.guess] == ["GPT-4o's pictures"]
    assert "(guess)" in str(atlas.model("GPT-4o's pictures"))


def test_nearest_names_what_differs():
    sana = atlas.model("SANA").design
    assert [(real.name, axes) for real, axes in atlas.nearest(sana)] == [("SANA", [])]
    odd = Design("flow matching", "pixels", "U-Net", "language model", "cross-attention")
    assert [(real.name, axes) for real, axes in atlas.nearest(odd)] == [("Imagen", ["paradigm"])]
    assert "Imagen differs in paradigm (DDPM)" in atlas.told(odd)
    for cell in cells():
        assert atlas.told(cell)
        assert ("Cannot be built" in atlas.told(cell)) == (cell.reason is not None)
        for real, axes in atlas.nearest(cell):
            assert differing(cell, real.design) == axes
    with pytest.raises(ValueError, match="name: got 'Flux 9', expected one of"):
        atlas.model("Flux 9")
