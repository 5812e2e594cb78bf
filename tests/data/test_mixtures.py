"""Mixtures: every closed form against numerical integration, automatic differentiation or plain counting."""

import pytest
import torch

from minidiff.data.mixtures import Mixture, gaussian, isotropic, ring, three_modes
from minidiff.schedules import DDPM, Cosine, Karras, Linear
from minidiff.show.plots import lattice

SCHEDULES = [Linear(), Cosine(), DDPM(), Karras(sigma_max=5.0)]
TIMES = [0.05, 0.3, 0.7, 0.95]
F64 = torch.float64
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def at(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=F64)


def tilted() -> Mixture:
    """Two-dimensional, with correlated, unequal components that share labels."""
    means = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.2]], dtype=F64)
    roots = torch.tensor([[[0.6, 0.0], [0.3, 0.2]], [[0.3, 0.0], [-0.2, 0.5]], [[0.2, 0], [0, 0.4]]], dtype=F64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=F64)
    return Mixture(means, roots @ roots.transpose(1, 2), weights, torch.tensor([0, 1, 0]))


@every_schedule
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("y", [None, 0, 1])
def test_density_and_denoiser_against_numerical_integration(schedule, t, y):
    """p_t(x) = ∫ p(x0) N(x; α·x0, σ²) dx0 and E[x0|x], on a fine grid, from the definition alone."""
    world, (alpha, sigma) = three_modes(), schedule(at(t))
    grid = torch.linspace(-4, 4, 8001, dtype=F64)
    prior = torch.zeros_like(grid)
    rows = [k for k in range(3) if y is None or int(world.labels[k]) == y]
    for k in rows:
        mean, std = world.means[k, 0], world.covariances[k, 0, 0].sqrt()
        prior += world.weights[k] * torch.exp(torch.distributions.Normal(mean, std).log_prob(grid))
    prior /= world.weights[rows].sum()
    x = torch.linspace(-1.5, 1.5, 7, dtype=F64)
    joint = prior * torch.exp(torch.distributions.Normal(alpha * grid, sigma).log_prob(x[:, None]))  # (7, grid)
    density = torch.trapezoid(joint, grid)
    mean = torch.trapezoid(joint * grid, grid) / density
    assert torch.allclose(world.log_prob(x[:, None], at(t), schedule, y).exp(), density, rtol=1e-6)
    assert torch.allclose(world.denoise(x[:, None], at(t), schedule, y)[:, 0], mean, atol=1e-6)


