"""What CLIP cannot tell apart: the two arms had the same data; what fails, and what does not."""

import json
from pathlib import Path

import pytest
import torch

from minidiff.systems import clip_failures, clip_scenes, clip_sprites
from minidiff.systems.clip_failures import ARMS, BESIDES, PANELS, SCENES, SHOWN, SPRITES
from minidiff.training import step_generator

MEASURED = json.loads(Path("benchmarks/results/text_encoders.json").read_text(encoding="utf-8"))["failures"]


@pytest.fixture(scope="module")
def models():
    return {name: shipped.load() for name, (shipped, _) in (ARMS | BESIDES).items()}


def test_both_arms_learn_from_the_same_rows_in_other_company():
    """Over a chunk: the same pictures with the same captions, as often; in one batch a swap is there or is not."""

    def chunk(apart):
        draw = clip_sprites.draw_pairs(16, apart)
        return [draw(step_generator(0, step)) for step in range(16)]

    beside, apart = chunk(False), chunk(True)
    key = lambda batch: {tuple(row) for row in batch["tokens"].tolist()}
    told = lambda batches: sorted(tuple(row) for batch in batches for row in batch["tokens"].tolist())
    assert told(beside) == told(apart)
    sums = lambda batches: torch.cat([batch["x0"] for batch in batches]).flatten(1).sum(1).sort().values
    assert torch.equal(sums(beside), sums(apart))

    def swaps(batches):
        """Captions of a batch that hold the same words as another of it, in another order."""
        return sum(
            len(rows) - len({tuple(sorted(row)) for row in rows}) for rows in map(key, batches)
        )  # fmt: skip

    assert swaps(beside) > 20
    assert swaps(apart) == 0
    assert (clip_sprites.PLAIN.steps, clip_sprites.PLAIN.seed, clip_sprites.PLAIN.options) == (
        clip_sprites.MODEL.steps, clip_sprites.MODEL.seed, clip_sprites.MODEL.options,
    )  # fmt: skip


def test_recall_is_high_in_both_arms_and_the_swap_is_chance_in_one():
    plain, hard = (ARMS[name][0].record()["scores"] for name in ("plain", "hard negatives"))
    for scores in (plain, hard):
        assert min(scores["R@1 of 50, caption for a picture"], scores["R@1 of 50, picture for a caption"]) > 0.9
        assert scores["R@1 of 50, pairs shuffled (chance 0.02)"] < 0.05
    assert abs(plain["relation or its swap (chance 0.5)"] - 0.5) < 0.06
    assert hard["relation or its swap (chance 0.5)"] > 0.93


@pytest.mark.parametrize("panel", PANELS)
def test_pairs_are_held_out_and_differ(panel):
    for on in (SPRITES, SCENES):
        if panel not in SHOWN[on.side]:
            continue
        pairs = clip_failures.pairs(panel, 20, on)
        assert len(pairs) == 20
        assert all(a != b and "test" in {on.world.split_of(a), on.world.split_of(b)} for a, b in pairs)


def test_a_relation_is_lost_without_swaps_in_the_batch(models):
    plain, hard = (clip_failures.told_apart(models[name], "relation", SPRITES, 100) for name in ARMS)
    assert abs(plain["choice"] - 0.5) < 0.1
    assert plain["group"] < 1 / 6
    assert hard["choice"] > 0.88
    assert hard["group"] > 0.6


def test_no_is_told_apart_only_where_it_was_read(models):
    never = [clip_failures.told_apart(models[name], "negation", SPRITES, 100)["choice"] for name in ARMS]
    read = clip_failures.told_apart(models["scenes"], "negation", SCENES, 100)["choice"]
    assert max(never) < 0.7
    assert read > 0.97


def test_what_comes_after_the_limit_is_lost_to_the_bit(models):
    tower = models["scenes"].text
    assert clip_failures.cut_equal(tower, 20) == 1.0
    pairs = clip_failures.pairs("length", 20, SCENES)
    short = [tower(clip_scenes.tokens([clip_failures.caption(p[i]) for p in pairs])) for i in (0, 1)]
    assert not bool((short[0] == short[1]).all(1).any())  # the control: the same pairs in short


def test_training_without_swaps_throws_the_order_away(models):
    """An untrained tower hands the relation on and keeps who is on the left; the plain one keeps neither."""
    found = {name: clip_failures.probed(models[name].text, SPRITES, 1500, 500) for name in ARMS}
    start = clip_failures.probed(ARMS["plain"][0].untrained().eval().text, SPRITES, 1500, 500)
    at, who = clip_failures.RELATION, clip_failures.WHO
    assert start[at] > 0.97 < found["hard negatives"][at] + 0.02
    assert found["plain"][at] < 0.78
    assert start[f"{at}, bag of words"] > 0.99  # one word says it
    bag = start[f"{who}, bag of words"]  # two kinds to choose from
    assert abs(bag - 0.5) < 0.1
    assert start[who] > bag + 0.15
    assert found["plain"][who] < bag + 0.08 < found["hard negatives"][who] + 0.02


def test_the_record_is_what_is_measured_again(models):
    again = clip_failures.told_apart(models["plain"], "count", SPRITES, 400)
    assert again["choice"] == pytest.approx(MEASURED["panels"]["plain, count, choice"], abs=0.01)
    assert clip_failures.lecture_pair(models["plain"], 30)["group"] == pytest.approx(
        MEASURED["lecture pair"]["plain"]["group"], abs=0.1
    )
