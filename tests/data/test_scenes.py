"""Scenes are drawn as said: areas in closed form, places exact, the same picture at every size, errors named."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.prompts import World, place
from minidiff.data.scenes import (
    CELLS,
    COLOURS,
    KINDS,
    LATTICE,
    LIGHT,
    PALETTE,
    RADIUS,
    SHAPES,
    SIDES,
    SIZES,
    Scenes,
    assemble,
    empty,
    grounds,
    render,
    signed_distance,
    stamps,
)  # fmt: skip

# Areas in units of radius²: of the circle, of (2·0.88)², of base 2 and height 1.85, of two 2 × 0.68 bars less their
# overlap, and of ten triangles between neighbouring corners at radii 1.08 and 0.45, 36° apart.
AREAS = {
    "circle": math.pi, "square": 1.76**2, "triangle": 1.85, "cross": 2 * 2 * 0.68 - 0.68**2,
    "star": 10 * 0.5 * 1.08 * 0.45 * math.sin(math.pi / 5),
}  # fmt: skip


def scene(*objects, ground="plain"):
    return assemble([list(objects)], [ground])


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_covers_its_area(kind):
    at = (torch.arange(800, dtype=torch.float64) + 0.5) / 400 - 1
    y, x = torch.meshgrid(1.2 * at, 1.2 * at, indexing="ij")
    inside = (signed_distance(kind, x, y, 1.0) < 0).double().sum() * (1.2 / 400) ** 2
    assert float(inside) == pytest.approx(AREAS[kind], rel=4e-3)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_signed_distance_has_slope_one(kind):
    """|∇d| = 1 almost everywhere is what makes d a distance; a mere implicit function (d²) fails it."""
    at = torch.linspace(-1.5, 1.5, 61, dtype=torch.float64) + 0.007  # on no corner, where there is no slope
    y, x = (v.clone().requires_grad_() for v in torch.meshgrid(at + 0.001, at, indexing="ij"))
    d = signed_distance(kind, x, y, 1.0)
    gradient = torch.stack(torch.autograd.grad(d.sum(), (x, y)))
    assert float((gradient.norm(dim=0) - 1).abs().median()) < 1e-9
    squared = torch.stack(torch.autograd.grad((signed_distance(kind, x, y, 1.0) ** 2).sum(), (x, y)))
    assert float((squared.norm(dim=0) - 1).abs().median()) > 0.1


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", SIZES)
def test_anti_aliased_coverage_is_the_area(side, size):
    """Σ coverage is the circle's area in pixels; at 16 px a small circle has 4 pixels across, so 4 % is good."""
    cover = stamps(side)[SHAPES.index("circle"), SIZES.index(size), 3]
    assert float(cover.sum()) == pytest.approx(math.pi * (RADIUS[size] * side) ** 2, rel=0.04)


def test_an_object_stands_where_its_row_and_column_say():
    for row, column in ((3, 12), (8, 8), (12, 4)):
        x = (render(scene(("circle", "black", "medium", row, column)), 64)[0, 0] + 1) / 2
        dark = LIGHT - x
        at = (torch.arange(64) + 0.5) / 4 - 0.5  # in lattice cells
        assert float((dark.sum(1) * at).sum() / dark.sum()) == pytest.approx(row, abs=1e-4)
        assert float((dark.sum(0) * at).sum() / dark.sum()) == pytest.approx(column, abs=1e-4)


def test_colour_inside_and_ground_outside():
    for colour, rgb in zip(COLOURS, PALETTE):
        x = (render(scene(("square", colour, "medium", 8, 8)), 32)[0] + 1) / 2
        torch.testing.assert_close(x[:, 16, 16], rgb)
        torch.testing.assert_close(x[:, 0, 0], torch.full((3,), LIGHT))


def test_colours_are_far_apart():
    """Half the least distance is nearly six standard deviations of the noise that must be read (0.05 in [0, 1])."""
    everything = torch.cat([PALETTE, torch.full((1, 3), LIGHT)])
    assert float(torch.pdist(everything).min()) > 0.58


def test_later_objects_hide_earlier_ones():
    big, small = ("circle", "blue", "large", 8, 8), ("square", "red", "small", 8, 8)
    over, under = render(scene(big, small)), render(scene(small, big))
    torch.testing.assert_close((over[0, :, 8, 8] + 1) / 2, PALETTE[COLOURS.index("red")])
    torch.testing.assert_close((under[0, :, 8, 8] + 1) / 2, PALETTE[COLOURS.index("blue")])
    torch.testing.assert_close(under, render(scene(big)))


def test_a_pixel_is_the_mean_of_the_pixels_it_covers():
    """32 px pooled to 16 is nearly the 16-px picture: the anti-aliasing is right at both."""
    scenes = place(World().prompts(64, 0), 1)
    pooled = torch.nn.functional.avg_pool2d(render(scenes, 32), 2)
    assert float((pooled - render(scenes, 16)).abs().mean()) < 0.012
    shifted = torch.roll(render(scenes, 16), 1, 3)
    assert float((pooled - shifted).abs().mean()) > 0.08


