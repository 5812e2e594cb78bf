"""Every complaint is a ValueError that names the argument, what came and what was expected."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import validate

few = settings(max_examples=25, deadline=None)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
floats = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
others = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64]


def complaint(call) -> str:
    with pytest.raises(ValueError, match=r"^.+: got .+, expected .+$") as raised:
        call()
    return str(raised.value)


@few
@given(names, st.integers(), st.text(min_size=1, max_size=9).filter(lambda s: s.isprintable()))
def test_require_names_argument_got_and_expected(argument, got, expected):
    validate.require(True, argument, got, expected)
    assert complaint(lambda: validate.require(False, argument, got, expected)) == (
        f"{argument}: got {got}, expected {expected}"
    )


@pytest.mark.parametrize("dtype", floats)
def test_floating_tensors_pass(dtype):
    validate.require_floating("x", torch.zeros(2, dtype=dtype), finite=True, min_dim=1)


@pytest.mark.parametrize("value", [torch.zeros(2, dtype=d) for d in others] + [1.0, None, [0.5], "x"], ids=str)
def test_anything_else_is_named(value):
    message = complaint(lambda: validate.require_floating("x_t", value))
    assert message.startswith("x_t: got ")
    assert "floating-point tensor" in message
    wanted = str(value.dtype).removeprefix("torch.") if isinstance(value, torch.Tensor) else type(value).__name__
    assert wanted in message


@few
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_bad_numbers_are_counted(shape, bad, data):
    x = torch.zeros(shape)
    k = data.draw(st.integers(1, x.numel()))
    x.view(-1)[:k] = bad
    assert f"got {k} values" in complaint(lambda: validate.require_floating("x", x, finite=True))
    validate.require_floating("x", x)  # not asked for


@few
@given(st.integers(0, 4), st.integers(0, 4))
def test_min_dim(have, want):
    x = torch.zeros([1] * have)
    if have >= want:
        validate.require_floating("x", x, min_dim=want)
    else:
        assert f"at least {want} dimension" in complaint(lambda: validate.require_floating("x", x, min_dim=want))


@pytest.mark.parametrize(
    "value", [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(6), None], ids=str
)
def test_require_like_shows_both(value):
    message = complaint(lambda: validate.require_like("eps", value, torch.zeros(2, 3), "x0"))
    assert message.startswith("eps: got ")
    assert "the same as x0: float32 tensor of shape (2, 3)" in message


@few
@given(st.floats(0, 1), st.sampled_from(floats), st.integers(1, 3))
def test_times_inside_pass(t, dtype, batch):
    validate.require_time(torch.full((batch,), t, dtype=dtype), batch=batch)
    validate.require_time(torch.tensor(t, dtype=dtype), batch=batch)


@few
@given(
    st.one_of(st.floats(max_value=-1e-6), st.floats(min_value=1 + 1e-6), st.just(math.nan)),
    st.integers(1, 3),
    st.data(),
)
def test_one_time_outside_is_enough(t, batch, data):
    times = torch.full((batch,), 0.5, dtype=torch.float64)
    times[data.draw(st.integers(0, batch - 1))] = t
    message = complaint(lambda: validate.require_time(times, batch=batch, argument="when"))
    assert message.startswith("when: got values from")
    assert "[0, 1]" in message


@few
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
def test_times_have_one_entry_per_picture(n, batch, extra):
    t = torch.full((n,) + (1,) * extra, 0.5)
    if n == batch and extra == 0:
        validate.require_time(t, batch=batch)
    else:
        assert f"shape ({batch},)" in complaint(lambda: validate.require_time(t, batch=batch))


@few
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data())
def test_a_map_of_times_broadcasts_over_its_picture(batch, channels, size, data):
    x = torch.zeros(batch, channels, *size)
    shape = [n if data.draw(st.booleans()) else 1 for n in size]
    t = torch.full((batch, 1, *shape), 0.5)
    validate.require_time(t, batch=batch, map_of=x)
    validate.require_time(t[..., 0].flatten()[:1].expand(batch), batch=batch, map_of=x)
    assert f"shape ({batch},)" in complaint(lambda: validate.require_time(t, batch=batch))  # no map was asked for
    wrong = [torch.full((batch + 1, 1, *shape), 0.5), torch.full((batch, 2, *shape), 0.5), t[None], t[..., 0]]
    wrong.append(torch.full((batch, 1, *(n + 1 for n in size)), 0.5))
    for bad in wrong:
        if tuple(bad.shape) != (batch,):
            assert f"shape ({batch},)" in complaint(lambda bad=bad: validate.require_time(bad, batch=batch, map_of=x))
    assert "[0, 1]" in complaint(lambda: validate.require_time(t + 1, batch=batch, map_of=x))


def test_points_have_no_map():
    """(B, 1) times of points (B, D) would be (B,) spelt another way, and broadcast to (B, B) somewhere below."""
    assert "shape (2,)" in complaint(lambda: validate.require_time(torch.rand(2, 1), 2, map_of=torch.zeros(2, 3)))
    assert "shape (2,)" in complaint(lambda: validate.require_time(torch.rand(2, 1), 2, map_of=torch.zeros(2, 1)))


@pytest.mark.parametrize("t", [0.5, 1, None, torch.tensor(1)], ids=str)
def test_times_are_floating_point_tensors(t):
    assert "floating-point tensor" in complaint(lambda: validate.require_time(t))


def test_shapes_with_a_free_axis():
    validate.require_shape("x", torch.zeros(5, 3), (None, 3))
    assert "shape (any, 4)" in complaint(lambda: validate.require_shape("x", torch.zeros(5, 3), (None, 4)))
    assert "shape (any)" in complaint(lambda: validate.require_shape("x", torch.zeros(5, 3), (None,)))
