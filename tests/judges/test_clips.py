"""The judge of clips: what was placed is what is read; what is not a motion is not read as one; controls fall."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.clip_pairs import minimal_pairs
from minidiff.data.clips import ClipPrompt, Clips, ClipWorld, Mover, place, render
from minidiff.data.motions import DIRECTIONS, MOTIONS, SPEEDS
from minidiff.data.scenes import CELLS, KINDS, SIZES
from minidiff.judges.clips import looks_right, matches, sightings, tracks
from minidiff.judges.tracks import believed, linked
from minidiff.randomness import randn, seeded


def alone(motion, look=("circle", "red")):
    return ClipPrompt((Mover(*look, motion),))


def both(together, first=("circle", "red"), second=("square", "blue")):
    return ClipPrompt((Mover(*first, None), Mover(*second, None)), together)


@pytest.fixture(scope="module")
def exam():
    """300 held-out clips of all families, and what is seen in them."""
    prompts = ClipWorld().prompts(300, 0, "test")
    clips = place(prompts, 1)
    return prompts, clips, sightings(render(clips))


def test_what_was_placed_is_what_is_read(exam):
    prompts, clips, seen = exam
    told = tracks(seen)
    right = matches(prompts, told)
    assert float(right.double().mean()) >= 0.99
    for i in right.nonzero().flatten().tolist():
        for track in told[i].tracks:
            k = [m.look for m in prompts[i].movers].index(track.look)
            slot = 1 - k if prompts[i].together == "passing in front of" else k
            placed = torch.stack([clips.row[i, :, slot], clips.column[i, :, slot]], -1)
            # To the cell, also where it is hidden, but for one frame in eight that shows something half hidden.
            assert int((track.places != placed).any(1).sum()) <= 1
            assert track.size == SIZES[int(clips.size[i, slot])]


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "cells", "side"), [(16, (16, 16), 16), (8, (16, 24), 16), (8, (24, 16), 32)])
def test_other_lengths_and_sizes_are_read_as_well(frames, cells, side):
    world = ClipWorld(kinds=ClipWorld().kinds if side == 16 else KINDS, cells=cells)
    prompts = world.prompts(40, 2)
    assert int(matches(prompts, render(place(prompts, 3, frames, cells), side)).sum()) >= 39


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_is_told_from_every_other(motion):
    prompts = [alone(motion)] * 12
    told = tracks(render(place(prompts, 0)))
    assert [each.tracks[0].motion for each in told] == [motion] * 12
    others = [alone(other) for other in MOTIONS if other != motion]
    assert not any(bool(matches([other] * 12, told).any()) for other in others)


@pytest.mark.parametrize("contrast", ["direction", "speed", "who", "depth"])
def test_minimal_pairs_are_told_apart_from_pixels(contrast):
    first, second = zip(*minimal_pairs(contrast, 25, 3))
    for mine, other in ((first, second), (second, first)):
        told = tracks(render(place(mine, 4)))
        assert int(matches(mine, told).sum()) >= 24
        assert int(matches(other, told).sum()) == 0


def test_speed_and_velocity_are_numbers():
    for way, step in DIRECTIONS.items():
        for word, speed in SPEEDS.items():
            told = tracks(render(place([alone(f"moving {way} {word}")] * 4, 0)))
            for each in told:
                row, column = each.tracks[0].velocity
                assert (row, column) == pytest.approx((speed * step[0], speed * step[1]), abs=0.05)
                assert each.tracks[0].speed == pytest.approx(speed, abs=0.08)  # slow: 3 or 4 cells in 7 beats
    (still, circling) = tracks(render(place([alone("still"), alone("circling clockwise")], 0)))
    assert still.tracks[0].speed == 0
    assert circling.tracks[0].speed == pytest.approx(5**0.5)


def test_meetings_are_found_where_they_are():
    told = tracks(render(place([both("meeting")] * 10 + [both("passing behind")] * 10, 0)))
    for each in told:
        ((i, j, frame),) = each.meetings
        assert (i, j) == (0, 1)
        assert 2 <= frame <= 5
    apart = ClipPrompt((Mover("circle", "red", "moving up slowly"), Mover("square", "blue", "still")))
    assert not any(each.meetings for each in tracks(render(place([apart] * 20, 0))))


# ---------------------------------------------------------------- controls


def test_frames_in_another_order_are_no_motion(exam):
    prompts, _, seen = exam
    moving = torch.tensor([any(m.motion != "still" for m in p.movers) for p in prompts])
    order = torch.rand(len(seen), 8, generator=seeded(0)).argsort(1)
    right = matches(prompts, seen.reordered(order))
    assert float(right[moving].double().mean()) < 0.04
    assert float(right[~moving].double().mean()) > 0.9  # what stands still does so in any order
    backwards = torch.arange(8).flip(0).expand(len(seen), 8)
    one_way = torch.tensor([any(str(m.motion).startswith("moving") for m in p.movers) for p in prompts])
    assert not bool(matches(prompts, seen.reordered(backwards))[one_way].any())


def test_reversed_time_is_the_opposite_motion():
    seen = sightings(render(place([alone("moving left quickly"), alone("circling clockwise")], 0)))
    told = tracks(seen.reordered(torch.arange(8).flip(0).expand(2, 8)))
    assert [each.tracks[0].motion for each in told] == ["moving right quickly", "circling anticlockwise"]


def test_another_clips_caption_is_right_by_chance_only(exam):
    prompts, _, seen = exam
    told = tracks(seen)
    same = sum(a == b for a, b in zip(prompts, prompts[1:] + prompts[:1]))
    assert int(matches(prompts[1:] + prompts[:1], told).sum()) <= same + 3


def test_noise_one_frame_and_empty_clips_are_unreadable():
    noise = randn((3, 3, 8, 16, 16), seeded(0))
    assert not any(each.readable for each in tracks(noise))
    (empty,) = tracks(torch.full((1, 3, 8, 16, 16), 0.9))
    assert empty.tracks == []
    assert not empty.readable
    prompts = ClipWorld().prompts(20, 0)
    single = tracks(render(place(prompts, 1, frames=1)))
    assert not any(each.readable for each in single)
    lone = [each for each, p in zip(single, prompts) if len(p.movers) == 1]
    assert all(len(each.tracks) == 1 and each.tracks[0].motion is None for each in lone)


def test_a_little_noise_does_not_matter_and_much_does(exam):
    prompts, _, seen = exam
    x, few = seen.clips[:60], prompts[:60]
    noisy = lambda s: float(matches(few, x + s * randn(x.shape, seeded(0))).double().mean())
    assert noisy(0.05) > 0.95
    assert noisy(1.0) < 0.05


def moved(path, look=(0, 0)):
    """A clip of one medium object on any path (T, 2)."""
    path = torch.tensor(path)
    one = lambda v: torch.tensor([[v, -1]])
    places = path[None, :, None].expand(1, -1, 2, -1)
    return render(Clips(one(look[0]), one(look[1]), one(1), places[..., 0], places[..., 1]))


def test_what_moves_as_nothing_here_does_is_not_guessed():
    row = [[8, c] for c in (3, 4, 5, 6, 7, 8, 9, 10)]
    assert tracks(moved(row))[0].tracks[0].motion == "moving right quickly"
    between = [[8, c] for c in (3, 4, 4, 5, 6, 7, 7, 8)]  # three quarters of a cell a beat
    (told,) = tracks(moved(between))
    assert told.tracks[0].motion is None
    assert not told.readable
    assert told.tracks[0].velocity[1] == pytest.approx(0.75, abs=0.05)
    corner = [[8, 3], [8, 5], [8, 7], [8, 9], [6, 9], [4, 9], [3, 9], [3, 9]]
    assert not tracks(moved(corner))[0].readable
    slip = [[8, c] for c in (3, 4, 5, 7, 7, 8, 9, 10)]  # one frame is a cell off
    assert tracks(moved(slip))[0].tracks[0].motion == "moving right quickly"


def test_a_changed_look_is_a_lost_identity():
    prompt = alone("moving right quickly")
    row = [[8, c] for c in range(3, 11)]
    red, blue = moved(row), moved(row, (0, 2))
    for changed, kept in ((1, True), (3, False)):
        x = red.clone()
        x[:, :, 2 : 2 + changed] = blue[:, :, 2 : 2 + changed]
        (told,) = tracks(x)
        assert told.tracks[0].kept == pytest.approx(1 - changed / 8)
        assert told.tracks[0].motion == "moving right quickly"
        assert looks_right(prompt, told) == kept
        assert bool(matches([prompt], [told])) == kept


def test_what_flashes_up_is_forgiven_once_and_not_twice():
    row = [[8, 3]] * 8
    clean, other = moved(row), moved([[8, 12]] * 8, (1, 2))
    for flashes, fine in ((1, True), (2, False), (8, False)):
        x = clean.clone()
        x[:, :, 3 : 3 + flashes, :, 8:] = other[:, :, 3 : 3 + flashes, :, 8:]
        assert bool(matches([alone("still")], x)) == fine


def test_an_object_that_is_gone_for_long_is_not_there():
    x = moved([[8, c] for c in range(3, 11)])
    gone = x.clone()
    gone[:, :, 5:] = 0.9
    assert bool(matches([alone("moving right quickly")], x))
    assert not bool(matches([alone("moving right quickly")], gone))


# ---------------------------------------------------------------- parts


def test_linking_follows_places_and_looks_break_ties():
    red, blue = ("circle", "red", "medium"), ("circle", "blue", "medium")
    frames = [[(*red, 8, 4 + t), (*blue, 8, 11 - t)] for t in range(8)]  # they cross
    lines = linked(frames)
    assert [[thing[:3] for thing in line.values()] for line in lines] == [[red] * 8, [blue] * 8]
    jump = [[(*red, 3, 3)], [(*red, 12, 12)]]
    assert len(linked(jump)) == 2
    assert linked([[], [], []]) == []


def test_only_frames_that_show_everything_apart_are_believed():
    a, b = ("circle", "red", "medium", 8, 3), ("square", "blue", "medium", 8, 10)
    near, hidden = ("square", "blue", "medium", 8, 5), [("star", "blue", "medium", 8, 4)]
    frames = [[a, b], [a, b], [a, near], hidden, [a, b]]
    assert believed(frames) == [[a, b], [a, b], [], [], [a, b]]
    assert believed([[a]] * 4) == [[a]] * 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=3, max_size=6),
    st.sampled_from((torch.float32, torch.float64, torch.int64, torch.uint8)),
)
def test_other_tensors_are_refused_by_name(shape, dtype):
    x = torch.zeros(shape, dtype=dtype)
    good = len(shape) == 5 and shape[1] == 3 and shape[2] in (1, 8, 16) and tuple(shape[3:]) in CELLS
    if good and dtype.is_floating_point:
        assert len(tracks(x)) == shape[0]
    else:
        with pytest.raises(ValueError, match=r"^(clips|pictures): got .*, expected "):
            tracks(x)


def test_bad_input_is_named():
    x = render(place([alone("still")], 0))
    with pytest.raises(ValueError, match="clips: got 1 of them, expected 2, as prompts"):
        matches([alone("still")] * 2, x)
    with pytest.raises(ValueError, match="clips: got 1 values that are NaN"):
        tracks(x.index_put((torch.tensor(0),) * 5, torch.tensor(torch.nan)))
    with pytest.raises(ValueError, match="order: got int64 tensor of shape"):
        sightings(x).reordered(torch.arange(8))
    assert tracks(x[:0]) == []
    assert matches([], x[:0]).shape == (0,)
