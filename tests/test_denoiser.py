"""Denoiser: x̂0 out of any prediction, a loss per picture, and clear refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.predictions import EPS, VELOCITY, X0, V, velocity_weight
from minidiff.schedules import DDPM, Cosine, Karras, Linear
from minidiff.shapes import expand_like

few = settings(max_examples=25, deadline=None)
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "ddpm": DDPM(), "karras": Karras()}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_prediction = pytest.mark.parametrize("prediction", [EPS, X0, V, VELOCITY], ids=lambda p: p.name)


class Exact(nn.Module):
    """The network that a perfect training would give: the target of E[x0|x_t, y], from the mixture's closed form."""

    def __init__(self, schedule, prediction):
        super().__init__()
        self.schedule, self.prediction, self.seen = schedule, prediction, []

    def forward(self, x_t, t, *, y=None):
        self.seen.append(t)
        x0, at = ring().denoise(x_t, t, self.schedule, y), expand_like(t, x_t)
        alpha, sigma = self.schedule(at)
        return self.prediction.target(self.schedule, x0, (x_t - alpha * x0) / sigma, at)


class Affine(nn.Module):
    """a·x_t + t, for any shape: something to differentiate and to count."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))
        self.times = []

    def forward(self, x_t, t):
        self.times.append(t)
        return self.a.to(x_t) * x_t + expand_like(t, x_t).to(x_t)


@every_schedule
@every_prediction
@pytest.mark.parametrize("y", [None, 1])
def test_it_recovers_the_exact_denoiser(schedule, prediction, y):
    model = Denoiser(Exact(schedule, prediction), schedule, prediction)
    x_t = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (torch.tensor(0.35, dtype=torch.float64), torch.linspace(0.02, 0.95, 16, dtype=torch.float64)):
        torch.testing.assert_close(model(x_t, t, y=y), ring().denoise(x_t, t, schedule, y), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("prediction", [X0, V, VELOCITY], ids=lambda p: p.name)
def test_pure_noise_gives_the_mean(schedule, prediction):
    """At α = 0 the best guess is E[x0|y], whatever x_t."""
    model = Denoiser(Exact(schedule, prediction), schedule, prediction)
    x_t = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixture = ring().of_class(1)
    mean = (mixture.weights[:, None] * mixture.means).sum(0)
    got = model(x_t, torch.tensor(1.0, dtype=torch.float64), y=1)
    torch.testing.assert_close(got, mean.expand(8, 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_an_eps_network_is_refused_at_alpha_zero(schedule):
    model = Denoiser(Affine(), schedule, EPS)
    with pytest.raises(ValueError, match=r"^t: got a time with α"):
        model(torch.zeros(2, 3), torch.tensor(1.0))
    model(torch.zeros(2, 3), torch.tensor(0.999))


@every_schedule
@every_prediction
@few
@given(st.integers(1, 4), st.lists(st.integers(1, 3), max_size=3), st.integers(0, 2**31))
def test_loss_is_the_mean_squared_error_of_each_picture(schedule, prediction, batch, rest, seed):
    g = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, batch, *rest, generator=g, dtype=torch.float64)
    t = torch.rand(batch, generator=g, dtype=torch.float64).clamp(1e-3, 0.99)
    net = Affine()
    losses = Denoiser(net, schedule, prediction).loss(x0, t, eps)
    assert losses.shape == (batch,)
    for i in range(batch):
        alpha, sigma = schedule(t[i])
        target = prediction.target(schedule, x0[i], eps[i], t[i])
        error = net.a.double() * (alpha * x0[i] + sigma * eps[i]) + t[i] - target
        assert float(losses[i].detach()) == pytest.approx(float(error.square().mean().detach()), rel=1e-9, abs=1e-12)


def test_the_least_loss_is_reached_by_the_conditional_mean():
    """The claim behind training, by Monte Carlo: moving x̂0 off E[x0|x_t] adds the move's square to the loss."""
    g = torch.Generator().manual_seed(0)
    x0, _ = ring().sample(20_000, g)
    eps, t = torch.randn(x0.shape, generator=g, dtype=x0.dtype), torch.full((len(x0),), 0.5, dtype=x0.dtype)

    def loss(move: float) -> torch.Tensor:
        class Moved(Exact):
            def forward(self, x_t, t, *, y=None):
                return super().forward(x_t, t, y=y) + move

        return Denoiser(Moved(Linear(), X0), Linear(), X0).loss(x0, t, eps)

    for move in (-0.2, 0.2):
        gain = loss(move) - loss(0.0)  # per pair: move² − 2·move·mean(x0 − x̂0), whose mean is move²
        assert abs(float(gain.mean()) - move**2) <= 4 * float(gain.std()) / len(x0) ** 0.5
        assert float(gain.mean()) > 4 * float(gain.std()) / len(x0) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes_and_batch_of_one(dtype):
    net = Affine()
    model = Denoiser(net, Linear(), VELOCITY)
    for t in (torch.tensor(0.996, dtype=torch.float64), torch.tensor([0.996])):
        x0 = model(torch.ones(1, 2, dtype=dtype), t)
        assert (x0.shape, x0.dtype) == ((1, 2), dtype)
        assert net.times[-1].shape == (1,)
        assert float(net.times[-1]) == pytest.approx(0.996, abs=1e-7)
    assert float(torch.tensor(0.999).bfloat16()) == 1.0  # why the network's times are never shorter than float32