@every_schedule
@pytest.mark.parametrize("y", [None, 0, 1])
def test_score_is_the_gradient_and_tweedie_holds(schedule, y):
    world = tilted()
    x = torch.randn(20, 2, dtype=F64).requires_grad_()
    t = torch.rand(20, dtype=F64) * 0.98 + 0.01
    (gradient,) = torch.autograd.grad(world.log_prob(x, t, schedule, y).sum(), x)
    score = world.score(x, t, schedule, y)
    assert torch.allclose(score, gradient, rtol=1e-9, atol=1e-9)
    alpha, sigma = (v[:, None] for v in schedule(t))
    assert torch.allclose((alpha * world.denoise(x, t, schedule, y) - x) / sigma**2, score, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(world.score(x, t, schedule, 1 - y if y is not None else 0), score, atol=1e-3)


@every_schedule
def test_labels_follow_bayes_and_sum_to_one(schedule):
    world, x, t = tilted(), torch.randn(20, 2, dtype=F64), at(0.4)
    posterior = world.posterior_label(x, t, schedule)
    assert torch.allclose(posterior.sum(1), torch.ones(20, dtype=F64))
    joint = torch.stack([world.log_prob(x, t, schedule, y).exp() * p for y, p in ((0, 0.8), (1, 0.2))], dim=1)
    assert torch.allclose(posterior, joint / joint.sum(1, keepdim=True), atol=1e-12)
    for y in (0, 1):
        assert torch.allclose(world.log_prob_label(x, t, schedule, y).exp(), posterior[:, y], atol=1e-12)


def test_samples_have_the_mixture_s_moments_and_labels():
    world = tilted()
    x, y = world.sample(200_000, torch.Generator().manual_seed(0))
    assert float((y == 0).double().mean()) == pytest.approx(0.8, abs=0.004)
    mean = (world.weights[:, None] * world.means).sum(0)
    assert torch.allclose(x.mean(0), mean, atol=0.01)
    second = world.covariances + world.means[:, :, None] * world.means[:, None, :]
    expected = (world.weights[:, None, None] * second).sum(0) - mean[:, None] * mean
    assert torch.allclose(torch.cov(x.T), expected, atol=0.015)
    assert torch.allclose(torch.cov(x[y == 1].T), world.covariances[1], atol=0.01)


def test_mixed_labels_in_one_batch_and_minus_one_for_none():
    world, schedule, t = tilted(), Linear(), at(0.5)
    x, y = torch.randn(3, 2, dtype=F64), torch.tensor([0, 1, -1])
    together = world.denoise(x, t, schedule, y)
    alone = [world.denoise(x[i : i + 1], t, schedule, each) for i, each in enumerate((0, 1, None))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)


def test_the_ends_of_time():
    world, x = tilted(), torch.randn(6, 2, dtype=F64)
    assert torch.allclose(world.denoise(x, at(0.0), Linear()), x, atol=1e-9)  # no noise: what you see is it
    mean = (world.weights[:, None] * world.means).sum(0)
    assert torch.allclose(world.denoise(x, at(1.0), Linear()), mean.expand(6, 2), atol=1e-12)  # only noise: the mean
    prior = world.posterior_label(x, at(1.0), Linear())
    assert torch.allclose(prior, torch.tensor([0.8, 0.2], dtype=F64).expand(6, 2), atol=1e-12)


def test_of_class_and_presets():
    world = tilted()
    x, t = torch.randn(5, 2, dtype=F64), at(0.3)
    assert torch.allclose(world.of_class(0).log_prob(x, t, Linear()), world.log_prob(x, t, Linear(), 0))
    assert ring(n=6, n_classes=3).n_classes == 3
    assert float(ring(radius=2.0).means.norm(dim=1).std()) < 1e-12
    one = gaussian(torch.zeros(2, dtype=F64), 4 * torch.eye(2, dtype=F64))
    assert torch.allclose(one.score(x, at(0.0), Linear()), -x / 4)
    assert torch.equal(isotropic(torch.zeros(2, 3), 0.5).covariances[1], 0.25 * torch.eye(3))


def test_float32_and_batches_of_one():
    world, t = tilted(), torch.tensor([0.3])
    x = torch.randn(1, 2)
    exact = world.denoise(x.double(), t.double(), Linear(), 0)
    assert world.denoise(x, t, Linear(), 0).dtype == torch.float32
    assert torch.allclose(world.denoise(x, t, Linear(), 0).double(), exact, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(3, dtype=F64)}, r"means: got float64 tensor of shape \(3,\)"),
        ({"means": torch.full((3, 2), torch.nan, dtype=F64)}, "means: got 6 values that are NaN"),
        ({"covariances": torch.zeros(3, 2, dtype=F64)}, "covariances: got"),
        ({"covariances": -torch.eye(2, dtype=F64).expand(3, 2, 2)}, "covariances: got a negative eigenvalue"),
        ({"covariances": torch.full((3, 2, 2), torch.nan, dtype=F64)}, "covariances: got 12 values that are NaN"),
        (
            {"covariances": torch.tensor([[1.0, 0.0], [0.0, -1e-4]], dtype=F64).expand(3, 2, 2)},
            "covariances: got a neg",
        ),
        (
            {"covariances": torch.tensor([[1.0, 0.9], [0.0, 1.0]], dtype=F64).expand(3, 2, 2)},
            "covariances: got a matrix",
        ),
        ({"means": torch.zeros(3, 2, dtype=torch.float16)}, "means: got float16 tensor"),
        ({"weights": torch.tensor([0.5, 0.5, 0.5], dtype=F64)}, r"weights: got \[0.5, 0.5, 0.5\]"),
        ({"weights": torch.tensor([1.5, -0.5, 0.0], dtype=F64)}, "weights: got"),
        ({"labels": torch.tensor([0, 2, 2])}, r"labels: got \[0, 2\]"),
        ({"labels": torch.tensor([0.0, 1.0, 1.0])}, "labels: got float32"),
    ],
)
def test_impossible_mixtures_are_named(change, message):
    world = tilted()
    parts = {k: getattr(world, k) for k in ("means", "covariances", "weights", "labels")}
    with pytest.raises(ValueError, match=message):
        Mixture(**{**parts, **change})


