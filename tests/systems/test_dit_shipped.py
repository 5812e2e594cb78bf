"""The shipped DiTs: larger and finer ones err less, and their records say what they do."""

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
import torch
from scipy.stats import spearmanr

from minidiff.data.captions import captions
from minidiff.guidance import bind
from minidiff.systems import dit, scenes_text

FEW = 48
RESULTS = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "dit.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def records():
    return {name: model.record()["scores"] for name, model in dit.FAMILY.items()}


def excess(found: dict) -> float:
    return mean(found[f"excess, t={t:g}"] for t in dit.TIMES)


def test_loss_falls_with_work(records):
    """The bar is a rank correlation of −.9; parameters alone, which patches hardly change, say less."""
    work = [found["forward Gflops"] for found in records.values()]
    for kind in ("loss", "excess"):
        errors = [mean(found[f"{kind}, t={t:g}"] for t in dit.TIMES) for found in records.values()]
        assert spearmanr(work, errors).statistic <= -0.9
        assert spearmanr(work, errors[::-1]).statistic > -0.9  # the control
    assert len({round(found["floor, t=0.8"], 6) for found in records.values()}) == 1  # one exam for all


def test_width_and_patch_each_help(records):
    for patch in dit.PATCHES:
        by_size = [excess(records[f"dit-{size}-{patch}"]) for size in dit.SIZES]
        assert all(larger < smaller for smaller, larger in pairwise(by_size))
    for size in dit.SIZES:
        by_patch = [excess(records[f"dit-{size}-{patch}"]) for patch in dit.PATCHES]
        assert all(finer < coarser for coarser, finer in pairwise(by_patch))


@torch.no_grad()
def test_a_record_is_what_its_weights_do(records):
    """On fewer scenes than the record's; another caption costs more than all that the network errs."""
    asked = dit.exam(FEW)
    tokens = scenes_text.tokenizer(dit.LENGTH).encode(captions(asked.prompts))
    for model in (dit.M4, dit.L4):
        own = dit.errors_of(bind(model.load(), tokens=tokens), asked)[3]
        other = dit.errors_of(bind(model.load(), tokens=tokens.roll(1, 0)), asked)[3]
        assert own["excess"] == pytest.approx(records[model.name][f"excess, t={own['t']:g}"], rel=0.25)
        assert other["excess"] > 2 * own["excess"]


def test_the_four_conditionings_at_equal_parameters():
    """Three seeds each. Two more tokens are worst; what the zeros add to adaLN is within the spread of the seeds."""
    table = RESULTS["conditionings"]["table"]
    counts = [row["parameters"] for row in table.values()]
    assert max(counts) < 1.01 * min(counts)
    assert {row["seeds"] for row in table.values()} == {3}
    worst = table["in-context"]["excess"]
    for how in ("cross-attention", "adaLN", "adaLN-Zero"):
        row = table[how]["excess"]
        assert row["mean"] + row["sd"] < worst["mean"] - worst["sd"]
        assert table[how]["right"]["mean"] > table["in-context"]["right"]["mean"]
        assert table[how]["right"]["mean"] > 20 * table[how]["another label"]["mean"]
    apart = abs(table["adaLN"]["excess"]["mean"] - table["adaLN-Zero"]["excess"]["mean"])
    assert apart < table["adaLN-Zero"]["excess"]["sd"]
