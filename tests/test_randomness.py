"""Noise belongs to a picture and its seed; nothing else moves it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.randomness import orders, randn, randn_like, seeded, seeded_layers

few = settings(max_examples=25, deadline=None)


@few
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=5, unique=True), st.data())
def test_a_picture_does_not_depend_on_its_batch(seeds, data):
    together = randn((len(seeds), 2, 3), seeded(seeds))
    i = data.draw(st.integers(0, len(seeds) - 1))
    assert torch.equal(randn((1, 2, 3), seeded([seeds[i]]))[0], together[i])
    order = data.draw(st.permutations(range(len(seeds))))
    assert torch.equal(randn((len(seeds), 2, 3), seeded([seeds[j] for j in order])), together[list(order)])


def test_one_generator_for_the_batch_is_the_control():
    """With a shared generator the second picture does change with its neighbours."""
    assert not torch.equal(randn((2, 3), seeded(0))[1], randn((1, 3), seeded(0))[0])


def test_one_seed_is_pytorchs_own_stream():
    assert torch.equal(randn((4, 3), seeded(7)), torch.randn(4, 3, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_dtypes_round_the_same_picture(dtype):
    assert torch.equal(randn((2, 50), seeded([1, 2]), dtype=dtype), randn((2, 50), seeded([1, 2])).to(dtype))


def test_moments_over_many_seeds():
    noise = randn((4000, 4), seeded(range(4000)))
    assert float(noise.mean().abs()) < 4 / 16000**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / 16000) ** 0.5


def test_like_takes_shape_dtype_and_device():
    x = torch.zeros(2, 5, dtype=torch.float64)
    noise = randn_like(x, seeded([3, 4]))
    assert (noise.shape, noise.dtype, noise.device) == (x.shape, x.dtype, x.device)


@few
@given(st.integers(0, 4), st.integers(1, 4))
def test_one_generator_per_picture(n, batch):
    if n == batch:
        return
    with pytest.raises(ValueError, match=rf"generator: got {n} generators, expected one per picture \({batch}\)"):
        randn((batch, 2), seeded(range(n)))


def test_no_default_generator_is_touched():
    before = torch.get_rng_state()
    randn((3, 2), seeded(0)), randn((3, 2), seeded([0, 1, 2]))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_draw_from_the_seed_inside_and_from_before_outside():
    dropout, x = torch.nn.Dropout(0.5), torch.ones(64)
    with seeded_layers(3, x.device):
        first = dropout(x)
    before = torch.get_rng_state()
    with seeded_layers(3, x.device):
        assert torch.equal(dropout(x), first)
    with seeded_layers(4, x.device):
        assert not torch.equal(dropout(x), first)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="stop"), seeded_layers(5, x.device):
        raise RuntimeError("stop")
    assert torch.equal(torch.get_rng_state(), before)


def test_orders_take_every_row_as_often_and_each_time_in_another_order():
    drawn = orders(50, 3, seeded(0)).view(3, 50)
    assert all(torch.equal(order.sort().values, torch.arange(50)) for order in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn.flatten(), orders(50, 3, seeded(0)))
    assert not torch.equal(drawn.flatten(), orders(50, 3, seeded(1)))
