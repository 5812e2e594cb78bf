"""Photographs with faults: what was done to them is told exactly, and can be seen."""

from dataclasses import replace

import pytest
import torch

from minidiff.data import photos
from minidiff.data.photos import MARGIN, SIDE, STORED, crop, detail, fine, photographs, sheet, stored
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.randomness import randn, seeded
from minidiff.systems.imagen import WORLD

SCENES = place(WORLD.prompts(80, 0), 0)


def moved(scenes, rows, columns):
    return replace(scenes, row=scenes.row - rows, column=scenes.column - columns)


def test_a_sheet_holds_the_picture_and_ground_around_it():
    whole = sheet(SCENES)
    assert whole.shape == (80, 3, 96, 96)
    assert torch.equal(whole[..., :SIDE, :SIDE], render(SCENES, SIDE))
    there = photos.objects(whole, photos.sheet_grounds()[SCENES.ground])
    assert not bool(there[:, SIDE:].any() | there[:, :, SIDE:].any())
    assert bool(there.flatten(1).any(1).all())


def test_a_crop_is_a_slice_and_moves_objects_by_its_corner():
    whole, g = sheet(SCENES), seeded(0)
    top, left = (torch.randint(MARGIN + 1, (80,), generator=g) for _ in range(2))
    cut = crop(whole, top, left)
    for i in range(80):
        assert torch.equal(cut[i], whole[i, :, top[i] : top[i] + SIDE, left[i] : left[i] + SIDE])
    # Another way to the same: objects one cell (4 pixels) higher and two cells further left, on the plain ground.
    plain = SCENES[(SCENES.ground == 0) & (SCENES.column.min(1).values >= 0)]
    plain = plain[((plain.kind < 0) | ((plain.row >= 1) & (plain.column >= 2))).all(1)]
    plain = replace(plain, row=plain.row.clamp(min=1), column=plain.column.clamp(min=2))  # of empty slots
    four, eight = torch.full((len(plain),), 4), torch.full((len(plain),), 8)
    assert torch.equal(crop(sheet(plain), four, eight), render(moved(plain, 1, 2), SIDE))
    assert not torch.equal(crop(sheet(plain), eight, four), render(moved(plain, 1, 2), SIDE))  # the control


def test_small_files_lose_fine_detail_and_whole_ones_nothing():
    x = render(SCENES, SIDE)
    left = [float(detail(stored(x, torch.full((80,), side))).mean()) for side in (*STORED, SIDE)]
    assert torch.equal(stored(x, torch.full((80,), SIDE)), x)
    assert left[0] < 0.25 * left[-1]
    assert left[STORED.index(32)] < 0.5 * left[-1]
    assert left[STORED.index(16)] < left[STORED.index(24)] < left[STORED.index(48)] < left[-1]
    mixed = stored(x, torch.tensor([16, SIDE]).repeat(40))
    assert torch.equal(mixed[1::2], x[1::2])
    assert torch.equal(mixed[::2], stored(x[::2], torch.full((40,), 16)))


def test_the_upper_band_is_that_of_waves():
    """A wave of frequency f along one axis keeps sin²(πf) of its amplitude."""
    at = torch.arange(64, dtype=torch.float64)
    for cycles in (0, 4, 16, 32):
        wave = torch.cos(2 * torch.pi * cycles * at / 64).expand(1, 1, 64, 64)
        kept = torch.sin(torch.tensor(torch.pi * cycles / 64)) ** 2
        assert (fine(wave)[..., 1:-1] - kept * wave[..., 1:-1]).abs().max() < 1e-6
    assert detail(torch.ones(2, 3, 8, 8)).tolist() == [0.0, 0.0]


def test_photographs_say_what_was_done_to_them():
    """Every picture is made again from the numbers beside it; shares of faults are as stated."""
    scenes = place(WORLD.prompts(600, 1), 1)
    found = photographs(scenes, seeded(6))
    height, width, top, left, *target = found["sizes"].long().unbind(1)
    shorter = torch.minimum(height, width)
    again = crop(stored(sheet(scenes), shorter), top, left)
    assert torch.equal(found["x0"], again)
    wrong = crop(stored(sheet(scenes), shorter), left, top)  # the control: the corner's numbers swapped
    assert (wrong - again).abs().amax((1, 2, 3)).gt(0.1).float().mean() > 0.5
    assert {int(t) for each in target for t in each} == {SIDE}
    assert set(shorter.tolist()) == {*STORED, SIDE}
    assert (shorter < SIDE).float().mean().item() == pytest.approx(photos.SMALL, abs=0.06)
    upright, wide = height > width, width > height
    assert torch.equal(torch.maximum(height, width)[upright | wide] * 2, 3 * shorter[upright | wide])
    assert upright.float().mean().item() == pytest.approx(1 / 3, abs=0.06)
    assert wide.float().mean().item() == pytest.approx(1 / 3, abs=0.06)
    assert not bool(top[~upright].any() | left[~wide].any())
    assert set(top[upright].tolist()) == set(range(MARGIN + 1))


def test_raters_like_what_is_sharp_and_whole():
    found = photographs(place(WORLD.prompts(600, 1), 1), seeded(6))
    height, width, top, left = found["sizes"][:, :4].unbind(1)
    sharp, whole = torch.minimum(height, width) == SIDE, (top + left) == 0
    score = found["score"]
    assert score.min() >= 0
    assert torch.allclose(score[sharp & whole], torch.tensor(10.0))
    assert score[sharp & (top + left > 24)].mean() < 7
    assert score[~sharp & whole].mean() < 7
    a, b = (photographs(SCENES, seeded(s)) for s in (1, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["x0"], photographs(SCENES, seeded(2))["x0"])


def test_bad_arguments_are_named():
    x, zero = randn((2, 3, 96, 96), seeded(0)), torch.zeros(2, dtype=torch.int64)
    for bad in (zero - 1, zero + 33, zero[:1], zero.float()):
        with pytest.raises(ValueError, match=r"^top: got"):
            crop(x, bad, zero)
    for bad in (zero, zero + 65, zero + 7, zero.float()):
        with pytest.raises(ValueError, match=r"^shorter: got"):
            stored(x, bad)
    with pytest.raises(ValueError, match=r"^x: got"):
        fine(x[0])
