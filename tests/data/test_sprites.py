"""The sprite world: every family can be placed and read back, and what is held out never appears in training."""

from dataclasses import replace

import pytest

from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, World, place
from minidiff.data.scenes import GROUNDS, SPRITES, render
from minidiff.data.sprites import FAMILIES, TOGETHER, SpriteWorld
from minidiff.judges.scorecard import matches, shows

WORLD = SpriteWorld()


def told(prompt):
    """What the splits go by."""
    alone = len(prompt.groups) == 1 and prompt.groups[0].count == 1
    return (prompt.content, prompt.ground, prompt.groups[0].size) if alone else prompt.content


@pytest.mark.parametrize("family", FAMILIES)
def test_a_placed_prompt_shows_what_it_says_and_can_be_read_back(family):
    prompts = replace(WORLD, families=(family,)).prompts(60, 0)
    scenes = place(prompts, 1)
    assert all(shows(p, scenes.objects(i), GROUNDS[scenes.ground[i]]) for i, p in enumerate(prompts))
    pictures = render(scenes, 64)
    assert matches(prompts, pictures).float().mean() >= 0.98
    # Control: the captions of others.
    assert matches(prompts[1:] + prompts[:1], pictures).float().mean() < 0.35


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_held_out_contents_that_training_never_shows(family):
    world = replace(WORLD, families=(family,))
    train, test = (world.prompts(400, 0, split) for split in ("train", "test"))
    assert not {told(p) for p in train} & {told(p) for p in test}
    assert len({told(p) for p in test}) >= 2
    # Control: without the split, the same draws mix.
    assert {told(p) for p in world.prompts(400, 0)} & {told(p) for p in test}


def test_the_lectures_prompts_are_tests():
    assert {frozenset({"astronaut", "horse"}), frozenset({"lightbulb", "plant"})} == TOGETHER
    assert {WORLD.split_of(prompt) for prompt in LECTURE.values()} == {"test"}
    for prompt in WORLD.prompts(3000, 0, "train"):
        kinds = {group.kind for group in prompt.groups}
        assert not any(pair <= kinds for pair in TOGETHER)
        assert (kinds, prompt.ground) != ({"cat"}, "snow")
    # But each of them is seen with others, and in the snow.
    snowy = {kind for p in WORLD.prompts(3000, 0, "train") if p.ground == "snow" for kind in (g.kind for g in p.groups)}
    assert snowy == set(SPRITES)


def test_riding_and_snow_are_drawn_only_where_they_are_asked_for():
    assert not any(p.relation == "riding" or p.ground == "snow" for p in World(SPRITES).prompts(500, 0))
    riding = World(families=("riding",)).prompts(50, 0)
    assert {p.relation for p in riding} == {"riding"}
    snow = World(families=("snow",)).prompts(200, 0)
    assert {p.ground for p in snow} == {"snow"}
    assert 60 <= sum(len(p.groups) == 1 for p in snow) <= 140
    assert captions([p for p in snow if len(p.groups) == 1])[0].endswith(" in the snow")
    with pytest.raises(ValueError, match="families"):
        World(families=("rain",))


def test_a_family_named_twice_is_drawn_twice_as_often():
    prompts = World(families=("one", "riding", "riding")).prompts(1500, 0)
    assert sum(p.relation == "riding" for p in prompts) / 1500 == pytest.approx(2 / 3, abs=0.05)