def test_bad_arguments_are_named():
    world, x, t = tilted(), torch.zeros(4, 2, dtype=F64), at(0.5)
    with pytest.raises(ValueError, match=r"x_t: got float64 tensor of shape \(4, 3\), expected shape \(B, 2\)"):
        world.score(torch.zeros(4, 3, dtype=F64), t, Linear())
    with pytest.raises(ValueError, match=r"t: got values from 1\.5"):
        world.score(x, at(1.5), Linear())
    with pytest.raises(ValueError, match="y: got int 2"):
        world.score(x, t, Linear(), 2)
    with pytest.raises(ValueError, match=r"y: got int64 tensor of shape \(3,\)"):
        world.score(x, t, Linear(), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"y: got .*, expected labels 0 … 1"):
        world.log_prob_label(x, t, Linear(), torch.tensor([-1, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"y: got 7, expected a label 0 … 1 of 2 classes"):
        world.of_class(7)
    for bad in (2, torch.tensor([0, 2, 0, 1]), torch.tensor([0.0, 1.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match=r"y: got .*, expected labels 0 … 1 of 2 classes"):
            world.log_prob_label(x, t, Linear(), bad)
    silent = Mixture(world.means, world.covariances, torch.tensor([0.4, 0.0, 0.6], dtype=F64), world.labels)
    with pytest.raises(ValueError, match="y: got int 1, expected labels whose components do not all weigh 0"):
        silent.denoise(x, t, Linear(), 1)
    with pytest.raises(ValueError, match=r"std: got float64 tensor of shape \(2,\)"):
        isotropic(world.means, torch.ones(2, dtype=F64))


# ---------------------------------------------------------------- covariances measured from data


def measured(dim: int, n: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """n points with a standard deviation of 1 along the first axis to 100 along the last."""
    points = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return points * torch.logspace(0, 2, dim, dtype=dtype)


@pytest.mark.parametrize(("dim", "n"), [(5, 3), (40, 20), (100, 80)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_covariances_of_few_points_are_taken(dim, n, dtype):
    """Their least eigenvalues are 0 up to rounding, on either side; also where float64 holds what float32 rounded."""
    negative = 0
    for seed in range(8):
        points = measured(dim, n, seed, dtype)
        for exact in (points, points.to(F64)):
            cov = torch.cov(points.T).to(exact)
            negative += float(torch.linalg.eigvalsh(cov).min()) < 0
            world = gaussian(exact.mean(0), cov)
            for t in (0.0, 1e-9, 0.5, 1.0):
                assert bool(torch.isfinite(world.log_prob(exact, at(t), Linear())).all())
                assert bool(torch.isfinite(world.score(exact, at(t), Linear())).all())
            gap = (world.denoise(exact, at(0), Linear()) - exact).abs().max() / exact.abs().max()
            assert float(gap) < 2e-4  # at t = 0 a point of the data is its own x0
    assert negative > 0  # the control: these are what used to be refused


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_at_time_zero_a_flat_gaussian_projects(dtype):
    """lim σ → 0 of E[x0|x_t] is the nearest point of the plane that the data fill, however the plane lies."""
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=dtype))[0]
    cov = (turn * torch.tensor([3.0, 0.5, 0.01, 0.0, 0.0, 0.0], dtype=dtype)) @ turn.T
    mean, x = torch.linspace(-1, 1, 6, dtype=dtype), torch.randn(4, 6, dtype=dtype)
    plane = turn[:, :3] @ turn[:, :3].T
    want = mean + (x - mean) @ plane
    for t in (0.0, 1e-12):
        got = gaussian(mean, (cov + cov.T) / 2).denoise(x, at(t), Linear())
        assert float((got - want).abs().max()) < 500 * torch.finfo(dtype).eps + 1e-11
    assert float((want - x).abs().max()) > 0.1


def test_at_time_zero_the_nearest_of_two_points_wins():
    world = isotropic(torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=F64), 0.0)
    x = torch.tensor([[0.4, 3.0], [0.6, -3.0]], dtype=F64)
    for dtype in (F64, torch.float32):
        assert torch.equal(world.denoise(x.to(dtype), at(0), Linear()), world.means.to(dtype))
        assert torch.equal(world.posterior_label(x.to(dtype), at(0), Linear()), torch.eye(2, dtype=dtype))


def test_an_observation_of_a_flat_gaussian():
    """A singular C, a second row of A that repeats the first, and next to no noise: still a distribution, and right."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=F64))[0]
    world = gaussian(torch.zeros(3, dtype=F64), (turn * torch.tensor([1.0, 0.25, 0.0], dtype=F64)) @ turn.T)
    seen = turn[:, :1].T
    posterior = world.observed(torch.cat([seen, seen]), torch.tensor([0.5, 0.5], dtype=F64), 1e-9)
    torch.testing.assert_close(posterior.means[0], 0.5 * turn[:, 0], rtol=0, atol=1e-6)
    want = 0.25 * turn[:, 1:2] @ turn[:, 1:2].T
    torch.testing.assert_close(posterior.covariances[0], want, rtol=0, atol=1e-6)
    x = torch.randn(4, 3, dtype=F64)
    for t in (0.0, 0.5):
        args = (at(t), Linear(), torch.cat([seen, seen]), torch.tensor([0.5, 0.5], dtype=F64), 1e-2)
        assert bool(torch.isfinite(world.log_prob_observation(x, *args)).all())


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_comes_out(schedule, dtype):
    world, x = tilted(), torch.randn(8, 2, dtype=F64)
    for t in (0.0, 0.5, 1.0):
        got, want = (world.denoise(x.to(dtype).to(kind), at(t), schedule) for kind in (dtype, F64))
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=0, atol=8 * torch.finfo(dtype).eps)


# ---------------------------------------------------------------- observations y = A·x0 + noise·n

A = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=F64)[:1]
SEEN = torch.tensor([0.7], dtype=F64)


def test_the_posterior_of_an_observation_against_numerical_integration():
    """p(x0|y) ∝ p(x0)·N(y; A·x0, noise²), on a grid: density up to 1e-9, weights of the labels up to 1e-9."""
    world, noise = tilted(), 0.3
    posterior = world.observed(A, SEEN, noise)
    xy, clean = lattice(5.0, 401), (lambda t: (torch.ones_like(t), torch.zeros_like(t)))
    cell = (10 / 400) ** 2
    joint = [
        (world.log_prob(xy, at(0.0), clean, y) - (SEEN - xy @ A.T)[:, 0] ** 2 / (2 * noise**2)).exp() * p
        for y, p in ((0, 0.8), (1, 0.2))
    ]
    total = float(sum(joint).sum() * cell)
    want = sum(joint) / total
    assert float((posterior.log_prob(xy, at(0.0), clean).exp() - want).abs().max()) < 1e-9
    assert float(posterior.log_prior_label(xy).exp()[1]) == pytest.approx(
        float(joint[1].sum() * cell) / total, rel=1e-9
    )
    other = world.observed(A, SEEN + 0.5, noise)
    assert float((other.log_prob(xy, at(0.0), clean).exp() - want).abs().max()) > 0.1


@every_schedule
@pytest.mark.parametrize("rows", [1, 2])
def test_the_noisy_forward_model_obeys_bayes_rule(schedule, rows):
    """log p(y|x_t) − log p_t(x_t|y) + log p_t(x_t) is one constant, log p(y), at every x_t and t."""
    world, noise = tilted(), 0.4
    A2 = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=F64)[:rows]
    y = torch.tensor([0.7, -0.2], dtype=F64)[:rows]
    posterior = world.observed(A2, y, noise)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    evidence = []
    for t in (at(0.05), at(0.6), torch.linspace(0.05, 0.95, 20, dtype=F64)):
        noisy = world.log_prob_observation(x, t, schedule, A2, y, noise)
        evidence.append(noisy - posterior.log_prob(x, t, schedule) + world.log_prob(x, t, schedule))
    evidence = torch.cat(evidence)
    assert float(evidence.max() - evidence.min()) < 1e-9
    wrong = world.log_prob_observation(x, at(0.6), schedule, A2, y, 2 * noise)
    assert float((wrong - posterior.log_prob(x, at(0.6), schedule) + world.log_prob(x, at(0.6), schedule)).std()) > 1e-3


def test_observed_twice_is_observed_together():
    world, noise = tilted(), 0.3
    both = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=F64)
    y = torch.tensor([0.7, -0.2], dtype=F64)
    once, twice = (
        world.observed(both, y, noise),
        world.observed(both[:1], y[:1], noise).observed(both[1:], y[1:], noise),
    )
    for name in ("means", "covariances", "weights", "labels"):
        torch.testing.assert_close(getattr(once, name), getattr(twice, name))


@pytest.mark.parametrize(
    ("change", "argument"),
    [({"A": torch.ones(1, 3)}, "A"), ({"y": torch.ones(2)}, "y"), ({"noise": 0.0}, "noise"), ({"A": None}, "A")],
)
def test_bad_observations_are_named(change, argument):
    with pytest.raises(ValueError, match=f"^{argument}: got"):
        tilted().observed(**{"A": A, "y": SEEN, "noise": 0.3, **change})
