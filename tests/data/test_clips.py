"""Clips: paths that go where their names say, pairs that never touch, splits that never mix, frames that fit."""

from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.clip_captions import caption, captions, vocabulary
from minidiff.data.clip_pairs import CONTRASTS, minimal_pairs
from minidiff.data.clips import (
    HELD_OUT,
    ClipPrompt,
    Clips,
    ClipWorld,
    Mover,
    place,
    render,
)
from minidiff.data.motions import (
    BOUNCING,
    CIRCLING,
    DIRECTIONS,
    MOTIONS,
    MOVING,
    PASSING,
    RETURNING,
    SPEEDS,
    TOGETHER,
    direction,
    meetings,
    pairs,
    passes,
    paths,
    unhurried,
)
from minidiff.data.scenes import CELLS, COLOURS, KINDS, LIGHT, SHAPES, margin
from minidiff.data.scenes import render as render_scenes
from minidiff.encoders.tokenizer import CLIP_LENGTH, UNKNOWN, WordTokenizer, split
from minidiff.randomness import seeded

RED, BLUE = Mover("circle", "red"), Mover("square", "blue")


def alone(motion, look=("circle", "red")):
    return ClipPrompt((Mover(*look, motion),))


def both(together, first=("circle", "red"), second=("square", "blue")):
    return ClipPrompt((Mover(*first, None), Mover(*second, None)), together)


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("motion", MOVING)
def test_what_moves_goes_straight_its_way_at_its_speed(motion):
    table, way = paths(motion), torch.tensor(DIRECTIONS[str(direction(motion))])
    gone = table - table[:, :1]  # (N, 16, 2)
    assert bool((gone * (1 - way.abs()) == 0).all())
    wanted = SPEEDS[motion.split()[-1]] * torch.arange(16) / 2
    assert float(((gone * way).sum(-1) - wanted).abs().max()) < 1
    assert bool(((gone * way).sum(-1).diff(dim=1) >= 0).all())


@pytest.mark.parametrize("motion", CIRCLING)
def test_what_circles_comes_back_after_8_beats_and_turns_its_way(motion):
    at = paths(motion)[:, ::2].double()
    centre = at.mean(1, keepdim=True)
    away = at - centre
    assert bool((away.norm(dim=-1).sub(3).abs() < 0.25).all())
    nxt = away.roll(-1, 1)  # the ninth beat is the first again
    turn = away[..., 1] * nxt[..., 0] - away[..., 0] * nxt[..., 1]  # x·y′ − y·x′; y points down, so > 0 is clockwise
    assert bool((turn.sign() == (1 if motion == "circling clockwise" else -1)).all())
    torch.testing.assert_close(away.diff(dim=1).norm(dim=-1), torch.full((len(at), 7), 5**0.5, dtype=torch.float64))


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("motion", BOUNCING)
def test_what_bounces_turns_at_a_wall_in_sight_of_both_ways(motion, cells):
    axis = 1 if motion == "bouncing from side to side" else 0
    at = paths(motion, cells=cells)[:, ::2, axis].double()
    step = at.diff(dim=1)
    assert bool((step.abs() <= 2).all())
    turned = step[:, :-1].sign() * step[:, 1:].sign() < 0
    flat = step == 0  # two frames at equal distances on both sides of the turn
    assert bool((turned.any(1) | flat.any(1)).all())
    low, high = margin("medium"), cells[axis] - 1 - margin("medium")
    assert bool(((at.amin(1) <= low + 1) | (at.amax(1) >= high - 1)).all())
    assert bool((((step > 0).sum(1) >= 2) & ((step < 0).sum(1) >= 2)).all())


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("size", ["small", "medium"])
def test_no_path_is_cut_off_and_none_is_listed_twice(size, cells):
    limit = torch.tensor(cells) - 1 - margin(size)
    for motion in (*MOTIONS, *PASSING, *RETURNING):
        table = paths(motion, size, cells)
        if len(table):
            assert int(table.min()) >= margin(size)
            assert bool((table <= limit).all())
            assert len(table.flatten(1).unique(dim=0)) == len(table)
            eights = len(table[:, ::2].flatten(1).unique(dim=0))
            assert eights == len(table), "two paths that 8 frames cannot tell apart"


