"""Can the world of scenes be learned in minutes? A text-conditioned transformer on 16-px scenes of two objects.

    python benchmarks/learnable_scenes.py                # about 12 minutes on one core

text       the shipped weights of `minidiff train scenes-text`: one or two of three shapes in four colours, four
           relations, 8,400 steps at batch 16; 500 held-out captions of two objects: share of pictures with both objects
           right (kind and colour), and with everything right (the relation, too); "another caption" is asked of each
           picture as well. 50 ancestral steps at w = 0, 1, 3, and 25 steps of DPM-Solver++ (2M)
shuffled   the same training with every caption given to another picture: chance, as nothing can be learned from it

Everything is read by `judges.scenes.parse`. Results: results/learnable_scenes.json.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from minidiff.systems.recipes import RECIPES, scene_samples
from torch import Generator

from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt
from minidiff.denoiser import Denoiser
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.randomness import initialised, loaded
from minidiff.systems import scenes_captioner
from minidiff.training import Batch, Draw, fit
from minidiff.weights import record

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


def trained_on_shuffled() -> Denoiser:
    model = initialised(RECIPE.build, RECIPE.seed)
    *_, last = deque(fit(model, shuffled(RECIPE.draw()), RECIPE.steps, seed=RECIPE.seed, **RECIPE.fit), maxlen=1)
    average = last.ema.eval()
    assert isinstance(average, Denoiser)
    return average


@torch.no_grad()
def shares(model: Denoiser, settings: Sequence[tuple[str, float, bool]]) -> dict[str, dict[str, float]]:
    """{"ancestral, w=…": {"objects", "all", "another caption"}} on held-out captions."""
    prompts = TWO.prompts(TEST, 0, "test")
    asked = {"objects": [Prompt(prompt.groups) for prompt in prompts], "all": prompts}
    asked["another caption"] = prompts[1:] + prompts[:1]
    cond, rows = {"tokens": scenes_captioner.tokens(captions(prompts))}, {}
    for name, w, ancestral in settings:
        read = parse(scene_samples(model, TEST, cond, w, ancestral))
        shown = {question: matches(wanted, read) for question, wanted in asked.items()}
        rows[name] = {question: round(float(each.float().mean()), 4) for question, each in shown.items()}
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    entry = record("scenes-text")
    facts = {"command": "python benchmarks/learnable_scenes.py", "captions": TEST, "weights": entry["sha256"]}
    facts |= {name: entry[name] for name in ("steps", "seconds", "hardware")}
    plain = ("ancestral, w=0", 0.0, True)
    settings = (plain, ("ancestral, w=1", 1.0, True), ("ancestral, w=3", 3.0, True), ("2M, w=1", 1.0, False))
    facts["text"] = shares(loaded(scenes.build_text(), "scenes-text"), settings)
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    facts["shuffled"] = shares(trained_on_shuffled(), (plain,))
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
