"""Rotary positions: what q·k depends on, what it does not, and how long the precision lasts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.nn.rope import Rotary, grid, interleaved
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


def public(parts: list) -> list[tuple[int, int]]:
    """HunyuanImage 3.0's positions said again, token by token in whole numbers: (2L + wh − h)/2 + i, rounded down."""
    found, first = [], 0
    for part in parts:
        if isinstance(part, int):
            found += [(p, p) for p in range(first, first + part)]
            first += part
            continue
        h, w = part
        found += [
            ((2 * first + w * h - h) // 2 + i, (2 * first + w * h - w) // 2 + j) for i in range(h) for j in range(w)
        ]
        first += h * w
    return found


PARTS = st.lists(st.one_of(st.integers(0, 7), st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=6)


@given(PARTS)
def test_interleaved_positions_are_the_public_ones(parts):
    places = interleaved(*parts)
    assert places.dtype == torch.float32
    assert places.tolist() == [list(place) for place in public(parts)]


@few
@given(st.integers(0, 9), st.integers(1, 12), st.integers(1, 12))
def test_rounding_down_costs_half_a_step_where_one_side_is_odd_and_the_other_even(first, h, w):
    exact, kept = (interleaved(first, (h, w), 3, truncated=cut)[first:] for cut in (False, True))
    middle = first + (w * h - 1) / 2
    assert exact[: h * w].mean(0).tolist() == pytest.approx([middle, middle])  # on the diagonal, whatever the shape
    lost = [0.5 * (h % 2 == 1 and w % 2 == 0), 0.5 * (h % 2 == 0 and w % 2 == 1)]
    assert (exact - kept)[: h * w].tolist() == [lost] * (h * w)
    assert (sum(lost) > 0) == (h % 2 != w % 2)
    assert torch.equal(exact[h * w :], kept[h * w :])  # text goes on as if the picture had been so many words
    assert exact[h * w :, 0].tolist() == [first + h * w + k for k in range(3)]


@pytest.mark.parametrize("width", [4, 8, 24])
def test_woven_axes_share_the_frequencies_of_one(width):
    """cos and sin of HunyuanImage 3.0's table, said again: pair k of a head turns on axis k mod 2."""
    places = interleaved(3, (2, 4), 2, (5, 2))
    turn = Rotary(places, (width // 2, width // 2), woven=True)
    angle = lambda place, k: place[k % 2] * 10_000 ** (-2 * k / width)
    angles = torch.tensor([[angle(place, k) for k in range(width // 2)] for place in places.tolist()])
    assert gap(turn.cos, angles.cos()) <= 1e-5
    assert gap(turn.sin, angles.sin()) <= 1e-5
    apart = Rotary(places, (width // 2, width // 2)) if width % 4 == 0 else turn
    assert width == 4 or gap(apart.cos, angles.cos()) > 0.1  # the control: each axis with frequencies of its own


def test_woven_words_turn_as_in_a_language_model():
    """On the diagonal two woven axes are one, to the bit; two axes side by side are not."""
    one, heads = Rotary(torch.arange(12.0)[:, None], (16,))(Q), interleaved(12)
    assert torch.equal(Rotary(heads, (8, 8), woven=True)(Q), one)
    assert gap(Rotary(heads, (8, 8))(Q), one) > 0.1


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
        (lambda: Rotary(grid(3, 4), (4, 12), woven=True), "axes"),
        (lambda: Rotary(grid(3, 4), (4, 4))(Q), "heads"),
        (lambda: Rotary(grid(3, 5), (8, 8))(Q), "heads"),
    ],
)
def test_unusable_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .+, expected .+"):
        call()
