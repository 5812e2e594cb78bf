"""What `minidiff train` would do today is what made the shipped weights: runs begin as their curves say."""

from itertools import islice

import pytest

from minidiff.systems.catalogue import shipped
from minidiff.training import fit
from minidiff.weights import curve

pytestmark = pytest.mark.stress  # the first steps of some thirty runs, each with all the pictures of its first batches


OTHERWISE = {"scenes-unconditional", "scenes-captioner", "scenes-surrounding", "fashion-denoiser", "clip-scenes"}
"""These do not: their first losses are off by 1 to 3 in a thousand. Draws or defaults have changed since they were
trained (which, was not traced), so that their weights are not, to the bit, what would be trained now."""
CASES = [pytest.param(name, marks=[pytest.mark.xfail(strict=True)] if name in OTHERWISE else []) for name in shipped()]


@pytest.mark.parametrize("name", CASES)
def test_a_run_begins_as_the_shipped_one_did(name):
    """The mean loss of the steps up to the curve's first point; last bits differ from machine to machine."""
    model, (steps, losses) = shipped()[name], curve(name)

    def mean(seed: int) -> float:
        network = model.untrained(seed)
        run = fit(network, model.draw(), model.steps, seed=seed, bar=False, **model.options)
        return sum(state.loss for state in islice(run, steps[0])) / steps[0]

    assert mean(model.seed) == pytest.approx(losses[0], rel=1e-4)
    assert mean(model.seed + 1) != pytest.approx(losses[0], rel=1e-4)  # the control