def test_a_misspelt_condition_is_a_type_error():
    model = Denoiser(Exact(Linear(), X0), Linear(), X0)
    with pytest.raises(TypeError, match="label"):
        model(torch.zeros(2, 2, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64), label=1)


class Wrong(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x_t, t):
        return self.output(x_t)


@pytest.mark.parametrize("output", [lambda x: x[:, :1], lambda x: x.sum(), lambda x: x[None]], ids=range(3))
def test_a_network_with_the_wrong_shape_is_named(output):
    model = Denoiser(Wrong(output), Linear(), X0)
    with pytest.raises(ValueError, match=r"^net"):
        model(torch.zeros(2, 3), torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"^net"):
        model.loss(torch.zeros(2, 3), torch.tensor([0.5, 0.5]), torch.zeros(2, 3))


BAD = [
    ((torch.zeros(2, 3, dtype=torch.int64), torch.rand(2)), "x_t"),
    ((torch.tensor(0.0), torch.rand(1)), "x_t"),
    ((torch.zeros(2, 3), torch.rand(3)), "t"),
    ((torch.zeros(2, 3), torch.rand(2, 1)), "t"),
    ((torch.zeros(2, 3), torch.tensor(-0.1)), "t"),
    ((torch.zeros(2, 3), torch.tensor(1.1)), "t"),
    ((torch.zeros(2, 3), torch.tensor(math.nan)), "t"),
    ((torch.zeros(2, 3), 0.5), "t"),
]


@pytest.mark.parametrize(("arguments", "name"), BAD)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .+, expected .+"):
        Denoiser(Affine(), Linear(), X0)(*arguments)


@few
@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 5))
def test_training_data_must_be_finite(bad, where):
    x0 = torch.zeros(2, 3)
    x0.view(-1)[where] = bad
    with pytest.raises(ValueError, match=r"^x0: got 1 values that are NaN or infinite, expected finite"):
        Denoiser(Affine(), Linear(), X0).loss(x0, torch.rand(2), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Denoiser(Affine(), "linear", X0), "schedule"),
        (lambda: Denoiser(Affine(), Linear(), "x0"), "prediction"),
    ],
)
def test_bad_parts_are_named(make, name):
    with pytest.raises(ValueError, match=rf"^{name}: got str, expected"):
        make()


# --- times as maps