@pytest.mark.parametrize("side", [32, 64])
def test_sprites_and_snow(side):
    x = render(scene(("cat", None, "large", 8, 8), ground="snow"), side)
    torch.testing.assert_close((x[0, :, 0, 0] + 1) / 2, grounds(side)[1, :, 0, 0])
    changed = (x[0] - (2 * grounds(side)[1] - 1)).abs().amax(0) > 0.05
    extent = changed.any(1).nonzero().flatten()
    assert 0.6 * side < int(extent.max() - extent.min()) <= 2 * RADIUS["large"] * side + 2
    assert all(float(stamps(side)[k, 2, 3].sum()) > 0.15 * (2 * RADIUS["large"] * side) ** 2 for k in range(len(KINDS)))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("cells", CELLS)
def test_a_wide_or_tall_picture_is_a_square_one_with_more_ground(side, cells):
    """To the bit: the square picture stands in it, moved by the cells that its objects are moved."""
    (rows, columns), step = cells, side // LATTICE
    scenes = place(World().prompts(40, 3), 4)
    wide, square, down, right = render(scenes, side, cells), render(scenes, side), rows - 16, columns - 16
    assert wide.shape == (40, 3, rows * step, columns * step)
    assert torch.equal(wide[:, :, :side, :side], square)
    moved = replace(scenes, row=scenes.row + down, column=scenes.column + right)
    assert torch.equal(render(moved, side, cells)[:, :, down * step :, right * step :], square)
    assert torch.equal(render(moved, side, cells), wide) == (cells == (16, 16))
    far = render(scene(("circle", "red", "small", rows - 3, columns - 3)), side, cells)
    assert bool((far[0, :, : 8 * step, : 8 * step] == 2 * LIGHT - 1).all())
    torch.testing.assert_close((far[0, :, step * (rows - 3), step * (columns - 3)] + 1) / 2, PALETTE[0])


def test_snow_lies_on_three_eighths_of_any_picture():
    snow = (render(scene(ground="snow"), 32, (16, 24))[0] + 1) / 2
    assert snow[:, 20:].min() == 1 > float(snow[0, 19, 47])
    assert torch.equal(snow[:, :, :32], grounds(32)[1])


def test_rows_of_a_batch_do_not_depend_on_each_other():
    scenes = place(World().prompts(20, 3), 4)
    assert torch.equal(render(scenes)[7:9], render(scenes[7:9]))
    assert scenes.objects(7) == scenes[7:8].objects(0)


def test_assemble_inverts_objects_and_empty_is_empty():
    scenes = place(World().prompts(50, 5), 6)
    again = assemble([scenes.objects(i) for i in range(50)])
    assert [again.objects(i) for i in range(50)] == [scenes.objects(i) for i in range(50)]
    assert torch.equal(render(again), render(scenes))
    assert torch.equal(render(empty(2)), torch.full((2, 3, 16, 16), 2 * LIGHT - 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.sampled_from(SHAPES), st.sampled_from(COLOURS), st.sampled_from(SIZES), st.data())
def test_any_scene_is_drawn_within_the_palette(n, kind, colour, size, data):
    place_ = st.integers(0, LATTICE - 1)
    x = render(scene(*[(kind, colour, size, data.draw(place_), data.draw(place_)) for _ in range(n)]))
    assert x.shape == (1, 3, 16, 16)
    assert x.dtype == torch.float32
    low, high = min(float(PALETTE.min()), LIGHT), max(float(PALETTE.max()), LIGHT)
    assert float(x.min()) >= 2 * low - 1 - 1e-6
    assert float(x.max()) <= 2 * high - 1 + 1e-6


def test_bad_input_is_named():
    good = scene(("circle", "red", "medium", 8, 8))
    with pytest.raises(ValueError, match="side: got 20, expected one of"):
        render(good, 20)
    with pytest.raises(ValueError, match=r"side: got \(16, 24\), expected one of"):
        render(good, (16, 24))
    with pytest.raises(ValueError, match=r"cells: got \(16, 40\), expected one of"):
        render(good, 16, (16, 40))
    with pytest.raises(ValueError, match=r"off the lattice, expected 0 … 15, 0 … 23"):
        render(scene(("circle", "red", "medium", 8, 24)), 16, (16, 24))
    with pytest.raises(ValueError, match="scenes: got a cat, expected shapes only at 16 px"):
        render(scene(("cat", None, "medium", 8, 8)), 16)
    with pytest.raises(ValueError, match="off the lattice"):
        render(scene(("circle", "red", "medium", 16, 8)))
    with pytest.raises(ValueError, match="rows: got 5 objects in row 0, expected at most 4"):
        scene(*[("circle", "red", "small", 3, 3)] * 5)
    with pytest.raises(ValueError, match="kind: got 'blob'"):
        signed_distance("blob", torch.zeros(1), torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match="scenes: got list, expected a Scenes"):
        render([good])  # type: ignore[arg-type]
    assert isinstance(good, Scenes)