@pytest.mark.parametrize("frames", [8, 16])
def test_different_motions_are_far_apart(frames):
    """So that a path within half a cell of one motion is within half a cell of no other."""
    names = (*MOTIONS, *PASSING, *RETURNING)
    tables = [paths(m, "medium" if m in MOTIONS else "small")[:, :: 16 // frames].double() for m in names]
    nearest = min(
        float(sum(torch.cdist(a[:, t], b[:, t]) for t in range(frames)).min()) / frames
        for i, a in enumerate(tables)
        for b in tables[:i]
    )
    assert nearest > 0.9


def test_pairs_keep_clear_and_every_pair_that_does_is_listed():
    a, b = paths("still"), paths("moving right quickly")
    found = pairs("still", "moving right quickly").long()
    away = (a[found[:, 0]] - b[found[:, 1]]).abs()
    assert bool(((away.amax(-1) >= 5) | (away.amin(-1) >= 4)).all())
    clear = sum(
        all(max(abs(r - y), abs(c - x)) >= 5 or min(abs(r - y), abs(c - x)) >= 4 for (r, c), (y, x) in zip(p, q))
        for p in a.tolist()
        for q in b.tolist()
    )
    assert len(found) == clear
    assert pairs("moving right quickly", "still").flip(1).tolist() == found.tolist()


@pytest.mark.parametrize("cells", CELLS)
def test_who_passes_is_clear_first_and_last_and_covered_in_between(cells):
    goes, stands = passes(cells).unbind(1)
    away = (goes - stands).abs().amax(-1)
    assert bool((stands == stands[:, :1]).all())
    assert int(away[:, 0].min()) >= 5
    assert int(away[:, 14].min()) >= 5
    assert int(away[:, ::2].amin(1).max()) <= 1


@pytest.mark.parametrize("cells", CELLS)
def test_who_meets_comes_near_and_goes_back(cells):
    a, b = meetings(cells).unbind(1)
    away = (a - b).abs().amax(-1)
    assert set(away.amin(1).tolist()) == {4, 5}
    assert set((away[:, 0] - away.amin(1)).tolist()) == {6}
    assert torch.equal(away[:, 0], away[:, -1])
    assert bool((away[:, :6].diff(dim=1) <= 0).all())
    assert bool((away[:, 8:].diff(dim=1) >= 0).all())


# ---------------------------------------------------------------- prompts


def test_the_same_seed_gives_the_same_prompts_and_paths():
    a = ClipWorld().prompts(40, 7)
    assert a == ClipWorld().prompts(40, 7)
    assert a != ClipWorld().prompts(40, 8)
    first, second = (place(a, seeded(3)) for _ in range(2))
    assert torch.equal(first.row, second.row)
    assert not torch.equal(first.row, place(a, 4).row)


def test_what_is_held_out_is_never_drawn_in_training():
    world = ClipWorld()
    train, test = world.prompts(4000, 0, "train"), world.prompts(800, 1, "test")
    contents, acts = {p.content for p in train}, {act for p in train for act in p.acts}
    assert all(p.content not in contents or not set(p.acts) <= acts for p in test)
    by = {split_: world.prompts(300, 2, split_) for split_ in ("content", "motion")}
    assert not {p.content for p in by["content"]} & contents
    assert all(set(p.acts) - acts for p in by["motion"])
    # What is new is the combination: each look, and each motion, is known.
    known = {(m.kind, m.colour) for p in train for m in p.movers}
    assert {(m.kind, m.colour) for p in test for m in p.movers} <= known
    assert {unhurried(m.motion) for p in test for m in p.movers if m.motion} <= {
        unhurried(m.motion) for p in train for m in p.movers if m.motion
    }
    # Control: without the split the same draw does mix.
    anything = world.prompts(1000, 3)
    assert {p.content for p in anything} & {p.content for p in by["content"]}


def test_one_content_and_one_motion_of_a_look_in_ten_is_held_out():
    looks = [(kind, colour) for kind in SHAPES for colour in COLOURS]
    pairs_ = [ClipPrompt((Mover(*a), Mover(*b))) for i, a in enumerate(looks) for b in looks[:i]]
    assert sum("content" in p.unseen for p in pairs_) / len(pairs_) == pytest.approx(1 / HELD_OUT, abs=0.03)
    alones = [alone(motion, look) for look in looks for motion in MOTIONS]
    assert sum("motion" in p.unseen for p in alones) / len(alones) == pytest.approx(1 / HELD_OUT, abs=0.03)
    # Whatever the speed: else a model could have seen it, only slower.
    for look in looks:
        for way in DIRECTIONS:
            assert len({"motion" in alone(f"moving {way} {s}", look).unseen for s in SPEEDS}) == 1


def test_every_family_is_drawn_equally_often():
    n = Counter(p.together or len(p.movers) for p in ClipWorld().prompts(4000, 0))
    passing = n["passing behind"] + n["passing in front of"]
    assert all(number / 4000 == pytest.approx(0.25, abs=0.03) for number in (n[1], n[2], passing, n["meeting"]))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_minimal_pairs_differ_in_one_thing_and_both_can_be_drawn(contrast):
    for a, b in minimal_pairs(contrast, 40, 0):
        assert a != b
        assert a.content == b.content
        words, others = (Counter(caption(p).split()) for p in (a, b))
        changed = (words - others).total(), (others - words).total()
        assert changed == {"who": (0, 0), "depth": (1, 3)}.get(contrast, (1, 1)) or changed == (3, 1)
        place([a, b], 0)


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("side", [16, 32])
def test_shapes_and_range(side, cells):
    world = ClipWorld(kinds=SHAPES if side == 16 else KINDS, cells=cells)
    for frames in (1, 8, 16):
        x = render(place(world.prompts(6, 0), 1, frames, cells), side)
        assert x.shape == (6, 3, frames, cells[0] * side // 16, cells[1] * side // 16)
        assert x.dtype == torch.float32
        assert float(x.min()) >= -1
        assert float(x.max()) <= 1


def test_every_second_frame_of_16_is_the_clip_in_8_and_one_frame_is_one_of_the_8():
    prompts = ClipWorld().prompts(60, 0)
    one, eight, sixteen = (render(place(prompts, 1, frames)) for frames in (1, 8, 16))
    assert torch.equal(sixteen[:, :, ::2], eight)
    assert not torch.equal(sixteen[:, :, 1::2], eight)
    which = (one == eight).all(1).flatten(2).all(2)  # (B, 8)
    assert bool(which.any(1).all())
    still = torch.tensor([all(m.motion == "still" for m in p.movers) for p in prompts])
    assert len(set(which[~still].int().argmax(1).tolist())) >= 6


def test_a_frame_is_the_picture_of_its_scene():
    clips = place(ClipWorld().prompts(20, 3), 4)
    x = render(clips)
    pictures = render_scenes(clips.scenes())
    assert torch.equal(x.transpose(1, 2).flatten(0, 1), pictures)
    assert clips.frames == 8


def test_objects_are_where_they_were_placed():
    """The centre of mass of a lone object's darkness is its lattice place, in every frame, on every lattice."""
    for cells in CELLS:
        clips = place([alone(m, ("square", "black")) for m in MOTIONS], 0, cells=cells)
        dark = LIGHT - (render(clips)[:, 0] + 1) / 2  # (B, T, H, W)
        for axis, places in ((2, clips.row), (3, clips.column)):
            at = torch.arange(dark.shape[axis]).float()
            mass = dark.sum(5 - axis)
            torch.testing.assert_close((mass * at).sum(2) / mass.sum(2), places[..., 0].float(), atol=1e-3, rtol=0)


def test_behind_is_hidden_and_in_front_is_not():
    for together, hidden in (("passing behind", True), ("passing in front of", False)):
        x = (render(place([both(together)] * 30, 0)) + 1) / 2
        red = ((x[:, 0] > 0.85) & (x[:, 1] < 0.15)).flatten(2).sum(2)  # (B, T) pixels of the circle
        assert bool((red[:, [0, -1]] > 0).all())
        assert bool(((red.amin(1) == 0) == hidden).all())


def test_a_clip_does_not_depend_on_its_batch_but_on_its_seed():
    prompts = ClipWorld().prompts(20, 5)
    x = render(place(prompts, 6))
    assert torch.equal(render(place(prompts[:7], 6)), x[:7])
    assert not torch.equal(render(place(prompts[:7], 7)), x[:7])


def test_a_wide_scene_holds_the_square_one():
    """The middle 16 of 24 columns of a wide picture are the square picture, objects and all."""
    clips = place(ClipWorld().prompts(12, 0), 1)
    wide = Clips(clips.kind, clips.colour, clips.size, clips.row, clips.column + 4, (16, 24))
    x = render(wide)
    assert torch.equal(x[..., 4:20], render(clips))
    assert torch.equal(x[..., :3], torch.full_like(x[..., :3], 2 * LIGHT - 1))


# ---------------------------------------------------------------- words


def test_captions_say_what_is_there():
    assert caption(alone("moving right slowly")) == "a red circle moving right slowly"
    two = ClipPrompt((RED, Mover("star", "blue", "circling clockwise")))
    assert caption(two) == "a red circle still and a blue star circling clockwise"
    assert caption(two, "picture") == "a red circle and a blue star"
    assert caption(both("meeting")) == "a red circle meeting a blue square and parting"
    assert caption(both("passing behind")) == "a red circle passing behind a blue square"
    assert caption(alone("still", ("astronaut", None))) == "an astronaut still"
    assert two.content == two.prompt.content
    assert caption(two, "long").endswith(" then a blue star circling clockwise.")


def test_long_captions_name_the_last_thing_after_token_77_and_short_ones_are_short():
    prompts = ClipWorld().prompts(300, 0)
    for text, short in zip(captions(prompts, "long"), captions(prompts)):
        assert len(split(text)) > CLIP_LENGTH
        assert len(split(short)) <= 16
    for prompt in prompts[:100]:
        text = caption(prompt, "long")
        last = prompt.movers[-1]
        assert f"{last.colour} {last.kind}" in " ".join(split(text)[CLIP_LENGTH:])


def test_different_prompts_have_different_captions():
    prompts = list(dict.fromkeys(ClipWorld().prompts(2000, 0)))
    assert len(set(captions(prompts))) == len(prompts)
    told = {}
    for prompt in prompts:
        for i in range(4):
            assert told.setdefault(caption(prompt, "paraphrase", Random(i)), key(prompt)) == key(prompt)


def key(prompt):
    """What a paraphrase tells: two movers side by side, or two that meet, have no order."""
    unordered = prompt.together in (None, "meeting")
    return prompt.together, frozenset(prompt.movers) if unordered else prompt.movers


def test_the_vocabulary_holds_every_word():
    tokenizer = WordTokenizer(vocabulary(), 160)
    prompts = ClipWorld(kinds=KINDS).prompts(1500, 0)
    for style in ("short", "paraphrase", "long"):
        ids = tokenizer.encode(captions(prompts, style, seed=1))
        assert not bool((ids == UNKNOWN).any()), style
    assert bool((tokenizer.encode(["a zebra"]) == UNKNOWN).any())


# ---------------------------------------------------------------- bad input

anything = st.one_of(st.none(), st.integers(-3, 40), st.text(max_size=6), st.floats(), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.sampled_from(KINDS), anything),
    st.one_of(st.sampled_from(COLOURS), anything),
    st.one_of(st.sampled_from(MOTIONS), anything),
)
def test_a_mover_is_right_or_refused_by_name(kind, colour, motion):
    good = kind in KINDS and (colour in COLOURS if kind in SHAPES else colour is None) and motion in (None, *MOTIONS)
    if good:
        assert Mover(kind, colour, motion).look == (kind, colour)
    else:
        with pytest.raises(ValueError, match=r"(?s)^(kind|colour|motion): got .*, expected "):
            Mover(kind, colour, motion)


movers = st.builds(Mover, st.sampled_from(SHAPES), st.sampled_from(COLOURS), st.sampled_from((None, *MOTIONS[:2])))


@settings(max_examples=60, deadline=None)
@given(st.lists(movers, max_size=3), st.one_of(st.sampled_from(TOGETHER), anything))
def test_a_prompt_can_be_drawn_or_is_refused_by_name(movers, together):
    n, looks, motions = len(movers), {m.look for m in movers}, {m.motion is None for m in movers}
    good = n in (1, 2) and len(looks) == n and motions == {together is not None}
    good = good and (together is None or (together in TOGETHER and n == 2))
    good = good and (together not in TOGETHER[:2] or len({m.colour for m in movers}) == 2)
    if good:
        assert render(place([ClipPrompt(tuple(movers), together)], 0)).shape == (1, 3, 8, 16, 16)
    else:
        with pytest.raises(ValueError, match=r"(?s)^(movers|together|motion): got .*, expected "):
            ClipPrompt(tuple(movers), together)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(st.sampled_from((1, 8, 16)), anything),
    st.one_of(st.sampled_from(CELLS), anything, st.tuples(st.integers(0, 30), st.integers(0, 30))),
)
def test_place_refuses_other_sizes_by_name(frames, cells):
    if frames in (1, 8, 16) and cells in CELLS:
        assert place([alone("still")], 0, frames, cells).frames == frames
    else:
        with pytest.raises(ValueError, match=r"(?s)^(frames|cells): got .*, expected "):
            place([alone("still")], 0, frames, cells)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="movers: got two of one look"):
        ClipPrompt((RED, RED))
    with pytest.raises(ValueError, match="movers: got of one colour, one behind the other"):
        both("passing behind", ("circle", "red"), ("star", "red"))
    with pytest.raises(ValueError, match="split: got 'validation'"):
        ClipWorld().prompts(1, 0, "validation")
    with pytest.raises(ValueError, match="holds nothing"):
        ClipWorld(("circle",), ("red",), ("still",), ("one",)).prompts(1, 0, "content")
    with pytest.raises(ValueError, match="motions: got"):
        ClipWorld(motions=("flying",))
    with pytest.raises(ValueError, match="prompts: got bouncing up and down and circling clockwise"):
        place([ClipPrompt((Mover("circle", "red", BOUNCING[1]), Mover("star", "blue", CIRCLING[0])))], 0)
    with pytest.raises(ValueError, match="scenes: got a cat, expected shapes only at 16 px"):
        render(place([alone("still", ("cat", None))], 0))
    with pytest.raises(ValueError, match="clips: got list, expected a Clips"):
        render([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contrast: got 'colour'"):
        minimal_pairs("colour", 1, 0)
    with pytest.raises(ValueError, match=r"motions: got .*, expected two that go together"):
        minimal_pairs("who", 1, 0, ClipWorld(motions=("still",)))
    with pytest.raises(ValueError, match="style: got 'german'"):
        caption(alone("still"), "german")
    assert render(place([], 0)).shape == (0, 3, 8, 16, 16)
