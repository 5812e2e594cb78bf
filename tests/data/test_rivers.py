"""Clips of one number per frame: the joint mixture against its definition, and what single frames cannot know."""

import pytest
import torch

from minidiff import times
from minidiff.data import rivers
from minidiff.data.mixtures import isotropic, ring, three_modes
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Cosine, Linear

FRAME, T, RHO = three_modes(), 5, 0.8
JOINT = rivers.aligned(FRAME, T, RHO)


def by_definition(n: int, rho: float, seed: int) -> torch.Tensor:
    """Clips drawn frame by frame, as the module's first lines say: (n, T)."""
    generator = seeded(seed)
    z = torch.multinomial(FRAME.weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, T, generator=generator, dtype=torch.float64)
    a = [noise[:, 0]]
    for i in range(1, T):
        a.append(rho * a[-1] + (1 - rho**2) ** 0.5 * noise[:, i])
    return FRAME.means[z] + FRAME.covariances[z, 0].sqrt() * torch.stack(a, 1)


def test_the_joint_has_the_moments_of_its_definition():
    exact, drawn, other = rivers.covariance(JOINT), by_definition(200_000, RHO, 0), by_definition(200_000, 0.5, 0)
    assert float((torch.cov(drawn.T) - exact).abs().max()) <= 0.01
    assert float((torch.cov(other.T) - exact).abs().max()) > 0.015
    assert float((torch.cov(JOINT.sample(200_000, seeded(1))[0].T) - exact).abs().max()) <= 0.01


def test_within_a_mode_frames_are_an_autoregression():
    """x_{i+1} − μ = ρ·(x_i − μ) + rest, and the rest knows nothing of the frames before."""
    x, y = JOINT.sample(200_000, seeded(0))
    a = (x - FRAME.means[y]) / FRAME.covariances[y, 0].sqrt()
    rest = a[:, 1:] - RHO * a[:, :-1]
    assert float((rest.std(0) - (1 - RHO**2) ** 0.5).abs().max()) <= 0.005
    before = torch.corrcoef(torch.stack([rest[:, 2], a[:, 0], a[:, 1], a[:, 2]]))[0, 1:]
    assert float(before.abs().max()) <= 0.01
    assert float(torch.corrcoef(torch.stack([a[:, 3], a[:, 2]]))[0, 1]) > 0.7  # the frame itself does


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_every_frame_seen_alone_is_the_mixture(t):
    """p_t of frame i by integrating the joint density over the others, on a grid (T = 2), against the mixture's."""
    pair, at = rivers.aligned(FRAME, 2, RHO), torch.tensor(t, dtype=torch.float64)
    line = torch.linspace(-6, 6, 601, dtype=torch.float64)
    here = torch.tensor([-1.2, 0.1, 0.9], dtype=torch.float64)
    points = torch.stack([here.repeat_interleave(601), line.repeat(3)], 1)
    for order in ([0, 1], [1, 0]):
        p = pair.log_prob(points[:, order], at, Cosine()).exp().reshape(3, 601).sum(1) * 12 / 600
        exact = FRAME.log_prob(here[:, None], at, Cosine()).exp()
        assert float((p - exact).abs().max()) <= 1e-6 * float(exact.max())
        assert float((p - exact.flip(0)).abs().max()) > 1e-3


def test_the_score_of_the_joint_is_the_slope_of_its_log_density():
    x, t = 0.8 * randn((6, T), seeded(0), torch.float64), torch.tensor(0.3, dtype=torch.float64)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(JOINT.log_prob(x, t, Linear()).sum(), x)
    assert float((JOINT.score(x.detach(), t, Linear()) - slope).abs().max()) <= 1e-9
    alpha, sigma = Linear()(t)
    tweedie = (x.detach() + sigma**2 * slope) / alpha
    assert float((JOINT.denoise(x.detach(), t, Linear()) - tweedie).abs().max()) <= 1e-9
    alone = rivers.each_alone(FRAME, Linear())(x.detach(), t)
    assert float((alone - tweedie).abs().max()) > 0.05  # the other frames do tell something


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.99, 1.0])
def test_the_correlation_in_closed_form(rho):
    mean = FRAME.weights @ FRAME.means
    v, w = (FRAME.weights @ (FRAME.means - mean) ** 2).item(), (FRAME.weights @ FRAME.covariances[:, 0]).item()
    found = rivers.correlation(rivers.aligned(FRAME, T, rho))
    lag = (torch.arange(T)[:, None] - torch.arange(T)).abs()
    wanted = (v + torch.where(lag > 0, rho ** lag.double(), 1.0) * w) / (v + w)
    assert float((found - wanted).abs().max()) <= 1e-12
    assert abs(rivers.neighbours(found) - (v + rho * w) / (v + w)) <= 1e-12
    drawn = rivers.measured(rivers.aligned(FRAME, T, rho).sample(50_000, seeded(0))[0])
    assert float((drawn - wanted).abs().max()) <= 0.005


def test_frames_denoised_each_alone_are_independent_and_all_together_belong_together():
    """The two ends of the figure, with exact denoisers: before fine-tuning, and after the best one thinkable."""
    exact = rivers.neighbours(rivers.correlation(JOINT))
    noise, grid = randn((4000, T), seeded(0), torch.float64), times.linear(40)
    *_, apart = sample(rivers.each_alone(FRAME, Linear()), noise, grid, heun(Linear()))
    *_, together = sample(JOINT.denoiser(Linear()), noise, grid, heun(Linear()))
    assert abs(rivers.neighbours(rivers.measured(apart))) <= 0.03
    assert abs(rivers.neighbours(rivers.measured(together)) - exact) <= 0.02
    lowest, spread = floor(lambda n, g: FRAME.sample(n, g)[0], 4000)
    drawn = FRAME.sample(4000, seeded(1))[0]
    for x in (apart, together):
        assert max(w1(x[:, i], drawn[:, 0]) for i in range(T)) <= lowest + 5 * spread
    assert w1(apart[:, 0], drawn[:, 0] + 0.2) > lowest + 5 * spread


def test_each_alone_is_the_frames_own_denoiser_also_with_a_time_per_clip():
    x, t = randn((3, T), seeded(0), torch.float64), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    found = rivers.each_alone(FRAME, Linear())(x, t)
    by_hand = torch.stack([FRAME.denoise(x[:, i : i + 1], t, Linear())[:, 0] for i in range(T)], 1)
    assert torch.equal(found, by_hand)
    assert not torch.equal(found, rivers.each_alone(FRAME, Linear())(x, t.flip(0)))
    assert torch.equal(rivers.each_alone(FRAME, Linear())(x, t[1])[1], found[1])


BAD = {
    "frame": lambda: rivers.aligned(ring(), 4),
    "frames": lambda: rivers.aligned(FRAME, 0),
    "rho": lambda: rivers.aligned(FRAME, 4, 1.1),
    "x": lambda: rivers.measured(torch.zeros(5, 3)),
    "correlations": lambda: rivers.neighbours(torch.ones(1, 1)),
    "x_t": lambda: rivers.each_alone(FRAME, Linear())(torch.zeros(3, 4, 1), torch.tensor(0.5)),
    "t": lambda: rivers.each_alone(FRAME, Linear())(torch.zeros(3, 4), torch.rand(4)),
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_named(argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got"):
        BAD[argument]()
    assert rivers.measured(isotropic(torch.zeros(1, 1), 1.0).sample(3, seeded(0))[0]).shape == (1, 1)