MAPS = {
    "full": (2, 1, 4, 6),
    "columns": (2, 1, 1, 6),
    "one": (2, 1, 1, 1),
}
maps = pytest.mark.parametrize("shape", MAPS.values(), ids=MAPS)


def picture(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_schedule
@every_prediction
@maps
def test_a_constant_map_is_one_time_per_picture(schedule, prediction, shape):
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    constant, net, weight = t[:, None, None, None].expand(shape), Affine(), velocity_weight
    for model in (Denoiser(net, schedule, prediction), Denoiser(net, schedule, prediction, weight)):
        assert float((model(picture(0), constant) - model(picture(0), t)).detach().abs().max()) <= 1e-9
        assert net.times[-2].shape == shape  # the network gets the map as it came
        losses = model.loss(picture(0), constant, picture(1))
        assert losses.shape == (2,)
        torch.testing.assert_close(losses, model.loss(picture(0), t, picture(1)), rtol=1e-9, atol=1e-9)
        assert not torch.allclose(losses, model.loss(picture(0), t.flip(0), picture(1)), rtol=1e-2)


@every_schedule
@every_prediction
def test_each_pixel_has_the_time_of_the_map(schedule, prediction):
    """What a map gives at its left half is what the left half's time gives everywhere, and so on the right."""
    model, left, right = Denoiser(Affine(), schedule, prediction), torch.tensor([0.2, 0.3]), torch.tensor([0.8, 0.6])
    t = torch.stack([left, right], 1).repeat_interleave(3, 1)[:, None, None].double()  # (2, 1, 1, 6)
    x0, eps = picture(0), picture(1)
    for part, time, other in ((slice(0, 3), left, right), (slice(3, 6), right, left)):
        found = model(x0, t)[..., part]
        assert float((found - model(x0, time.double())[..., part]).detach().abs().max()) <= 1e-9
        assert float((found - model(x0, other.double())[..., part]).detach().abs().max()) > 1e-2
    halves = [
        model.loss(x0[..., part], time.double(), eps[..., part])
        for part, time in ((slice(0, 3), left), (slice(3, 6), right))
    ]
    torch.testing.assert_close(model.loss(x0, t, eps), sum(halves) / 2, rtol=1e-9, atol=1e-9)


def test_weights_of_a_map_are_those_of_its_pixels():
    x0, eps = picture(0), picture(1)
    t = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    net = Affine()
    losses = Denoiser(net, Linear(), X0, velocity_weight).loss(x0, t, eps)
    errors = (net.a.double() * ((1 - t) * x0 + t * eps) + t - x0).square()
    weights = (1 + (1 - t) / t.clamp(min=0.1)) ** 2  # α′ = −1, σ′ = 1
    torch.testing.assert_close(losses, (weights * errors).mean((1, 2, 3)), rtol=1e-9, atol=1e-9)
    apart = weights.mean((1, 2, 3)) * errors.mean((1, 2, 3))  # the control: one weight for the whole picture
    assert not torch.allclose(losses, apart, rtol=1e-2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 1, 4, 6), (2, 1, 4), (2, 1, 2, 6), (2, 1, 4, 6, 1), (2, 4, 6)])
def test_maps_that_do_not_fit_are_named(shape):
    model, t = Denoiser(Affine(), Linear(), X0), torch.full(shape, 0.5)
    with pytest.raises(ValueError, match=r"^t: got .+, expected .+"):
        model(torch.zeros(2, 3, 4, 6), t)
    with pytest.raises(ValueError, match=r"^t: got .+, expected .+"):
        model.loss(torch.zeros(2, 3, 4, 6), t, torch.zeros(2, 3, 4, 6))


def test_one_pixel_outside_of_time_is_enough():
    t = torch.full((2, 1, 4, 6), 0.5)
    t[1, 0, 3, 2] = 1.5
    with pytest.raises(ValueError, match=r"^t: got values from 0.5 to 1.5, expected times in \[0, 1\]"):
        Denoiser(Affine(), Linear(), X0)(torch.zeros(2, 3, 4, 6), t)
