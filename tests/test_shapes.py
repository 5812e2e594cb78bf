"""Reshapes: times along the batch axis, patches on any number of axes and back, states side by side."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.shapes import beside, expand_like, pack, patch_sides, patchify, unpack, unpatchify

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


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 1, 4, 1), (2, 1, 1, 1)])
def test_a_map_of_times_stays_what_it_is(shape):
    t, x = torch.rand(shape), torch.ones(2, 3, 4, 6)
    assert torch.equal(expand_like(t, x), t)
    scaled = expand_like(t, x) * x
    assert torch.equal(scaled, t.expand(2, 1, 4, 6).expand(2, 3, 4, 6))
    assert torch.equal(expand_like(t[:, 0, 0, 0], x) * x, t[:, :, :1, :1].expand(2, 3, 4, 6))


# --- patches

sizes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4)  # patches and side, per axis


def counted(*shape: int) -> torch.Tensor:
    """All entries different: whatever is misplaced is found."""
    return torch.arange(float(prod(shape))).reshape(shape)


@few
@given(sizes, st.integers(1, 3), st.integers(1, 3))
def test_patches_go_and_come_back_on_any_number_of_axes(axes, batch, channels):
    size, sides = [n * p for n, p in axes], [p for _, p in axes]
    x = counted(batch, channels, *size)
    tokens = patchify(x, sides)
    assert tokens.shape == (batch, prod(n for n, _ in axes), prod(sides) * channels)
    assert torch.equal(unpatchify(tokens, sides, size), x)
    if len(set(sides)) == 1:
        assert torch.equal(patchify(x, sides[0]), tokens)
        assert torch.equal(unpatchify(tokens, sides[0], size), x)


def test_patches_of_pictures_go_row_by_row():
    x = counted(2, 3, 4, 8)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 8, 12)
    assert torch.equal(tokens[1, 5].reshape(2, 2, 3).permute(2, 0, 1), x[1, :, 2:4, 2:4])
    assert not torch.equal(tokens[1, 3].reshape(2, 2, 3).permute(2, 0, 1), x[1, :, 2:4, 2:4])  # column by column


def test_patches_of_clips_go_frame_by_frame():
    x = counted(2, 3, 4, 6, 9)
    tokens = patchify(x, (2, 2, 3))
    assert tokens.shape == (2, 2 * 3 * 3, 12 * 3)
    place = 1 * 9 + 2 * 3 + 1  # second pair of frames, third row, second column
    assert torch.equal(tokens[1, place].reshape(2, 2, 3, 3).permute(3, 0, 1, 2), x[1, :, 2:4, 4:6, 3:6])


def test_sound_has_one_axis():
    x = counted(2, 3, 8)
    assert torch.equal(patchify(x, 4)[0, 1].reshape(4, 3).T, x[0, :, 4:])


X = torch.zeros(2, 3, 4, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patchify(X, 3), r"^x: got .*\(2, 3, 4, 8\), expected .*divisible by \(3, 3\)"),
        (lambda: patchify(X, (2, 3)), r"^x: got .*divisible by \(2, 3\)"),
        (lambda: patchify(X[0, 0], 2), r"^x: got"),
        (lambda: patchify(X, (2, 2, 2)), r"^patch: got .*each of 2 axes"),
        (lambda: patchify(X, 0), r"^patch: got"),
        (lambda: patchify(X, 2.0), r"^patch: got float 2.0, expected"),
        (lambda: patch_sides((2, 1.5), 2), r"^patch: got"),
        (lambda: unpatchify(torch.zeros(2, 8, 12), 2, (4, 4)), r"^tokens: got .*\(B, 4, 4·C\) for \(4, 4\)"),
        (lambda: unpatchify(torch.zeros(2, 8, 11), 2, (4, 8)), r"^tokens: got"),
        (lambda: unpatchify(torch.zeros(2, 8, 12), 2, (5, 8)), r"^tokens: got"),
        (lambda: unpatchify(torch.zeros(8, 12), 2, (4, 8)), r"^tokens: got"),
        (lambda: unpatchify(torch.zeros(2, 8, 12), (2, 2, 2), (4, 8)), r"^patch: got"),
    ],
)
def test_sizes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- side by side


@few
@given(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=4), st.integers(1, 3))
def test_packed_states_come_apart_again(shapes, batch):
    parts = [counted(batch, *shape) + 100 * i for i, shape in enumerate(shapes)]
    state, found = pack(parts)
    assert state.shape == (batch, sum(prod(shape) for shape in shapes))
    assert [tuple(shape) for shape in found] == [tuple(shape) for shape in shapes]
    back = unpack(state, found)
    assert len(back) == len(parts)
    assert all(torch.equal(a, b) for a, b in zip(back, parts))


def test_a_state_holds_one_part_after_the_other():
    a, b = counted(2, 2, 2), -counted(2, 3)
    state, _ = pack([a, b])
    assert state.tolist() == [[0, 1, 2, 3, 0, -1, -2], [4, 5, 6, 7, -3, -4, -5]]
    with pytest.raises(ValueError, match="parts: got"):
        pack([a, b[:1]])
    for bad in (state[:, :-1], state[0], state[None]):
        with pytest.raises(ValueError, match=r"state: got .* expected shape \(B, 7\)"):
            unpack(bad, [(2, 2), (3,)])


def test_channels_stand_beside_channels():
    x, other = counted(2, 3, 4, 4), -counted(2, 1, 4, 4).double()
    both = beside(x, other, 1)
    assert both.dtype == x.dtype
    assert torch.equal(both[:, :3], x)
    assert torch.equal(both[:, 3:], other.float())
    assert beside(x, None, 0) is x
    for concat, channels in ((None, 1), (other, 0), (other, 2), (other[:1], 1), (other[..., :2], 1), (other[:, 0], 1)):
        with pytest.raises(ValueError, match="concat: got"):
            beside(x, concat, channels)
