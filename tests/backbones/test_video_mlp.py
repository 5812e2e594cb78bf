"""Temporal fine-tuning on rivers, against the exact joint: frames align, each stays what it was, θ is not touched.

Trained here: 800 steps of the image model, 500 of the temporal layers, on one core.
"""

from typing import NamedTuple

import pytest
import torch
from torch.autograd.functional import jacobian

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.backbones.video_mlp import VideoMLP
from minidiff.data import rivers
from minidiff.data.mixtures import three_modes
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.wasserstein import w1
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Linear
from minidiff.training import diffuse, fit
from minidiff.weights import fingerprint

T, RHO, LINEAR = 6, 0.9, Linear()
FRAME = three_modes()
JOINT = rivers.aligned(FRAME, T, RHO)
STD = float(rivers.covariance(JOINT)[0, 0].sqrt())
CLOCK = times.logit_normal(0, 1.2, stratified=True)


class Trained(NamedTuple):
    image: MLP
    before: str  # θ's fingerprint when the image model was done
    new: Denoiser  # clips, before fine-tuning
    video: Denoiser  # clips, after


def train(seed: int = 0) -> Trained:
    unlabelled = lambda draw: lambda g: {"x0": draw(g)["x0"]}
    one = Denoiser(initialised(lambda: MLP(1, 32), seed), LINEAR, VELOCITY)
    draw = diffuse(unlabelled(FRAME.draw(256)), CLOCK)
    *_, last = fit(one, draw, 800, lr=4e-3, ema_decay=0.99, seed=seed, bar=False)
    image = last.ema.net
    before = fingerprint(image)
    make = lambda: Denoiser(initialised(lambda: VideoMLP(image, hidden=32), seed + 1), LINEAR, VELOCITY)
    video, draw = make(), diffuse(unlabelled(JOINT.draw(96)), CLOCK)
    phi = lambda model: model.net.temporal_parameters()
    *_, last = fit(video, draw, 500, lr=4e-3, ema_decay=0.99, seed=seed, groups=phi, bar=False)
    return Trained(image, before, make(), last.ema)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train()


def clips(denoise, n: int = 2048) -> torch.Tensor:
    """n clips from noise that fills its space evenly, so that few of them say as much as many."""
    even = torch.quasirandom.SobolEngine(T, scramble=True, seed=5).draw(n, dtype=torch.float64)
    noise = torch.special.ndtri(even.clamp(1e-6, 1 - 1e-6)).float()
    *_, x = sample(denoise, noise, times.linear(12), heun(LINEAR))
    return x.double()


def shift(x: torch.Tensor) -> float:
    """The largest W1 of any frame from the exact marginal, in standard deviations of that marginal."""
    exact = FRAME.sample(100_000, seeded(9))[0]
    return max(w1(frame[:, None], exact) for frame in x.T) / STD


def excess(denoise, n: int = 1000) -> float:
    """How much more a denoiser loses than the exact one of the joint, over the mean of t = .1, .3, .5, .7, .9."""
    generator, more = seeded(11), []
    x0 = JOINT.sample(n, generator)[0]
    for level in (0.1, 0.3, 0.5, 0.7, 0.9):
        t = torch.full((n,), level)
        x_t = LINEAR.add_noise(x0, torch.randn(n, T, generator=generator, dtype=torch.float64), t)
        with torch.no_grad():
            found = denoise(x_t.float(), t).double()
        more.append(float((found - x0).square().mean() - (JOINT.denoise(x_t, t, LINEAR) - x0).square().mean()))
    return sum(more) / len(more)


def measure(trained: Trained) -> dict[str, float]:
    exact = rivers.neighbours(rivers.correlation(JOINT))
    found = {}
    for name, model in (("before", trained.new), ("after", trained.video)):
        x = clips(bind(model, temporal=name == "after"))  # new temporal layers are the identity: why compute them
        between = rivers.measured(x) / rivers.correlation(JOINT)
        found |= {f"next {name}": rivers.neighbours(rivers.measured(x)) / exact}
        found |= {f"least {name}": float(between.min()), f"shift {name}": shift(x), f"excess {name}": excess(model)}
    return found


def test_frames_are_independent_before_and_aligned_after_and_each_stays_what_it_was(trained):
    """Correlations as shares of the exact ones; shifts in standard deviations of a frame; losses of x̂0."""
    found = measure(trained)
    assert abs(found["next before"]) <= 0.05
    assert found["next after"] >= 0.95
    assert found["least after"] >= 0.95  # also of the first frame and the last
    assert found["shift before"] <= 0.05
    assert found["shift after"] <= 0.05
    assert shift(clips(bind(trained.video)) + 0.1 * STD) > 0.05  # the control: a tenth of a deviation off
    assert found["excess before"] >= 0.15
    assert found["excess after"] <= 0.01


def test_theta_is_not_touched(trained):
    assert fingerprint(trained.image) == trained.before
    assert fingerprint(trained.video.net.image) == trained.before
    assert fingerprint(trained.video.net.time) != fingerprint(trained.new.net.time)
    assert all(0 < alpha < 1 for alpha in trained.video.net.alphas())
    assert any(abs(alpha - 0.5) > 0.005 for alpha in trained.video.net.alphas())  # α has learned


def test_with_alpha_1_it_is_the_image_model_to_the_bit(trained):
    x, t, net = randn((50, T), seeded(0)), torch.rand(50, generator=seeded(1)), trained.video.net
    image = net.image(x.reshape(-1, 1), t.repeat_interleave(T)).reshape(50, T)
    assert torch.equal(net(x, t, temporal=False), image)
    assert torch.equal(net(x[:, :1], t), net.image(x[:, :1], t))  # a clip of one frame is a picture
    ones = VideoMLP(net.image, alpha=1.0, hidden=32)
    for mine, other in zip(ones.time, net.time):
        mine.block.load_state_dict(other.block.state_dict())
    assert torch.equal(ones(x, t), image)
    assert torch.equal(VideoMLP(net.image)(x, t), image)  # and so are layers that have learned nothing
    assert float((net(x, t) - image).abs().max()) > 0.1


def test_frames_reach_one_another_through_the_temporal_layers_alone(trained):
    net, x, t = trained.video.net, randn((1, T), seeded(0)), torch.tensor([0.6])
    touched = lambda temporal: jacobian(lambda z: net(z, t, temporal=temporal), x)[0, :, 0].abs()
    apart = touched(False)
    assert float((apart - apart.diag().diag()).sum()) == 0
    assert float(apart.diag().min()) > 1e-3
    assert float(touched(True).min()) > 1e-4


def test_any_number_of_frames(trained):
    """Trained on six, asked for nine: RoPE knows distances. Neighbours are aligned there, too."""
    *_, x = sample(bind(trained.video), randn((500, 9), seeded(0)), times.linear(10), heun(LINEAR))
    exact = rivers.correlation(rivers.aligned(FRAME, 9, RHO))
    assert rivers.neighbours(rivers.measured(x)) >= 0.9 * rivers.neighbours(exact)


BAD = {
    "image": lambda: VideoMLP(MLP(2, 32)),
    "x_t": lambda: VideoMLP(MLP(1, 32))(torch.zeros(2, 3, 1), torch.rand(2)),
    "t": lambda: VideoMLP(MLP(1, 32))(torch.zeros(2, 3), torch.rand(3)),
    "between": lambda: MLP(1, 32)(torch.zeros(2, 1), torch.rand(2), between=[lambda h, _: h]),
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_named(argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got"):
        BAD[argument]()
