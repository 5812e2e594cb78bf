"""What speeds up training? Three recipes for captioned 16-px scenes at equal CPU seconds, against the exact floor.

    OMP_NUM_THREADS=1 python -m benchmarks.training_recipes [SECONDS [SEEDS]]         # 200 s, 3 seeds: 40 minutes

plain      AdamW, batches of 16, captions as more tokens of the sequence, each block modulated by itself, width 128 × 4
beside     the same optimizer; captions in a block beside the network, one modulation for all, 96 × 6, batches of 32
muon       `beside` with Muon on the blocks' matrices and times drawn evenly: the recipe of scenes-text

Each run gets as many steps as its own first ones say will fill the seconds; its learning rate falls to 0 at their end.
Then: the squared error of x̂0 at five times on held-out scenes, beside the least possible; and the share of 200 pictures
that show their caption, w = 0, 50 ancestral steps. Results: results/training_recipes.json.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.checkpoints import write_whole
from minidiff.conditioning import Conditioned, Words
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.exact_scenes import floor
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import shares
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised, randn_like
from minidiff.schedules import Linear
from minidiff.systems import scenes_text
from minidiff.training import Draw, diffuse, fit

RESULTS = Path(__file__).parent / "results" / "training_recipes.json"
WORLD, LENGTH = scenes_text.WORLD, 10
TIMES = (0.97, 0.9, 0.8, 0.65, 0.5)


def plain() -> Denoiser:
    words = Words(len(scenes_text.tokenizer(LENGTH)), LENGTH, 128, depth=0)
    return Denoiser(Conditioned(words, DiT(context_dim=128, reads="tokens")), Linear(), X0, velocity_weight)


def draw(batch: int) -> Draw:
    scenes = scenes_text.draw_scenes(batch, WORLD, LENGTH)
    return diffuse(scenes, times.logit_normal(0.3, 1.0), drop=0.1, null=scenes_text.null(LENGTH))


ADAMW = {"lr": 1.2e-3, "optimizer": partial(torch.optim.AdamW, betas=(0.9, 0.98)), "ema_decay": 0.999}


@dataclass(frozen=True)
class Recipe:
    build: Callable[[], Denoiser]
    draw: Callable[[], Draw]
    options: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "plain": Recipe(plain, partial(draw, 16), ADAMW),
    "beside": Recipe(partial(scenes_text.build, LENGTH), partial(draw, 32), ADAMW),
    "muon": Recipe(partial(scenes_text.build, LENGTH), scenes_text.TEXT.draw, dict(scenes_text.OPTIONS)),
}


def steps_in(recipe: Recipe, seconds: float, trial: int = 128) -> int:
    """How many steps fill `seconds` of CPU time, from 64 steps after the first 64."""
    model, marks = initialised(recipe.build, 0), []
    for progress in fit(model, recipe.draw(), trial, bar=False, **recipe.options):
        if progress.step in (trial // 2, trial):
            marks.append(time.process_time())
    return round(seconds / (marks[1] - marks[0]) * (trial - trial // 2))


@torch.no_grad()
def errors(model: Denoiser, n: int = 1024) -> list[float]:
    """Mean squared error of x̂0 on n held-out captioned scenes at each of TIMES."""
    g = Generator().manual_seed(0)
    prompts = WORLD.prompts(n, g, "test")
    x0, tokens = render(place(prompts, g)), scenes_text.tokenizer(LENGTH).encode(captions(prompts))
    found = []
    for t in torch.tensor(TIMES):
        x_t = model.schedule.add_noise(x0, randn_like(x0, g), t)
        found.append(float((model(x_t, t, tokens=tokens) - x0).square().mean()))
    return found


def run(name: str, seed: int, seconds: float) -> dict[str, Any]:
    recipe = RECIPES[name]
    steps, began = steps_in(recipe, seconds), time.process_time()
    *_, progress = fit(initialised(recipe.build, seed), recipe.draw(), steps, seed=seed, bar=False, **recipe.options)
    spent, average = time.process_time() - began, progress.ema.eval()
    row = {"recipe": name, "seed": seed, "steps": steps, "cpu_seconds": round(spent, 1), "x0_mse": errors(average)}
    found = shares(scenes_text.pictures_of(average, LENGTH), WORLD, n=200)
    return row | {family: right.share for family, (right, _) in found.items()}


def rows(seconds: float, seeds: int) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        for name in RECIPES:
            row = run(name, seed, seconds)
            print(row, flush=True)
            yield row


def main() -> None:
    seconds, seeds = (float(sys.argv[1]) if sys.argv[1:] else 200.0), int(sys.argv[2]) if sys.argv[2:] else 3
    torch.set_num_threads(1)
    g = Generator().manual_seed(0)
    least, error = floor(WORLD.prompts(1024, g, "test"), Linear(), torch.tensor(TIMES), g)
    facts = {"command": f"python -m benchmarks.training_recipes {seconds:g} {seeds}", "times": TIMES}
    facts |= {"floor": least.tolist(), "standard_error_of_floor": error.tolist(), "rows": []}
    for row in rows(seconds, seeds):
        facts["rows"].append(row)
        text = json.dumps(facts, indent=1) + "\n"
        write_whole(RESULTS, lambda path, text=text: (path.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    any_sign()
    main()
