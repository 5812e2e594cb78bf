"""Judges of framing are right where the framing is known, also through the autoencoder that a generator draws with."""

from dataclasses import replace

import pytest
import torch

from minidiff.data.photos import MARGIN, SIDE, crop, objects, sheet, sheet_grounds, stored
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.judges.framing import corner, cut_off, explained, flaws
from minidiff.randomness import randn, seeded
from minidiff.systems import latent
from minidiff.systems.imagen import WORLD

PLAIN = replace(WORLD, families=("one", "relation", "pair", "riding"))


@pytest.fixture(scope="module")
def through():
    autoencoder = latent.AUTOENCODER.load()
    with torch.no_grad():
        return lambda x: autoencoder.decode(autoencoder.latents(x), clamp=True)


def cut_scenes(world, n, seed):
    """n pictures and their corners: upright and wide photographs in turn."""
    scenes, at = place(world.prompts(n, seed), seed), torch.randint(MARGIN + 1, (n,), generator=seeded(seed))
    even = torch.arange(n) % 2 == 0
    told = torch.stack([torch.where(even, at, 0), torch.where(even, 0, at)], 1)
    return scenes, crop(sheet(scenes), *told.unbind(1)), told


def test_the_corner_is_read_off_the_ground(through):
    _, x, told = cut_scenes(replace(WORLD, families=("snow",)), 60, 1)
    assert torch.equal(corner(x), told)
    drawn = corner(through(x))
    for rows, axis in ((slice(0, None, 2), 0), (slice(1, None, 2), 1)):
        assert explained(told[rows, axis], drawn[rows, axis]) >= 0.98
        assert explained(told[rows, axis].roll(1), drawn[rows, axis]) < 0.2  # the control


def test_objects_at_the_border_are_cut_off(through):
    scenes, x, told = cut_scenes(PLAIN, 120, 2)
    uncut = render(scenes, SIDE)
    assert not bool(cut_off(uncut).any())
    assert not bool(cut_off(through(uncut)).any())
    # What is cut off, from the sheet: an object on both sides of the border.
    there = objects(sheet(scenes), sheet_grounds()[scenes.ground])
    rows = [m[t - 1].logical_and(m[t]).sum() if t else m.new_zeros(()) for m, t in zip(there, told[:, 0].tolist())]
    columns = [m[:, t - 1].logical_and(m[:, t]).sum() if t else 0 for m, t in zip(there, told[:, 1].tolist())]
    crossed = torch.tensor([int(a) + int(b) for a, b in zip(rows, columns)])
    clear = (crossed == 0) | (crossed >= 6)  # between them, a pixel decides
    assert clear.float().mean() > 0.85
    assert (crossed[clear] > 0).float().mean() > 0.25
    assert (cut_off(x) == (crossed > 0))[clear].float().mean() >= 0.97
    assert (cut_off(through(x)) == (crossed > 0))[clear].float().mean() >= 0.93


def test_flaws_are_zero_where_there_are_none_and_grow_with_noise_and_blur(through):
    x = render(place(WORLD.prompts(24, 3), 3), SIDE)
    assert flaws(x).nanmean() < 1e-3
    drawn = flaws(through(x)).nanmean()
    assert 5e-3 < drawn < 0.04
    assert flaws(through(x) + 0.05 * randn(x.shape, seeded(0))).nanmean() > 1.5 * drawn
    assert flaws(stored(x, torch.full((24,), 32))).nanmean() > 1.2 * drawn
    assert bool(flaws(randn((2, 3, SIDE, SIDE), seeded(0))).isnan().all())
    assert bool(flaws(torch.full((1, 3, SIDE, SIDE), 0.9)).isnan().all())  # an empty picture has no flaw, and no merit


def test_r2_is_of_the_line_itself():
    wanted = torch.arange(5)
    assert explained(wanted, wanted) == 1.0
    assert explained(wanted, torch.full((5,), 2)) == 0.0
    assert explained(wanted, 2 * wanted) < 0.0  # though a fitted line would explain all of it
    with pytest.raises(ValueError, match=r"^found: got"):
        explained(wanted, wanted[:3])
    for judge in (corner, cut_off, flaws):
        with pytest.raises(ValueError, match=r"^pictures: got"):
            judge(torch.zeros(2, 3, 32, 32))
