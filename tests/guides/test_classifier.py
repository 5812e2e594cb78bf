"""Noise-aware classifiers: probabilities, the loss's definition, the gradient that guides."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidiff.guides.classifier import NoisyClassifier, PointClassifier
from minidiff.schedules import Linear

CASES = {
    "pictures": (lambda: NoisyClassifier(Linear(), channels=1, n_classes=4, widths=(8, 16)), (1, 8, 8)),
    "points": (lambda: PointClassifier(Linear(), dim=2, n_classes=4), (2,)),
}


@pytest.mark.parametrize("name", CASES)
def test_probabilities_sum_to_one_and_log_prob_picks_one(name):
    build, shape = CASES[name]
    model, x, t = build(), torch.randn(5, *shape), torch.tensor(0.4)
    each = torch.stack([model.log_prob(x, t, torch.tensor(y)) for y in range(4)], dim=1)
    assert torch.allclose(each.exp().sum(1), torch.ones(5), atol=1e-5)
    y = torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(model.log_prob(x, t, y), each[torch.arange(5), y], atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_loss_is_cross_entropy_on_the_noised_pictures(name):
    build, shape = CASES[name]
    model, x0, eps, t = build(), torch.randn(5, *shape), torch.randn(5, *shape), torch.rand(5)
    y = torch.tensor([0, 1, 2, 3, 0])
    at = t.reshape(5, *[1] * len(shape))
    expected = F.cross_entropy(model((1 - at) * x0 + at * eps, t), y, reduction="none")
    assert torch.allclose(model.loss(x0, t, eps, y), expected, atol=1e-6)
    with pytest.raises(ValueError, match="y: got"):
        model.loss(x0, t, eps, y[:2])


@pytest.mark.parametrize("name", CASES)
def test_labels_outside_the_classes_are_named(name):
    build, shape = CASES[name]
    model, x, t = build(), torch.randn(3, *shape), torch.tensor(0.4)
    for low, high in ((-1, 2), (0, 4)):
        y = torch.tensor([low, high, 1])
        for call in (lambda y=y: model.log_prob(x, t, y), lambda y=y: model.loss(x, torch.rand(3), x, y)):
            with pytest.raises(ValueError, match=rf"^y: got values from {low} to {high}, expected labels 0 … 3 of 4"):
                call()
    for bad in (1, None, torch.tensor(1.0), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match=r"^y: got .+, expected labels .*, int64, a scalar or \(3,\)"):
            model.log_prob(x, t, bad)
    with pytest.raises(ValueError, match=r"^y: got int 1"):
        model.loss(x, torch.rand(3), x, 1)


@pytest.mark.parametrize("name", CASES)
def test_the_time_is_seen(name):
    build, shape = CASES[name]
    model = build()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x = torch.randn(3, *shape)
    assert not torch.allclose(model(x, torch.tensor(0.1)), model(x, torch.tensor(0.9)), atol=1e-3)
    with pytest.raises(ValueError, match="t: got"):
        model(x, torch.tensor(1.5))
    with pytest.raises(ValueError, match="x_t: got"):
        model(x[0], torch.tensor(0.5))


def test_an_untrained_classifier_of_points_is_undecided():
    model = PointClassifier(Linear(), dim=2, n_classes=4)
    out = model.log_prob(torch.randn(6, 2), torch.tensor(0.3), torch.tensor(1))
    assert torch.allclose(out, torch.full((6,), -math.log(4)), atol=1e-6)
