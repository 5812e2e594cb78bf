"""expand_like: times along the batch axis, whatever the other sizes are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.shapes import expand_like

few = settings(max_examples=25, deadline=None)


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_every_picture_gets_its_own_time(shape):
    t = torch.arange(1.0, shape[0] + 1)
    x = torch.ones(shape)
    scaled = expand_like(t, x) * x
    assert scaled.shape == x.shape
    for i in range(shape[0]):
        assert torch.equal(scaled[i], torch.full(shape[1:], i + 1.0))


def test_a_batch_as_large_as_the_picture_is_wide_is_no_trap():
    t, x = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, 1, 3, 3)
    assert torch.equal((expand_like(t, x) * x)[:, 0, 0, 0], t)
    # The trap itself: without expand_like the times run along the last axis.
    assert torch.equal((t * x)[0, 0, 0], t)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1, 4, 4), (2, 3, 4, 5, 6)])
def test_a_scalar_stays_a_scalar(shape):
    assert expand_like(torch.tensor(0.5), torch.ones(shape)).ndim == 0
