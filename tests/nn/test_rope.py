"""Rotary positions: what q·k depends on, what it does not, and how long the precision lasts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.nn.rope import Rotary, grid
from minidiff.randomness import randn, seeded

few = settings(max_examples=25, deadline=None)
AXES = (4, 6, 6)
Q, K = randn((2, 3, 12, 16), seeded(0)), randn((2, 3, 12, 16), seeded(1))


def products(positions: torch.Tensor, axes=AXES, q: torch.Tensor = Q, k: torch.Tensor = K) -> torch.Tensor:
    turn = Rotary(positions, axes)
    return turn(q) @ turn(k).transpose(-1, -2)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def test_a_grid_goes_row_by_row():
    assert grid(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid(3).tolist() == [[0], [1], [2]]
    clip = grid(2, 3, 4)
    assert (clip.shape, clip.dtype) == ((24, 3), torch.float32)
    assert clip[1 * 12 + 2 * 4 + 3].tolist() == [1, 2, 3]


@few
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=3))
def test_products_depend_on_differences_alone(shift):
    positions = grid(2, 2, 3)
    by = torch.tensor(shift, dtype=torch.float32)
    assert gap(products(positions + by), products(positions)) <= 1e-4  # float32 sums of 16 numbers of about 1
    exact = products(positions + by, q=Q.double(), k=K.double())
    assert gap(exact, products(positions, q=Q.double(), k=K.double())) <= 5e-6


@pytest.mark.parametrize("axis", range(3))
def test_every_axis_counts(axis):
    positions, moved = grid(2, 2, 3), grid(2, 2, 3)
    moved[0, axis] += 1
    apart = (products(moved) - products(positions)).abs().amax(dim=(0, 1))
    assert apart[0, 1:].min() > 1e-3  # the moved token with the others
    assert apart[1:, 1:].max() == 0  # the others among themselves
    assert gap(apart[0, 0], torch.tensor(0.0)) <= 1e-5  # and with itself: no difference, no turn


def test_one_pair_by_hand():
    """Numbers 2i and 2i + 1 of an axis of width w turn by position/θ^(2i/w); the second axis starts after the first."""
    x, turn = torch.ones(1, 1, 1, 8), Rotary(torch.tensor([[3.0, 5.0]]), (4, 4), theta=100.0)
    expected = []
    for angle in (3.0, 3.0 / 100**0.5, 5.0, 5.0 / 100**0.5):
        expected += [math.cos(angle) - math.sin(angle), math.sin(angle) + math.cos(angle)]
    assert gap(turn(x).flatten(), torch.tensor(expected)) <= 1e-6
    assert gap(turn(x).flatten(), torch.tensor(expected[4:] + expected[:4])) > 0.1


def test_lengths_stay_and_the_origin_does_not_turn():
    turned = Rotary(grid(2, 2, 3) * 7 + 1, AXES)(Q)
    assert gap(turned.norm(dim=-1), Q.norm(dim=-1)) <= 1e-5
    assert gap(turned, Q) > 1
    assert torch.equal(Rotary(torch.zeros(12, 3), AXES)(Q), Q)


def test_a_batch_may_have_positions_of_its_own():
    one, two = grid(2, 2, 3), grid(3, 2, 2)
    together = Rotary(torch.stack([one, two]), AXES)(Q)
    assert torch.equal(together[0], Rotary(one, AXES)(Q)[0])
    assert torch.equal(together[1], Rotary(two, AXES)(Q)[1])
    assert gap(together[1], Rotary(one, AXES)(Q)[1]) > 0.1


def test_large_positions_keep_their_precision():
    """A million steps on, neighbours still turn by one step: angles in float32 would be wrong by up to 0.03."""
    far = torch.arange(12.0)[:, None] + 1_000_003
    assert gap(products(far, (16,)), products(far - 1_000_003, (16,))) <= 1e-4
    rank = torch.arange(0, 16, 2) / 16
    rough, exact = far * 10_000**-rank, far.double() * 10_000.0 ** -rank.double()
    assert gap(rough.cos().double(), exact.cos()) > 1e-3  # the control: the same in float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_types_are_kept(dtype):
    turn = Rotary(grid(2, 2, 3), AXES)
    turned = turn(Q.to(dtype))
    assert turned.dtype == dtype
    assert gap(turned.float(), turn(Q)) <= (0.05 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Rotary(torch.zeros(12), (16,)), "positions"),
        (lambda: Rotary(grid(3, 4), (16,)), "positions"),
        (lambda: Rotary(grid(3, 4), (5, 11)), "axes"),
        (lambda: Rotary(grid(3, 4), (16, 0)), "axes"),
        (lambda: Rotary(grid(3, 4), (4, 4))(Q), "heads"),
        (lambda: Rotary(grid(3, 5), (8, 8))(Q), "heads"),
    ],
)
def test_unusable_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .+, expected .+"):
        call()
