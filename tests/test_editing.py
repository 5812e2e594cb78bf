"""SDEdit: the closed forms of a Gaussian prior, for random and deterministic reverse processes, and the ends of t0."""

import pytest
import torch

from minidiff.editing import gaussian_sdedit, sdedit
from minidiff.randomness import seeded
from minidiff.samplers import ddim, ddpm, heun
from minidiff.schedules import Cosine, Linear

F64 = torch.float64
M, S, Y = 0.4, 0.3, -0.9


def run(schedule, step, t0: float, steps: int, seed: int, n: int = 60_000) -> torch.Tensor:
    def exact(x_t, t):
        alpha, sigma = schedule(t)
        return M + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x_t - alpha * M)

    return sdedit(exact, torch.full((n, 1), Y, dtype=F64), t0, step(schedule), schedule, steps, seeded(seed))


@pytest.mark.parametrize(("t0", "seed"), [(0.2, 3), (0.5, 4), (0.8, 5)])
@pytest.mark.parametrize(("step", "ode", "steps"), [(ddpm, False, 1000), (heun, True, 50)], ids=["ddpm", "heun"])
def test_mean_and_variance_within_two_percent(step, ode, steps, t0, seed):
    """2 % of the way from the guide to the prior's mean, and of the variance (60,000 points scatter it by 0.6 %)."""
    x = run(Linear(), step, t0, steps, seed)
    mean, variance = gaussian_sdedit(M, S, Y, t0, Linear(), ode=ode)
    assert abs(float(x.mean() - mean)) < 0.02 * abs(Y - M)
    assert float(x.var()) == pytest.approx(float(variance), rel=0.02)
    other, _ = gaussian_sdedit(M, S, Y, t0, Linear(), ode=not ode)
    assert abs(float(x.mean() - other)) > 0.05 * abs(Y - M)  # the other process ends elsewhere


def test_the_closed_form_holds_for_other_schedules():
    x = run(Cosine(), heun, 0.4, 50, 3)
    mean, variance = gaussian_sdedit(M, S, Y, 0.4, Cosine(), ode=True)
    assert abs(float(x.mean() - mean)) < 0.02 * abs(Y - M)
    assert float(x.var()) == pytest.approx(float(variance), rel=0.02)


def test_the_variance_of_few_random_steps_is_too_small():
    _, variance = gaussian_sdedit(M, S, Y, 0.5, Linear())
    assert float(run(Linear(), ddpm, 0.5, 10, 3).var()) < 0.9 * float(variance)


@pytest.mark.parametrize("ode", [False, True])
def test_the_ends_of_t0(ode):
    """Near 0 the guide comes back; at 1 the prior comes, whatever the guide was."""
    mean, variance = gaussian_sdedit(M, S, torch.tensor([Y, 2.0]), 1e-6, Linear(), ode=ode)
    torch.testing.assert_close(mean, torch.tensor([Y, 2.0], dtype=F64), atol=1e-4, rtol=0)
    assert float(variance.max()) < 1e-10
    mean, variance = gaussian_sdedit(M, S, torch.tensor([Y, 2.0]), 1.0, Linear(), ode=ode)
    torch.testing.assert_close(mean, torch.full((2,), M, dtype=F64))
    torch.testing.assert_close(variance, torch.full((2,), S**2, dtype=F64))


def test_a_seed_per_picture_and_bad_times():
    guide = torch.randn(3, 2, generator=seeded(0))
    shrink = lambda x, t: 0.5 * x
    together = sdedit(shrink, guide, 0.5, ddim(Linear()), Linear(), 5, seeded([4, 5, 6]))
    alone = sdedit(shrink, guide[1:2], 0.5, ddim(Linear()), Linear(), 5, seeded([5]))
    assert torch.equal(together[1:2], alone)
    for t0 in (0.0, 1.2, -0.1):
        with pytest.raises(ValueError, match="t0: got"):
            sdedit(shrink, guide, t0, ddim(Linear()), Linear(), 5, None)
