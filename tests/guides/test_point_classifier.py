"""The classifier of noisy points: its interface, its start, its types."""

import pytest
import torch

from minidiff.guides.classifier import PointClassifier
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear


@pytest.fixture
def model():
    return initialised(lambda: PointClassifier(Linear(), dim=2, n_classes=3), seed=0)


def test_before_training_it_knows_nothing(model):
    x, y = randn((5, 2), seeded(0)), torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(model(x, torch.tensor(0.3)), torch.zeros(5, 3))
    loss = model.loss(x, torch.full((5,), 0.3), randn((5, 2), seeded(1)), y)
    assert loss.shape == (5,)
    assert torch.allclose(loss, torch.full((5,), 3.0).log())


def test_a_float32_classifier_gives_float64_points_a_float64_gradient(model):
    torch.nn.init.normal_(model.net.head.weight, generator=seeded(0))
    x = randn((4, 2), seeded(0), torch.float64).requires_grad_()
    t = torch.tensor(0.4, dtype=torch.float64)
    gradient = torch.autograd.grad(model.log_prob(x, t, torch.tensor(1)).sum(), x)[0]
    assert gradient.dtype == torch.float64
    assert gradient.abs().min() > 0
    step = torch.zeros_like(x)
    step[:, 0] = 1e-2
    with torch.no_grad():
        rise = (model.log_prob(x + step, t, torch.tensor(1)) - model.log_prob(x - step, t, torch.tensor(1))) / 2e-2
    assert torch.allclose(rise.double(), gradient[:, 0], atol=2e-3)


@pytest.mark.parametrize("x", [torch.zeros(2, dtype=torch.int64), torch.zeros(4), torch.zeros(4, 3)])
def test_unusable_points_are_named(model, x):
    with pytest.raises(ValueError, match="x_t"):
        model(x, torch.tensor(0.5))


def test_times_outside_are_named(model):
    with pytest.raises(ValueError, match="t: got"):
        model(torch.zeros(4, 2), torch.tensor(1.5))
