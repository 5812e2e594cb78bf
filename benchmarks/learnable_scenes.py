"""Can the world of scenes be learned in minutes? A text-conditioned transformer on 16-px scenes of two objects.

    python benchmarks/learnable_scenes.py                # about 20 minutes on one core

text       `minidiff train scenes-text`: one or two of three shapes in four colours, four relations, 8,400 steps at
           batch 16; then 500 held-out captions of two objects at w = 0, 1, 3: share of pictures with both objects right
           (kind and colour), and with everything right (the relation, too); "another caption" is asked of each picture
shuffled   the same training with every caption given to another picture: chance, as nothing can be learned from it

Everything is read by `judges.scenes.parse`. Results: results/learnable_scenes.json, with the CPU seconds used.
"""

import json
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator

from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt
from minidiff.denoiser import Denoiser
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.systems import scenes
from minidiff.systems.recipes import RECIPES, scene_samples
from minidiff.systems.train import initialised
from minidiff.training import Batch, Draw, fit

RESULTS = Path(__file__).parent / "results" / "learnable_scenes.json"
TEST = 500
TWO = replace(scenes.SMALL, families=("relation",))
(RECIPE,) = (recipe for recipe in RECIPES if recipe.name == "scenes-text")


def shuffled(draw: Draw) -> Draw:
    """Every caption moves on to the next picture."""

    def other(generator: Generator) -> Batch:
        batch = draw(generator)
        return {**batch, "tokens": batch["tokens"].roll(1, 0)}

    return other


def trained(draw: Draw) -> tuple[Denoiser, float]:
    model, began = initialised(RECIPE.build, RECIPE.seed), time.process_time()
    *_, last = deque(fit(model, draw, RECIPE.steps, seed=RECIPE.seed, **RECIPE.fit), maxlen=1)
    average = last.ema.eval()
    assert isinstance(average, Denoiser)
    return average, time.process_time() - began


@torch.no_grad()
def shares(model: Denoiser, seed: int = 0) -> dict[str, dict[str, float]]:
    """{"w=…": {"objects", "all", "another caption"}} on held-out captions."""
    prompts = TWO.prompts(TEST, seed, "test")
    objects = [Prompt(prompt.groups) for prompt in prompts]
    cond, rows = {"tokens": scenes.tokens(captions(prompts))}, {}
    for w in (0.0, 1.0, 3.0):
        read = parse(scene_samples(model, TEST, cond, w))
        share = lambda asked: round(float(matches(asked, read).float().mean()), 4)  # noqa: B023
        rows[f"w={w:g}"] = {
            "objects": share(objects), "all": share(prompts), "another caption": share(prompts[1:] + prompts[:1]),
        }  # fmt: skip
    return rows


def main() -> None:
    torch.set_num_threads(1)
    facts = {"command": "python benchmarks/learnable_scenes.py", "steps": RECIPE.steps, "captions": TEST}
    for name, change in (("text", lambda draw: draw), ("shuffled", shuffled)):
        model, seconds = trained(change(RECIPE.draw()))
        facts[name] = {"cpu_seconds": round(seconds), **shares(model)}
        print(name, json.dumps(facts[name], indent=1), flush=True)
        RESULTS.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
