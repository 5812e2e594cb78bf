"""Dynamic thresholding, against diffusers: whose `sample_max_value` of 1 makes it static unless one raises it."""

import pytest
import torch
from diffusers import DDPMScheduler

from minidiff.randomness import randn, seeded
from minidiff.thresholding import dynamic, static

pytestmark = pytest.mark.parity
NOW = torch.tensor(0.5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_dynamic_is_what_diffusers_computes(scale: float) -> None:
    x0 = scale * randn((3, 3, 8, 8), seeded(0))
    theirs = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=100.0)
    assert (dynamic(lambda x_t, t: x0, 0.9)(x0, NOW) - theirs._threshold_sample(x0)).abs().max() <= 1e-6
    clips = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9)  # sample_max_value is 1
    assert (static(lambda x_t, t: x0)(x0, NOW) - clips._threshold_sample(x0)).abs().max() <= 1e-6
